//! Files that came beside messages are fetched, with a bar on standard error where that is a terminal.

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use postrider_client::{AttachedFile, AttachmentError, Relay};

use super::show;

const BAR: &str = "{msg:22!} {bar:32} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";

/// Fetches a file into a directory, and says in a line where it is.
pub(super) async fn save(
    relay: &Relay,
    file: &AttachedFile,
    directory: &Path,
) -> Result<String, AttachmentError> {
    let bar = bar(&file.name);
    let saved = file.save(relay, directory, &mut |done, of| at(&bar, done, of)).await;
    bar.finish_and_clear();
    Ok(format!("{}: saved as {}\n", named(file), saved?.display()))
}

/// What is said of a file that nobody can have any more.
pub(super) fn lost(file: &AttachedFile, why: &AttachmentError) -> String {
    format!("{}: lost: {}\n", named(file), show::one_line(&why.to_string()))
}

/// What is said of a file that the relay does not give for now.
pub(super) fn refused(file: &AttachedFile, why: &AttachmentError) -> String {
    format!("{}: not fetched, its message comes again: {}\n", named(file), show::one_line(&why.to_string()))
}

/// What is said of a file that is not fetched.
pub(super) fn left(file: &AttachedFile) -> String {
    format!("{}: kept at the relay until `--save DIR` fetches it\n", named(file))
}

fn named(file: &AttachedFile) -> String {
    format!("    attachment {}, {} bytes", show::one_line(&file.name), file.length)
}

/// How far a file is.
pub(super) fn bar(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style).with_message(show::one_line(name))
}

pub(super) fn at(bar: &ProgressBar, done: u64, of: u64) {
    bar.set_length(of);
    bar.set_position(done);
}
