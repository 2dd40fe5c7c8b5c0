//! The entries of `[[federation.peers]]`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER_PERMISSIVE;
use postrider_common::Domain;

use super::credentials::read_authority;
use super::file::{File, Table};
use super::keys::{
    PEER_ADDRESSES, PEER_CA, PEER_DIRECTION, PEER_DOMAIN, PEER_IN_FLIGHT, PEER_PINS, PEER_RATE, PEER_TRUST,
};
use super::problem::Findings;
use super::reader::Reader;

/// Another relay, and how it is dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its domain. No two peers have the same, and none has ours.
    pub domain: Domain,
    /// Which way envelopes may go.
    pub direction: PeerDirection,
    /// How it proves its domain.
    pub trust: TrustConfig,
    /// Where it is; empty: where its SRV record says.
    pub addresses: Vec<SocketAddr>,
    /// Batches on their way to it and from it, if not as many as for all.
    pub batches_in_flight: Option<usize>,
    /// Envelopes that it may bring per second, if not as many as for all.
    pub envelopes_per_second: Option<u32>,
}

/// Which way envelopes may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerDirection {
    /// From it and to it.
    Both,
    /// From it.
    In,
    /// To it.
    Out,
}

/// How a peer proves its domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustConfig {
    /// Its key has one of these fingerprints (SHA-256 of the SPKI); at least one.
    Pinned {
        /// The fingerprints.
        pins: Vec<[u8; 32]>,
    },
    /// Its certificate comes from this authority and names the domain.
    PrivateCa {
        /// Where the authority's certificates were read from.
        ca: PathBuf,
        /// The certificates, in PEM.
        pem: Vec<u8>,
    },
    /// Its key is in TLSA records that DNSSEC proves.
    Dane,
    /// Its certificate comes from a public authority and names the domain.
    WebPki,
}

#[derive(Clone, Copy)]
enum TrustMode {
    Pinned,
    PrivateCa,
    Dane,
    WebPki,
}

/// This relay, as far as it is known when the peers are read.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    pub(super) domain: Option<&'a Domain>,
    pub(super) pin: Option<&'a [u8; 32]>,
}

/// Reads every entry. Entries with problems are left out of the answer.
pub(super) fn peers(
    file: &File<'_>,
    own: Own<'_>,
    directory: &Path,
    findings: &mut Findings,
) -> Vec<PeerConfig> {
    let entries = file.lists.get("federation.peers").map_or(&[][..], Vec::as_slice);
    let mut seen = Vec::new();
    entries
        .iter()
        .filter_map(|entry| peer(entry, own, &mut seen, &mut Reader::new(entry, directory, findings)))
        .collect()
}

fn peer(
    entry: &Table<'_>,
    own: Own<'_>,
    seen: &mut Vec<(Domain, usize)>,
    reader: &mut Reader<'_, '_>,
) -> Option<PeerConfig> {
    let domain = reader.text(&PEER_DOMAIN, super::domain);
    if let Some(domain) = &domain {
        let number = entry.entry.map_or(0, |(_, number)| number);
        if Some(domain) == own.domain {
            reader.problem(
                &PEER_DOMAIN,
                format!("is {domain}, which is this relay itself; leave the entry out"),
            );
        } else if let Some((_, first)) = seen.iter().find(|(other, _)| other == domain) {
            reader.problem(
                &PEER_DOMAIN,
                format!("is {domain}, and so is that of entry {first}; keep one of them"),
            );
        } else {
            seen.push((domain.clone(), number));
        }
    }
    let words = [("both", PeerDirection::Both), ("in", PeerDirection::In), ("out", PeerDirection::Out)];
    let direction = reader.choice(&PEER_DIRECTION, &words);
    let trust = trust(own, reader);
    let addresses = reader.list(&PEER_ADDRESSES, super::address_of_a_peer);
    if direction == PeerDirection::In && !addresses.is_empty() {
        reader.warning(&PEER_ADDRESSES, "is never used: with direction = \"in\" nothing is sent there");
    }
    if trust == Some(TrustConfig::Dane) && !addresses.is_empty() {
        reader.problem(
            &PEER_ADDRESSES,
            "do not go with trust = \"dane\", which finds the key where it finds the host, through SRV",
        );
    }
    let batches_in_flight = reader.optional_number(&PEER_IN_FLIGHT);
    let envelopes_per_second = reader.optional_number(&PEER_RATE);
    Some(PeerConfig {
        domain: domain?,
        direction,
        trust: trust?,
        addresses,
        batches_in_flight,
        envelopes_per_second,
    })
}

fn trust(own: Own<'_>, reader: &mut Reader<'_, '_>) -> Option<TrustConfig> {
    let modes = [
        ("pinned", TrustMode::Pinned),
        ("private-ca", TrustMode::PrivateCa),
        ("dane", TrustMode::Dane),
        ("webpki", TrustMode::WebPki),
    ];
    let mode = reader.choice(&PEER_TRUST, &modes);
    let pins = reader.list(&PEER_PINS, pin);
    let ca = reader.path(&PEER_CA);
    match mode {
        TrustMode::Pinned => {
            if reader.is_set(&PEER_CA) {
                reader.problem(
                    &PEER_CA,
                    "does not go with trust = \"pinned\"; leave it out, or set trust = \"private-ca\"",
                );
            }
            if !reader.is_set(&PEER_PINS) {
                reader.problem(
                    &PEER_PINS,
                    "is missing; trust = \"pinned\" needs the fingerprint of the peer's key",
                );
            } else if pins.is_empty() {
                reader.problem(&PEER_PINS, "has no usable entry; trust = \"pinned\" needs one");
            }
            if own.pin.is_some_and(|own| pins.contains(own)) {
                reader
                    .problem(&PEER_PINS, "has the fingerprint of this relay's own key; the peer's is meant");
            }
            (!pins.is_empty()).then_some(TrustConfig::Pinned { pins })
        }
        TrustMode::PrivateCa => {
            if reader.is_set(&PEER_PINS) {
                reader.problem(
                    &PEER_PINS,
                    "does not go with trust = \"private-ca\"; leave it out, or set trust = \"pinned\"",
                );
            }
            if !reader.is_set(&PEER_CA) {
                reader.problem(
                    &PEER_CA,
                    "is missing; trust = \"private-ca\" needs the authority's certificate",
                );
            }
            let ca = ca?;
            read_authority(reader, &PEER_CA, &ca).map(|pem| TrustConfig::PrivateCa { ca, pem })
        }
        TrustMode::Dane | TrustMode::WebPki => {
            let (word, trust) = match mode {
                TrustMode::Dane => ("dane", TrustConfig::Dane),
                _ => ("webpki", TrustConfig::WebPki),
            };
            for (key, other) in [(&PEER_PINS, "pinned"), (&PEER_CA, "private-ca")] {
                if reader.is_set(key) {
                    reader.problem(
                        key,
                        format!(
                            "does not go with trust = \"{word}\"; leave it out, or set trust = \"{other}\""
                        ),
                    );
                }
            }
            Some(trust)
        }
    }
}

fn pin(text: &str) -> Result<[u8; 32], String> {
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        format!("is {text:?}, but must be a SHA-256 fingerprint: 64 hexadecimal digits, nothing between them")
    })
}
