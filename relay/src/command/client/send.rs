//! `postrider client send`: a message, and the files beside it.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use postrider_client::{
    ContactCard, Envelope, Error, Identity, Relay, SealOptions, Session, SubmitResult, TrackingState,
    check_message, max_message_bytes, seal_with,
};
use postrider_common::backoff::spread;
use postrider_common::clock::{Clock, SystemClock};
use postrider_common::random::{SystemRandom, fraction_of};
use postrider_common::{Address, Domain, TrackingId};

use super::outgoing::Outgoing;
use super::{ClientCommandError, FIRST_PAUSE, LONGEST_PAUSE, RelayArgs, print, show};
use crate::config::duration;
use crate::exit::Exit;

/// More than a contact card has.
const MAX_CARD_BYTES: u64 = 16 << 10;

/// `send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// The file that `keygen` wrote
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    #[command(flatten)]
    relay: RelayArgs,
    #[command(flatten)]
    recipient: Recipient,
    /// The message; without it, standard input is sent
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// A file to send along; may be given several times
    #[arg(long, value_name = "FILE")]
    attach: Vec<PathBuf>,
    /// How long to go on while nothing of an attached file gets through, such as `30 s` or `2 h`. The same command goes on
    /// later where this one ended
    #[arg(long, value_name = "DURATION", default_value = "10 min", value_parser = duration)]
    patience: Duration,
    /// If the message is queued for another relay, wait until it is there
    #[arg(long)]
    wait: bool,
}

/// Who a message is for.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Recipient {
    /// The recipient's contact card
    #[arg(long, value_name = "CARD")]
    to: Option<ContactCard>,
    /// A file that holds the recipient's contact card
    #[arg(long, value_name = "FILE")]
    card: Option<PathBuf>,
}

/// How envelopes and files get to the relay.
pub(super) struct Way<'a> {
    pub(super) relay: &'a Relay,
    /// Where everybody may submit, nobody is told who does.
    pub(super) session: Option<Session>,
    /// Who they are for.
    pub(super) to: &'a Address,
    /// The file with the keys of whoever sends.
    pub(super) identity: &'a Path,
    /// The relay's, as it was given.
    pub(super) url: &'a str,
    pub(super) patience: Duration,
}

impl SendArgs {
    pub(super) async fn run(
        self,
        input: &mut (dyn Read + Send),
        out: &mut (dyn Write + Send),
    ) -> Result<(), ClientCommandError> {
        let identity = Identity::load(&self.identity)?;
        let to = self.recipient.card()?;
        let url = self.relay.url.clone();
        let relay = self.relay.build()?;
        let message = match self.message {
            Some(text) => text.into_bytes(),
            None => read_message(input)?,
        };
        let mut files = self.attach.iter().map(|path| Outgoing::new(path)).collect::<Result<Vec<_>, _>>()?;
        // Before anybody is called: a message that is too long is found so before its files are there.
        let names: Vec<_> = files.iter().map(Outgoing::name).collect();
        check_message(message.len(), names.iter().map(String::as_str))?;
        let seal = |files: &[_]| {
            seal_with(SystemClock.now(), &identity, &to, &message, files, &SealOptions::default())
        };
        // So is a card that nothing can be encrypted to.
        let mut envelope = seal(&[])?;
        let info = relay.info().await?;
        for file in &files {
            file.check(info.limits.attachment_bytes)?;
        }
        let session = match info.policies.submission.as_str() {
            "open" => None,
            _ => Some(relay.session(&identity).await?),
        };
        let (identity, patience) = (self.identity.as_path(), self.patience);
        let way = Way { relay: &relay, session, to: to.address(), identity, url: &url, patience };
        let handing_over = async {
            let mut attached = Vec::with_capacity(files.len());
            for file in &mut files {
                attached.push(file.bring(&way).await?);
            }
            if !attached.is_empty() {
                envelope = seal(&attached)?;
            }
            way.submit(to.domain(), envelope).await
        };
        let submitted = handing_over.await;
        for file in files {
            match &submitted {
                Ok(_) => file.forget(),
                Err(error) if error.exit() == Exit::TemporaryFailure => {}
                Err(_) => file.give_up(&relay).await,
            }
        }
        match submitted? {
            None => print(out, "stored\n"),
            Some(tracking) => {
                print(out, &format!("{tracking}\n"))?;
                if self.wait {
                    wait_for(&relay, tracking, &SystemClock).await?;
                    print(out, "stored\n")?;
                }
                Ok(())
            }
        }
    }
}

impl Way<'_> {
    /// Under which id it is on its way to another relay, unless it is where it should be.
    async fn submit(
        &self,
        to: &Domain,
        envelope: Envelope,
    ) -> Result<Option<TrackingId>, ClientCommandError> {
        let submitted = match &self.session {
            None => self.relay.submit_one(to, envelope).await?,
            Some(session) => session.submit_one(to, envelope).await?,
        };
        match submitted {
            SubmitResult::Stored => Ok(None),
            SubmitResult::Queued { tracking } => Ok(Some(tracking)),
            SubmitResult::Refused { reason, retry_after } => {
                Err(ClientCommandError::Refused { reason, retry_after })
            }
            _ => {
                let reason = "its result is of a kind that this version does not know".into();
                Err(Error::Protocol { reason }.into())
            }
        }
    }
}

impl Recipient {
    fn card(self) -> Result<ContactCard, ClientCommandError> {
        match (self.to, self.card) {
            (Some(card), _) => Ok(card),
            (None, path) => read_card(&path.unwrap_or_default()),
        }
    }
}

/// Asks until the message is at its destination or never will be.
async fn wait_for(relay: &Relay, id: TrackingId, clock: &dyn Clock) -> Result<(), ClientCommandError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let mut asked = None;
        match relay.track(id).await {
            Ok(status) => match status.state {
                TrackingState::Stored => return Ok(()),
                _ if !status.is_final() => {}
                _ => {
                    let reason = status.reason.unwrap_or_else(|| "no reason is given".into());
                    return Err(ClientCommandError::NotDelivered { reason: show::one_line(&reason) });
                }
            },
            Err(error) if error.is_retryable() => asked = error.retry_after(),
            Err(error) => return Err(error.into()),
        }
        clock.sleep(spread(pause, asked, fraction_of(&SystemRandom))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn read_card(path: &Path) -> Result<ContactCard, ClientCommandError> {
    let unreadable = |source| ClientCommandError::Input { what: path.display().to_string(), source };
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_CARD_BYTES).read_to_string(&mut text))
        .map_err(unreadable)?;
    text.parse().map_err(|source| ClientCommandError::Card { path: path.into(), source })
}

/// Reads one byte more than a message may have, so that a longer one is refused instead of cut.
fn read_message(input: &mut (dyn Read + Send)) -> Result<Vec<u8>, ClientCommandError> {
    let mut message = Vec::new();
    let limit = max_message_bytes() as u64 + 1;
    input
        .take(limit)
        .read_to_end(&mut message)
        .map_err(|source| ClientCommandError::Input { what: "the message".into(), source })?;
    Ok(message)
}
