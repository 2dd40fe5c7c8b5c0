//! A directory with what a configuration may refer to.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::config::Config;
use crate::config::key::Key;

/// `data/identity` for `alpha.example`, and an authority in `ca.pem`.
pub(super) struct Files(TempDir);

impl Files {
    pub(super) fn new() -> Self {
        let files = Self::empty();
        files.make_certificate("data/identity/", "alpha.example");
        fs::copy(files.path("data/identity/certificate.pem"), files.path("ca.pem")).unwrap();
        files
    }

    pub(super) fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn write(&self, text: &str) -> PathBuf {
        let path = self.path("postrider.toml");
        fs::write(&path, text).unwrap();
        path
    }

    pub(super) fn load(&self, text: &str) -> Config {
        Config::load(&self.write(text)).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
    }

    /// Makes `<place>certificate.pem` and `<place>key.pem`; with a dot between if `place` is no directory.
    pub(super) fn make_certificate(&self, place: &str, domain: &str) {
        let place = if place.ends_with('/') { place.to_owned() } else { format!("{place}.") };
        let pair = rcgen::generate_simple_self_signed([domain.to_owned()]).unwrap();
        let (certificate, key) =
            (self.path(&format!("{place}certificate.pem")), self.path(&format!("{place}key.pem")));
        fs::create_dir_all(certificate.parent().unwrap()).unwrap();
        fs::write(certificate, pair.cert.pem()).unwrap();
        fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
    }

    /// Makes `dns/root.key`.
    pub(super) fn make_trust_anchor(&self) {
        let key = "oJMRESz5E4gYzS/q6XDrvU1qMPYIjCWzJaOau8XNEZeqCYKD5ar0IRd8KqXXFJkqmVfRvMGPmM1x8fGAa2XhSA==";
        fs::create_dir_all(self.path("dns")).unwrap();
        fs::write(self.path("dns/root.key"), format!(". 3600 IN DNSKEY 257 3 13 {key}\n")).unwrap();
    }

    pub(super) fn open_to_everybody(&self, name: &str) {
        fs::set_permissions(self.path(name), Permissions::from_mode(0o644)).unwrap();
    }

    pub(super) fn restrict(&self, name: &str) {
        fs::set_permissions(self.path(name), Permissions::from_mode(0o600)).unwrap();
    }

    /// A file that is good but for `key`, which is set to `value` (TOML). The files that examples name are there.
    pub(super) fn with_key(&self, key: &Key, value: &str) -> String {
        for place in ["tls/", "peers/gamma-ca."] {
            if !self.path(&format!("{place}certificate.pem")).exists() {
                self.make_certificate(place.trim_end_matches('.'), "gamma.example");
            }
        }
        let _ = fs::copy(self.path("ca.pem"), self.path("peers/gamma-ca.pem"));
        self.make_trust_anchor();
        let pin = "ab".repeat(32);
        let mut lines = vec![("", "domain", "\"alpha.example\"".to_owned())];
        match key.section() {
            "federation.peers" => {
                lines.push(("federation", "policy", "\"allow-list\"".to_owned()));
                lines.push(("federation.peers", "domain", "\"beta.example\"".to_owned()));
                if key.name() == "ca" {
                    lines.push(("federation.peers", "trust", "\"private-ca\"".to_owned()));
                } else {
                    lines.push(("federation.peers", "pins", format!("[\"{pin}\"]")));
                }
            }
            section @ ("tls" | "federation") if matches!(key.name(), "certificate" | "key") => {
                let place = if section == "tls" { "tls" } else { "data/identity" };
                for name in ["certificate", "key"] {
                    lines.push((section, name, format!("\"{place}/{name}.pem\"")));
                }
            }
            _ => {}
        }
        lines.retain(|(section, name, _)| (*section, *name) != (key.section(), key.name()));
        lines.push((key.section(), key.name(), value.to_owned()));
        lines.sort_by_key(|(section, ..)| *section);
        let mut text = String::new();
        let mut current = "";
        for (section, name, value) in lines {
            if section != current {
                let peers = section == "federation.peers";
                text += &if peers { format!("[[{section}]]\n") } else { format!("[{section}]\n") };
                current = section;
            }
            text += &format!("{name} = {value}\n");
        }
        text
    }
}
