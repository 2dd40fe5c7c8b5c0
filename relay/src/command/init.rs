//! `postrider init`: a configuration file and the relay's identity.

mod undo;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use postrider_common::Domain;
use postrider_common::clock::{Clock, SystemClock};
use postrider_federation::{Generated, Identity, IdentityError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::InitArgs;
use crate::config::{pin, render};
use crate::exit::Exit;
use undo::Undo;

/// What proves a domain to other relays.
#[derive(Debug)]
pub struct NewIdentity {
    /// The certificate, in PEM.
    pub certificate_pem: String,
    /// Its private key, in PEM.
    pub key_pem: Zeroizing<String>,
}

/// Why the command failed. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is something in the way that could be a relay's data.
    #[error("{0} exists already and is left as it is; name another directory, or move it away")]
    Exists(PathBuf),
    /// The directory or a file could not be made.
    #[error("{path} cannot be made: {source}")]
    Create {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No identity could be made.
    #[error("the relay's identity cannot be made: {0}")]
    Identity(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What was made could not be told.
    #[error("the result cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl InitError {
    /// What the process exits with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Exists(_) => Exit::CannotCreate,
            Self::Create { source, .. } => Exit::for_creating(source),
            Self::Identity(_) => Exit::Software,
            Self::Output(_) => Exit::Io,
        }
    }
}

/// Makes everything, with an identity from `generate`, and writes what was made and what to do next.
pub fn run<E>(
    args: &InitArgs,
    generate: impl FnOnce(&Domain) -> Result<NewIdentity, E>,
    out: &mut dyn Write,
) -> Result<(), InitError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (config, data) = (args.dir.join("postrider.toml"), args.dir.join("data"));
    let identity_dir = data.join("identity");
    for path in [&config, &data] {
        // A link that leads nowhere is in the way too.
        if path.symlink_metadata().is_ok() {
            return Err(InitError::Exists(path.clone()));
        }
    }
    let identity = generate(&args.domain).map_err(|error| InitError::Identity(error.into()))?;
    let certificate = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes());
    let certificate = certificate.map_err(|error| InitError::Identity(error.into()))?;
    let pin = pin(&certificate).map_err(|error| InitError::Identity(error.into()))?;

    let mut undo = Undo::default();
    if !args.dir.is_dir() {
        undo.make_dir(&args.dir)?;
    }
    undo.make_dir(&data)?;
    undo.make_dir(&identity_dir)?;
    let (certificate, key) = (identity_dir.join("certificate.pem"), identity_dir.join("key.pem"));
    undo.make_file(&certificate, identity.certificate_pem.as_bytes(), 0o644)?;
    undo.make_file(&key, identity.key_pem.as_bytes(), 0o600)?;
    undo.make_file(&config, configuration(args).as_bytes(), 0o644)?;
    report(args, &[&config, &certificate, &key], &pin, out)?;
    undo.keep();
    Ok(())
}

/// An identity with a new key.
pub fn generate(domain: &Domain) -> Result<NewIdentity, IdentityError> {
    let Generated { certificate_pem, key_pem } = Identity::generate(domain, SystemClock.now())?;
    Ok(NewIdentity { certificate_pem, key_pem })
}

fn configuration(args: &InitArgs) -> String {
    let keys = render::toml(|key| match key.path {
        "domain" => Some(format!("\"{}\"", args.domain)),
        "listen.addresses" => args.listen.map(|address| format!("[\"{address}\"]")),
        _ => None,
    });
    format!(
        "# Configuration of the relay for {}. Lines that begin with `#` say what holds without them.\n\
         # `postrider check-config --config FILE` finds mistakes.\n\n{keys}",
        args.domain
    )
}

fn report(args: &InitArgs, made: &[&Path], pin: &[u8; 32], out: &mut dyn Write) -> io::Result<()> {
    let domain = &args.domain;
    let port = args.listen.map_or(443, |address: SocketAddr| address.port());
    let config = args.dir.join("postrider.toml");
    writeln!(out, "Made for the relay of {domain}:")?;
    for path in made {
        writeln!(out, "  {}", path.display())?;
    }
    writeln!(
        out,
        "\nKeep key.pem to yourself, with a copy in a safe place: it is what other relays know this one by.\n\
         \n\
         Next:\n\
         \n\
         1. Publish where the relay is, with addresses (A, AAAA) for the host. If it is not relay.{domain}, change the\n\
         \x20  name in this record:\n\
         \n\
         \x20  _postrider._tcp.{domain}. 3600 IN SRV 0 0 {port} relay.{domain}.\n\
         \n\
         2. Look through {config} and check it:\n\
         \n\
         \x20  postrider check-config --config {config}\n\
         \n\
         3. Start the relay:\n\
         \n\
         \x20  postrider serve --config {config}\n\
         \n\
         4. Let people in, each by a link that this prints while the relay runs:\n\
         \n\
         \x20  postrider invite create --config {config}\n\
         \n\
         Other relays are let in one by one: see [federation] and [[federation.peers]] in that file. Their\n\
         administrators need this relay's domain and the fingerprint of its key, over a channel that they trust:\n\
         \n\
         \x20  {pin}",
        pin = HEXLOWER.encode(pin),
        config = config.display(),
    )
}

#[cfg(test)]
pub(crate) mod tests;
