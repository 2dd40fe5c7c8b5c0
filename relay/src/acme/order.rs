//! One certificate, from the account to the chain.

use std::fmt;
use std::time::Duration;

use instant_acme::{
    AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewAccount, NewOrder,
    Order, OrderStatus, Problem, RenewalInfo,
};
use postrider_common::Domain;
use postrider_common::clock::SharedClock;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::challenge::{Challenges, Pending};
use super::files::{Account, Files};
use super::http::Http;
use crate::config::{AcmeConfig, Credentials};

/// How long to wait between two looks at what the server is busy with, if it does not say so,
const PAUSE: Duration = Duration::from_secs(1);
/// if it does, how long at most,
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// and how often altogether.
const LOOKS: u32 = 90;

/// Asks one server for certificates.
pub(super) struct Applicant<'a> {
    pub(super) acme: &'a AcmeConfig,
    pub(super) files: &'a Files,
    pub(super) http: Http,
    pub(super) challenges: &'a Challenges,
    pub(super) clock: &'a SharedClock,
}

/// Where an attempt has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The server's directory, and the account there.
    Account,
    /// The order for all names.
    Order,
    /// The proof for one of them.
    Challenge(String),
    /// What is issued in the end.
    Certificate,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {reason}")]
pub(super) struct Failed {
    step: Step,
    reason: String,
    /// What kind of problem the server says it is: the last word of its URN.
    kind: Option<String>,
    /// How long the server asks to be left alone.
    pub(super) asked: Option<Duration>,
}

impl Applicant<'_> {
    /// Gets a certificate for the key of `key_pem`, in the place of another one if the server is to know that.
    pub(super) async fn apply(
        &self,
        key_pem: &[u8],
        replaces: Option<&CertificateDer<'_>>,
    ) -> Result<Credentials, Failed> {
        let account = self.account().await?;
        let names: Vec<_> = self.acme.names.iter().map(|name| Identifier::Dns(name.to_string())).collect();
        let plain = NewOrder::new(&names);
        let placed = match replaces.and_then(|leaf| CertificateIdentifier::try_from(leaf).ok()) {
            Some(earlier) => match account.new_order(&NewOrder::new(&names).replaces(earlier)).await {
                // The server does not know that one, or has replaced it already: that hinders nothing.
                Err(Error::Unsupported(_)) => account.new_order(&plain).await,
                Err(Error::Api(problem)) if is_about_the_earlier_one(&problem) => {
                    account.new_order(&plain).await
                }
                placed => placed,
            },
            None => account.new_order(&plain).await,
        };
        let mut order = placed.map_err(|error| self.failed(Step::Order, &error))?;
        self.prove(&mut order).await?;
        self.finish(&mut order, key_pem).await
    }

    /// When the server suggests to renew a certificate, and after how long to ask again; `None` if it makes no suggestions.
    pub(super) async fn renewal_info(
        &self,
        leaf: &CertificateDer<'_>,
    ) -> Result<Option<(RenewalInfo, Duration)>, Failed> {
        let Ok(id) = CertificateIdentifier::try_from(leaf) else { return Ok(None) };
        let account = self.account().await?;
        match account.renewal_info(&id).await {
            Ok(info) => Ok(Some(info)),
            Err(Error::Unsupported(_)) => Ok(None),
            Err(error) => Err(self.failed(Step::Certificate, &error)),
        }
    }

    /// The account that there is, or a new one.
    async fn account(&self) -> Result<instant_acme::Account, Failed> {
        let failed = |error: &Error| self.failed(Step::Account, error);
        let kept = |error: &dyn fmt::Display| Failed::here(Step::Account, error);
        let builder = instant_acme::Account::builder_with_http(Box::new(self.http.clone()));
        let contact = self.acme.contact.as_ref().map(|address| format!("mailto:{address}"));
        let contacts: Vec<&str> = contact.as_deref().into_iter().collect();
        if let Some(known) = self.files.account().map_err(|error| kept(&error))? {
            let told = known.contact;
            let account =
                builder.from_credentials(known.credentials).await.map_err(|error| failed(&error))?;
            if told != self.acme.contact {
                account.update_contacts(&contacts).await.map_err(|error| failed(&error))?;
                let again = self.files.account().map_err(|error| kept(&error))?;
                if let Some(known) = again {
                    let told = Account { contact: self.acme.contact.clone(), ..known };
                    self.files.keep_account(&told).map_err(|error| kept(&error))?;
                }
            }
            return Ok(account);
        }
        let new =
            NewAccount { contact: &contacts, terms_of_service_agreed: true, only_return_existing: false };
        let made = builder.create(&new, self.acme.directory.to_string(), None).await;
        let (account, credentials) = made.map_err(|error| failed(&error))?;
        let made = Account { contact: self.acme.contact.clone(), credentials };
        self.files.keep_account(&made).map_err(|error| kept(&error))?;
        Ok(account)
    }

    /// Proves every name: has the answers ready, says so to the server, and waits for what it finds.
    async fn prove(&self, order: &mut Order) -> Result<(), Failed> {
        let mut answers: Vec<Pending> = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| self.failed(Step::Order, &error))?;
            let (name, status) = (authorization.identifier().to_string(), authorization.status);
            let step = Step::Challenge(name.clone());
            if status == AuthorizationStatus::Valid {
                continue;
            }
            let offered = authorization.challenge(ChallengeType::TlsAlpn01);
            let Some(mut challenge) = offered.filter(|_| status == AuthorizationStatus::Pending) else {
                return Err(Failed::here(step, &"the server offers no challenge tls-alpn-01 for it"));
            };
            let Some(name) = self.acme.names.iter().find(|wanted: &&Domain| wanted.as_str() == name) else {
                return Err(Failed::here(step, &"nobody asked for that name"));
            };
            let digest = challenge.key_authorization().digest();
            let answer = self.challenges.answer(name, digest.as_ref());
            answers.push(answer.map_err(|error| Failed::here(step.clone(), &error))?);
            challenge.set_ready().await.map_err(|error| self.failed(step, &error))?;
        }

        let mut looks = LOOKS;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| self.failed(Step::Order, &error))?;
            let step = Step::Challenge(authorization.identifier().to_string());
            loop {
                match authorization.status {
                    AuthorizationStatus::Valid => break,
                    AuthorizationStatus::Pending => {
                        self.pause(&mut looks, &step).await?;
                        authorization.refresh().await.map_err(|error| self.failed(step.clone(), &error))?;
                    }
                    other => {
                        let told =
                            authorization.challenges.iter().find_map(|challenge| challenge.error.clone());
                        return Err(match told {
                            Some(problem) => self.failed(step, &Error::Api(problem)),
                            None => Failed::here(step, &format!("the server says that it is {other:?}")),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Hands in the request for the certificate, and waits for it.
    async fn finish(&self, order: &mut Order, key_pem: &[u8]) -> Result<Credentials, Failed> {
        let step = Step::Certificate;
        let failed = |error: &Error| self.failed(Step::Certificate, error);
        let mut looks = LOOKS;
        let mut is_handed_in = false;
        loop {
            let state = order.state();
            match state.status {
                OrderStatus::Valid => break,
                OrderStatus::Ready if !is_handed_in => {
                    let request = request(&self.acme.names, key_pem);
                    let request = request.map_err(|error| Failed::here(step.clone(), &error))?;
                    order.finalize_csr(&request).await.map_err(|error| failed(&error))?;
                    is_handed_in = true;
                }
                OrderStatus::Invalid => {
                    return Err(match &state.error {
                        Some(problem) => failed(&Error::Api(problem.clone())),
                        None => Failed::here(step, &"the server says that the order is invalid"),
                    });
                }
                OrderStatus::Pending if !is_handed_in => {
                    // All names are proven; what the server thinks of the order is what it said before.
                    order.refresh().await.map_err(|error| failed(&error))?;
                    if order.state().status == OrderStatus::Pending {
                        self.pause(&mut looks, &step).await?;
                    }
                }
                _ => {
                    self.pause(&mut looks, &step).await?;
                    order.refresh().await.map_err(|error| failed(&error))?;
                }
            }
        }
        let chain = order.certificate().await.map_err(|error| failed(&error))?;
        let chain = chain.ok_or_else(|| Failed::here(step.clone(), &"the server does not hand it out"))?;
        let mut pem = Zeroizing::new(chain.into_bytes());
        pem.push(b'\n');
        pem.extend_from_slice(key_pem);
        let issued = Credentials::of_pem(&self.files.certificate_path(), pem);
        let issued =
            issued.map_err(|error| Failed::here(step.clone(), &format!("it cannot be used: {error}")))?;
        match self.acme.names.iter().find(|name| !issued.names(name)) {
            None => Ok(issued),
            Some(name) => Err(Failed::here(step, &format!("it is not for {name}"))),
        }
    }

    async fn pause(&self, looks: &mut u32, step: &Step) -> Result<(), Failed> {
        *looks = looks
            .checked_sub(1)
            .ok_or_else(|| Failed::here(step.clone(), &"the server is busy with it for too long"))?;
        let pause = self.http.asked().map_or(PAUSE, |asked| asked.clamp(PAUSE, LONGEST_PAUSE));
        self.clock.sleep(pause).await;
        Ok(())
    }

    fn failed(&self, step: Step, error: &Error) -> Failed {
        let (reason, kind) = match error {
            Error::Api(problem) => (said(problem), kind(problem)),
            Error::Json(error) => (format!("the server's answer cannot be understood: {error}"), None),
            other => (other.to_string(), None),
        };
        Failed { step, reason, kind, asked: self.http.asked() }
    }
}

impl Failed {
    pub(super) fn here(step: Step, reason: &dyn fmt::Display) -> Self {
        Self { step, reason: reason.to_string(), kind: None, asked: None }
    }

    /// Whether the account is none any more, so that another one helps.
    pub(super) fn is_account_unknown(&self) -> bool {
        self.kind.as_deref() == Some("accountDoesNotExist")
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account => f.write_str("the account at the ACME server"),
            Self::Order => f.write_str("the order at the ACME server"),
            Self::Challenge(name) => write!(f, "the ACME server's check of {name}"),
            Self::Certificate => f.write_str("the certificate from the ACME server"),
        }
    }
}

/// The request for a certificate for these names.
fn request(names: &[Domain], key_pem: &[u8]) -> Result<Vec<u8>, String> {
    // None of rcgen's errors quotes the key.
    let key = std::str::from_utf8(key_pem).map_err(|_| "the relay's key is not PEM")?;
    let key = KeyPair::from_pem(key).map_err(|error| format!("the relay's key cannot be used: {error}"))?;
    let params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>());
    let mut params = params.map_err(|error| error.to_string())?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(|error| error.to_string())?;
    Ok(request.der().to_vec())
}

/// The server's own words, on one line.
fn said(problem: &Problem) -> String {
    let mut said = problem.detail.clone().unwrap_or_else(|| "the server does not say why".into());
    for part in &problem.subproblems {
        if let Some(detail) = &part.detail {
            said.push_str("; ");
            said.push_str(detail);
        }
    }
    if let Some(kind) = &problem.r#type {
        said.push_str(&format!(" ({kind})"));
    }
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    said.chars().take(1000).map(shown).collect()
}

fn kind(problem: &Problem) -> Option<String> {
    problem.r#type.as_ref()?.rsplit(':').next().map(ToOwned::to_owned)
}

fn is_about_the_earlier_one(problem: &Problem) -> bool {
    matches!(kind(problem).as_deref(), Some("alreadyReplaced" | "malformed" | "unauthorized"))
}
