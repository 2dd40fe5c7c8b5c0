use std::fs;

use postrider_common::clock::ManualClock;

use super::*;
use crate::command::init::tests::made;

const START: Timestamp = Timestamp::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn rotated(config: &Path, clock: &ManualClock, now: bool) -> (Result<(), IdentityCommandError>, String) {
    let mut out = Vec::new();
    let args = RotateArgs { place: IdentityArgs { config: config.to_owned() }, now };
    let result = rotate(&args, clock, &mut out);
    (result, String::from_utf8(out).unwrap())
}

fn pins(config: &Path) -> Vec<String> {
    let config = Config::load(config).unwrap();
    crate::command::announcement::pins(&config, Next::of(&config).unwrap().as_ref())
}

#[test]
fn a_key_is_announced_before_it_is_used() {
    let (_dir, file) = made();
    let clock = ManualClock::new(START);
    let current = pins(&file);
    assert_eq!(current.len(), 1);

    let (result, said) = rotated(&file, &clock, false);
    result.unwrap();
    let announced = pins(&file);
    assert_eq!((announced.len(), &announced[0]), (2, &current[0]), "the current one is still in use");
    assert!(said.contains(&announced[1]) && said.contains("2027-01-29T08:00:00Z (14 days)"), "{said}");

    clock.advance(DAY * 14 - Duration::from_secs(1));
    let (result, said) = rotated(&file, &clock, false);
    let error = result.unwrap_err();
    assert_eq!((error.exit(), said.as_str()), (Exit::TemporaryFailure, ""));
    assert!(error.to_string().contains("peers may not know it before 2027-01-29T08:00:00Z"), "{error}");
    assert_eq!(pins(&file), announced, "nothing has changed");

    clock.advance(Duration::from_secs(1));
    let (result, said) = rotated(&file, &clock, false);
    result.unwrap();
    assert!(said.contains("identity-previous") && said.contains("No relay runs"), "{said}");
    assert_eq!(pins(&file), announced[1..]);
    let data = Config::load(&file).unwrap().data_dir;
    assert!(data.join("identity-previous/key.pem").exists() && !data.join("identity-next").exists());
    assert_eq!(fs::read_dir(data.join("identity")).unwrap().count(), 2);
}

#[test]
fn an_administrator_who_knows_better_need_not_wait() {
    let (_dir, file) = made();
    let clock = ManualClock::new(START);
    let mut seen = pins(&file);
    for _ in 0..2 {
        rotated(&file, &clock, true).0.unwrap();
        let next = pins(&file).pop().unwrap();
        assert!(!seen.contains(&next));
        rotated(&file, &clock, true).0.unwrap();
        assert_eq!(pins(&file), std::slice::from_ref(&next));
        seen.push(next);
    }
}

#[test]
fn a_change_that_was_interrupted_leaves_a_whole_identity() {
    let (_dir, file) = made();
    let clock = ManualClock::new(START);
    rotated(&file, &clock, true).0.unwrap();
    let next = pins(&file).pop().unwrap();
    let data = Config::load(&file).unwrap().data_dir;
    // The directories have changed places, and then the machine lost its power.
    let (old, new, aside) = (data.join("identity"), data.join("identity-next"), data.join("aside"));
    for (from, to) in [(&old, &aside), (&new, &old), (&aside, &new)] {
        fs::rename(from, to).unwrap();
    }
    assert_eq!(pins(&file), [next], "what is left of the earlier one is not announced");
    rotated(&file, &clock, true).0.unwrap();
    assert_eq!(pins(&file).len(), 2);
    assert!(data.join("identity-previous/key.pem").exists());
}

#[test]
fn a_key_that_was_used_never_comes_back() {
    let (_dir, file) = made();
    let clock = ManualClock::new(START);
    let mut used = pins(&file);
    rotated(&file, &clock, true).0.unwrap();
    let data = Config::load(&file).unwrap().data_dir;
    let (current, next) = (data.join("identity"), data.join("identity-next"));
    // The directories have changed places, and the announcement is still with what is the current one now.
    let aside = data.join("aside");
    for (from, to) in [(&current, &aside), (&next, &current), (&aside, &next)] {
        fs::rename(from, to).unwrap();
    }
    assert!(current.join("announced-since").exists());
    for _ in 0..3 {
        used.push(pins(&file).remove(0));
        rotated(&file, &clock, true).0.unwrap();
        let announced = pins(&file);
        assert_eq!(announced.len(), 2);
        assert!(!used.contains(&announced[1]), "{announced:?} after {used:?}");
        rotated(&file, &clock, true).0.unwrap();
        assert_eq!(pins(&file), announced[1..], "and nothing else is announced");
    }
}

#[test]
fn power_that_fails_after_any_step_leaves_a_whole_identity_and_brings_no_key_back() {
    for after in 0..=rotate::tests::COUNT {
        let (_dir, file) = made();
        let clock = ManualClock::new(START);
        // There is an earlier identity already, which has to make room.
        let mut used = pins(&file);
        for _ in 0..2 {
            rotated(&file, &clock, true).0.unwrap();
        }
        used.extend(pins(&file));
        rotated(&file, &clock, true).0.unwrap();
        let announced = pins(&file);
        rotate::tests::interrupted(&Config::load(&file).unwrap(), after);

        let left = pins(&file);
        if left[0] == used[1] {
            assert_eq!(left, announced, "after step {after}: nothing has happened");
        } else {
            assert_eq!(left, announced[1..], "after step {after}: it is in use, and nothing is announced");
        }
        for _ in 0..4 {
            let in_use = pins(&file).remove(0);
            if used.last() != Some(&in_use) {
                assert!(!used.contains(&in_use), "after step {after}: {in_use} has come back");
                used.push(in_use);
            }
            rotated(&file, &clock, true).0.unwrap();
            let next = pins(&file).get(1).cloned();
            assert!(
                next.is_none_or(|next| !used.contains(&next)),
                "after step {after}: a used key is announced"
            );
        }
    }
}

#[test]
fn a_next_key_that_is_not_whole_is_not_used() {
    let (_dir, file) = made();
    let clock = ManualClock::new(START);
    rotated(&file, &clock, true).0.unwrap();
    let before = pins(&file);
    let next = Config::load(&file).unwrap().data_dir.join("identity-next");
    fs::write(next.join("key.pem"), "half a key").unwrap();
    let error = rotated(&file, &clock, true).0.unwrap_err();
    assert!(error.to_string().contains("identity-next"), "{error}");
    assert_eq!(pins(&file), before, "nothing has changed");
}

#[test]
fn what_the_administrator_keeps_elsewhere_is_left_to_him() {
    let (dir, file) = made();
    let data = Config::load(&file).unwrap().data_dir;
    for name in ["certificate.pem", "key.pem"] {
        fs::copy(data.join("identity").join(name), dir.path().join(name)).unwrap();
    }
    let (certificate, key) = (dir.path().join("certificate.pem"), dir.path().join("key.pem"));
    let text = format!(
        "domain = \"alpha.example\"\ndata_dir = {data:?}\n[federation]\ncertificate = {certificate:?}\nkey = {key:?}\n"
    );
    fs::write(&file, text).unwrap();
    let error = rotated(&file, &ManualClock::new(START), true).0.unwrap_err();
    assert!(matches!(error, IdentityCommandError::Elsewhere(_)), "{error}");
}
