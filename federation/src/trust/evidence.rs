//! What DNS says about a domain's keys, asked for the modes of trust that need it.
//!
//! A mode that was seen strong is not weakened by silence: a domain with secure TLSA records is judged by them until its
//! own DNS says, provably, that there are none. A look-up that fails, a forged answer, or a resolver that cannot check
//! any more mean that the peer has to wait.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use postrider_common::{Domain, Failure, FailureClass};

use super::{REMEMBERED, Trust};
use crate::certificate::Pin;
use crate::discovery::{Answer, Proof, Resolve, SrvRecord, Target, order, tlsa_owner};

/// How many domains with DANE are remembered.
const MOST: usize = 10_000;

/// What DNS says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// It was not asked: the mode does not need it.
    None,
    /// The domain publishes these keys in secure TLSA records.
    Keys {
        /// The keys.
        pins: Vec<Pin>,
        /// Why there may be more of them.
        incomplete: Option<Failure>,
    },
    /// It publishes none. These hosts are its SRV targets, if that is secure.
    Hosts(Vec<String>),
}

/// Evidence, and for how long a verdict may rest on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Testimony {
    /// What DNS says.
    pub evidence: Evidence,
    /// For how long.
    pub life: Duration,
}

/// Asks DNS on behalf of trust, and remembers who was seen with DANE. Clones share it.
#[derive(Clone)]
pub struct Witness {
    resolver: Arc<dyn Resolve>,
    seen: Arc<Mutex<Seen>>,
}

/// The domains whose secure TLSA records were seen, the oldest first.
#[derive(Default)]
struct Seen {
    domains: HashSet<Domain>,
    order: VecDeque<Domain>,
}

impl Witness {
    /// One that asks this resolver.
    pub fn new(resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, seen: Arc::default() }
    }

    /// The resolver.
    pub const fn resolver(&self) -> &Arc<dyn Resolve> {
        &self.resolver
    }

    /// What is known of one target of `domain` that we have connected to, or want to.
    pub async fn about_target(
        &self,
        domain: &Domain,
        trust: &Trust,
        srv: &Answer<SrvRecord>,
        target: &Target,
    ) -> Result<Testimony, Failure> {
        match trust {
            Trust::Pinned { .. } | Trust::PrivateCa { .. } => Ok(Testimony::unasked()),
            Trust::WebPki { .. } => {
                Ok(Testimony::hosts(secure_hosts(srv, std::slice::from_ref(target)), srv.life))
            }
            Trust::Dane | Trust::Public { .. } => self.standing(domain, trust, srv, target).await,
        }
    }

    /// What is known of a caller that says it is `domain`: any of the domain's targets may be the one that calls.
    pub async fn about_caller(&self, domain: &Domain, trust: &Trust) -> Result<Testimony, Failure> {
        match trust {
            Trust::Pinned { .. } | Trust::PrivateCa { .. } => return Ok(Testimony::unasked()),
            // A name in DNS is asked for only by who has none of its own: see `hosts_of`.
            Trust::WebPki { .. } => return Ok(Testimony::hosts(Vec::new(), REMEMBERED)),
            Trust::Dane | Trust::Public { .. } => {}
        }
        let srv = self.resolver.srv(domain).await?;
        let targets = match order(domain, &srv.records, &mut rand::rng()) {
            Ok(targets) => targets,
            // Who publishes no target, or none that can be used, publishes no key either.
            Err(_) => return self.without_tlsa(domain, trust, &srv, None, srv.life),
        };
        let standings = targets.iter().map(|target| self.standing(domain, trust, &srv, target));
        let mut life = srv.life;
        let (mut keys, mut known, mut failed) = (None::<Vec<Pin>>, None, None);
        for standing in join_all(standings).await {
            match standing {
                Ok(Testimony { evidence, life: other }) => {
                    life = life.min(other);
                    match evidence {
                        Evidence::Keys { pins, .. } => keys.get_or_insert_default().extend(pins),
                        other => known = Some(other),
                    }
                }
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        match (keys, failed, known) {
            (Some(pins), incomplete, _) => {
                // What is no more than an absence at one of the targets takes nothing from the others.
                let incomplete = incomplete.filter(|failure| failure.class != FailureClass::TlsDaneMismatch);
                Ok(Testimony { evidence: Evidence::Keys { pins, incomplete }, life })
            }
            (None, Some(failure), _) => Err(failure),
            (None, None, Some(Evidence::Hosts(_))) => {
                Ok(Testimony::hosts(secure_hosts(&srv, &targets), life))
            }
            (None, None, _) => self.without_tlsa(domain, trust, &srv, None, life),
        }
    }

    /// What is known now of the target of a connection that there is already.
    pub async fn about_kept(
        &self,
        domain: &Domain,
        trust: &Trust,
        target: Option<&Target>,
    ) -> Result<Testimony, Failure> {
        match (trust, target) {
            (Trust::Pinned { .. } | Trust::PrivateCa { .. }, _) => Ok(Testimony::unasked()),
            (_, None) => Self::about_address(domain, trust),
            (_, Some(target)) => {
                let srv = self.resolver.srv(domain).await?;
                if !srv.records.iter().any(|record| record.as_target() == *target) {
                    let detail = format!("{target} is no SRV target of {domain} any more");
                    return Err(Failure::new(FailureClass::DiscoveryFailed, detail));
                }
                self.about_target(domain, trust, &srv, target).await
            }
        }
    }

    /// What is known where an administrator has written down the address: DNS has no say in it.
    pub fn about_address(domain: &Domain, trust: &Trust) -> Result<Testimony, Failure> {
        match trust {
            Trust::Pinned { .. } | Trust::PrivateCa { .. } => Ok(Testimony::unasked()),
            Trust::WebPki { .. } => Ok(Testimony::hosts(Vec::new(), REMEMBERED)),
            Trust::Dane | Trust::Public { .. } => Err(Failure::new(
                FailureClass::DiscoveryFailed,
                format!("the fixed address of {domain} has no TLSA records, which are found through SRV"),
            )),
        }
    }

    /// The SRV targets of a domain whose SRV records are secure, for a certificate that names one of them.
    pub async fn hosts_of(&self, domain: &Domain) -> Result<Testimony, Failure> {
        let srv = self.resolver.srv(domain).await?;
        let targets = order(domain, &srv.records, &mut rand::rng()).unwrap_or_default();
        Ok(Testimony::hosts(secure_hosts(&srv, &targets), srv.life))
    }

    /// Whether secure TLSA records of this domain were seen, and nothing that revokes them.
    pub fn has_seen_dane(&self, domain: &Domain) -> bool {
        self.seen().domains.contains(domain)
    }

    async fn standing(
        &self,
        domain: &Domain,
        trust: &Trust,
        srv: &Answer<SrvRecord>,
        target: &Target,
    ) -> Result<Testimony, Failure> {
        if srv.proof != Proof::Secure {
            return self.without_tlsa(domain, trust, srv, None, srv.life);
        }
        let tlsa = self.resolver.tlsa(target).await?;
        let life = srv.life.min(tlsa.life);
        if tlsa.proof != Proof::Secure || tlsa.records.is_empty() {
            let (owner, proof) = (tlsa_owner(target), tlsa.proof);
            let hosts = secure_hosts(srv, std::slice::from_ref(target));
            let answer = Answer { proof, ..srv.clone() };
            let testimony = self.without_tlsa(domain, trust, &answer, Some(&owner), life)?;
            return Ok(Testimony { evidence: Evidence::Hosts(hosts), ..testimony });
        }
        self.seen().insert(domain);
        let pins: Vec<_> = tlsa.records.iter().filter_map(crate::discovery::Tlsa::pin).collect();
        if pins.is_empty() {
            let owner = tlsa_owner(target);
            let detail = format!("{domain} publishes TLSA records at {owner}, but none of them is `3 1 1`");
            return Err(Failure::new(FailureClass::TlsDaneMismatch, detail));
        }
        Ok(Testimony { evidence: Evidence::Keys { pins, incomplete: None }, life })
    }

    /// What it means that there are no secure TLSA records: for SRV records that are not secure, or at `owner`.
    fn without_tlsa(
        &self,
        domain: &Domain,
        trust: &Trust,
        answer: &Answer<SrvRecord>,
        owner: Option<&str>,
        life: Duration,
    ) -> Result<Testimony, Failure> {
        let must = matches!(trust, Trust::Dane);
        let what = owner.map_or_else(
            || format!("the SRV records of {domain}"),
            |owner| format!("the TLSA records at {owner}"),
        );
        match answer.proof {
            Proof::Unchecked if must || self.has_seen_dane(domain) => {
                let why =
                    if answer.is_stale { "only old ones are known" } else { "DNSSEC cannot be checked here" };
                let because = if must {
                    "trust = \"dane\" needs proof".to_owned()
                } else {
                    format!("{domain} has had its key in DNS")
                };
                let detail = format!("{what} are not proven ({why}), and {because}");
                Err(Failure::new(FailureClass::DiscoveryFailed, detail))
            }
            Proof::Unchecked => Ok(Testimony::hosts(Vec::new(), life)),
            Proof::Insecure if must => {
                let detail = format!("{what} are not signed with DNSSEC, which trust = \"dane\" needs");
                Err(Failure::new(FailureClass::TlsUntrusted, detail))
            }
            Proof::Secure if must => {
                let detail = match owner {
                    Some(owner) => {
                        format!("{domain} publishes no TLSA record at {owner}, which trust = \"dane\" needs")
                    }
                    None => format!("{domain} publishes no SRV target, which trust = \"dane\" needs"),
                };
                Err(Failure::new(FailureClass::TlsDaneMismatch, detail))
            }
            // The domain itself has said so, or whoever is above it.
            Proof::Insecure | Proof::Secure => {
                self.seen().remove(domain);
                Ok(Testimony::hosts(Vec::new(), life))
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Testimony {
    const fn unasked() -> Self {
        Self { evidence: Evidence::None, life: REMEMBERED }
    }

    const fn hosts(hosts: Vec<String>, life: Duration) -> Self {
        Self { evidence: Evidence::Hosts(hosts), life }
    }
}

impl Seen {
    fn insert(&mut self, domain: &Domain) {
        if self.domains.insert(domain.clone()) {
            self.order.push_back(domain.clone());
        }
        while self.order.len() > MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.domains.remove(&oldest);
            }
        }
    }

    fn remove(&mut self, domain: &Domain) {
        if self.domains.remove(domain) {
            self.order.retain(|other| other != domain);
        }
    }
}

fn secure_hosts(srv: &Answer<SrvRecord>, targets: &[Target]) -> Vec<String> {
    match srv.proof {
        Proof::Secure => targets.iter().map(|target| target.host.clone()).collect(),
        _ => Vec::new(),
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").field("resolver", &self.resolver).finish_non_exhaustive()
    }
}
