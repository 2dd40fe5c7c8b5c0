//! RFC 2782: in which order SRV targets are tried.

use std::collections::HashSet;
use std::net::IpAddr;

use postrider_common::{Domain, Failure, FailureClass};
use rand::{Rng, RngExt};

use super::{SrvRecord, Target};

/// The most SRV records that are used: those of the lowest priority numbers.
pub const MAX_TARGETS: usize = 16;

/// The targets of `domain` in the order to try them: by priority, and within one by weighted chance.
pub fn order(domain: &Domain, records: &[SrvRecord], rng: &mut impl Rng) -> Result<Vec<Target>, Failure> {
    let failed = |detail| Err(Failure::new(FailureClass::DiscoveryFailed, detail));
    if let [only] = records
        && only.target == "."
    {
        return Err(Failure::new(
            FailureClass::DiscoveryDeclined,
            format!("{domain} publishes that it does not offer this service (SRV target `.`)"),
        ));
    }
    let mut usable: Vec<&SrvRecord> = Vec::new();
    for record in records {
        if record.target == "." {
            return failed(format!("{domain} publishes the SRV target `.` beside others"));
        }
        if record.target.is_empty() || record.target.parse::<IpAddr>().is_ok() {
            return failed(format!(
                "{domain} publishes the SRV target {:?}, which is not the name of a host",
                record.target
            ));
        }
        if record.port == 0 {
            return failed(format!("{domain} publishes port 0 for {}", record.target));
        }
        usable.push(record);
    }
    if usable.is_empty() {
        let detail = format!("{domain} publishes no SRV record at _postrider._tcp.{domain}.");
        return Err(Failure::new(FailureClass::DiscoveryAbsent, detail));
    }
    // Weight 0 first, so that it has a chance at all (RFC 2782).
    usable.sort_by_key(|record| (record.priority, record.weight != 0));
    usable.truncate(MAX_TARGETS);
    let mut seen = HashSet::new();
    let mut targets = Vec::with_capacity(usable.len());
    for same_priority in usable.chunk_by(|a, b| a.priority == b.priority) {
        let mut rest = same_priority.to_vec();
        while !rest.is_empty() {
            let record = rest.remove(draw(&rest, rng));
            let target = record.as_target();
            if seen.insert(target.clone()) {
                targets.push(target);
            }
        }
    }
    Ok(targets)
}

/// Which of `records` is next: the first whose running sum of weights reaches a number drawn from 0 to their sum.
fn draw(records: &[&SrvRecord], rng: &mut impl Rng) -> usize {
    let sum: u32 = records.iter().map(|record| u32::from(record.weight)).sum();
    let drawn = rng.random_range(0..=sum);
    let mut running = 0;
    records
        .iter()
        .position(|record| {
            running += u32::from(record.weight);
            running >= drawn
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn record(priority: u16, weight: u16, port: u16, target: &str) -> SrvRecord {
        SrvRecord { priority, weight, port, target: target.into() }
    }

    fn ordered(records: &[SrvRecord], seed: u64) -> Result<Vec<String>, Failure> {
        let domain = "d.example".parse().unwrap();
        order(&domain, records, &mut StdRng::seed_from_u64(seed))
            .map(|targets| targets.iter().map(Target::to_string).collect())
    }

    #[test]
    fn priorities_ascend_and_duplicates_go() {
        let records = [
            record(20, 0, 443, "c"),
            record(10, 0, 443, "b."),
            record(5, 0, 443, "A"),
            record(30, 0, 443, "a"),
            record(30, 0, 444, "a"),
        ];
        for seed in 0..20 {
            let targets = ordered(&records, seed).unwrap();
            assert_eq!(targets, ["a:443", "b:443", "c:443", "a:444"]);
        }
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        for (records, class, detail) in [
            (
                vec![record(0, 0, 0, ".")],
                FailureClass::DiscoveryDeclined,
                "d.example publishes that it does not offer this service (SRV target `.`)",
            ),
            (
                vec![record(0, 0, 1, "a"), record(0, 0, 0, ".")],
                FailureClass::DiscoveryFailed,
                "d.example publishes the SRV target `.` beside others",
            ),
            (vec![record(0, 0, 0, "a")], FailureClass::DiscoveryFailed, "d.example publishes port 0 for a"),
            (
                vec![record(0, 0, 443, "192.0.2.1")],
                FailureClass::DiscoveryFailed,
                "d.example publishes the SRV target \"192.0.2.1\", which is not the name of a host",
            ),
            (
                vec![],
                FailureClass::DiscoveryAbsent,
                "d.example publishes no SRV record at _postrider._tcp.d.example.",
            ),
        ] {
            assert_eq!(ordered(&records, 1).unwrap_err(), Failure::new(class, detail));
        }
    }

    #[test]
    fn no_more_than_the_first_sixteen() {
        let records: Vec<_> = (1..40).map(|port| record(40 - port, 1, port, "a")).collect();
        let targets = ordered(&records, 1).unwrap();
        assert_eq!(targets.len(), MAX_TARGETS);
        assert_eq!((targets[0].as_str(), targets[15].as_str()), ("a:39", "a:24"));
    }

    proptest! {
        #[test]
        fn no_target_is_lost_and_no_priority_passed_over(
            records in vec((any::<u16>(), 1..9_u16), 1..=MAX_TARGETS),
            seed: u64,
        ) {
            let by_port: Vec<_> = records.iter().map(|(weight, port)| record(*port, *weight, *port, "a")).collect();
            let ports: Vec<u16> = {
                let domain = "d.example".parse().unwrap();
                let targets = order(&domain, &by_port, &mut StdRng::seed_from_u64(seed)).unwrap();
                targets.iter().map(|target| target.port).collect()
            };
            let expected: BTreeSet<u16> = records.iter().map(|(_, port)| *port).collect();
            prop_assert_eq!(ports, expected.into_iter().collect::<Vec<_>>());
        }
    }

    /// With weights 0, 1 and 3 the draw is from 0 to 4, of which 0 goes to the first, 1 to the second, 2 to 4 to the third.
    #[test]
    fn the_first_choice_follows_the_weights() {
        const ROUNDS: u32 = 10_000;
        let records = [record(0, 3, 443, "three"), record(0, 0, 443, "zero"), record(0, 1, 443, "one")];
        let domain = "d.example".parse().unwrap();
        let mut rng = StdRng::seed_from_u64(42);
        let mut first: HashMap<String, u32> = HashMap::new();
        for _ in 0..ROUNDS {
            let targets = order(&domain, &records, &mut rng).unwrap();
            assert_eq!(targets.len(), 3);
            *first.entry(targets[0].host.clone()).or_default() += 1;
        }
        for (host, fifths) in [("zero", 1), ("one", 1), ("three", 3)] {
            let expected = ROUNDS * fifths / 5;
            assert!(first[host].abs_diff(expected) < 200, "{host}: {} of {ROUNDS}", first[host]);
        }
    }

    #[test]
    fn without_weights_every_target_gets_its_turn_in_the_order_given() {
        let records = [record(0, 0, 1, "a"), record(0, 0, 2, "b")];
        assert_eq!(ordered(&records, 7).unwrap(), ["a:1", "b:2"]);
    }
}
