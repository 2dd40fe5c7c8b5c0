//! What went wrong at each address, told as one failure.

use std::net::SocketAddr;

use postrider_common::{Domain, Failure, FailureClass};

/// How many addresses a sentence names.
const NAMED: usize = 8;

/// The failures of one attempt.
pub(super) struct Failures {
    domain: Domain,
    unreached: Vec<String>,
    others: Vec<Failure>,
}

impl Failures {
    pub(super) fn new(domain: &Domain) -> Self {
        Self { domain: domain.clone(), unreached: Vec::new(), others: Vec::new() }
    }

    /// There is no connection to `address`.
    pub(super) fn unreached(&mut self, address: SocketAddr, reason: impl AsRef<str>) {
        self.unreached.push(format!("{address} ({})", reason.as_ref()));
    }

    /// A target failed in another way.
    pub(super) fn other(&mut self, failure: Failure) {
        self.others.push(failure);
    }

    /// The failure that tells most: the further an attempt came, the more its end says.
    pub(super) fn most_telling(self) -> Failure {
        let most_telling = self.others.into_iter().max_by_key(|failure| progress(failure.class));
        let named = self.unreached.len().min(NAMED);
        let mut list = self.unreached[..named].join(", ");
        if self.unreached.len() > named {
            list.push_str(&format!(" and {} more", self.unreached.len() - named));
        }
        let unreached = || {
            Failure::new(
                FailureClass::ConnectFailed,
                if list.is_empty() {
                    format!("{} has no address to connect to", self.domain)
                } else {
                    format!("no connection to {}: {list}", self.domain)
                },
            )
        };
        match most_telling {
            Some(failure) if progress(failure.class) > 1 || self.unreached.is_empty() => failure,
            _ => unreached(),
        }
    }
}

/// How far an attempt came before it failed like this: of several failures the one that tells most is the farthest.
pub const fn progress(class: FailureClass) -> u8 {
    match class {
        // That one target is ourselves says nothing about the others.
        FailureClass::Loop => 0,
        FailureClass::DiscoveryFailed => 1,
        FailureClass::ConnectFailed => 2,
        FailureClass::VersionUnsupported => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures() -> Failures {
        Failures::new(&"b.example".parse().unwrap())
    }

    #[test]
    fn every_address_is_named() {
        let mut all = failures();
        all.unreached("192.0.2.1:443".parse().unwrap(), "refused");
        all.unreached("[2001:db8::1]:443".parse().unwrap(), "no answer in time");
        all.other(Failure::new(FailureClass::DiscoveryFailed, "no address"));
        let expected =
            "no connection to b.example: 192.0.2.1:443 (refused), [2001:db8::1]:443 (no answer in time)";
        assert_eq!(all.most_telling(), Failure::new(FailureClass::ConnectFailed, expected));
    }

    #[test]
    fn a_certificate_tells_more_than_a_closed_port() {
        let mut all = failures();
        all.unreached("192.0.2.1:443".parse().unwrap(), "refused");
        all.other(Failure::new(FailureClass::TlsExpired, "expired"));
        all.other(Failure::new(FailureClass::ConnectFailed, "handshake"));
        assert_eq!(all.most_telling(), Failure::new(FailureClass::TlsExpired, "expired"));
    }

    #[test]
    fn only_if_every_target_is_ourselves_there_is_no_way_out() {
        let circle = || Failure::new(FailureClass::Loop, "circle");
        let mut all = failures();
        all.other(circle());
        assert_eq!(all.most_telling(), circle());
        let mut all = failures();
        all.other(Failure::new(FailureClass::DiscoveryFailed, "no address"));
        all.other(circle());
        assert_eq!(all.most_telling().class, FailureClass::DiscoveryFailed);
        let mut all = failures();
        all.unreached("192.0.2.1:443".parse().unwrap(), "refused");
        all.other(circle());
        assert_eq!(all.most_telling().class, FailureClass::ConnectFailed);
    }

    #[test]
    fn nothing_to_try_is_said() {
        let expected = Failure::new(FailureClass::ConnectFailed, "b.example has no address to connect to");
        assert_eq!(failures().most_telling(), expected);
    }
}
