//! The `[acme]` section.

use http::Uri;
use http::uri::Scheme;
use postrider_common::Domain;

use super::keys::{
    ACME_CONTACT, ACME_DIRECTORY, ACME_NAMES, ACME_ROOTS, ACME_SHOWN_TO, ACME_TERMS, FEDERATION_CERTIFICATE,
    LISTEN_ADDRESSES, TLS_CERTIFICATE,
};
use super::reader::Reader;
use super::sections::public_roots;
use super::{PublicRoots, domain};

/// Certificates from an ACME server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeConfig {
    /// What the certificate is for: at least one name, none twice.
    pub names: Vec<Domain>,
    /// The server's directory: an `https` URL with a host.
    pub directory: Uri,
    /// An e-mail address for the server's operator.
    pub contact: Option<String>,
    /// Whom to trust for the server's own certificate; absent: the authorities that are built in.
    pub roots: Option<PublicRoots>,
    /// Whether other relays are shown the certificate too. Then the relay's domain is among the names.
    pub is_for_relays: bool,
}

impl AcmeConfig {
    /// `None` if no name is given.
    pub(super) fn read(reader: &mut Reader<'_, '_>, own: Option<&Domain>) -> Option<Self> {
        let names = reader.list(&ACME_NAMES, domain);
        let directory = reader.text(&ACME_DIRECTORY, directory);
        let contact = reader.text(&ACME_CONTACT, address);
        let is_agreed = reader.text(&ACME_TERMS, agreed).is_some();
        let roots = public_roots(reader, &ACME_ROOTS);
        let is_for_relays = reader.choice(&ACME_SHOWN_TO, &[("clients", false), ("everybody", true)]);
        if names.is_empty() {
            return None;
        }
        if !is_agreed && !reader.is_set(&ACME_TERMS) {
            reader.problem(
                &ACME_TERMS,
                "is missing: read the terms of service of the ACME server, and write terms_of_service = \"agreed\" if you do",
            );
        }
        if reader.is_set(&TLS_CERTIFICATE) {
            reader.problem(
                &ACME_NAMES,
                format!("has a name, while {} is there; keep one of them", TLS_CERTIFICATE.path),
            );
        }
        if is_for_relays {
            if reader.is_set(&FEDERATION_CERTIFICATE) {
                let other = FEDERATION_CERTIFICATE.path;
                reader.problem(
                    &ACME_SHOWN_TO,
                    format!("is \"everybody\", while {other} is there; keep one of them"),
                );
            }
            if let Some(own) = own.filter(|own| !names.contains(own)) {
                reader.problem(
                    &ACME_NAMES,
                    format!(
                        "does not have {own}, by which other relays go; {} is \"everybody\"",
                        ACME_SHOWN_TO.path
                    ),
                );
            }
        }
        Some(Self { names, directory: directory?, contact, roots, is_for_relays })
    }

    /// Says so if nobody who checks a challenge can get in.
    pub(super) fn check_port(&self, reader: &mut Reader<'_, '_>, ports: impl IntoIterator<Item = u16>) {
        const HTTPS: u16 = 443;
        if !ports.into_iter().any(|port| port == HTTPS) {
            reader.warning(
                &LISTEN_ADDRESSES,
                format!(
                    "has no port 443, to which a public ACME server connects to check {}: something has to lead from \
                     there to the relay, without ending TLS",
                    ACME_NAMES.path
                ),
            );
        }
    }
}

fn directory(text: &str) -> Result<Uri, String> {
    let wanted = "must be an https URL, such as \"https://acme-v02.api.letsencrypt.org/directory\"";
    let url: Uri = text.parse().map_err(|_| format!("is {text:?}, but {wanted}"))?;
    let is_whole = url.scheme() == Some(&Scheme::HTTPS)
        && url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if is_whole { Ok(url) } else { Err(format!("is {text:?}, but {wanted}")) }
}

fn agreed(text: &str) -> Result<(), String> {
    match text {
        "agreed" => Ok(()),
        _ => Err(format!("is {text:?}, but must be \"agreed\" or absent")),
    }
}

fn address(text: &str) -> Result<String, String> {
    let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    match text.split_once('@') {
        // What a server makes of it is its affair; what would be two addresses, or none, is not sent.
        Some((user, host)) if is_printable && !user.is_empty() && host.parse::<Domain>().is_ok() => {
            if text.contains([',', '?', ':']) { Err(()) } else { Ok(text.to_owned()) }
        }
        _ => Err(()),
    }
    .map_err(|()| format!("is {text:?}, but must be one e-mail address, such as \"admin@example.org\""))
}
