//! The whole way to a peer, looked at step by step: for an administrator who wants to know what is wrong.

use std::net::SocketAddr;
use std::time::Duration;

use postrider_common::{Domain, Failure};
use tokio::time::Instant;

use super::{Attempt, ClientConfig, Connector};
use crate::certificate::Presented;
use crate::client::connect::failures::Failures;
use crate::client::connect::handshake::handshake;
use crate::discovery::{Answer, SrvRecord, Target, order};
use crate::policy::Direction;
use crate::tls;
use crate::trust::{Distrust, PeerId, Testimony, Witness, judge};

/// What was found on the way to a peer. Unlike a delivery it goes on where something is wrong, as far as that is
/// possible, and tries every address.
#[derive(Debug)]
pub struct Examination {
    /// Whose relay was looked for.
    pub domain: Domain,
    /// Whether our policy lets envelopes go there. If not, nothing else was looked at.
    pub policy: Result<(), Failure>,
    /// The SRV records, and what DNSSEC says of them. Nothing, if an administrator has written down the addresses.
    pub srv: Option<Result<Answer<SrvRecord>, Failure>>,
    /// The hosts to try, in the order in which a delivery may try them; or why there is none.
    pub hosts: Result<Vec<ExaminedHost>, Failure>,
}

/// One host with its addresses.
#[derive(Debug)]
pub struct ExaminedHost {
    /// The SRV target. Nothing, if an administrator has written down the addresses.
    pub target: Option<Target>,
    /// What DNS says about its key, for the modes of trust that need it.
    pub testimony: Result<Testimony, Failure>,
    /// The addresses that may be connected to, or why there is none.
    pub tried: Result<Vec<Tried>, Failure>,
}

/// One address.
#[derive(Debug)]
pub struct Tried {
    /// Which.
    pub address: SocketAddr,
    /// How long it took to accept a connection, or why it did not.
    pub connected: Result<Duration, String>,
    /// What TLS came to.
    pub reached: Option<Result<Reached, Failure>>,
}

/// What is at an address that speaks our protocol.
#[derive(Debug)]
pub struct Reached {
    /// How long the handshake took.
    pub took: Duration,
    /// The key exchange that was agreed on.
    pub key_exchange: String,
    /// What was presented, if it can be read.
    pub presented: Option<Presented>,
    /// Whether that proves the domain. Nothing, if what DNS says about its key is not to be had.
    pub verdict: Option<Result<PeerId, Distrust>>,
}

impl Connector {
    /// Looks at the whole way. Nothing is sent to anybody but the TLS handshake.
    pub(in super::super) async fn examine(&self, config: &ClientConfig, destination: &Domain) -> Examination {
        let policy = config.policy.borrow().clone();
        let terms = match policy.admit(destination, Direction::Out) {
            Ok(terms) => terms,
            Err(failure) => {
                return Examination {
                    domain: destination.clone(),
                    policy: Err(failure),
                    srv: None,
                    hosts: Ok(Vec::new()),
                };
            }
        };
        let attempt = Attempt { connector: self, config, policy: &policy, domain: destination, terms };
        let (srv, hosts) = attempt.examine().await;
        Examination { domain: destination.clone(), policy: Ok(()), srv, hosts }
    }
}

type Found = (Option<Result<Answer<SrvRecord>, Failure>>, Result<Vec<ExaminedHost>, Failure>);

impl Attempt<'_> {
    async fn examine(&self) -> Found {
        if !self.terms.addresses.is_empty() {
            let testimony = Witness::about_address(self.domain, self.terms.trust);
            let tried = self.try_each(self.terms.addresses.to_vec(), &testimony).await;
            return (None, Ok(vec![ExaminedHost { target: None, testimony, tried: Ok(tried) }]));
        }
        let answer = self.config.witness.resolver().srv(self.domain).await;
        let targets = match &answer {
            Ok(srv) => order(self.domain, &srv.records, &mut rand::rng()).map(|targets| (srv, targets)),
            Err(failure) => Err(failure.clone()),
        };
        let (srv, targets) = match targets {
            Ok(found) => found,
            Err(failure) => return (Some(answer), Err(failure)),
        };
        let mut hosts = Vec::new();
        for target in targets {
            let testimony =
                self.config.witness.about_target(self.domain, self.terms.trust, srv, &target).await;
            let mut refused = Failures::new(self.domain);
            let tried = match self.addresses(&target, &mut refused).await {
                Ok(addresses) if addresses.is_empty() => Err(refused.most_telling()),
                Ok(addresses) => Ok(self.try_each(addresses, &testimony).await),
                Err(failure) => Err(failure),
            };
            hosts.push(ExaminedHost { target: Some(target), testimony, tried });
        }
        (Some(answer), Ok(hosts))
    }

    async fn try_each(
        &self,
        addresses: Vec<SocketAddr>,
        testimony: &Result<Testimony, Failure>,
    ) -> Vec<Tried> {
        let mut tried = Vec::new();
        for address in addresses {
            let began = Instant::now();
            tried.push(match self.dial(address).await {
                Err(reason) => Tried { address, connected: Err(reason), reached: None },
                Ok(stream) => {
                    let connected = Ok(began.elapsed());
                    let patience = self.config.handshake_timeout;
                    let began = Instant::now();
                    let stream = handshake(&self.connector.tls, self.domain, stream, patience).await;
                    let reached = stream.and_then(|stream| {
                        let (_, session) = stream.get_ref();
                        let chain = session.peer_certificates().unwrap_or_default();
                        self.is_another(chain)?;
                        let now = self.connector.clock.now();
                        let verdict = testimony
                            .as_ref()
                            .ok()
                            .map(|known| judge(chain, self.domain, self.terms.trust, &known.evidence, now));
                        Ok(Reached {
                            took: began.elapsed(),
                            key_exchange: tls::key_exchange(session),
                            presented: Presented::of(chain),
                            verdict,
                        })
                    });
                    Tried { address, connected, reached: Some(reached) }
                }
            });
        }
        tried
    }
}
