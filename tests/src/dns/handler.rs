//! One query, one answer.

use std::sync::Arc;

use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::Record;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::sync::watch;

use super::records::{Answer, soa};
use super::{Queries, Records, Trouble};

/// For how many seconds a name may be taken as absent when no records say otherwise.
const ABSENT_TTL: u32 = 5;

pub(super) struct Handler {
    pub(super) own: Records,
    pub(super) shared: Records,
    pub(super) trouble: Arc<watch::Sender<Option<Trouble>>>,
    pub(super) queries: Arc<watch::Sender<Queries>>,
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let Some(answer) = self.answer(request) else {
            return nothing(&request.metadata);
        };
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        metadata.response_code = answer.code;

        // As much over UDP as the asker takes, which is 512 bytes where it does not say; the rest is cut off and
        // the asker comes again over TCP.
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload().max(512));
            edns
        });
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let message = builder.build(metadata, &answer.records, [], &answer.soa, []);
        match response.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "a DNS answer could not be sent");
                nothing(&request.metadata)
            }
        }
    }
}

/// The parts of a message that is sent back.
struct Sent {
    code: ResponseCode,
    records: Vec<Record>,
    soa: Option<Record>,
}

impl Sent {
    const fn code(code: ResponseCode) -> Self {
        Self { code, records: Vec::new(), soa: None }
    }
}

impl Handler {
    /// Counts the query and decides; nothing means silence.
    fn answer(&self, request: &Request) -> Option<Sent> {
        if request.metadata.op_code != OpCode::Query {
            return Some(Sent::code(ResponseCode::NotImp));
        }
        let Ok(info) = request.request_info() else {
            return Some(Sent::code(ResponseCode::FormErr));
        };
        let (name, kind) = (info.query.original().name(), info.query.query_type());
        self.queries.send_modify(|queries| {
            *queries.entry((info.query.name().to_string(), kind)).or_default() += 1;
        });
        let absent = Answer::Trouble(Trouble::NxDomain);
        let answer = match *self.trouble.borrow() {
            Some(trouble) => Answer::Trouble(trouble),
            None => self
                .own
                .answer(name, kind)
                .or_else(|| self.shared.answer(name, kind))
                .or_else(|| self.own.answer_between(name))
                .or_else(|| self.shared.answer_between(name))
                .unwrap_or(absent),
        };
        match answer {
            Answer::Records(records) => Some(Sent { records, ..Sent::code(ResponseCode::NoError) }),
            Answer::NoData(ttl) => {
                Some(Sent { soa: Some(soa(name, ttl)), ..Sent::code(ResponseCode::NoError) })
            }
            Answer::Trouble(Trouble::NxDomain) => {
                Some(Sent { soa: Some(soa(name, ABSENT_TTL)), ..Sent::code(ResponseCode::NXDomain) })
            }
            Answer::Trouble(Trouble::ServFail) => Some(Sent::code(ResponseCode::ServFail)),
            Answer::Trouble(Trouble::Silence) => None,
        }
    }
}

/// What the server is told where nothing was sent.
fn nothing(request: &Metadata) -> ResponseInfo {
    let metadata = Metadata::new(request.id, MessageType::Response, request.op_code);
    Header { metadata, counts: HeaderCounts::default() }.into()
}
