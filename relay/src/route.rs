//! Where an envelope goes: the one decision that every edge shares.

use postrider_common::{Binding, Domain};

/// How many destinations may answer that a mailbox has moved before that counts as going round in circles.
pub const MAX_MOVES: u8 = 3;

/// The next step of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// Its mailbox is ours.
    Local,
    /// Another relay keeps its mailbox.
    Remote(&'a Domain),
}

/// Decides for an address at `domain`, as the relay of `own`; `learnt` is what other relays have told of the mailbox.
///
/// Whether a mailbox of our own has moved its own record says: the deposit answers it.
pub fn route<'a>(own: &Domain, domain: &'a Domain, learnt: Option<&'a Binding>) -> Route<'a> {
    if domain == own {
        return Route::Local;
    }
    let domain = learnt.map_or(domain, Binding::domain);
    if domain == own { Route::Local } else { Route::Remote(domain) }
}

/// The next step of an envelope of which a destination says that its mailbox has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow<'a> {
    /// To our own mailbox.
    Local,
    /// To another relay.
    Remote(&'a Domain),
    /// Again to where it was: that relay has yet to learn that the mailbox is back.
    Again,
    /// Nowhere: it would go round in circles.
    Loop,
}

/// Decides for an envelope that was offered to `from`, which has `answered` with a binding, and where `newest`
/// counts; `moves` destinations have answered so before.
pub fn follow<'a>(
    own: &Domain,
    from: &Domain,
    answered: &Binding,
    newest: &'a Binding,
    moves: u8,
) -> Follow<'a> {
    if answered.domain() == from || moves >= MAX_MOVES {
        Follow::Loop
    } else if newest.domain() == from {
        Follow::Again
    } else if newest.domain() == own {
        Follow::Local
    } else {
        Follow::Remote(newest.domain())
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn domain(name: &str) -> Domain {
        name.parse().unwrap()
    }

    fn binding(name: &str, serial: u64) -> Binding {
        Binding::sign(&SigningKey::from_bytes(&[7; 32]), domain(name), serial)
    }

    #[test]
    fn own_domain_is_local_and_a_subdomain_is_not() {
        let own = domain("alpha.example");
        let other = domain("mail.alpha.example");
        assert_eq!(route(&own, &own, None), Route::Local);
        assert_eq!(route(&own, &other, None), Route::Remote(&other));
    }

    #[test]
    fn a_binding_counts_for_foreign_addresses() {
        let (own, old, new) = (domain("alpha.example"), domain("beta.example"), domain("gamma.example"));
        let (there, here) = (binding("gamma.example", 1), binding("alpha.example", 2));
        assert_eq!(route(&own, &old, Some(&there)), Route::Remote(&new));
        assert_eq!(route(&own, &old, Some(&here)), Route::Local);
        assert_eq!(route(&own, &own, Some(&there)), Route::Local, "its own record says whether it has moved");
    }

    #[test]
    fn a_moved_mailbox_is_followed_for_a_while() {
        let (own, from, new) = (domain("alpha.example"), domain("beta.example"), domain("gamma.example"));
        let (there, here, back) =
            (binding("gamma.example", 1), binding("alpha.example", 2), binding("beta.example", 3));
        assert_eq!(follow(&own, &from, &there, &there, 0), Follow::Remote(&new));
        assert_eq!(follow(&own, &from, &there, &there, MAX_MOVES - 1), Follow::Remote(&new));
        assert_eq!(follow(&own, &from, &there, &there, MAX_MOVES), Follow::Loop);
        assert_eq!(follow(&own, &from, &there, &here, 0), Follow::Local, "what is known is newer");
        assert_eq!(follow(&own, &from, &there, &back, 0), Follow::Again);
        assert_eq!(follow(&own, &from, &back, &back, 0), Follow::Loop, "it sends everybody to itself");
    }
}
