//! Mailboxes in an administrator's hands: made, listed, closed, opened, redirected, deleted.

use std::fs;

use postrider_client::{Delivery, Error, Identity};
use postrider_common::FailureClass;
use postrider_common::wire::control::BindingStatement;
use postrider_tests::binary::postrider;
use postrider_tests::cluster::{Cluster, ClusterError, PATIENCE, User};
use serde_json::Value;
use tokio::time::timeout;

use crate::commands::{ALPHA, BETA, ask, ask_anyhow, ask_json, two_relays};

async fn one_relay(registration: &'static str) -> Cluster {
    Cluster::builder([ALPHA]).processes(postrider()).registration(registration).start().await.unwrap()
}

fn stranger(cluster: &Cluster) -> User {
    cluster.connect(&Identity::generate(ALPHA.parse().unwrap())).unwrap()
}

fn slug(error: &Error) -> &str {
    error.slug().unwrap_or_else(|| panic!("{error}"))
}

async fn refusal(from: &User, to: &User) -> FailureClass {
    match from.send(to, b"are you there?").await {
        Err(ClusterError::Refused(class)) => class,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_administrator_makes_a_mailbox_where_registration_is_closed() {
    let cluster = one_relay("closed").await;
    let alice = stranger(&cluster);
    let session = alice.session().await.unwrap();
    assert_eq!(slug(&session.register().await.unwrap_err()), "registration-closed");
    let address = alice.identity().address().to_string();
    assert_eq!(
        ask(&cluster, &["mailbox", "create", &address]).await,
        "made: it waits for its first device\n"
    );
    assert_eq!(ask(&cluster, &["mailbox", "create", &address]).await, "it is there\n");
    alice.send(&alice, b"before the first device").await.unwrap();
    assert!(!session.register().await.unwrap().created);
    assert_eq!(alice.receive().await.unwrap().message, b"before the first device");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_suspended_mailbox_is_closed_at_once_and_keeps_what_it_has() {
    let cluster = one_relay("open").await;
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    alice.send(&bob, b"before").await.unwrap();
    let mailbox = bob.identity().address().mailbox.to_string();
    let session = bob.session().await.unwrap();
    let mut stream = session.stream().await.unwrap();
    assert!(matches!(stream.next().await, Some(Ok(Delivery::Entry(_)))), "connected");
    ask(&cluster, &["mailbox", "suspend", &mailbox]).await;
    let ended = timeout(PATIENCE, stream.next()).await.expect("it ends at once");
    assert!(ended.is_none(), "in order: {ended:?}");

    assert_eq!(refusal(&alice, &bob).await, FailureClass::MailboxRefused);
    let refused = [
        session.register().await.map(|_| ()).unwrap_err(),
        session.entries(None, std::time::Duration::ZERO).await.map(|_| ()).unwrap_err(),
        session.acknowledge(&[postrider_common::EntryId(1)]).await.unwrap_err(),
        session.delete_mailbox().await.unwrap_err(),
        session.stream().await.map(|_| ()).unwrap_err(),
        bob.relay().session(bob.identity()).await.map(|_| ()).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(slug(&error), "mailbox-suspended");
    }
    cluster.kill(ALPHA).await.unwrap();
    cluster.restart(ALPHA).await.unwrap();
    assert_eq!(refusal(&alice, &bob).await, FailureClass::MailboxRefused, "also after a restart");
    let shown = ask(&cluster, &["mailbox", "show", &mailbox]).await;
    assert!(shown.contains("suspended since") && shown.contains("envelopes:    1"), "{shown}");

    ask(&cluster, &["mailbox", "resume", &mailbox]).await;
    // The session from before has seen it already.
    let again = bob.relay().session(bob.identity()).await.unwrap();
    let kept = again.entries(None, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(bob.identity().open(&kept[0].envelope).unwrap().message, b"before");
    again.acknowledge(&[kept[0].id]).await.unwrap();
    alice.send(&bob, b"after").await.unwrap();
    assert_eq!(bob.receive().await.unwrap().message, b"after");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn mailboxes_are_listed_a_page_at_a_time_and_deleted() {
    let cluster = one_relay("open").await;
    let mut users = Vec::new();
    for _ in 0..5 {
        users.push(cluster.user(ALPHA).await.unwrap());
    }
    users.sort_by_key(|user| user.identity().address().mailbox);
    users[0].send(&users[1], b"waits").await.unwrap();
    let (mut names, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut arguments = vec!["mailbox", "list", "--count", "2"];
        if let Some(after) = &after {
            arguments.extend(["--after", after.as_str()]);
        }
        let page = ask_json(&cluster, &arguments).await;
        names.extend(page["mailboxes"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    let expected: Vec<_> = users.iter().map(|user| user.identity().address().mailbox.to_string()).collect();
    assert_eq!(names.iter().map(|found| found["mailbox"].as_str().unwrap()).collect::<Vec<_>>(), expected);
    assert_eq!((&names[1]["envelopes"], &names[1]["devices"]), (&Value::from(1), &Value::from(1)));
    assert_eq!(names[0]["last_contact"].as_u64().unwrap() % 86_400, 0, "the day and no more");

    let session = users[1].session().await.unwrap();
    let (code, _, _) = ask_anyhow(&cluster, &["mailbox", "delete", &expected[1]]).await;
    assert_eq!(code, Some(64), "not without --yes");
    ask(&cluster, &["mailbox", "delete", &expected[1], "--yes"]).await;
    assert_eq!(slug(&session.stream().await.map(|_| ()).unwrap_err()), "no-such-mailbox");
    assert_eq!(refusal(&users[0], &users[1]).await, FailureClass::NoSuchMailbox);
    for command in [&["show"][..], &["suspend"], &["resume"], &["delete", "--yes"]] {
        let (code, _, err) = ask_anyhow(&cluster, &[&["mailbox"], command, &[&expected[1]]].concat()).await;
        assert_eq!((code, err), (Some(69), format!("postrider: there is no mailbox {}\n", expected[1])));
    }
    cluster.shut_down().await.unwrap();
}

/// The same key may have a mailbox at several relays: an address is that at its own.
#[tokio::test]
async fn an_address_at_another_relay_is_no_mailbox_of_this_one() {
    let cluster = one_relay("open").await;
    let user = cluster.user(ALPHA).await.unwrap();
    let mailbox = user.identity().address().mailbox.to_string();
    let (here, elsewhere) = (format!("{mailbox}@{ALPHA}"), format!("{mailbox}@{BETA}"));
    let file = cluster.directory(ALPHA).unwrap().join("binding.json");
    let signed = user.identity().at(BETA.parse().unwrap()).binding(5);
    fs::write(&file, serde_json::to_string(&BindingStatement::from(&signed)).unwrap()).unwrap();
    let redirect = ["redirect", "--binding", file.to_str().unwrap()];
    for command in [&["create"][..], &["show"], &["suspend"], &["resume"], &["delete", "--yes"], &redirect] {
        let (code, out, err) =
            ask_anyhow(&cluster, &[&["mailbox"], command, &[elsewhere.as_str()]].concat()).await;
        assert_eq!((code, out.as_str()), (Some(64), ""), "{command:?}: {err}");
        assert!(err.contains(&format!("this relay is {ALPHA}")), "{err}");
    }
    let (code, _, err) = ask_anyhow(&cluster, &["mailbox", "list", "--after", &elsewhere]).await;
    assert_eq!(code, Some(64), "{err}");
    assert!(ask(&cluster, &["mailbox", "show", &here]).await.contains("open"));
    cluster.shut_down().await.unwrap();
}

/// Somebody who has left: their mailbox is closed, and what comes for it follows them, by what they have signed.
#[tokio::test]
async fn a_suspended_mailbox_is_redirected_by_what_its_owner_has_signed() {
    let cluster = two_relays().await;
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    alice.send(&bob, b"before").await.unwrap();
    let mailbox = bob.identity().address().mailbox.to_string();
    ask(&cluster, &["mailbox", "suspend", &mailbox]).await;

    let there = cluster.connect(&bob.identity().at(BETA.parse().unwrap())).unwrap();
    there.session().await.unwrap().register().await.unwrap();
    let file = cluster.directory(ALPHA).unwrap().join("binding.json");
    let signed = there.identity().binding(5);
    there.session().await.unwrap().bind(&signed).await.unwrap();
    let write = |statement: &BindingStatement| {
        fs::write(&file, serde_json::to_string(statement).unwrap()).unwrap();
    };
    let redirect = ["mailbox", "redirect", &mailbox, "--binding", file.to_str().unwrap()];
    write(&BindingStatement::from(&alice.identity().at(BETA.parse().unwrap()).binding(5)));
    let (code, _, err) = ask_anyhow(&cluster, &redirect).await;
    assert_eq!(code, Some(69));
    assert!(err.contains("not signed by the key of"), "{err}");
    write(&BindingStatement::from(&signed));
    let said = ask(&cluster, &redirect).await;
    assert!(said.contains("is kept at beta.example"), "{said}");

    assert_eq!(there.receive().await.unwrap().message, b"before");
    alice.send(&bob, b"to the old address").await.unwrap();
    assert_eq!(there.receive().await.unwrap().message, b"to the old address");
    cluster.shut_down().await.unwrap();
}
