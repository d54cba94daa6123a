//! `dns`: questions through the host's caching resolver, through the seam. Grant: dns, for all names or some domains.

use std::net::IpAddr;

use crate::bindings::HostError;
use crate::bindings::imports::dns::{Answer as Records, Host, Listing, Query};
use crate::config::DnsGrant;
use crate::guest::Guest;
use crate::seam::{Answer, Question, unfit};

type Reply<T> = wasmtime::Result<Result<T, HostError>>;

impl Host for Guest {
    async fn resolve(&mut self, query: Query) -> Reply<Records> {
        self.charge()?;
        let question = match question(&self.core.grants.dns, query.name, &query.kind) {
            Ok(question) => question,
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.ask_later(question).await?.and_then(records))
    }

    async fn resolve_many(
        &mut self,
        queries: Vec<Query>,
    ) -> wasmtime::Result<Vec<Result<Records, HostError>>> {
        self.charge()?;
        let queries = queries.into_iter().map(|query| (query.name, query.kind)).collect();
        self.ask_all(queries).await
    }

    async fn verified_names(&mut self, ip: String) -> Reply<Vec<String>> {
        self.charge()?;
        if self.core.grants.dns != DnsGrant::All {
            return Ok(Err(HostError::Denied("dns".into())));
        }
        let Ok(address) = ip.parse::<IpAddr>() else {
            return Ok(Err(HostError::Invalid(format!("{ip:?} is no IP address"))));
        };
        let question = Question::Names { address: address.to_canonical().to_string() };
        Ok(match self.ask_later(question).await? {
            Ok(Answer::Names(names)) => Ok(names),
            Ok(_) => Err(unfit()),
            Err(error) => Err(error),
        })
    }

    async fn listed(&mut self, subject: String, zones: Vec<String>) -> Reply<Vec<Listing>> {
        self.charge()?;
        let subject = reversed(&subject);
        let name = |zone: &String| format!("{subject}.{}", zone.trim_matches('.'));
        let queries = zones.iter().map(|zone| (name(zone), "A".to_owned())).collect();
        let answers = self.ask_all(queries).await?;
        // One list that is down is no reason to believe nothing of the others.
        if !zones.is_empty()
            && answers.iter().all(Result::is_err)
            && let Some(Err(error)) = answers.first()
        {
            return Ok(Err(error.clone()));
        }
        let has = |answer: &Result<Records, HostError>| {
            // RFC 5782 §2.1: a listing is an A record in 127.0.0.0/8; a domain that somebody else parks has others.
            let codes =
                answer.as_ref().ok()?.records.iter().filter(|code| code.starts_with("127."));
            Some(codes.cloned().collect::<Vec<_>>()).filter(|codes| !codes.is_empty())
        };
        let mut listings: Vec<Listing> = zones
            .iter()
            .zip(&answers)
            .filter_map(|(zone, answer)| {
                Some(Listing { zone: zone.clone(), codes: has(answer)?, text: None })
            })
            .collect();
        let texts = listings.iter().map(|listing| (name(&listing.zone), "TXT".to_owned()));
        let texts = self.ask_all(texts.collect()).await?;
        for (listing, text) in listings.iter_mut().zip(texts) {
            listing.text = text.ok().and_then(|text| text.records.into_iter().next());
        }
        Ok(Ok(listings))
    }
}

impl Guest {
    /// Asks all of them at once; answers in their order.
    async fn ask_all(
        &mut self,
        queries: Vec<(String, String)>,
    ) -> wasmtime::Result<Vec<Result<Records, HostError>>> {
        if queries.is_empty() {
            return Ok(Vec::new());
        }
        if queries.len() > MANY {
            let error = HostError::Quota(format!("at most {MANY} names are looked up in one call"));
            return Ok(vec![Err(error); queries.len()]);
        }
        let grant = &self.core.grants.dns;
        let questions = queries.into_iter().map(|(name, kind)| question(grant, name, &kind));
        let questions = questions.collect();
        let answers = self.ask_together(questions).await?;
        Ok(answers.into_iter().map(|answer| answer.and_then(records)).collect())
    }
}

fn question(grant: &DnsGrant, name: String, kind: &str) -> Result<Question, HostError> {
    if *grant == DnsGrant::None {
        return Err(HostError::Denied("dns".into()));
    }
    // RFC 1035 §2.3.4: 255 octets, and some more for a final dot and escapes.
    if name.is_empty() || name.len() > 260 {
        return Err(HostError::Invalid("a name has 1 to 255 octets".into()));
    }
    if !grant.admits(&name) {
        return Err(HostError::Denied(format!("dns {name:?}")));
    }
    Ok(Question::Dns { name, kind: kind.to_ascii_uppercase() })
}

fn records(answer: Answer) -> Result<Records, HostError> {
    match answer {
        Answer::Records { records, nxdomain, ttl } => Ok(Records { records, nxdomain, ttl }),
        _ => Err(unfit()),
    }
}

/// RFC 5782 §2.1, §2.4: an address is asked about backwards, by octets or nibbles; a domain as it is (§2.2).
fn reversed(subject: &str) -> String {
    match subject.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        Ok(IpAddr::V6(address)) => {
            let nibbles = address.octets().into_iter().rev();
            let nibbles = nibbles.map(|octet| format!("{:x}.{:x}", octet & 15, octet >> 4));
            nibbles.collect::<Vec<_>>().join(".")
        }
        Err(_) => subject.trim_matches('.').to_owned(),
    }
}

/// Names in one call: a long list of DNS blocklists for every Received field.
const MANY: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(subject: &str, expected: &str) {
        assert_eq!(reversed(subject), expected);
    }

    #[test]
    fn lists_are_asked_backwards_about_addresses() {
        check("192.0.2.99", "99.2.0.192");
        check("::ffff:192.0.2.99", "99.2.0.192");
        check(
            "2001:db8:1:2:3:4:567:89ab",
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2",
        );
        check("example.org.", "example.org");
    }

    #[test]
    fn a_grant_of_domains_admits_what_is_below_them() {
        let grant = DnsGrant::Below(vec!["list.example".into()]);
        for (name, admitted) in [
            ("list.example", true),
            ("2.0.0.127.LIST.example.", true),
            ("blacklist.example", false),
            ("example", false),
            ("list.example.net", false),
        ] {
            assert_eq!(question(&grant, name.into(), "a").is_ok(), admitted, "{name}");
        }
    }
}
