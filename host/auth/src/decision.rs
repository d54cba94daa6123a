//! What is done with a message of which DMARC says something: a function of what was found and of what we trust.

use message::Header;

use crate::name;
use crate::outcome::{ArcResult, Authentication, DmarcPolicy, DmarcResult};
use crate::results::Results;

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes on; where its author's policy says otherwise, the exception says why.
    Deliver(Option<Exception>),
    /// It is set apart.
    Quarantine,
    /// It is refused.
    Reject,
}

/// Why a policy is not obeyed (RFC 9990 §3.1.6 has words for it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exception {
    /// A mailing list that we know has changed it.
    MailingList(String),
    /// A sealer that we trust had found it good.
    TrustedSealer(String),
    /// We obey no policy.
    NotEnforced,
}

/// Whom we trust to hand on mail of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Obey `reject` and `quarantine` at all.
    pub enforce: bool,
    /// Domains of mailing lists, as in List-Id. SPF or DKIM must speak for the domain, and the message must have a
    /// List-Id within it.
    pub mailing_lists: Vec<String>,
    /// Domains whose ARC seals we believe.
    pub arc_sealers: Vec<String>,
}

impl Default for Trust {
    fn default() -> Self {
        Self { enforce: true, mailing_lists: Vec::new(), arc_sealers: Vec::new() }
    }
}

impl Exception {
    /// Its type in an aggregate report (RFC 9990 §3.1.6).
    pub fn report_type(&self) -> &'static str {
        match self {
            Self::MailingList(_) => "mailing_list",
            Self::TrustedSealer(_) => "trusted_forwarder",
            Self::NotEnforced => "local_policy",
        }
    }
}

/// What is done with a message (RFC 9989 §5.4, §7.4).
pub fn decide(found: &Authentication, trust: &Trust, header: &Header) -> Decision {
    let wanted = match (found.dmarc.result, found.dmarc.policy) {
        (DmarcResult::Fail | DmarcResult::PermError, DmarcPolicy::Reject) => Decision::Reject,
        (DmarcResult::Fail | DmarcResult::PermError, DmarcPolicy::Quarantine) => {
            Decision::Quarantine
        }
        (DmarcResult::Fail | DmarcResult::PermError, DmarcPolicy::None)
        | (DmarcResult::Pass | DmarcResult::None | DmarcResult::TempError, _) => {
            return Decision::Deliver(None);
        }
    };
    if !trust.enforce {
        return Decision::Deliver(Some(Exception::NotEnforced));
    }
    if let Some(list) = mailing_list(found, trust, header) {
        return Decision::Deliver(Some(Exception::MailingList(list)));
    }
    if let Some(sealer) = trusted_sealer(found, trust) {
        return Decision::Deliver(Some(Exception::TrustedSealer(sealer)));
    }
    wanted
}

/// The list that sent the message, if it is one of ours and really did.
fn mailing_list(found: &Authentication, trust: &Trust, header: &Header) -> Option<String> {
    let id = header.get("List-Id")?.value();
    // RFC 2919 §3: the identifier stands in angle brackets, after words for people.
    let id = id.rsplit_once('<')?.1.split_once('>')?.0.trim().to_ascii_lowercase();
    let sender = (found.mail_from.result == crate::SpfResult::Pass)
        .then_some(found.mail_from.domain.as_str());
    let speaks =
        |list: &str| found.signed_by().chain(sender).any(|domain| name::is_within(domain, list));
    let lists = trust.mailing_lists.iter().filter_map(|list| name::canonical(list));
    lists.into_iter().find(|list| name::is_within(&id, list) && speaks(list))
}

/// The sealer that found the message good, if it and all after it are trusted (RFC 8617 §6.1).
fn trusted_sealer(found: &Authentication, trust: &Trust) -> Option<String> {
    if found.arc.result != ArcResult::Pass {
        return None;
    }
    for sealer in found.arc.sealers.iter().rev() {
        let trusted = trust.arc_sealers.iter().filter_map(|domain| name::canonical(domain));
        if !trusted.into_iter().any(|domain| name::is_within(&sealer.domain, &domain)) {
            return None;
        }
        let results = Results::parse(&sealer.results)?;
        let says = |method: &str, result: &str| {
            results.methods.iter().any(|one| one.method == method && one.result == result)
        };
        let of_author = results.methods.iter().any(|one| {
            one.method == "dmarc"
                && one.result == "pass"
                && one.property("header", "from").and_then(name::canonical).as_deref()
                    == Some(&found.dmarc.author_domain)
        });
        if of_author {
            return Some(sealer.domain.clone());
        }
        // It came to this sealer broken already: what did the one before find?
        if !says("arc", "pass") {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests;
