//! Trust in the web's certificate authorities.
//!
//! They issue for servers: a certificate for clients is not to be had from them any more, and what they do issue under
//! such an intermediate is for mail and people. So `serverAuth` is what is asked for, in both directions.

use rustls::pki_types::CertificateDer;
use webpki::KeyUsage;

use super::chain::{Purpose, verify, wrong_name};
use super::{CaRoots, Case, Distrust};
use crate::tls;

/// `hosts` are the domain's SRV targets where its SRV records are secure, so that a certificate may name one of them
/// instead. Without DNSSEC anybody could have put a host of their own there.
pub(super) fn judge(
    case: &Case<'_>,
    leaf: &CertificateDer<'_>,
    roots: &CaRoots,
    hosts: &[String],
) -> Result<(), Distrust> {
    let purpose = Purpose {
        validator: KeyUsage::server_auth(),
        usages: &["serverAuth"],
        otherwise: "is not meant for servers, or an authority above it is not",
    };
    verify(case, leaf, roots, purpose)?;
    if tls::is_for(leaf, case.claimed) || hosts.iter().any(|host| tls::is_for_host(leaf, host)) {
        return Ok(());
    }
    let names = std::iter::once(case.claimed.to_string()).chain(hosts.iter().cloned());
    let mut names: Vec<_> = names.collect();
    names.dedup();
    Err(wrong_name(case, names))
}
