//! The DNS server, asked by the resolver that relays use, with real packets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use postrider_common::Domain;
use postrider_tests::dns::{Dns, NotAName, RData, RecordType, Srv, Trouble, View, srv_name};
use tokio::net::{TcpListener, UdpSocket};

fn domain() -> Domain {
    "beta.example".parse().unwrap()
}

/// A resolver that asks this view and remembers nothing.
fn resolver(view: &View) -> TokioResolver {
    resolver_within(view, Duration::from_secs(10))
}

/// One that waits only so long.
fn resolver_within(view: &View, timeout: Duration) -> TokioResolver {
    let mut server = NameServerConfig::udp_and_tcp(view.address().ip());
    for connection in &mut server.connections {
        connection.port = view.address().port();
    }
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.cache_size = 0;
    options.attempts = 1;
    options.timeout = timeout;
    builder.build().unwrap()
}

async fn srv(resolver: &TokioResolver) -> Result<Vec<Srv>, NetError> {
    let answer = resolver.srv_lookup(srv_name(&domain())).await?;
    let mut found: Vec<_> = answer
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_string(),
            }),
            _ => None,
        })
        .collect();
    found.sort_unstable_by_key(|srv| srv.port);
    Ok(found)
}

async fn addresses(resolver: &TokioResolver, host: &str) -> Vec<IpAddr> {
    let mut found: Vec<_> = resolver.lookup_ip(host).await.unwrap().iter().collect();
    found.sort_unstable();
    found
}

#[tokio::test]
async fn records_are_found_and_may_change() {
    let dns = Dns::new();
    let view = dns.view().await.unwrap();
    let resolver = resolver(&view);
    assert!(srv(&resolver).await.unwrap_err().is_nx_domain());

    let relay = SocketAddr::from(([127, 0, 0, 1], 5280));
    dns.records().publish(&domain(), relay).unwrap();
    let expected = [Srv::new(5280, "relay.beta.example.")];
    assert_eq!(srv(&resolver).await.unwrap(), expected);
    assert_eq!(addresses(&resolver, "relay.beta.example.").await, [relay.ip()]);

    let both = [
        Srv { priority: 10, weight: 3, port: 1, target: "one.beta.example.".into() },
        Srv { priority: 20, weight: 0, port: 2, target: ".".into() },
    ];
    dns.records().set_srv(&domain(), &both).unwrap();
    assert_eq!(srv(&resolver).await.unwrap(), both);

    let hosts: [IpAddr; 2] = ["127.0.0.2".parse().unwrap(), "::1".parse().unwrap()];
    dns.records().set_addresses("one.beta.example", hosts).unwrap();
    assert!(addresses(&resolver, "one.beta.example.").await.iter().all(|address| hosts.contains(address)));
    let six = resolver.ipv6_lookup("one.beta.example.").await.unwrap();
    assert_eq!(six.answers().len(), 1);

    dns.records().remove(&srv_name(&domain())).unwrap();
    assert!(srv(&resolver).await.unwrap_err().is_nx_domain());
}

#[tokio::test]
async fn a_name_without_such_a_record_still_exists() {
    let dns = Dns::new();
    let view = dns.view().await.unwrap();
    let resolver = resolver(&view);
    dns.records().set_addresses("host.beta.example", [Ipv4Addr::LOCALHOST.into()]).unwrap();
    // The host has no AAAA record; what is above it has no record at all.
    for (name, kind) in [("host.beta.example.", RecordType::AAAA), ("beta.example.", RecordType::SRV)] {
        let error = resolver.lookup(name, kind).await.unwrap_err();
        assert!(error.is_no_records_found() && !error.is_nx_domain(), "{error}");
    }
    let error = resolver.lookup("other.example.", RecordType::A).await.unwrap_err();
    assert!(error.is_nx_domain(), "{error}");
}

#[tokio::test]
async fn trouble_comes_and_goes() {
    let dns = Dns::new();
    let view = dns.view().await.unwrap();
    let resolver = resolver(&view);
    let relay = SocketAddr::from(([127, 0, 0, 1], 5280));
    dns.records().publish(&domain(), relay).unwrap();

    view.set_trouble(Some(Trouble::ServFail));
    let error = srv(&resolver).await.unwrap_err();
    assert!(!error.is_nx_domain() && !matches!(error, NetError::Timeout), "{error}");
    view.set_trouble(Some(Trouble::Silence));
    let hasty = resolver_within(&view, Duration::from_millis(200));
    let error = srv(&hasty).await.unwrap_err();
    assert!(matches!(error, NetError::Timeout), "{error}");
    view.set_trouble(None);
    assert_eq!(srv(&resolver).await.unwrap().len(), 1);

    // One name's trouble is no other's.
    let name = srv_name(&domain());
    dns.records().set_trouble(&name, Trouble::ServFail).unwrap();
    assert!(srv(&resolver).await.is_err());
    assert_eq!(addresses(&resolver, "relay.beta.example.").await, [relay.ip()]);
}

#[tokio::test]
async fn each_view_may_see_something_else() {
    let dns = Dns::new();
    let (here, there) = (dns.view().await.unwrap(), dns.view().await.unwrap());
    let (ask_here, ask_there) = (resolver(&here), resolver(&there));
    let host = "relay.beta.example.";
    let relay = SocketAddr::from(([127, 0, 0, 1], 5280));
    dns.records().publish(&domain(), relay).unwrap();
    let other = SocketAddr::from(([127, 0, 0, 9], 99));
    there.records().publish(&domain(), other).unwrap();

    assert_eq!(addresses(&ask_here, host).await, [relay.ip()]);
    assert_eq!(addresses(&ask_there, host).await, [other.ip()]);
    assert_eq!(srv(&ask_there).await.unwrap()[0].port, 99);

    there.records().set_trouble(host, Trouble::NxDomain).unwrap();
    assert!(ask_there.lookup_ip(host).await.is_err());
    there.records().remove(host).unwrap();
    assert_eq!(addresses(&ask_there, host).await, [relay.ip()]);

    // What a view has below a name does not hide what everybody has for it.
    dns.records().set_addresses("beta.example", [relay.ip()]).unwrap();
    assert_eq!(addresses(&ask_there, "beta.example.").await, [relay.ip()]);

    // What only one view has below a name makes the name exist there alone.
    let host = "relay.gamma.example";
    there.records().set_addresses(host, [other.ip()]).unwrap();
    let error = ask_there.lookup("gamma.example.", RecordType::A).await.unwrap_err();
    assert!(error.is_no_records_found() && !error.is_nx_domain(), "{error}");
    assert!(ask_here.lookup_ip("gamma.example.").await.unwrap_err().is_nx_domain());
}

#[tokio::test]
async fn an_answer_too_long_for_a_packet_comes_over_tcp() {
    let dns = Dns::new();
    let view = dns.view().await.unwrap();
    let many: Vec<_> =
        (1..=200).map(|port| Srv::new(port, format!("a-rather-long-name-{port}.beta.example."))).collect();
    dns.records().set_srv(&domain(), &many).unwrap();
    assert_eq!(srv(&resolver(&view)).await.unwrap(), many);
    // Once by UDP, once more by TCP.
    assert_eq!(view.queries(&srv_name(&domain()), RecordType::SRV), 2);
}

#[tokio::test]
async fn queries_are_counted_by_name_and_type() {
    let view = Dns::new().view().await.unwrap();
    let resolver = resolver(&view);
    for _ in 0..3 {
        assert!(resolver.lookup("A.Example.", RecordType::A).await.is_err());
    }
    view.set_trouble(Some(Trouble::Silence));
    let hasty = resolver_within(&view, Duration::from_millis(200));
    let waited = view.wait_for_queries("a.example", RecordType::TXT, 1);
    let (answer, ()) = tokio::join!(hasty.lookup("a.example.", RecordType::TXT), waited);
    assert!(answer.is_err());
    assert_eq!(view.queries("a.example", RecordType::A), 3);
    assert_eq!(view.queries("b.example", RecordType::A), 0);
    // Where nobody answers, a resolver asks again, in its own time.
    let unanswered = view.queries("a.example.", RecordType::TXT);
    assert!(unanswered >= 1);
    assert_eq!(view.all_queries(), 3 + unanswered);
}

#[tokio::test]
async fn a_stopped_server_frees_its_ports() {
    let view = Dns::new().view().await.unwrap();
    let address = view.address();
    assert!(UdpSocket::bind(address).await.is_err());
    assert!(TcpListener::bind(address).await.is_err());
    view.stop().await;
    UdpSocket::bind(address).await.unwrap();
    TcpListener::bind(address).await.unwrap();
}

#[test]
fn a_bad_name_is_told() {
    let long = "a".repeat(64);
    let result: Result<(), NotAName> = Dns::new().records().remove(&long);
    assert!(result.unwrap_err().to_string().ends_with("is not a DNS name"));
}
