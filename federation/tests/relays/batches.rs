//! What goes right.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use postrider_common::{Failure, FailureClass, Outcome};
use postrider_federation::{ALPN, Busy, Trust};

use crate::support::{
    Authority, Caller, Relay, Table, allow, client, domain, envelope, identity, peer, pinned,
};

#[tokio::test]
async fn a_batch_arrives_between_pinned_peers() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    arrives(a.clone(), b.clone(), pinned(&a), pinned(&b), "pinned").await;
}

#[tokio::test]
async fn a_batch_arrives_between_peers_that_share_an_authority() {
    let (ours, theirs) = (Authority::new("CA of A"), Authority::new("CA of B"));
    let (a, b) = (ours.identity("a.example"), theirs.intermediate("Issuing").identity("b.example"));
    arrives(a, b, ours.trust(), theirs.trust(), "private-ca").await;
}

async fn arrives(
    a: Arc<postrider_federation::Identity>,
    b: Arc<postrider_federation::Identity>,
    trust_in_a: Trust,
    trust_in_b: Trust,
    mode: &str,
) {
    let relay = Relay::start(&b, allow(&b, [peer("a.example", trust_in_a)])).await;
    let calling = client(
        &a,
        allow(&a, [peer("b.example", trust_in_b)]),
        Table::new([("b.example", relay.address)]),
        |_| {},
    );
    let destination = domain("b.example");
    let batch = [envelope(b"one"), envelope(&vec![2; 128 << 10]), envelope(b"three")];
    let outcomes = calling.client.forward(&destination, &batch).await.unwrap();
    assert_eq!(outcomes, vec![Outcome::Stored; 3]);
    let expected = vec![(domain("a.example"), batch.map(Ok).to_vec())];
    assert_eq!(*relay.inbox.batches.lock().unwrap(), expected);

    let hello = calling.client.hello(&destination).await.unwrap();
    assert_eq!(hello.domain, destination);
    assert_eq!((hello.versions.as_slice(), hello.software.as_str()), (&[1][..], "postrider/test"));
    assert_eq!(hello.limits.batch_envelopes, 256);
    assert_eq!(hello.time, crate::support::NOW.as_secs());
    assert_eq!((hello.you.domain, hello.you.trust.as_str()), (domain("a.example"), mode));
    assert_eq!(hello.you.fingerprint, a.pin().to_string());
    assert_eq!(hello.you.verdict, "accepted");

    assert_eq!(calling.client.forward(&destination, &[]).await, Ok(vec![]));
    assert_eq!(relay.inbox.authenticated.load(Ordering::SeqCst), 2, "once for each request");
    assert_eq!(relay.connections(), 1);
}

#[tokio::test]
async fn batches_in_flight_share_one_connection() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    relay.inbox.gate.forget_permits(1000);
    let calling = client(
        &a,
        allow(&a, [peer("b.example", pinned(&b))]),
        Table::new([("b.example", relay.address)]),
        |config| config.in_flight = 4,
    );
    let destination = domain("b.example");
    let batches = (0..6).map(|n| [envelope(&[n])]).collect::<Vec<_>>();
    let forwarded = join_all(batches.iter().map(|batch| calling.client.forward(&destination, batch)));
    let watched = async {
        // None of the first four can have been answered when all four are there.
        relay.inbox.wait_for(4).await;
        assert_eq!(*relay.inbox.arrived.borrow(), 4, "the others wait for their turn");
        relay.inbox.gate.add_permits(6);
    };
    let (outcomes, ()) = tokio::join!(forwarded, watched);
    assert_eq!(outcomes, vec![Ok(vec![Outcome::Stored]); 6]);
    assert_eq!(relay.connections(), 1);
}

#[tokio::test]
async fn a_busy_relay_says_when_to_come_back() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    let calling = client(
        &a,
        allow(&a, [peer("b.example", pinned(&b))]),
        Table::new([("b.example", relay.address)]),
        |_| {},
    );
    for reason in [FailureClass::StorageFull, FailureClass::RateLimited] {
        *relay.inbox.busy.lock().unwrap() = Some(Busy { reason, retry_after: Duration::from_millis(6100) });
        let failure = calling.client.forward(&domain("b.example"), &[envelope(b"x")]).await.unwrap_err();
        let expected = Failure {
            class: FailureClass::RemoteBusy,
            detail: "b.example asks us to come back: the relay takes no envelopes at the moment".into(),
            retry_after: Some(Duration::from_secs(7)),
        };
        assert_eq!(failure, expected);
    }
}

#[tokio::test]
async fn a_fixed_address_needs_no_dns_and_no_permission() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    let mut fixed = peer("b.example", pinned(&b));
    fixed.addresses = vec![relay.address];
    let calling = client(&a, allow(&a, [fixed]), Table::new([]), |config| {
        config.networks = postrider_federation::Networks::default();
    });
    let outcomes = calling.client.forward(&domain("b.example"), &[envelope(b"x")]).await;
    assert_eq!(outcomes, Ok(vec![Outcome::Stored]));
}

#[tokio::test]
async fn the_key_exchange_is_post_quantum_and_nothing_can_be_resumed() {
    let ca = Authority::new("CA");
    let (own, b) = (identity("a.example"), ca.identity("b.example"));
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&own))])).await;
    let pems = postrider_federation::Identity::generate(&domain("a.example"), crate::support::NOW).unwrap();
    let keys = Some((pems.certificate_pem.as_str(), pems.key_pem.as_str()));
    let mut stream = Caller::handshake(relay.address, "b.example", ca.roots(), keys).await.unwrap();
    // The relay's first word comes after any tickets would have.
    let mut first = [0; 9];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut first).await.unwrap();
    let (_, session) = stream.get_ref();
    let group = session.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(session.alpn_protocol(), Some(ALPN));
    assert_eq!(session.tls13_tickets_received(), 0);
}

#[tokio::test]
async fn every_target_is_tried_until_one_is_the_peer() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let gone = Relay::start(&b, allow(&b, [])).await;
    gone.stop().await;
    let impostor_key = identity("b.example");
    let impostor = Relay::start(&impostor_key, allow(&impostor_key, [peer("a.example", pinned(&a))])).await;
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    let table = Table::new([]);
    table.set_all("b.example", vec![gone.address, impostor.address, relay.address]);
    let calling = client(&a, allow(&a, [peer("b.example", pinned(&b))]), table.clone(), |_| {});
    let (destination, batch) = (domain("b.example"), [envelope(b"x")]);
    assert_eq!(calling.client.forward(&destination, &batch).await, Ok(vec![Outcome::Stored]));
    assert_eq!((impostor.connections(), relay.connections()), (1, 1));

    relay.stop().await;
    let failure = calling.client.forward(&destination, &batch).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::TlsPinMismatch, "which tells more than closed ports");
}

#[tokio::test]
async fn of_several_fixed_addresses_one_is_enough() {
    let (a, b, impostor_key) = (identity("a.example"), identity("b.example"), identity("b.example"));
    let impostor = Relay::start(&impostor_key, allow(&impostor_key, [])).await;
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    let mut fixed = peer("b.example", pinned(&b));
    fixed.addresses = vec![impostor.address, relay.address];
    let calling = client(&a, allow(&a, [fixed]), Table::new([]), |_| {});
    let outcomes = calling.client.forward(&domain("b.example"), &[envelope(b"x")]).await;
    assert_eq!(outcomes, Ok(vec![Outcome::Stored]));
    assert_eq!(impostor.connections(), 1);
}
