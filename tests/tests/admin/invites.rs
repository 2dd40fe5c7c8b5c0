//! Who may have a mailbox: by invite, by the administrator, everybody.

use postrider_client::{Identity, Invite};
use postrider_tests::binary::postrider;
use postrider_tests::cluster::{Cluster, User};
use serde_json::Value;

use crate::commands::{ALPHA, ask, ask_anyhow, ask_json};

fn stranger(cluster: &Cluster) -> User {
    cluster.connect(&Identity::generate(ALPHA.parse().unwrap())).unwrap()
}

/// What the relay says of somebody who registers; `true` if the mailbox is new.
async fn register(user: &User, invite: Option<&Invite>) -> Result<bool, String> {
    let session = user.session().await.unwrap();
    let registered = match invite {
        Some(invite) => session.register_invited(&invite.secret).await,
        None => session.register().await,
    };
    registered.map(|registered| registered.created).map_err(|error| error.slug().unwrap().to_owned())
}

fn refused(slug: &str) -> Result<bool, String> {
    Err(slug.to_owned())
}

fn invite_in(line: &str) -> Invite {
    line.parse().unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[tokio::test]
async fn an_invite_lets_in_as_many_as_it_is_for() {
    let cluster =
        Cluster::builder([ALPHA]).processes(postrider()).registration("invite").start().await.unwrap();
    assert_eq!(cluster.client(ALPHA).unwrap().info().await.unwrap().policies.registration, "invite");
    let [alice, bob, carol] = [(); 3].map(|()| stranger(&cluster));
    assert_eq!(register(&alice, None).await, refused("invite-needed"));

    let made = ask(&cluster, &["invite", "create", "--uses", "2", "--host", "relay.example:8443"]).await;
    assert!(made.starts_with("https://relay.example:8443/invite#domain=alpha.example&secret="), "{made}");
    let invite = invite_in(made.trim());
    assert_eq!(invite.pin, None, "clients are shown an authority's certificate here");
    assert_eq!(register(&alice, Some(&invite)).await, Ok(true));
    assert_eq!(register(&alice, Some(&invite)).await, Ok(false), "a repetition");
    assert_eq!(register(&alice, None).await, Ok(false), "it has its mailbox");
    let laptop = cluster.connect(&alice.identity().with_new_device()).unwrap();
    assert_eq!(register(&laptop, None).await, Ok(false), "another device needs none");

    cluster.kill(ALPHA).await.unwrap();
    cluster.restart(ALPHA).await.unwrap();
    let listed = ask_json(&cluster, &["invite", "list"]).await;
    assert_eq!((&listed["invites"][0]["uses"], &listed["invites"][0]["used"]), (&2.into(), &1.into()));
    assert_eq!(listed["invites"][0]["url"], Value::Null);
    assert_eq!(register(&bob, Some(&invite)).await, Ok(true));
    assert_eq!(register(&carol, Some(&invite)).await, refused("invite-refused"));
    assert!(ask(&cluster, &["invite", "list"]).await.contains("2 of 2"));

    alice.send(&bob, b"we are both in").await.unwrap();
    assert_eq!(bob.receive().await.unwrap().message, b"we are both in");
    let log = cluster.log(ALPHA).await.unwrap();
    let secret = invite.secret.expose();
    assert!(!log.contains(&secret) && !log.contains(&invite.secret.id().to_string()), "{log}");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn invites_are_revoked_and_odd_ones_are_not_made() {
    let cluster =
        Cluster::builder([ALPHA]).processes(postrider()).registration("invite").start().await.unwrap();
    assert_eq!(ask(&cluster, &["invite", "list"]).await, "there are no invites\n");
    let made = ask(&cluster, &["invite", "create", "--count", "3", "--expires", "1 h"]).await;
    let invites: Vec<_> = made.lines().map(invite_in).collect();
    assert_eq!(invites.len(), 3);
    let id = invites[1].secret.id().to_string();
    ask(&cluster, &["invite", "revoke", &id]).await;
    let user = stranger(&cluster);
    assert_eq!(register(&user, Some(&invites[1])).await, refused("invite-refused"));
    assert_eq!(register(&user, Some(&invites[2])).await, Ok(true));
    let (code, _, err) = ask_anyhow(&cluster, &["invite", "revoke", &id]).await;
    assert_eq!((code, err), (Some(69), format!("postrider: there is no invite {id}\n")));
    for (option, value) in [
        ("--uses", "0"),
        ("--count", "257"),
        ("--expires", "0 s"),
        ("--expires", "400 days"),
        ("--host", "a b"),
        ("--host", ":"),
        ("--host", "relay.example:99999"),
    ] {
        let (code, out, err) = ask_anyhow(&cluster, &["invite", "create", option, value]).await;
        assert_eq!((code, out.as_str()), (Some(64), ""), "{option} {value}: {err}");
        assert!(err.contains(&format!("invalid value '{value}' for '{option}")), "{err}");
    }
    // With a code, where one is asked for.
    let made = ask(&cluster, &["invite", "create", "--qr"]).await;
    assert!(made.contains('▀') && made.lines().last().unwrap().starts_with("https://"), "{made}");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn nobody_registers_where_it_is_closed_and_everybody_where_it_is_open() {
    let closed = Cluster::builder([ALPHA]).registration("closed").start().await.unwrap();
    assert_eq!(register(&stranger(&closed), None).await, refused("registration-closed"));
    let invite = invite_in(
        "https://relay.alpha.example/invite#domain=alpha.example&secret=aaaqeayeaudaocajbifqydiob4",
    );
    assert_eq!(register(&stranger(&closed), Some(&invite)).await, refused("registration-closed"));
    closed.shut_down().await.unwrap();
    let open = Cluster::start([ALPHA]).await.unwrap();
    assert_eq!(register(&stranger(&open), Some(&invite)).await, Ok(true), "it is not looked at");
    open.shut_down().await.unwrap();
}
