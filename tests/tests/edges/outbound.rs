//! The sending side of federation: a peer whose certificate is not right, as tracking and the log tell it.

use std::sync::Arc;

use postrider_client::{Identity, Relay, Trust};
use postrider_common::FailureClass;
use postrider_common::clock::{Clock, SystemClock};
use postrider_common::wire::control::TrackingState;
use postrider_common::wire::submit::SubmitResult;
use postrider_tests::authority::{Authority, Leaf, self_signed};
use postrider_tests::cluster::{Builder, Cluster, PATIENCE, User};
use tokio::time::timeout;

use crate::raw::{ALPHA, BETA, GAMMA, domain};

/// Sends from alpha to somebody at beta, and waits until tracking gives this reason.
async fn assert_waits(cluster: &Cluster, alice: &User, class: FailureClass) -> postrider_common::TrackingId {
    let bob = cluster.connect(&Identity::generate(domain(BETA))).unwrap();
    let Ok(SubmitResult::Queued { tracking }) = alice.send(&bob, b"hello").await else {
        panic!("what is for another relay is queued")
    };
    let status = alice.tracked(tracking, |status| status.reason.is_some()).await.unwrap();
    assert_eq!(status.reason.as_deref(), Some(class.slug()));
    assert_eq!(status.state, TrackingState::Queued, "an operator's slip loses nothing");
    assert!(status.next_attempt_at.is_some(), "{status:?}");
    tracking
}

async fn assert_logged(cluster: &Cluster, class: FailureClass, sentence: &str) {
    let log = cluster.log(ALPHA).await.unwrap();
    let line =
        log.lines().find(|line| line.contains(sentence)).unwrap_or_else(|| panic!("{sentence}\n\n{log}"));
    assert!(line.contains(" WARN ") && line.contains(class.slug()) && line.contains(BETA), "{line}");
}

fn with_certificate_of_beta(
    leaf: impl Fn(&Authority, Leaf) -> Certificate + Send + Sync + 'static,
) -> Builder {
    Cluster::builder([ALPHA, BETA]).certificate(move |name, authority| {
        let good = Leaf::new(name, SystemClock.now());
        if name.as_str() == BETA { leaf(authority, good) } else { authority.issue(&good) }
    })
}

type Certificate = Result<postrider_tests::authority::Certified, postrider_tests::authority::AuthorityError>;

#[tokio::test]
async fn another_relays_certificate_is_a_wrong_name_and_nothing_is_lost() {
    let cluster = Cluster::start([ALPHA, BETA, GAMMA]).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    // As when an SRV record names the wrong host.
    let link = cluster.link(ALPHA, BETA).unwrap();
    let right = link.target();
    link.set_target(cluster.address(GAMMA).await.unwrap());
    // Alpha greets beta when it has started, and would go on over that connection.
    link.cut();
    link.wait_for(|traffic| traffic.open == 0).await;
    link.heal();
    let class = FailureClass::TlsNameMismatch;
    assert_waits(&cluster, &alice, class).await;
    let sentence = "a certificate for beta.example was expected, but one for gamma.example was presented";
    assert_logged(&cluster, class, sentence).await;

    let SubmitResult::Queued { tracking } = alice.send(&bob, b"held").await.unwrap() else {
        panic!("queued")
    };
    link.set_target(right);
    // That beta calls shows that it is there, so that alpha tries again at once.
    bob.send(&alice, b"hello").await.unwrap();
    assert_eq!(alice.receive().await.unwrap().message, b"hello");
    assert_eq!(alice.outcome(tracking).await.unwrap().state, TrackingState::Stored);
    assert_eq!(bob.receive().await.unwrap().message, b"held");
}

#[tokio::test]
async fn another_authoritys_certificate_is_untrusted() {
    let stranger = Authority::new("Somebody else's authority").unwrap();
    let cluster = with_certificate_of_beta(move |_, leaf| stranger.issue(&leaf)).start().await.unwrap();
    let alice = cluster.user(ALPHA).await.unwrap();
    assert_waits(&cluster, &alice, FailureClass::TlsUntrusted).await;
    let sentence = "a certificate for beta.example issued by CN=Cluster authority was expected, but one issued by \
                    CN=Somebody else's authority was presented";
    assert_logged(&cluster, FailureClass::TlsUntrusted, sentence).await;
}

#[tokio::test]
async fn a_self_signed_certificate_is_called_so() {
    let cluster = with_certificate_of_beta(|_, leaf| self_signed(&leaf)).start().await.unwrap();
    let alice = cluster.user(ALPHA).await.unwrap();
    assert_waits(&cluster, &alice, FailureClass::TlsUntrusted).await;
    assert_logged(&cluster, FailureClass::TlsUntrusted, "but a self-signed one was presented").await;
}

#[tokio::test]
async fn a_certificate_outside_its_time_is_expired() {
    let now = SystemClock.now();
    for (leaf, sentence) in [
        ((|leaf: Leaf, now| leaf.expired(now)) as fn(Leaf, _) -> Leaf, "was valid until "),
        (|leaf, now| leaf.not_yet_valid(now), "is valid from "),
    ] {
        let issue = move |authority: &Authority, good| authority.issue(&leaf(good, now));
        let cluster = with_certificate_of_beta(issue).start().await.unwrap();
        let alice = cluster.user(ALPHA).await.unwrap();
        assert_waits(&cluster, &alice, FailureClass::TlsExpired).await;
        let sentence = format!("the certificate presented for beta.example {sentence}");
        assert_logged(&cluster, FailureClass::TlsExpired, &sentence).await;
    }
}

#[tokio::test]
async fn a_peer_that_refuses_our_certificate_is_told_from_one_that_denies_us() {
    let stranger = Arc::new(Authority::new("Somebody else's authority").unwrap());
    let issuer = Arc::clone(&stranger);
    let cluster = Cluster::builder([ALPHA, BETA])
        .certificate(move |name, authority| {
            let leaf = Leaf::new(name, SystemClock.now());
            if name.as_str() == ALPHA { issuer.issue(&leaf) } else { authority.issue(&leaf) }
        })
        .start()
        .await
        .unwrap();
    let bob = cluster.user(BETA).await.unwrap();
    let relay = Relay::builder(format!("https://{ALPHA}"))
        .address(cluster.door(ALPHA).unwrap().address())
        .trust(Trust::AuthorityPem(stranger.root_pem()))
        .build()
        .unwrap();
    let envelope = bob.seal(&bob, b"to myself, by way of alpha").unwrap();
    let Ok(SubmitResult::Queued { tracking }) = relay.submit_one(&domain(BETA), envelope).await else {
        panic!("what is for another relay is queued")
    };
    let reason = async {
        loop {
            if let Some(reason) = relay.track(tracking).await.unwrap().reason {
                return reason;
            }
        }
    };
    let reason = timeout(PATIENCE, reason).await.unwrap();
    assert_eq!(reason, FailureClass::TlsOurCertificateRefused.slug());
    let log = cluster.log(BETA).await.unwrap();
    assert!(
        log.contains("a certificate for alpha.example issued by CN=Cluster authority was expected"),
        "{log}"
    );
    // Alpha's operator reads in alpha's own log what beta did not like.
    cluster.logged(ALPHA, "does not accept our certificate").await.unwrap();
    let log = cluster.log(ALPHA).await.unwrap();
    let told = log.lines().any(|line| {
        line.contains("ERROR ") && line.contains("does not accept our certificate") && line.contains(BETA)
    });
    assert!(told, "{log}");
}
