//! What the tiny relay does with attachments: all in memory, and nothing is checked.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use http::header::RANGE;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use postrider_common::wire::attachments::{AttachmentStatus, ReserveAttachment};
use postrider_common::{Attachment, AttachmentId};

use super::{body, refuse, respond};

/// The attachments that it has, in the order in which they were reserved.
#[derive(Default)]
pub(crate) struct Kept(Mutex<Vec<Reserved>>);

struct Reserved {
    attachment: Attachment,
    chunks: BTreeMap<u32, Bytes>,
}

impl Kept {
    /// What it has of each: its id, and the numbers of the chunks.
    pub(crate) fn ids(&self) -> Vec<(AttachmentId, Vec<u32>)> {
        let kept = self.0.lock().unwrap();
        kept.iter().map(|one| (one.attachment.id, one.chunks.keys().copied().collect())).collect()
    }

    /// Forgets everything, as when its time is over.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Loses each chunk with that number.
    pub(crate) fn lose(&self, number: u32) {
        for one in self.0.lock().unwrap().iter_mut() {
            one.chunks.remove(&number);
        }
    }

    /// Changes a byte of each chunk with that number.
    pub(crate) fn damage(&self, number: u32) {
        for one in self.0.lock().unwrap().iter_mut() {
            if let Some(chunk) = one.chunks.get_mut(&number) {
                let mut bytes = chunk.to_vec();
                bytes[0] ^= 1;
                *chunk = bytes.into();
            }
        }
    }
}

pub(super) async fn answer(request: Request<Incoming>, kept: &Kept) -> Response<Full<Bytes>> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let range = request.headers().get(RANGE).map(|range| range.to_str().unwrap().to_owned());
    let parts: Vec<_> = path.split('/').skip(3).collect();
    let body = body(request).await;
    let mut all = kept.0.lock().unwrap();
    if parts.is_empty() {
        let ReserveAttachment { length, chunk_length } = serde_json::from_slice(&body).unwrap();
        let attachment = Attachment { id: AttachmentId::random(), length, chunk_length };
        all.push(Reserved { attachment, chunks: BTreeMap::new() });
        return status(201, all.last().unwrap());
    }
    let id: AttachmentId = parts[0].parse().unwrap();
    let Some(at) = all.iter().position(|one| one.attachment.id == id) else {
        return refuse("unknown-attachment", 404);
    };
    match (method, &parts[1..]) {
        (Method::GET, ["chunks"]) => status(200, &all[at]),
        (Method::PUT, ["chunks", number]) => {
            all[at].chunks.insert(number.parse().unwrap(), body);
            respond(204, "", "")
        }
        (Method::GET, []) => {
            let content: Vec<u8> = all[at].chunks.values().flatten().copied().collect();
            let range = range.unwrap();
            let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            respond(206, "application/octet-stream", content[first..=last].to_vec())
        }
        (Method::DELETE, []) => {
            all.remove(at);
            respond(204, "", "")
        }
        other => panic!("the documents name no {other:?}"),
    }
}

fn status(code: u16, one: &Reserved) -> Response<Full<Bytes>> {
    let missing = (0..one.attachment.chunks()).filter(|number| !one.chunks.contains_key(number));
    let missing = missing.map(|number| (number, number)).collect();
    let json = serde_json::to_string(&AttachmentStatus::new(&one.attachment, missing)).unwrap();
    respond(code, "application/json", json)
}
