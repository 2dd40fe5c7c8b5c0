//! What the protocol may add to is written by apps so that it may: none of this compiles. Each is tried without what is wrong
//! with it too, so that it is not for another reason.

macro_rules! grows {
    ($($name:ident: $unfinished:literal $finished:literal;)*) => {$(
        #[doc = concat!("```compile_fail\nuse postrider_client::*;\nfn take(it: ", stringify!($name), ") { ", $unfinished, " }\n```")]
        #[doc = concat!("```\nuse postrider_client::*;\nfn take(it: ", stringify!($name), ") { ", $finished, " }\n```")]
        pub struct $name;
    )*};
}

grows! {
    RelayInfo:
        "let RelayInfo { domain, client_protocol, federation_protocol, software, limits, policies } = it;"
        "let RelayInfo { domain, client_protocol, federation_protocol, software, limits, policies, .. } = it;";
    RelayLimits:
        "let RelayLimits { body_bytes, header_bytes, lifetime_seconds, batch_envelopes, batch_bytes, mailbox_entries,
         mailbox_bytes, devices, attachment_bytes, mailbox_attachment_bytes } = it;"
        "let RelayLimits { body_bytes, header_bytes, lifetime_seconds, batch_envelopes, batch_bytes, mailbox_entries,
         mailbox_bytes, devices, attachment_bytes, mailbox_attachment_bytes, .. } = it;";
    RelayPolicies:
        "let RelayPolicies { registration, submission } = it;"
        "let RelayPolicies { registration, submission, .. } = it;";
    Registered:
        "let Registered { created } = it;"
        "let Registered { created, .. } = it;";
    Device:
        "let Device { device, name, last_contact, removed_at } = it;"
        "let Device { device, name, last_contact, removed_at, .. } = it;";
    TrackingStatus:
        "let TrackingStatus { state, destination, queued_at, attempts, reason, next_attempt_at, ended_at } = it;"
        "let TrackingStatus { state, destination, queued_at, attempts, reason, next_attempt_at, ended_at, .. } = it;";
    TrackingState:
        "use TrackingState::*; match it { Queued | Stored | Failed | Expired | Unknown => {} }"
        "use TrackingState::*; match it { Queued | Stored | Failed | Expired | Unknown => {} _ => {} }";
    Problem:
        "let Problem { kind, title, status, detail, domain } = it;"
        "let Problem { kind, title, status, detail, domain, .. } = it;";
    SubmitResult:
        "use SubmitResult::*; match it { Stored | Queued { .. } | Refused { .. } => {} }"
        "use SubmitResult::*; match it { Stored | Queued { .. } | Refused { .. } => {} _ => {} }";
    Entry:
        "let Entry { id, envelope } = it;"
        "let Entry { id, envelope, .. } = it;";
    AttachmentStatus:
        "let AttachmentStatus { id, length, chunk_length, missing } = it;"
        "let AttachmentStatus { id, length, chunk_length, missing, .. } = it;";
}
