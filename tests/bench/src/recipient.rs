//! A device that takes what the relay pushes, and acknowledges it as it comes.

use std::sync::Arc;

use futures_util::FutureExt;
use postrider_client::{Delivery, Identity, MailboxStream, Relay, Session};
use postrider_common::{Address, EntryId};
use tokio::sync::Semaphore;

use crate::BenchError;
use crate::books::{Books, Mark};

/// The most entries that are acknowledged together.
const TOGETHER: usize = 256;

/// A registered device.
pub(crate) struct Recipient {
    session: Session,
}

/// The windows of the senders, by their numbers.
pub(crate) type Windows = Arc<[Arc<Semaphore>]>;

impl Recipient {
    /// A new mailbox at a relay.
    pub(crate) async fn register(relay: &Relay, identity: &Identity) -> Result<Self, BenchError> {
        let session = relay.session(identity).await?;
        session.register().await?;
        Ok(Self { session })
    }

    pub(crate) fn identity(&self) -> &Identity {
        self.session.identity()
    }

    pub(crate) fn address(&self) -> Address {
        self.session.identity().address().clone()
    }

    pub(crate) async fn connect(&self) -> Result<MailboxStream, BenchError> {
        Ok(self.session.stream().await?)
    }
}

/// Takes entries until it is told to stop.
pub(crate) async fn take(
    mut stream: MailboxStream,
    books: Arc<Books>,
    windows: Windows,
    stopping: impl Future<Output = ()>,
) -> Result<(), BenchError> {
    tokio::pin!(stopping);
    let mut ids: Vec<EntryId> = Vec::with_capacity(TOGETHER);
    let mut marks: Vec<Mark> = Vec::with_capacity(TOGETHER);
    loop {
        tokio::select! {
            biased;
            next = stream.next() => note(next, &mut ids, &mut marks)?,
            () = &mut stopping => return Ok(stream.close().await?),
        }
        // What is there already goes with it.
        while ids.len() < TOGETHER
            && let Some(next) = stream.next().now_or_never()
        {
            note(next, &mut ids, &mut marks)?;
        }
        stream.acknowledge(&ids).await?;
        books.arrived(&marks);
        for mark in &marks {
            if let Some(window) = usize::try_from(mark.sender).ok().and_then(|sender| windows.get(sender)) {
                window.add_permits(1);
            }
        }
        ids.clear();
        marks.clear();
    }
}

fn note(
    next: Option<Result<Delivery, postrider_client::Error>>,
    ids: &mut Vec<EntryId>,
    marks: &mut Vec<Mark>,
) -> Result<(), BenchError> {
    match next {
        Some(Ok(Delivery::Entry(entry))) => {
            let mark = Mark::of(&entry.envelope);
            marks.push(mark.ok_or_else(|| BenchError::Books("an envelope is of another run".into()))?);
            ids.push(entry.id);
            Ok(())
        }
        Some(Ok(_)) => Err(BenchError::Books("nobody sent anything but entries".into())),
        Some(Err(error)) => Err(error.into()),
        None => Err(BenchError::Generator("the relay has closed a stream".into())),
    }
}
