//! `postrider mailbox`: what an administrator sees of mailboxes, and does with them.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use postrider_common::MailboxId;
use postrider_common::wire::control::BindingStatement;

use super::queue::{AdminCommandError, Asked, block_on};
use super::show::{Cell, Style, Tone, facts, size, table, time};
use crate::admin::documents::{Created, Done, Mailbox, MailboxDetails, Mailboxes, NewMailbox};

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
    /// The mailbox, or an address of it.
    #[arg(value_name = "MAILBOX", value_parser = mailbox)]
    mailbox: MailboxId,
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
    #[arg(long, value_name = "MAILBOX", value_parser = mailbox)]
    after: Option<MailboxId>,
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

fn mailbox(text: &str) -> Result<MailboxId, String> {
    text.split('@').next().unwrap_or_default().parse().map_err(|error| format!("{error}"))
}

/// Carries a command out.
pub fn run(command: &MailboxCommand, out: &mut dyn Write) -> Result<(), AdminCommandError> {
    block_on(carry_out(command, out))
}

async fn carry_out(command: &MailboxCommand, out: &mut dyn Write) -> Result<(), AdminCommandError> {
    let style = Style::of_stdout();
    match command {
        MailboxCommand::Create(OneArgs { asked, mailbox }) => {
            let wanted = NewMailbox { mailbox: Some(*mailbox) };
            let created: Created = asked.client()?.post("/v1/mailboxes", &wanted).await?;
            let text =
                if created.created { "made: it waits for its first device\n" } else { "it is there\n" };
            asked.tell(&created, || text.into(), out)
        }
        MailboxCommand::List(ListArgs { asked, count, after }) => {
            let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
            let path = format!("/v1/mailboxes?count={count}{after}");
            let page: Mailboxes = asked.client()?.get(&path).await?;
            asked.tell(&page, || listed(style, &page), out)
        }
        MailboxCommand::Show(OneArgs { asked, mailbox }) => {
            let details: MailboxDetails = asked.client()?.get(&format!("/v1/mailboxes/{mailbox}")).await?;
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
            let done: Done = asked.client()?.delete(&format!("/v1/mailboxes/{mailbox}")).await?;
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
    let path = format!("/v1/mailboxes/{mailbox}/{what}");
    let done: Done = asked.client()?.post(&path, body).await?;
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
