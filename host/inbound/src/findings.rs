//! What was found out about who a message is from, in the form that plugins see. The room that finds out and the one that
//! asks plugins do not know each other.

use auth::{
    ArcChain, ArcResult, Authentication, Dkim, DkimResult, Dmarc, DmarcPolicy, DmarcResult,
};
use auth::{Spf, SpfIdentity, SpfResult};
use policy::authentication as contract;

/// All of it.
pub(crate) fn of(found: &Authentication) -> contract::Results {
    contract::Results {
        spf: vec![spf(&found.mail_from), spf(&found.helo)],
        dkim: found.dkim.iter().map(dkim).collect(),
        dmarc: Some(dmarc(&found.dmarc)),
        arc: Some(arc(&found.arc)),
    }
}

/// One identity that SPF was asked about.
pub(crate) fn spf(found: &Spf) -> contract::Spf {
    contract::Spf {
        outcome: match found.result {
            SpfResult::None => contract::SpfResult::None,
            SpfResult::Neutral => contract::SpfResult::Neutral,
            SpfResult::Pass => contract::SpfResult::Pass,
            SpfResult::Fail => contract::SpfResult::Fail,
            SpfResult::SoftFail => contract::SpfResult::SoftFail,
            SpfResult::TempError => contract::SpfResult::TempError,
            SpfResult::PermError => contract::SpfResult::PermError,
        },
        identity: match found.identity {
            SpfIdentity::Helo => "helo".to_owned(),
            SpfIdentity::MailFrom => "mailfrom".to_owned(),
        },
        domain: found.domain.clone(),
        explanation: found.explanation.clone(),
    }
}

fn dkim(found: &Dkim) -> contract::Dkim {
    contract::Dkim {
        outcome: match found.result {
            DkimResult::Pass => contract::DkimResult::Pass,
            DkimResult::Fail => contract::DkimResult::Fail,
            DkimResult::Policy => contract::DkimResult::Policy,
            DkimResult::Neutral => contract::DkimResult::Neutral,
            DkimResult::TempError => contract::DkimResult::TempError,
            DkimResult::PermError => contract::DkimResult::PermError,
        },
        domain: found.domain.clone(),
        selector: found.selector.clone(),
        identity: Some(found.identity.clone()).filter(|identity| !identity.is_empty()),
        algorithm: found.algorithm.clone(),
        is_partial: found.partial,
        reason: found.problem.clone(),
    }
}

fn dmarc(found: &Dmarc) -> contract::Dmarc {
    contract::Dmarc {
        outcome: match found.result {
            DmarcResult::None => contract::DmarcResult::None,
            DmarcResult::Pass => contract::DmarcResult::Pass,
            DmarcResult::Fail => contract::DmarcResult::Fail,
            DmarcResult::TempError => contract::DmarcResult::TempError,
            DmarcResult::PermError => contract::DmarcResult::PermError,
        },
        domain: found.author_domain.clone(),
        policy: found.policy_domain.as_ref().map(|_| match found.policy {
            DmarcPolicy::None => contract::DmarcPolicy::None,
            DmarcPolicy::Quarantine => contract::DmarcPolicy::Quarantine,
            DmarcPolicy::Reject => contract::DmarcPolicy::Reject,
        }),
        is_spf_aligned: found.spf_aligned.is_some(),
        is_dkim_aligned: found.dkim_aligned.is_some(),
    }
}

fn arc(found: &ArcChain) -> contract::Arc {
    contract::Arc {
        outcome: match found.result {
            ArcResult::None => contract::ArcResult::None,
            ArcResult::Pass => contract::ArcResult::Pass,
            // RFC 8617 §5.2 knows no third answer: a chain that cannot be validated now vouches for nobody.
            ArcResult::Fail | ArcResult::TempError => contract::ArcResult::Fail,
        },
        instances: u32::try_from(found.sealers.len()).unwrap_or(u32::MAX),
        sealer: found.sealers.last().map(|sealer| sealer.domain.clone()),
    }
}
