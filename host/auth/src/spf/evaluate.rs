//! `check_host()`: the record, term by term, with its lookups counted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::UNIX_EPOCH;

use futures_util::future::{BoxFuture, FutureExt};
use net::{Answer as DnsAnswer, Kind, Record as DnsRecord, Resolver};

use super::macros::{MacroString, Values};
use super::record::{Cidr, Mechanism, Record, is_spf};
use super::{Answer, Question};
use crate::limits::Limits;
use crate::name;
use crate::outcome::SpfResult;

/// One evaluation with all that it includes.
pub(super) struct Evaluation<'a> {
    resolver: &'a Resolver,
    limits: &'a Limits,
    question: &'a Question<'a>,
    local_part: &'a str,
    lookups: usize,
    void_lookups: usize,
    /// The validated name of the client, once it was asked for.
    validated: Option<String>,
}

/// Why an evaluation ends without a match.
enum Stop {
    Temporary(String),
    Permanent(String),
}

/// The result of one domain's record, and where its explanation is.
struct Ruling {
    result: SpfResult,
    explanation: Option<(MacroString, String)>,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(
        resolver: &'a Resolver,
        limits: &'a Limits,
        question: &'a Question<'a>,
    ) -> Self {
        // RFC 7208 §4.3: without a local part it is "postmaster".
        let local_part =
            if question.local_part.is_empty() { "postmaster" } else { question.local_part };
        Self {
            resolver,
            limits,
            question,
            local_part,
            lookups: 0,
            void_lookups: 0,
            validated: None,
        }
    }

    pub(super) async fn run(mut self) -> Answer {
        match self.check_host(self.question.domain.to_owned()).await {
            Ok(Ruling { result: SpfResult::Fail, explanation: Some((text, domain)) }) => {
                let explanation = self.explain(&text, &domain).await;
                Answer { result: SpfResult::Fail, explanation, problem: None }
            }
            Ok(ruling) => Answer { result: ruling.result, explanation: None, problem: None },
            Err(Stop::Temporary(problem)) => error(SpfResult::TempError, problem),
            Err(Stop::Permanent(problem)) => error(SpfResult::PermError, problem),
        }
    }

    /// RFC 7208 §4.6: terms from left to right, then the redirect. Boxed, for records include records.
    fn check_host(&mut self, domain: String) -> BoxFuture<'_, Result<Ruling, Stop>> {
        async move {
            let Some(record) = self.record(&domain).await? else {
                return Ok(Ruling { result: SpfResult::None, explanation: None });
            };
            for directive in &record.directives {
                if self.matches(&directive.mechanism, &domain).await? {
                    let explanation = record.exp.map(|exp| (exp, domain));
                    return Ok(Ruling { result: directive.qualifier, explanation });
                }
            }
            let Some(redirect) = record.redirect else {
                return Ok(Ruling { result: SpfResult::Neutral, explanation: None });
            };
            self.count_lookup()?;
            let target = self.expand(&redirect, &domain).await;
            let ruling = self.check_host(target).await?;
            // RFC 7208 §6.1: a redirect to a domain without a record is an error.
            if ruling.result == SpfResult::None {
                return Err(Stop::Permanent("the redirect leads to no record".to_owned()));
            }
            Ok(ruling)
        }
        .boxed()
    }

    /// RFC 7208 §4.4, §4.5: the one record of the domain.
    async fn record(&mut self, domain: &str) -> Result<Option<Record>, Stop> {
        if !is_multi_label(domain) {
            return Ok(None);
        }
        let answer = self.resolver.lookup(domain, Kind::Txt).await.map_err(temporary)?;
        let mut texts = answer.records.iter().filter_map(|record| match record {
            DnsRecord::Txt(text) if is_spf(text) => Some(text),
            _ => None,
        });
        let Some(text) = texts.next() else { return Ok(None) };
        if texts.next().is_some() {
            return Err(Stop::Permanent(format!("{domain} has more than one record")));
        }
        Record::parse(text).map(Some).map_err(Stop::Permanent)
    }

    /// RFC 7208 §5.
    async fn matches(&mut self, mechanism: &Mechanism, domain: &str) -> Result<bool, Stop> {
        match mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip4(network, bits) => Ok(match self.question.client {
                IpAddr::V4(client) => in_v4(client, *network, *bits),
                IpAddr::V6(_) => false,
            }),
            Mechanism::Ip6(network, bits) => Ok(match self.question.client {
                IpAddr::V6(client) => in_v6(client, *network, *bits),
                IpAddr::V4(_) => false,
            }),
            Mechanism::Include(target) => self.includes(target, domain).await,
            Mechanism::A(target, cidr) => {
                let target = self.target(target.as_ref(), domain).await?;
                self.has_address(&target, *cidr).await
            }
            Mechanism::Mx(target, cidr) => {
                let target = self.target(target.as_ref(), domain).await?;
                self.has_exchanger(&target, *cidr).await
            }
            Mechanism::Exists(target) => {
                let target = self.target(Some(target), domain).await?;
                // RFC 7208 §5.7: the lookup is for A, whatever the client's address is.
                Ok(!self.ask(&target, Kind::A).await?.records.is_empty())
            }
            Mechanism::Ptr(target) => {
                let target = self.target(target.as_ref(), domain).await?;
                Ok(self.has_name_within(&target).await)
            }
        }
    }

    /// RFC 7208 §5.2: a record that is included matches or does not; its own fail is no fail here.
    async fn includes(&mut self, target: &MacroString, domain: &str) -> Result<bool, Stop> {
        let target = self.target(Some(target), domain).await?;
        match self.check_host(target.clone()).await?.result {
            SpfResult::Pass => Ok(true),
            SpfResult::Fail | SpfResult::SoftFail | SpfResult::Neutral => Ok(false),
            SpfResult::TempError => Err(Stop::Temporary(format!("{target} is included"))),
            SpfResult::None | SpfResult::PermError => {
                Err(Stop::Permanent(format!("{target} is included and has no record")))
            }
        }
    }

    /// RFC 7208 §5.3.
    async fn has_address(&mut self, host: &str, cidr: Cidr) -> Result<bool, Stop> {
        let client = self.question.client;
        let answer = self.ask(host, Kind::of(client)).await?;
        Ok(answer
            .records
            .iter()
            .filter_map(DnsRecord::address)
            .any(|address| cidr.agree(client, address)))
    }

    /// RFC 7208 §5.4.
    async fn has_exchanger(&mut self, domain: &str, cidr: Cidr) -> Result<bool, Stop> {
        let answer = self.ask(domain, Kind::Mx).await?;
        let mut hosts: Vec<(u16, &str)> = answer
            .records
            .iter()
            .filter_map(|record| match record {
                DnsRecord::Mx { preference, exchange } => Some((*preference, exchange.as_str())),
                _ => None,
            })
            .collect();
        // RFC 7208 §4.6.4: more than ten names are an error; so no order among them matters.
        if hosts.len() > self.limits.spf_names {
            return Err(Stop::Permanent(format!("{domain} has too many mail exchangers")));
        }
        hosts.sort_unstable();
        for (_, host) in hosts {
            if self.has_address(host, cidr).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// RFC 7208 §5.5: errors and names beyond the tenth are passed over.
    async fn has_name_within(&mut self, target: &str) -> bool {
        let target = target.to_ascii_lowercase();
        self.validated_names().await.iter().any(|found| name::is_within(found, &target))
    }

    async fn validated_names(&mut self) -> Vec<String> {
        let client = self.question.client;
        let Ok(answer) = self.resolver.lookup(&name::reverse(client), Kind::Ptr).await else {
            return Vec::new();
        };
        let mut validated = Vec::new();
        for found in answer.records.iter().filter_map(DnsRecord::name).take(self.limits.spf_names) {
            let Ok(addresses) = self.resolver.lookup(found, Kind::of(client)).await else {
                continue;
            };
            if addresses.records.iter().any(|record| record.address() == Some(client)) {
                validated.push(found.trim_end_matches('.').to_ascii_lowercase());
            }
        }
        validated
    }

    /// The domain that a term of the ten is about.
    async fn target(&mut self, target: Option<&MacroString>, domain: &str) -> Result<String, Stop> {
        self.count_lookup()?;
        match target {
            Some(target) => Ok(self.expand(target, domain).await),
            None => Ok(domain.to_owned()),
        }
    }

    /// RFC 7208 §4.6.4: ten terms that look something up, whoever includes whom.
    fn count_lookup(&mut self) -> Result<(), Stop> {
        self.lookups += 1;
        if self.lookups > self.limits.spf_lookups {
            return Err(Stop::Permanent("too many lookups".to_owned()));
        }
        Ok(())
    }

    /// A lookup of a mechanism. RFC 7208 §4.6.4: of those that find nothing there are to be two at most.
    async fn ask(&mut self, host: &str, kind: Kind) -> Result<DnsAnswer, Stop> {
        // RFC 7208 §4.8: what is no domain name finds nothing, without a lookup.
        if !is_multi_label(host) {
            return Ok(DnsAnswer::default());
        }
        let answer = self.resolver.lookup(host, kind).await.map_err(temporary)?;
        if answer.records.is_empty() {
            self.void_lookups += 1;
            if self.void_lookups > self.limits.spf_void_lookups {
                return Err(Stop::Permanent("too many lookups that find nothing".to_owned()));
            }
        }
        Ok(answer)
    }

    async fn expand(&mut self, text: &MacroString, domain: &str) -> String {
        self.prepare(text, domain).await;
        text.expand_domain(&self.values(domain))
    }

    /// Looks the client's name up if the text asks for it (RFC 7208 §7.3 "p"): the domain itself, a name below it, any.
    async fn prepare(&mut self, text: &MacroString, domain: &str) {
        if self.validated.is_some() || !text.wants_validated() {
            return;
        }
        let names = self.validated_names().await;
        let domain = domain.to_ascii_lowercase();
        let found = (names.iter().find(|found| **found == domain))
            .or_else(|| names.iter().find(|found| name::is_within(found, &domain)))
            .or_else(|| names.first());
        self.validated = Some(found.map_or_else(|| "unknown".to_owned(), String::clone));
    }

    fn values<'b>(&'b self, domain: &'b str) -> Values<'b> {
        let question = self.question;
        let since = question.now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Values {
            client: question.client,
            local_part: self.local_part,
            sender_domain: question.domain,
            domain,
            helo: question.helo,
            receiver: question.receiver,
            timestamp: since.as_secs(),
            validated: self.validated.as_deref().unwrap_or("unknown"),
        }
    }

    /// RFC 7208 §6.2: any fault in it, and there is no explanation.
    async fn explain(&mut self, exp: &MacroString, domain: &str) -> Option<String> {
        let host = self.expand(exp, domain).await;
        if !is_multi_label(&host) {
            return None;
        }
        let answer = self.resolver.lookup(&host, Kind::Txt).await.ok()?;
        let [DnsRecord::Txt(text)] = answer.records.as_slice() else { return None };
        let text = std::str::from_utf8(text).ok().filter(|text| !text.is_empty())?;
        let text = MacroString::parse_explanation(text)?;
        self.prepare(&text, domain).await;
        let explanation = text.expand(&self.values(domain));
        let is_printable = explanation.bytes().all(|octet| matches!(octet, 0x20..=0x7e));
        is_printable.then_some(explanation)
    }
}

impl Cidr {
    fn agree(self, client: IpAddr, address: IpAddr) -> bool {
        match (client, address) {
            (IpAddr::V4(client), IpAddr::V4(network)) => in_v4(client, network, self.four),
            (IpAddr::V6(client), IpAddr::V6(network)) => in_v6(client, network, self.six),
            _ => false,
        }
    }
}

fn in_v4(client: Ipv4Addr, network: Ipv4Addr, bits: u8) -> bool {
    let differ = client.to_bits() ^ network.to_bits();
    differ.checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
}

fn in_v6(client: Ipv6Addr, network: Ipv6Addr, bits: u8) -> bool {
    let differ = client.to_bits() ^ network.to_bits();
    differ.checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
}

/// RFC 7208 §4.3: labels of 1 to 63 octets, two of them at least. What octets they have is the owner's affair (§7.3).
fn is_multi_label(domain: &str) -> bool {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    domain.len() <= 253
        && domain.contains('.')
        && domain.split('.').all(|label| (1..=63).contains(&label.len()))
}

fn temporary(error: net::DnsError) -> Stop {
    Stop::Temporary(error.to_string())
}

fn error(result: SpfResult, problem: String) -> Answer {
    Answer { result, explanation: None, problem: Some(problem) }
}
