//! When the certificates end by which peers have proven themselves, so that somebody hears of it in time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postrider_common::{Domain, Timestamp};
use rustls::pki_types::CertificateDer;

use crate::certificate::Presented;
use crate::trust::{PeerId, TrustMode};

/// Of how many peers it is remembered. Where there are more, those whose certificates end last are left out.
const MOST: usize = 1024;

/// The latest certificate of each peer, as far as its end counts. Clones share what is known.
#[derive(Debug, Clone, Default)]
pub struct Expiries(Arc<Mutex<BTreeMap<Domain, Timestamp>>>);

impl Expiries {
    /// Every peer whose certificate counts, and when it ends; those that have ended by `now` are forgotten, since nobody
    /// knows whether the peer has another one by then.
    pub fn after(&self, now: Timestamp) -> Vec<(Domain, Timestamp)> {
        let mut ends = self.lock();
        ends.retain(|_, end| *end > now);
        ends.iter().map(|(domain, end)| (domain.clone(), *end)).collect()
    }

    /// The peer was proven by this chain.
    pub(crate) fn note(&self, peer: &PeerId, chain: &[CertificateDer<'_>]) {
        let does_count = match peer.mode() {
            TrustMode::PrivateCa | TrustMode::WebPki => true,
            TrustMode::Pinned | TrustMode::Dane => false,
        };
        match Presented::of(chain).filter(|_| does_count) {
            Some(presented) => self.insert(peer.domain(), presented.not_after),
            None => {
                self.lock().remove(peer.domain());
            }
        }
    }

    fn insert(&self, domain: &Domain, end: Timestamp) {
        let mut ends = self.lock();
        ends.insert(domain.clone(), end);
        if ends.len() > MOST {
            let last = ends.iter().max_by_key(|(_, end)| **end).map(|(domain, _)| domain.clone());
            last.and_then(|domain| ends.remove(&domain));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Domain, Timestamp>> {
        // No code that can panic runs under this lock half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::certificate::Pin;
    use crate::identity::Identity;
    use crate::trust::{Evidence, Trust, judge};

    #[test]
    fn the_end_counts_where_an_authority_vouches_and_not_where_a_key_is_pinned() {
        let domain: Domain = "b.example".parse().unwrap();
        let now = Timestamp::from_secs(1_800_000_000);
        let pem = Identity::generate(&domain, now).unwrap().certificate_pem;
        let chain = [CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
        let end = Presented::of(&chain).unwrap().not_after;
        let proven = |trust| judge(&chain, &domain, &trust, &Evidence::None, now).unwrap();
        let expiries = Expiries::default();
        // Its own key has signed it: its own authority.
        expiries.note(&proven(Trust::private_ca(pem.as_bytes()).unwrap()), &chain);
        assert_eq!(expiries.after(now), [(domain.clone(), end)]);
        expiries.note(&proven(Trust::Pinned { pins: vec![Pin::of(&chain[0]).unwrap()] }), &chain);
        assert_eq!(expiries.after(now), []);
    }

    #[test]
    fn of_too_many_those_that_end_last_are_left_out_and_what_has_ended_is_forgotten() {
        let expiries = Expiries::default();
        let at = |secs: usize| Timestamp::from_secs(secs as u64);
        for n in 0..MOST + 2 {
            expiries.insert(&format!("r{n}.example").parse().unwrap(), at(1000 + n));
        }
        let ends: Vec<_> = expiries.after(at(1001)).into_iter().map(|(_, end)| end).collect();
        assert_eq!(ends.len(), MOST - 2);
        assert_eq!((ends.iter().min(), ends.iter().max()), (Some(&at(1002)), Some(&at(1000 + MOST - 1))));
        let domain: Domain = "r5.example".parse().unwrap();
        expiries.insert(&domain, at(9000));
        assert_eq!(expiries.after(at(8999)), [(domain, at(9000))]);
    }
}
