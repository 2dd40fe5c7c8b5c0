//! What is wrong with one envelope of a batch concerns that one alone.

use postrider_client::Identity;
use postrider_common::wire::control::TrackingState;
use postrider_common::wire::submit::{SubmitResult, decode_results, encode_request};
use postrider_common::{Domain, Draft, FailureClass};
use postrider_tests::cluster::Cluster;

use crate::plain::{ALPHA, BETA, draft, envelope, refused, tracking, waiting};
use crate::raw;

#[tokio::test]
async fn the_good_ones_among_bad_ones_are_taken() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let bob = cluster.user(ALPHA).await.unwrap();
    let nobody = cluster.connect(&Identity::generate(ALPHA.parse().unwrap())).unwrap();
    let alpha: Domain = ALPHA.parse().unwrap();
    let good = |text| (alpha.clone(), envelope(&cluster, &bob, text));
    let with =
        |change: fn(Draft) -> Draft| (alpha.clone(), change(draft(&cluster, &bob, "bad")).finish().unwrap());
    let items = [
        good("first"),
        with(|draft| Draft { header: MARK.into(), ..draft }),
        with(|draft| Draft { body: vec![0; (128 << 10) + 1].into(), ..draft }),
        with(|draft| Draft { expires_at: draft.expires_at - 2 * crate::plain::DAY, ..draft }),
        with(|draft| Draft { expires_at: draft.expires_at + 60 * crate::plain::DAY, ..draft }),
        (alpha.clone(), envelope(&cluster, &nobody, "bad")),
        ("bad-domain.example".parse().unwrap(), envelope(&cluster, &bob, "bad")),
        ("unknown.example".parse().unwrap(), envelope(&cluster, &bob, "bad")),
        good("last"),
    ];
    let mut body = encode_request(&items).to_vec();
    // The SDK makes no malformed items: the length before a header, and a letter of a domain.
    let header = find(&body, MARK);
    body[header - 1] = 0xff;
    let domain = find(&body, b"bad-domain");
    body[domain] = b'!';

    let answer = raw::submit(&cluster, ALPHA, body.into()).await;
    let reasons = [
        FailureClass::Malformed,
        FailureClass::TooLarge,
        FailureClass::Expired,
        FailureClass::LifetimeTooLong,
        FailureClass::NoSuchMailbox,
        FailureClass::Malformed,
        FailureClass::PolicyDeniedHere,
    ];
    let stored = || std::iter::once(SubmitResult::Stored);
    let expected: Vec<_> = stored().chain(reasons.map(refused)).chain(stored()).collect();
    assert_eq!(decode_results(&answer).unwrap(), expected);
    assert_eq!(waiting(&bob).await, ["first", "last"]);
    cluster.shut_down().await.unwrap();
}

const MARK: &[u8] = b"here is the header";

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).unwrap()
}

#[tokio::test]
async fn a_peer_refuses_the_bad_ones_of_a_batch_alone() {
    let strict = |domain: &Domain| match domain.as_str() {
        BETA => "[limits]\nbody = \"4 KiB\"\n".to_owned(),
        _ => String::new(),
    };
    let cluster = Cluster::builder([ALPHA, BETA]).configure(strict).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let nobody = cluster.connect(&Identity::generate(BETA.parse().unwrap())).unwrap();
    let beta: Domain = BETA.parse().unwrap();
    let large = Draft { body: vec![0; 5 << 10].into(), ..draft(&cluster, &bob, "") }.finish().unwrap();
    let items = [
        (beta.clone(), envelope(&cluster, &bob, "first")),
        (beta.clone(), large),
        (beta.clone(), envelope(&cluster, &nobody, "bad")),
        (beta.clone(), envelope(&cluster, &bob, "last")),
    ];
    let results = alice.relay().submit(&items).await.unwrap();
    let mut outcomes = Vec::new();
    for id in results.into_iter().map(tracking) {
        let status = alice.outcome(id).await.unwrap();
        outcomes.push((status.state, status.reason));
    }
    let failed = |class: FailureClass| (TrackingState::Failed, Some(class.slug().to_owned()));
    let stored = || (TrackingState::Stored, None);
    let expected = [stored(), failed(FailureClass::TooLarge), failed(FailureClass::NoSuchMailbox), stored()];
    assert_eq!(outcomes, expected);
    assert_eq!(waiting(&bob).await, ["first", "last"]);
    cluster.shut_down().await.unwrap();
}
