//! `postrider check-config`: whether a configuration file is good.

use std::io::{self, Write};

use data_encoding::HEXLOWER;
use postrider_common::Timestamp;
use postrider_common::clock::{Clock, SystemClock};
use postrider_federation::Presented;

use super::CheckConfigArgs;
use crate::acme;
use crate::config::{Config, ConfigErrors, FederationPolicy, ListenAddress};
use crate::exit::Exit;
use crate::listener::Audience;

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckConfigError {
    /// The configuration is wrong. One problem per line.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The summary could not be written.
    #[error("the result cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl CheckConfigError {
    /// What the process exits with.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Config(errors) => errors.exit(),
            Self::Output(_) => Exit::Io,
        }
    }
}

/// Loads the file as `serve` would and writes a summary with the warnings.
pub fn run(args: &CheckConfigArgs, out: &mut dyn Write) -> Result<(), CheckConfigError> {
    let config = Config::load(&args.config)?;
    for warning in &config.warnings {
        writeln!(out, "warning: {}", warning.in_file(&args.config))?;
    }
    let identity = &config.federation.identity;
    for credentials in config.tls.iter().chain([identity]) {
        let presented = Presented::of(&credentials.certified.cert);
        if let Some(what) = presented.and_then(|presented| off_date(&presented, SystemClock.now())) {
            writeln!(out, "warning: {}: {what}", credentials.certificate_file.display())?;
        }
    }
    writeln!(out, "{}: ok", args.config.display())?;
    summary(&config, out)?;
    Ok(())
}

/// What is wrong with a certificate's dates. That is no mistake in the configuration, and those who pin the key do not
/// look at them.
fn off_date(presented: &Presented, now: Timestamp) -> Option<String> {
    let refused = "those who look at the date refuse it";
    if presented.not_after <= now {
        return Some(format!("the certificate is over since {}: {refused}", presented.not_after));
    }
    let early = || format!("the certificate is not valid before {}: {refused}", presented.not_before);
    (presented.not_before > now).then(early)
}

fn summary(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    let shown = |listen: &ListenAddress| match listen.audience {
        Audience::Everybody => listen.address.to_string(),
        Audience::Clients => format!("{} (clients)", listen.address),
        Audience::Relays => format!("{} (relays)", listen.address),
    };
    let listen: Vec<_> = config.listen.addresses.iter().map(shown).collect();
    writeln!(out, "  domain       {}", config.domain)?;
    writeln!(out, "  data         {}", config.data_dir.display())?;
    writeln!(out, "  listen       {}", listen.join(", "))?;
    writeln!(out, "  clients see  {}", clients_see(config))?;
    writeln!(out, "  peers see    {}", config.federation.identity.certificate_file.display())?;
    writeln!(out, "  own pin      {}", HEXLOWER.encode(&config.federation.identity.pin))?;
    match config.federation.policy {
        FederationPolicy::Closed => writeln!(out, "  federation   closed"),
        FederationPolicy::AllowList => {
            let peers: Vec<_> = config.federation.peers.iter().map(|peer| peer.domain.as_str()).collect();
            writeln!(out, "  federation   allow-list: {}", peers.join(", "))
        }
        FederationPolicy::Open => {
            let deny: Vec<_> = config.federation.deny.iter().map(|domain| domain.as_str()).collect();
            let listed = config.federation.peers.len();
            let but = if deny.is_empty() { String::new() } else { format!(" but {}", deny.join(", ")) };
            writeln!(out, "  federation   open to everybody{but}; listed: {listed}")
        }
    }
}

/// Which certificate, and what it will be if it is not there yet.
fn clients_see(config: &Config) -> String {
    let identity = &config.federation.identity;
    let Some(acme) = &config.acme else {
        return config.tls.as_ref().unwrap_or(identity).certificate_file.display().to_string();
    };
    let names: Vec<_> = acme.names.iter().map(|name| name.as_str()).collect();
    let (names, server) = (names.join(", "), acme.directory.host().unwrap_or_default());
    match acme::stored(&config.data_dir, acme) {
        Ok(Some(issued)) => format!(
            "{}, issued by way of {server} for {names}{}",
            issued.certificate_file.display(),
            Presented::of(&issued.certified.cert)
                .map_or_else(String::new, |shown| format!(", valid until {}", shown.not_after)),
        ),
        Ok(None) => {
            format!("{} until {server} has issued one for {names}", identity.certificate_file.display())
        }
        Err(error) => format!("{}: {error}", identity.certificate_file.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::command::init::tests::made;

    fn check(config: &std::path::Path) -> (Result<(), CheckConfigError>, String) {
        let mut out = Vec::new();
        let result = run(&CheckConfigArgs { config: config.to_owned() }, &mut out);
        (result, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_good_file_is_summed_up() {
        let (_dir, file) = made();
        let (result, out) = check(&file);
        result.unwrap();
        assert!(out.starts_with(&format!("{}: ok\n  domain       alpha.example\n", file.display())), "{out}");
        assert!(out.ends_with("  federation   closed\n"), "{out}");
    }

    #[test]
    fn a_warning_is_shown_and_a_problem_ends_with_78() {
        let (_dir, file) = made();
        fs::write(&file, "domain = \"alpha.example\"\n[log]\nlevel = \"debug\"\n").unwrap();
        let (result, out) = check(&file);
        result.unwrap();
        assert!(out.starts_with(&format!("warning: {}:3: log.level lets", file.display())), "{out}");
        fs::write(&file, "domain = \"alpha.example\"\nlog = 1\ncolour = 2\n").unwrap();
        let (result, out) = check(&file);
        let error = result.unwrap_err();
        assert_eq!((error.exit().code(), out.as_str()), (78, ""));
        assert_eq!(error.to_string().lines().count(), 2, "{error}");
    }

    #[test]
    fn a_certificate_out_of_its_time_is_told() {
        let now = Timestamp::from_secs(1_800_000_000);
        let day = std::time::Duration::from_secs(86_400);
        let domain = "b.example".parse().unwrap();
        let pems = postrider_federation::Identity::generate(&domain, now).unwrap();
        let (certificate, key) = (pems.certificate_pem.as_bytes(), pems.key_pem.as_bytes());
        let identity = postrider_federation::Identity::from_pem(&domain, certificate, key).unwrap();
        let presented = Presented::of(identity.certificates()).unwrap();
        assert_eq!(off_date(&presented, now), None);
        let early = off_date(&presented, presented.not_before - day).unwrap();
        assert!(early.starts_with("the certificate is not valid before 20"), "{early}");
        let over = off_date(&presented, presented.not_after).unwrap();
        assert!(over.starts_with("the certificate is over since 20"), "{over}");
    }
}
