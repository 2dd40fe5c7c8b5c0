//! A configuration that is read again while the relay runs.

use std::fs;
use std::path::PathBuf;

use postrider_client::{Relay, Trust};
use postrider_common::wire::control::TrackingState;
use postrider_tests::authority::Leaf;
use postrider_tests::binary::postrider;
use postrider_tests::cluster::{Cluster, PATIENCE};
use tokio::process::Command;
use tokio::time::timeout;

use crate::commands::{ALPHA, BETA, ask, ask_anyhow, ask_json, queue};

fn config(cluster: &Cluster, domain: &str) -> PathBuf {
    cluster.directory(domain).unwrap().join("postrider.toml")
}

/// Takes every peer out of a configuration; what it was before.
fn without_peers(cluster: &Cluster, domain: &str) -> String {
    let file = config(cluster, domain);
    let before = fs::read_to_string(&file).unwrap();
    let (kept, rest) = before.split_once("[[federation.peers]]").unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    fs::write(&file, format!("{kept}\n{after}")).unwrap();
    before
}

#[tokio::test]
async fn the_connections_of_a_peer_that_is_taken_out_end_and_it_can_come_back() {
    let cluster = Cluster::start([ALPHA, BETA]).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        from.send(to, b"before").await.unwrap();
        assert_eq!(to.receive().await.unwrap().message, b"before");
    }
    let (out, back) = (cluster.link(ALPHA, BETA).unwrap(), cluster.link(BETA, ALPHA).unwrap());
    assert!(out.traffic().open > 0 && back.traffic().open > 0, "connections are kept");

    let before = without_peers(&cluster, ALPHA);
    let said = ask(&cluster, &["reload"]).await;
    assert!(said.ends_with("beta.example is no longer a peer\n"), "{said}");
    // Without any request: the one that we made and the one that was made to us.
    timeout(PATIENCE, out.wait_for(|traffic| traffic.open == 0)).await.expect("ours is closed");
    timeout(PATIENCE, back.wait_for(|traffic| traffic.open == 0)).await.expect("theirs is closed");
    let refused = alice.send(&bob, b"to a stranger").await.unwrap_err();
    assert!(refused.to_string().contains("policy-denied-here"), "{refused}");
    let held = queue(&bob, &alice, "held").await;
    let met = bob.tracked(held, |status| status.reason.is_some()).await.unwrap();
    assert_eq!(met.reason.as_deref(), Some("policy-denied-there"));

    fs::write(config(&cluster, ALPHA), before).unwrap();
    assert_eq!(ask(&cluster, &["reload"]).await, "beta.example is a peer\n");
    let nothing = ask_json(&cluster, &["reload"]).await;
    assert_eq!(nothing["changes"].as_array().map(Vec::len), Some(0), "{nothing}");
    // That alpha shows itself has what beta holds for it tried at once.
    alice.send(&bob, b"after").await.unwrap();
    assert_eq!(bob.receive().await.unwrap().message, b"after");
    assert_eq!(bob.outcome(held).await.unwrap().state, TrackingState::Stored);
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_configuration_with_mistakes_changes_nothing_and_every_one_is_told() {
    let cluster = Cluster::start([ALPHA, BETA]).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let good = without_peers(&cluster, ALPHA);
    let file = config(&cluster, ALPHA);
    let mistaken = format!("colour = 3\n{}\n[store]\ncache = \"1 B\"\n", fs::read_to_string(&file).unwrap());
    fs::write(&file, mistaken).unwrap();
    let (code, out, error) = ask_anyhow(&cluster, &["reload"]).await;
    assert_eq!((code, out.as_str()), (Some(69), ""), "{error}");
    assert!(error.contains("colour is unknown") && error.contains("store.cache is 1 B"), "{error}");
    for problem in ["colour is unknown", "store.cache is 1 B"] {
        let line =
            format!("the configuration was not reloaded, and everything stays as it was: {}", file.display());
        cluster.logged_times(ALPHA, &line, 2).await.unwrap();
        cluster.logged(ALPHA, problem).await.unwrap();
    }
    alice.send(&bob, b"still a peer").await.unwrap();
    assert_eq!(bob.receive().await.unwrap().message, b"still a peer");

    fs::write(&file, good.replace(r#"domain = "alpha.example""#, r#"domain = "other.example""#)).unwrap();
    let (code, _, error) = ask_anyhow(&cluster, &["reload"]).await;
    assert_eq!(code, Some(69), "another relay's name needs another relay's certificate: {error}");
    fs::write(&file, format!("{good}\n[limits]\ndevices = 3\n")).unwrap();
    let said = ask(&cluster, &["reload"]).await;
    assert!(said.contains("[limits] has changed: it counts from the next start"), "{said}");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_clients_and_relays_after_sighup() {
    let cluster = Cluster::builder([ALPHA, BETA]).processes(postrider()).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let leaf = Leaf::new(&ALPHA.parse().unwrap(), cluster.clock().now());
    let renewed = cluster.authority().issue(&leaf).unwrap();
    renewed.write(cluster.directory(ALPHA).unwrap(), "relay").unwrap();
    let process = cluster.process_id(ALPHA).await.unwrap().unwrap().to_string();
    assert!(Command::new("kill").args(["-HUP", &process]).status().await.unwrap().success());
    cluster
        .logged(ALPHA, "reloaded: other relays are shown a certificate with another key, whose pin is")
        .await
        .unwrap();
    cluster.logged(ALPHA, "reloaded: clients are shown another certificate").await.unwrap();

    let log = cluster.log(ALPHA).await.unwrap();
    let pin = log.split("whose pin is ").nth(1).unwrap()[..64].parse().unwrap();
    let pinned = Relay::builder(format!("https://{ALPHA}"))
        .address(cluster.address(ALPHA).await.unwrap())
        .trust(Trust::Pinned(vec![pin]))
        .build()
        .unwrap();
    pinned.info().await.expect("the new certificate is shown");
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        from.send(to, b"with the new one").await.unwrap();
        assert_eq!(to.receive().await.unwrap().message, b"with the new one");
    }
    cluster.shut_down().await.unwrap();
}
