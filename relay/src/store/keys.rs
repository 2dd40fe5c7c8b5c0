//! The keys. All are in one ordered space, so that a group of operations is one atomic batch; the first byte is the
//! kind. Numbers are big-endian, so that they sort.
//!
//! | kind | rest of the key | value |
//! |---|---|---|
//! | `!` | `format`, `secret` or `floor` | the store's format number; the key of its marks; [`FloorRecord`](super::records::FloorRecord) |
//! | `M` | mailbox (32) | [`MailboxRecord`](super::records::MailboxRecord) |
//! | `E` | mailbox, device (32), entry (8) | [`EntryRecord`](super::records::EntryRecord): this device has yet to acknowledge |
//! | `U` | mailbox, entry | the same, waiting for the mailbox's first device |
//! | `R` | mailbox, entry | how many devices have yet to acknowledge, if more than one |
//! | `B` | mailbox, entry, piece (2) | a piece of the envelope's bytes |
//! | `X` | expiry in seconds (8), mailbox, entry | nothing: what expires when |
//! | `W` | mailbox | nothing: it has moved, and holds what is to be sent on |
//! | `F` | mailbox | [`LearntRecord`](super::records::LearntRecord): where a mailbox of another relay's is kept |
//! | `G` | end of its retention in ms (8), mailbox | nothing: what is forgotten when |
//! | `d` | mailbox, device | [`DeviceRecord`](super::records::DeviceRecord) |
//! | `o` | day of its last contact in seconds (8), mailbox, device | nothing: who has been away since when |
//! | `V` | invite (16) | [`InviteRecord`](super::records::InviteRecord) |
//! | `v` | end in ms (8), invite | nothing: what is over when |
//! | `N` | domain, `0` | [`DestinationRecord`](super::records::DestinationRecord) |
//! | `Q` | domain, `0`, item (8) | [`ItemRecord`](super::records::ItemRecord) |
//! | `P` | domain, `0`, item, piece (2) | a piece of the envelope's bytes |
//! | `L` | domain, `0`, not before in ms (8), item | nothing: items with a retry time of their own |
//! | `Y` | expiry in seconds (8), domain, `0`, item | nothing: what expires when |
//! | `T` | tracking id (16) | [`TrackingRecord`](super::records::TrackingRecord) |
//! | `Z` | end of retention in ms (8), tracking id | nothing: what is forgotten when |
//! | `K` | domain, `0`, item (8) | [`QuarantineRecord`](super::records::QuarantineRecord) |
//! | `k` | domain, `0`, item, piece (2) | a piece of the envelope's bytes |
//! | `J` | end of retention in ms (8), domain, `0`, item | nothing: what leaves quarantine when |
//! | `H` | domain, `0` | [`PauseRecord`](super::records::PauseRecord) |
//! | `h` | domain, `0` | [`HistoryRecord`](super::records::HistoryRecord): how the destination has failed |
//! | `I` | end of retention in ms (8), domain, `0` | nothing: what of that is forgotten when |
//! | `a` | tracking id (16) | [`HistoryRecord`](super::records::HistoryRecord): what the destination has answered |
//! | `A` | attachment (32) | [`AttachmentRecord`](super::records::AttachmentRecord) |
//! | `c` | attachment, chunk (4) | the SHA-256 of a chunk that is there |
//! | `S` | end of its retention in ms (8), attachment | nothing: attachments that no envelope needs |
//! | `n` | mailbox, entry | [`AttachedRecord`](super::records::AttachedRecord): which attachments the entry needs |
//! | `q` | domain, `0`, item (8) | the same of a queued item, or of what became of it in quarantine |
//! | `b` | mailbox | [`MailboxAttachedRecord`](super::records::MailboxAttachedRecord): bytes of its entries' attachments |
//! | `O` | file (16) | [`DoomedRecord`](super::records::DoomedRecord): an attachment's file that is to be deleted |
//! | `D` | end of the bucket in ms (8), keyed hash (16) | [`MarkRecord`](super::records::MarkRecord) |
//!
//! A domain is followed by a zero byte, which no domain has, so that `a.example` is no prefix of `a.example.org`.

use postrider_common::{AttachmentId, DeviceId, Domain, EntryId, InviteId, MailboxId, Timestamp, TrackingId};

use super::kv::Key;
use super::{FileId, ItemId, StoreError};

pub(crate) const FORMAT: &[u8] = b"!format";
pub(crate) const SECRET: &[u8] = b"!secret";
pub(crate) const FLOOR: &[u8] = b"!floor";
/// The whole index of mailbox entries by expiry; of queued items; of ended tracking records; of what is in
/// quarantine; all marks.
pub(crate) const ENTRY_EXPIRIES: u8 = b'X';
pub(crate) const ITEM_EXPIRIES: u8 = b'Y';
pub(crate) const TRACKING_ENDS: u8 = b'Z';
pub(crate) const QUARANTINE_ENDS: u8 = b'J';
pub(crate) const HISTORY_ENDS: u8 = b'I';
pub(crate) const MARKS: u8 = b'D';
pub(crate) const DESTINATIONS: u8 = b'N';
/// Mailboxes that have moved and hold something; what was told of others, and the index of that by its end.
pub(crate) const HOLDING: u8 = b'W';
pub(crate) const LEARNT: u8 = b'F';
pub(crate) const LEARNT_ENDS: u8 = b'G';
pub(crate) const MAILBOXES: u8 = b'M';
/// Devices, and the index of them by the day of their last contact.
pub(crate) const DEVICES: u8 = b'd';
pub(crate) const CONTACTS: u8 = b'o';
/// Invites, and the index of them by their end.
pub(crate) const INVITES: u8 = b'V';
pub(crate) const INVITE_ENDS: u8 = b'v';

/// All attachments; by their end, those that no envelope needs; files to be deleted.
pub(crate) const ATTACHMENTS: u8 = b'A';
pub(crate) const ATTACHMENT_ENDS: u8 = b'S';
pub(crate) const DOOMED: u8 = b'O';

pub(crate) const SETTINGS: u8 = b'!';
/// All kinds that there are.
pub(crate) const KINDS: &[u8; 36] = b"!MEURBXWdoFGVvNQPLYTZKkJHhIaDAcSnqbO";

/// Whose a key is: the mailbox's, the destination's (with the zero byte behind it), or nobody's, which is empty.
/// `None` if the key has not the form of its kind. Settings have none.
pub(crate) fn owner(key: &[u8]) -> Option<&[u8]> {
    let (kind, rest) = key.split_first()?;
    let bytes_after = |owner: usize, bytes: usize| {
        (rest.len() == owner + bytes).then(|| rest.split_at_checked(owner)).flatten().map(|(owner, _)| owner)
    };
    let destination_and = |rest: &'_ [u8], bytes: usize| {
        let zero = rest.iter().position(|byte| *byte == 0)?;
        let is_domain = domain_in(rest.get(..zero)?).is_ok();
        (is_domain && rest.len() == zero + 1 + bytes).then_some(zero + 1)
    };
    match kind {
        b'M' | b'W' | b'F' | b'b' | b'A' => bytes_after(32, 0),
        b'E' => bytes_after(32, 40),
        b'd' => bytes_after(32, 32),
        b'o' => bytes_after(0, 72),
        b'U' | b'R' | b'n' => bytes_after(32, 8),
        b'c' => bytes_after(32, 4),
        b'B' => bytes_after(32, 10),
        b'X' => bytes_after(0, 48),
        b'G' | b'S' => bytes_after(0, 40),
        b'T' | b'a' | b'V' | b'O' => bytes_after(0, 16),
        b'Z' | b'D' | b'v' => bytes_after(0, 24),
        b'N' | b'H' | b'h' => destination_and(rest, 0).and_then(|owner| rest.get(..owner)),
        b'Q' | b'K' | b'q' => destination_and(rest, 8).and_then(|owner| rest.get(..owner)),
        b'P' | b'k' => destination_and(rest, 10).and_then(|owner| rest.get(..owner)),
        b'L' => destination_and(rest, 16).and_then(|owner| rest.get(..owner)),
        b'I' => destination_and(rest.get(8..)?, 0).map(|_| &rest[..0]),
        b'Y' | b'J' => destination_and(rest.get(8..)?, 8).map(|_| &rest[..0]),
        _ => None,
    }
}

fn join(kind: u8, parts: &[&[u8]]) -> Key {
    let mut key = Key::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(kind);
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

pub(crate) fn mailbox(mailbox: &MailboxId) -> Key {
    join(MAILBOXES, &[mailbox.as_bytes()])
}

/// Every device's entries of a mailbox.
pub(crate) fn entries_of_mailbox(mailbox: &MailboxId) -> Key {
    join(b'E', &[mailbox.as_bytes()])
}

pub(crate) fn entries(mailbox: &MailboxId, device: &DeviceId) -> Key {
    join(b'E', &[mailbox.as_bytes(), device.as_bytes()])
}

pub(crate) fn entry(mailbox: &MailboxId, device: &DeviceId, entry: EntryId) -> Key {
    join(b'E', &[mailbox.as_bytes(), device.as_bytes(), &entry.0.to_be_bytes()])
}

pub(crate) fn unclaimed_of(mailbox: &MailboxId) -> Key {
    join(b'U', &[mailbox.as_bytes()])
}

pub(crate) fn unclaimed(mailbox: &MailboxId, entry: EntryId) -> Key {
    join(b'U', &[mailbox.as_bytes(), &entry.0.to_be_bytes()])
}

pub(crate) fn remaining(mailbox: &MailboxId, entry: EntryId) -> Key {
    join(b'R', &[mailbox.as_bytes(), &entry.0.to_be_bytes()])
}

/// The pieces of an entry's body follow it.
pub(crate) fn body(mailbox: &MailboxId, entry: EntryId) -> Key {
    join(b'B', &[mailbox.as_bytes(), &entry.0.to_be_bytes()])
}

/// Every piece of every body of a mailbox.
pub(crate) fn bodies_of(mailbox: &MailboxId) -> Key {
    join(b'B', &[mailbox.as_bytes()])
}

pub(crate) fn device(mailbox: &MailboxId, device: &DeviceId) -> Key {
    join(DEVICES, &[mailbox.as_bytes(), device.as_bytes()])
}

/// Every device of a mailbox.
pub(crate) fn devices_of(mailbox: &MailboxId) -> Key {
    join(DEVICES, &[mailbox.as_bytes()])
}

pub(crate) fn contact(day: Timestamp, mailbox: &MailboxId, device: &DeviceId) -> Key {
    join(CONTACTS, &[&day.as_secs().to_be_bytes(), mailbox.as_bytes(), device.as_bytes()])
}

pub(crate) fn holding(mailbox: &MailboxId) -> Key {
    join(HOLDING, &[mailbox.as_bytes()])
}

pub(crate) fn learnt(mailbox: &MailboxId) -> Key {
    join(LEARNT, &[mailbox.as_bytes()])
}

pub(crate) fn learnt_end(at: Timestamp, mailbox: &MailboxId) -> Key {
    join(LEARNT_ENDS, &[&at.as_millis().to_be_bytes(), mailbox.as_bytes()])
}

pub(crate) fn invite(id: &InviteId) -> Key {
    join(INVITES, &[id.as_bytes()])
}

pub(crate) fn invite_end(at: Timestamp, id: &InviteId) -> Key {
    join(INVITE_ENDS, &[&at.as_millis().to_be_bytes(), id.as_bytes()])
}

pub(crate) fn entry_expiry(at: Timestamp, mailbox: &MailboxId, entry: EntryId) -> Key {
    let at = at.as_secs().to_be_bytes();
    join(ENTRY_EXPIRIES, &[&at, mailbox.as_bytes(), &entry.0.to_be_bytes()])
}

pub(crate) fn destination(domain: &Domain) -> Key {
    join(DESTINATIONS, &[domain.as_str().as_bytes(), &[0]])
}

pub(crate) fn items(domain: &Domain) -> Key {
    join(b'Q', &[domain.as_str().as_bytes(), &[0]])
}

pub(crate) fn item(domain: &Domain, item: ItemId) -> Key {
    join(b'Q', &[domain.as_str().as_bytes(), &[0], &item.0.to_be_bytes()])
}

/// The pieces of an item's envelope follow it.
pub(crate) fn item_body(domain: &Domain, item: ItemId) -> Key {
    join(b'P', &[domain.as_str().as_bytes(), &[0], &item.0.to_be_bytes()])
}

pub(crate) fn delayed_of(domain: &Domain) -> Key {
    join(b'L', &[domain.as_str().as_bytes(), &[0]])
}

pub(crate) fn delayed(domain: &Domain, not_before: Timestamp, item: ItemId) -> Key {
    let at = not_before.as_millis().to_be_bytes();
    join(b'L', &[domain.as_str().as_bytes(), &[0], &at, &item.0.to_be_bytes()])
}

pub(crate) fn item_expiry(at: Timestamp, domain: &Domain, item: ItemId) -> Key {
    let at = at.as_secs().to_be_bytes();
    join(ITEM_EXPIRIES, &[&at, domain.as_str().as_bytes(), &[0], &item.0.to_be_bytes()])
}

pub(crate) fn tracking(id: &TrackingId) -> Key {
    join(b'T', &[id.as_bytes()])
}

pub(crate) fn tracking_end(at: Timestamp, id: &TrackingId) -> Key {
    join(TRACKING_ENDS, &[&at.as_millis().to_be_bytes(), id.as_bytes()])
}

pub(crate) fn quarantine(domain: &Domain) -> Key {
    join(b'K', &[domain.as_str().as_bytes(), &[0]])
}

pub(crate) fn quarantined(domain: &Domain, item: ItemId) -> Key {
    join(b'K', &[domain.as_str().as_bytes(), &[0], &item.0.to_be_bytes()])
}

/// The pieces of a quarantined envelope follow it.
pub(crate) fn quarantined_body(domain: &Domain, item: ItemId) -> Key {
    join(b'k', &[domain.as_str().as_bytes(), &[0], &item.0.to_be_bytes()])
}

pub(crate) fn quarantine_end(at: Timestamp, domain: &Domain, item: ItemId) -> Key {
    let at = at.as_millis().to_be_bytes();
    join(QUARANTINE_ENDS, &[&at, domain.as_str().as_bytes(), &[0], &item.0.to_be_bytes()])
}

pub(crate) fn pause(domain: &Domain) -> Key {
    join(b'H', &[domain.as_str().as_bytes(), &[0]])
}

pub(crate) fn history(domain: &Domain) -> Key {
    join(b'h', &[domain.as_str().as_bytes(), &[0]])
}

pub(crate) fn history_end(at: Timestamp, domain: &Domain) -> Key {
    join(HISTORY_ENDS, &[&at.as_millis().to_be_bytes(), domain.as_str().as_bytes(), &[0]])
}

/// What was answered about the envelope with this tracking id.
pub(crate) fn answers(id: &TrackingId) -> Key {
    join(b'a', &[id.as_bytes()])
}

pub(crate) fn attachment(id: &AttachmentId) -> Key {
    join(ATTACHMENTS, &[id.as_bytes()])
}

/// Every chunk of an attachment.
pub(crate) fn chunks(id: &AttachmentId) -> Key {
    join(b'c', &[id.as_bytes()])
}

pub(crate) fn chunk(id: &AttachmentId, number: u32) -> Key {
    join(b'c', &[id.as_bytes(), &number.to_be_bytes()])
}

pub(crate) fn attachment_end(at: Timestamp, id: &AttachmentId) -> Key {
    join(ATTACHMENT_ENDS, &[&at.as_millis().to_be_bytes(), id.as_bytes()])
}

pub(crate) fn attached(mailbox: &MailboxId, entry: EntryId) -> Key {
    join(b'n', &[mailbox.as_bytes(), &entry.0.to_be_bytes()])
}

pub(crate) fn attached_to_item(domain: &Domain, item: ItemId) -> Key {
    join(b'q', &[domain.as_str().as_bytes(), &[0], &item.0.to_be_bytes()])
}

pub(crate) fn mailbox_attached(mailbox: &MailboxId) -> Key {
    join(b'b', &[mailbox.as_bytes()])
}

pub(crate) fn doomed(file: FileId) -> Key {
    join(DOOMED, &[&file.0])
}

pub(crate) fn bucket(end: Timestamp) -> Key {
    join(MARKS, &[&end.as_millis().to_be_bytes()])
}

pub(crate) fn mark(bucket: Timestamp, hash: &[u8; 16]) -> Key {
    join(MARKS, &[&bucket.as_millis().to_be_bytes(), hash])
}

/// The first key of an index with seconds that is not over at `now`.
pub(crate) fn after_secs(kind: u8, now: Timestamp) -> Key {
    join(kind, &[&now.as_secs().saturating_add(1).to_be_bytes()])
}

/// The first key of an index with milliseconds that is not over at `now`.
pub(crate) fn after_millis(kind: u8, now: Timestamp) -> Key {
    join(kind, &[&now.as_millis().saturating_add(1).to_be_bytes()])
}

/// The number `piece` below `body`.
pub(crate) fn piece(body: &[u8], piece: u16) -> Key {
    let mut key = Key::from_slice(body);
    key.extend_from_slice(&piece.to_be_bytes());
    key
}

/// The first key after all that begin with `prefix`. No kind is `0xff`, so there is one.
pub(crate) fn end_of(prefix: &[u8]) -> Key {
    let mut end = Key::from_slice(prefix);
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// The first key after `key`.
pub(crate) fn next(key: &[u8]) -> Key {
    let mut next = Key::from_slice(key);
    next.push(0);
    next
}

/// The number that ends a key: an entry's or an item's.
pub(crate) fn last_number(key: &[u8]) -> Result<u64, StoreError> {
    key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes)).ok_or_else(damaged)
}

/// The number after the kind: the time of an index.
pub(crate) fn first_number(key: &[u8]) -> Result<u64, StoreError> {
    key.get(1..9).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes).ok_or_else(damaged)
}

pub(crate) fn of_entry_expiry(key: &[u8]) -> Result<(MailboxId, EntryId), StoreError> {
    let mailbox = key.get(9..41).and_then(|bytes| bytes.try_into().ok());
    let mailbox = mailbox.map(MailboxId::from_bytes).ok_or_else(damaged)?;
    Ok((mailbox, EntryId(last_number(key)?)))
}

/// Of a device, or of its last contact.
pub(crate) fn of_device(key: &[u8]) -> Result<(MailboxId, DeviceId), StoreError> {
    let start = key.len().checked_sub(64).ok_or_else(damaged)?;
    let mailbox = key.get(start..start + 32).and_then(|bytes| bytes.try_into().ok());
    let device = key.last_chunk().map(|bytes| DeviceId::from_bytes(*bytes));
    mailbox.map(MailboxId::from_bytes).zip(device).ok_or_else(damaged)
}

/// Whether it is the key of a part of an envelope.
pub(crate) fn is_of_body(key: &[u8]) -> bool {
    matches!(key.first(), Some(b'B' | b'P' | b'k'))
}

/// The body that a piece is of.
pub(crate) fn body_of(piece: &[u8]) -> &[u8] {
    &piece[..piece.len().saturating_sub(size_of::<u16>())]
}

pub(crate) fn of_holding(key: &[u8]) -> Result<MailboxId, StoreError> {
    key.get(1..).and_then(|bytes| bytes.try_into().ok()).map(MailboxId::from_bytes).ok_or_else(damaged)
}

pub(crate) fn of_learnt_end(key: &[u8]) -> Result<MailboxId, StoreError> {
    key.get(9..).and_then(|bytes| bytes.try_into().ok()).map(MailboxId::from_bytes).ok_or_else(damaged)
}

/// Of an item's expiry, or of the end of its quarantine.
pub(crate) fn of_item_expiry(key: &[u8]) -> Result<(Domain, ItemId), StoreError> {
    let end = key.len().checked_sub(9).ok_or_else(damaged)?;
    let domain = domain_in(key.get(9..end).ok_or_else(damaged)?)?;
    Ok((domain, ItemId(last_number(key)?)))
}

pub(crate) fn of_destination(key: &[u8]) -> Result<Domain, StoreError> {
    let end = key.len().checked_sub(1).ok_or_else(damaged)?;
    domain_in(key.get(1..end).ok_or_else(damaged)?)
}

pub(crate) fn of_history_end(key: &[u8]) -> Result<Domain, StoreError> {
    let end = key.len().checked_sub(1).ok_or_else(damaged)?;
    domain_in(key.get(9..end).ok_or_else(damaged)?)
}

pub(crate) fn of_tracking_end(key: &[u8]) -> Result<TrackingId, StoreError> {
    key.last_chunk().map(|bytes| TrackingId::from_bytes(*bytes)).ok_or_else(damaged)
}

/// Of an invite, or of its end.
pub(crate) fn of_invite(key: &[u8]) -> Result<InviteId, StoreError> {
    key.last_chunk().map(|bytes| InviteId::from_bytes(*bytes)).ok_or_else(damaged)
}

/// Whose key is made of a domain and an item, without a time before them.
pub(crate) fn of_item(key: &[u8]) -> Result<Domain, StoreError> {
    let end = key.len().checked_sub(9).ok_or_else(damaged)?;
    domain_in(key.get(1..end).ok_or_else(damaged)?)
}

pub(crate) fn of_chunk(key: &[u8]) -> Result<u32, StoreError> {
    key.last_chunk().map(|bytes| u32::from_be_bytes(*bytes)).ok_or_else(damaged)
}

/// Of an attachment, or of the end of one.
pub(crate) fn of_attachment(key: &[u8]) -> Result<AttachmentId, StoreError> {
    key.last_chunk().map(|bytes| AttachmentId::from_bytes(*bytes)).ok_or_else(damaged)
}

pub(crate) fn of_doomed(key: &[u8]) -> Result<FileId, StoreError> {
    key.last_chunk().map(|bytes| FileId(*bytes)).ok_or_else(damaged)
}

/// When the item whose key in the index of delayed items this is comes due.
pub(crate) fn due_of_delayed(key: &[u8]) -> Result<Timestamp, StoreError> {
    let start = key.len().checked_sub(16).ok_or_else(damaged)?;
    key.get(start..start + 8)
        .and_then(|bytes| bytes.try_into().ok())
        .map(|bytes| Timestamp::from_millis(u64::from_be_bytes(bytes)))
        .ok_or_else(damaged)
}

pub(crate) fn domain_in(bytes: &[u8]) -> Result<Domain, StoreError> {
    std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).ok_or_else(damaged)
}

fn damaged() -> StoreError {
    StoreError::Damaged("a key has not the length or the parts of its kind".into())
}

#[cfg(test)]
mod tests;
