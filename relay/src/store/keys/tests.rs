//! Keys are told apart, and tell their parts.

use super::*;

#[test]
fn one_domains_keys_are_never_anothers() {
    let (short, long): (Domain, Domain) = ("a.example".parse().unwrap(), "a.example.org".parse().unwrap());
    assert!(!items(&long).starts_with(&items(&short)));
    let range = items(&short)..end_of(&items(&short));
    assert!(range.contains(&item(&short, ItemId(u64::MAX))));
    assert!(!range.contains(&item(&long, ItemId(0))));
}

#[test]
fn keys_tell_their_parts() {
    let domain: Domain = "b.example".parse().unwrap();
    let at = Timestamp::from_secs(77);
    let key = item_expiry(at, &domain, ItemId(9));
    assert_eq!(first_number(&key), Ok(77));
    assert_eq!(of_item_expiry(&key), Ok((domain.clone(), ItemId(9))));
    assert_eq!(of_destination(&destination(&domain)), Ok(domain.clone()));
    let key = entry_expiry(at, &MailboxId::from_bytes([5; 32]), EntryId(3));
    assert_eq!(of_entry_expiry(&key), Ok((MailboxId::from_bytes([5; 32]), EntryId(3))));
    assert_eq!(due_of_delayed(&delayed(&domain, at, ItemId(1))), Ok(at));
    let id = TrackingId::from_bytes([4; 16]);
    assert_eq!(of_tracking_end(&tracking_end(at, &id)), Ok(id));
    let key = history_end(at, &domain);
    assert_eq!((of_history_end(&key), first_number(&key)), (Ok(domain), Ok(77_000)));
}

#[test]
fn a_damaged_key_is_an_error() {
    assert!(last_number(b"Q").is_err());
    assert!(of_item_expiry(b"Y12345678").is_err());
    assert!(due_of_delayed(b"L").is_err());
}

#[test]
fn a_prefix_ends_before_the_next_one() {
    assert_eq!(end_of(b"Ea").as_slice(), b"Eb");
    assert_eq!(end_of(&[b'E', 0xff, 0xff]).as_slice(), b"F");
}
