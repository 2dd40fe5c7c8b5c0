//! Every message there is, behind one face, so that a rule can be checked for all of them.

use bytes::Bytes;
use postrider_common::wire::mailbox::{DeviceMessage, ServerMessage};
use postrider_common::wire::{WireError, forward, submit};
use postrider_common::{Draft, Envelope};

/// One kind of message.
pub(crate) struct Form {
    pub(crate) name: &'static str,
    /// Decodes and encodes again from the decoded fields. `None` where something in a batch was refused by itself,
    /// so that there is nothing to encode.
    pub(crate) redo: fn(&Bytes) -> Result<Option<Bytes>, WireError>,
}

pub(crate) const ENVELOPE: Form = Form {
    name: "envelope",
    redo: |bytes| {
        let draft = draft_of(&Envelope::decode(bytes.clone())?);
        Ok(Some(draft.finish().unwrap().encoded().clone()))
    },
};

pub(crate) const SUBMIT_REQUEST: Form = Form {
    name: "submit-request",
    redo: |bytes| {
        let items: Result<Vec<_>, _> = submit::decode_request(bytes)?.into_iter().collect();
        Ok(items.ok().map(|items| submit::encode_request(&items)))
    },
};

pub(crate) const SUBMIT_RESULTS: Form = Form {
    name: "submit-results",
    redo: |bytes| Ok(Some(submit::encode_results(&submit::decode_results(bytes)?))),
};

pub(crate) const FORWARD_REQUEST: Form = Form {
    name: "forward-request",
    redo: |bytes| {
        let items: Result<Vec<_>, _> = forward::decode_request(bytes)?.into_iter().collect();
        Ok(items.ok().map(|items| forward::encode_request(items.iter())))
    },
};

pub(crate) const FORWARD_OUTCOMES: Form = Form {
    name: "forward-outcomes",
    redo: |bytes| Ok(Some(forward::encode_outcomes(&forward::decode_outcomes(bytes)?))),
};

pub(crate) const SERVER_MESSAGE: Form =
    Form { name: "server-message", redo: |bytes| Ok(Some(ServerMessage::decode(bytes)?.encode())) };

pub(crate) const DEVICE_MESSAGE: Form =
    Form { name: "device-message", redo: |bytes| Ok(Some(DeviceMessage::decode(bytes)?.encode())) };

pub(crate) const ALL: [&Form; 7] = [
    &ENVELOPE,
    &SUBMIT_REQUEST,
    &SUBMIT_RESULTS,
    &FORWARD_REQUEST,
    &FORWARD_OUTCOMES,
    &SERVER_MESSAGE,
    &DEVICE_MESSAGE,
];

/// The fields of an envelope, to make it anew.
pub(crate) fn draft_of(envelope: &Envelope) -> Draft {
    Draft {
        id: *envelope.id(),
        mailbox: *envelope.mailbox(),
        device: envelope.device().copied(),
        expires_at: envelope.expires_at(),
        urgency: envelope.urgency(),
        header: envelope.header().clone(),
        body: envelope.body().clone(),
        attachments: envelope.attachments().to_vec(),
    }
}
