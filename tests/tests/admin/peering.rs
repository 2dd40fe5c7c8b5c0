//! Two administrators who make their relays peers, and one who changes his relay's key.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use postrider_tests::binary::postrider;
use postrider_tests::cluster::PATIENCE;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::commands::{ALPHA, BETA, run, text};

/// A relay as `init` makes it.
struct Made {
    _parent: TempDir,
    config: PathBuf,
}

impl Made {
    async fn new(domain: &str) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("relay");
        let path = directory.to_str().unwrap();
        let made = run(&["init", "--domain", domain, "--dir", path, "--listen", "127.0.0.1:0"]).await;
        assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
        Self { config: directory.join("postrider.toml"), _parent: parent }
    }

    /// Exit code, and what was said where.
    async fn ask(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut all = arguments.to_vec();
        all.extend(["--config", self.config.to_str().unwrap()]);
        let output = run(&all).await;
        (output.status.code(), text(&output.stdout).into(), text(&output.stderr).into())
    }

    async fn told(&self, arguments: &[&str]) -> String {
        let (code, out, error) = self.ask(arguments).await;
        assert_eq!((code, error.as_str()), (Some(0), ""), "{arguments:?}");
        out
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.config.with_file_name(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn serve(&self) -> Child {
        let mut child = Command::new(postrider())
            .args(["serve", "--config", self.config.to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        timeout(PATIENCE, lines.next_line()).await.expect("it is ready in time").unwrap().unwrap();
        child
    }
}

#[tokio::test]
async fn a_block_makes_a_peer_of_a_relay_that_runs_and_it_can_be_taken_out_again() {
    let (alpha, beta) = (Made::new(ALPHA).await, Made::new(BETA).await);
    let config = fs::read_to_string(&alpha.config).unwrap();
    fs::write(&alpha.config, config.replace("# policy = \"closed\"", "policy = \"allow-list\"")).unwrap();
    let block = beta.told(&["peer", "export", "--host", "Relay.Beta.example.", "--port", "8443"]).await;
    assert_eq!(
        block,
        beta.told(&["identity", "export", "--host", "relay.beta.example", "--port", "8443"]).await
    );
    assert!(
        block.contains("#   _postrider._tcp.beta.example. 3600 IN SRV 0 0 8443 relay.beta.example.\n"),
        "{block}"
    );
    let pin = beta.told(&["check-config"]).await;
    let pin = pin.split("own pin").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert!(
        block.contains(&format!("#   _8443._tcp.relay.beta.example. 3600 IN TLSA 3 1 1 {pin}\n")),
        "{block}"
    );
    assert!(block.ends_with(&format!("pins = [\"{pin}\"]\n")), "{block}");

    let file = alpha.write("beta.block", &block);
    assert_eq!(alpha.told(&["peer", "list"]).await, "no peer is listed\n");
    let mut relay = alpha.serve().await;
    let said = alpha.told(&["peer", "import", &file]).await;
    assert!(said.starts_with("beta.example is a peer: "), "{said}");
    assert!(said.ends_with("The running relay has read it.\n"), "{said}");
    assert_eq!(alpha.told(&["reload"]).await, "nothing that can change while the relay runs has changed\n");
    let listed = alpha.told(&["peer", "list"]).await;
    assert!(
        listed.lines().nth(1).unwrap().starts_with("beta.example  both       pinned  imported"),
        "{listed}"
    );
    assert!(alpha.told(&["peer", "show", BETA]).await.contains(&pin));
    let again = alpha.told(&["peer", "import", &file]).await;
    assert!(again.starts_with("beta.example is what it was: "), "{again}");

    let said = alpha.told(&["peer", "remove", BETA]).await;
    assert_eq!(said, "beta.example is no longer a peer\nThe running relay has read it.\n");
    relay.kill().await.unwrap();
    assert_eq!(alpha.told(&["peer", "list"]).await, "no peer is listed\n");

    // From standard input, and with nobody to tell.
    let mut importing = Command::new(postrider())
        .args(["peer", "import", "-", "--config", alpha.config.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    importing.stdin.take().unwrap().write_all(block.as_bytes()).await.unwrap();
    let imported = timeout(PATIENCE, importing.wait_with_output()).await.unwrap().unwrap();
    assert!(text(&imported.stdout).ends_with("it counts from its next start.\n"), "{imported:?}");
    assert!(alpha.told(&["check-config"]).await.contains("allow-list: beta.example"));
}

#[tokio::test]
async fn a_block_that_is_none_changes_nothing() {
    let alpha = Made::new(ALPHA).await;
    let own = alpha.told(&["peer", "export"]).await;
    let one = |domain: &str, more: &str| format!("[[federation.peers]]\ndomain = \"{domain}\"\n{more}\n");
    let pins = format!("pins = [\"{}\"]", "0a".repeat(32));
    let two = format!("{}{}", one(BETA, &pins), one("gamma.example", &pins));
    for (block, code, expected) in [
        ("colour = 3".to_owned(), 65, "colour is unknown"),
        (String::new(), 65, "was the block copied as a whole?"),
        (two, 65, "and 2 are there"),
        (one(BETA, "pins = [\"0a\"]"), 65, "federation.peers[1].pins"),
        (format!("domain = \"beta.example\"\n{}", one(BETA, &pins)), 65, "does not belong here"),
        (own, 65, "which is this relay itself"),
    ] {
        let file = alpha.write("block", &block);
        let (is, out, error) = alpha.ask(&["peer", "import", &file]).await;
        assert_eq!((is, out.as_str()), (Some(code), ""), "{block}: {error}");
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let no_text = alpha.config.with_file_name("no-text");
    fs::write(&no_text, [0xff, 0xfe]).unwrap();
    let (code, _, error) = alpha.ask(&["peer", "import", no_text.to_str().unwrap()]).await;
    assert!(code == Some(65) && error.contains("this is no text"), "{code:?} {error}");
    assert!(!alpha.config.with_file_name("data").join("peers.d").exists());
    let (code, _, error) = alpha.ask(&["peer", "remove", BETA]).await;
    assert_eq!((code, error.as_str()), (Some(69), "postrider: beta.example is no peer\n"));

    // What is at odds with the rest of the configuration is not left there.
    let before = fs::read_to_string(&alpha.config).unwrap();
    let open = format!("policy = \"open\"\ndeny = [\"{BETA}\"]");
    fs::write(&alpha.config, before.replace("# policy = \"closed\"", &open)).unwrap();
    assert_ne!(before, fs::read_to_string(&alpha.config).unwrap());
    let file = alpha.write("block", &one(BETA, &pins));
    let (code, _, error) = alpha.ask(&["peer", "import", &file]).await;
    assert!(
        code == Some(65) && error.contains("nothing was imported") && error.contains("federation.deny"),
        "{error}"
    );
    alpha.told(&["check-config"]).await;
    fs::write(&alpha.config, before).unwrap();
    // Nothing is in it.
    fs::remove_dir(alpha.config.with_file_name("data").join("peers.d")).unwrap();

    // What the configuration lists itself is changed there, and a second file about the same peer is a mistake.
    let config = fs::read_to_string(&alpha.config).unwrap();
    fs::write(&alpha.config, format!("{config}\n{}", one(BETA, &pins))).unwrap();
    let file = alpha.write("block", &one(BETA, &pins));
    for arguments in [&["peer", "import", &file][..], &["peer", "remove", BETA]] {
        let (code, _, error) = alpha.ask(arguments).await;
        assert_eq!(code, Some(73), "{error}");
        assert!(error.contains("beta.example is listed in"), "{error}");
    }
    let directory = alpha.config.with_file_name("data").join("peers.d");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("beta.example.toml"), one(BETA, &pins)).unwrap();
    let (code, _, error) = alpha.ask(&["check-config"]).await;
    assert_eq!(code, Some(78), "{error}");
    assert!(error.contains("peers.d/beta.example.toml: beta.example is listed elsewhere already"), "{error}");
}

#[tokio::test]
async fn a_block_that_asks_for_more_than_its_key_is_taken_with_open_eyes_only() {
    let (alpha, beta) = (Made::new(ALPHA).await, Made::new(BETA).await);
    let certificate = beta.config.with_file_name("data").join("identity/certificate.pem");
    let certificate = alpha.write("beta-ca.pem", &fs::read_to_string(certificate).unwrap());
    let entry = "[[federation.peers]]\ndomain = \"beta.example\"\n";
    let pins = format!("pins = [\"{}\"]\n", "0a".repeat(32));
    for (more, shown) in [
        (format!("{pins}addresses = [\"10.0.0.1:443\"]\n"), "addresses = [\"10.0.0.1:443\"]".to_owned()),
        (
            format!("trust = \"private-ca\"\nca = \"{certificate}\"\n"),
            format!("trust = \"private-ca\" with ca = \"{certificate}\""),
        ),
        ("trust = \"webpki\"\n".to_owned(), "trust = \"webpki\"".to_owned()),
        ("trust = \"dane\"\n".to_owned(), "trust = \"dane\"".to_owned()),
        (format!("{pins}envelopes_per_second = 70\n"), "envelopes_per_second = 70".to_owned()),
    ] {
        let file = alpha.write("block", &format!("{entry}{more}"));
        let (code, out, error) = alpha.ask(&["peer", "import", &file]).await;
        assert_eq!((code, out.as_str()), (Some(65), ""), "{error}");
        assert!(error.contains(&format!("asks for more than to be known by its key: {shown}. ")), "{error}");
        assert_eq!(alpha.told(&["peer", "list"]).await, "no peer is listed\n");
        let said = alpha.told(&["peer", "import", "--beyond-pins", &file]).await;
        let value = shown.rsplit(" = ").next().unwrap().trim_matches(['[', ']', '"']).to_owned();
        assert!(said.contains(&value), "{value}: {said}");
        alpha.told(&["peer", "remove", BETA]).await;
    }
}

#[tokio::test]
async fn a_known_peer_is_changed_with_open_eyes_and_every_change_is_told() {
    let alpha = Made::new(ALPHA).await;
    let [one, two, three] = ["0a", "0b", "0c"].map(|byte| byte.repeat(32));
    let entry = "[[federation.peers]]\ndomain = \"beta.example\"\n";
    let block = |more: String| alpha.write("block", &format!("{entry}{more}\n"));
    let addresses = "addresses = [\"10.0.0.1:443\"]";
    let first = block(format!("pins = [\"{one}\"]\n{addresses}\ndirection = \"out\""));
    alpha.told(&["peer", "import", "--beyond-pins", &first]).await;
    let file = alpha.config.with_file_name("data").join("peers.d/beta.example.toml");
    let written = fs::read_to_string(&file).unwrap();

    // What `peer export` says there is less than what is known, and says it of another key.
    let plain = block(format!("pins = [\"{two}\"]"));
    let changes =
        format!("  direction: out -> both\n  pins: {one} -> {two}\n  addresses: 10.0.0.1:443 -> none\n");
    let (code, out, error) = alpha.ask(&["peer", "import", &plain]).await;
    assert_eq!((code, out.as_str()), (Some(65), ""), "{error}");
    let expected = format!(
        "postrider: {plain}: beta.example is a peer already, and would be dealt with in another way:\n{changes}\
         Whoever has asked its administrator takes that with `--replace`\n"
    );
    assert_eq!(error, expected);
    assert_eq!(fs::read_to_string(&file).unwrap(), written, "nothing is changed");
    let said = alpha.told(&["peer", "import", "--replace", &plain]).await;
    assert!(said.starts_with(&format!("beta.example is changed: {}\n{changes}\n", file.display())), "{said}");

    // It goes on with the key that is known, and announces another.
    let next = block(format!("pins = [\"{two}\", \"{three}\"]"));
    let said = alpha.told(&["peer", "import", &next]).await;
    assert!(said.contains(&format!("\n  pins: {two} -> {two}, {three}\n\n")), "{said}");
    let used = block(format!("pins = [\"{three}\"]"));
    alpha.told(&["peer", "import", &used]).await;

    // Neither is a weaker mode taken without a word, nor is one of the two questions an answer to the other.
    let weaker = block("trust = \"webpki\"".to_owned());
    for arguments in [&["--beyond-pins"][..], &["--replace"], &[]] {
        let all = [&["peer", "import", &weaker], arguments].concat();
        let (code, _, error) = alpha.ask(&all).await;
        assert_eq!(code, Some(65), "{arguments:?}: {error}");
    }
    let said = alpha.told(&["peer", "import", "--beyond-pins", "--replace", &weaker]).await;
    assert!(said.contains(&format!("\n  trust: pinned -> webpki\n  pins: {three} -> none\n")), "{said}");
}

/// Files in a directory belong to whoever could put a link there: root does not follow it.
#[tokio::test]
async fn root_writes_nothing_through_links_that_the_relays_user_has_made() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can be led astray like that");
    }
    let (alpha, beta) = (Made::new(ALPHA).await, Made::new(BETA).await);
    let block = alpha.write("beta.block", &beta.told(&["peer", "export"]).await);
    let home = alpha.config.parent().unwrap();
    let data = home.join("data");
    let of_nobody =
        std::process::Command::new("chown").arg("-R").arg("65534:65534").arg(home).status().unwrap();
    assert!(of_nobody.success());
    for path in [home, home.parent().unwrap()] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let outside = tempfile::tempdir().unwrap();
    let precious = outside.path().join("precious");
    fs::write(&precious, "of root's").unwrap();
    fs::set_permissions(&precious, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let link = |from: &std::path::Path, to: &std::path::Path| std::os::unix::fs::symlink(to, from).unwrap();
    fs::create_dir(data.join("peers.d")).unwrap();
    assert!(
        std::process::Command::new("chown")
            .arg("65534:65534")
            .arg(data.join("peers.d"))
            .status()
            .unwrap()
            .success()
    );
    link(&data.join("peers.d/beta.example.new"), &precious);
    link(&data.join("identity-next"), outside.path());
    for arguments in [&["peer", "import", &block][..], &["identity", "rotate"]] {
        let (code, _, error) = alpha.ask(arguments).await;
        assert_eq!(code, Some(77), "{arguments:?}: {error}");
    }
    assert_eq!(fs::read_to_string(&precious).unwrap(), "of root's");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);

    // Without the links, what root has done is the relay's.
    fs::remove_file(data.join("peers.d/beta.example.new")).unwrap();
    fs::remove_file(data.join("identity-next")).unwrap();
    alpha.told(&["peer", "import", &block]).await;
    alpha.told(&["identity", "rotate"]).await;
    for file in ["peers.d/beta.example.toml", "identity-next/key.pem"] {
        let file = fs::metadata(data.join(file)).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&file), 65_534);
    }
}

#[tokio::test]
async fn the_next_key_is_told_with_the_current_one() {
    let alpha = Made::new(ALPHA).await;
    let (code, _, error) = alpha.ask(&["identity", "rotate"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let shown = alpha.told(&["identity", "show"]).await;
    let next = shown.split("next pin:").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert!(alpha.told(&["identity", "export"]).await.contains(&next));
    assert_eq!(alpha.told(&["dns", "--address", "192.0.2.1"]).await.matches("TLSA 3 1 1").count(), 2);
    let (code, out, error) = alpha.ask(&["identity", "rotate"]).await;
    assert_eq!((code, out.as_str()), (Some(75), ""), "{error}");
    let _relay = alpha.serve().await;
    let said = alpha.told(&["identity", "rotate", "--now"]).await;
    assert!(said.ends_with("The running relay has read it.\n"), "{said}");
    assert!(alpha.told(&["check-config"]).await.contains(&next));
}
