//! Which web pages may call the relay from a browser (CORS, as the Fetch standard has it).
//!
//! A browser asks on its user's behalf whether a page of another origin may read what the relay answers. There are no
//! cookies here that a page could misuse: every call that matters carries a token. So this protects users of browsers
//! from pages that their administrator does not know, and nobody else; other clients have no origin and are never asked.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

/// What a page may use. A method that a path does not have is refused by the path.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE");
/// What a page may send.
const HEADERS: HeaderValue =
    HeaderValue::from_static("Authorization, Content-Digest, Content-Type, If-Range, Range");
/// What a page may read of an answer beside its body and type.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("Allow, Content-Range, ETag, Retry-After, WWW-Authenticate");
/// For how many seconds a browser remembers the answer to a preflight: as long as browsers allow.
const REMEMBERED: HeaderValue = HeaderValue::from_static("7200");
/// In the configuration: pages of every origin.
const ANY: &str = "*";

/// Origins, as browsers write them.
#[derive(Debug)]
pub(super) struct Origins(Vec<String>);

impl Origins {
    pub(super) const fn new(allowed: Vec<String>) -> Self {
        Self(allowed)
    }

    /// What is said to the page that asks, if it may call: its origin.
    pub(super) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        let is_allowed = |allowed: &String| allowed == ANY || allowed.as_bytes() == origin.as_bytes();
        self.0.iter().any(is_allowed).then(|| origin.clone())
    }

    /// The answer to a browser that asks beforehand whether a page may call.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let asks = request.method() == Method::OPTIONS
            && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !asks || self.allowed(request.headers()).is_none() {
            return None;
        }
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, REMEMBERED);
        Some(response)
    }

    /// Adds to an answer what lets the page read it. Nothing for a relay that knows no pages.
    pub(super) fn mark(&self, origin: Option<HeaderValue>, headers: &mut HeaderMap) {
        if self.0.is_empty() {
            return;
        }
        // A cache must not show one page what was said to another.
        headers.append(VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "https://chat.example";

    fn ask(allowed: &[&str], method: &str, headers: &[(&str, &str)]) -> (bool, HeaderMap) {
        let origins = Origins::new(allowed.iter().map(|&origin| origin.into()).collect());
        let mut request = Request::builder().method(method).uri("/v1/sessions");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let preflight = origins.preflight(&request);
        let is_preflight = preflight.is_some();
        let mut response = preflight.unwrap_or_default();
        origins.mark(origins.allowed(request.headers()), response.headers_mut());
        (is_preflight, response.headers().clone())
    }

    #[test]
    fn a_page_is_let_in_by_its_whole_origin() {
        for (allowed, origin, is_let_in) in [
            (&[PAGE][..], PAGE, true),
            (&["https://other.example", PAGE], PAGE, true),
            (&["*"], PAGE, true),
            (&["*"], "null", true),
            (&[], PAGE, false),
            (&[PAGE], "https://chat.example.org", false),
            (&[PAGE], "http://chat.example", false),
            (&[PAGE], "https://chat.example:8443", false),
            (&[PAGE], "null", false),
        ] {
            let (_, headers) = ask(allowed, "GET", &[("origin", origin)]);
            let told = headers.get(ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(
                told.map(HeaderValue::as_bytes),
                is_let_in.then_some(origin.as_bytes()),
                "{allowed:?}"
            );
            assert_eq!(headers.contains_key(VARY), !allowed.is_empty());
            assert_eq!(headers.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS), is_let_in);
        }
    }

    #[test]
    fn only_a_known_page_that_asks_beforehand_is_answered() {
        let (asks, page) = (("access-control-request-method", "POST"), ("origin", PAGE));
        assert!(ask(&[PAGE], "OPTIONS", &[page, asks]).0);
        assert!(!ask(&[PAGE], "OPTIONS", &[page]).0);
        assert!(!ask(&[PAGE], "POST", &[page, asks]).0);
        assert!(!ask(&[PAGE], "OPTIONS", &[asks]).0);
        assert!(!ask(&[], "OPTIONS", &[page, asks]).0);
        assert_eq!(ask(&[PAGE], "GET", &[]).1.get(ACCESS_CONTROL_ALLOW_ORIGIN), None);
    }
}
