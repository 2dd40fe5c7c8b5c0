//! Whom we exchange envelopes with.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use postrider_common::{Domain, Failure, FailureClass};
use tokio::sync::watch;

use crate::identity::Identity;
use crate::trust::Trust;

/// Whether federation is possible at all.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum PolicyMode {
    /// With nobody, whoever is listed.
    #[default]
    Closed,
    /// With the peers that are listed.
    AllowList,
    /// With everybody who is not denied. Those who are listed are dealt with as their entry says.
    Open(Unlisted),
}

/// How relays that nobody has listed are dealt with.
#[derive(Debug, Clone)]
pub struct Unlisted {
    /// What their certificates have to satisfy.
    pub trust: Trust,
    /// How much of anything each of them may have.
    pub limits: PeerLimits,
    /// Those with which nothing is exchanged all the same, with every domain below them. An entry of its own makes an
    /// exception.
    pub denied: Vec<Domain>,
}

/// How much of anything one peer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerLimits {
    /// Batches on their way to it at the same time, and from it.
    pub batches_in_flight: usize,
    /// Envelopes that it may bring per second in the long run.
    pub envelopes_per_second: u32,
}

impl Default for PeerLimits {
    /// 8 batches, 20,000 envelopes per second.
    fn default() -> Self {
        Self { batches_in_flight: 8, envelopes_per_second: 20_000 }
    }
}

/// Which way envelopes go, seen from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the peer to us.
    In,
    /// From us to the peer.
    Out,
    /// Either way.
    Both,
}

impl Direction {
    const fn includes(self, wanted: Self) -> bool {
        matches!((self, wanted), (Self::Both, _) | (Self::In, Self::In) | (Self::Out, Self::Out))
    }
}

/// A relay that an administrator has listed.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its name.
    pub domain: Domain,
    /// Which way envelopes may go.
    pub direction: Direction,
    /// What its certificate has to satisfy.
    pub trust: Trust,
    /// Where it is, if SRV is not to be asked. An address that an administrator wrote down may be in any network.
    pub addresses: Vec<SocketAddr>,
    /// How much of anything it may have.
    pub limits: PeerLimits,
}

/// The terms on which a peer is dealt with: those of its entry, or those of everybody.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// What its certificate has to satisfy.
    pub trust: &'a Trust,
    /// Where it is, if SRV is not to be asked.
    pub addresses: &'a [SocketAddr],
    /// How much of anything it may have.
    pub limits: PeerLimits,
}

/// The answer to "may we?", as configured. A change is a new value; connections notice by its identity.
#[derive(Debug)]
pub struct Policy {
    mode: PolicyMode,
    own: Domain,
    peers: HashMap<Domain, Peer>,
}

/// The policy that is in force, which may be replaced at any time. Clones share it.
#[derive(Debug, Clone)]
pub struct PolicyInForce(watch::Sender<Arc<Policy>>);

impl PolicyInForce {
    /// This policy to begin with.
    pub fn new(policy: Policy) -> Self {
        Self(watch::Sender::new(Arc::new(policy)))
    }

    /// Puts another policy in force. It counts from the next request on, in both directions and on open connections too,
    /// even if only a key in it is another one.
    pub fn replace(&self, policy: Policy) {
        self.0.send_replace(Arc::new(policy));
    }

    /// The policy of this moment.
    pub fn current(&self) -> Arc<Policy> {
        Arc::clone(&self.0.borrow())
    }

    /// For a [`Client`](crate::Client) and a [`Server`](crate::Server).
    pub fn subscribe(&self) -> watch::Receiver<Arc<Policy>> {
        self.0.subscribe()
    }
}

/// Why a list of peers is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Two entries for one domain.
    #[error("{0} is listed twice")]
    ListedTwice(Domain),
    /// An entry for ourselves.
    #[error("{0} is this relay's own domain, which is always allowed and not listed")]
    OwnDomain(Domain),
    /// An entry for a domain that is denied.
    #[error("{0} is listed and denied")]
    ListedAndDenied(Domain),
}

impl Policy {
    /// The policy of the relay that `own` identifies.
    ///
    /// Our own domain is allowed whatever the mode, proven by our own key: an operator asks their own relay first.
    pub fn new(
        mode: PolicyMode,
        own: &Identity,
        peers: impl IntoIterator<Item = Peer>,
    ) -> Result<Self, PolicyError> {
        let mut listed = HashMap::new();
        for peer in peers {
            let domain = peer.domain.clone();
            if domain == *own.domain() {
                return Err(PolicyError::OwnDomain(domain));
            }
            if matches!(&mode, PolicyMode::Open(unlisted) if unlisted.denied.contains(&domain)) {
                return Err(PolicyError::ListedAndDenied(domain));
            }
            if listed.insert(domain.clone(), peer).is_some() {
                return Err(PolicyError::ListedTwice(domain));
            }
        }
        let ourselves = Peer {
            domain: own.domain().clone(),
            direction: Direction::Both,
            trust: Trust::Pinned { pins: vec![own.pin()] },
            addresses: Vec::new(),
            limits: PeerLimits::default(),
        };
        listed.insert(own.domain().clone(), ourselves);
        Ok(Self { mode, own: own.domain().clone(), peers: listed })
    }

    /// The terms for `domain` if envelopes may go in `direction`, else a failure whose sentence says why not.
    pub fn admit(&self, domain: &Domain, direction: Direction) -> Result<Terms<'_>, Failure> {
        let denied = |detail| Err(Failure::new(FailureClass::PolicyDeniedHere, detail));
        let own = &self.own;
        if matches!(self.mode, PolicyMode::Closed) && domain != own {
            return denied(format!("{own} exchanges envelopes with no other relay"));
        }
        match (self.peers.get(domain), &self.mode) {
            (Some(peer), _) if peer.direction.includes(direction) => {
                Ok(Terms { trust: &peer.trust, addresses: &peer.addresses, limits: peer.limits })
            }
            (Some(_), _) => denied(match direction {
                Direction::In => format!("the policy of {own} takes nothing from {domain}"),
                Direction::Out => format!("the policy of {own} sends nothing to {domain}"),
                Direction::Both => format!("the policy of {own} has {domain} for one direction only"),
            }),
            (None, PolicyMode::Open(unlisted)) => match unlisted.denial(domain) {
                Some(denier) if denier == domain => denied(format!("{domain} is on the deny list of {own}")),
                Some(denier) => {
                    denied(format!("{domain} is below {denier}, which is on the deny list of {own}"))
                }
                None => Ok(Terms { trust: &unlisted.trust, addresses: &[], limits: unlisted.limits }),
            },
            (None, _) => denied(format!("{domain} is not on the allow-list of {own}")),
        }
    }

    /// The peers that are listed, in no particular order.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values().filter(|peer| peer.domain != self.own)
    }

    /// Our own domain.
    pub const fn own(&self) -> &Domain {
        &self.own
    }
}

impl Unlisted {
    /// The entry of the deny list that is about `domain`.
    fn denial(&self, domain: &Domain) -> Option<&Domain> {
        let is_below = |denied: &&Domain| {
            let below = domain.as_str().strip_suffix(denied.as_str());
            below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.denied.iter().find(is_below)
    }
}

#[cfg(test)]
mod tests {
    use postrider_common::Timestamp;

    use super::*;

    fn domain(text: &str) -> Domain {
        text.parse().unwrap()
    }

    fn peer(name: &str, direction: Direction) -> Peer {
        Peer {
            domain: domain(name),
            direction,
            trust: Trust::Pinned { pins: Vec::new() },
            addresses: Vec::new(),
            limits: PeerLimits::default(),
        }
    }

    fn identity() -> Identity {
        let domain = domain("own.example");
        let pems = Identity::generate(&domain, Timestamp::from_secs(1_800_000_000)).unwrap();
        Identity::from_pem(&domain, pems.certificate_pem.as_bytes(), pems.key_pem.as_bytes()).unwrap()
    }

    #[test]
    fn denies_with_a_sentence() {
        let peers = || {
            [
                peer("both.example", Direction::Both),
                peer("in.example", Direction::In),
                peer("out.example", Direction::Out),
            ]
        };
        let own = identity();
        let open = Policy::new(PolicyMode::AllowList, &own, peers()).unwrap();
        let closed = Policy::new(PolicyMode::Closed, &own, peers()).unwrap();
        for (policy, name, direction, denied) in [
            (&open, "both.example", Direction::In, None),
            (&open, "both.example", Direction::Out, None),
            (&open, "in.example", Direction::In, None),
            (&open, "out.example", Direction::Out, None),
            (&open, "own.example", Direction::Out, None),
            (&closed, "own.example", Direction::In, None),
            (
                &open,
                "in.example",
                Direction::Out,
                Some("the policy of own.example sends nothing to in.example"),
            ),
            (
                &open,
                "out.example",
                Direction::In,
                Some("the policy of own.example takes nothing from out.example"),
            ),
            (
                &open,
                "other.example",
                Direction::In,
                Some("other.example is not on the allow-list of own.example"),
            ),
            (
                &closed,
                "both.example",
                Direction::In,
                Some("own.example exchanges envelopes with no other relay"),
            ),
        ] {
            let answer = policy.admit(&domain(name), direction).map(drop);
            let expected = denied.map(|detail| Failure::new(FailureClass::PolicyDeniedHere, detail));
            assert_eq!(answer.err(), expected, "{name} {direction:?}");
        }
        assert_eq!(open.peers().count(), 3);
    }

    #[test]
    fn an_open_relay_denies_whom_it_was_told_to_and_what_is_below() {
        let own = identity();
        let unlisted = Unlisted {
            trust: Trust::Pinned { pins: vec![own.pin()] },
            limits: PeerLimits { batches_in_flight: 2, envelopes_per_second: 10 },
            denied: vec![domain("spam.example"), domain("own.example")],
        };
        let peers = [peer("in.example", Direction::In), peer("good.spam.example", Direction::Both)];
        let policy = Policy::new(PolicyMode::Open(unlisted.clone()), &own, peers).unwrap();
        for (name, direction, denied) in [
            ("stranger.example", Direction::In, None),
            ("stranger.example", Direction::Out, None),
            ("notspam.example", Direction::In, None),
            ("good.spam.example", Direction::In, None),
            ("own.example", Direction::In, None),
            ("in.example", Direction::Out, Some("the policy of own.example sends nothing to in.example")),
            ("spam.example", Direction::In, Some("spam.example is on the deny list of own.example")),
            (
                "a.b.spam.example",
                Direction::Out,
                Some("a.b.spam.example is below spam.example, which is on the deny list of own.example"),
            ),
        ] {
            let answer = policy.admit(&domain(name), direction).map(drop);
            let expected = denied.map(|detail| Failure::new(FailureClass::PolicyDeniedHere, detail));
            assert_eq!(answer.err(), expected, "{name} {direction:?}");
        }
        let terms = policy.admit(&domain("stranger.example"), Direction::In).unwrap();
        assert_eq!((terms.limits, terms.addresses.len()), (unlisted.limits, 0));
        let terms = policy.admit(&domain("good.spam.example"), Direction::In).unwrap();
        assert_eq!(terms.limits, PeerLimits::default());
        let contradiction = [peer("spam.example", Direction::Both)];
        let error = Policy::new(PolicyMode::Open(unlisted), &own, contradiction).unwrap_err();
        assert_eq!(error, PolicyError::ListedAndDenied(domain("spam.example")));
    }

    #[test]
    fn a_replaced_policy_is_another_one() {
        let own = identity();
        let policy = || Policy::new(PolicyMode::AllowList, &own, []).unwrap();
        let in_force = PolicyInForce::new(policy());
        let (before, receiver) = (in_force.current(), in_force.subscribe());
        in_force.replace(policy());
        assert!(!Arc::ptr_eq(&before, &in_force.current()));
        assert!(Arc::ptr_eq(&receiver.borrow(), &in_force.current()));
    }

    #[test]
    fn one_entry_for_each_and_none_for_ourselves() {
        let own = identity();
        let of = |names: [&str; 2]| {
            Policy::new(PolicyMode::AllowList, &own, names.map(|name| peer(name, Direction::Both)))
                .unwrap_err()
        };
        assert_eq!(of(["a.example", "a.example"]), PolicyError::ListedTwice(domain("a.example")));
        assert_eq!(of(["a.example", "own.example"]), PolicyError::OwnDomain(domain("own.example")));
    }
}
