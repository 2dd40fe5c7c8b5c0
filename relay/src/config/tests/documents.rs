//! What is written for operators agrees with the code: `docs/configuration.md`, `deploy/full.toml` and
//! `deploy/minimal.toml`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;

use super::files::Files;
use crate::config::key::{Absence, Key, Section, paragraphs};
use crate::config::keys::{ALL, SECTIONS};
use crate::config::render::{self, capital, default};
use crate::config::{Config, TrustConfig};

#[test]
fn the_reference_is_that_of_the_code() {
    agree("docs/configuration.md", &markdown());
}

#[test]
fn the_messages_in_the_reference_are_those_of_the_code() {
    let text = "domain = \"alpha.example\"\n\n[listen]\naddreses = []\n\n\n\n[limits]\nbody = \"1 MB\"\n\n\n\n\n\n\
                [[federation.peers]]\ndomain = \"beta.example\"\n";
    for problem in super::problems(&Files::new(), text) {
        assert!(INTRODUCTION.contains(&format!("\npostrider.toml:{problem}\n")), "{problem}");
    }
}

#[test]
fn the_keys_that_documents_name_are_there() {
    let names_key = |name: &str| {
        ALL.iter().any(|key| key.path == name) || SECTIONS.iter().any(|section| section.path == name)
    };
    let begins = |name: &str| {
        let section = name.split_once('.').map_or("", |(section, _)| section);
        SECTIONS.iter().any(|known| !section.is_empty() && known.path.split('.').next() == Some(section))
    };
    // Files.
    let is_file = |name: &str| name.ends_with(".rs") || name == "store.import";
    let documents = fs::read_dir(repository("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut seen = 0;
    for path in documents.chain([repository("README.md")]) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        // What is between backquotes, as far as it may be a key: `web.allowed_origins`, `[[federation.peers]]`.
        for quoted in text.split('`').skip(1).step_by(2) {
            let name = quoted.trim_start_matches('[');
            let name = name.split(|c: char| !(c.is_ascii_lowercase() || matches!(c, '.' | '_'))).next();
            let name = name.unwrap_or_default();
            if begins(name) && !is_file(name) {
                assert!(names_key(name), "{} names {name}, which is no key", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 100, "only {seen}");
}

#[test]
fn the_full_sample_is_that_of_the_code_and_loads() {
    let text = full();
    agree("deploy/full.toml", &text);
    let files = Files::new();
    for place in ["tls/", "peers/"] {
        files.make_certificate(place, "relay.example.org");
    }
    files.make_certificate("data/identity/", "example.org");
    fs::rename(files.path("peers/certificate.pem"), files.path("peers/gamma-ca.pem")).unwrap();
    let config = files.load(&text);
    assert_eq!(config.warnings, []);
    assert_eq!(config.federation.peers.len(), 2);
    for key in ALL {
        // Whoever has a private root knows it; everybody else would lose the public one.
        let mark = if key.path == "dns.trust_anchor" { "# " } else { "" };
        let line = format!("\n{mark}{} = ", key.name());
        assert!(text.contains(&line), "{} is set", key.path);
    }
}

#[test]
fn the_small_samples_load() {
    let files = Files::new();
    files.make_certificate("data/identity/", "example.org");
    for sample in ["deploy/minimal.toml", "deploy/acme.toml"] {
        let config = files.load(&fs::read_to_string(repository(sample)).unwrap());
        assert_eq!(config.warnings, [], "{sample}");
    }
}

#[test]
fn the_samples_of_the_containers_load() {
    for (own, other) in [("alpha", "beta"), ("beta", "alpha")] {
        let files = Files::new();
        files.make_certificate("data/identity/", &format!("{own}.example"));
        files.make_certificate("peers/", &format!("{other}.example"));
        let certificate = format!("peers/{other}.pem");
        fs::rename(files.path("peers/certificate.pem"), files.path(&certificate)).unwrap();
        let text = fs::read_to_string(repository(&format!("deploy/compose/{own}.toml"))).unwrap();
        let config: Config = files.load(&text);
        assert_eq!(config.warnings, []);
        let peer = &config.federation.peers[0];
        assert_eq!(peer.domain.as_str(), format!("{other}.example"));
        let TrustConfig::PrivateCa { pem, .. } = &peer.trust else { panic!("private-ca") };
        vouches_for_itself(pem);
    }
}

/// The containers use a certificate that its own key signed as the authority for itself.
fn vouches_for_itself(pem: &[u8]) {
    let certificate = CertificateDer::from_pem_slice(pem).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    rustls::client::verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(&certificate).unwrap(),
        &roots,
        &[],
        UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000)),
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all,
    )
    .unwrap();
}

/// Compares a file of the repository with what it should hold, or writes it if `UPDATE_DOCS` is set.
fn agree(name: &str, expected: &str) {
    let path = repository(name);
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{name} is not what the code says (line {differs:?}): run the tests with UPDATE_DOCS=1"
    );
}

fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Every key set: to its example, which for one that has a default is the default.
fn full() -> String {
    let keys = render::toml(|key| match key.path {
        "federation.policy" => Some("\"allow-list\"".to_owned()),
        // The first peer is pinned; the second one has an authority.
        "federation.peers.ca" | "dns.trust_anchor" => None,
        _ => Some(key.example().to_owned()),
    });
    let second = "\n[[federation.peers]]\ndomain = \"gamma.example\"\ntrust = \"private-ca\"\nca = \"peers/gamma-ca.pem\"\n";
    let (before, after) = keys.split_once("\n# How names are looked up.\n").unwrap();
    format!("{FULL}{before}{second}\n# How names are looked up.\n{after}")
}

const FULL: &str = "\
# Every key there is. A relay needs only `domain`: see minimal.toml. Values that are not yours to invent (domain,
# certificates, peers) are examples; all others are the defaults, except that federation is switched on.

";

/// The reference of all keys, in Markdown.
fn markdown() -> String {
    let mut out = INTRODUCTION.to_owned();
    out.push_str("\n## All keys\n\n| key | holds | default |\n|---|---|---|\n");
    for key in ALL {
        let row = format!("| `{}` | {} | {} |", key.path, key.kind.describe(), absence(key));
        line(&mut out, &row);
    }
    for section in SECTIONS {
        let title = match section {
            Section { path: "", .. } => "The top of the file".to_owned(),
            Section { list: true, path, .. } => format!("`[[{path}]]`"),
            Section { path, .. } => format!("`[{path}]`"),
        };
        line(&mut out, &format!("\n## {title}\n"));
        for paragraph in paragraphs(section.text) {
            line(&mut out, &paragraph);
        }
        for key in ALL.iter().filter(|key| key.section() == section.path) {
            line(&mut out, &format!("\n### `{}`\n", key.path));
            line(&mut out, &format!("{}. {}", capital(&key.kind.describe()), capital(&default(key))));
            for paragraph in paragraphs(key.text) {
                line(&mut out, &format!("\n{paragraph}"));
            }
        }
    }
    out
}

const INTRODUCTION: &str = r#"# Configuration

<!-- Written from the descriptions in relay/src/config/keys.rs: change them there, then run
     UPDATE_DOCS=1 cargo test -p postrider config -->

A relay reads one file in [TOML](https://toml.io), named on the command line: `postrider serve --config FILE`. A file that
does not exist is an error; there is no place where one is looked for, and nothing is taken from the environment.
`postrider init` writes a file in which every key is explained, `deploy/full.toml` is the same with
every key set, and `postrider check-config --config FILE` says whether a file is good without starting anything.

Only `domain` has to be there. Everything else has a default.

Reading is strict, and everything that is wrong is reported at once: keys that are unknown (with a suggestion if one is near),
values of the wrong type or out of range, keys that contradict each other, and files that cannot be read or are not what they should be.
Each problem is one line on standard error with the file, the line and the key. The process then
exits with 78. What is allowed but odd is a warning, and the relay starts.

```text
postrider.toml:4: listen.addreses is unknown; did you mean listen.addresses?
postrider.toml:9: limits.body is "1 MB", but must be a whole number with one of the units B, KiB, MiB, GiB, TiB, such as "128 KiB"
postrider.toml:15: federation.peers[1].pins is missing; trust = "pinned" needs the fingerprint of the peer's key
```

How values are written:

* A **size** is a number of bytes (`131072`) or a string with a binary unit: `B`, `KiB`, `MiB`, `GiB`, `TiB` (`"128 KiB"`).
* A **duration** is a string with a unit: `ms`, `s`, `min`, `h`, `days` (`"30 s"`). There is no number without a unit.
* A **path** that is relative begins at the configuration file's directory, whatever directory the process was started in.
* An **address with port** is `"192.0.2.1:443"` or `"[2001:db8::1]:443"`: no host names.
* A **domain** is in lower case, without a trailing dot, international names as A-labels (`xn--…`).
* A **network** is in CIDR form, such as `"10.0.0.0/8"`, without stray bits.
"#;

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn absence(key: &Key) -> String {
    match key.absence {
        Absence::Required(_) => "required".to_owned(),
        Absence::Default(value) => format!("`{value}`"),
        Absence::Means(what, _) => what.to_owned(),
    }
}
