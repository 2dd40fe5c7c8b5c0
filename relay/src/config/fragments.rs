//! Peers that `postrider peer import` has written, each in a file of its own in the data directory.
//!
//! A file has `[[federation.peers]]` and its keys, as the configuration itself would: what is in one can be moved into the
//! other. It has nothing else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::file::File;
use super::key::Key;
use super::keys::DATA_DIR;
use super::peer::{Own, PeerConfig, peers};
use super::problem::{Findings, Problem};

/// Where the files are.
pub fn peers_directory(data_dir: &Path) -> PathBuf {
    data_dir.join("peers.d")
}

/// The file about one peer.
pub fn peer_file(data_dir: &Path, domain: &postrider_common::Domain) -> PathBuf {
    peers_directory(data_dir).join(format!("{domain}.toml"))
}

/// Adds the peers of every file to those that the configuration itself has.
pub(super) fn add_to(peers: &mut Vec<PeerConfig>, data_dir: &Path, own: Own<'_>, findings: &mut Findings) {
    let directory = peers_directory(data_dir);
    let files = match listed(&directory) {
        Ok(files) => files,
        Err(error) => {
            let text = format!("has a directory that cannot be read: {}: {error}", directory.display());
            return findings.problems.push(problem(&DATA_DIR, text));
        }
    };
    for file in files {
        let mut found = Findings::default();
        let text = fs::read_to_string(&file).map_err(|error| format!("cannot be read: {error}"));
        let added = match &text {
            Ok(text) => of_text(text, own, &directory, &mut found),
            Err(error) => {
                found.problems.push(Problem { key: None, line: None, text: error.clone() });
                Vec::new()
            }
        };
        for peer in added {
            if peers.iter().any(|other| other.domain == peer.domain) {
                let text = format!("{} is listed elsewhere already; keep one of the two", peer.domain);
                found.problems.push(Problem { key: None, line: None, text });
            } else {
                peers.push(peer);
            }
        }
        findings.problems.extend(found.problems.iter().map(|problem| in_file(&file, problem)));
        findings.warnings.extend(found.warnings.iter().map(|warning| in_file(&file, warning)));
    }
}

/// The peers in the text of such a file. What is wrong with them is in `findings`.
pub(super) fn of_text(
    text: &str,
    own: Own<'_>,
    directory: &Path,
    findings: &mut Findings,
) -> Vec<PeerConfig> {
    let Some(file) = File::parse(text, findings) else {
        return Vec::new();
    };
    for key in file.top.values.keys() {
        let text =
            "does not belong here: a file about peers has [[federation.peers]] and nothing else".into();
        findings.problems.push(Problem { key: Some((*key).into()), line: None, text });
    }
    peers(&file, own, directory, findings)
}

fn listed(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn problem(key: &Key, text: String) -> Problem {
    Problem { key: Some(key.path.into()), line: None, text }
}

/// Said of the configuration, which is what was loaded, and naming the file.
fn in_file(file: &Path, problem: &Problem) -> Problem {
    Problem { key: None, line: None, text: format!("through {}", problem.in_file(file)) }
}
