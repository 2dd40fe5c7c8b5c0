//! What is said about files that are wrong.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

use super::files::Files;
use super::{DOMAIN, problems, with};
use crate::config::Config;

#[test]
fn everything_wrong_is_said_at_once_with_its_line() {
    let files = Files::new();
    let text = r#"
domian = "alpha.example"
data_dir = 7
[listen]
adresses = ["[::]:443"]
[limits]
body = "1 MB"
devices = "16"
header_timeout = 10
batch_envelopes = 0
colour = "red"
[federation]
policy = "alow-list"
[[federation.peers]]
domain = "Beta.example"
trust = "pinned"
[[federation.peers]]
domain = "gamma.example"
pins = ["abc", true]
pin = []
"#;
    // `data` is not where data_dir's wrong value could lead, so the identity is looked for by its own key.
    let found = problems(&files, text);
    let expected = [
        " domain is missing; write, for instance, domain = \"example.org\"",
        "2: domian is unknown; did you mean domain?",
        "3: data_dir is a number, but must be a string in quotation marks",
        "5: listen.adresses is unknown; did you mean listen.addresses?",
        "7: limits.body is \"1 MB\", but must be a whole number with one of the units B, KiB, MiB, GiB, TiB, such as \"128 KiB\"",
        "8: limits.devices is a string, but must be a whole number, without quotation marks",
        "9: limits.header_timeout is a number, but must be a string with a unit, such as \"30 s\"",
        "10: limits.batch_envelopes is 0, but must be from 1 to 1024",
        "11: limits.colour is unknown",
        "13: federation.policy is \"alow-list\", but must be \"closed\" or \"allow-list\" or \"open\"; did you mean \"allow-list\"?",
        "14: federation.peers[1].pins is missing; trust = \"pinned\" needs the fingerprint of the peer's key",
        "15: federation.peers[1].domain is \"Beta.example\", but a domain is written in lower case",
        "19: federation.peers[2].pins is a list whose entry 1 is \"abc\", but must be a SHA-256 fingerprint: 64 hexadecimal digits, nothing between them",
        "19: federation.peers[2].pins is a list whose entry 2 is true or false, but must be a string in quotation marks",
        "19: federation.peers[2].pins has no usable entry; trust = \"pinned\" needs one",
        "20: federation.peers[2].pin is unknown; did you mean federation.peers.pins?",
    ];
    assert_eq!(found, expected);
}

#[test]
fn contradictions_are_found() {
    let files = Files::new();
    files.make_certificate("other", "alpha.example");
    for (text, expected) in [
        (
            "[limits]\nbatch_bytes = \"64 KiB\"",
            "3: limits.batch_bytes is 64 KiB, which does not hold one envelope",
        ),
        ("[limits]\nmailbox_bytes = \"128 KiB\"", "3: limits.mailbox_bytes is 128 KiB, which does not hold"),
        ("[limits]\nqueue_bytes = \"4 KiB\"", "3: limits.queue_bytes is 4 KiB, which does not hold"),
        ("[submission]\nmember_burst = 255", "3: submission.member_burst is 255, so that a batch of"),
        ("[submission]\nburst = 100", "3: submission.burst is 100, so that a batch of"),
        ("[listen]\naddresses = []", "3: listen.addresses has no usable entry"),
        ("[listen]\naddresses = [\"[::]:443\", \"[::]:443\"]", "3: listen.addresses has \"[::]:443\" twice"),
        (
            "[listen]\naddresses = [\"0.0.0.0:443\", \"192.0.2.1:443\"]",
            "has 192.0.2.1:443, which is part of 0.0.0.0:443",
        ),
        ("[listen]\nclients = [\"[::]:443\"]", "3: listen.clients has [::]:443, and so has listen.addresses"),
        (
            "[listen]\naddresses = []\nclients = [\"0.0.0.0:443\"]\nfederation = [\"192.0.2.1:443\"]",
            "5: listen.federation has 192.0.2.1:443, which is part of 0.0.0.0:443",
        ),
        (
            "[listen]\naddresses = [\"127.0.0.1:443\"]\nmetrics = \"127.0.0.1:443\"",
            "4: listen.metrics is 127.0.0.1:443, and so has listen.addresses",
        ),
        (
            "[listen]\nproxies = [\"lb.example\"]",
            "3: listen.proxies is a list whose entry 1 is \"lb.example\", but must",
        ),
        (
            "[listen]\nproxies = [\"10.0.0.1\", \"::/0\"]",
            "3: listen.proxies is a list whose entry 2 is \"::/0\", so that everybody could say to be anybody",
        ),
        (
            "[listen]\naddresses = [\"localhost:443\"]",
            "3: listen.addresses is a list whose entry 1 is \"localhost:443\"",
        ),
        ("[tls]\ncertificate = \"ca.pem\"", " tls.key is missing, while tls.certificate is there"),
        ("[tls]\nkey = \"data/identity/key.pem\"", " tls.certificate is missing, while tls.key is there"),
        (
            "[tls]\ncertificate = \"nowhere.pem\"\nkey = \"data/identity/key.pem\"",
            "3: tls.certificate names a file that cannot be read: ",
        ),
        (
            "[tls]\ncertificate = \"data/identity/key.pem\"\nkey = \"data/identity/key.pem\"",
            "3: tls.certificate names a file that is no certificate",
        ),
        (
            "[tls]\ncertificate = \"ca.pem\"\nkey = \"ca.pem\"",
            "4: tls.key names a file that is no private key",
        ),
        ("[tls]\ncertificate = \"data/identity/certificate.pem\"\nkey = \"other.key.pem\"", "4: tls.key ("),
        (
            "[federation]\nkey = \"data/identity/key.pem\"",
            " federation.certificate is missing, while federation.key is",
        ),
        (
            "[[federation.peers]]\ndomain = \"alpha.example\"\ntrust = \"private-ca\"\nca = \"ca.pem\"",
            "peers[1].domain is alpha.example, which is this relay itself",
        ),
        (
            "[[federation.peers]]\ndomain = \"b.example\"\nca = \"ca.pem\"",
            "peers[1].ca does not go with trust = \"pinned\"",
        ),
        (
            "[[federation.peers]]\ndomain = \"b.example\"\ntrust = \"private-ca\"",
            "2: federation.peers[1].ca is missing",
        ),
        (
            "[[federation.peers]]\ndomain = \"b.example\"\ntrust = \"private-ca\"\npins = []\nca = \"ca.pem\"",
            "peers[1].pins does not go with",
        ),
        (
            "[[federation.peers]]\ndomain = \"b.example\"\ntrust = \"private-ca\"\nca = \"no.pem\"",
            "peers[1].ca names a file that cannot be read",
        ),
        (
            "[[federation.peers]]\ntrust = \"private-ca\"\nca = \"ca.pem\"",
            "2: federation.peers[1].domain is missing",
        ),
        (
            "[federation.peers]\ndomain = \"b.example\"",
            " federation.peers is a list: write [[federation.peers]] before",
        ),
        ("federation = \"closed\"", "2: federation is a section: write [federation]"),
        (
            "[dns]\nallow_networks = [\"10.0.0.1/8\"]",
            "entry 1 is \"10.0.0.1/8\", which has bits set that its length leaves out; the network is written 10.0.0.0/8",
        ),
        ("[log]\nlevel = \"inof\"", "3: log.level is \"inof\", in which \"inof\" is no level"),
        ("data_dir = \"ca.pem\"", "data_dir is "),
    ] {
        let found = problems(&files, &with(text));
        assert!(found.iter().any(|line| line.contains(expected)), "{text}\n{found:#?}");
    }
    let twice =
        "[[federation.peers]]\ndomain = \"b.example\"\ntrust = \"private-ca\"\nca = \"ca.pem\"\n".repeat(2);
    let found = problems(&files, &with(&twice));
    assert_eq!(
        found,
        ["7: federation.peers[2].domain is b.example, and so is that of entry 1; keep one of them"]
    );
}

#[test]
fn automatic_certificates_are_wished_for_as_a_whole() {
    let files = Files::new();
    files.make_certificate("other", "alpha.example");
    let acme = |more: &str| {
        with(&format!("[acme]\nnames = [\"relay.alpha.example\"]\nterms_of_service = \"agreed\"\n{more}\n"))
    };
    let own = "certificate = \"other.certificate.pem\"\nkey = \"other.key.pem\"";
    for (text, expected) in [
        (with("[acme]\nnames = [\"a.example\"]"), " acme.terms_of_service is missing: read the terms"),
        (
            with("[acme]\nnames = [\"a.example\"]\nterms_of_service = \"yes\""),
            "4: acme.terms_of_service is \"yes\", but must be \"agreed\" or absent",
        ),
        (with("[acme]\nnames = [\"192.0.2.1\"]"), "3: acme.names is a list whose entry 1 is \"192.0.2.1\""),
        (
            acme("directory = \"http://ca.example/\""),
            "5: acme.directory is \"http://ca.example/\", but must be an https",
        ),
        (acme("directory = \"https://me@ca.example/\""), "5: acme.directory is "),
        (acme("directory = \"ca.example\""), "5: acme.directory is "),
        (
            acme("contact = \"mailto:a@b.example\""),
            "5: acme.contact is \"mailto:a@b.example\", but must be one",
        ),
        (acme("contact = \"a@b.example,c@b.example\""), "5: acme.contact is "),
        (acme("roots = \"nowhere.pem\""), "5: acme.roots names a file that cannot be read"),
        (
            acme("shown_to = \"everybody\""),
            "3: acme.names does not have alpha.example, by which other relays go",
        ),
        (
            acme(&format!("[tls]\n{own}")),
            "3: acme.names has a name, while tls.certificate is there; keep one of them",
        ),
        (
            acme(&format!("shown_to = \"everybody\"\n[federation]\n{own}")),
            "5: acme.shown_to is \"everybody\", while federation.certificate is there; keep one of them",
        ),
    ] {
        let found = problems(&files, &text);
        assert!(found.iter().any(|line| line.contains(expected)), "{text}\n{found:#?}");
    }
    let found = super::warnings(&files, &acme("[listen]\naddresses = [\"[::]:8443\"]"));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("listen.addresses: has no port 443, to which a public ACME server"),
        "{found:?}"
    );
    let config = files.load(&acme("")).acme.unwrap();
    assert_eq!(config.directory.host(), Some("acme-v02.api.letsencrypt.org"));
    assert_eq!((config.contact, config.roots, config.is_for_relays), (None, None, false));
}

#[test]
fn a_file_that_cannot_be_used_is_never_the_defaults() {
    let files = Files::new();
    let load = |path: &Path| Config::load(path).unwrap_err().to_string();
    let missing = files.path("nowhere.toml");
    assert_eq!(
        load(&missing),
        format!("{}: the file does not exist; `postrider init` makes one", missing.display())
    );
    assert!(load(&files.path("data")).ends_with(": the file is a directory; name the file in it"));
    fs::write(files.path("latin1.toml"), b"domain = \"b\xfccher\"").unwrap();
    assert!(load(&files.path("latin1.toml")).ends_with(": the file is not text in UTF-8"));
    let found = problems(&files, "domain = alpha.example\n[listen\n");
    assert!(found.len() == 1 && found[0].starts_with("1: this is not TOML"), "{found:?}");
    let found = problems(&files, &with("[listen]\naddresses = [\"127.0.0.1:1\"\n\n[store]\ncache = 1"));
    assert!(found.len() == 1 && found[0].ends_with("; is a `]` missing further up?"), "{found:?}");
    let found = problems(&files, &with(DOMAIN));
    assert!(found[0].starts_with("2: this is not TOML: duplicate key"), "{found:?}");
    let without = Files::empty();
    let found = problems(&without, DOMAIN);
    assert_eq!(found.len(), 2);
    assert!(
        found.iter().all(|line| line.contains("identity") && line.ends_with("`postrider init` makes it"))
    );
    fs::create_dir_all(without.path("data/store")).unwrap();
    let found = problems(&without, DOMAIN);
    assert!(
        found.iter().all(|line| line.ends_with("; put it back: other relays know this one by it")),
        "{found:?}"
    );
}

#[test]
fn an_identity_for_another_domain_is_none() {
    let expected = " federation.certificate names a certificate that is not for delta.example";
    let found = problems(&Files::new(), "domain = \"delta.example\"");
    assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
}

#[test]
fn our_own_key_is_no_peers() {
    let files = Files::new();
    let own = data_encoding::HEXLOWER.encode(&files.load(DOMAIN).federation.identity.pin);
    let peer = format!("[[federation.peers]]\ndomain = \"b.example\"\npins = [\"{own}\"]");
    let expected =
        "4: federation.peers[1].pins has the fingerprint of this relay's own key; the peer's is meant";
    assert_eq!(problems(&files, &with(&peer)), [expected]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is typed into a file, the answer is a configuration or at least one problem, never a panic.
    #[test]
    fn no_slip_of_the_keyboard_is_a_crash(at: Index, length in 0..40usize, typed in "[ -~\\n]{0,12}") {
        let full: Vec<_> = include_str!("../../../../deploy/full.toml").chars().collect();
        let from = at.index(full.len());
        let to = (from + length).min(full.len());
        let text = full[..from].iter().copied().chain(typed.chars()).chain(full[to..].iter().copied());
        let text: String = text.collect();
        let files = Files::empty();
        if let Err(errors) = Config::load(&files.write(&text)) {
            prop_assert!(!errors.problems().is_empty());
        }
    }
}

#[test]
fn trust_and_policy_go_together_or_it_is_said() {
    let files = Files::new();
    let peer = "[[federation.peers]]\ndomain = \"beta.example\"\n";
    for (text, expected) in [
        (
            format!("{peer}trust = \"dane\"\naddresses = [\"192.0.2.1:443\"]"),
            "5: federation.peers[1].addresses do not go with trust = \"dane\"",
        ),
        (
            format!("{peer}trust = \"webpki\"\npins = [\"{}\"]", "ab".repeat(32)),
            "federation.peers[1].pins does not go with trust = \"webpki\"; leave it out, or set trust = \"pinned\"",
        ),
        (
            format!("[dns]\ndnssec = \"off\"\n{peer}trust = \"dane\""),
            "3: dns.dnssec is \"off\", but the peer beta.example has trust = \"dane\"",
        ),
        (
            "[dns]\ndnssec = \"off\"\n[federation]\npolicy = \"open\"\nunlisted_trust = \"dane\"".to_owned(),
            "3: dns.dnssec is \"off\", but federation.unlisted_trust is \"dane\"",
        ),
        (
            "[dns]\ndnssec = \"off\"\n[federation]\npolicy = \"open\"".to_owned(),
            "3: dns.dnssec is \"off\", but federation.unlisted_trust is \"public\", which has to know whether there are \
             TLSA records; without DNSSEC there is \"webpki\"",
        ),
        (
            format!("[federation]\npolicy = \"open\"\ndeny = [\"beta.example\"]\n{peer}trust = \"dane\""),
            "4: federation.deny has beta.example, which is listed as a peer, here or in peers.d of the data directory; keep one of them",
        ),
        (
            "[federation]\npublic_roots = \"no.pem\"".to_owned(),
            "3: federation.public_roots names a file that cannot be read",
        ),
        (
            "[dns]\ntrust_anchor = \"postrider.toml\"".to_owned(),
            "3: dns.trust_anchor names a file that is no trust anchor",
        ),
        (
            "[dns]\nhosts = [\"relay.beta.example=localhost\"]".to_owned(),
            "3: dns.hosts is a list whose entry 1 is \"relay.beta.example=localhost\", but must be a name, an equals sign",
        ),
    ] {
        let found = problems(&files, &with(&text));
        assert!(found.iter().any(|line| line.contains(expected)), "{text}\n{expected}\n{found:?}");
    }
    for text in [
        "https://chat.example/",
        "https://chat.example/app",
        "https://Chat.example",
        "https://chat.example:443",
        "https://me@chat.example",
        "chat.example",
        "ftp://chat.example",
        "null",
        "",
    ] {
        let found = problems(&files, &with(&format!("[web]\nallowed_origins = [\"{text}\"]")));
        assert!(found.iter().any(|line| line.contains("as browsers write it")), "{text}\n{found:?}");
    }
    assert_eq!(
        super::warnings(&files, &with("[federation]\ndeny = [\"spam.example\"]")),
        ["federation.deny: is never used: it goes with policy = \"open\""]
    );
}
