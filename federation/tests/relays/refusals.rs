//! Who is turned away, by which side, and with which words.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postrider_common::{Failure, FailureClass};
use postrider_federation::{Direction, Identity, Networks, Peer, Policy, PolicyMode, Resolve, Trust};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::{
    Authority, Caller, Certificate, NOW, Relay, Table, allow, client, domain, envelope, identity, peer,
    pinned, problem,
};

/// What A is told when it calls B, if A has these and B has those ideas of whom to trust.
async fn told(a: &Arc<Identity>, trust_in_b: Trust, b: &Arc<Identity>, trust_in_a: Trust) -> Failure {
    let relay = Relay::start(b, allow(b, [peer("a.example", trust_in_a)])).await;
    let table = Table::new([("b.example", relay.address)]);
    let calling = client(a, allow(a, [peer("b.example", trust_in_b)]), table, |_| {});
    let failure = calling.client.forward(&domain("b.example"), &[envelope(b"x")]).await.unwrap_err();
    assert!(relay.inbox.batches.lock().unwrap().is_empty(), "nothing is taken from a stranger");
    assert_eq!(relay.inbox.authenticated.load(Ordering::SeqCst), 0);
    assert_eq!(calling.client.hello(&domain("b.example")).await, Err(failure.clone()));
    failure
}

#[tokio::test]
async fn a_server_that_is_not_the_peer_gets_no_request() {
    let (ours, theirs) = (Authority::new("Our CA"), Authority::new("Their CA"));
    let a = identity("a.example");
    let pinned_elsewhere = identity("b.example");
    let self_signed = identity("b.example");
    let issued = theirs.identity("b.example");
    let elsewhere = ours.identity("c.example");
    let expired =
        ours.identity_with("b.example", Certificate { years: (2020, 2026), ..Certificate::of("b.example") });
    for (b, trust, class, detail) in [
        (
            &self_signed,
            pinned(&pinned_elsewhere),
            FailureClass::TlsPinMismatch,
            format!(
                "the key pinned for b.example is {}, but the key {} was presented",
                pinned_elsewhere.pin(),
                self_signed.pin()
            ),
        ),
        (
            &self_signed,
            ours.trust(),
            FailureClass::TlsUntrusted,
            "a certificate for b.example issued by CN=Our CA was expected, but a self-signed one was presented".into(),
        ),
        (
            &issued,
            ours.trust(),
            FailureClass::TlsUntrusted,
            "a certificate for b.example issued by CN=Our CA was expected, but one issued by CN=Their CA was presented, without that issuer's own certificate: it is not an authority that is trusted here, or an intermediate one whose certificate was left out"
                .into(),
        ),
        (
            &elsewhere,
            ours.trust(),
            FailureClass::TlsNameMismatch,
            "a certificate for b.example was expected, but one for c.example was presented".into(),
        ),
        (
            &expired,
            ours.trust(),
            FailureClass::TlsExpired,
            "the certificate presented for b.example was valid until 2026-01-01T00:00:00Z, and it is \
             2027-01-15T08:00:00Z"
                .into(),
        ),
    ] {
        let failure = told(&a, trust, b, pinned(&a)).await;
        assert_eq!(failure, Failure::new(class, detail));
    }
}

#[tokio::test]
async fn a_caller_that_is_not_the_peer_is_told_why() {
    let (ours, theirs) = (Authority::new("Our CA"), Authority::new("Their CA"));
    let b = identity("b.example");
    let pinned_elsewhere = identity("a.example");
    let self_signed = identity("a.example");
    let issued = theirs.identity("a.example");
    let expired =
        ours.identity_with("a.example", Certificate { years: (2020, 2026), ..Certificate::of("a.example") });
    for (a, trust, detail) in [
        (
            &self_signed,
            pinned(&pinned_elsewhere),
            format!(
                "the key pinned for a.example is {}, but the key {} was presented",
                pinned_elsewhere.pin(),
                self_signed.pin()
            ),
        ),
        (
            &issued,
            ours.trust(),
            "a certificate for a.example issued by CN=Our CA was expected, but one issued by CN=Their CA was presented, without that issuer's own certificate: it is not an authority that is trusted here, or an intermediate one whose certificate was left out"
                .into(),
        ),
        (
            &expired,
            ours.trust(),
            "the certificate presented for a.example was valid until 2026-01-01T00:00:00Z, and it is \
             2027-01-15T08:00:00Z"
                .into(),
        ),
    ] {
        let failure = told(a, pinned(&b), &b, trust).await;
        let detail = format!("b.example does not accept our certificate: {detail}");
        assert_eq!(failure, Failure::new(FailureClass::TlsOurCertificateRefused, detail));
    }
}

/// Relay A, which B knows, says that it is C, which B knows too.
#[tokio::test]
async fn a_forged_origin_is_refused_before_its_body_is_read() {
    let ca = Authority::new("CA");
    let (b, c) = (ca.identity("b.example"), identity("c.example"));
    let pems = Identity::generate(&domain("a.example"), NOW).unwrap();
    let a =
        Identity::from_pem(&domain("a.example"), pems.certificate_pem.as_bytes(), pems.key_pem.as_bytes());
    let a = a.unwrap();
    let peers = [peer("a.example", pinned(&a)), peer("c.example", pinned(&c))];
    let relay = Relay::start(&b, allow(&b, peers)).await;
    let keys = Some((pems.certificate_pem.as_str(), pems.key_pem.as_str()));
    let stream = Caller::handshake(relay.address, "b.example", ca.roots(), keys).await.unwrap();
    let caller = Caller::new(stream).await;

    let honest = caller.send(Caller::batch("a.example", "b.example", &[envelope(b"x")])).await;
    assert_eq!(honest.status(), 200, "{honest:?}");
    // A body that never comes does not keep the answer.
    let endless = http_body_util::StreamBody::new(futures_util::stream::pending());
    let forged =
        Caller::batch("c.example", "b.example", &[]).map(|_| http_body_util::BodyExt::boxed(endless));
    let answer = caller.send_body(forged).await;
    let detail =
        format!("the key pinned for c.example is {}, but the key {} was presented", c.pin(), a.pin());
    assert_eq!(problem(&answer), (403, "tls-pin-mismatch".into(), detail));
    let answer = caller.send(Caller::batch("a.example", "d.example", &[envelope(b"x")])).await;
    let detail = "this relay is b.example, not d.example";
    assert_eq!(problem(&answer), (421, "remote-misdirected".into(), detail.into()));
    assert_eq!(relay.inbox.batches.lock().unwrap().len(), 1);
    let honest = caller.send(Caller::batch("a.example", "b.example", &[envelope(b"x")])).await;
    assert_eq!(honest.status(), 200, "a refused request spoils no other");
}

/// Of whom nothing is taken, nobody asks anything in DNS, and nothing is read.
#[tokio::test]
async fn a_caller_that_policy_denies_costs_no_look_up_and_its_body_is_not_read() {
    let ca = Authority::new("CA");
    let b = ca.identity("b.example");
    let table = Table::new([]);
    let send_only = Peer { direction: Direction::Out, ..peer("a.example", Trust::Dane) };
    let witness = Arc::clone(&table) as Arc<dyn Resolve>;
    let relay = Relay::start_asking(&b, allow(&b, []), witness).await;
    let (certificate, key) = ca.pems("a.example");
    let keys = Some((certificate.as_str(), key.as_str()));
    let stream = Caller::handshake(relay.address, "b.example", ca.roots(), keys).await.unwrap();
    let caller = Caller::new(stream).await;
    let closed = Policy::new(PolicyMode::Closed, &b, [peer("a.example", Trust::Dane)]).unwrap();
    for (policy, detail) in [
        (allow(&b, []), "a.example is not on the allow-list of b.example"),
        (allow(&b, [send_only]), "the policy of b.example takes nothing from a.example"),
        (Arc::new(closed), "b.example exchanges envelopes with no other relay"),
    ] {
        relay.policy.send_replace(policy);
        // A body that never comes does not keep the answer.
        let endless = http_body_util::StreamBody::new(futures_util::stream::pending());
        let denied =
            Caller::batch("a.example", "b.example", &[]).map(|_| http_body_util::BodyExt::boxed(endless));
        let answer = caller.send_body(denied).await;
        assert_eq!(problem(&answer), (403, "policy-denied-here".into(), detail.into()));
    }
    assert_eq!(table.asked.load(Ordering::SeqCst), 0);
    assert_eq!(relay.inbox.batches.lock().unwrap().len(), 0);

    // Of who is on the list, it is asked.
    relay.policy.send_replace(allow(&b, [peer("a.example", Trust::Dane)]));
    caller.send(Caller::batch("a.example", "b.example", &[envelope(b"x")])).await;
    assert!(table.asked.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn a_caller_without_a_certificate_gets_an_alert() {
    let ca = Authority::new("CA");
    let b = ca.identity("b.example");
    let relay = Relay::start(&b, allow(&b, [])).await;
    let mut stream = Caller::handshake(relay.address, "b.example", ca.roots(), None).await.unwrap();
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    let alert = error.get_ref().unwrap().downcast_ref::<rustls::Error>().unwrap();
    assert_eq!(*alert, rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired));
}

#[tokio::test]
async fn policy_is_asked_on_both_sides() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let relay = Relay::start(&b, allow(&b, [])).await;
    let table = Table::new([("b.example", relay.address)]);
    let to_b = || peer("b.example", pinned(&b));
    let calling = client(&a, allow(&a, []), table, |_| {});
    let destination = domain("b.example");
    let forward = async || calling.client.forward(&destination, &[envelope(b"x")]).await;
    let denied = |class, detail: &str| Err(Failure::new(class, detail));

    let here = FailureClass::PolicyDeniedHere;
    assert_eq!(forward().await, denied(here, "b.example is not on the allow-list of a.example"));
    let mut one_way = to_b();
    one_way.direction = Direction::In;
    calling.policy.send_replace(allow(&a, [one_way]));
    assert_eq!(forward().await, denied(here, "the policy of a.example sends nothing to b.example"));
    assert_eq!(relay.connections(), 0, "nothing was even tried");

    calling.policy.send_replace(allow(&a, [to_b()]));
    let there = FailureClass::PolicyDeniedThere;
    let detail = "b.example does not take envelopes from us: a.example is not on the allow-list of b.example";
    assert_eq!(forward().await, denied(there, detail));

    // From here on only policies change, on both sides and on the connection that is open.
    relay.policy.send_replace(allow(&b, [peer("a.example", pinned(&a))]));
    assert!(forward().await.is_ok());
    let closed = Policy::new(PolicyMode::Closed, &b, [peer("a.example", pinned(&a))]).unwrap();
    relay.policy.send_replace(Arc::new(closed));
    let detail =
        "b.example does not take envelopes from us: b.example exchanges envelopes with no other relay";
    assert_eq!(forward().await, denied(there, detail));
    assert_eq!(relay.connections(), 1);
    let other = identity("b.example");
    calling.policy.send_replace(allow(&a, [peer("b.example", pinned(&other))]));
    assert_eq!(forward().await.unwrap_err().class, FailureClass::TlsPinMismatch);
}

#[tokio::test]
async fn we_do_not_call_ourselves() {
    let a = identity("a.example");
    let calling = client(&a, allow(&a, []), Table::new([]), |_| {});
    let failure = calling.client.forward(&domain("a.example"), &[envelope(b"x")]).await.unwrap_err();
    assert_eq!(failure, Failure::new(FailureClass::Loop, "a.example is this relay's own domain"));
}

#[tokio::test]
async fn dns_cannot_send_us_into_our_own_networks() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    let table = Table::new([("b.example", relay.address)]);
    let calling = client(&a, allow(&a, [peer("b.example", pinned(&b))]), table, |config| {
        config.networks = Networks::default();
    });
    let failure = calling.client.forward(&domain("b.example"), &[envelope(b"x")]).await.unwrap_err();
    let detail = format!(
        "no connection to b.example: {} (a loopback address, which `dns.allow_networks` does not have)",
        relay.address
    );
    assert_eq!(failure, Failure::new(FailureClass::ConnectFailed, detail));
    assert_eq!(relay.connections(), 0);
}

#[tokio::test]
async fn a_closed_port_is_named() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let relay = Relay::start(&b, allow(&b, [])).await;
    relay.stop().await;
    let table = Table::new([("b.example", relay.address)]);
    let calling = client(&a, allow(&a, [peer("b.example", pinned(&b))]), table, |_| {});
    let failure = calling.client.forward(&domain("b.example"), &[envelope(b"x")]).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::ConnectFailed);
    let expected = format!("no connection to b.example: {} (Connection refused", relay.address);
    assert!(failure.detail.starts_with(&expected), "{failure}");
}

/// Calls something that is no relay: stock rustls, which hangs up after the handshake.
async fn told_by_a_stranger(alpn: Option<&[u8]>, verifier_roots: Option<&Authority>) -> Failure {
    let pems = Identity::generate(&domain("b.example"), NOW).unwrap();
    let b =
        Identity::from_pem(&domain("b.example"), pems.certificate_pem.as_bytes(), pems.key_pem.as_bytes());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match verifier_roots {
        None => config.with_no_client_auth(),
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(ca.roots(), provider).build().unwrap();
            config.with_client_cert_verifier(verifier)
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(pems.certificate_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pems.key_pem.as_bytes()).unwrap();
    let mut config = config.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.into_iter().map(<[u8]>::to_vec).collect();
    told_by_server(config, "b.example", &b.unwrap()).await
}

/// What we are told when a server with this configuration answers for `name`, which is pinned as `expected`.
async fn told_by_server(config: rustls::ServerConfig, name: &str, expected: &Identity) -> Failure {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let table = Table::new([(name, listener.local_addr().unwrap())]);
    // Valid at the time of stock rustls too, which has the machine's clock.
    let certificate = Certificate { usages: vec![], ..Certificate::of("z.example") };
    let own = Authority::new("Another CA").identity_with("z.example", certificate);
    let calling = client(&own, allow(&own, [peer(name, pinned(expected))]), table, |_| {});
    let (destination, batch) = (domain(name), [envelope(b"x")]);
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = TlsAcceptor::from(Arc::new(config)).accept(stream).await;
    };
    let (outcome, ()) = tokio::join!(calling.client.forward(&destination, &batch), accepting);
    outcome.unwrap_err()
}

/// What we are told where somebody says these bytes, whatever we say, and then nothing.
async fn told_by_who_says(bytes: &[u8]) -> (Failure, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (own, b) = (identity("a.example"), identity("b.example"));
    let policy = allow(&own, [peer("b.example", pinned(&b))]);
    let table = Table::new([("b.example", address)]);
    let calling = client(&own, policy, table, |config| config.handshake_timeout = Duration::from_secs(1));
    let (destination, batch) = (domain("b.example"), [envelope(b"x")]);
    let answering = async {
        let mut kept = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(bytes).await.unwrap();
            kept.push(stream);
        }
    };
    tokio::select! {
        outcome = calling.client.forward(&destination, &batch) => (outcome.unwrap_err(), address),
        () = answering => unreachable!("it has no end"),
    }
}

#[tokio::test]
async fn what_does_not_speak_tls_is_told_with_its_address() {
    for banner in
        [&b"SSH-2.0-OpenSSH_10.0\r\n"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 mail ESMTP\r\n"]
    {
        let (failure, address) = told_by_who_says(banner).await;
        let detail = format!(
            "what answers for b.example at {address} does not speak TLS: is there a relay at that port?"
        );
        assert_eq!(failure, Failure::new(FailureClass::VersionUnsupported, detail));
    }
    let (failure, address) = told_by_who_says(b"").await;
    let detail = format!(
        "what accepts connections for b.example at {address} did not finish the TLS handshake within 1 s"
    );
    assert_eq!(failure, Failure::new(FailureClass::ConnectFailed, detail));
}

#[tokio::test]
async fn what_is_no_relay_is_recognised() {
    const OTHER: &str = "what answers for b.example at ADDRESS does not speak the protocol postrider/1: is there a relay \
                         at that port?";
    let ca = Authority::new("CA");
    for (alpn, roots, class, detail) in [
        (None, None, FailureClass::VersionUnsupported, OTHER),
        (Some(&b"h2"[..]), None, FailureClass::VersionUnsupported, OTHER),
        (
            Some(&b"postrider/1"[..]),
            Some(&ca),
            FailureClass::TlsOurCertificateRefused,
            "b.example does not accept our certificate: TLS alert UnknownCA",
        ),
        (
            Some(&b"postrider/1"[..]),
            None,
            FailureClass::RemoteFailed,
            "b.example closed the connection after the TLS handshake",
        ),
    ] {
        let mut told = told_by_a_stranger(alpn, roots).await;
        if let Some((before, after)) = told.detail.split_once(" at 127.0.0.1:") {
            let (_, after) = after.split_once(' ').unwrap();
            told.detail = format!("{before} at ADDRESS {after}");
        }
        assert_eq!(told, Failure::new(class, detail));
    }
}

/// A certificate is public. Whoever shows another's has to fail for want of its key.
#[tokio::test]
async fn a_borrowed_certificate_is_no_proof() {
    let ca = Authority::new("CA");
    let b = ca.identity("b.example");
    let pems = Identity::generate(&domain("a.example"), NOW).unwrap();
    let other = Identity::generate(&domain("a.example"), NOW).unwrap();
    let a =
        Identity::from_pem(&domain("a.example"), pems.certificate_pem.as_bytes(), pems.key_pem.as_bytes());
    let a = a.unwrap();
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    let borrowed = Some((pems.certificate_pem.as_str(), other.key_pem.as_str()));
    let mut stream = Caller::handshake(relay.address, "b.example", ca.roots(), borrowed).await.unwrap();
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    let alert = error.get_ref().unwrap().downcast_ref::<rustls::Error>().unwrap();
    assert!(matches!(alert, rustls::Error::AlertReceived(_)), "{alert}");

    let chain = vec![CertificateDer::from_pem_slice(pems.certificate_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(other.key_pem.as_bytes()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let own = rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(chain, key));
    let mut config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(own));
    config.alpn_protocols = vec![b"postrider/1".to_vec()];
    let failure = told_by_server(config, "a.example", &a).await;
    let detail = "a.example does not hold the key of the certificate that it presented";
    assert_eq!(failure, Failure::new(FailureClass::TlsUntrusted, detail));
}
