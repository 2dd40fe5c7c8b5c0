//! The DNS name that identifies a relay.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A relay's name: a DNS domain in canonical form.
///
/// Lower case, A-labels (`xn--…`) only, no trailing dot, at most 200 bytes, and never an IP address. It names an
/// organisation, not a host: the host is found through SRV. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Arc<str>);

/// Why a text is not a domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// Nothing at all.
    #[error("a domain cannot be empty")]
    Empty,
    /// More than [`Domain::MAX_LENGTH`] bytes.
    #[error("a domain has at most {} bytes", Domain::MAX_LENGTH)]
    TooLong,
    /// `example.org.`: the root dot is implied.
    #[error("a domain is written without the trailing dot")]
    TrailingDot,
    /// Capital letters: there is one spelling only.
    #[error("a domain is written in lower case")]
    UpperCase,
    /// Something outside `a`-`z`, `0`-`9`, `-` and the dots.
    #[error("{0:?} cannot stand in a domain (international names are written as A-labels, `xn--…`)")]
    Character(char),
    /// An empty label, one over 63 bytes, or one that begins or ends with a hyphen.
    #[error("a label of a domain has 1 to 63 characters and neither begins nor ends with a hyphen")]
    Label,
    /// An IP address, or a name whose last label is a number and would be read as one.
    #[error("an IP address is not a domain")]
    IpAddress,
}

impl Domain {
    /// The most bytes that a domain may have, leaving room for the service labels in front of it.
    pub const MAX_LENGTH: usize = 200;

    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        if text.is_empty() {
            return Err(DomainError::Empty);
        }
        if text.len() > Self::MAX_LENGTH {
            return Err(DomainError::TooLong);
        }
        if text.contains(':') {
            return Err(if text.parse::<std::net::Ipv6Addr>().is_ok() {
                DomainError::IpAddress
            } else {
                DomainError::Character(':')
            });
        }
        if text.ends_with('.') {
            return Err(DomainError::TrailingDot);
        }
        if let Some(odd) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '.')) {
            return Err(if odd.is_ascii_uppercase() {
                DomainError::UpperCase
            } else {
                DomainError::Character(odd)
            });
        }
        let valid =
            |label: &str| (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
        if !text.split('.').all(valid) {
            return Err(DomainError::Label);
        }
        // WHATWG URL, "ends in a number": such a name would be taken for an IPv4 address.
        if text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
            return Err(DomainError::IpAddress);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Domain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Domain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_dns_has() {
        for text in ["example.org", "a.b.c", "xn--bcher-kva.example", "1and1.example", "relay"] {
            assert_eq!(text.parse::<Domain>().unwrap().as_str(), text);
        }
        assert!(format!("{}.example", "a.".repeat(90) + "a").parse::<Domain>().is_ok());
    }

    #[test]
    fn says_what_is_wrong() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = "a.".repeat(100) + "example";
        for (text, error) in [
            ("", DomainError::Empty),
            ("example.org.", DomainError::TrailingDot),
            ("Example.org", DomainError::UpperCase),
            ("bücher.example", DomainError::Character('ü')),
            ("_postrider.example", DomainError::Character('_')),
            ("example.org:443", DomainError::Character(':')),
            ("-a.example", DomainError::Label),
            ("a-.example", DomainError::Label),
            ("a..example", DomainError::Label),
            (long_label.as_str(), DomainError::Label),
            (long_name.as_str(), DomainError::TooLong),
            ("192.0.2.1", DomainError::IpAddress),
            ("2001:db8::1", DomainError::IpAddress),
            ("example.1", DomainError::IpAddress),
        ] {
            assert_eq!(text.parse::<Domain>(), Err(error), "{text}");
        }
    }
}
