//! Trust in a certificate authority that two organisations agreed on.

use rustls::pki_types::CertificateDer;
use webpki::{Error, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage};

use super::chain::{Purpose, verify, wrong_name};
use super::{CaRoots, Case, Distrust};
use crate::tls;

/// For servers, for clients, or for nothing in particular.
///
/// One certificate serves both directions, and many authorities issue only for servers, so a stricter rule would keep
/// honest relays out. It would keep nobody else out: the authority was configured for this peer alone.
struct EitherUsage;

impl ExtendedKeyUsageValidator for EitherUsage {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        let mut names_some = false;
        for purpose in purposes {
            let purpose = purpose?.to_decoded_oid();
            if purpose == KeyUsage::SERVER_AUTH_REPR || purpose == KeyUsage::CLIENT_AUTH_REPR {
                return Ok(());
            }
            names_some = true;
        }
        if names_some { Err(Error::EmptyEkuExtension) } else { Ok(()) }
    }
}

pub(super) fn judge(case: &Case<'_>, leaf: &CertificateDer<'_>, roots: &CaRoots) -> Result<(), Distrust> {
    let purpose = Purpose {
        validator: EitherUsage,
        usages: &["serverAuth", "clientAuth"],
        otherwise: "is meant neither for servers nor for clients",
    };
    verify(case, leaf, roots, purpose)?;
    if tls::is_for(leaf, case.claimed) {
        return Ok(());
    }
    Err(wrong_name(case, vec![case.claimed.to_string()]))
}
