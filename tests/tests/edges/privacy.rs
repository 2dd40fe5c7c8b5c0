//! What logs tell of people: nothing above `debug`; and of secrets: nothing at any level.
//!
//! The rule that is tested: at `info` no line has an id of a mailbox, an envelope, a device or an item that is tracked,
//! in any spelling, nor the address of a client. Addresses of relays, our own and our peers', may be there: an operator
//! needs them, and they are nobody's. To tell the two apart, the clients here come from an address of their own in
//! 127.0.0.0/8, while relays and links are at 127.0.0.1.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider_common::clock::{SharedClock, SystemClock};
use postrider_common::wire::control::{Nonce, TrackingState, TrackingStatus};
use postrider_common::wire::mailbox::DeviceMessage;
use postrider_common::wire::submit::{self, SubmitResult};
use postrider_common::{Domain, Draft, Envelope, TrackingId, Urgency, wire};
use postrider_tests::authority::Leaf;
use postrider_tests::binary::postrider;
use postrider_tests::clock::StandingClock;
use postrider_tests::cluster::{Cluster, PATIENCE};
use tokio::time::timeout;

use crate::inbound::Caller;
use crate::raw::{ALPHA, BETA, GAMMA, Owner, Target, domain, head, say, spellings, until_end};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 7, 77, 177));
const BATCH: (&str, &str) = ("content-type", wire::CONTENT_TYPE);

/// What must not be in a log, with what it is.
#[derive(Debug, Default)]
struct Unspeakable {
    /// Not above `debug`.
    people: Vec<(&'static str, String)>,
    /// Never.
    secrets: Vec<(&'static str, String)>,
}

impl Unspeakable {
    fn id(&mut self, what: &'static str, id: &[u8]) {
        // The beginning is enough to know an id again, so it must not be there either.
        self.people.extend(spellings(id).map(|text| (what, text[..16].to_owned())));
    }

    fn secret(&mut self, what: &'static str, secret: &[u8]) {
        self.secrets.extend(spellings(secret).map(|text| (what, text)));
    }

    fn owner(&mut self, owner: &Owner) {
        self.id("a mailbox", owner.mailbox.as_bytes());
        self.id("a device", owner.device.as_bytes());
        self.secret("a mailbox's key", &owner.key_bytes());
        self.secrets.push(("a token", owner.token.clone()));
    }

    fn envelope(&mut self, envelope: Envelope) -> Envelope {
        self.id("an envelope", envelope.id().as_bytes());
        self.secret("a body", envelope.body());
        envelope
    }

    #[track_caller]
    fn assert_absent(list: &[(&'static str, String)], relay: &str, log: &str) {
        assert!(!log.is_empty(), "{relay} has logged");
        for (what, text) in list {
            let line = log.lines().find(|line| line.contains(text.as_str()));
            assert!(line.is_none(), "{relay} has logged {what}, {text}: {}", line.unwrap_or_default());
        }
    }
}

/// Everything that a relay may find worth a line: deliveries, failures, refusals, garbage.
async fn traffic(cluster: &Cluster, clock: &SharedClock) -> Unspeakable {
    let mut said = Unspeakable::default();
    said.people.push(("a client's address", CLIENT.to_string()));
    let alpha = Target::of(cluster, ALPHA).await.from(CLIENT);
    let beta = Target::of(cluster, BETA).await.from(CLIENT);
    let (alice, bob) = (Owner::registered(&alpha).await, Owner::registered(&beta).await);
    let nobody = Owner::signed_in(&beta).await;
    for owner in [&alice, &bob, &nobody] {
        said.owner(owner);
    }
    let envelope = |said: &mut Unspeakable, to: &Owner, body: &'static [u8], seconds: u64, urgency| {
        let expires_at = clock.now() + Duration::from_secs(seconds);
        said.envelope(Draft { urgency, ..Draft::new(to.mailbox, expires_at, body) }.finish().unwrap())
    };
    let mut one = |to: &Owner, body, seconds| envelope(&mut said, to, body, seconds, Urgency::Normal);

    // Delivered here and there, refused here and there.
    let local = one(&alice, b"a local secret", 86_400);
    let items: Vec<(Domain, Envelope)> = vec![
        (domain(ALPHA), local.clone()),
        (domain(ALPHA), local),
        (domain(ALPHA), one(&nobody, b"for nobody here", 86_400)),
        (domain(ALPHA), one(&alice, b"too late already", 0)),
        (domain(ALPHA), one(&alice, b"too long for anybody", 90 * 86_400)),
        (domain(BETA), one(&bob, b"a secret for another", 86_400)),
        (domain(BETA), one(&nobody, b"for nobody there", 86_400)),
        (domain(GAMMA), one(&bob, b"for a stranger's relay", 86_400)),
    ];
    let held = (domain(BETA), one(&bob, b"a secret that waits", 3600));
    let short = (domain(ALPHA), one(&alice, b"a secret that expires", 3600));
    let forged = [one(&alice, b"a forged secret", 86_400)];
    let ephemeral = (domain(ALPHA), envelope(&mut said, &alice, b"typing, secretly", 60, Urgency::Ephemeral));

    let queued = queued(&mut said, &alpha.submit(&items).await);
    assert_eq!(queued.len(), 2);
    tracked(&alpha, queued[0], |status| status.state == TrackingState::Stored).await;
    tracked(&alpha, queued[1], |status| status.state == TrackingState::Failed).await;
    alpha.submit(&[ephemeral, short]).await;
    let waiting = alpha.entries(&alice).await;
    assert_eq!(waiting.len(), 2);
    let acknowledge = DeviceMessage::Acknowledge(vec![waiting[0].id]).encode();
    let line = "POST /v1/mailbox/acknowledgements";
    assert_eq!(alpha.call_as(&alice, line, &[BATCH], &acknowledge).await.status, 204);
    assert_eq!(beta.entries(&bob).await.len(), 1);

    // Held, since the way is cut.
    let way = cluster.link(ALPHA, BETA).unwrap();
    way.cut();
    let ids = self::queued(&mut said, &alpha.submit(&[held]).await);
    tracked(&alpha, ids[0], |status| status.reason.is_some()).await;

    // Refused, with everything in it that a careless line would repeat.
    for (line, body) in [
        ("POST /v1/envelopes", submit::encode_request(&items)[..900].to_vec()),
        (
            "POST /v1/sessions",
            serde_json::to_vec(&alice.session_request(&alpha.name, Nonce([7; 32]))).unwrap(),
        ),
        ("POST /v1/mailbox/acknowledgements", alice.token.clone().into_bytes()),
        (&format!("GET /v1/tracking/{}", ids[0]), vec![]),
        (&format!("GET /v1/mailbox/{}", alice.mailbox), vec![]),
    ] {
        alpha.call_as(&alice, line, &[BATCH], &body).await;
        alpha
            .call(line, &[("content-type", "application/json"), ("authorization", &alice.token)], &body)
            .await;
    }
    let signed = alice.session_request(&domain(GAMMA), alpha.challenge().await);
    said.secret("a signature", &signed.signature.0);
    assert_eq!(alpha.open_session(&signed).await.status, 403);
    for garbage in [&alice.mailbox.as_bytes()[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = alpha.tcp().await;
        say(&mut stream, &[&[0xff], garbage].concat()).await.unwrap();
        until_end(&mut stream).await;
    }
    let mut broken_off = alpha.tls("http/1.1").await;
    let bearer = format!("Bearer {}", alice.token);
    let head = head("POST /v1/envelopes", &[BATCH, ("content-length", "500"), ("authorization", &bearer)]);
    say(&mut broken_off, &head).await.unwrap();
    drop(broken_off);

    // A relay that is not who it says, with the mailbox in its hands.
    let leaf = Leaf::new(&domain(GAMMA), clock.now());
    let certified = cluster.authority().issue(&leaf).unwrap();
    let mut caller = Caller::connect(&alpha, &certified).await;
    assert_eq!(caller.forward(&forged, |_| {}).await.status, 403);

    let answer = beta.call_as(&bob, "DELETE /v1/mailbox", &[], b"").await;
    assert_eq!(answer.status, 204);
    for name in [ALPHA, BETA] {
        let directory = cluster.directory(name).unwrap();
        said.secret("the key of sessions", &std::fs::read(directory.join("data/session.key")).unwrap());
        let key = std::fs::read_to_string(directory.join("relay.key")).unwrap();
        said.secrets.push(("the relay's key", key.lines().nth(1).unwrap().to_owned()));
    }
    said
}

fn queued(said: &mut Unspeakable, results: &[SubmitResult]) -> Vec<TrackingId> {
    let ids: Vec<_> = results
        .iter()
        .filter_map(|result| match result {
            SubmitResult::Queued { tracking } => Some(*tracking),
            _ => None,
        })
        .collect();
    for id in &ids {
        said.id("a tracking id", id.as_bytes());
    }
    ids
}

async fn tracked(alpha: &Target, id: TrackingId, wanted: impl Fn(&TrackingStatus) -> bool) {
    let asking = async {
        loop {
            let answer = alpha.call(&format!("GET /v1/tracking/{id}"), &[], b"").await;
            if wanted(&serde_json::from_slice(&answer.body).unwrap()) {
                return;
            }
        }
    };
    timeout(PATIENCE, asking).await.expect("the envelope gets on in time");
}

/// A log of one relay, at `info`, as the daemon writes it.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn dispatch(&self) -> tracing::Dispatch {
        let lines = self.clone();
        tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || lines.clone())
            .finish()
            .into()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn at_info_nobody_is_named_not_even_when_time_is_over() {
    let clock = StandingClock::new();
    let (alphas, betas) = (Lines::default(), Lines::default());
    let logs = [(ALPHA, alphas.clone()), (BETA, betas.clone())];
    let cluster = Cluster::builder([ALPHA, BETA])
        .clock(clock.clone())
        .log(move |name| {
            let (_, lines) = logs.iter().find(|(relay, _)| *relay == name.as_str()).unwrap();
            lines.dispatch()
        })
        .start()
        .await
        .unwrap();
    let shared: SharedClock = Arc::new(clock.clone());
    let said = traffic(&cluster, &shared).await;

    // One envelope expires in a mailbox and one in the queue; both are found by a round that says so.
    let expired = async {
        while !["\"entries\":1", "\"items\":1"].iter().all(|found| alphas.text().contains(found)) {
            clock.advance(Duration::from_secs(1800));
            tokio::task::yield_now().await;
            Target::of(&cluster, ALPHA).await.call("GET /.well-known/postrider", &[], b"").await;
        }
    };
    timeout(PATIENCE, expired).await.expect("what is over is deleted in time");
    cluster.shut_down().await.unwrap();
    for (relay, lines) in [(ALPHA, alphas), (BETA, betas)] {
        Unspeakable::assert_absent(&said.people, relay, &lines.text());
        Unspeakable::assert_absent(&said.secrets, relay, &lines.text());
    }
}

#[tokio::test]
async fn a_process_names_nobody_at_info_and_tells_no_secret_at_debug() {
    let cluster = Cluster::builder([ALPHA, BETA])
        .processes(postrider())
        .configure(|name| {
            let level = if name.as_str() == ALPHA { "info" } else { "debug" };
            format!("[log]\nformat = \"json\"\nlevel = \"{level}\"\n")
        })
        .start()
        .await
        .unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    let said = traffic(&cluster, &clock).await;
    // Whole logs: also what is said on the way out.
    for relay in [ALPHA, BETA] {
        cluster.stop(relay).await.unwrap();
    }
    let logs = [(ALPHA, cluster.log(ALPHA).await.unwrap()), (BETA, cluster.log(BETA).await.unwrap())];
    for (relay, log) in &logs {
        for line in log.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("a line is one JSON object");
            assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
        }
        Unspeakable::assert_absent(&said.secrets, relay, log);
    }
    Unspeakable::assert_absent(&said.people, ALPHA, &logs[0].1);
    // The libraries' own lines are among those of beta.
    assert!(logs[1].1.contains("\"level\":\"DEBUG\""), "{}", logs[1].1);
}
