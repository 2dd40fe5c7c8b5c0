//! The PROXY protocol: what a load balancer that passes connections on says of where they have come from.
//!
//! The header is the first thing on the connection, before TLS. It is taken from the proxies that are configured, and from
//! nobody else; of those it is demanded. `proxy-protocol.txt` of HAProxy has both forms: version 2 in bytes, and version 1,
//! a line of text, which is all that some proxies know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What every header of version 2 begins with: nothing that any other protocol begins with. No line of version 1 is as short.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family and transport, and the length of the rest.
const FIXED: usize = 16;
/// The longest rest of a header that is read. Addresses take 36 bytes; what comes after them is not needed here, and
/// proxies that are told to say much, such as a client's certificate, stay far below this.
const MOST: usize = 4096;

/// What every line of version 1 begins with,
const LINE: &[u8; 6] = b"PROXY ";
/// how it ends,
const LINE_END: &[u8; 2] = b"\r\n";
/// and how long it is at most.
const LONGEST_LINE: usize = 107;

const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
/// The type of the item that holds a checksum of the header, and its length.
const CHECKSUM: (u8, usize) = (0x03, 4);

/// Why a connection that has come through a proxy is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("it does not begin with a header of the PROXY protocol")]
    Missing,
    #[error("its header is of version {0} of the PROXY protocol; 1 and 2 are known")]
    Version(u8),
    #[error("its header is a line of the PROXY protocol, version 1, that names no client over TCP4 or TCP6")]
    Line,
    #[error("its header has the command {0}, which there is not")]
    Command(u8),
    #[error("its header is about no TCP connection over IPv4 or IPv6 (family and transport {0:#04x})")]
    Family(u8),
    #[error("its header has {0} bytes; at most {MOST} are read")]
    TooLong(usize),
    #[error("its header ends before what it announces")]
    Short,
    #[error("its header's checksum does not fit")]
    Checksum,
    #[error("it ended before its header did")]
    Ended,
    #[error("it ended without a word")]
    Silent,
    #[error("its header cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads the header, and not a byte more. The client's address; `None` if the proxy itself is the client, as for its
/// health checks. How long that takes is the caller's to limit.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>, HeaderError> {
    let mut header = vec![0; SIGNATURE.len()];
    let mut filled = 0;
    while filled < header.len() {
        match stream.read(&mut header[filled..]).await? {
            0 if filled == 0 => return Err(HeaderError::Silent),
            0 => return Err(HeaderError::Ended),
            read => filled += read,
        }
        // What cannot become a header is not waited for.
        let begun = &header[..filled];
        if !is_beginning(begun, SIGNATURE) && !is_beginning(begun, LINE) {
            return Err(HeaderError::Missing);
        }
    }
    if header.starts_with(LINE) {
        while !header.ends_with(LINE_END) {
            if header.len() == LONGEST_LINE {
                return Err(HeaderError::Line);
            }
            let length = header.len();
            extend(stream, &mut header, length + 1).await?;
        }
        return client_of_line(&header).map(Some);
    }
    extend(stream, &mut header, FIXED).await?;
    let whole = FIXED + rest(&header)?;
    extend(stream, &mut header, whole).await?;
    client(&header)
}

/// Whether this much of a header agrees with how it has to begin.
fn is_beginning(begun: &[u8], expected: &[u8]) -> bool {
    begun.iter().zip(expected).all(|(byte, expected)| byte == expected)
}

/// Reads until so many bytes are there.
async fn extend(
    stream: &mut (impl AsyncRead + Unpin),
    header: &mut Vec<u8>,
    length: usize,
) -> Result<(), HeaderError> {
    let before = header.len();
    header.resize(length, 0);
    match stream.read_exact(&mut header[before..]).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(HeaderError::Ended),
        Err(error) => Err(error.into()),
    }
}

/// Who is connected, by a line of version 1: `PROXY TCP4 <client> <proxy> <client's port> <proxy's port>`.
fn client_of_line(line: &[u8]) -> Result<IpAddr, HeaderError> {
    let line = line.strip_suffix(LINE_END).and_then(|line| std::str::from_utf8(line).ok());
    let words: Vec<_> = line.unwrap_or_default().split(' ').collect();
    let [_, family, client, proxy, ports @ ..] = words.as_slice() else { return Err(HeaderError::Line) };
    let is_port = |port: &&str| port.parse::<u16>().is_ok();
    let (client, proxy) = (client.parse::<IpAddr>(), proxy.parse::<IpAddr>());
    match (*family, client, proxy) {
        ("TCP4", Ok(client @ IpAddr::V4(_)), Ok(IpAddr::V4(_)))
        | ("TCP6", Ok(client @ IpAddr::V6(_)), Ok(IpAddr::V6(_)))
            if ports.len() == 2 && ports.iter().all(is_port) =>
        {
            Ok(client)
        }
        _ => Err(HeaderError::Line),
    }
}

/// How many bytes come after the fixed part of version 2.
fn rest(fixed: &[u8]) -> Result<usize, HeaderError> {
    let Some([.., version_and_command, _, high, low]) = fixed.get(..FIXED) else {
        return Err(HeaderError::Short);
    };
    if version_and_command >> 4 != 2 {
        return Err(HeaderError::Version(version_and_command >> 4));
    }
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > MOST { Err(HeaderError::TooLong(length)) } else { Ok(length) }
}

/// Who is connected, by a whole header of version 2.
fn client(header: &[u8]) -> Result<Option<IpAddr>, HeaderError> {
    let rest = rest(header)?;
    let body = header.get(FIXED..FIXED + rest).ok_or(HeaderError::Short)?;
    let (source, addresses) = match (header[12] & 0x0f, header[13]) {
        // Whatever it says of addresses is to be passed over.
        (0, _) => return Ok(None),
        (1, TCP_OVER_IPV4) => {
            (body.first_chunk().map(|octets: &[u8; 4]| IpAddr::V4(Ipv4Addr::from(*octets))), 12)
        }
        (1, TCP_OVER_IPV6) => {
            (body.first_chunk().map(|octets: &[u8; 16]| IpAddr::V6(Ipv6Addr::from(*octets))), 36)
        }
        (1, family) => return Err(HeaderError::Family(family)),
        (command, _) => return Err(HeaderError::Command(command)),
    };
    let items = body.get(addresses..).ok_or(HeaderError::Short)?;
    check_items(header, FIXED + addresses, items)?;
    source.map(Some).ok_or(HeaderError::Short)
}

/// What comes after the addresses is passed over; but it has to be whole, and a checksum has to fit.
fn check_items(header: &[u8], mut at: usize, mut items: &[u8]) -> Result<(), HeaderError> {
    while let Some(([kind, high, low], after)) = items.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, next) = after.split_at_checked(length).ok_or(HeaderError::Short)?;
        let start = at + 3;
        if *kind == CHECKSUM.0 {
            // It is computed over the whole header, with zeros in its own place.
            let own = start..start + CHECKSUM.1;
            let zeroed =
                header.iter().enumerate().map(|(index, byte)| if own.contains(&index) { 0 } else { *byte });
            if value != crc32c(zeroed).to_be_bytes() {
                return Err(HeaderError::Checksum);
            }
        }
        (at, items) = (start + length, next);
    }
    if items.is_empty() { Ok(()) } else { Err(HeaderError::Short) }
}

/// CRC-32C (Castagnoli), bit by bit: a header is short.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32| (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
    !bytes.fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, body].concat()
    }

    fn v4() -> Vec<u8> {
        [&[192, 0, 2, 7][..], &[198, 51, 100, 1], &[0xd4, 0x31], &[0x01, 0xbb]].concat()
    }

    fn v6() -> Vec<u8> {
        let source: Ipv6Addr = "2001:db8::7".parse().unwrap();
        [&source.octets()[..], &[0; 16], &[0, 1, 0, 2]].concat()
    }

    fn item(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
    }

    fn with_checksum(body: &[u8]) -> Vec<u8> {
        let mut whole = header(1, TCP_OVER_IPV4, &[body, &item(0x03, &[0; 4])].concat());
        let checksum = crc32c(whole.iter().copied());
        let start = whole.len() - 4;
        whole[start..].copy_from_slice(&checksum.to_be_bytes());
        whole
    }

    /// A connection on which nothing comes.
    struct Silence;

    impl AsyncRead for Silence {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Pending
        }
    }

    /// What is read of `bytes`, and what is left of them.
    fn taken(mut bytes: &[u8]) -> (Result<Option<IpAddr>, String>, usize) {
        let reading = read(&mut bytes);
        let read = futures_util::FutureExt::now_or_never(reading).expect("bytes in memory are there at once");
        (read.map_err(|error| error.to_string()), bytes.len())
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, B.4, and the customary check value.
        assert_eq!(crc32c([0; 32].into_iter()), 0x8a91_36aa);
        assert_eq!(crc32c([0xff; 32].into_iter()), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
    }

    #[test]
    fn a_client_is_who_the_header_says_and_nothing_more_is_read() {
        let noise = [item(0x01, b"h2"), item(0x04, &[0; 40]), item(0xee, &[1; 200])].concat();
        for (bytes, expected) in [
            (header(1, TCP_OVER_IPV4, &v4()), Some("192.0.2.7")),
            (header(1, TCP_OVER_IPV6, &v6()), Some("2001:db8::7")),
            (header(1, TCP_OVER_IPV4, &[v4(), noise.clone()].concat()), Some("192.0.2.7")),
            (header(1, TCP_OVER_IPV6, &[v6(), noise].concat()), Some("2001:db8::7")),
            (with_checksum(&v4()), Some("192.0.2.7")),
            // The proxy itself: of that nothing but the length counts.
            (header(0, 0, b""), None),
            (header(0, TCP_OVER_IPV4, &v4()), None),
            (header(0, 0xff, b"whatever"), None),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 54321 443\r\n".to_vec(), Some("192.0.2.7")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 54321 443\r\n".to_vec(), Some("2001:db8::7")),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(taken(&[&bytes[..], b"\x16\x03\x01"].concat()), (Ok(expected), 3), "{bytes:x?}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused_with_a_reason() {
        let mut damaged = with_checksum(&v4());
        damaged[16] = 10;
        let tail = |bytes: &[u8]| header(1, TCP_OVER_IPV4, &[&v4()[..], bytes].concat());
        let long = header(1, TCP_OVER_IPV4, &[v4(), item(4, &[0; MOST])].concat());
        for (bytes, expected) in [
            (Vec::new(), "without a word"),
            (b"\x16\x03\x01\x02\x00\x01".to_vec(), "does not begin with a header"),
            (b"PROXY UNKNOWN\r\n".to_vec(), "names no client"),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 54321\r\n".to_vec(), "names no client"),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 54321 65536\r\n".to_vec(), "names no client"),
            (b"PROXY TCP4 2001:db8::7 2001:db8::1 54321 443\r\n".to_vec(), "names no client"),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 54321 443".to_vec(), "ended before its header"),
            ([&b"PROXY TCP4 "[..], &[b'1'; 200]].concat(), "names no client"),
            (b"PROXY TCP4 \xff\xff\xff\r\n".to_vec(), "names no client"),
            (SIGNATURE.to_vec(), "ended before its header"),
            (header(1, TCP_OVER_IPV4, &v4())[..20].to_vec(), "ended before its header"),
            ([&SIGNATURE[..], &[0x31, 0x11, 0, 12], &v4()].concat(), "version 3"),
            ([&SIGNATURE[..], &[0x11, 0x11, 0, 12], &v4()].concat(), "of version 1 of"),
            (header(2, TCP_OVER_IPV4, &v4()), "the command 2"),
            (header(1, 0x00, &v4()), "no TCP connection over IPv4 or IPv6 (family and transport 0x00)"),
            (header(1, 0x12, &v4()), "0x12"),
            (header(1, 0x31, &[0; 216]), "0x31"),
            (header(1, TCP_OVER_IPV4, &v4()[..11]), "ends before what it announces"),
            (header(1, TCP_OVER_IPV6, &v4()), "ends before what it announces"),
            (header(1, TCP_OVER_IPV4, b""), "ends before what it announces"),
            (tail(&[4]), "ends before what it announces"),
            (tail(&[4, 0, 2, 0]), "ends before what it announces"),
            (tail(&[4, 0xff, 0xff]), "ends before what it announces"),
            (tail(&item(0x03, &[0, 0, 0])), "checksum"),
            (tail(&item(0x03, &[0; 4])), "checksum"),
            (damaged, "checksum"),
            (long, "4111 bytes; at most 4096"),
        ] {
            let (result, _) = taken(&bytes);
            let error = result.expect_err(expected);
            assert!(error.contains(expected), "{bytes:x?}: {error}");
        }
    }

    #[test]
    fn what_cannot_become_a_header_is_not_waited_for() {
        for begun in [&b"\x16"[..], b"\r\n\r\n\0\r\nQUIX", b"POST", b"GET /"] {
            // A connection on which nothing more comes, and that stays open.
            let mut stream = begun.chain(Silence);
            let reading = futures_util::FutureExt::now_or_never(read(&mut stream));
            assert!(matches!(reading, Some(Err(HeaderError::Missing))), "{begun:?}: {reading:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = taken(&bytes);
        }

        #[test]
        fn no_body_is_too_odd(command in 0..3u8, family: u8, body in prop::collection::vec(any::<u8>(), 0..400)) {
            let bytes = header(command, family, &body);
            let (result, left) = taken(&[&bytes[..], b"TLS"].concat());
            prop_assert!(result.is_err() || left == 3, "{} bytes are left", left);
        }
    }
}
