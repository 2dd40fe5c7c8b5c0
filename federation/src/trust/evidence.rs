//! What DNS says about a domain's keys, asked for the modes of trust that need it.
//!
//! That there is no key is believed only where DNS proves it: by a denial that is signed, or by the zone above, which says
//! that this one is not. A look-up that fails, a forged answer, an old one, or a resolver that cannot check mean that the
//! peer has to wait. So there is nothing to remember about who has had a key, and nothing for an attacker to have forgotten.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use postrider_common::{Domain, Failure, FailureClass};

use super::{REMEMBERED, Trust};
use crate::certificate::Pin;
use crate::discovery::{Answer, Proof, Resolve, SrvRecord, Target, Tlsa, order, tlsa_owner};

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

/// Asks DNS on behalf of trust. Clones share the resolver.
#[derive(Clone)]
pub struct Witness {
    resolver: Arc<dyn Resolve>,
}

/// What one target has.
enum Standing {
    /// These keys, in secure records.
    Keys(Vec<Pin>),
    /// Secure records, of which none is of the kind that is used.
    Unusable,
    /// Provably none that is secure.
    None(Proof),
}

impl Witness {
    /// One that asks this resolver.
    pub const fn new(resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver }
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
            Trust::Dane | Trust::Public { .. } if srv.proof == Proof::Secure => {
                let (standing, life) = self.standing(target).await?;
                let life = life.min(srv.life);
                match standing {
                    Standing::Keys(pins) => {
                        Ok(Testimony { evidence: Evidence::Keys { pins, incomplete: None }, life })
                    }
                    Standing::Unusable => Err(unusable(domain, target)),
                    Standing::None(proof) if matches!(trust, Trust::Dane) => {
                        Err(lacking(domain, target, proof))
                    }
                    // Where another target has a key, this one is to show a key of the domain's too.
                    Standing::None(_) => {
                        let known = self.about_domain(domain, trust, srv).await?;
                        Ok(match known.evidence {
                            Evidence::Hosts(_) => Testimony::hosts(vec![target.host.clone()], known.life),
                            _ => known,
                        })
                    }
                }
            }
            Trust::Dane | Trust::Public { .. } => self.about_domain(domain, trust, srv).await,
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
        self.about_domain(domain, trust, &srv).await
    }

    /// What all targets of a domain have together.
    async fn about_domain(
        &self,
        domain: &Domain,
        trust: &Trust,
        srv: &Answer<SrvRecord>,
    ) -> Result<Testimony, Failure> {
        let must = matches!(trust, Trust::Dane);
        let what = || format!("the SRV records of {domain}");
        match srv.proof {
            Proof::Unchecked => return Err(unproven(&what(), must, srv.is_stale)),
            Proof::Insecure if must => return Err(unsigned(&what())),
            Proof::Insecure => return Ok(Testimony::hosts(Vec::new(), srv.life)),
            Proof::Secure => {}
        }
        let targets = match order(domain, &srv.records, &mut rand::rng()) {
            Ok(targets) => targets,
            // Who publishes no target, or none that can be used, publishes no key either.
            Err(_) if must => {
                let detail = format!("{domain} publishes no SRV target, which trust = \"dane\" needs");
                return Err(Failure::new(FailureClass::TlsDaneMismatch, detail));
            }
            Err(_) => return Ok(Testimony::hosts(Vec::new(), srv.life)),
        };
        let mut life = srv.life;
        let (mut keys, mut failed, mut without) = (None::<Vec<Pin>>, None, None);
        let mut is_unusable = None;
        let standings = join_all(targets.iter().map(|target| self.standing(target))).await;
        for (target, standing) in targets.iter().zip(standings) {
            match standing {
                Err(failure) => failed = failed.or(Some(failure)),
                Ok((standing, other)) => {
                    life = life.min(other);
                    match standing {
                        Standing::Keys(pins) => keys.get_or_insert_default().extend(pins),
                        Standing::Unusable => is_unusable = is_unusable.or(Some(target)),
                        Standing::None(proof) => without = without.or(Some((target, proof))),
                    }
                }
            }
        }
        match (keys, failed, is_unusable, without) {
            // What is no more than an absence at one of the targets takes nothing from the others.
            (Some(pins), incomplete, _, _) => {
                Ok(Testimony { evidence: Evidence::Keys { pins, incomplete }, life })
            }
            (None, Some(failure), _, _) => Err(failure),
            (None, None, Some(target), _) => Err(unusable(domain, target)),
            (None, None, None, Some((target, proof))) if must => Err(lacking(domain, target, proof)),
            (None, None, None, _) => Ok(Testimony::hosts(secure_hosts(srv, &targets), life)),
        }
    }

    async fn standing(&self, target: &Target) -> Result<(Standing, Duration), Failure> {
        let tlsa = self.resolver.tlsa(target).await?;
        let standing = match tlsa.proof {
            Proof::Unchecked => return Err(unproven(&records_at(target), false, tlsa.is_stale)),
            Proof::Secure if !tlsa.records.is_empty() => {
                let pins: Vec<_> = tlsa.records.iter().filter_map(Tlsa::pin).collect();
                if pins.is_empty() { Standing::Unusable } else { Standing::Keys(pins) }
            }
            proof => Standing::None(proof),
        };
        Ok((standing, tlsa.life))
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
}

fn records_at(target: &Target) -> String {
    format!("the TLSA records at {}", tlsa_owner(target))
}

/// Whether `what` is there or not, nobody knows.
fn unproven(what: &str, must: bool, is_stale: bool) -> Failure {
    let why = if is_stale {
        "only old ones are known"
    } else {
        "no signatures reach the relay that looked them up"
    };
    let because = if must { "trust = \"dane\" needs proof" } else { "nothing weaker counts without proof" };
    Failure::new(FailureClass::DiscoveryFailed, format!("{what} are not proven ({why}), and {because}"))
}

fn unsigned(what: &str) -> Failure {
    let detail = format!("{what} are not signed with DNSSEC, which trust = \"dane\" needs");
    Failure::new(FailureClass::TlsUntrusted, detail)
}

fn lacking(domain: &Domain, target: &Target, proof: Proof) -> Failure {
    if proof != Proof::Secure {
        return unsigned(&records_at(target));
    }
    let owner = tlsa_owner(target);
    let detail = format!("{domain} publishes no TLSA record at {owner}, which trust = \"dane\" needs");
    Failure::new(FailureClass::TlsDaneMismatch, detail)
}

fn unusable(domain: &Domain, target: &Target) -> Failure {
    let owner = tlsa_owner(target);
    let detail = format!("{domain} publishes TLSA records at {owner}, but none of them is `3 1 1`");
    Failure::new(FailureClass::TlsDaneMismatch, detail)
}

impl Testimony {
    const fn unasked() -> Self {
        Self { evidence: Evidence::None, life: REMEMBERED }
    }

    const fn hosts(hosts: Vec<String>, life: Duration) -> Self {
        Self { evidence: Evidence::Hosts(hosts), life }
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
