//! Addresses that no stranger's DNS may send us to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::network::Network;

/// Networks outside the public Internet in which peers may be all the same. Empty by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// These networks, besides the public Internet.
    pub fn new(networks: impl IntoIterator<Item = Network>) -> Self {
        Self(networks.into_iter().collect())
    }

    /// What kind of address `address` is, if we are not to connect to it.
    pub fn refuse(&self, address: IpAddr) -> Option<&'static str> {
        if self.0.iter().any(|network| network.contains(address)) {
            return None;
        }
        match address.to_canonical() {
            IpAddr::V4(address) => special_v4(address),
            IpAddr::V6(address) => special_v6(address),
        }
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (0, ..) => Some("an unspecified address"),
        (127, ..) => Some("a loopback address"),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Some("a private address"),
        (100, 64..=127, _) => Some("a shared address"),
        // The metadata services of the large hosting companies are here.
        (169, 254, _) => Some("a link-local address"),
        (192, 0, 0) | (198, 18..=19, _) => Some("a reserved address"),
        (224..=239, ..) => Some("a multicast address"),
        (240.., ..) => Some("a reserved address"),
        _ => None,
    }
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0xfc00..=0xfdff, ..] => Some("a private address"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xfec0..=0xfeff, ..] => Some("a site-local address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        [0x64, 0xff9b, 1, ..] | [0, 0, 0, 0, 0, 0, ..] | [0x100, 0, 0, 0, ..] => Some("a reserved address"),
        // NAT64 and 6to4 carry an IPv4 address, which is where the packets end.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            special_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_refused_by_name() {
        for (text, kind) in [
            ("127.0.0.1", Some("a loopback address")),
            ("::1", Some("a loopback address")),
            ("::ffff:127.0.0.1", Some("a loopback address")),
            ("0.0.0.0", Some("an unspecified address")),
            ("::", Some("an unspecified address")),
            ("10.1.2.3", Some("a private address")),
            ("172.31.0.1", Some("a private address")),
            ("192.168.1.1", Some("a private address")),
            ("fd00:ec2::254", Some("a private address")),
            ("100.100.100.200", Some("a shared address")),
            ("169.254.169.254", Some("a link-local address")),
            ("fe80::1", Some("a link-local address")),
            ("224.0.0.1", Some("a multicast address")),
            ("ff02::1", Some("a multicast address")),
            ("255.255.255.255", Some("a reserved address")),
            ("::127.0.0.1", Some("a reserved address")),
            ("64:ff9b::a9fe:a9fe", Some("a link-local address")),
            ("64:ff9b::808:808", None),
            ("2002:7f00:1::", Some("a loopback address")),
            ("172.32.0.1", None),
            ("8.8.8.8", None),
            ("2001:4860:4860::8888", None),
        ] {
            assert_eq!(Networks::default().refuse(text.parse().unwrap()), kind, "{text}");
        }
    }

    #[test]
    fn a_configured_network_is_allowed_and_its_neighbour_is_not() {
        let networks =
            Networks::new(["10.1.0.0/16", "fd00::/8", "127.0.0.1/32"].map(|text| text.parse().unwrap()));
        for (text, allowed) in [
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("fdff::1", true),
            ("fc00::1", false),
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("127.0.0.2", false),
        ] {
            assert_eq!(networks.refuse(text.parse().unwrap()).is_none(), allowed, "{text}");
        }
        let everything: Network = "::/0".parse().unwrap();
        assert!(everything.contains("fe80::1".parse().unwrap()));
        assert!(!everything.contains("10.0.0.1".parse().unwrap()));
    }
}
