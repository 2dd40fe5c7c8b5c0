//! `postrider queue export`: the envelopes of one destination in a file.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use postrider_common::{Domain, TrackingId};
use serde::Serialize;

use super::{AdminCommandError, ExportArgs};
use crate::admin::Client;
use crate::admin::documents::Envelopes;

/// One line of the file.
#[derive(Serialize)]
struct Line<'a> {
    destination: &'a Domain,
    tracking: TrackingId,
    item: &'a str,
    expires_at: u64,
    attempts: u32,
    envelope: &'a str,
}

pub(super) async fn run(args: &ExportArgs, out: &mut dyn Write) -> Result<(), AdminCommandError> {
    let ExportArgs { place, domain, file } = args;
    let client = Client::new(place.data_dir()?);
    if *file == *Path::new("-") {
        write(&client, domain, &mut |line| Ok(out.write_all(line)?)).await?;
        return Ok(());
    }
    let failed = |error| AdminCommandError::File { file: file.clone(), error };
    // Asked before anything is made, so that a mistake leaves no empty file.
    let first: Envelopes = client.get(&path(domain, None)).await?;
    if first.items.is_empty() {
        return Err(AdminCommandError::NotThere(format!("nothing waits for {domain}")));
    }
    let options = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    let mut written = io::BufWriter::new(options);
    let count = write(&client, domain, &mut |line| written.write_all(line).map_err(failed)).await?;
    let written = written.into_inner().map_err(|error| failed(error.into_error()))?;
    written.sync_all().map_err(failed)?;
    writeln!(out, "{count} envelopes written to {}; they are still in the queue", file.display())?;
    Ok(())
}

async fn write(
    client: &Client,
    domain: &Domain,
    write: &mut dyn FnMut(&[u8]) -> Result<(), AdminCommandError>,
) -> Result<usize, AdminCommandError> {
    let (mut after, mut count) = (None, 0);
    loop {
        let page: Envelopes = client.get(&path(domain, after.as_deref())).await?;
        for item in &page.items {
            let line = Line {
                destination: domain,
                tracking: item.tracking,
                item: &item.item,
                expires_at: item.expires_at,
                attempts: item.attempts,
                envelope: item.envelope.as_deref().unwrap_or_default(),
            };
            let mut line = serde_json::to_vec(&line).map_err(io::Error::from)?;
            line.push(b'\n');
            write(&line)?;
        }
        count += page.items.len();
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(count),
        }
    }
}

fn path(domain: &Domain, after: Option<&str>) -> String {
    let after = after.map(|after| format!("?after={after}")).unwrap_or_default();
    format!("/v1/queue/{domain}/envelopes{after}")
}
