//! Zones as text, signed by ldns.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::programs::run;

/// A zone of one label under the root.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    pub(crate) name: &'static str,
    pub(crate) signing: Signing,
    /// Records, relative to the zone.
    pub(crate) records: String,
}

/// Whether and how a zone is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signing {
    /// In order.
    Signed,
    /// Not at all, and its parent says so.
    Unsigned,
    /// Signed, and every record of the kinds that matter changed afterwards.
    Broken,
}

/// Writes the root and the zones beneath it as files, and the root's key as `anchor.key`. Gives the files' names.
pub(crate) fn write(directory: &Path, zones: &[Zone], are_signed: bool) -> Vec<(String, String)> {
    let mut root = String::from(
        "$ORIGIN .\n$TTL 3600\n@ IN SOA ns.root-servers. admin. 1 3600 600 86400 60\n@ IN NS ns.root-servers.\n\
         ns.root-servers. IN A 127.0.0.1\n",
    );
    let mut files = Vec::new();
    for zone in zones {
        let name = zone.name;
        let text = format!(
            "$ORIGIN {name}.\n$TTL 60\n@ IN SOA ns admin 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n{}\n",
            zone.records
        );
        fs::write(directory.join(format!("{name}.zone")), text).unwrap();
        let _ = write!(root, "{name}. IN NS ns.{name}.\nns.{name}. IN A 127.0.0.1\n");
        if !are_signed || zone.signing == Signing::Unsigned {
            files.push((format!("{name}."), format!("{name}.zone")));
            continue;
        }
        let (file, key) = sign(directory, &format!("{name}."), &format!("{name}.zone"));
        root.push_str(&fs::read_to_string(directory.join(format!("{key}.ds"))).unwrap());
        if zone.signing == Signing::Broken {
            spoil(&directory.join(&file));
        }
        files.push((format!("{name}."), file));
    }
    fs::write(directory.join("root.zone"), root).unwrap();
    let root = if are_signed {
        let (file, key) = sign(directory, ".", "root.zone");
        fs::copy(directory.join(format!("{key}.key")), directory.join("anchor.key")).unwrap();
        file
    } else {
        "root.zone".to_owned()
    };
    files.push((".".to_owned(), root));
    files
}

fn sign(directory: &Path, origin: &str, file: &str) -> (String, String) {
    let signed = format!("{file}.signed");
    let key = run(directory, "ldns-keygen", &["-a", "ECDSAP256SHA256", "-k", origin]);
    run(directory, "ldns-signzone", &["-o", origin, "-f", &signed, file, &key]);
    (signed, key)
}

/// Changes what was signed: another port in SRV records, another first digit in TLSA records.
fn spoil(file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    let spoilt = text.lines().map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.get(3) {
            Some(&"SRV") => line.replacen("SRV\t0", "SRV\t1", 1),
            Some(&"TLSA") => {
                line.replacen("3 1 1 ", "3 1 1 0", 1).trim_end_matches(|c| c != ' ').to_owned()
                    + &"0".repeat(64)
            }
            _ => line.to_owned(),
        }
    });
    let spoilt: Vec<_> = spoilt.collect();
    assert_ne!(spoilt.join("\n"), text.trim_end(), "something was changed");
    fs::write(file, spoilt.join("\n") + "\n").unwrap();
}
