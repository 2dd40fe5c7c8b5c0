//! What `init` leaves on disk, and what it does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::config::Config;

/// A directory that `init` made for `alpha.example`, and the configuration file in it.
pub(crate) fn made() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("relay");
    run(&args(&dir), identity, &mut Vec::new()).unwrap();
    (parent, dir.join("postrider.toml"))
}

fn args(dir: &Path) -> InitArgs {
    InitArgs { domain: "alpha.example".parse().unwrap(), dir: dir.to_owned(), listen: None }
}

fn identity(domain: &Domain) -> Result<NewIdentity, rcgen::Error> {
    let pair = rcgen::generate_simple_self_signed([domain.to_string()])?;
    Ok(NewIdentity {
        certificate_pem: pair.cert.pem(),
        key_pem: Zeroizing::new(pair.signing_key.serialize_pem()),
    })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_made_loads_without_a_word() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("relay");
    let mut out = Vec::new();
    let mut args = args(&dir);
    args.listen = Some("[2001:db8::1]:8443".parse().unwrap());
    run(&args, identity, &mut out).unwrap();

    let file = dir.join("postrider.toml");
    let config = Config::load(&file).unwrap();
    assert_eq!(config.warnings, []);
    assert_eq!(config.listen.of_relays().collect::<Vec<_>>(), [args.listen.unwrap()]);
    assert_eq!(config.data_dir, dir.join("data"));
    assert!(config.federation.identity.names(&args.domain));
    assert_eq!([&dir, &dir.join("data"), &dir.join("data/identity")].map(|path| mode(path)), [0o700; 3]);
    assert_eq!(mode(&dir.join("data/identity/key.pem")), 0o600);

    let out = String::from_utf8(out).unwrap();
    assert!(
        out.contains("\n   _postrider._tcp.alpha.example. 3600 IN SRV 0 0 8443 relay.alpha.example.\n"),
        "{out}"
    );
    assert!(out.contains(&HEXLOWER.encode(&config.federation.identity.pin)), "{out}");
    for path in [&file, &dir.join("data/identity/certificate.pem"), &dir.join("data/identity/key.pem")] {
        assert!(out.contains(&path.display().to_string()), "{out}");
    }
}

#[test]
fn every_key_is_there_and_its_commented_default_is_the_default() {
    let (_parent, file) = made();
    let commented = fs::read_to_string(&file).unwrap();
    // With the comment signs of the defaults gone, nothing changes.
    let defaults: String = commented
        .lines()
        .filter(|line| !line.contains("[[federation.peers]]"))
        .filter(|line| !["# trust_anchor = ", "# metrics = "].iter().any(|key| line.starts_with(key)))
        .map(|line| {
            let value = line.strip_prefix("# ").filter(|line| {
                line.split_once(" = ")
                    .is_some_and(|(name, _)| name.chars().all(|c| c == '_' || c.is_ascii_lowercase()))
            });
            value.unwrap_or(line).to_owned() + "\n"
        })
        .collect();
    let without = |text: &str, sections: [&str; 2]| -> String {
        text.split_inclusive('\n')
            .scan(String::new(), |section, line| {
                if line.starts_with('[') {
                    *section = line.trim().to_owned();
                }
                Some((section.clone(), line.to_owned()))
            })
            .filter(|(section, _)| !sections.contains(&section.as_str()))
            .map(|(_, line)| line)
            .collect()
    };
    let before = format!("{:?}", Config::load(&file).unwrap());
    // `[tls]` and `[federation]` have keys without a default, whose examples name files, as `trust_anchor` does; `metrics` has none either.
    fs::write(&file, without(&defaults, ["[tls]", "[federation]"])).unwrap();
    let after = format!("{:?}", Config::load(&file).unwrap_or_else(|errors| panic!("{errors}")));
    assert_eq!(before, after);
    assert!(defaults.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count() > 40);
}

#[test]
fn nothing_that_exists_is_touched() {
    for (name, is_dir) in [("postrider.toml", false), ("data", true)] {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join(name);
        if is_dir { fs::create_dir(&path) } else { fs::write(&path, "precious") }.unwrap();
        let error = run(&args(parent.path()), identity, &mut Vec::new()).unwrap_err();
        assert_eq!(error.exit(), Exit::CannotCreate);
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        assert!(is_dir || fs::read_to_string(&path).unwrap() == "precious");
    }
    let (parent, file) = made();
    let before = fs::read(parent.path().join("relay/data/identity/key.pem")).unwrap();
    run(&args(file.parent().unwrap()), identity, &mut Vec::new()).unwrap_err();
    assert_eq!(fs::read(parent.path().join("relay/data/identity/key.pem")).unwrap(), before);
}

#[test]
fn an_existing_directory_is_used_with_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    run(&args(dir.path()), identity, &mut Vec::new()).unwrap();
    Config::load(&dir.path().join("postrider.toml")).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("notes.txt")).unwrap(), "mine");
}

#[test]
fn a_failure_leaves_nothing_behind() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let parent = tempfile::tempdir().unwrap();
    let empty = || fs::read_dir(parent.path()).unwrap().count() == 0;
    let dir = parent.path().join("relay");

    let error =
        run(&args(&dir), |_: &Domain| Err::<NewIdentity, _>("no entropy"), &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "the relay's identity cannot be made: no entropy");
    assert!(empty());

    // The last step fails: everything has been made by then.
    let error = run(&args(&dir), identity, &mut Broken).unwrap_err();
    assert_eq!(error.exit(), Exit::Io);
    assert!(empty());

    // A file appears in the way while the identity is made: it stays, and the rest goes.
    let intruder = |domain: &Domain| {
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("postrider.toml"), "precious").unwrap();
        identity(domain)
    };
    let error = run(&args(&dir), intruder, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, InitError::Exists(_)), "{error}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(dir.join("postrider.toml")).unwrap(), "precious");
}

#[test]
fn a_parent_that_is_not_there_is_an_error() {
    let parent = tempfile::tempdir().unwrap();
    let error = run(&args(&parent.path().join("a/b")), identity, &mut Vec::new()).unwrap_err();
    assert_eq!(error.exit(), Exit::CannotCreate);
    assert!(error.to_string().contains("a/b cannot be made"), "{error}");
}
