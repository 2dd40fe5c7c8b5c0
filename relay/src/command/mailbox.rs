//! `postrider mailbox`: what an administrator sees of mailboxes, and does with them.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Subcommand};
use postrider_common::wire::control::BindingStatement;
use postrider_common::{Domain, MailboxId};

use super::queue::{AdminCommandError, Asked, block_on};
use super::show::{Cell, Style, Tone, facts, size, table, time};
use crate::admin::Client;
use crate::admin::documents::{Created, Done, Mailbox, MailboxDetails, Mailboxes, NewMailbox, Status};

/// More than a signed binding has.
const MAX_BINDING_BYTES: u64 = 8 << 10;

/// What to do with mailboxes.
#[derive(Debug, Subcommand)]
pub enum MailboxCommand {
    /// Make a mailbox for somebody, before they have come.
    ///
    /// They tell you their address, which their app has made. What comes for it waits for their first device, which needs no
    /// invite.
    Create(OneArgs),
    /// List mailboxes, a page at a time: how much waits in each, how many devices, last contact to the day.
    List(ListArgs),
    /// Show one mailbox.
    Show(OneArgs),
    /// Close a mailbox, also across restarts: nobody signs in, its connections end at once, and what comes for it is refused
    /// for good (`mailbox-refused`). What is in it stays until it expires.
    Suspend(OneArgs),
    /// Open a suspended mailbox again.
    Resume(OneArgs),
    /// Delete a mailbox with everything in it. Its connections end at once.
    Delete(DeleteArgs),
    /// Have a mailbox's owner send what comes for it to another relay, by what they have signed.
    ///
    /// Only the holder of a mailbox's key can say where it is kept: whoever could say so without it could take a mailbox
    /// over. So this takes a file that the owner has made, with `postrider client move --export` or in their app, and does
    /// what they would do if they could sign in here. Of a mailbox whose key is lost, nothing can be redirected.
    Redirect(RedirectArgs),
}

/// For one mailbox.
#[derive(Debug, Args)]
pub struct OneArgs {
    #[command(flatten)]
    asked: Asked,
    /// The mailbox, or its address at this relay.
    #[arg(value_name = "MAILBOX")]
    mailbox: Named,
}

/// For `mailbox list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    asked: Asked,
    /// How many to list, at most 256.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    count: u16,
    /// Begin after this one, instead of with the first.
    #[arg(long, value_name = "MAILBOX")]
    after: Option<Named>,
}

/// For `mailbox delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Yes, with everything that waits in it.
    #[arg(long, required = true)]
    yes: bool,
}

/// For `mailbox redirect`.
#[derive(Debug, Args)]
pub struct RedirectArgs {
    #[command(flatten)]
    one: OneArgs,
    /// The file with what the owner has signed.
    #[arg(long, value_name = "FILE")]
    binding: PathBuf,
}

/// A mailbox as somebody writes it: by itself, or as an address.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    mailbox: MailboxId,
    domain: Option<Domain>,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mailbox, domain) = match text.split_once('@') {
            Some((mailbox, domain)) => (mailbox, Some(domain)),
            None => (text, None),
        };
        let domain = domain.map(str::parse).transpose().map_err(|error| format!("{error}"))?;
        Ok(Self { mailbox: mailbox.parse().map_err(|error| format!("{error}"))?, domain })
    }
}

impl Named {
    /// The mailbox, if it is meant to be at the relay that is asked. The same key may have one at several.
    async fn at(&self, client: &Client) -> Result<MailboxId, AdminCommandError> {
        let Self { mailbox, domain } = self;
        if let Some(domain) = domain {
            let own = client.get::<Status>("/v1/status").await?.domain;
            if *domain != own {
                return Err(AdminCommandError::Usage(format!(
                    "this relay is {own}, and {mailbox}@{domain} is no address here; without the domain it is its own \
                     mailbox of that name"
                )));
            }
        }
        Ok(*mailbox)
    }
}

/// Carries a command out.
pub fn run(command: &MailboxCommand, out: &mut dyn Write) -> Result<(), AdminCommandError> {
    block_on(carry_out(command, out))
}

async fn carry_out(command: &MailboxCommand, out: &mut dyn Write) -> Result<(), AdminCommandError> {
    let style = Style::of_stdout();
    match command {
        MailboxCommand::Create(OneArgs { asked, mailbox }) => {
            let client = asked.client()?;
            let wanted = NewMailbox { mailbox: Some(mailbox.at(&client).await?) };
            let created: Created = client.post("/v1/mailboxes", &wanted).await?;
            let text =
                if created.created { "made: it waits for its first device\n" } else { "it is there\n" };
            asked.tell(&created, || text.into(), out)
        }
        MailboxCommand::List(ListArgs { asked, count, after }) => {
            let client = asked.client()?;
            let mut path = format!("/v1/mailboxes?count={count}");
            if let Some(after) = after {
                path.push_str(&format!("&after={}", after.at(&client).await?));
            }
            let page: Mailboxes = client.get(&path).await?;
            asked.tell(&page, || listed(style, &page), out)
        }
        MailboxCommand::Show(OneArgs { asked, mailbox }) => {
            let client = asked.client()?;
            let mailbox = mailbox.at(&client).await?;
            let details: MailboxDetails = client.get(&format!("/v1/mailboxes/{mailbox}")).await?;
            asked.tell(&details, || shown(style, &details), out)
        }
        MailboxCommand::Suspend(one) => {
            order(
                one,
                "suspend",
                &(),
                "is suspended: its connections are closed, and what comes is refused",
                out,
            )
            .await
        }
        MailboxCommand::Resume(one) => order(one, "resume", &(), "is open again", out).await,
        MailboxCommand::Delete(DeleteArgs { one: OneArgs { asked, mailbox }, .. }) => {
            let client = asked.client()?;
            let mailbox = mailbox.at(&client).await?;
            let done: Done = client.delete(&format!("/v1/mailboxes/{mailbox}")).await?;
            asked.tell(&done, || format!("{mailbox} is deleted\n"), out)
        }
        MailboxCommand::Redirect(RedirectArgs { one, binding }) => {
            let statement = read(binding)?;
            let said = format!("is kept at {}: what comes for it goes there", statement.domain);
            order(one, "redirect", &statement, &said, out).await
        }
    }
}

async fn order(
    OneArgs { asked, mailbox }: &OneArgs,
    what: &str,
    body: &impl serde::Serialize,
    said: &str,
    out: &mut dyn Write,
) -> Result<(), AdminCommandError> {
    let client = asked.client()?;
    let mailbox = mailbox.at(&client).await?;
    let done: Done = client.post(&format!("/v1/mailboxes/{mailbox}/{what}"), body).await?;
    asked.tell(&done, || format!("{mailbox} {said}\n"), out)
}

fn read(path: &Path) -> Result<BindingStatement, AdminCommandError> {
    let failed = |error| AdminCommandError::File { file: path.into(), error };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(MAX_BINDING_BYTES).read_to_string(&mut text).map_err(failed)?;
    serde_json::from_str(&text)
        .map_err(|error| failed(io::Error::other(format!("it has no binding: {error}"))))
}

fn listed(style: Style, page: &Mailboxes) -> String {
    if page.mailboxes.is_empty() {
        return "there are no mailboxes\n".into();
    }
    let rows: Vec<_> = page.mailboxes.iter().map(row).collect();
    let mut text = table(
        style,
        &["MAILBOX", "WAITING", "SIZE", "ATTACHMENTS", "DEVICES", "LAST CONTACT", "STATE"],
        &rows,
    );
    if let Some(next) = page.next {
        text.push_str(&format!("\nThere may be more: --after {next}\n"));
    }
    text
}

fn row(mailbox: &Mailbox) -> Vec<Cell> {
    let state = state(mailbox);
    let state = if state == "open" { Cell::new(state) } else { Cell::new(state).toned(Tone::Odd) };
    vec![
        Cell::new(mailbox.mailbox.to_string()),
        Cell::number(mailbox.envelopes),
        Cell::number(size(mailbox.bytes)),
        Cell::number(size(mailbox.attachment_bytes)),
        Cell::number(mailbox.devices),
        Cell::new(mailbox.last_contact.map_or("-".into(), day)),
        state,
    ]
}

fn state(mailbox: &Mailbox) -> String {
    match (&mailbox.suspended_since, &mailbox.moved_to) {
        (Some(since), None) => format!("suspended since {}", time(*since)),
        (Some(since), Some(domain)) => format!("suspended since {}, moved to {domain}", time(*since)),
        (None, Some(domain)) => format!("moved to {domain}"),
        (None, None) => "open".into(),
    }
}

fn shown(style: Style, details: &MailboxDetails) -> String {
    let mailbox = &details.mailbox;
    let mut text = facts([
        ("mailbox", Some(mailbox.mailbox.to_string())),
        ("state", Some(state(mailbox))),
        ("envelopes", Some(mailbox.envelopes.to_string())),
        ("size", Some(size(mailbox.bytes))),
        ("attachments", Some(size(mailbox.attachment_bytes))),
        ("last contact", mailbox.last_contact.map(day)),
    ]);
    if !details.devices_known.is_empty() {
        let rows: Vec<_> = details
            .devices_known
            .iter()
            .map(|device| vec![Cell::new(device.device.to_string()), Cell::new(day(device.last_contact))])
            .collect();
        text.push('\n');
        text.push_str(&table(style, &["DEVICE", "LAST CONTACT"], &rows));
    }
    text
}

/// Of a time, the day.
fn day(seconds: u64) -> String {
    time(seconds).split('T').next().unwrap_or_default().to_owned()
}
