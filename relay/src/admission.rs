//! How many connections there may be, in all and from one client address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A client as limits see it: an IPv4 address, or an IPv6 /64, which is what one subscriber gets.
///
/// It is never logged above `debug`, so its `Debug` shows nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

/// The connections that there are. Clones share them.
#[derive(Debug, Clone)]
pub struct Admissions {
    inside: Arc<Mutex<Inside>>,
    most: usize,
    most_of_one: usize,
}

#[derive(Debug, Default)]
struct Inside {
    total: usize,
    by_address: HashMap<ClientAddress, usize>,
}

/// One of all the connections, of whose client nothing is known yet. Dropping it makes room for another.
#[derive(Debug)]
pub struct Place(Admissions);

/// One admitted connection, for as long as its socket lives. Dropping it makes room for another.
#[derive(Debug)]
pub struct Admission {
    place: Place,
    address: ClientAddress,
}

impl Admissions {
    /// Room for `most` connections, `most_of_one` of them from one client address.
    pub fn new(most: usize, most_of_one: usize) -> Self {
        Self { inside: Arc::default(), most, most_of_one }
    }

    /// Lets a connection in, if there is room.
    pub fn admit(&self, address: ClientAddress) -> Option<Admission> {
        self.reserve()?.of(address)
    }

    /// Lets a connection in whose client has yet to be told by a proxy, if there is room in all.
    pub fn reserve(&self) -> Option<Place> {
        let mut inside = self.lock();
        if inside.total >= self.most {
            return None;
        }
        inside.total += 1;
        Some(Place(self.clone()))
    }

    /// How many connections there are.
    pub fn total(&self) -> usize {
        self.lock().total
    }

    /// How many of them are this client's.
    pub fn of_one(&self, address: ClientAddress) -> usize {
        self.lock().by_address.get(&address).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // No code that can panic runs under this lock half way through a change.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The connection is this client's, if there is room for another one of it.
    pub fn of(self, address: ClientAddress) -> Option<Admission> {
        let mut inside = self.0.lock();
        let of_one = inside.by_address.get(&address).copied().unwrap_or_default();
        if of_one >= self.0.most_of_one {
            drop(inside);
            return None;
        }
        inside.by_address.insert(address, of_one + 1);
        drop(inside);
        Some(Admission { place: self, address })
    }
}

impl Admission {
    /// Whose connection it is.
    pub const fn address(&self) -> ClientAddress {
        self.address
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().total -= 1;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut inside = self.place.0.lock();
        if let Entry::Occupied(mut of_one) = inside.by_address.entry(self.address) {
            *of_one.get_mut() -= 1;
            if *of_one.get() == 0 {
                of_one.remove();
            }
        }
    }
}

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        })
    }
}

impl fmt::Debug for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientAddress(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> ClientAddress {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn an_ipv6_subscriber_is_one_client() {
        assert_eq!(client("2001:db8:1:2::3"), client("2001:db8:1:2:ffff::4"));
        assert_ne!(client("2001:db8:1:2::3"), client("2001:db8:1:3::3"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
    }

    #[test]
    fn there_is_room_for_so_many_and_no_more() {
        let admissions = Admissions::new(3, 2);
        let (first, other) = (client("192.0.2.1"), client("192.0.2.2"));
        let one = admissions.admit(first).unwrap();
        let _two = admissions.admit(first).unwrap();
        assert!(admissions.admit(first).is_none(), "two of one address");
        let _three = admissions.admit(other).unwrap();
        assert!(admissions.admit(other).is_none(), "three in all");
        drop(one);
        assert_eq!(admissions.total(), 2);
        let four = admissions.admit(first).unwrap();
        assert_eq!(four.address(), first);
        drop(four);
        assert_eq!(admissions.lock().by_address.len(), 2);
    }

    #[test]
    fn whoever_comes_through_a_proxy_is_counted_once_it_is_told_who_that_is() {
        let admissions = Admissions::new(3, 1);
        let one = client("192.0.2.1");
        let [first, second, third] = [(); 3].map(|()| admissions.reserve().unwrap());
        assert!(admissions.reserve().is_none(), "three in all");
        let admitted = first.of(one).unwrap();
        assert!(second.of(one).is_none(), "one of one address");
        assert_eq!(admissions.total(), 2, "who is not let in leaves no trace");
        drop(third);
        drop(admitted);
        assert_eq!((admissions.total(), admissions.lock().by_address.len()), (0, 0));
    }
}
