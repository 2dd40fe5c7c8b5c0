//! A range of addresses, as CIDR writes it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No address, no slash, or no number after it.
    #[error("must be an address, a slash and a length, such as \"10.0.0.0/8\" or \"fd00::/8\"")]
    Form,
    /// More bits than the address has.
    #[error("has more bits than an address of its kind: at most {0} can count")]
    TooLong(u8),
    /// The address has bits set that do not count, which is mostly a slip.
    #[error("has bits set that its length leaves out; the network is written {0}")]
    StrayBits(Network),
}

impl Network {
    /// The network's first address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits count.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether an address lies in it. An IPv4 address that is written as an IPv6 one counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address.to_canonical(), self.prefix) == Some(self.address)
    }
}

/// The address with all bits after the first `prefix` cleared; nothing if it does not have that many.
fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    let prefix = u32::from(prefix);
    Some(match address {
        IpAddr::V4(v4) => {
            let dropped = 32u32.checked_sub(prefix)?;
            let mask = u32::MAX.checked_shl(dropped).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let dropped = 128u32.checked_sub(prefix)?;
            let mask = u128::MAX.checked_shl(dropped).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    })
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = text.split_once('/').ok_or(NetworkError::Form)?;
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Form)?;
        let digits = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix = if digits {
            prefix.parse().unwrap_or(u8::MAX)
        } else {
            return Err(NetworkError::Form);
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let first = masked(address, prefix).ok_or(NetworkError::TooLong(most))?;
        let network = Self { address: first, prefix };
        if first == address { Ok(network) } else { Err(NetworkError::StrayBits(network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_its_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.1/32", "192.0.2.1", "192.0.2.2"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
            ("fd00::/8", "fdff::1", "fe80::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{network} {outside}");
            assert_eq!(network.to_string().parse(), Ok(network));
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for text in ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/x", "10.0.0.0/+8", "example.org/8", "10/8"] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError::Form), "{text}");
        }
        assert_eq!("10.0.0.0/33".parse::<Network>(), Err(NetworkError::TooLong(32)));
        assert_eq!("::/129".parse::<Network>(), Err(NetworkError::TooLong(128)));
        assert_eq!("::/999".parse::<Network>(), Err(NetworkError::TooLong(128)));
        let stray = "10.0.0.1/8".parse::<Network>().unwrap_err();
        assert!(stray.to_string().ends_with("written 10.0.0.0/8"), "{stray}");
    }
}
