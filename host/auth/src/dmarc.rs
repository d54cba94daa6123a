//! DMARC (RFC 9989): does SPF or DKIM speak for the author, and what does the author's domain ask for if not?

mod discover;
mod public_suffix;
mod record;

use message::Header;
use net::Resolver;

pub use public_suffix::organizational_domain as organizational_domain_by_list;
#[cfg(test)]
pub(crate) use public_suffix::registrable;
pub use record::{Alignment, Psd, Record, ReportAddress};

use crate::author::Authors;
use crate::limits::Limits;
use crate::outcome::{Dkim, DkimResult, Dmarc, DmarcPolicy, DmarcResult, Spf, SpfResult};
use crate::verify::Discovery;
use discover::Discovered;
pub(crate) use discover::Walker;

/// What may speak for an author.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The domain of the reverse-path, if SPF passes.
    pub(crate) spf: Option<String>,
    /// The domains whose signatures verify.
    pub(crate) dkim: Vec<String>,
    /// Domains that might have spoken, had the DNS answered.
    pub(crate) silent: Vec<String>,
}

impl Evidence {
    pub(crate) fn new(mail_from: &Spf, dkim: &[Dkim], partial_bodies: bool) -> Self {
        let mut evidence = Self::default();
        match mail_from.result {
            SpfResult::Pass => evidence.spf = Some(mail_from.domain.clone()),
            SpfResult::TempError => evidence.silent.push(mail_from.domain.clone()),
            SpfResult::None
            | SpfResult::Neutral
            | SpfResult::Fail
            | SpfResult::SoftFail
            | SpfResult::PermError => {}
        }
        for signature in dkim {
            let place = match signature.result {
                DkimResult::Pass if signature.partial && !partial_bodies => continue,
                DkimResult::Pass => &mut evidence.dkim,
                DkimResult::TempError => &mut evidence.silent,
                DkimResult::Fail
                | DkimResult::Policy
                | DkimResult::Neutral
                | DkimResult::PermError => continue,
            };
            if !place.contains(&signature.domain) {
                place.push(signature.domain.clone());
            }
        }
        evidence
    }
}

/// The result for a message: that of its author or, if there are several or it cannot be told, the worst of them.
pub(crate) async fn of_message(
    resolver: &Resolver,
    limits: &Limits,
    discovery: Discovery,
    header: &Header,
    evidence: &Evidence,
) -> Dmarc {
    let authors = Authors::of(header);
    let mut worst: Option<Dmarc> = None;
    for author in authors.domains.iter().take(limits.authors) {
        let found =
            tokio::time::timeout(limits.time, of_author(resolver, discovery, author, evidence));
        let found = found.await.unwrap_or_else(|_| Dmarc {
            result: DmarcResult::TempError,
            problem: Some("the DNS did not answer".to_owned()),
            ..unknown(author)
        });
        if worst.as_ref().is_none_or(|worst| severity(&found) > severity(worst)) {
            worst = Some(found);
        }
    }
    let doubt = authors
        .doubt
        .or((authors.domains.len() > limits.authors).then_some("there are too many authors"));
    let mut dmarc = worst.unwrap_or_else(|| unknown(""));
    if let Some(doubt) = doubt {
        dmarc.problem = Some(doubt.to_owned());
        // Who cannot be told is not known to have passed.
        if matches!(dmarc.result, DmarcResult::Pass | DmarcResult::None) {
            (dmarc.result, dmarc.policy) = (DmarcResult::PermError, DmarcPolicy::None);
        }
    }
    dmarc
}

/// The result for one author.
pub(crate) async fn of_author(
    resolver: &Resolver,
    discovery: Discovery,
    author: &str,
    evidence: &Evidence,
) -> Dmarc {
    let walker = Walker::new(resolver, discovery);
    let found = match walker.discover(author).await {
        Ok(Some(found)) => found,
        Ok(None) => return unknown(author),
        Err(error) => {
            return Dmarc {
                result: DmarcResult::TempError,
                problem: Some(error.to_string()),
                ..unknown(author)
            };
        }
    };
    let Discovered { record, policy_domain, organizational_domain, policy } = found;
    let aligned = async |domains: &[String], alignment: Alignment| {
        first_aligned(&walker, author, &organizational_domain, domains, alignment).await
    };
    // A domain that passes, and of which the DNS does not say whose it is, is as silent as one that could not be asked.
    let spf = evidence.spf.as_slice();
    let (spf_aligned, spf_silent) = aligned(spf, record.aspf).await;
    let (dkim_aligned, dkim_silent) = aligned(&evidence.dkim, record.adkim).await;
    let (unknown_aligned, unknown_silent) = aligned(&evidence.silent, Alignment::Relaxed).await;
    let silent = unknown_aligned.is_some() || spf_silent || dkim_silent || unknown_silent;
    let result = match (spf_aligned.is_some() || dkim_aligned.is_some(), silent) {
        (true, _) => DmarcResult::Pass,
        // RFC 9989 §5.3.6: with the DNS silent nobody is called a forger.
        (false, true) => DmarcResult::TempError,
        (false, false) => DmarcResult::Fail,
    };
    Dmarc {
        result,
        author_domain: author.to_owned(),
        policy_domain: Some(policy_domain),
        policy,
        record: Some(record),
        spf_aligned,
        dkim_aligned,
        problem: (result == DmarcResult::TempError).then(|| "the DNS did not answer".to_owned()),
        organizational_domain,
    }
}

/// The first of the domains that is close enough to the author's; and whether the DNS was silent about one before it.
async fn first_aligned(
    walker: &Walker<'_>,
    author: &str,
    organization: &str,
    domains: &[String],
    alignment: Alignment,
) -> (Option<String>, bool) {
    let mut silent = false;
    for domain in domains {
        match walker.aligns(domain, author, organization, alignment).await {
            Ok(true) => return (Some(domain.clone()), silent),
            Ok(false) => {}
            Err(_) => silent = true,
        }
    }
    (None, silent)
}

/// An author of whom no policy is known.
fn unknown(author: &str) -> Dmarc {
    Dmarc {
        result: DmarcResult::None,
        author_domain: author.to_owned(),
        policy_domain: None,
        organizational_domain: author.to_owned(),
        policy: DmarcPolicy::None,
        record: None,
        spf_aligned: None,
        dkim_aligned: None,
        problem: None,
    }
}

/// Of several authors the one counts whose result is the worst.
fn severity(dmarc: &Dmarc) -> u8 {
    match (dmarc.result, dmarc.policy) {
        (DmarcResult::Pass, _) => 0,
        (DmarcResult::None, _) => 1,
        (DmarcResult::PermError, _) => 2,
        (DmarcResult::Fail, DmarcPolicy::None) => 3,
        (DmarcResult::TempError, _) => 4,
        (DmarcResult::Fail, DmarcPolicy::Quarantine) => 5,
        (DmarcResult::Fail, DmarcPolicy::Reject) => 6,
    }
}

#[cfg(test)]
mod tests;
