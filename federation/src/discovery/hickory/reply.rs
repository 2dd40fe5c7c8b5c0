//! What hickory's answers mean.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::dnssec::Proof as HickoryProof;
use hickory_resolver::proto::op::{DnsResponse, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use crate::discovery::SrvRecord;
use crate::discovery::answer::{Proof, Tlsa};
use crate::discovery::upstream::{Data, Reply, Trouble};

/// The answer to the question for the records of this `kind` that `owner` has.
pub(super) fn reply(
    answer: Result<Lookup, NetError>,
    owner: &Name,
    kind: RecordType,
    is_checked: bool,
) -> Result<Reply, Trouble> {
    match answer {
        Ok(answer) => {
            let asked = names(owner, answer.answers());
            // With the aliases on the way: one of them that is not signed leads where anybody likes.
            let used = || {
                answer.answers().iter().filter(|record| {
                    let is_wanted = [kind, RecordType::CNAME].contains(&record.record_type());
                    is_wanted && asked.contains(&record.name.to_lowercase())
                })
            };
            // Signed as it may be, what somebody else has published is no answer.
            if is_checked && used().next().is_none() {
                return Err(Trouble::Bogus);
            }
            let ttl = used().map(|record| record.ttl).min().unwrap_or(0);
            let records = used().filter_map(|record| data(&record.data)).collect();
            let proof = if is_checked { proof(used())? } else { Proof::Unchecked };
            Ok(Reply { records, ttl: Duration::from_secs(ttl.into()), proof })
        }
        Err(NetError::Dns(DnsError::DnssecBogus)) => Err(Trouble::Bogus),
        // Signed with more effort than anybody should have to check: as good as not signed, if it is this zone that says so.
        Err(NetError::Dns(DnsError::Nsec { proof: HickoryProof::Insecure, response, .. })) => {
            unchecked_denial(&response, owner)
        }
        // "There is none" is an answer only from a server that knows: NXDOMAIN, or an empty answer with the zone's SOA.
        Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords {
            response_code,
            soa,
            negative_ttl,
            authorities,
            ..
        }))) if response_code == ResponseCode::NXDomain
            || (response_code == ResponseCode::NoError && soa.is_some()) =>
        {
            let proof = match authorities.as_deref().filter(|records| is_checked && !records.is_empty()) {
                // Nor is it that another zone has no such name.
                Some(records) if !is_word_of_zone(records, owner) => return Err(Trouble::Bogus),
                Some(records) => {
                    proof(records.iter().filter(|record| record.record_type() != RecordType::RRSIG))?
                }
                None if is_checked => return Err(Trouble::Failed("an answer without a zone".into())),
                None => Proof::Unchecked,
            };
            let ttl = negative_ttl.or_else(|| soa.map(|soa| soa.ttl.min(soa.data.minimum)));
            Ok(none(ttl, proof))
        }
        Err(error) => Err(Trouble::Failed(error.to_string())),
    }
}

/// A denial that nobody has checked to its end.
fn unchecked_denial(response: &DnsResponse, owner: &Name) -> Result<Reply, Trouble> {
    if is_word_of_zone(&response.authorities, owner) {
        Ok(none(response.negative_ttl(), Proof::Insecure))
    } else {
        Err(Trouble::Bogus)
    }
}

/// `owner`, and what the aliases in `records` lead to from there.
fn names(owner: &Name, records: &[Record]) -> Vec<Name> {
    let mut names = vec![owner.to_lowercase()];
    let mut next = 0;
    while let Some(name) = names.get(next).cloned() {
        for record in records.iter().filter(|record| record.name.to_lowercase() == name) {
            if let RData::CNAME(to) = &record.data
                && !names.contains(&to.0.to_lowercase())
            {
                names.push(to.0.to_lowercase());
            }
        }
        next += 1;
    }
    names
}

/// Whether what denies something about `owner` is all of one zone, and that is the zone of `owner`. A denial by another one
/// is as well signed, and no denial.
fn is_word_of_zone(authorities: &[Record], owner: &Name) -> bool {
    let mut zones = authorities.iter().filter(|record| record.record_type() == RecordType::SOA);
    let Some(zone) = zones.next().map(|record| record.name.to_lowercase()) else { return false };
    let belongs = |record: &Record| {
        let name = record.name.to_lowercase();
        match record.record_type() {
            RecordType::SOA => name == zone,
            RecordType::NSEC => zone.zone_of(&name),
            RecordType::NSEC3 => name.base_name() == zone,
            _ => true,
        }
    };
    zone.zone_of(&owner.to_lowercase()) && authorities.iter().all(belongs)
}

fn none(ttl: Option<u32>, proof: Proof) -> Reply {
    Reply { records: Vec::new(), ttl: Duration::from_secs(ttl.unwrap_or(0).into()), proof }
}

/// That of the weakest record.
pub(super) fn proof<'a>(records: impl Iterator<Item = &'a Record>) -> Result<Proof, Trouble> {
    let mut weakest = Proof::Secure;
    let mut any = false;
    for record in records {
        any = true;
        match record.proof {
            HickoryProof::Secure => {}
            HickoryProof::Insecure => weakest = Proof::Insecure,
            HickoryProof::Bogus | HickoryProof::Indeterminate => return Err(Trouble::Bogus),
        }
    }
    Ok(if any { weakest } else { Proof::Insecure })
}

fn data(data: &RData) -> Option<Data> {
    Some(match data {
        RData::SRV(srv) => Data::Srv(SrvRecord {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: host_name(&srv.target),
        }),
        RData::A(address) => Data::Address(IpAddr::V4(address.0)),
        RData::AAAA(address) => Data::Address(IpAddr::V6(address.0)),
        RData::TLSA(tlsa) => Data::Tlsa(Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        }),
        _ => return None,
    })
}

fn host_name(name: &Name) -> String {
    if name.is_root() {
        return ".".into();
    }
    name.to_ascii().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::dnssec::Nsec3HashAlgorithm;
    use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, NSEC, NSEC3};
    use hickory_resolver::proto::op::{Message, OpCode, Query};
    use hickory_resolver::proto::rr::rdata::{CNAME, SOA, SRV};

    use super::*;

    fn name(name: &str) -> Name {
        Name::from_ascii(name).unwrap()
    }

    fn secure(owner: &str, data: RData) -> Record {
        let mut record = Record::from_rdata(name(owner), 60, data);
        record.proof = HickoryProof::Secure;
        record
    }

    #[test]
    fn what_is_signed_for_another_name_is_no_answer() {
        let srv = |owner: &str| secure(owner, RData::SRV(SRV::new(0, 0, 443, name("relay.evil.example."))));
        let alias = |owner: &str, to: &str| secure(owner, RData::CNAME(CNAME(name(to))));
        let asked = name("_postrider._tcp.victim.example.");
        let answered = |records: Vec<Record>| {
            let query = Query::query(asked.clone(), RecordType::SRV);
            reply(Ok(Lookup::new_with_max_ttl(query, records)), &asked, RecordType::SRV, true)
        };
        let (own, other) = ("_Postrider._tcp.Victim.example.", "_postrider._tcp.evil.example.");
        assert!(matches!(answered(vec![srv(other)]), Err(Trouble::Bogus)));
        assert!(matches!(answered(vec![alias(other, own), srv(other)]), Err(Trouble::Bogus)));
        assert!(answered(vec![srv(own), srv(other)]).is_ok_and(|reply| reply.records.len() == 1));
        assert!(answered(vec![srv(other), alias(own, other)]).is_ok_and(|reply| reply.records.len() == 1));
    }

    fn soa(zone: &str) -> Record {
        let soa = SOA::new(name("ns.example."), name("admin.example."), 1, 2, 3, 4, 5);
        secure(zone, RData::SOA(soa))
    }

    fn nsec3(owner: &str, iterations: u16) -> Record {
        let kinds = [RecordType::SRV];
        let nsec3 = NSEC3::new(Nsec3HashAlgorithm::SHA1, false, iterations, vec![], vec![0; 20], kinds);
        secure(owner, RData::DNSSEC(DNSSECRData::NSEC3(nsec3)))
    }

    fn nsec(owner: &str) -> Record {
        let nsec = NSEC::new(name(owner), [RecordType::SRV]);
        secure(owner, RData::DNSSEC(DNSSECRData::NSEC(nsec)))
    }

    #[test]
    fn a_zone_speaks_for_what_is_in_it() {
        let denies = |records: &[Record], owner: &str| is_word_of_zone(records, &name(owner));
        let victim = [soa("Victim.example."), nsec3("abcd.victim.example.", 1)];
        assert!(denies(&victim, "_443._tcp.relay.victim.example."));
        assert!(denies(&victim, "victim.example."));
        assert!(denies(&[soa("victim.example."), nsec("relay.victim.example.")], "victim.example."));
        assert!(!denies(&victim, "example."));
        assert!(!denies(&victim, "other.example."));
        assert!(!denies(&victim[1..], "victim.example."), "nobody says whose word it is");
        for evil in [
            vec![soa("evil.example."), nsec3("abcd.evil.example.", 1)],
            vec![soa("victim.example."), nsec3("abcd.evil.example.", 1)],
            vec![soa("victim.example."), soa("evil.example."), nsec3("abcd.evil.example.", 1)],
            vec![soa("evil.example."), soa("victim.example."), nsec("evil.example.")],
            vec![soa("victim.example."), nsec("evil.example.")],
        ] {
            assert!(!denies(&evil, "_postrider._tcp.victim.example."), "{evil:?}");
        }
    }

    /// Whoever has a signed zone can sign denials that are too costly to check, and say them of anybody.
    #[test]
    fn a_denial_that_is_too_costly_counts_for_the_zone_that_signed_it() {
        let owner = name("_postrider._tcp.victim.example.");
        let denied = |zone: &str| {
            let mut response = Message::response(7, OpCode::Query);
            let costly = nsec3(&format!("abcd.{zone}"), 200);
            response.authorities = vec![soa(zone), costly];
            unchecked_denial(&DnsResponse::from_message(response).unwrap(), &owner)
        };
        assert_eq!(denied("victim.example.").unwrap().proof, Proof::Insecure);
        assert_eq!(denied("evil.example."), Err(Trouble::Bogus));
    }

    #[test]
    fn the_root_has_no_letters() {
        assert_eq!(host_name(&Name::root()), ".");
        assert_eq!(host_name(&Name::from_ascii("Relay.A.example.").unwrap()), "Relay.A.example");
    }
}
