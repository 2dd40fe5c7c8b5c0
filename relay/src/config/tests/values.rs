//! What a good file turns into, and what is said about an odd one.

use std::fs;
use std::time::Duration;

use postrider_common::limits::EnvelopeLimits;

use super::files::Files;
use super::{DOMAIN, warnings, with};
use crate::config::*;
use crate::listener::Audience;
use crate::store::{StoreLimits, Window};

#[test]
fn a_domain_is_enough_and_defaults_are_those_of_the_other_crates() {
    let files = Files::new();
    let config = files.load(DOMAIN);
    assert_eq!(config.warnings, []);
    assert_eq!(config.domain.as_str(), "alpha.example");
    assert_eq!(config.data_dir, files.path("data"));
    let everybody =
        |address: &str| ListenAddress { address: address.parse().unwrap(), audience: Audience::Everybody };
    assert_eq!(
        config.listen,
        ListenConfig { addresses: vec![everybody("[::]:443")], proxies: vec![], metrics: None }
    );
    assert!(config.tls.is_none());
    assert_eq!(config.federation.policy, FederationPolicy::Closed);
    assert_eq!(config.federation.identity.key_file, files.path("data/identity/key.pem"));
    assert_eq!(config.federation.batches_in_flight, 8);
    assert_eq!(config.limits.envelopes, EnvelopeLimits::default());
    assert_eq!(config.limits.store, StoreLimits::default());
    assert_eq!(config.limits.stream_window, Window { count: 256, bytes: 4 << 20 });
    assert_eq!(config.limits.session_lifetime, Duration::from_secs(24 * 3600));
    assert_eq!(config.submission.burst.get(), 1000);
    assert_eq!(config.submission.policy, SubmissionPolicy::Members);
    assert_eq!(
        (config.submission.member_rate_per_second.get(), config.submission.member_burst.get()),
        (20, 1000)
    );
    assert_eq!(config.registration, RegistrationPolicy::Invite);
    assert_eq!(config.store, StoreConfig { cache: 32 << 20, reserve: 256 << 20 });
    assert_eq!(config.log, LogConfig { format: LogFormat::Text, filter: "info".to_owned() });
}

#[test]
fn values_arrive_where_they_belong() {
    let files = Files::new();
    let config = files.load(&with(
        r#"
data_dir = "state"
[listen]
addresses = ["192.0.2.1:8443", "[2001:db8::1]:8443"]
clients = ["192.0.2.2:443"]
federation = ["192.0.2.2:8443"]
proxies = ["10.0.0.0/28", "2001:db8::5"]
[tls]
certificate = "data/identity/certificate.pem"
key = "data/identity/key.pem"
[federation]
policy = "allow-list"
certificate = "data/identity/certificate.pem"
key = "data/identity/key.pem"
connect_timeout = "2 s"
request_timeout = "1 min"
batches_in_flight = 3
[[federation.peers]]
domain = "beta.example"
direction = "out"
pins = ["00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff"]
addresses = ["192.0.2.7:443"]
[[federation.peers]]
domain = "gamma.example"
trust = "private-ca"
ca = "ca.pem"
[dns]
servers = ["192.0.2.53", "[::1]:5353"]
allow_networks = ["10.0.0.0/8", "fd00::/8"]
[submission]
rate_per_second = 7
burst = 300
[web]
allowed_origins = ["https://chat.example", "http://127.0.0.1:8000"]
[limits]
body = 65536
header = "2 KiB"
lifetime = "3 days"
queue_envelopes = 1_000
mailbox_bytes = "1 MiB"
request_header_bytes = "16 KiB"
connections = 0x100
long_poll_wait = "20 s"
stream_window_bytes = "1 MiB"
[store]
cache = "1 GiB"
[log]
format = "json"
level = "warn,postrider::store=info"
"#,
    ));
    assert_eq!(config.data_dir, files.path("state"));
    use Audience::{Clients, Everybody, Relays};
    let audiences: Vec<_> = config.listen.addresses.iter().map(|listen| listen.audience).collect();
    assert_eq!(audiences, [Everybody, Everybody, Clients, Relays]);
    let of_relays: Vec<_> = config.listen.of_relays().map(|address| address.to_string()).collect();
    assert_eq!(of_relays, ["192.0.2.1:8443", "[2001:db8::1]:8443", "192.0.2.2:8443"]);
    let proxies: Vec<_> = config.listen.proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/28", "2001:db8::5/128"]);
    assert_eq!(config.tls.unwrap().certificate_file, files.path("data/identity/certificate.pem"));
    let federation = config.federation;
    assert_eq!(federation.policy, FederationPolicy::AllowList);
    assert_eq!(federation.connect_timeout, Duration::from_secs(2));
    assert_eq!(federation.request_timeout, Duration::from_secs(60));
    assert_eq!(federation.batches_in_flight, 3);
    let [beta, gamma] = &federation.peers[..] else { panic!("two peers") };
    assert_eq!((beta.domain.as_str(), beta.direction), ("beta.example", PeerDirection::Out));
    assert_eq!(beta.addresses, ["192.0.2.7:443".parse().unwrap()]);
    let TrustConfig::Pinned { pins } = &beta.trust else { panic!("pinned") };
    assert_eq!((pins[0][1], pins[0][31]), (0x11, 0xff));
    assert_eq!(gamma.direction, PeerDirection::Both);
    let TrustConfig::PrivateCa { ca, pem } = &gamma.trust else { panic!("private-ca") };
    assert_eq!((ca, pem), (&files.path("ca.pem"), &fs::read(files.path("ca.pem")).unwrap()));
    assert_eq!(config.dns.servers, ["192.0.2.53:53".parse().unwrap(), "[::1]:5353".parse().unwrap()]);
    assert_eq!(config.dns.allow_networks[1].to_string(), "fd00::/8");
    assert_eq!((config.submission.rate_per_second.get(), config.submission.burst.get()), (7, 300));
    assert_eq!(config.allowed_origins, ["https://chat.example", "http://127.0.0.1:8000"]);
    let limits = config.limits;
    assert_eq!((limits.envelopes.body, limits.envelopes.header), (65_536, 2048));
    assert_eq!(limits.envelopes.lifetime, Duration::from_secs(3 * 86_400));
    assert_eq!((limits.store.queue_items, limits.store.mailbox_bytes), (1000, 1 << 20));
    assert_eq!((limits.request_header_bytes, limits.connections), (16 << 10, 256));
    assert_eq!(limits.long_poll_wait, Duration::from_secs(20));
    assert_eq!(limits.stream_window.bytes, 1 << 20);
    assert_eq!(config.store.cache, 1 << 30);
    assert_eq!(
        config.log,
        LogConfig { format: LogFormat::Json, filter: "warn,postrider::store=info".to_owned() }
    );
}

#[test]
fn what_is_odd_is_a_warning() {
    let files = Files::new();
    let peer = "[[federation.peers]]\ndomain = \"b.example\"\ntrust = \"private-ca\"\nca = \"ca.pem\"\n";
    let open = "[federation]\npolicy = \"allow-list\"\n";
    for (text, expected) in [
        (peer.to_owned(), "federation.policy: is \"closed\""),
        (open.to_owned(), "federation.policy: is \"allow-list\", and no peer"),
        (
            format!("{open}{peer}direction = \"in\"\naddresses = [\"192.0.2.1:443\"]"),
            "federation.peers[1].addresses: is never used",
        ),
        ("[log]\nlevel = \"info,postrider=debug\"".to_owned(), "log.level: lets mailbox ids"),
        (
            "[limits]\nmark_retention = \"31 days\"".to_owned(),
            "limits.mark_retention: is 31 days, longer than limits.lifetime (30 days)",
        ),
        (
            "[limits]\nconnections = 100\nconnections_per_ip = 101".to_owned(),
            "limits.connections_per_ip: is over limits.connections (100)",
        ),
        (
            "[listen]\nmetrics = \"0.0.0.0:9464\"".to_owned(),
            "listen.metrics: is not an address of the machine itself",
        ),
        (
            "[listen]\naddresses = [\"[::]:443\", \"0.0.0.0:443\"]".to_owned(),
            "listen.addresses: has 0.0.0.0:443 and [::]:443",
        ),
    ] {
        let found = warnings(&files, &with(&text));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{text}\n{found:#?}");
    }
    files.open_to_everybody("data/identity/key.pem");
    let found = warnings(&files, DOMAIN);
    assert!(found[0].starts_with("federation.key: names a file that every user"), "{found:?}");
    // A lower limit elsewhere is no reason to complain about a default.
    files.restrict("data/identity/key.pem");
    assert_eq!(warnings(&files, &with("[limits]\nlifetime = \"1 h\"\nconnections = 100")), [""; 0]);
}

#[test]
fn a_key_is_not_shown() {
    let files = Files::new();
    let shown = format!("{:?}", files.load(DOMAIN));
    assert!(!shown.contains("PRIVATE") && shown.contains("key.pem"), "{shown}");
}
