//! From the file to the configuration, one section after the other.

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

use postrider_common::Domain;
use postrider_federation::discovery::check_trust_anchor;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use super::credentials::read_authority;
use super::file::File;
use super::fragments;
use super::key::Key;
use super::keys::{
    BATCHES_IN_FLIGHT, CONNECT_TIMEOUT, DATA_DIR, DNS_ALLOW_NETWORKS, DNS_DNSSEC, DNS_HOSTS, DNS_SERVERS,
    DNS_TRUST_ANCHOR, DOMAIN, ENVELOPES_PER_SECOND, FEDERATION_CERTIFICATE, FEDERATION_DENY, FEDERATION_KEY,
    FEDERATION_POLICY, FEDERATION_ROOTS, FEDERATION_UNLISTED, KEY_ANNOUNCEMENT, LOG_FORMAT, LOG_LEVEL,
    REGISTRATION_POLICY, REQUEST_TIMEOUT, STORE_CACHE, STORE_RESERVE, SUBMISSION_BURST,
    SUBMISSION_MEMBER_BURST, SUBMISSION_MEMBER_RATE, SUBMISSION_POLICY, SUBMISSION_RATE, SUBMISSION_UPLOAD,
    TLS_CERTIFICATE, TLS_KEY, WEB_ORIGINS,
};
use super::peer::{Own, peers};
use super::problem::Findings;
use super::reader::Reader;
use super::{
    AcmeConfig, Config, Credentials, DnsConfig, FederationConfig, FederationPolicy, Limits, ListenConfig,
    LogConfig, LogFormat, PeerConfig, PublicRoots, RegistrationPolicy, StoreConfig, SubmissionConfig,
    SubmissionPolicy, TrustConfig, UnlistedTrust,
};

/// Goes through the whole file whatever it finds. `None` only if there are problems.
pub(super) fn config(file: &File<'_>, path: &Path, findings: &mut Findings) -> Option<Config> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut top = Reader::new(&file.top, directory, findings);
    let reader = &mut top;

    let domain = reader.text(&DOMAIN, super::domain);
    let data_dir = reader.path(&DATA_DIR);
    if let Some(data_dir) = data_dir.as_ref().filter(|path| path.exists() && !path.is_dir()) {
        reader.problem(&DATA_DIR, format!("is {}, which is not a directory", data_dir.display()));
    }
    let listen = ListenConfig::read(reader);
    let tls = tls(reader);
    let acme = AcmeConfig::read(reader, domain.as_ref());
    if let Some(acme) = &acme {
        acme.check_port(reader, listen.addresses.iter().map(|listen| listen.address.port()));
    }
    let policy = reader.choice(
        &FEDERATION_POLICY,
        &[
            ("closed", FederationPolicy::Closed),
            ("allow-list", FederationPolicy::AllowList),
            ("open", FederationPolicy::Open),
        ],
    );
    let identity = data_dir.as_deref().and_then(|data_dir| identity(reader, domain.as_ref(), data_dir));
    let key_announcement = reader.duration(&KEY_ANNOUNCEMENT);
    let connect_timeout = reader.duration(&CONNECT_TIMEOUT);
    let request_timeout = reader.duration(&REQUEST_TIMEOUT);
    let batches_in_flight = reader.length(&BATCHES_IN_FLIGHT);
    let envelopes_per_second = positive(reader.number(&ENVELOPES_PER_SECOND)).get();
    let deny = reader.list(&FEDERATION_DENY, super::domain);
    let unlisted_trust = reader.choice(
        &FEDERATION_UNLISTED,
        &[
            ("public", UnlistedTrust::Public),
            ("dane", UnlistedTrust::Dane),
            ("webpki", UnlistedTrust::WebPki),
        ],
    );
    let public_roots = public_roots(reader, &FEDERATION_ROOTS);
    let dns = dns(reader);
    let policies = [RegistrationPolicy::Open, RegistrationPolicy::Invite, RegistrationPolicy::Closed];
    let registration = reader.choice(&REGISTRATION_POLICY, &policies.map(|policy| (policy.word(), policy)));
    let allowed_origins = reader.list(&WEB_ORIGINS, super::origin);
    let limits = Limits::read(reader);
    let submission = submission(reader, limits.envelopes.batch_envelopes);
    let store = StoreConfig { cache: reader.number(&STORE_CACHE), reserve: reader.number(&STORE_RESERVE) };
    let log = log(reader);

    let own = Own { domain: domain.as_ref(), pin: identity.as_ref().map(|identity| &identity.pin) };
    let mut peers = peers(file, own, directory, findings);
    if let Some(data_dir) = &data_dir {
        fragments::add_to(&mut peers, data_dir, own, findings);
    }
    let mut top = Reader::new(&file.top, directory, findings);
    contradictions(&mut top, policy, &peers, &deny);
    if !dns.dnssec {
        without_dnssec(&mut top, policy, &peers, unlisted_trust);
    }

    Some(Config {
        file: path.to_owned(),
        domain: domain?,
        data_dir: data_dir?,
        listen,
        tls,
        acme,
        federation: FederationConfig {
            policy,
            identity: identity?,
            key_announcement,
            connect_timeout,
            request_timeout,
            batches_in_flight,
            envelopes_per_second,
            peers,
            deny,
            unlisted_trust,
            public_roots,
        },
        dns,
        registration,
        submission,
        allowed_origins,
        limits,
        store,
        log: log?,
        warnings: Vec::new(),
    })
}

/// What goes with the policy and what does not.
fn contradictions(
    reader: &mut Reader<'_, '_>,
    policy: FederationPolicy,
    peers: &[PeerConfig],
    deny: &[Domain],
) {
    match policy {
        FederationPolicy::Closed if !peers.is_empty() => reader.warning(
            &FEDERATION_POLICY,
            "is \"closed\": nothing is exchanged with the peers that are listed; to do so, set it to \"allow-list\"",
        ),
        FederationPolicy::AllowList if peers.is_empty() => {
            reader.warning(&FEDERATION_POLICY, "is \"allow-list\", and no peer is listed");
        }
        _ => {}
    }
    if !deny.is_empty() && policy != FederationPolicy::Open {
        reader.warning(&FEDERATION_DENY, "is never used: it goes with policy = \"open\"");
    }
    if let Some(peer) = peers.iter().find(|peer| deny.contains(&peer.domain)) {
        let domain = &peer.domain;
        reader
            .problem(&FEDERATION_DENY, format!("has {domain}, which is listed as a peer, here or in peers.d of the data directory; keep one of them"));
    }
}

/// What cannot be without DNSSEC.
fn without_dnssec(
    reader: &mut Reader<'_, '_>,
    policy: FederationPolicy,
    peers: &[PeerConfig],
    unlisted: UnlistedTrust,
) {
    if let Some(peer) = peers.iter().find(|peer| peer.trust == TrustConfig::Dane) {
        let domain = &peer.domain;
        reader.problem(&DNS_DNSSEC, format!("is \"off\", but the peer {domain} has trust = \"dane\""));
    }
    match (policy, unlisted) {
        (FederationPolicy::Open, UnlistedTrust::Dane) => {
            reader.problem(&DNS_DNSSEC, "is \"off\", but federation.unlisted_trust is \"dane\"");
        }
        (FederationPolicy::Open, UnlistedTrust::Public) => reader.problem(
            &DNS_DNSSEC,
            "is \"off\", but federation.unlisted_trust is \"public\", which has to know whether there are TLSA records; \
             without DNSSEC there is \"webpki\"",
        ),
        _ => {}
    }
}

fn dns(reader: &mut Reader<'_, '_>) -> DnsConfig {
    let dnssec = reader.choice(&DNS_DNSSEC, &[("auto", true), ("off", false)]);
    let file = reader.path(&DNS_TRUST_ANCHOR);
    let trust_anchor = file.and_then(|file| {
        let text = fs::read_to_string(&file)
            .map_err(|error| format!("names a file that cannot be read: {}: {error}", file.display()));
        let checked = text.and_then(|text| match check_trust_anchor(&text) {
            Ok(()) => Ok(text),
            Err(error) => Err(format!("names a file that is no trust anchor: {}: {error}", file.display())),
        });
        checked.map_err(|problem| reader.problem(&DNS_TRUST_ANCHOR, problem)).ok()
    });
    if !dnssec && reader.is_set(&DNS_TRUST_ANCHOR) {
        reader.warning(&DNS_TRUST_ANCHOR, "is never used: dns.dnssec is \"off\"");
    }
    DnsConfig {
        servers: reader.list(&DNS_SERVERS, super::dns_server),
        allow_networks: reader.list(&DNS_ALLOW_NETWORKS, super::network),
        hosts: reader.list(&DNS_HOSTS, super::host),
        dnssec,
        trust_anchor,
    }
}

/// Where systems keep the public authorities.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Nothing for those that are built in.
pub(super) fn public_roots(reader: &mut Reader<'_, '_>, key: &Key) -> Option<PublicRoots> {
    let word = reader.text(key, |text| Ok(text.to_owned()))?;
    let file = match word.as_str() {
        "bundled" => return None,
        "system" => match SYSTEM_ROOTS.iter().map(Path::new).find(|path| path.exists()) {
            Some(path) => path.to_owned(),
            None => {
                let known = SYSTEM_ROOTS.join(", ");
                reader.problem(key, format!("is \"system\", but none of {known} is there"));
                return None;
            }
        },
        _ => reader.path(key)?,
    };
    read_authority(reader, key, &file).map(|pem| PublicRoots { file, pem })
}

fn tls(reader: &mut Reader<'_, '_>) -> Option<Credentials> {
    both_or_none(reader, &TLS_CERTIFICATE, &TLS_KEY);
    let (certificate, key) = (reader.path(&TLS_CERTIFICATE), reader.path(&TLS_KEY));
    Credentials::read(reader, (&TLS_CERTIFICATE, certificate?), (&TLS_KEY, key?), "")
}

fn identity(reader: &mut Reader<'_, '_>, domain: Option<&Domain>, data_dir: &Path) -> Option<Credentials> {
    both_or_none(reader, &FEDERATION_CERTIFICATE, &FEDERATION_KEY);
    let set = reader.is_set(&FEDERATION_CERTIFICATE) || reader.is_set(&FEDERATION_KEY);
    let hint = match set {
        true => "",
        false if data_dir.join("store").exists() => "; put it back: other relays know this one by it",
        false => "; `postrider init` makes it",
    };
    let default = |name| data_dir.join("identity").join(name);
    let certificate = reader.path(&FEDERATION_CERTIFICATE).unwrap_or_else(|| default("certificate.pem"));
    let key = reader.path(&FEDERATION_KEY).unwrap_or_else(|| default("key.pem"));
    let identity =
        Credentials::read(reader, (&FEDERATION_CERTIFICATE, certificate), (&FEDERATION_KEY, key), hint)?;
    if let Some(domain) = domain {
        is_for_domain(reader, &identity, domain);
    }
    Some(identity)
}

/// Other relays go by the domain.
pub(super) fn is_for_domain(reader: &mut Reader<'_, '_>, identity: &Credentials, domain: &Domain) {
    if !identity.names(domain) {
        reader.problem(
            &FEDERATION_CERTIFICATE,
            format!(
                "names a certificate that is not for {domain}, so that it proves nothing to other relays"
            ),
        );
    }
}

fn both_or_none(reader: &mut Reader<'_, '_>, certificate: &Key, key: &Key) {
    for (there, missing) in [(certificate, key), (key, certificate)] {
        if reader.is_set(there) && !reader.is_set(missing) {
            reader.problem(missing, format!("is missing, while {} is there; give both or none", there.path));
        }
    }
}

fn submission(reader: &mut Reader<'_, '_>, batch_envelopes: usize) -> SubmissionConfig {
    let policies = [SubmissionPolicy::Open, SubmissionPolicy::Members];
    let policy = reader.choice(&SUBMISSION_POLICY, &policies.map(|policy| (policy.word(), policy)));
    let [rate_per_second, burst, member_rate_per_second, member_burst] =
        [&SUBMISSION_RATE, &SUBMISSION_BURST, &SUBMISSION_MEMBER_RATE, &SUBMISSION_MEMBER_BURST]
            .map(|key| positive(reader.number(key)));
    for (key, burst) in [(&SUBMISSION_BURST, burst), (&SUBMISSION_MEMBER_BURST, member_burst)] {
        if (burst.get() as usize) < batch_envelopes {
            reader.problem(
                key,
                format!(
                    "is {burst}, so that a batch of limits.batch_envelopes ({batch_envelopes}) could never pass"
                ),
            );
        }
    }
    let upload_per_second = reader.number(&SUBMISSION_UPLOAD);
    SubmissionConfig {
        policy,
        rate_per_second,
        burst,
        member_rate_per_second,
        member_burst,
        upload_per_second,
    }
}

/// A number whose range begins at 1 and ends far below `u32`'s.
fn positive(number: u64) -> NonZeroU32 {
    u32::try_from(number).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

fn log(reader: &mut Reader<'_, '_>) -> Option<LogConfig> {
    let format = reader.choice(&LOG_FORMAT, &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let filter = reader.text(&LOG_LEVEL, filter)?;
    let most = EnvFilter::try_new(&filter).ok().and_then(|filter| filter.max_level_hint());
    if most.is_none_or(|level| level >= LevelFilter::DEBUG) {
        reader.warning(&LOG_LEVEL, "lets mailbox ids and client addresses into the log");
    }
    Some(LogConfig { format, filter })
}

/// The filter's own parser takes any word for a target of which everything is logged, a misspelt level too.
fn filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let wanted =
        "must be one of error, warn, info, debug, trace, or a list such as \"info,postrider::store=debug\"";
    let word = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-'));
    let level = |part: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part));
    if let Some(odd) = text.split(',').find(|part| word(part) && !level(part)) {
        return Err(format!("is {text:?}, in which {odd:?} is no level; it {wanted}"));
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("is {text:?}, which is no log filter ({error}); it {wanted}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_no_target() {
        for good in ["info", "INFO", "off", "info,postrider::store=debug", "warn,[span{field=1}]=trace"] {
            assert_eq!(filter(good), Ok(good.to_owned()));
        }
        for bad in
            ["", "inof", "info,", "postrider", "info,postrider=loud", "info,=", "a=b=c", "info, h2=warn"]
        {
            assert!(filter(bad).is_err(), "{bad:?}");
        }
    }
}
