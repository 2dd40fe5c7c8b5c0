//! `postrider doctor`, word for word: `doctor.txt` has what it prints in each case.
//!
//! Rewritten with `UPDATE_DOCS=1`. What differs from run to run (ports, dates, keys, the number of days) is left out.

use std::fmt::Write;
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use postrider::config::peer_file;
use postrider_common::clock::{Clock, SystemClock};
use postrider_tests::authority::{Authority, AuthorityError, Certified, Leaf, Usage, self_signed};
use postrider_tests::cluster::Cluster;
use postrider_tests::dns::{Srv, srv_name};
use postrider_tests::settled::settled;
use tokio::io::AsyncWriteExt;

use crate::commands::{ALPHA, BETA, ask_anyhow, run, text};

/// What beta presents.
type Presents = fn(&Authority, &Leaf) -> Result<Certified, AuthorityError>;

async fn relays(presents: Presents) -> Cluster {
    let builder = Cluster::builder([ALPHA, BETA]).certificate(move |name, authority| {
        let good = Leaf::new(name, SystemClock.now());
        if name.as_str() == BETA { presents(authority, &good) } else { authority.issue(&good) }
    });
    builder.start().await.unwrap()
}

fn good(authority: &Authority, leaf: &Leaf) -> Result<Certified, AuthorityError> {
    authority.issue(leaf)
}

async fn examined(cluster: &Cluster) -> String {
    examined_of(cluster, BETA).await
}

async fn examined_of(cluster: &Cluster, domain: &str) -> String {
    let config = cluster.directory(ALPHA).unwrap().join("postrider.toml");
    let output = run(&["doctor", domain, "--config", config.to_str().unwrap()]).await;
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    let json = run(&["doctor", domain, "--json", "--config", config.to_str().unwrap()]).await;
    assert_eq!(json.status.code(), output.status.code());
    let document: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(document["passes"].as_bool(), Some(output.status.success()), "{document}");
    settled(&format!("exit code {}\n\n{out}{error}", output.status.code().unwrap()))
}

#[tokio::test]
async fn each_case_is_told_apart() {
    let mut told = String::new();
    let mut tell = |case: &str, examined: String| {
        // Writing to a string does not fail.
        let _ = write!(told, "## {case}\n\n{examined}\n");
    };
    for (case, presents) in [
        ("good", good as Presents),
        ("self-signed", |_, leaf| self_signed(leaf)),
        ("unknown authority", |_, leaf| Authority::new("Another authority")?.issue(leaf)),
        ("missing intermediate", |authority, leaf| {
            let between = authority.intermediate("Intermediate authority", &[])?;
            Ok(between.issue(leaf)?.without_intermediates())
        }),
        ("wrong usage", |authority, leaf| authority.issue(&leaf.clone().usages([Usage::CodeSigning]))),
        ("expired", |authority, leaf| authority.issue(&leaf.clone().expired(SystemClock.now()))),
    ] {
        let cluster = relays(presents).await;
        tell(case, examined(&cluster).await);
        cluster.shut_down().await.unwrap();
    }

    let cluster = relays(good).await;
    for (case, banner) in [("no protocol", ""), ("another protocol", "SSH-2.0-OpenSSH_10.0\r\n")] {
        // The link leads to a door that says nothing of ours.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        cluster.link(ALPHA, BETA).unwrap().set_target(listener.local_addr().unwrap());
        let answering = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                // Whoever has hung up hears nothing.
                let _ = stream.write_all(banner.as_bytes()).await;
            }
        };
        tokio::select! {
            examined = examined(&cluster) => tell(case, examined),
            () = answering => {}
        }
    }
    cluster.shut_down().await.unwrap();

    let cluster = Cluster::start([ALPHA, BETA, "gamma.example"]).await.unwrap();
    let link = cluster.link(ALPHA, BETA).unwrap();
    let right = link.target();
    link.set_target(cluster.address("gamma.example").await.unwrap());
    tell("wrong name", examined(&cluster).await);
    link.set_target(right);

    let beta = cluster.directory(BETA).unwrap();
    fs::write(beta.join("postrider.toml"), without_alpha(beta)).unwrap();
    let reloaded = run(&["reload", "--data", beta.join("data").to_str().unwrap()]).await;
    assert!(reloaded.status.success(), "{}", text(&reloaded.stderr));
    tell("refused there", examined(&cluster).await);

    let records = cluster.view(ALPHA).unwrap().records();
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    records.publish(&BETA.parse().unwrap(), unused).unwrap();
    tell("nobody listens", examined(&cluster).await);
    records.publish(&BETA.parse().unwrap(), cluster.address(ALPHA).await.unwrap()).unwrap();
    tell("back to ourselves", examined(&cluster).await);
    records.set_srv(&BETA.parse().unwrap(), &[Srv::new(8443, "nowhere.example")]).unwrap();
    tell("no address", examined(&cluster).await);
    records.set_srv(&BETA.parse().unwrap(), &[Srv::new(0, ".")]).unwrap();
    tell("declined", examined(&cluster).await);
    records.remove(&srv_name(&BETA.parse().unwrap())).unwrap();
    tell("no record", examined(&cluster).await);
    let own = cluster.address(ALPHA).await.unwrap();
    records.publish(&ALPHA.parse().unwrap(), own).unwrap();
    tell("own domain", examined_of(&cluster, ALPHA).await);
    records.publish(&ALPHA.parse().unwrap(), cluster.address("gamma.example").await.unwrap()).unwrap();
    tell("own domain, another relay there", examined_of(&cluster, ALPHA).await);
    records.remove(&srv_name(&ALPHA.parse().unwrap())).unwrap();
    tell("own domain, no record", examined_of(&cluster, ALPHA).await);
    records.publish(&ALPHA.parse().unwrap(), unused).unwrap();
    tell("own domain, nobody listens", examined_of(&cluster, ALPHA).await);
    let (code, _, error) = ask_anyhow(&cluster, &["queue", "list"]).await;
    assert_eq!(code, Some(0), "the relay was not touched: {error}");
    cluster.shut_down().await.unwrap();

    let cluster = Cluster::builder([ALPHA, BETA]).pinned().start().await.unwrap();
    tell("pinned", examined(&cluster).await);
    let data = cluster.directory(ALPHA).unwrap().join("data");
    let known = peer_file(&data, &BETA.parse().unwrap());
    let other = fs::read_to_string(&known)
        .unwrap()
        .replace("pins = [\"", &format!("pins = [\"{}\", \"", "0a".repeat(32)));
    let (kept, _) = other.rsplit_once(", ").unwrap();
    fs::write(&known, format!("{kept}]\n")).unwrap();
    tell("another key", examined(&cluster).await);
    cluster.shut_down().await.unwrap();

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/admin/doctor.txt");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &told).unwrap();
    }
    assert_eq!(told, fs::read_to_string(&path).unwrap());
}

/// Beta's configuration without its entry for alpha.
fn without_alpha(beta: &Path) -> String {
    let text = fs::read_to_string(beta.join("postrider.toml")).unwrap();
    let mut entries = text.split("[[federation.peers]]");
    let mut kept = entries.next().unwrap().to_owned();
    for entry in entries {
        if entry.contains(&format!("domain = \"{ALPHA}\"")) {
            kept.push_str(entry.split_once("\n\n").map_or("", |(_, rest)| rest));
        } else {
            kept.push_str("[[federation.peers]]");
            kept.push_str(entry);
        }
    }
    kept
}
