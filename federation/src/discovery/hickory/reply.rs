//! What hickory's answers mean.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::dnssec::Proof as HickoryProof;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use crate::discovery::SrvRecord;
use crate::discovery::answer::{Proof, Tlsa};
use crate::discovery::upstream::{Data, Reply, Trouble};

pub(super) fn reply(
    answer: Result<Lookup, NetError>,
    kind: RecordType,
    is_checked: bool,
) -> Result<Reply, Trouble> {
    match answer {
        Ok(answer) => {
            // With the aliases on the way: one of them that is not signed leads where anybody likes.
            let used = || {
                answer.answers().iter().filter(|record| {
                    record.record_type() == kind || record.record_type() == RecordType::CNAME
                })
            };
            let ttl = used().map(|record| record.ttl).min().unwrap_or(0);
            let records = used().filter_map(|record| data(&record.data)).collect();
            let proof = if is_checked { proof(used())? } else { Proof::Unchecked };
            Ok(Reply { records, ttl: Duration::from_secs(ttl.into()), proof })
        }
        Err(NetError::Dns(DnsError::DnssecBogus)) => Err(Trouble::Bogus),
        // Signed with more effort than anybody should have to check: as good as not signed.
        Err(NetError::Dns(DnsError::Nsec { proof: HickoryProof::Insecure, response, .. })) => {
            Ok(none(response.negative_ttl(), Proof::Insecure))
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
                Some(records) => {
                    proof(records.iter().filter(|record| record.record_type() != RecordType::RRSIG))?
                }
                None if is_checked => Proof::Insecure,
                None => Proof::Unchecked,
            };
            let ttl = negative_ttl.or_else(|| soa.map(|soa| soa.ttl.min(soa.data.minimum)));
            Ok(none(ttl, proof))
        }
        Err(error) => Err(Trouble::Failed(error.to_string())),
    }
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
    use super::*;

    #[test]
    fn the_root_has_no_letters() {
        assert_eq!(host_name(&Name::root()), ".");
        assert_eq!(host_name(&Name::from_ascii("Relay.A.example.").unwrap()), "Relay.A.example");
    }
}
