//! The calls about attachments, as the protocol has them: bytes that are not looked into.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, RANGE};
use http::{HeaderValue, Method};
use postrider_common::wire::attachments::{
    AttachmentStatus, CONTENT_DIGEST, ReserveAttachment, content_digest,
};
use postrider_common::{Attachment, AttachmentId};
use sha2::{Digest, Sha256};

use super::{Relay, json};
use crate::Error;
use crate::relay::connection::Call;

/// The most that is asked for at once.
const RANGE_BYTES: u64 = 4 << 20;
/// So slow a network is waited for.
const LEAST_BYTES_PER_SECOND: u64 = 16 << 10;

impl Relay {
    /// Makes room for an attachment of that length. The answer has the id that an envelope names it by.
    ///
    /// The relay keeps it for a day or so after the last chunk, unless an envelope is submitted with it. It does not learn
    /// who asks, and makes room if its policy for submissions is `open`: see [`Session::reserve_attachment`](
    /// crate::Session::reserve_attachment) for others.
    ///
    /// ```no_run
    /// # use postrider_client::{Domain, Draft, MailboxId, Relay, Timestamp};
    /// # async fn example(relay: Relay, domain: Domain, mailbox: MailboxId, tomorrow: Timestamp, ciphertext: Vec<u8>)
    /// #     -> Result<(), Box<dyn std::error::Error>> {
    /// // For an app that encrypts files in its own way: what the relay is given is ciphertext.
    /// let status = relay.reserve_attachment(ciphertext.len() as u64, 1 << 20).await?;
    /// for (number, chunk) in (0..).zip(ciphertext.chunks(1 << 20)) {
    ///     relay.put_chunk(status.id, number, chunk.to_vec().into()).await?;
    /// }
    /// let draft = Draft::new(mailbox, tomorrow, &b"another ciphertext, with the key to it"[..]);
    /// let envelope = Draft { attachments: vec![status.attachment()], ..draft }.finish()?;
    /// println!("{:?}", relay.submit_one(&domain, envelope).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reserve_attachment(
        &self,
        length: u64,
        chunk_length: u32,
    ) -> Result<AttachmentStatus, Error> {
        json(&self.call(reservation(length, chunk_length)?).await?)
    }

    /// An attachment, and which chunks the relay still lacks. An id that it does not know is refused with the
    /// [slug](Error::slug) `unknown-attachment`.
    ///
    /// ```no_run
    /// # use postrider_client::{AttachmentId, Error, Relay};
    /// # async fn example(relay: Relay, id: AttachmentId) -> Result<(), Error> {
    /// match relay.attachment(id).await {
    ///     Ok(status) if status.missing.is_empty() => println!("an envelope may name it"),
    ///     Ok(status) => println!("to be brought, first and last numbers of chunks: {:?}", status.missing),
    ///     Err(error) if error.slug() == Some("unknown-attachment") => println!("to be brought from the beginning"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn attachment(&self, id: AttachmentId) -> Result<AttachmentStatus, Error> {
        json(&self.call(Call::get(&format!("/v1/attachments/{id}/chunks"))).await?)
    }

    /// Brings one chunk. After an error the same may be done again. All but the last have the length that was told when room was
    /// made.
    ///
    /// ```no_run
    /// # use postrider_client::{AttachmentId, Error, Relay};
    /// # async fn example(relay: Relay, id: AttachmentId, chunk: Vec<u8>) -> Result<(), Error> {
    /// // Any order will do, and several at a time.
    /// relay.put_chunk(id, 7, chunk.into()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn put_chunk(&self, id: AttachmentId, number: u32, bytes: Bytes) -> Result<(), Error> {
        let mut call = Call::new(Method::PUT, &format!("/v1/attachments/{id}/chunks/{number}"));
        let digest = HeaderValue::try_from(content_digest(&Sha256::digest(&bytes).into()))
            .map_err(|error| Error::protocol(error.to_string()))?;
        call.headers.insert(CONTENT_DIGEST, digest);
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let limit = self.patience(bytes.len() as u64);
        call.body = bytes;
        self.call_within(&call, limit).await.map(drop)
    }

    /// One chunk of an attachment that is whole.
    ///
    /// ```no_run
    /// # use postrider_client::{Entry, Relay};
    /// # async fn example(relay: Relay, entry: Entry) -> Result<(), Box<dyn std::error::Error>> {
    /// for attachment in entry.envelope.attachments() {
    ///     for number in 0..attachment.chunks() {
    ///         let ciphertext = relay.chunk(attachment, number).await?;
    ///         println!("{} bytes to decrypt", ciphertext.len());
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn chunk(&self, attachment: &Attachment, number: u32) -> Result<Bytes, Error> {
        let (start, bytes) =
            attachment.chunk(number).ok_or_else(|| Error::protocol("there is no such chunk"))?;
        let end = start + u64::from(bytes);
        let mut chunk = BytesMut::with_capacity(bytes as usize);
        let mut at = start;
        while at < end {
            let next = end.min(at + RANGE_BYTES);
            let mut call = Call::get(&format!("/v1/attachments/{}", attachment.id));
            let range = HeaderValue::try_from(format!("bytes={at}-{}", next - 1));
            call.headers.insert(RANGE, range.map_err(|error| Error::protocol(error.to_string()))?);
            let answer = self.call_within(&call, self.patience(next - at)).await?;
            if answer.body.len() as u64 != next - at {
                return Err(Error::protocol("it has another length than was asked for"));
            }
            chunk.extend_from_slice(&answer.body);
            at = next;
        }
        Ok(chunk.freeze())
    }

    /// Gives up an attachment that no envelope was submitted with.
    ///
    /// ```no_run
    /// # use postrider_client::{AttachmentId, Error, Relay};
    /// # async fn example(relay: Relay, id: AttachmentId) -> Result<(), Error> {
    /// match relay.abandon_attachment(id).await {
    ///     Err(error) if error.slug() == Some("attachment-in-use") => println!("it goes with its envelope"),
    ///     Err(error) if error.slug() == Some("unknown-attachment") => println!("it is gone already"),
    ///     given_up => given_up?,
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn abandon_attachment(&self, id: AttachmentId) -> Result<(), Error> {
        self.call(Call::new(Method::DELETE, &format!("/v1/attachments/{id}"))).await.map(drop)
    }

    fn patience(&self, bytes: u64) -> Duration {
        self.0.request_timeout + Duration::from_secs(bytes / LEAST_BYTES_PER_SECOND)
    }
}

pub(super) fn reservation(length: u64, chunk_length: u32) -> Result<Call, Error> {
    Call::post_json("/v1/attachments", &ReserveAttachment { length, chunk_length })
}
