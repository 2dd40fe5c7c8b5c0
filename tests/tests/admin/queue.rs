//! `postrider queue` and `postrider why`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use data_encoding::BASE64;
use postrider_common::Envelope;
use postrider_common::wire::control::TrackingState;
use postrider_tests::cluster::PATIENCE;
use tokio::time::timeout;

use crate::commands::{ALPHA, BETA, ask, ask_anyhow, ask_json, data, queue, run, text, two_relays};

#[tokio::test]
async fn a_failing_destination_is_shown_explained_and_tried_again() {
    let cluster = two_relays().await;
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    assert_eq!(ask(&cluster, &["queue", "list"]).await, "nothing waits for another relay\n");
    cluster.link(ALPHA, BETA).unwrap().cut();
    let id = queue(&alice, &bob, "hello").await;
    // The other relay's greeting, some seconds after its start, wipes the first failure out.
    let failing = async {
        loop {
            let listed = ask(&cluster, &["queue", "list"]).await;
            if listed.contains("failing") {
                return listed;
            }
        }
    };
    let listed = timeout(PATIENCE, failing).await.expect("it fails");
    let lines: Vec<_> = listed.lines().collect();
    assert!(lines[0].starts_with("DESTINATION   WAITING"), "{listed}");
    let words: Vec<_> = lines[1].split_whitespace().collect();
    assert_eq!((words[0], words[1], words[4]), (BETA, "1", "failing"), "{listed}");
    assert!(
        lines[1].contains("remote-failed (there)") || lines[1].contains("connect-failed (network)"),
        "{listed}"
    );
    let shown = ask_json(&cluster, &["queue", "show", BETA]).await;
    assert_eq!((shown["envelopes"].as_u64(), shown["items"].as_array().unwrap().len()), (Some(1), 1));
    assert_eq!(shown["items"][0]["tracking"].as_str(), Some(&*id.to_string()));
    assert!(shown["history"][0]["times"].as_u64() >= Some(1), "{shown}");

    let why = ask_json(&cluster, &["why", &id.to_string()]).await;
    assert_eq!((why["state"].as_str(), why["destination"].as_str()), (Some("queued"), Some(BETA)));
    let met = &why["attempts"][0];
    assert_eq!(met["class"], shown["history"][0]["class"], "{why}");
    assert!(!met["detail"].as_str().unwrap().is_empty() && !met["whose_end"].as_str().unwrap().is_empty());
    let people = ask(&cluster, &["why", &id.to_string()]).await;
    assert!(people.starts_with("tracking id:") && people.contains(&id.to_string()), "{people}");
    assert!(people.contains("FIRST") && !people.contains('\u{1b}'), "no colours but on a terminal: {people}");

    // By itself it would be tried again in some seconds, and then in ever more: not because of this test's patience.
    cluster.link(ALPHA, BETA).unwrap().heal();
    assert_eq!(ask(&cluster, &["queue", "retry", BETA]).await, "beta.example is tried at once\n");
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    let why = ask_json(&cluster, &["why", &id.to_string()]).await;
    assert_eq!(why["state"].as_str(), Some("stored"));
    assert!(!why["attempts"].as_array().unwrap().is_empty(), "also after its end");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_paused_destination_keeps_its_envelopes_across_a_restart() {
    let cluster = two_relays().await;
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let said = ask(&cluster, &["queue", "pause", BETA]).await;
    assert!(said.starts_with("beta.example is paused"), "{said}");
    let id = queue(&alice, &bob, "later").await;
    cluster.kill(ALPHA).await.unwrap();
    cluster.restart(ALPHA).await.unwrap();
    // A relay that starts greets its peers, and one that is greeted is tried: not this one.
    cluster.logged(BETA, "serving").await.unwrap();
    bob.send(&alice, b"I am here").await.unwrap();
    assert_eq!(alice.receive().await.unwrap().message, b"I am here");
    let listed = ask_json(&cluster, &["queue", "list"]).await;
    let destination = &listed["destinations"][0];
    assert_eq!((destination["domain"].as_str(), destination["envelopes"].as_u64()), (Some(BETA), Some(1)));
    assert!(destination["paused_since"].is_u64(), "{listed}");
    let why = ask_json(&cluster, &["why", &id.to_string()]).await;
    assert!(why["paused_since"].is_u64() && why["next_attempt_at"].is_null(), "{why}");

    ask(&cluster, &["queue", "resume", BETA]).await;
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    assert_eq!(bob.receive().await.unwrap().message, b"later");
    assert_eq!(ask(&cluster, &["queue", "list"]).await, "nothing waits for another relay\n");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_queue_is_exported_and_dropped_and_its_senders_are_told() {
    const COUNT: usize = 300;
    let cluster = two_relays().await;
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    ask(&cluster, &["queue", "pause", BETA]).await;
    let mut ids = Vec::new();
    for number in 0..COUNT {
        ids.push(queue(&alice, &bob, &number.to_string()).await);
    }
    let directory = cluster.directory(ALPHA).unwrap();
    let file = directory.join("beta.jsonl");
    let export = ["queue", "export", BETA, file.to_str().unwrap()];
    assert!(ask(&cluster, &export).await.starts_with("300 envelopes written to "));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, _, error) = ask_anyhow(&cluster, &export).await;
    assert_eq!(code, Some(73), "nothing is overwritten: {error}");
    let written = fs::read_to_string(&file).unwrap();
    let lines: Vec<serde_json::Value> =
        written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), COUNT);
    for (line, id) in lines.iter().zip(&ids) {
        assert_eq!(
            (line["tracking"].as_str(), line["destination"].as_str()),
            (Some(&*id.to_string()), Some(BETA))
        );
        let bytes = BASE64.decode(line["envelope"].as_str().unwrap().as_bytes()).unwrap();
        let envelope = Envelope::decode(bytes.into()).unwrap();
        assert_eq!(*envelope.mailbox(), bob.identity().address().mailbox);
        assert_eq!(line["expires_at"].as_u64(), Some(envelope.expires_at().as_secs()));
    }

    let item = lines[0]["item"].as_str().unwrap();
    assert_eq!(ask(&cluster, &["queue", "drop", BETA, "--item", item]).await, "1 envelope dropped\n");
    let again = ask(&cluster, &["queue", "drop", BETA, "--item", item]).await;
    assert_eq!(again, "0 envelopes dropped\n1 were under way or gone already\n");
    assert_eq!(ask(&cluster, &["queue", "drop", BETA, "--all"]).await, "299 envelopes dropped\n");
    for id in [ids[0], ids[COUNT - 1]] {
        let status = alice.outcome(id).await.unwrap();
        assert_eq!((status.state, status.reason.as_deref()), (TrackingState::Failed, Some("dropped")));
        let why = ask(&cluster, &["why", &id.to_string()]).await;
        assert!(why.contains("dropped (to be mended: here)"), "{why}");
    }
    let (code, out, error) = ask_anyhow(&cluster, &["queue", "export", BETA, "/nowhere/at/all"]).await;
    assert_eq!((code, &*out, &*error), (Some(69), "", "postrider: nothing waits for beta.example\n"));
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let cluster = two_relays().await;
    let unknown = "aaaaaaaaaaaaaaaaaaaaaaaaaa";
    for (arguments, expected) in [
        (&["queue", "show", "gamma.example"][..], "nothing waits for gamma.example"),
        (&["queue", "retry", "gamma.example"], "nothing waits for gamma.example"),
        (&["queue", "pause", ALPHA], "alpha.example is this relay itself"),
        (&["queue", "quarantine", "show", BETA, "7"], "7 is not in quarantine for beta.example"),
        (&["queue", "quarantine", "drop", BETA, "7"], "7 is not in quarantine for beta.example"),
        (&["why", unknown], "there is no envelope with this tracking id"),
    ] {
        let (code, out, error) = ask_anyhow(&cluster, arguments).await;
        assert_eq!((code, out.as_str()), (Some(69), ""), "{arguments:?}: {error}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    assert_eq!(
        ask(&cluster, &["queue", "quarantine", "list", BETA]).await,
        "nothing is in quarantine for this destination\n"
    );

    let data = data(&cluster, ALPHA);
    cluster.kill(ALPHA).await.unwrap();
    let config = data.parent().unwrap().join("postrider.toml");
    for place in [["--data", data.to_str().unwrap()], ["--config", config.to_str().unwrap()]] {
        let output = run(&["queue", "list", place[0], place[1]]).await;
        let expected = format!("postrider: no relay runs on {}\n", data.display());
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(69), &*expected));
    }
    cluster.restart(ALPHA).await.unwrap();
    ask(&cluster, &["queue", "list"]).await;
    cluster.shut_down().await.unwrap();
}
