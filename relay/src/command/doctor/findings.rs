//! What was found on the way to a peer, as one list for people and programs.

use std::time::Duration;

use postrider_common::{Domain, Failure, FailureClass, Timestamp};
use postrider_federation::{
    Evidence, Examination, ExaminedHost, Hello, PROTOCOL_VERSION, Pin, Presented, Reached, Tried, progress,
};

/// A certificate that is over so soon is told.
const SOON: Duration = Duration::from_secs(30 * 86_400);
/// Clocks that differ by more are told.
const CLOCKS: Duration = Duration::from_secs(60);

/// How a step came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should.
    Good,
    /// It does no harm yet.
    Odd,
    /// It is in the way.
    Bad,
}

impl Verdict {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Odd => "note",
            Self::Bad => "fail",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) step: &'static str,
    pub(super) verdict: Verdict,
    pub(super) text: String,
    /// What an envelope would have met there.
    pub(super) failure: Option<Failure>,
}

/// All of it, in the order of the way.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) list: Vec<Finding>,
    /// Whether it is this relay's own domain.
    pub(super) is_own: bool,
    /// Whether somebody proved to be the peer.
    pub(super) is_proven: bool,
    /// What an envelope would meet. Nothing, if it would go through.
    pub(super) obstacle: Option<Failure>,
}

impl Findings {
    /// Of an examination that was made at `now`.
    pub(super) fn of(examination: &Examination, now: Timestamp) -> Self {
        let mut found = Self::default();
        let domain = &examination.domain;
        match &examination.policy {
            Ok(()) => found.good("policy", format!("envelopes may go to {domain}")),
            Err(failure) => found.bad("policy", failure.clone()),
        }
        match &examination.srv {
            None | Some(Err(_)) => {}
            Some(Ok(srv)) => {
                let mut records = srv.records.clone();
                records.sort_by_key(|record| (record.priority, record.weight, record.target.clone()));
                let stale = if srv.is_stale { ", out of date" } else { "" };
                // A target `.` says that there is none, which is told below.
                for record in records.into_iter().filter(|record| record.target != ".") {
                    let (priority, weight) = (record.priority, record.weight);
                    let text = format!(
                        "{}:{}, priority {priority}, weight {weight} (DNSSEC: {}{stale})",
                        record.target, record.port, srv.proof
                    );
                    let verdict = if examination.hosts.is_ok() { Verdict::Good } else { Verdict::Odd };
                    found.list.push(Finding { step: "srv", verdict, text, failure: None });
                }
            }
        }
        match &examination.hosts {
            Ok(hosts) => hosts.iter().for_each(|host| found.add_host(host, domain, now)),
            Err(failure) => found.bad("srv", failure.clone()),
        }
        if !found.is_proven {
            // What an attempt would tell: of several addresses the one that came farthest.
            let failures = found.list.iter().filter_map(|finding| finding.failure.clone());
            let unexplained = || Failure::new(FailureClass::ConnectFailed, "there is nobody to try");
            let farthest = failures.max_by_key(|failure| progress(failure.class));
            found.obstacle = Some(farthest.unwrap_or_else(unexplained));
        }
        found
    }

    /// Of an examination of the own domain of the relay with the key `own`. What others would meet is told, and is in
    /// nobody's way here.
    pub(super) fn of_own(examination: &Examination, own: Pin, now: Timestamp) -> Self {
        let mut found = Self { is_own: true, ..Self::default() };
        let domain = &examination.domain;
        let text = format!("{domain} is this relay's own domain: its envelopes are delivered here");
        found.good("delivery", text);
        // Whether this relay trusts itself says nothing about others.
        let others = Self::of(examination, now).list.into_iter();
        found.list.extend(others.filter(|found| !matches!(found.step, "policy" | "trust")));
        found.soften(0);
        let publish = "`postrider dns` prints the records to publish";
        let odd = match (&examination.srv, &examination.hosts, keys_of(examination).as_slice()) {
            (Some(Err(failure)), ..) if failure.class != FailureClass::DiscoveryAbsent => {
                "from here it cannot be looked up whether other relays find it".into()
            }
            (_, Err(_), _) => format!("other relays do not find it: {publish}"),
            (_, Ok(_), []) => {
                "it was not reached from here where other relays are led to. Is it running, and are those \
                               addresses meant for outside only?"
                    .into()
            }
            (_, Ok(_), keys) if keys.iter().all(|key| *key == Some(own)) => {
                found.good("others", "other relays that ask as this one does find it".into());
                return found;
            }
            _ => format!("another key than this relay's is where other relays are led to: {publish}"),
        };
        found.odd("others", odd);
        found
    }

    fn add_host(&mut self, host: &ExaminedHost, domain: &Domain, now: Timestamp) {
        let name = host.target.as_ref().map_or("the configured addresses", |target| &target.host);
        match &host.testimony {
            Ok(known) => {
                if let Evidence::Keys { pins, .. } = &known.evidence {
                    let keys: Vec<_> = pins.iter().map(ToString::to_string).collect();
                    self.good("tlsa", format!("{name}: {} (DNSSEC: secure)", keys.join(", ")));
                }
            }
            Err(failure) => self.bad("tlsa", failure.clone()),
        }
        let of_way = self.list.len();
        match &host.tried {
            Ok(tried) => {
                let addresses: Vec<_> = tried.iter().map(|tried| tried.address.ip().to_string()).collect();
                self.good("addresses", format!("{name}: {}", addresses.join(", ")));
                tried.iter().for_each(|tried| self.add_address(tried, domain, now));
            }
            Err(failure) => self.bad("addresses", failure.clone()),
        }
        // An attempt does not come so far where nothing could prove the key.
        if host.testimony.is_err() {
            self.soften(of_way);
        }
    }

    /// What was found from there on is in nobody's way.
    fn soften(&mut self, from: usize) {
        for finding in &mut self.list[from..] {
            if let Some(failure) = finding.failure.take() {
                finding.verdict = Verdict::Odd;
                finding.text = format!("{}: {}", failure.class, failure.detail);
            }
        }
    }

    fn add_address(&mut self, tried: &Tried, domain: &Domain, now: Timestamp) {
        let address = tried.address;
        match &tried.connected {
            Ok(_) => self.good("tcp", format!("{address} accepts connections")),
            Err(reason) => {
                self.bad("tcp", Failure::new(FailureClass::ConnectFailed, format!("{address}: {reason}")));
            }
        }
        match &tried.reached {
            Some(Ok(reached)) => self.add_reached(reached, domain, now),
            Some(Err(failure)) => self.bad("tls", failure.clone()),
            None => {}
        }
    }

    fn add_reached(&mut self, reached: &Reached, domain: &Domain, now: Timestamp) {
        self.good("tls", format!("TLS 1.3, ALPN postrider/1, {}", reached.key_exchange));
        if let Some(presented) = &reached.presented {
            self.list.push(certificate(presented, domain, now));
        }
        match &reached.verdict {
            Some(Ok(peer)) => {
                self.is_proven = true;
                self.good("trust", format!("it is {}, proven by {}", peer.domain(), peer.mode()));
            }
            Some(Err(distrust)) => self.bad("trust", distrust.clone().into()),
            // Why not was told with the records.
            None => {}
        }
    }

    /// What the peer answered to a greeting at `now`.
    pub(super) fn add_hello(&mut self, answered: Result<Hello, Failure>, now: Timestamp) {
        let hello = match answered {
            Ok(hello) => hello,
            Err(failure) => {
                self.obstacle = Some(failure.clone());
                return self.bad("hello", failure);
            }
        };
        let you = &hello.you;
        let text = format!(
            "it sees {}, proven by {}, key {}: {}",
            you.domain, you.trust, you.fingerprint, you.verdict
        );
        self.good("hello", text);
        let there = Timestamp::from_secs(hello.time);
        let (ahead, behind) = (there.since(now), now.since(there));
        match (ahead.max(behind), ahead > behind) {
            (off, _) if off < CLOCKS => self.good("clock", "its clock agrees with this one".into()),
            (off, true) => self.odd("clock", format!("its clock is {} s ahead", off.as_secs())),
            (off, false) => self.odd("clock", format!("its clock is {} s behind", off.as_secs())),
        }
        let versions: Vec<_> = hello.versions.iter().take(16).map(u32::to_string).collect();
        let text = format!("{}, federation protocol {}", hello.software, versions.join(", "));
        if hello.versions.contains(&PROTOCOL_VERSION) {
            return self.good("versions", text);
        }
        let detail = format!("{text}, and this relay speaks {PROTOCOL_VERSION}");
        let failure = Failure::new(FailureClass::VersionUnsupported, detail);
        self.obstacle = Some(failure.clone());
        self.bad("versions", failure);
    }

    fn good(&mut self, step: &'static str, text: String) {
        self.list.push(Finding { step, verdict: Verdict::Good, text, failure: None });
    }

    fn odd(&mut self, step: &'static str, text: String) {
        self.list.push(Finding { step, verdict: Verdict::Odd, text, failure: None });
    }

    fn bad(&mut self, step: &'static str, failure: Failure) {
        let text = failure.detail.clone();
        self.list.push(Finding { step, verdict: Verdict::Bad, text, failure: Some(failure) });
    }
}

/// The keys of all that have presented a certificate.
fn keys_of(examination: &Examination) -> Vec<Option<Pin>> {
    let hosts = examination.hosts.iter().flatten();
    let tried = hosts.filter_map(|host| host.tried.as_ref().ok()).flatten();
    let reached = tried.filter_map(|tried| tried.reached.as_ref()?.as_ref().ok());
    reached.filter_map(|reached| Some(reached.presented.as_ref()?.key)).collect()
}

/// What was presented, next to what is expected. Whether that proves anything is another finding.
fn certificate(presented: &Presented, expected: &Domain, now: Timestamp) -> Finding {
    let joined = |list: &[String], none: &str| if list.is_empty() { none.into() } else { list.join(", ") };
    let issuer = if presented.is_self_issued {
        "itself".into()
    } else {
        format!("{} ({} more in the chain)", presented.issuer, presented.accompanied_by.len())
    };
    let left = presented.not_after.since(now);
    let validity = match (left.is_zero(), presented.not_before > now) {
        (true, _) => format!("over since {}", presented.not_after),
        (_, true) => format!("not valid before {}", presented.not_before),
        _ => format!("{} days left", left.as_secs() / 86_400),
    };
    let key = presented.key.map_or_else(|| "unreadable".into(), |key| key.to_string());
    let text = format!(
        "names {} (expected: {expected}); issued by {issuer}; for {}; {validity}; key {key}",
        joined(&presented.names, "nothing"),
        joined(&presented.usages, "any use"),
    );
    let verdict = if left < SOON { Verdict::Odd } else { Verdict::Good };
    Finding { step: "certificate", verdict, text, failure: None }
}

#[cfg(test)]
mod tests {
    use postrider_federation::Identity;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn hello(time: Timestamp, versions: &[u32]) -> Hello {
        let document = serde_json::json!({
            "domain": "b.example", "versions": versions, "software": "x/1", "time": time.as_secs(),
            "limits": { "body_bytes": 1, "header_bytes": 1, "lifetime_seconds": 1, "batch_envelopes": 1, "batch_bytes": 1 },
            "you": { "domain": "a.example", "trust": "pinned", "fingerprint": "00", "verdict": "accepted" },
        });
        serde_json::from_value(document).unwrap()
    }

    fn told(hello: Hello) -> (Option<FailureClass>, Vec<(&'static str, Verdict)>) {
        let mut found = Findings { is_proven: true, ..Findings::default() };
        found.add_hello(Ok(hello), NOW);
        let steps = found.list.iter().map(|finding| (finding.step, finding.verdict)).collect();
        (found.obstacle.map(|failure| failure.class), steps)
    }

    #[test]
    fn clocks_that_differ_are_odd_and_another_version_is_an_obstacle() {
        let (good, odd, bad) = (Verdict::Good, Verdict::Odd, Verdict::Bad);
        let expected = |clock, versions| vec![("hello", good), ("clock", clock), ("versions", versions)];
        assert_eq!(told(hello(NOW, &[1])), (None, expected(good, good)));
        for other in [NOW + CLOCKS, NOW - CLOCKS * 2] {
            assert_eq!(told(hello(other, &[1, 2])), (None, expected(odd, good)));
        }
        let unsupported = Some(FailureClass::VersionUnsupported);
        assert_eq!(told(hello(NOW, &[7])), (unsupported, expected(good, bad)));
    }

    #[test]
    fn a_certificate_is_told_thirty_days_before_its_end() {
        let domain: Domain = "b.example".parse().unwrap();
        let pems = Identity::generate(&domain, NOW).unwrap();
        let identity = Identity::from_pem(&domain, pems.certificate_pem.as_bytes(), pems.key_pem.as_bytes());
        let presented = Presented::of(identity.unwrap().certificates()).unwrap();
        let end = presented.not_after;
        for (now, verdict, text) in [
            (end - DAY * 31, Verdict::Good, "31 days left"),
            (end - DAY * 29, Verdict::Odd, "29 days left"),
            (end + DAY, Verdict::Odd, "over since"),
            (NOW - DAY * 9, Verdict::Good, "not valid before"),
        ] {
            let finding = certificate(&presented, &domain, now);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.text.contains(text), "{finding:?}");
        }
    }
}
