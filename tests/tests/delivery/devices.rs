//! Several devices of one mailbox: what each gets, what they are called, and how they go.

use std::time::Duration;

use postrider_client::{Delivery, Session};
use postrider_tests::clock::StandingClock;
use postrider_tests::cluster::{Cluster, PATIENCE, User};
use tokio::time::timeout;

use crate::plain::ALPHA;

const DAY: Duration = Duration::from_secs(86_400);

async fn another_device(cluster: &Cluster, of: &User) -> User {
    let device = cluster.connect(&of.identity().with_new_device()).unwrap();
    device.session().await.unwrap().register().await.unwrap();
    device
}

async fn messages(of: &User) -> Vec<Vec<u8>> {
    let open = |entry: postrider_client::Entry| of.identity().open(&entry.envelope).unwrap().message;
    of.waiting().await.unwrap().into_iter().map(open).collect()
}

async fn known(session: &Session) -> Vec<(postrider_common::DeviceId, Option<String>)> {
    let name = |known: postrider_client::Device| {
        let opened = known.name.map(|name| session.identity().open_device_name(&known.device, &name));
        (known.device, opened.map(|name| name.expect("it opens")))
    };
    session.devices().await.unwrap().into_iter().map(name).collect()
}

#[tokio::test]
async fn each_device_gets_what_comes_after_it_until_another_one_removes_it() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let (alice, phone) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    alice.send(&phone, b"one").await.unwrap();
    let laptop = another_device(&cluster, &phone).await;
    alice.send(&phone, b"two").await.unwrap();
    assert_eq!(messages(&phone).await, [b"one", b"two"], "the first device gets what was there");
    assert_eq!(messages(&laptop).await, [b"two"], "a further one starts from now");

    let (at_phone, at_laptop) = (phone.session().await.unwrap(), laptop.session().await.unwrap());
    let name = phone.identity().seal_device_name(laptop.identity().device(), "Laptop").unwrap();
    at_phone.name_device(laptop.identity().device(), name).await.unwrap();
    let (first, second) = (*phone.identity().device(), *laptop.identity().device());
    assert_eq!(known(&at_laptop).await, [(first, None), (second, Some("Laptop".into()))]);

    let mut stream = at_laptop.stream().await.unwrap();
    assert!(matches!(stream.next().await, Some(Ok(Delivery::Entry(_)))), "connected");
    at_phone.remove_device(&second).await.unwrap();
    assert!(timeout(PATIENCE, stream.next()).await.expect("it ends at once").is_none());
    let error = at_laptop.stream().await.map(|_| ()).unwrap_err();
    assert_eq!(error.slug(), Some("no-such-device"));
    let again = at_phone.remove_device(&second).await.unwrap_err();
    assert_eq!(again.slug(), Some("unknown-device"));
    assert_eq!(known(&at_phone).await, [(first, None)]);
    assert_eq!(messages(&phone).await, [b"one", b"two"], "the others keep theirs");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_device_that_stays_away_is_removed_on_the_day_that_was_told() {
    let clock = StandingClock::new();
    let cluster = Cluster::builder([ALPHA])
        .clock(clock.clone())
        .configure(|_| "[limits]\ndevice_idle = \"30 days\"".into())
        .start()
        .await
        .unwrap();
    let phone = cluster.user(ALPHA).await.unwrap();
    let laptop = another_device(&cluster, &phone).await;
    clock.advance(29 * DAY);
    assert_eq!(messages(&phone).await, Vec::<Vec<u8>>::new(), "it was here");
    let told = phone.session().await.unwrap().devices().await.unwrap();
    assert_eq!(told[1].removed_at - told[1].last_contact, 30 * 86_400);
    assert!(told[0].removed_at > told[1].removed_at);
    clock.advance(DAY + Duration::from_secs(120));
    let gone = async {
        loop {
            let devices = phone.session().await.unwrap().devices().await.unwrap();
            if devices.len() == 1 {
                return devices[0].device;
            }
            tokio::task::yield_now().await;
        }
    };
    let left = timeout(PATIENCE, gone).await.expect("it is removed");
    assert_eq!(left, *phone.identity().device());
    assert_ne!(left, *laptop.identity().device());
    cluster.shut_down().await.unwrap();
}
