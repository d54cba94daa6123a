//! DMARC policy records (RFC 9989 §4.7, §4.8).

use crate::outcome::DmarcPolicy;

/// A record that can be used: with a policy, or with an address for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `p=`: what is asked for. A record with `rua=` and no good `p=` asks for nothing (RFC 9989 §4.10.1).
    pub policy: DmarcPolicy,
    /// `sp=`: for domains below this one.
    pub subdomain_policy: Option<DmarcPolicy>,
    /// `np=`: for domains below this one that do not exist.
    pub nonexistent_policy: Option<DmarcPolicy>,
    /// `adkim=`
    pub adkim: Alignment,
    /// `aspf=`
    pub aspf: Alignment,
    /// `psd=`
    pub psd: Psd,
    /// `t=y`: the owner is testing, policies apply one step weaker (RFC 9989 §4.7).
    pub testing: bool,
    /// `rua=`: where aggregate reports go.
    pub aggregate_reports: Vec<ReportAddress>,
    /// `ruf=`: where failure reports go.
    pub failure_reports: Vec<ReportAddress>,
    /// `fo=` as written, "0" if it is not there.
    pub failure_options: String,
    /// The whole record as published.
    pub text: String,
}

/// How close a domain must be to that of the author (RFC 9989 §4.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Alignment {
    /// Of the same organization.
    #[default]
    Relaxed,
    /// The same.
    Strict,
}

/// What the record says about its domain's place (RFC 9989 §4.7 "psd").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Psd {
    /// It is a public suffix.
    Yes,
    /// It is the organization, and no public suffix.
    No,
    /// Find out.
    #[default]
    Unknown,
}

/// Where reports go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportAddress {
    /// The URI, as written.
    pub uri: String,
    /// Octets that a report may have; none if the owner does not say.
    ///
    /// Deviation from RFC 9989 §4.8, which ignores it: RFC 7489 §6.4 has it, records have it still, and whoever writes one
    /// means that his server takes no more.
    pub largest: Option<u64>,
}

impl Record {
    /// Whether a TXT record is one of DMARC: `v=DMARC1` first, in this case, and then a semicolon or the end.
    pub(crate) fn is_dmarc(text: &[u8]) -> bool {
        let first = text.split(|octet| *octet == b';').next().unwrap_or_default();
        let mut parts = first.splitn(2, |octet| *octet == b'=').map(<[u8]>::trim_ascii);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"v"))
            && parts.next() == Some(b"DMARC1")
    }

    /// Reads a record. RFC 9989 §4.7: what is unknown or wrong is ignored; a record with neither a policy nor an address
    /// for reports is none, and neither is one that says something twice.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok().filter(|text| Self::is_dmarc(text.as_bytes()))?;
        let mut tags: Vec<(String, &str)> = Vec::new();
        for spec in text.split(';').take(MOST_TAGS) {
            let Some((name, value)) = spec.split_once('=') else { continue };
            let name = name.trim().to_ascii_lowercase();
            if tags.iter().any(|(other, _)| *other == name) {
                return None;
            }
            tags.push((name, value.trim()));
        }
        let get =
            |name: &str| tags.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
        let aggregate_reports = addresses(get("rua").unwrap_or_default());
        let policies = [get("p"), get("sp"), get("np")];
        let [policy, subdomain_policy, nonexistent_policy] =
            policies.map(|value| value.and_then(DmarcPolicy::parse));
        let wrong = policy.is_none()
            || (get("sp").is_some() && subdomain_policy.is_none())
            || (get("np").is_some() && nonexistent_policy.is_none());
        // RFC 9989 §4.10.1: without good policies there is "p=none" for the sake of reports, or nothing.
        if wrong && aggregate_reports.is_empty() {
            return None;
        }
        let good = |policy: Option<DmarcPolicy>| policy.filter(|_| !wrong);
        Some(Self {
            policy: good(policy).unwrap_or(DmarcPolicy::None),
            subdomain_policy: good(subdomain_policy),
            nonexistent_policy: good(nonexistent_policy),
            adkim: Alignment::parse(get("adkim")),
            aspf: Alignment::parse(get("aspf")),
            psd: match get("psd") {
                Some("y" | "Y") => Psd::Yes,
                Some("n" | "N") => Psd::No,
                _ => Psd::Unknown,
            },
            testing: get("t").is_some_and(|value| value.eq_ignore_ascii_case("y")),
            aggregate_reports,
            failure_reports: addresses(get("ruf").unwrap_or_default()),
            failure_options: get("fo").unwrap_or("0").to_owned(),
            text: text.to_owned(),
        })
    }

    /// What applies to a domain below the one of the record.
    pub(crate) fn policy_below(&self, exists: bool) -> DmarcPolicy {
        let below = self.subdomain_policy.unwrap_or(self.policy);
        if exists { below } else { self.nonexistent_policy.unwrap_or(below) }
    }

    /// RFC 9989 §4.7 "t": while testing, policies apply one step weaker.
    pub(crate) fn tempered(&self, policy: DmarcPolicy) -> DmarcPolicy {
        match policy {
            _ if !self.testing => policy,
            DmarcPolicy::Reject => DmarcPolicy::Quarantine,
            DmarcPolicy::Quarantine | DmarcPolicy::None => DmarcPolicy::None,
        }
    }
}

impl Alignment {
    fn parse(value: Option<&str>) -> Self {
        match value {
            Some(value) if value.eq_ignore_ascii_case("s") => Self::Strict,
            _ => Self::Relaxed,
        }
    }

    /// Its word in a record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relaxed => "r",
            Self::Strict => "s",
        }
    }
}

/// `uri *("," uri)`, each perhaps with "!" and a size; only `mailto:` is defined (RFC 9989 §4.7).
fn addresses(list: &str) -> Vec<ReportAddress> {
    list.split(',').map(str::trim).filter_map(address).take(MOST_ADDRESSES).collect()
}

fn address(written: &str) -> Option<ReportAddress> {
    let (uri, largest) = match written.split_once('!') {
        Some((uri, size)) => (uri, Some(octets(size)?)),
        None => (written, None),
    };
    let (scheme, rest) = uri.split_once(':')?;
    let valid = scheme.eq_ignore_ascii_case("mailto")
        && rest
            .split_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        && uri.bytes().all(|octet| octet.is_ascii_graphic());
    valid.then(|| ReportAddress { uri: uri.to_owned(), largest })
}

/// `1*DIGIT [ "k" / "m" / "g" / "t" ]` (RFC 7489 §6.4)
fn octets(size: &str) -> Option<u64> {
    let digits = size.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = size.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// No record has half as many.
const MOST_TAGS: usize = 40;

/// RFC 9990 §3.5: to every address, up to our own limit on them; a list of hundreds would make us a cannon.
const MOST_ADDRESSES: usize = 8;
