//! A certificate is got, shown and kept.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use postrider_common::wire::control::TrackingState;
use postrider_common::wire::submit::SubmitResult;
use postrider_tests::cluster::User;

use crate::bench::{ALPHA, BETA, Bench, ISSUED, NAME};
use crate::check::{ALPN, shown};

async fn arrives(from: &User, to: &User) {
    match from.send(to, b"a message").await.unwrap() {
        SubmitResult::Queued { tracking } => {
            assert_eq!(from.outcome(tracking).await.unwrap().state, TrackingState::Stored);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_is_got_shown_and_kept() {
    let bench = Bench::start().await;
    let (alice, bob) = (bench.cluster.user(ALPHA).await.unwrap(), bench.cluster.user(BETA).await.unwrap());
    bench.reload().await;
    bench.settle().await;
    let identity = bench.leaf(ALPHA, "h2").await;
    let said = bench.switch_on().await;
    assert_eq!(said, [format!("certificates for {NAME} come from 127.0.0.1")]);
    bench.logged("there is no certificate for relay.alpha.example yet").await;
    bench.logged(ISSUED).await;
    bench.settle().await;

    assert!(bench.is_certified_as(NAME).await, "clients are shown it");
    assert!(!bench.is_certified_as(ALPHA).await, "it is for that name alone");
    assert!(bench.has_key_of(&identity).await, "those who pin the key need not know");
    assert_eq!(bench.leaf(ALPHA, "postrider/1").await, identity, "relays are shown what they were shown");
    arrives(&bob, &alice).await;
    let address = bench.cluster.address(ALPHA).await.unwrap();
    let refused = shown(address, NAME, &[ALPN]).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "nothing is to be checked: {refused}");
    assert_eq!((bench.server.accounts(), bench.server.asked("new-order")), (1, 1));
    assert_eq!(bench.server.contacts(), ["mailto:admin@alpha.example"]);

    let mode = |name: &str| fs::metadata(bench.file(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("data/acme"), 0o700);
    let server = fs::read_dir(bench.file("data/acme")).unwrap().next().unwrap().unwrap().path();
    for file in ["account.json", "certificate.pem", "state.json"] {
        assert_eq!(mode(server.join(file).to_str().unwrap()), 0o600, "{file}");
    }

    let (before, issued) = (bench.server.requests(), bench.leaf(NAME, "h2").await);
    bench.restart().await;
    assert_eq!(bench.leaf(NAME, "h2").await, issued, "it is shown at once");
    assert_eq!(bench.server.requests(), before, "and nothing is asked");
    bench.cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn other_relays_believe_it_if_they_are_shown_it() {
    let bench = Bench::start().await;
    let (alice, bob) = (bench.cluster.user(ALPHA).await.unwrap(), bench.cluster.user(BETA).await.unwrap());
    let identity = bench.leaf(ALPHA, "postrider/1").await;
    let directory = bench.server.directory();
    bench.ask_at(&directory, &[NAME, ALPHA], "shown_to = \"everybody\"\n").await;
    bench.logged("a certificate for relay.alpha.example, alpha.example was issued").await;
    bench.settle().await;
    assert!(bench.is_certified_as(NAME).await && bench.is_certified_as(ALPHA).await);
    let issued = bench.leaf(ALPHA, "postrider/1").await;
    assert_ne!(issued, identity);
    assert_eq!(bench.leaf(NAME, "h2").await, issued);
    assert!(bench.has_key_of(&identity).await, "for those who pin the key nothing has changed");

    let beta = bench.cluster.directory(BETA).unwrap();
    fs::write(beta.join("public.pem"), bench.server.root_pem()).unwrap();
    let config = fs::read_to_string(beta.join("postrider.toml")).unwrap();
    let (before, peer) = config.split_once("trust = \"private-ca\"\n").unwrap();
    let (_, after) = peer.split_once('\n').unwrap();
    let config = format!("{before}trust = \"webpki\"\n{after}");
    let config = config.replace("[federation]\n", "[federation]\npublic_roots = \"public.pem\"\n");
    fs::write(beta.join("postrider.toml"), config).unwrap();
    let client = postrider::admin::Client::new(beta.join("data"));
    client.post::<postrider::admin::documents::Reloaded>("/v1/reload", &()).await.unwrap();
    arrives(&bob, &alice).await;
    // What alpha sends, it sends with the same certificate. Alice has not looked yet at what clients are shown.
    let peers = postrider_client::Relay::builder(format!("https://{ALPHA}"))
        .address(bench.cluster.address(ALPHA).await.unwrap())
        .trust(postrider_client::Trust::AuthorityPem(bench.server.root_pem()))
        .build()
        .unwrap();
    let alice = User::new(alice.identity().clone(), peers, bench.cluster.clock().clone());
    arrives(&alice, &bob).await;
    bench.restart().await;
    assert_eq!(bench.leaf(ALPHA, "postrider/1").await, issued, "it is shown at once");
    bench.cluster.shut_down().await.unwrap();
}
