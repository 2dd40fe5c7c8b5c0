//! Whom we exchange envelopes with.

use std::collections::HashMap;
use std::net::SocketAddr;

use postrider_common::{Domain, Failure, FailureClass};

use crate::identity::Identity;
use crate::trust::Trust;

/// Whether federation is possible at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PolicyMode {
    /// With nobody, whoever is listed.
    #[default]
    Closed,
    /// With the peers that are listed.
    AllowList,
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
}

/// The answer to "may we?", as configured. A change is a new value; connections notice by its identity.
#[derive(Debug)]
pub struct Policy {
    mode: PolicyMode,
    own: Domain,
    peers: HashMap<Domain, Peer>,
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
            if listed.insert(domain.clone(), peer).is_some() {
                return Err(PolicyError::ListedTwice(domain));
            }
        }
        let ourselves = Peer {
            domain: own.domain().clone(),
            direction: Direction::Both,
            trust: Trust::Pinned { pins: vec![own.pin()] },
            addresses: Vec::new(),
        };
        listed.insert(own.domain().clone(), ourselves);
        Ok(Self { mode, own: own.domain().clone(), peers: listed })
    }

    /// The entry for `domain` if envelopes may go in `direction`, else a failure whose sentence says why not.
    pub fn admit(&self, domain: &Domain, direction: Direction) -> Result<&Peer, Failure> {
        let denied = |detail| Err(Failure::new(FailureClass::PolicyDeniedHere, detail));
        if self.mode == PolicyMode::Closed && *domain != self.own {
            return denied(format!("{} exchanges envelopes with no other relay", self.own));
        }
        match self.peers.get(domain) {
            None => denied(format!("{domain} is not on the allow-list of {}", self.own)),
            Some(peer) if !peer.direction.includes(direction) => denied(match direction {
                Direction::In => format!("the allow-list of {} takes nothing from {domain}", self.own),
                Direction::Out => format!("the allow-list of {} sends nothing to {domain}", self.own),
                Direction::Both => {
                    format!("the allow-list of {} has {domain} for one direction only", self.own)
                }
            }),
            Some(peer) => Ok(peer),
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
                Some("the allow-list of own.example sends nothing to in.example"),
            ),
            (
                &open,
                "out.example",
                Direction::In,
                Some("the allow-list of own.example takes nothing from out.example"),
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
            let answer = policy.admit(&domain(name), direction).map(|peer| &peer.domain);
            let expected = denied.map(|detail| Failure::new(FailureClass::PolicyDeniedHere, detail));
            assert_eq!(answer.err(), expected, "{name} {direction:?}");
        }
        assert_eq!(open.peers().count(), 3);
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
