//! The relays that the client is run against: one that shows its authority's certificate, one whose key it pins.

use postrider_federation::Presented;
use postrider_tests::binary::postrider;
use postrider_tests::cluster::Cluster;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::python;

const ALPHA: &str = "alpha.example";
const BETA: &str = "beta.example";

#[tokio::test]
async fn reads_and_writes_the_documented_bytes() {
    python::run("test_vectors", "[]").await;
}

#[tokio::test]
async fn does_everything_that_the_protocol_offers() {
    let cluster = Cluster::start([ALPHA, BETA]).await.unwrap();
    let relays = json!([with_pin(&cluster, ALPHA), with_authority(&cluster, BETA)]);
    python::run("test_relays", &relays.to_string()).await;
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn registers_with_an_invite() {
    let cluster =
        Cluster::builder([ALPHA]).processes(postrider()).registration("invite").start().await.unwrap();
    let mut relay = with_authority(&cluster, ALPHA);
    relay["invite"] = invite(&cluster, ALPHA).await.into();
    python::run("test_invites", &json!([relay]).to_string()).await;
    cluster.shut_down().await.unwrap();
}

/// What the administrator hands to one person.
async fn invite(cluster: &Cluster, domain: &str) -> String {
    let mut create = Command::new(postrider());
    create.args(["invite", "create", "--uses", "1", "--host", domain, "--data"]);
    let output = create
        .arg(cluster.directory(domain).unwrap().join("data"))
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Where a relay is, and the key that it shows.
fn with_pin(cluster: &Cluster, domain: &str) -> Value {
    let file = cluster.directory(domain).unwrap().join("relay.pem");
    let certificate = CertificateDer::from_pem_file(file).unwrap();
    let mut relay = place(cluster, domain);
    let presented = Presented::of(&[certificate]).unwrap();
    relay["pin"] = presented.key.unwrap().to_string().into();
    relay
}

/// Where a relay is, and who issued its certificate.
fn with_authority(cluster: &Cluster, domain: &str) -> Value {
    let file = cluster.directory(domain).unwrap().with_file_name("authority.pem");
    let mut relay = place(cluster, domain);
    relay["authorities"] = file.to_str().unwrap().into();
    relay
}

fn place(cluster: &Cluster, domain: &str) -> Value {
    let address = cluster.door(domain).unwrap().address();
    json!({ "domain": domain, "url": format!("https://{domain}"), "address": address.to_string() })
}
