//! Where an envelope goes: the one decision that every edge shares.

use postrider_common::Domain;

/// The next step of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// Its mailbox is ours.
    Local,
    /// Another relay keeps its mailbox.
    Remote(&'a Domain),
}

/// Decides for an address at `domain`, as the relay of `own`.
///
/// Where mailboxes that have moved come in, their bindings become parameters here; it stays a pure function.
pub fn route<'a>(own: &Domain, domain: &'a Domain) -> Route<'a> {
    if domain == own { Route::Local } else { Route::Remote(domain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_domain_is_local_and_a_subdomain_is_not() {
        let own = "alpha.example".parse().unwrap();
        let other = "mail.alpha.example".parse().unwrap();
        assert_eq!(route(&own, &own), Route::Local);
        assert_eq!(route(&own, &other), Route::Remote(&other));
    }
}
