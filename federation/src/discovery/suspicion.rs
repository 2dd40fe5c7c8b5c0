//! Why a name server said that it failed: because nobody answers it, or because it checks DNSSEC and did not like what
//! it saw.
//!
//! The two are the same word on the wire, SERVFAIL, unless one asks again and says that nothing need be checked. An
//! answer to that is an answer that did not pass.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::op::{Edns, Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// How long a server has to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many servers are asked.
const SERVERS: usize = 2;

/// Whether one of the servers has an answer for those who do not insist that it passes.
pub(super) async fn answers_unchecked(servers: &[SocketAddr], owner: &Name, kind: RecordType) -> bool {
    for server in servers.iter().take(SERVERS) {
        if let Ok(Some(code)) = timeout(PATIENCE, ask(*server, owner, kind)).await {
            return matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        }
    }
    false
}

async fn ask(server: SocketAddr, owner: &Name, kind: RecordType) -> Option<ResponseCode> {
    let mut message = Message::query();
    message.metadata.id = rand::random();
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = true;
    message.add_query(Query::query(owner.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    edns.set_dnssec_ok(true);
    message.edns = Some(edns);

    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(server).await.ok()?;
    socket.send(&message.to_vec().ok()?).await.ok()?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await.ok()?;
        let answer = Message::from_vec(buffer.get(..length)?).ok()?;
        if answer.metadata.id == message.metadata.id {
            return Some(answer.metadata.response_code);
        }
    }
}
