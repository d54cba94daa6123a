//! Aggregate reports of DMARC (RFC 9990): what we saw of a domain's mail, told to its owner, and what others tell us.
//!
//! An [`Observation`] is what one message adds. A [`Collector`] makes them into one [`Report`] for each policy domain;
//! [`Report::mail`] is the message that carries it, and [`destinations`] are those who want it. [`unpack`] takes out of
//! mail, ZIP and gzip what others send. Nothing here keeps anything: that is for those who know folders and clocks.

mod collect;
mod destination;
mod mail;
mod read;
mod unpack;
mod write;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use collect::{Collector, Gathered};
pub use destination::destinations;
pub use mail::Carrier;
pub use read::ReadError;
pub use unpack::{Limits, unpack};

use crate::decision::{Decision, Exception};
use crate::name;
use crate::outcome::{Authentication, Dkim, DkimResult, Dmarc, DmarcPolicy, DmarcResult};
use crate::verify::Discovery;

/// A report of one reporter about one domain and one span of time (RFC 9990 §3.1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Who reports: the name of an organization.
    pub reporter: String,
    /// The address of a person there.
    pub email: String,
    /// Unique among the reports to one domain.
    pub id: String,
    /// The first second, since 1970.
    pub begin: u64,
    /// The last second, since 1970.
    pub end: u64,
    /// What was wrong with the policy record, or with the report.
    pub errors: Vec<String>,
    /// The policy that was seen.
    pub published: Published,
    /// What was seen, and how often.
    pub rows: Vec<(Row, u64)>,
}

/// A policy as it was seen (RFC 9990 §3.1.1.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Published {
    /// The domain where the record is.
    pub domain: String,
    /// The domain that the policy is for, in words of the record: `none`, `quarantine`, `reject`. Empty if it is not said.
    pub policy: String,
    /// For domains below.
    pub subdomain_policy: Option<String>,
    /// For domains below that do not exist.
    pub nonexistent_policy: Option<String>,
    /// `r` or `s`.
    pub adkim: Option<String>,
    /// `r` or `s`.
    pub aspf: Option<String>,
    /// `fo=`
    pub failure_options: Option<String>,
    /// `t=y`
    pub testing: Option<bool>,
    /// `treewalk` or `psl`.
    pub discovery: Option<String>,
}

/// Messages of which all of this is the same (RFC 9990 §3.1.1.7).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Row {
    /// Who sent them.
    pub source: IpAddr,
    /// What was done with them.
    pub disposition: Disposition,
    /// DKIM speaks for the author.
    pub dkim_aligned: bool,
    /// SPF speaks for the author.
    pub spf_aligned: bool,
    /// Why something else was done than the policy says.
    pub reasons: Vec<Reason>,
    /// The domain of the From field.
    pub header_from: String,
    /// The domain of the reverse-path; empty for a null one.
    pub envelope_from: Option<String>,
    /// The domain of the recipients, where a reporter tells it.
    pub envelope_to: Option<String>,
    /// The signatures.
    pub dkim: Vec<Signature>,
    /// SPF of the reverse-path: its domain and the result.
    pub spf: Option<(String, String)>,
}

/// A signature that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Signature {
    /// Who signed.
    pub domain: String,
    /// With which key.
    pub selector: String,
    /// The result in the words of RFC 8601 §2.7.1.
    pub result: String,
}

/// Why a policy was not obeyed (RFC 9990 §3.1.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reason {
    /// `local_policy`, `mailing_list`, `trusted_forwarder`, `policy_test_mode` or `other`.
    pub kind: String,
    /// In words.
    pub comment: String,
}

/// What was done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// It passed.
    Pass,
    /// It did not pass, and nothing was done.
    None,
    /// It was set apart.
    Quarantine,
    /// It was refused.
    Reject,
}

impl Disposition {
    /// Its word in a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }
}

/// What one message adds to a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The policy of its author.
    pub published: Published,
    /// The organization of the policy's domain: reports within it need nobody's leave (RFC 9990 §4).
    pub organization: String,
    /// Where reports go, and how many octets they may have there.
    pub to: Vec<(String, Option<u64>)>,
    /// The message.
    pub row: Row,
}

impl Observation {
    /// What is to be told about a message; nothing where nobody asks for reports. `overruled` names the plugin that
    /// decided in the place of the author's policy, and what it had done with the message.
    pub fn new(
        found: &Authentication,
        decision: &Decision,
        overruled: Option<(&str, Disposition)>,
        discovery: Discovery,
    ) -> Option<Self> {
        let dmarc = &found.dmarc;
        let record = dmarc.record.as_ref()?;
        let to: Vec<_> =
            record.aggregate_reports.iter().map(|to| (to.uri.clone(), to.largest)).collect();
        // RFC 9989 §5.3.6: where the DNS was silent there is no result to report.
        if to.is_empty() || dmarc.result == DmarcResult::TempError {
            return None;
        }
        let word = |policy: DmarcPolicy| policy.as_str().to_owned();
        let published = Published {
            domain: dmarc.policy_domain.clone()?,
            policy: word(record.policy),
            subdomain_policy: record.subdomain_policy.map(word),
            nonexistent_policy: record.nonexistent_policy.map(word),
            adkim: Some(record.adkim.as_str().to_owned()),
            aspf: Some(record.aspf.as_str().to_owned()),
            failure_options: Some(record.failure_options.clone()),
            testing: Some(record.testing),
            discovery: Some(discovery.report_word().to_owned()),
        };
        let organization = dmarc.organizational_domain.clone();
        Some(Self { published, organization, to, row: row(found, decision, overruled) })
    }
}

impl Discovery {
    /// Its word in a report (RFC 9990 §3.1.1.5).
    fn report_word(self) -> &'static str {
        match self {
            Self::TreeWalk => "treewalk",
            Self::PublicSuffixList => "psl",
        }
    }
}

fn row(found: &Authentication, decision: &Decision, overruled: Option<(&str, Disposition)>) -> Row {
    let dmarc = &found.dmarc;
    let passed = dmarc.result == DmarcResult::Pass;
    let disposition = match wanted(decision) {
        // What a plugin does with mail of which the policy wants nothing has nothing to do with DMARC.
        None if passed => Disposition::Pass,
        None => Disposition::None,
        Some(wanted) => overruled.map_or(wanted, |(_, done)| done),
    };
    let sender = &found.mail_from;
    Row {
        source: found.iprev.address,
        disposition,
        dkim_aligned: dmarc.dkim_aligned.is_some(),
        spf_aligned: dmarc.spf_aligned.is_some(),
        reasons: reasons(found, decision, overruled),
        header_from: dmarc.author_domain.clone(),
        envelope_from: Some(sender.domain.clone()),
        envelope_to: None,
        dkim: signatures(found),
        spf: (!sender.domain.is_empty())
            .then(|| (sender.domain.clone(), sender.result.as_str().to_owned())),
    }
}

/// What the policy asks for, if it asks for something.
fn wanted(decision: &Decision) -> Option<Disposition> {
    match decision {
        Decision::Deliver(_) => None,
        Decision::Quarantine => Some(Disposition::Quarantine),
        Decision::Reject => Some(Disposition::Reject),
    }
}

/// RFC 9990 §3.1.1.9: where the policy was not obeyed, the reason must be there.
fn reasons(
    found: &Authentication,
    decision: &Decision,
    overruled: Option<(&str, Disposition)>,
) -> Vec<Reason> {
    let reason = |kind: &str, comment: String| Reason { kind: kind.to_owned(), comment };
    let mut reasons = Vec::new();
    match decision {
        Decision::Deliver(Some(exception)) => {
            let comment = match exception {
                Exception::MailingList(domain) | Exception::TrustedSealer(domain) => domain.clone(),
                Exception::NotEnforced => "policies are not enforced here".to_owned(),
            };
            reasons.push(reason(exception.report_type(), comment));
        }
        Decision::Quarantine | Decision::Reject => {
            if let Some((plugin, done)) = overruled
                && wanted(decision) != Some(done)
            {
                reasons.push(reason("local_policy", format!("rule {plugin}")));
            }
        }
        Decision::Deliver(None) => {}
    }
    let failed = matches!(found.dmarc.result, DmarcResult::Fail | DmarcResult::PermError);
    if failed && found.dmarc.record.as_ref().is_some_and(|record| record.testing) {
        reasons.push(reason("policy_test_mode", String::new()));
    }
    reasons
}

/// RFC 9990 §3.1.3: those that pass first, of them those of the author, then those of its organization; a hundred at
/// most.
fn signatures(found: &Authentication) -> Vec<Signature> {
    let Dmarc { author_domain, organizational_domain, .. } = &found.dmarc;
    let mut sorted: Vec<&Dkim> = found.dkim.iter().filter(|one| !one.domain.is_empty()).collect();
    sorted.sort_by_key(|one| {
        let is_of_organization = name::is_within(&one.domain, organizational_domain);
        (one.result != DkimResult::Pass, one.domain != *author_domain, !is_of_organization)
    });
    let signatures = sorted.into_iter().take(MOST_SIGNATURES).map(|one| Signature {
        domain: one.domain.clone(),
        selector: one.selector.clone(),
        result: one.result.as_str().to_owned(),
    });
    signatures.collect()
}

/// RFC 9990 §3.1.3.
const MOST_SIGNATURES: usize = 100;

#[cfg(test)]
pub(crate) mod tests;
