//! What others have to know of this relay: its records in DNS, and its keys.

use std::fmt::Write as _;
use std::net::IpAddr;

use clap::Args;
use data_encoding::HEXLOWER;

use super::identity::Next;
use crate::config::Config;

/// Where the relay can be reached.
#[derive(Debug, Clone, Args)]
pub struct Host {
    /// The host's name [default: `relay.` and the relay's domain].
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// The port that others connect to [default: the first one that the relay listens on].
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// An address of the host. Can be given several times [default: those that the relay listens on].
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
}

/// The current key's pin, and the next one's if there is one.
pub(super) fn pins(config: &Config, next: Option<&Next>) -> Vec<String> {
    let own = [config.federation.identity.pin].into_iter().chain(next.map(|next| next.pin));
    own.map(|pin| HEXLOWER.encode(&pin)).collect()
}

/// Lines of a zone: SRV, addresses, and TLSA for those who go by DANE.
pub(super) fn zone(config: &Config, next: Option<&Next>, host: &Host) -> String {
    const TTL: u32 = 3600;
    let domain = &config.domain;
    let name = host.host.as_deref().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    let name = name.unwrap_or_else(|| format!("relay.{domain}"));
    let listened = config.listen.of_relays().next().map_or(443, |address| address.port());
    let port = host.port.unwrap_or(if listened == 0 { 443 } else { listened });
    let mut addresses = host.addresses.clone();
    if addresses.is_empty() {
        let specific = config.listen.of_relays().map(|address| address.ip());
        addresses.extend(specific.filter(|ip| !ip.is_unspecified() && !ip.is_loopback()));
    }
    // Writing to a string does not fail.
    let mut zone = format!("_postrider._tcp.{domain}. {TTL} IN SRV 0 0 {port} {name}.\n");
    for address in &addresses {
        let kind = if address.is_ipv4() { "A" } else { "AAAA" };
        let _ = writeln!(zone, "{name}. {TTL} IN {kind} {address}");
    }
    if addresses.is_empty() {
        let _ = writeln!(
            zone,
            "; {name}. {TTL} IN A and AAAA: the addresses of that host, which must not be a CNAME"
        );
    }
    let _ = writeln!(zone, "; The next line counts in a zone that is signed with DNSSEC only.");
    for pin in pins(config, next) {
        let _ = writeln!(zone, "_{port}._tcp.{name}. {TTL} IN TLSA 3 1 1 {pin}");
    }
    zone
}

/// One block for another administrator: an entry of `[[federation.peers]]`, with the records as comments.
pub(super) fn block(config: &Config, next: Option<&Next>, host: &Host) -> String {
    let domain = &config.domain;
    let mut block = format!(
        "# The relay of {domain}. To let it in: `postrider peer import`, or into the configuration as it is.\n\
         # Take this over a channel that you trust: whoever changes it can pass for that relay.\n#\n\
         # Published in DNS:\n"
    );
    for line in zone(config, next, host).lines().filter(|line| !line.starts_with(';')) {
        let _ = writeln!(block, "#   {line}");
    }
    let quoted: Vec<_> = pins(config, next).iter().map(|pin| format!("\"{pin}\"")).collect();
    let _ = write!(
        block,
        "\n[[federation.peers]]\ndomain = \"{domain}\"\ntrust = \"pinned\"\npins = [{}]\n",
        quoted.join(", ")
    );
    block
}
