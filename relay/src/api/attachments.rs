//! Attachments: reserved by whoever may submit, brought in chunks, fetched in ranges. What follows the reservation, whoever
//! knows the attachment's id may do.

use std::sync::Arc;

use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use postrider_common::AttachmentId;
use postrider_common::wire::attachments::{
    AttachmentStatus, CONTENT_DIGEST, ReserveAttachment, parse_content_digest,
};

use super::body::RequestBody;
use super::held::holding;
use super::problem::ApiError;
use super::router::{Reply, member, read_json, short};
use super::{Shared, json};
use crate::admission::Admission;
use crate::attachments::Bringer;
use crate::store::Chunk;

/// What is under an address never changes, once there is anything.
const TAG: HeaderValue = HeaderValue::from_static("\"1\"");

type Answer = Result<Response<Reply>, ApiError>;

/// Answers a request below `/v1/attachments`; `rest` is what follows in its path.
pub(super) async fn dispatch(
    api: &Shared,
    rest: &str,
    request: Request<RequestBody>,
    client: &Arc<Admission>,
) -> Answer {
    api.rate.take(&client.address(), 1)?;
    let parts: Vec<&str> = rest.split('/').skip(1).collect();
    let method = request.method().clone();
    match (parts.as_slice(), method) {
        ([], Method::POST) => reserve(api, request, client).await,
        ([], _) => Err(ApiError::MethodNotAllowed { allow: "POST" }),
        ([id], Method::GET | Method::HEAD) => fetch(api, id, &request, client).await,
        ([id], Method::DELETE) => {
            api.attachments.abandon(parse(id)?).await?;
            Ok(no_content())
        }
        ([_], _) => Err(ApiError::MethodNotAllowed { allow: "GET, HEAD, DELETE" }),
        ([id, "chunks"], Method::GET) => status(api, parse(id)?, StatusCode::OK).await,
        ([_, "chunks"], _) => Err(ApiError::MethodNotAllowed { allow: "GET" }),
        ([id, "chunks", number], Method::PUT) => {
            let number = number.parse().map_err(|_| ApiError::NoSuchChunk)?;
            take(api, parse(id)?, number, request, client).await
        }
        ([_, "chunks", _], _) => Err(ApiError::MethodNotAllowed { allow: "PUT" }),
        _ => Err(ApiError::NotFound),
    }
}

fn parse(id: &str) -> Result<AttachmentId, ApiError> {
    id.parse().map_err(|_| ApiError::UnknownAttachment)
}

async fn reserve(api: &Shared, request: Request<RequestBody>, client: &Admission) -> Answer {
    let bringer = match member(api, request.headers()).await? {
        Some(member) => {
            api.member_rate.take(&member, 1)?;
            Bringer::Member(member)
        }
        None => Bringer::Client(client.address()),
    };
    let ReserveAttachment { length, chunk_length } = read_json(api, request).await?;
    let state = api.attachments.reserve(length, chunk_length, &bringer).await?;
    status(api, state.attachment.id, StatusCode::CREATED).await
}

async fn status(api: &Shared, id: AttachmentId, code: StatusCode) -> Answer {
    let (attachment, missing) = api.attachments.missing(id).await?;
    let mut response = json(&AttachmentStatus::new(&attachment, missing));
    *response.status_mut() = code;
    Ok(short(response))
}

async fn take(
    api: &Shared,
    id: AttachmentId,
    number: u32,
    request: Request<RequestBody>,
    client: &Admission,
) -> Answer {
    let digest = content_digest(request.headers())?;
    let state = api.attachments.state(id).await?;
    let (_, bytes) = state.attachment.chunk(number).ok_or(ApiError::NoSuchChunk)?;
    api.uploads.take(&client.address(), (bytes as usize).div_ceil(1024))?;
    let _turn = api.uploading.admit(client.address()).ok_or(ApiError::Unavailable)?;
    let bringer = Bringer::Client(client.address());
    api.attachments.receive(id, Chunk { number, digest }, &bringer, request.into_body()).await?;
    Ok(no_content())
}

fn content_digest(headers: &HeaderMap) -> Result<[u8; 32], ApiError> {
    let values = headers.get_all(CONTENT_DIGEST).iter().filter_map(|value| value.to_str().ok());
    parse_content_digest(values).ok_or_else(|| {
        ApiError::Malformed(
            "the header `Content-Digest: sha-256=:…:` with the chunk's SHA-256 is missing".into(),
        )
    })
}

async fn fetch(api: &Shared, id: &str, request: &Request<RequestBody>, client: &Admission) -> Answer {
    let turn = api.downloading.admit(client.address()).ok_or(ApiError::Unavailable)?;
    if !is_fair(api.downloading.of_one(client.address()), api.attachments.readers_left()) {
        return Err(ApiError::Unavailable);
    }
    let reader = api.attachments.read(parse(id)?).await?;
    let length = reader.attachment().length;
    let (start, bytes) = match Asked::of(request.headers(), length) {
        Asked::All => (0, length),
        Asked::Part { start, bytes } => (start, bytes),
        Asked::Nothing => return Err(ApiError::RangeNotSatisfiable { length }),
    };
    let mut response = match *request.method() {
        Method::HEAD => short(Response::new(Full::default())),
        // However slowly it is taken, one address leaves room for others.
        _ => Response::new(holding(reader.bytes_while_taken(start, bytes), turn)),
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(ETAG, TAG);
    if bytes < length {
        let last = start + bytes - 1;
        if let Ok(range) = HeaderValue::try_from(format!("bytes {start}-{last}/{length}")) {
            headers.insert(CONTENT_RANGE, range);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// Whether one address may read so many attachments at a time while there is room for `left` readers: a quarter of that, or
/// one. So those who take what they can leave some to whoever comes after them.
fn is_fair(of_one: usize, left: usize) -> bool {
    of_one <= (left / 4).max(1)
}

/// Which bytes are asked for (RFC 9110 section 14). Of several ranges, and of what is none, all is sent, as it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    All,
    Part { start: u64, bytes: u64 },
    Nothing,
}

impl Asked {
    fn of(headers: &HeaderMap, length: u64) -> Self {
        if headers.get(IF_RANGE).is_some_and(|tag| tag != TAG) {
            return Self::All;
        }
        let mut ranges = headers.get_all(RANGE).iter();
        let range = ranges.next().filter(|_| ranges.next().is_none());
        range.and_then(|range| Self::parse(range.to_str().ok()?, length)).unwrap_or(Self::All)
    }

    fn parse(range: &str, length: u64) -> Option<Self> {
        let (unit, range) = range.split_once('=')?;
        let (first, last) = range.trim().split_once('-')?;
        if !unit.eq_ignore_ascii_case("bytes") || [first, last].iter().any(|number| !is_number(number)) {
            return None;
        }
        // A number that is too large for us lies behind every end.
        let number = |digits: &str| digits.parse().unwrap_or(u64::MAX);
        let (start, end) = match (first, last) {
            ("", "") => return None,
            ("", suffix) => (length.saturating_sub(number(suffix)), length),
            (first, "") => (number(first), length),
            (first, last) if number(last) < number(first) => return None,
            (first, last) => (number(first), number(last).saturating_add(1).min(length)),
        };
        Some(if start < end { Self::Part { start, bytes: end - start } } else { Self::Nothing })
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn no_content() -> Response<Reply> {
    let mut response = short(Response::new(Full::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_addresses_do_not_keep_the_others_from_reading() {
        let mut left = 512;
        for address in 1..=20 {
            let reads = (1..=64).take_while(|of_one| is_fair(*of_one, left + 1 - of_one)).count();
            assert!(reads > 0, "{address}");
            left -= reads;
        }
        assert!(is_fair(1, left) && left > 0);
    }

    #[test]
    fn ranges_are_read_as_http_says() {
        let part = |start, bytes| Asked::Part { start, bytes };
        for (range, asked) in [
            ("bytes=0-9", part(0, 10)),
            ("Bytes=5-", part(5, 95)),
            ("bytes=-1", part(99, 1)),
            ("bytes=-1000", part(0, 100)),
            ("bytes=90-1000", part(90, 10)),
            ("bytes=99999999999999999999-", Asked::Nothing),
            ("bytes=100-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=9-5", Asked::All),
            ("bytes=-", Asked::All),
            ("bytes=0-1,5-6", Asked::All),
            ("bytes=+1-2", Asked::All),
            ("lines=0-1", Asked::All),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_static(range));
            assert_eq!(Asked::of(&headers, 100), asked, "{range}");
            headers.insert(IF_RANGE, HeaderValue::from_static("\"other\""));
            assert_eq!(Asked::of(&headers, 100), Asked::All, "{range}");
        }
    }
}
