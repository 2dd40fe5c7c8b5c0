//! What the server says.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

pub(super) type Answer = Response<Full<Bytes>>;

pub(super) fn contacts(payload: &Value) -> Vec<String> {
    let contacts = payload["contact"].as_array().into_iter().flatten();
    contacts.filter_map(|contact| contact.as_str().map(str::to_owned)).collect()
}

pub(super) fn plain(status: StatusCode, body: &Value) -> Answer {
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(Full::from(body.to_string())).unwrap()
}

pub(super) fn problem(status: u16, kind: &str, detail: &str) -> Answer {
    let answer = Response::builder().status(status).header("content-type", "application/problem+json");
    answer.body(Full::from(about_problem(status, kind, detail).to_string())).unwrap()
}

pub(super) fn about_problem(status: u16, kind: &str, detail: &str) -> Value {
    json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail, "status": status })
}

pub(super) fn with(mut answer: Answer, name: &'static str, value: &str) -> Answer {
    answer.headers_mut().insert(name, value.parse().unwrap());
    answer
}
