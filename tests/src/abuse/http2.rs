//! The kinds that take HTTP/2 (RFC 9113), frame by frame.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Kind, Reaction, Tally, http1};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// A setting: how much of an answer may come at first.
const INITIAL_WINDOW_SIZE: u8 = 4;

/// Flags.
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// The code that says that nobody wants the answer any more.
const CANCEL: u32 = 8;

/// What a stream's window has at first, unless it is told otherwise.
const FIRST_WINDOW: u32 = 65_535;

/// What makes a connection's window, which begins with as much, as large as any may be.
const WINDOW: u32 = 0x7fff_0000;

/// How many small frames are written at a time.
const TOGETHER: usize = 100;

type Fields<'a> = &'a [(&'static str, String)];

pub(super) async fn abuse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    kind: Kind,
    asking: Fields<'_>,
    tally: &Tally,
) {
    let (reading, mut writing) = tokio::io::split(stream);
    let attack = async {
        // No table of header fields, so that every answer says its status; and nothing that keeps an answer back, unless that
        // is the point.
        let window = match kind {
            Kind::TinyWindows => 1,
            _ => FIRST_WINDOW,
        };
        let settings = [&[0, 1, 0, 0, 0, 0, 0, INITIAL_WINDOW_SIZE], &window.to_be_bytes()[..]].concat();
        let settings = frame(SETTINGS, 0, 0, &settings);
        let hello = [PREFACE, &settings, &frame(WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes())].concat();
        // Whoever cannot write any more has been cut off: who reads will see it.
        let _ = writing.write_all(&hello).await;
        match kind {
            Kind::SlowHeader => {
                let begun = frame(HEADERS, END_STREAM, 1, &block(asking));
                http1::write(writing, &begun, &[], Duration::from_secs(3600)).await;
            }
            Kind::HugeHeader => {
                let begun = frame(HEADERS, END_STREAM, 1, &block(asking));
                let field = block(&[("x", "x".repeat(100))]).repeat(100);
                http1::write(writing, &begun, &frame(CONTINUATION, 0, 1, &field), Duration::ZERO).await;
            }
            Kind::EndlessFrames => {
                // One request, so that it is no connection on which nothing was ever asked.
                let asked = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(asking));
                let some = [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])].concat();
                http1::write(writing, &asked, &some.repeat(TOGETHER), Duration::ZERO).await;
            }
            Kind::InvalidFrames => {
                // A body that belongs to no request.
                let body = frame(DATA, 0, 0, b"for nobody");
                http1::write(writing, &body, &body, Duration::ZERO).await;
            }
            Kind::TooManyStreams => {
                streams(writing, |stream| frame(HEADERS, END_HEADERS, stream, &block(asking))).await
            }
            Kind::ResetStorm => {
                let and_reset = |stream| {
                    let asked = frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(asking));
                    [asked, frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
                };
                streams(writing, and_reset).await;
            }
            Kind::UnauthenticatedFlood | Kind::TinyWindows => {
                let asked = |stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(asking));
                streams(writing, asked).await;
            }
            Kind::HandshakeOnly | Kind::SlowBody | Kind::OversizedBatches => std::future::pending().await,
        }
    };
    tokio::select! {
        () = attack => {}
        () = listen(reading, tally) => {}
    }
}

/// Opens streams, one after the other, until there are no numbers left for them.
async fn streams(mut stream: impl AsyncWrite + Unpin, opened: impl Fn(u32) -> Vec<u8>) {
    let mut next = 1_u32;
    loop {
        let numbers = (0..TOGETHER).scan(next, |number, _| {
            let this = *number;
            *number = number.saturating_add(2);
            Some(this)
        });
        let frames: Vec<u8> = numbers.flat_map(&opened).collect();
        if stream.write_all(&frames).await.is_err() || stream.flush().await.is_err() {
            return std::future::pending().await;
        }
        next = next.saturating_add(2 * u32::try_from(TOGETHER).unwrap_or(u32::MAX));
    }
}

/// Counts answers, resets and the relay's last word, until the connection ends.
async fn listen(mut stream: impl AsyncRead + Unpin, tally: &Tally) {
    let mut payload = Vec::new();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let [high, middle, low, kind, ..] = head;
        payload.resize(u32::from_be_bytes([0, high, middle, low]) as usize, 0);
        if stream.read_exact(&mut payload).await.is_err() {
            return;
        }
        let word = |at: usize| payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        match kind {
            // The first field of an answer is its status, and hyper sends the head of an answer in one frame.
            HEADERS => tally.note(Reaction::Answered(status(&payload))),
            RST_STREAM => tally.note(Reaction::Reset(word(0).map_or(0, u32::from_be_bytes))),
            GOAWAY => tally.note(Reaction::GoneAway(word(4).map_or(0, u32::from_be_bytes))),
            _ => {}
        }
    }
}

/// The status at the beginning of an answer's header block: one of the static table (RFC 7541, appendix A), or its digits
/// under the name of the first of them. Zero where it is neither.
fn status(block: &[u8]) -> u16 {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        // The table has another size from here on.
        [0x20..=0x3f, rest @ ..] => status(rest),
        [indexed @ 0x88..=0x8e, ..] => INDEXED[usize::from(indexed - 0x88)],
        // With and without Huffman coding, of which only digits are needed here.
        [0x08 | 0x48, 3, digits @ ..] => number(digits.iter().take(3).map(|digit| digit.wrapping_sub(b'0'))),
        [0x08 | 0x48, length, coded @ ..] if *length >= 0x80 => {
            let length = usize::from(length & 0x7f);
            number(digits_of(&coded[..coded.len().min(length)]))
        }
        _ => 0,
    }
}

fn number(digits: impl Iterator<Item = u8>) -> u16 {
    digits.fold(0, |number, digit| number * 10 + u16::from(digit))
}

/// Huffman-coded digits (RFC 7541, appendix B): 0 to 2 have five bits, the others six.
fn digits_of(coded: &[u8]) -> impl Iterator<Item = u8> {
    let mut bits = coded.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut take =
        move |count: usize, from: u8| bits.by_ref().take(count).fold(from, |code, bit| code << 1 | bit);
    (0..3).map(move |_| match take(5, 0) {
        code @ 0..=2 => code,
        code => take(1, code).saturating_sub(0x19) + 3,
    })
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block in which every field is written out (RFC 7541 section 6.2.2). None of them is longer than 126 bytes.
fn block(fields: &[(&str, String)]) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap_or(u8::MAX).min(126);
    let mut block = Vec::new();
    for (name, value) in fields {
        block.extend([&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat());
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_status_of_an_answer() {
        // As hyper's encoder writes them: 429 and 401 with Huffman coding, 404 by its index.
        assert_eq!(status(&[0x8d, 0x5f]), 404);
        assert_eq!(status(&[0x48, 3, b'4', b'2', b'9']), 429);
        // 4 is 011010, 2 is 00010, 9 is 011111; 0 is 00000, 1 is 00001.
        assert_eq!(status(&[0x48, 0x83, 0b0110_1000, 0b0100_1111, 0b1111_1111]), 429);
        assert_eq!(status(&[0x48, 0x82, 0b0110_1000, 0b0000_0001]), 401);
        assert_eq!(status(&[]), 0);
    }
}
