//! What goes wrong at the server, or on the way: it is told precisely, tried again with care, and takes nothing down.

use std::fs;
use std::time::Duration;

use postrider_tests::authority::Authority;

use crate::bench::{ALPHA, Bench, DAY, HOUR, ISSUED, NAME};
use crate::server::{Troubles, nowhere};

const FAILED: &str = "a certificate could not be got for relay.alpha.example: ";
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_bad_nonce_is_no_trouble() {
    let bench = Bench::start().await;
    bench.server.trouble(Troubles { bad_nonces: 2, ..Troubles::default() });
    bench.switch_on().await;
    bench.logged(ISSUED).await;
    assert_eq!(bench.times_logged(FAILED).await, 0);
    bench.cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_server_that_asks_to_be_left_alone_is() {
    let bench = Bench::start().await;
    bench.server.trouble(Troubles { rate_limit: Some("7200"), ..Troubles::default() });
    bench.switch_on().await;
    bench.settle().await;
    let said = "the order at the ACME server: too many new orders recently (urn:ietf:params:acme:error:rateLimited); \
                next attempt ";
    let next = bench.cluster.clock().now() + 2 * HOUR;
    bench.logged(&format!("{FAILED}{said}{next}")).await;
    bench.pass(HOUR).await;
    bench.reload().await;
    bench.settle().await;
    bench.restart().await;
    assert_eq!(bench.server.asked("new-order"), 1, "whatever happens here");
    bench.server.trouble(Troubles::default());
    bench.pass(HOUR).await;
    bench.logged(ISSUED).await;
    bench.cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_name_that_cannot_be_proven_is_told_and_tried_less_and_less() {
    let bench = Bench::start().await;
    bench.reload().await;
    bench.settle().await;
    let identity = bench.leaf(ALPHA, "h2").await;
    bench.server.trouble(Troubles { check: Some("192.0.2.1: Connection refused"), ..Troubles::default() });
    bench.switch_on().await;
    bench.settle().await;
    let said = "the ACME server's check of relay.alpha.example: 192.0.2.1: Connection refused \
                (urn:ietf:params:acme:error:unauthorized); next attempt ";
    bench.logged(&format!("{FAILED}{said}")).await;
    let told = bench.told().await;
    assert_eq!((told.failures, told.issued_at), (1, None));
    let expected = said.strip_suffix("; next attempt ").unwrap();
    assert_eq!(told.failure.as_deref(), Some(expected));
    let wait = told.next_attempt - bench.cluster.clock().now().as_secs();
    assert!((300..=360).contains(&wait), "{wait} s");
    assert_eq!(bench.leaf(NAME, "h2").await, identity, "clients are shown what they were shown");
    assert!(bench.has_key_of(&identity).await, "and are served");

    for _ in 0..3 {
        bench.restart().await;
    }
    assert_eq!(bench.server.asked("new-order"), 1, "a relay that starts over and over asks no more");
    assert_eq!(bench.told().await, told, "nor does it forget why");
    bench.pass(6 * MINUTE).await;
    bench.until_asked("new-order", 2).await;
    // The second wait is longer.
    bench.clock.advance(6 * MINUTE);
    assert_eq!(bench.server.asked("new-order"), 2);
    bench.pass(12 * MINUTE).await;
    bench.until_asked("new-order", 3).await;

    bench.reload().await;
    bench.settle().await;
    assert_eq!(bench.server.asked("new-order"), 4, "whoever has mended something need not wait");
    bench.server.trouble(Troubles::default());
    bench.reload().await;
    bench.logged(ISSUED).await;
    bench.settle().await;
    let told = bench.told().await;
    let now = bench.cluster.clock().now().as_secs();
    assert_eq!((told.failures, told.failure, told.issued_at), (0, None, Some(now)));
    assert!(told.next_attempt > now + 30 * 86_400, "when it is to be renewed");
    assert_eq!(bench.server.accounts(), 1);
    assert_eq!(bench.times_logged("there is no certificate for").await, 4, "once for each start");
    bench.cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_relay_that_dies_in_the_middle_has_failed() {
    let bench = Bench::start().await;
    // The server is busy until the clock moves.
    bench.server.trouble(Troubles { busy: (1000, 60), ..Troubles::default() });
    bench.switch_on().await;
    bench.cluster.logged(ALPHA, "there is no certificate for relay.alpha.example yet").await.unwrap();
    while bench.server.asked("finalize") == 0 {
        tokio::task::yield_now().await;
    }
    bench.restart().await;
    bench.restart().await;
    assert_eq!(bench.server.asked("new-order"), 1);
    let told = bench.told().await;
    assert_eq!((told.failures, told.failure.as_deref()), (1, Some("the attempt did not come to its end")));
    bench.server.trouble(Troubles::default());
    bench.pass(6 * MINUTE).await;
    bench.logged(ISSUED).await;
    bench.cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_slow_server_is_asked_as_often_as_it_says() {
    let bench = Bench::start().await;
    bench.server.trouble(Troubles { busy: (3, 5), ..Troubles::default() });
    bench.switch_on().await;
    // The answer to the request for the certificate is the first of three that say that it is under way.
    while bench.server.asked("finalize") == 0 {
        tokio::task::yield_now().await;
    }
    let looks = bench.server.asked("order");
    for look in 1..=3 {
        bench.clock.advance(Duration::from_secs(4));
        assert_eq!(bench.server.asked("order"), looks + look - 1, "not before it is time");
        // The wait may begin only now; it is never shorter.
        while bench.server.asked("order") < looks + look {
            bench.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    }
    bench.logged(ISSUED).await;
    bench.cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_told() {
    let bench = Bench::start().await;
    bench.reload().await;
    let identity = bench.leaf(ALPHA, "h2").await;
    let nowhere = nowhere().await.unwrap();
    bench.ask_at(&format!("https://{nowhere}/directory"), &[NAME], "").await;
    bench
        .logged(&format!(
            "{FAILED}the account at the ACME server: {nowhere} (127.0.0.1) cannot be connected to"
        ))
        .await;
    bench.ask_at("https://acme.nowhere.example/directory", &[NAME], "").await;
    bench
        .logged(&format!("{FAILED}the account at the ACME server: acme.nowhere.example has no address"))
        .await;

    bench.server.trouble(Troubles { is_behind_a_broken_proxy: true, ..Troubles::default() });
    bench.switch_on().await;
    bench.logged("127.0.0.1 answers 502 Bad Gateway, without saying why").await;

    let stranger = Authority::new("Somebody else").unwrap();
    fs::write(bench.file("acme-server.pem"), stranger.root_pem()).unwrap();
    bench.reload().await;
    bench.logged("TLS with 127.0.0.1 (127.0.0.1:").await;
    bench.logged("invalid peer certificate").await;
    assert!(bench.has_key_of(&identity).await, "clients are served");

    fs::write(bench.file("acme-server.pem"), bench.server.own_root_pem()).unwrap();
    bench.server.trouble(Troubles::default());
    bench.reload().await;
    bench.logged(ISSUED).await;
    bench.cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_server_that_has_lost_its_accounts_is_given_another() {
    let bench = Bench::start().await;
    bench.switch_on().await;
    bench.logged(ISSUED).await;
    bench.settle().await;
    bench.server.trouble(Troubles { is_forgetful: true, ..Troubles::default() });
    bench.pass(68 * DAY).await;
    bench.logged("nobody of that name has an account (urn:ietf:params:acme:error:accountDoesNotExist)").await;
    bench.pass(HOUR).await;
    bench.cluster.logged_times(ALPHA, ISSUED, 2).await.unwrap();
    assert_eq!(bench.server.accounts(), 2);
    bench.cluster.shut_down().await.unwrap();
}
