//! What is logged, and at which level.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use tracing_subscriber::fmt::MakeWriter;

use crate::support::{Relay, Table, allow, client, domain, envelope, identity, peer, pinned};

/// What one thread logs. The subscriber is the whole process's, since one that is not can miss events that another
/// test's thread was the first to come across.
#[derive(Clone)]
struct Lines {
    thread: ThreadId,
    text: Arc<Mutex<Vec<u8>>>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if thread::current().id() == self.thread {
            self.text.lock().unwrap().extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn each_step_is_told_and_strangers_are_told_aloud() {
    let lines = Lines { thread: thread::current().id(), text: Arc::default() };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("postrider::federation=debug")
        .with_ansi(false)
        .with_writer(lines.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let (a, b, forged) = (identity("a.example"), identity("b.example"), identity("a.example"));
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    let table = Table::new([("b.example", relay.address)]);
    let (destination, batch) = (domain("b.example"), [envelope(b"x"), envelope(b"y")]);
    let calling = client(&a, allow(&a, [peer("b.example", pinned(&b))]), table.clone(), |_| {});
    calling.client.forward(&destination, &batch).await.unwrap();
    let stranger = client(&forged, allow(&forged, [peer("b.example", pinned(&b))]), table, |_| {});
    stranger.client.forward(&destination, &batch).await.unwrap_err();

    let text = String::from_utf8(lines.text.lock().unwrap().clone()).unwrap();
    let port = relay.address.port();
    for expected in [
        &format!(
            "DEBUG postrider::federation: SRV answer domain=b.example targets=\"relay.b.example:{port}\" \
             proof=insecure stale=false elapsed="
        ),
        "DEBUG postrider::federation: TLS agreed peer=b.example direction=\"out\" protocol=\"TLS 1.3\" \
         key_exchange=\"X25519MLKEM768\" trust=pinned",
        "DEBUG postrider::federation: TLS agreed peer=a.example direction=\"in\" protocol=\"TLS 1.3\" \
         key_exchange=\"X25519MLKEM768\" trust=pinned",
        "DEBUG postrider::federation: inbound batch peer=a.example count=2",
        "DEBUG postrider::federation: batch forwarded peer=b.example count=2 elapsed=",
        &format!(
            "WARN postrider::federation: a peer was refused: the key pinned for a.example is {}, but the key {} was \
             presented origin=a.example class=\"tls-pin-mismatch\"",
            a.pin(),
            forged.pin()
        ),
    ] {
        assert!(text.contains(expected), "{expected}\nis missing in\n{text}");
    }
    let aloud: Vec<_> = text.lines().filter(|line| !line.contains("DEBUG")).collect();
    assert!(aloud.iter().all(|line| !line.contains("127.0.0.1")), "{aloud:?}");
}
