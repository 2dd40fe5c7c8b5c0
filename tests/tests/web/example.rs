//! Two people with the example's page, at two relays.

use postrider_federation::Presented;
use postrider_tests::cluster::Cluster;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::chromium::{Browser, Page, installed};
use crate::site::Site;

const ALPHA: &str = "alpha.example";
const BETA: &str = "beta.example";
const CONNECTED: &str = "document.querySelector('#status[data-state=on]')?.textContent";

/// Relays that let pages of these sites in.
async fn cluster(sites: &[&Site]) -> Cluster {
    let origins: Vec<_> = sites.iter().map(|site| site.origin()).collect();
    let section = format!("[web]\nallowed_origins = {origins:?}\n");
    Cluster::builder([ALPHA, BETA]).configure(move |_| section.clone()).start().await.unwrap()
}

async fn browser(program: std::path::PathBuf, cluster: &Cluster) -> Browser {
    let key = |domain: &&str| {
        let file = cluster.directory(domain).unwrap().join("relay.pem");
        let certificate = CertificateDer::from_pem_file(file).unwrap();
        *Presented::of(&[certificate]).unwrap().key.unwrap().as_bytes()
    };
    Browser::start(program, &[ALPHA, BETA].iter().map(key).collect::<Vec<_>>()).await
}

/// The page, with its form filled in for a relay.
async fn open<'a>(browser: &'a Browser, site: &Site, cluster: &Cluster, domain: &str) -> Page<'a> {
    let port = cluster.door(domain).unwrap().address().port();
    browser.open(&format!("{}/#url=https://{domain}:{port}&domain={domain}", site.origin())).await
}

/// Makes a mailbox, and returns the card to write to it.
async fn join(page: &Page<'_>, domain: &str) -> String {
    page.wait("!!document.querySelector('#join button:enabled')").await;
    page.run("document.querySelector('#join').requestSubmit()").await;
    assert_eq!(page.wait(CONNECTED).await, format!("connected to {domain}"));
    page.wait("document.querySelector('#card').textContent").await.as_str().unwrap().to_owned()
}

/// The note below a message, once the message is there.
async fn note(page: &Page<'_>, message: &str, ends_with: &str) {
    let items = "[...document.querySelectorAll('#messages li')]";
    page.wait(&format!(
        "{items}.find((item) => item.firstChild.data === {message:?} && item.textContent.includes({ends_with:?}))?.textContent"
    ))
    .await;
}

#[tokio::test]
async fn two_people_write_to_each_other_from_their_browsers() {
    let Some(program) = installed() else { return };
    let site = Site::start().await;
    let cluster = cluster(&[&site]).await;
    let browser = browser(program, &cluster).await;
    let (alice, bob) =
        (open(&browser, &site, &cluster, ALPHA).await, open(&browser, &site, &cluster, BETA).await);
    alice.pictures("welcome").await;
    join(&alice, ALPHA).await;
    let card = join(&bob, BETA).await;

    alice.run(&format!("document.querySelector('#to').value = {card:?}")).await;
    alice.submit("#compose input", "Are you coming tonight? I bring the soup.").await;
    note(&alice, "Are you coming tonight? I bring the soup.", "recipient's relay").await;
    note(&bob, "Are you coming tonight? I bring the soup.", "at alpha.example").await;
    // The answer goes to where the message came from.
    bob.submit("#compose input", "Yes! At eight.").await;
    note(&alice, "Yes! At eight.", "at beta.example").await;

    // Nothing is lost while bob's relay is away, nor what his browser has when it starts again.
    cluster.stop(BETA).await.unwrap();
    alice.submit("#compose input", "Bring bread, then.").await;
    note(&alice, "Bring bread, then.", "on its way").await;
    cluster.restart(BETA).await.unwrap();
    note(&bob, "Bring bread, then.", "at alpha.example").await;
    note(&alice, "Bring bread, then.", "recipient's relay").await;
    bob.reload().await;
    note(&bob, "Bring bread, then.", "at alpha.example").await;
    assert_eq!(bob.wait("document.querySelector('#card').textContent").await, card);
    bob.wait(CONNECTED).await;
    let count = "String(document.querySelectorAll('#messages li').length)";
    assert_eq!((alice.wait(count).await, bob.wait(count).await), ("3".into(), "3".into()));
    alice.pictures("chat").await;
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_page_that_the_administrator_does_not_know_is_kept_out() {
    let Some(program) = installed() else { return };
    let (known, stranger) = (Site::start().await, Site::start().await);
    let cluster = cluster(&[&known]).await;
    let browser = browser(program, &cluster).await;
    let page = open(&browser, &stranger, &cluster, ALPHA).await;
    page.wait("!!document.querySelector('#join button:enabled')").await;
    page.run("document.querySelector('#join').requestSubmit()").await;
    let told = page.wait("document.querySelector('#join .error').textContent").await;
    assert_eq!(told, "There is no relay that this page may call.");
    page.pictures("refused").await;
    cluster.shut_down().await.unwrap();
}
