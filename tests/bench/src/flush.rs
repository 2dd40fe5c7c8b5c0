//! What one flush of the disk takes, which is what every durable answer waits for at least; and the disk itself.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::BenchError;

/// As much as the records of one envelope of 1 KiB, about.
const APPEND: usize = 2 << 10;
const ROUNDS: usize = 64;

/// The times that `fdatasync` takes after an append of 2 KiB, on the file system of `directory`.
pub(crate) fn flushes(directory: &Path) -> Result<Vec<Duration>, BenchError> {
    let measured = || -> std::io::Result<Vec<Duration>> {
        let mut file = tempfile::tempfile_in(directory)?;
        (0..ROUNDS).map(|_| append(&mut file)).collect()
    };
    measured()
        .map_err(|source| BenchError::Io { what: format!("flushing in {}", directory.display()), source })
}

fn append(file: &mut File) -> std::io::Result<Duration> {
    file.write_all(&[0x5a; APPEND])?;
    let started = Instant::now();
    file.sync_data()?;
    Ok(started.elapsed())
}

/// The middle one; nothing has none.
pub(crate) fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    durations.get(durations.len() / 2).copied().unwrap_or_default()
}

/// The type of the file system that a directory is on, such as `ext4`.
pub(crate) fn file_system(directory: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let directory = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    type_of(&mounts, &directory).unwrap_or("unknown").to_owned()
}

/// Of the mount points that the directory is below, the last of the longest.
fn type_of<'a>(mounts: &'a str, directory: &Path) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        Some((Path::new(fields.nth(1)?), fields.next()?))
    });
    let above = mounts.filter(|(point, _)| directory.starts_with(point));
    above.max_by_key(|(point, _)| point.components().count()).map(|(_, kind)| kind)
}

/// The bytes that the files below a directory take on the disk. A file that goes while it is looked at counts nothing.
pub(crate) fn disk_bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;

    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_file_system_of_a_directory() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/disk xfs rw 0 0\n";
        let of = |path: &str| type_of(mounts, Path::new(path));
        assert_eq!(
            (of("/home/a"), of("/tmp/a"), of("/tmpfile")),
            (Some("ext4"), Some("tmpfs"), Some("ext4"))
        );
        assert_eq!(of("/tmp/disk/a"), Some("xfs"));
        assert_eq!(type_of("", Path::new("/")), None);
    }

    #[test]
    fn counts_what_a_directory_takes() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("below")).unwrap();
        let mut file = File::create(directory.path().join("below/file")).unwrap();
        file.write_all(&vec![1; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        assert!(disk_bytes(directory.path()) >= 1 << 20);
        assert_eq!(flushes(directory.path()).unwrap().len(), ROUNDS);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let ms = |values: &[u64]| values.iter().copied().map(Duration::from_millis).collect::<Vec<_>>();
        assert_eq!(median(ms(&[9, 1, 3])), Duration::from_millis(3));
        assert_eq!(median(Vec::new()), Duration::ZERO);
    }
}
