//! The kinds that HTTP/1.1 is enough for.

use std::time::Duration;

use postrider_common::wire;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Kind, Reaction, Tally};

/// How long the slow ones take over each byte.
const SLOWLY: Duration = Duration::from_millis(200);
/// What an answer begins with; the status follows.
const BEGINNING: &[u8] = b"HTTP/1.1 ";

pub(super) async fn abuse(stream: impl AsyncRead + AsyncWrite + Unpin, kind: Kind, tally: &Tally) {
    let begun = |line: &str| format!("{line} HTTP/1.1\r\nhost: relay\r\n");
    let submitting = begun("POST /v1/envelopes") + &format!("content-type: {}\r\n", wire::CONTENT_TYPE);
    let (first, again, pause) = match kind {
        Kind::SlowHeader => (begun("GET /.well-known/postrider") + "x: ", "x".into(), SLOWLY),
        Kind::SlowBody => (submitting + "content-length: 100000\r\n\r\n", "x".into(), SLOWLY),
        Kind::HugeHeader => {
            let field = format!("x: {}\r\n", "x".repeat(1000));
            (begun("GET /.well-known/postrider"), field, Duration::ZERO)
        }
        Kind::UnauthenticatedFlood => {
            let signing_in = begun("POST /v1/challenges") + "content-length: 0\r\n\r\n";
            let asking = begun("GET /v1/mailbox/entries") + "authorization: Bearer bm9uZQ\r\n\r\n";
            (String::new(), signing_in + &asking, Duration::ZERO)
        }
        Kind::OversizedBatches => {
            (submitting + "content-length: 50000000\r\n\r\n", "x".repeat(0x4000), Duration::ZERO)
        }
        // The handshake was all.
        _ => (String::new(), String::new(), Duration::from_secs(3600)),
    };
    let (reading, writing) = tokio::io::split(stream);
    tokio::select! {
        () = write(writing, first.as_bytes(), again.as_bytes(), pause) => {}
        () = listen(reading, tally) => {}
    }
}

/// Writes the one, and then the other for ever. What cannot be written any more leaves the end to whoever reads.
pub(super) async fn write(mut stream: impl AsyncWrite + Unpin, first: &[u8], again: &[u8], pause: Duration) {
    let mut next = first;
    while stream.write_all(next).await.is_ok() && stream.flush().await.is_ok() {
        tokio::time::sleep(pause).await;
        next = again;
    }
    std::future::pending::<()>().await;
}

/// Counts answers until the connection ends.
async fn listen(mut stream: impl AsyncRead + Unpin, tally: &Tally) {
    let mut heard = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        heard.extend_from_slice(&piece[..length]);
        while let Some(at) = heard.windows(BEGINNING.len()).position(|window| window == BEGINNING) {
            let status = at + BEGINNING.len();
            let Some(digits) = heard.get(status..status + 3) else { break };
            let status = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            tally.note(Reaction::Answered(status.unwrap_or_default()));
            heard.drain(..at + BEGINNING.len() + 3);
        }
        // What an answer may begin with is kept.
        let known = heard.len().saturating_sub(BEGINNING.len() + 3);
        heard.drain(..known);
    }
}
