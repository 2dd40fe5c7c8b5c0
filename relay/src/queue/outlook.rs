//! Whose fault it is: when nobody can be reached, it is ours.

use std::collections::BTreeMap;

use postrider_common::{Domain, FailureClass, Timestamp};

/// So many destinations have to be out of reach before the fault is taken for a local one.
const LEAST: usize = 2;

/// How those destinations fare for which something waits.
#[derive(Debug, Default)]
pub struct Outlook {
    destinations: BTreeMap<Domain, Fare>,
    /// When somebody was reached last, for good or ill.
    reached: Option<Timestamp>,
    is_local: bool,
}

/// How one destination fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fare {
    /// It was not tried yet, or answered when it was.
    Well,
    /// It could not be found or connected to.
    OutOfReach { since: Timestamp },
    /// It was reached, and failed in another way.
    Failing,
}

/// The fault has become a local one, or is none any longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Nobody can be reached.
    Local,
    /// That is over. These have waited for nothing.
    Over(Vec<Domain>),
}

impl Outlook {
    /// Whether the fault is a local one.
    pub const fn is_local(&self) -> bool {
        self.is_local
    }

    /// Something waits for a destination that is not known to fail.
    pub fn waits(&mut self, destination: &Domain) {
        if !self.destinations.contains_key(destination) {
            self.destinations.insert(destination.clone(), Fare::Well);
        }
    }

    /// An attempt has failed; the destination has failed since `since`.
    pub fn failed(
        &mut self,
        destination: &Domain,
        class: FailureClass,
        since: Timestamp,
        now: Timestamp,
    ) -> Option<Turn> {
        let is_out_of_reach = is_about_reach(class);
        if !is_out_of_reach {
            self.reached = Some(now);
        }
        let fare = if is_out_of_reach { Fare::OutOfReach { since } } else { Fare::Failing };
        self.destinations.insert(destination.clone(), fare);
        self.turn(!is_out_of_reach)
    }

    /// A destination has answered for what it was sent.
    pub fn succeeded(&mut self, destination: &Domain, now: Timestamp) -> Option<Turn> {
        self.reached = Some(now);
        self.destinations.insert(destination.clone(), Fare::Well);
        self.turn(true)
    }

    /// Nothing waits for the destination any more.
    pub fn forget(&mut self, destination: &Domain) -> Option<Turn> {
        self.destinations.remove(destination);
        self.turn(self.destinations.len() < LEAST)
    }

    /// Once the fault is local it stays so until somebody is reached: that something new waits, and was not tried
    /// yet, says nothing.
    fn turn(&mut self, is_over: bool) -> Option<Turn> {
        if self.is_local {
            if !is_over {
                return None;
            }
            self.is_local = false;
            let in_vain =
                self.destinations.iter().filter(|(_, fare)| matches!(fare, Fare::OutOfReach { .. }));
            return Some(Turn::Over(in_vain.map(|(domain, _)| domain.clone()).collect()));
        }
        self.is_local = self.looks_local();
        self.is_local.then_some(Turn::Local)
    }

    /// Everybody for whom something waits is out of reach, and at least two of them only since somebody was reached
    /// last: two dead relays on a quiet day are no fault of ours.
    fn looks_local(&self) -> bool {
        let mut since_then = 0;
        for fare in self.destinations.values() {
            let Fare::OutOfReach { since } = fare else {
                return false;
            };
            since_then += usize::from(self.reached.is_none_or(|reached| *since >= reached));
        }
        since_then >= LEAST
    }
}

/// Whether a failure of this class can come from our own end of the network. That a domain has no record, or that a
/// certificate is wrong, was said by somebody who could be reached.
const fn is_about_reach(class: FailureClass) -> bool {
    matches!(
        class,
        FailureClass::ConnectFailed | FailureClass::DiscoveryFailed | FailureClass::DiscoveryBogus
    )
}

#[cfg(test)]
mod tests {
    use FailureClass::{ConnectFailed, DiscoveryFailed, RemoteFailed};

    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + secs)
    }

    fn domains() -> [Domain; 3] {
        ["a.example", "b.example", "c.example"].map(|name| name.parse().unwrap())
    }

    #[test]
    fn everybody_out_of_reach_is_a_local_fault_until_somebody_is_reached() {
        let [a, b, c] = domains();
        let mut outlook = Outlook::default();
        assert_eq!(outlook.failed(&a, ConnectFailed, at(0), at(0)), None, "one is not enough");
        outlook.waits(&b);
        assert_eq!(outlook.failed(&a, ConnectFailed, at(0), at(5)), None, "the other was not tried yet");
        assert_eq!(outlook.failed(&b, DiscoveryFailed, at(6), at(6)), Some(Turn::Local));
        assert_eq!(outlook.failed(&b, DiscoveryFailed, at(6), at(9)), None, "told once");
        outlook.waits(&c);
        assert!(outlook.is_local(), "what was not tried says nothing");
        assert_eq!(outlook.succeeded(&c, at(20)), Some(Turn::Over(vec![a, b])));
        assert!(!outlook.is_local());
    }

    #[test]
    fn an_answer_of_any_kind_shows_that_the_way_is_open() {
        let [a, b, _] = domains();
        let mut outlook = Outlook::default();
        outlook.failed(&a, ConnectFailed, at(0), at(0));
        assert_eq!(outlook.failed(&b, RemoteFailed, at(0), at(3)), None);
        assert_eq!(outlook.failed(&b, ConnectFailed, at(0), at(5)), None, "both failed before b was reached");
        assert_eq!(outlook.failed(&a, ConnectFailed, at(0), at(6)), None);
    }

    #[test]
    fn two_dead_relays_on_a_quiet_day_are_no_local_fault() {
        let [a, b, c] = domains();
        let mut outlook = Outlook::default();
        outlook.succeeded(&c, at(100));
        outlook.forget(&c);
        assert_eq!(outlook.failed(&a, ConnectFailed, at(3), at(110)), None);
        assert_eq!(outlook.failed(&b, ConnectFailed, at(50), at(120)), None);
        // A third and a fourth that fail only now are.
        assert_eq!(outlook.failed(&c, ConnectFailed, at(130), at(130)), None);
        let d = "d.example".parse().unwrap();
        assert_eq!(outlook.failed(&d, ConnectFailed, at(140), at(140)), Some(Turn::Local));
    }

    #[test]
    fn what_waits_no_longer_does_not_count() {
        let [a, b, c] = domains();
        let mut outlook = Outlook::default();
        outlook.waits(&c);
        outlook.failed(&a, ConnectFailed, at(0), at(0));
        assert_eq!(outlook.failed(&b, ConnectFailed, at(1), at(1)), None);
        assert_eq!(outlook.forget(&c), Some(Turn::Local));
        assert_eq!(outlook.forget(&a), Some(Turn::Over(vec![b])));
    }
}
