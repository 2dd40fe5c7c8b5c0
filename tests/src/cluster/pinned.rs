//! Relays that know one another by their keys, as `init` makes those and `peer import` tells of them.

use std::fs;
use std::path::Path;

use data_encoding::HEXLOWER;
use postrider::config::{peer_file, peers_directory, pin};
use postrider_common::{Domain, Timestamp};

use super::ClusterError;
use crate::authority::{Certified, Leaf, self_signed};

/// A relay's own key, and by what the others know it.
pub(super) struct Identity {
    pub(super) domain: Domain,
    certified: Certified,
    pin: String,
}

impl Identity {
    pub(super) fn new(domain: &Domain, now: Timestamp) -> Result<Self, ClusterError> {
        let certified = self_signed(&Leaf::new(domain, now))?;
        let leaf = certified.chain().swap_remove(0);
        let pin = pin(&leaf).map_err(|error| ClusterError::Start(error.to_string()))?;
        Ok(Self { domain: domain.clone(), certified, pin: HEXLOWER.encode(&pin) })
    }

    /// Writes it into the data directory of its relay, and into that one's list of peers all others.
    pub(super) fn write(&self, all: &[Self], data_dir: &Path) -> Result<(), ClusterError> {
        let directory = data_dir.join("identity");
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("certificate.pem"), self.certified.chain_pem())?;
        fs::write(directory.join("key.pem"), self.certified.key_pem())?;
        fs::create_dir_all(peers_directory(data_dir))?;
        for Self { domain, pin, .. } in all.iter().filter(|other| other.domain != self.domain) {
            let entry = format!("[[federation.peers]]\ndomain = \"{domain}\"\npins = [\"{pin}\"]\n");
            fs::write(peer_file(data_dir, domain), entry)?;
        }
        Ok(())
    }
}
