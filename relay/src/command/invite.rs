//! `postrider invite`: let people in, one link each.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::builder::RangedI64ValueParser;
use clap::{Args, Subcommand};
use postrider_common::InviteId;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use super::queue::{AdminCommandError, Asked, block_on};
use super::show::{Cell, Style, Tone, table, time};
use crate::admin::documents::{CreateInvites, Done, Invites};
use crate::admin::invites::{LONGEST, MOST_AT_ONCE, MOST_USES, authority};
use crate::config::duration;

/// What to do with invites.
#[derive(Debug, Subcommand)]
pub enum InviteCommand {
    /// Make invites, and print each as a link, on a terminal with a QR code.
    ///
    /// With `registration.policy = "invite"`, whoever has such a link can register a mailbox. It is shown this once: the relay
    /// keeps a hash of its secret only.
    Create(CreateArgs),
    /// List the invites whose time is not over, without their secrets.
    List(ListArgs),
    /// Take an invite back. Who has registered with it stays registered.
    Revoke(RevokeArgs),
}

/// For `invite create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    asked: Asked,
    /// How many mailboxes may be registered with one invite.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = counted(MOST_USES))]
    uses: u32,
    /// For how long it may be used, such as `12 h` or `7 days`.
    #[arg(long, value_name = "DURATION", default_value = "7 days", value_parser = lifetime)]
    expires: Duration,
    /// How many invites to make.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = counted(MOST_AT_ONCE))]
    count: u32,
    /// The host that clients connect to, with a port if it is not 443 [default: `relay.` and the relay's domain, with the
    /// first port that it listens on].
    #[arg(long, value_name = "HOST[:PORT]", value_parser = authority)]
    host: Option<String>,
    /// Print QR codes also where standard output is no terminal.
    #[arg(long)]
    qr: bool,
}

/// For `invite list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    asked: Asked,
}

/// For `invite revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    asked: Asked,
    /// Which one, as `invite list` names it.
    #[arg(value_name = "INVITE")]
    invite: InviteId,
}

fn counted(most: u32) -> RangedI64ValueParser<u32> {
    RangedI64ValueParser::new().range(1..=i64::from(most))
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = duration(text)?;
    if (Duration::from_secs(1)..=LONGEST).contains(&lifetime) {
        return Ok(lifetime);
    }
    Err(format!("it has to be from 1 s to {} days", LONGEST.as_secs() / 86_400))
}

/// Carries a command out.
pub fn run(command: &InviteCommand, out: &mut dyn Write) -> Result<(), AdminCommandError> {
    block_on(carry_out(command, out))
}

async fn carry_out(command: &InviteCommand, out: &mut dyn Write) -> Result<(), AdminCommandError> {
    match command {
        InviteCommand::Create(args) => {
            let wanted = CreateInvites {
                count: args.count,
                uses: args.uses,
                valid_for_seconds: args.expires.as_secs(),
                authority: args.host.clone(),
            };
            let made: Invites = args.asked.client()?.post("/v1/invites", &wanted).await?;
            let with_codes = args.qr || io::stdout().is_terminal();
            args.asked.tell(&made, || links(&made, with_codes), out)
        }
        InviteCommand::List(ListArgs { asked }) => {
            let client = asked.client()?;
            let mut all: Invites = client.get("/v1/invites").await?;
            while let Some(after) = all.next.take() {
                let page: Invites = client.get(&format!("/v1/invites?after={after}")).await?;
                all.invites.extend(page.invites);
                all.next = page.next;
            }
            all.invites.sort_by_key(|invite| invite.expires_at);
            asked.tell(&all, || listed(Style::of_stdout(), &all), out)
        }
        InviteCommand::Revoke(RevokeArgs { asked, invite }) => {
            let done: Done = asked.client()?.delete(&format!("/v1/invites/{invite}")).await?;
            asked.tell(&done, || format!("{invite} is revoked\n"), out)
        }
    }
}

fn links(made: &Invites, with_codes: bool) -> String {
    let mut shown = String::new();
    for url in made.invites.iter().filter_map(|invite| invite.url.as_deref()) {
        if with_codes && let Some(code) = code(url) {
            shown.push_str(&code);
        }
        // Writing to a string does not fail.
        let _ = writeln!(shown, "{url}");
    }
    shown
}

/// Dark on light whatever the terminal's colours are, since some readers take no other way round.
fn code(url: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(url, EcLevel::L).ok()?;
    let drawn = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .quiet_zone(true)
        .build();
    Some(format!("{drawn}\n"))
}

fn listed(style: Style, invites: &Invites) -> String {
    if invites.invites.is_empty() {
        return "there are no invites\n".into();
    }
    let rows: Vec<Vec<Cell>> = invites
        .invites
        .iter()
        .map(|invite| {
            let used = Cell::number(format!("{} of {}", invite.used, invite.uses));
            let is_used_up = invite.used >= invite.uses;
            let used = if is_used_up { used.toned(Tone::Faint) } else { used };
            vec![Cell::new(invite.id.to_string()), used, Cell::new(time(invite.expires_at))]
        })
        .collect();
    table(style, &["INVITE", "USED", "UNTIL"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_drawn_with_half_blocks_on_a_light_ground() {
        let drawn =
            code("https://relay.example.org/invite#domain=example.org&secret=aaaqeayeaudaocajbifqydiob4");
        let drawn = drawn.unwrap();
        let lines: Vec<_> = drawn.lines().collect();
        let width = lines[0].chars().count();
        assert!(lines.iter().all(|line| line.chars().count() == width), "a rectangle");
        assert!(width <= 80, "{width}: it fits a terminal");
        assert!(lines[1].starts_with("████"), "a quiet zone that is light:\n{drawn}");
        assert!(drawn.chars().all(|c| matches!(c, '█' | '▀' | '▄' | ' ' | '\n')));
    }
}
