//! The resolver against a name server that answers from a table.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use postrider_common::FailureClass;
use postrider_common::clock::ManualClock;
use postrider_common::supervisor::Supervisor;
use postrider_federation::discovery::{Proof, SrvRecord};
use postrider_federation::{Resolve, Resolver, ResolverSettings};
use tokio::net::UdpSocket;

use crate::support::{NOW, domain};

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn answer(query: &[u8]) -> Vec<u8> {
    let mut message = Message::from_vec(query).unwrap().into_response();
    message.additionals.clear();
    let question = message.queries[0].clone();
    let owner = question.name().clone();
    let soa = SOA::new(name("ns.example."), name("admin.example."), 1, 60, 60, 60, 60);
    let soa = Record::from_rdata(name("example."), 60, RData::SOA(soa));
    let srv = |priority, target| {
        let srv = SRV::new(priority, 5, 8443, name(target));
        Record::from_rdata(owner.clone(), 60, RData::SRV(srv))
    };
    match (owner.to_ascii().as_str(), question.query_type()) {
        ("_postrider._tcp.a.example.", RecordType::SRV) => {
            message.add_answers([srv(20, "r2.a.example."), srv(10, "R1.a.example.")]);
        }
        ("_postrider._tcp.declined.example.", RecordType::SRV) => {
            message.add_answer(srv(0, "."));
        }
        ("_postrider._tcp.empty.example.", _) => {
            message.add_authority(soa);
        }
        ("_postrider._tcp.broken.example.", _) => message.metadata.response_code = ResponseCode::ServFail,
        ("r1.a.example.", RecordType::A) => {
            message.add_answer(Record::from_rdata(owner, 60, RData::A(A::new(192, 0, 2, 1))));
        }
        ("r1.a.example.", RecordType::AAAA) => {
            let address = AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
            message.add_answer(Record::from_rdata(owner, 60, RData::AAAA(address)));
        }
        _ => {
            message.metadata.response_code = ResponseCode::NXDomain;
            message.add_authority(soa);
        }
    }
    message.to_vec().unwrap()
}

async fn resolver() -> (Resolver, Supervisor) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = socket.local_addr().unwrap();
    let supervisor = Supervisor::new();
    supervisor.spawn("name server", async move {
        let mut query = [0; 1500];
        loop {
            let (length, client) = socket.recv_from(&mut query).await.unwrap();
            socket.send_to(&answer(&query[..length]), client).await.unwrap();
        }
    });
    let settings = ResolverSettings { servers: vec![address], ..ResolverSettings::default() };
    let clock = Arc::new(ManualClock::new(NOW));
    (Resolver::new(&settings, clock).unwrap(), supervisor)
}

#[tokio::test]
async fn records_and_addresses_are_read() {
    let (resolver, _server) = resolver().await;
    let answer = resolver.srv(&domain("a.example")).await.unwrap();
    assert_eq!((answer.proof, answer.is_stale), (Proof::Unchecked, false));
    let mut records = answer.records;
    records.sort_by_key(|record| record.priority);
    let expected = [(10, "R1.a.example"), (20, "r2.a.example")].map(|(priority, target)| SrvRecord {
        priority,
        weight: 5,
        port: 8443,
        target: target.into(),
    });
    assert_eq!(records, expected);
    let declined = resolver.srv(&domain("declined.example")).await.unwrap();
    assert_eq!(declined.records[0].target, ".");
    let addresses = resolver.addresses("r1.a.example").await.unwrap();
    let expected = ["2001:db8::1", "192.0.2.1"].map(|text| text.parse::<IpAddr>().unwrap());
    assert_eq!(addresses.records, expected);
}

#[tokio::test]
async fn none_is_not_the_same_as_not_known() {
    let (resolver, _server) = resolver().await;
    for absent in ["nowhere.example", "empty.example"] {
        assert_eq!(resolver.srv(&domain(absent)).await.unwrap().records, []);
    }
    let failure = resolver.srv(&domain("broken.example")).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::DiscoveryFailed);
    assert!(
        failure.detail.starts_with("the SRV records at _postrider._tcp.broken.example. cannot be looked up")
    );
    assert_eq!(resolver.addresses("nowhere.example").await.unwrap().records, [] as [IpAddr; 0]);
}
