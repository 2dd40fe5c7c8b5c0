//! Certificates, as rustls judges them.

use std::sync::Arc;

use postrider_common::clock::{Clock, SystemClock};
use postrider_common::{Domain, Timestamp};
use postrider_tests::authority::{Authority, Certified, Leaf, Usage, self_signed};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, Error, RootCertStore};

fn domain() -> Domain {
    "beta.example".parse().unwrap()
}

fn now() -> Timestamp {
    SystemClock.now()
}

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.root().clone()).unwrap();
    Arc::new(roots)
}

/// What a client says that connects to the domain.
fn as_server(authority: &Authority, certified: &Certified) -> Result<(), CertificateError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(authority), provider).build().unwrap();
    let chain = certified.chain();
    let name = ServerName::try_from("beta.example").unwrap();
    match verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now()) {
        Ok(_) => Ok(()),
        Err(Error::InvalidCertificate(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

/// What a server says that the domain connects to.
fn as_client(authority: &Authority, certified: &Certified) -> Result<(), CertificateError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(authority), provider).build().unwrap();
    let chain = certified.chain();
    match verifier.verify_client_cert(&chain[0], &chain[1..], UnixTime::now()) {
        Ok(_) => Ok(()),
        Err(Error::InvalidCertificate(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_leaf_serves_both_ways() {
    let authority = Authority::new("Test root").unwrap();
    let certified = authority.issue(&Leaf::new(&domain(), now())).unwrap();
    assert_eq!(as_server(&authority, &certified), Ok(()));
    assert_eq!(as_client(&authority, &certified), Ok(()));
    let other = Authority::new("Other root").unwrap();
    assert_eq!(as_server(&other, &certified), Err(CertificateError::UnknownIssuer));
}

#[test]
fn time_and_name_are_as_asked() {
    let authority = Authority::new("Test root").unwrap();
    let judge = |leaf: Leaf| as_server(&authority, &authority.issue(&leaf).unwrap());
    let leaf = Leaf::new(&domain(), now());
    let expired = judge(leaf.clone().expired(now()));
    assert!(
        matches!(expired, Err(CertificateError::Expired | CertificateError::ExpiredContext { .. })),
        "{expired:?}"
    );
    let early = judge(leaf.clone().not_yet_valid(now()));
    assert!(
        matches!(early, Err(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })),
        "{early:?}"
    );
    let other = judge(leaf.clone().names(["gamma.example"]));
    assert!(
        matches!(
            other,
            Err(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
        ),
        "{other:?}"
    );
    assert_eq!(judge(leaf.names(["gamma.example", "beta.example"])), Ok(()));
}

#[test]
fn usages_are_as_asked() {
    let authority = Authority::new("Test root").unwrap();
    let judge = |usages: &[Usage]| {
        let leaf = Leaf::new(&domain(), now()).usages(usages);
        let certified = authority.issue(&leaf).unwrap();
        (as_server(&authority, &certified).is_ok(), as_client(&authority, &certified).is_ok())
    };
    assert_eq!(judge(&[Usage::Server]), (true, false));
    assert_eq!(judge(&[Usage::Client]), (false, true));
    assert_eq!(judge(&[]), (true, true));
}

#[test]
fn intermediates_belong_to_the_chain_and_may_limit_it() {
    let root = Authority::new("Test root").unwrap();
    let servers_only = root.intermediate("Servers", &[Usage::Server]).unwrap();
    let below = servers_only.intermediate("Below", &[]).unwrap();
    let leaf = Leaf::new(&domain(), now());
    let certified = below.issue(&leaf).unwrap();
    assert_eq!(certified.chain().len(), 3);
    assert_eq!(as_server(&root, &certified), Ok(()));
    assert!(as_client(&root, &certified).is_err());
    assert_eq!(as_server(&root, &certified.without_intermediates()), Err(CertificateError::UnknownIssuer));
}

#[test]
fn a_self_signed_one_is_its_own_and_nobody_elses() {
    let root = Authority::new("Test root").unwrap();
    let certified = self_signed(&Leaf::new(&domain(), now())).unwrap();
    assert_eq!(certified.chain().len(), 1);
    assert!(as_server(&root, &certified).is_err());
}

#[test]
fn files_hold_the_same() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let root = Authority::new("Test root").unwrap();
    let intermediate = root.intermediate("Below", &[]).unwrap();
    let certified = intermediate.issue(&Leaf::new(&domain(), now())).unwrap();
    let files = certified.write(directory.path(), "beta").unwrap();
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(&files.certificate).unwrap().map(Result::unwrap).collect();
    assert_eq!(chain, certified.chain());
    assert_eq!(PrivateKeyDer::from_pem_file(&files.key).unwrap(), certified.key());
    let mode = files.key.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let path = root.write_root(directory.path(), "root").unwrap();
    assert_eq!(CertificateDer::from_pem_file(path).unwrap(), *root.root());
}
