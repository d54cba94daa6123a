//! What the host's own checks of the sender say, in the form that plugins see (RFC 8601). The room that checks and this
//! one do not know each other; `inbound` brings the results over.

/// The results for one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// One for each identity that was checked.
    pub spf: Vec<Spf>,
    /// One for each signature, from the top.
    pub dkim: Vec<Dkim>,
    /// None where it was not checked.
    pub dmarc: Option<Dmarc>,
    /// None where it was not checked.
    pub arc: Option<Arc>,
}

/// RFC 7208 §2.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of RFC 7208 §2.6")]
pub enum SpfResult {
    None,
    Neutral,
    Pass,
    Fail,
    SoftFail,
    TempError,
    PermError,
}

/// The check of one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spf {
    /// What came of it.
    pub outcome: SpfResult,
    /// "mailfrom" or "helo" (RFC 7208 §2.3, §2.4).
    pub identity: String,
    /// The domain that was checked.
    pub domain: String,
    /// What the owner of the domain says about it (RFC 7208 §6.2).
    pub explanation: Option<String>,
}

/// RFC 8601 §2.7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of RFC 8601 §2.7.1")]
pub enum DkimResult {
    None,
    Pass,
    Fail,
    Policy,
    Neutral,
    TempError,
    PermError,
}

/// One DKIM-Signature field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dkim {
    /// What came of it.
    pub outcome: DkimResult,
    /// d=
    pub domain: String,
    /// s=
    pub selector: String,
    /// i=
    pub identity: Option<String>,
    /// a=
    pub algorithm: String,
    /// l= leaves a part of the body unsigned (RFC 6376 §8.2).
    pub is_partial: bool,
    /// What is wrong, in words for people.
    pub reason: Option<String>,
}

/// RFC 7489 §11.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of RFC 7489 §11.2")]
pub enum DmarcResult {
    None,
    Pass,
    Fail,
    TempError,
    PermError,
}

/// RFC 7489 §6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of RFC 7489 §6.3")]
pub enum DmarcPolicy {
    None,
    Quarantine,
    Reject,
}

/// The check of the From field's domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dmarc {
    /// What came of it.
    pub outcome: DmarcResult,
    /// The domain of the From field.
    pub domain: String,
    /// What the owner of the domain asks for; none without a record.
    pub policy: Option<DmarcPolicy>,
    /// SPF passed for an aligned domain.
    pub is_spf_aligned: bool,
    /// A signature of an aligned domain passed.
    pub is_dkim_aligned: bool,
}

/// RFC 8617 §5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of RFC 8617 §5.2")]
pub enum ArcResult {
    None,
    Pass,
    Fail,
}

/// The check of the chain of ARC sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arc {
    /// What came of it.
    pub outcome: ArcResult,
    /// How many sets there are.
    pub instances: u32,
    /// d= of the newest seal.
    pub sealer: Option<String>,
}

/// The contract's own types.
mod wit {
    use super::{
        Arc, ArcResult, Dkim, DkimResult, Dmarc, DmarcPolicy, DmarcResult, Results, Spf, SpfResult,
    };
    use crate::bindings::imports::authentication as contract;

    macro_rules! same_cases {
        ($ours:ident => $theirs:ident: $($case:ident = $their_case:ident),+) => {
            impl From<$ours> for contract::$theirs {
                fn from(result: $ours) -> Self {
                    match result { $($ours::$case => Self::$their_case),+ }
                }
            }
        };
    }
    same_cases!(SpfResult => SpfResult: None = None, Neutral = Neutral, Pass = Pass, Fail = Fail, SoftFail = Softfail,
        TempError = Temperror, PermError = Permerror);
    same_cases!(DkimResult => DkimResult: None = None, Pass = Pass, Fail = Fail, Policy = Policy, Neutral = Neutral,
        TempError = Temperror, PermError = Permerror);
    same_cases!(DmarcResult => DmarcResult: None = None, Pass = Pass, Fail = Fail, TempError = Temperror,
        PermError = Permerror);
    same_cases!(DmarcPolicy => DmarcPolicy: None = None, Quarantine = Quarantine, Reject = Reject);
    same_cases!(ArcResult => ArcResult: None = None, Pass = Pass, Fail = Fail);

    impl From<&Results> for contract::Results {
        fn from(results: &Results) -> Self {
            Self {
                spf: results.spf.iter().map(Into::into).collect(),
                dkim: results.dkim.iter().map(Into::into).collect(),
                dmarc: results.dmarc.as_ref().map(Into::into),
                arc: results.arc.as_ref().map(Into::into),
            }
        }
    }

    impl From<&Spf> for contract::Spf {
        fn from(spf: &Spf) -> Self {
            let Spf { outcome, identity, domain, explanation } = spf.clone();
            Self { outcome: outcome.into(), identity, domain, explanation }
        }
    }

    impl From<&Dkim> for contract::Dkim {
        fn from(dkim: &Dkim) -> Self {
            let Dkim { outcome, domain, selector, identity, algorithm, is_partial, reason } =
                dkim.clone();
            let outcome = outcome.into();
            Self { outcome, domain, selector, identity, algorithm, is_partial, reason }
        }
    }

    impl From<&Dmarc> for contract::Dmarc {
        fn from(dmarc: &Dmarc) -> Self {
            Self {
                outcome: dmarc.outcome.into(),
                domain: dmarc.domain.clone(),
                policy: dmarc.policy.map(Into::into),
                is_spf_aligned: dmarc.is_spf_aligned,
                is_dkim_aligned: dmarc.is_dkim_aligned,
            }
        }
    }

    impl From<&Arc> for contract::Arc {
        fn from(arc: &Arc) -> Self {
            let Arc { outcome, instances, sealer } = arc.clone();
            Self { outcome: outcome.into(), instances, sealer }
        }
    }
}
