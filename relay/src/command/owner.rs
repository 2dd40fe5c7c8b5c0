//! Commands that change files in the relay's data directory, run by root.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Goes on as whoever the data directory belongs to, if root has called.
///
/// The relay's own user can put a link in place of any file there, and what root writes through one may be anything. And
/// what root makes there the relay could not read. The command has one thread, which is the one that changes.
pub(super) fn become_owner(data_dir: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let directory = std::fs::symlink_metadata(data_dir)?;
    if !directory.is_dir() {
        return Err(io::Error::other("is no directory, and root follows no link to one"));
    }
    let (user, group) = (Uid::from_raw(directory.uid()), Gid::from_raw(directory.gid()));
    if user.is_root() {
        return Ok(());
    }
    set_thread_groups(&[group])?;
    set_thread_res_gid(group, group, group)?;
    Ok(set_thread_res_uid(user, user, user)?)
}
