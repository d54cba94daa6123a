//! What was found about a message: one type for each method, and the word that RFC 8601 has for each result.

use std::net::IpAddr;

/// All that was found about one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// Does the name of the client's address lead back to it?
    pub iprev: Iprev,
    /// May the client use this name in HELO or EHLO?
    pub helo: Spf,
    /// May the client use this reverse-path? With a null reverse-path the identity is `postmaster@` the HELO name
    /// (RFC 7208 §2.4).
    pub mail_from: Spf,
    /// The signatures, from the top. Empty: the message is not signed.
    pub dkim: Vec<Dkim>,
    /// Who handled the message on its way, and whether their seals hold.
    pub arc: ArcChain,
    /// Does any of it speak for the author?
    pub dmarc: Dmarc,
}

/// An enum whose variants have a word each.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Its word in an Authentication-Results field.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Takes a word, in whatever case.
            pub fn parse(word: &str) -> Option<Self> {
                [$(Self::$variant),+].into_iter().find(|one| one.as_str().eq_ignore_ascii_case(word))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Result of SPF (RFC 7208 §2.6, RFC 8601 §2.7.2).
    SpfResult {
        /// There is no record, or no domain to look at.
        None = "none",
        /// The domain says nothing about this client.
        Neutral = "neutral",
        /// The client may use the domain.
        Pass = "pass",
        /// The client may not use the domain.
        Fail = "fail",
        /// The client probably may not use the domain.
        SoftFail = "softfail",
        /// The DNS did not answer.
        TempError = "temperror",
        /// The record cannot be interpreted.
        PermError = "permerror",
    }
}

words! {
    /// The identity that SPF looked at.
    SpfIdentity {
        /// The argument of HELO or EHLO.
        Helo = "helo",
        /// The reverse-path, or `postmaster@` the HELO name if it is null.
        MailFrom = "mailfrom",
    }
}

words! {
    /// Result of one DKIM signature (RFC 8601 §2.7.1); "none" is an empty list.
    DkimResult {
        /// It verifies.
        Pass = "pass",
        /// It does not verify: something was changed.
        Fail = "fail",
        /// It verifies, or would, but we do not accept its kind.
        Policy = "policy",
        /// It cannot be read as a signature.
        Neutral = "neutral",
        /// The DNS did not answer.
        TempError = "temperror",
        /// It can never verify: no key, a bad key, a tag missing.
        PermError = "permerror",
    }
}

words! {
    /// Result of DMARC (RFC 9989, RFC 8601 §2.7.4 by RFC 7489 §11.2).
    DmarcResult {
        /// The author's domain publishes no policy.
        None = "none",
        /// SPF or DKIM speaks for the author's domain.
        Pass = "pass",
        /// Nothing speaks for the author's domain.
        Fail = "fail",
        /// The DNS did not answer.
        TempError = "temperror",
        /// The author cannot be told, or the policy is ambiguous.
        PermError = "permerror",
    }
}

words! {
    /// What the author's domain asks for where DMARC fails (RFC 9989 §4.7).
    DmarcPolicy {
        /// Nothing.
        None = "none",
        /// To look at it with suspicion.
        Quarantine = "quarantine",
        /// To refuse it.
        Reject = "reject",
    }
}

words! {
    /// Result of ARC (RFC 8617 §4.4). A DNS that did not answer is told apart, and written as "fail".
    ArcResult {
        /// There is no chain.
        None = "none",
        /// All seals hold.
        Pass = "pass",
        /// The chain is broken.
        Fail = "fail",
        /// The DNS did not answer.
        TempError = "temperror",
    }
}

words! {
    /// Result of the reverse check of the client's address (RFC 8601 §2.7.3).
    IprevResult {
        /// A name leads back to the address.
        Pass = "pass",
        /// There are names, and none leads back.
        Fail = "fail",
        /// The DNS did not answer.
        TempError = "temperror",
        /// The address has no name.
        PermError = "permerror",
    }
}

/// Result of SPF for one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spf {
    /// What it came to.
    pub result: SpfResult,
    /// Which identity.
    pub identity: SpfIdentity,
    /// Its domain, in A-labels; empty if there is none.
    pub domain: String,
    /// What the domain's owner says about a fail (RFC 7208 §6.2), in US-ASCII. It is a stranger's text.
    pub explanation: Option<String>,
    /// Why it is an error.
    pub problem: Option<String>,
}

/// Result of one DKIM signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dkim {
    /// What it came to.
    pub result: DkimResult,
    /// Who signs (`d=`), in lower case and A-labels; empty if the field cannot be read.
    pub domain: String,
    /// Under which name its key is (`s=`).
    pub selector: String,
    /// For whom (`i=`), as written; empty if not given.
    pub identity: String,
    /// The algorithm (`a=`), as written.
    pub algorithm: String,
    /// The first 8 characters of the signature, by which RFC 6008 tells signatures apart.
    pub signature: String,
    /// Size of the public key in bits, where one was found.
    pub key_bits: Option<usize>,
    /// With `l=` octets at the end of the body are not signed: anybody may have added them (RFC 6376 §8.2).
    pub partial: bool,
    /// The key says that its owner is testing (`t=y`): treat a failure as no signature (RFC 6376 §3.6.1).
    pub testing: bool,
    /// Why it is not a pass.
    pub problem: Option<String>,
}

/// Result of ARC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArcChain {
    /// What it came to.
    pub result: ArcResult,
    /// Who sealed, the first of them first. Names of a chain that does not pass prove nothing.
    pub sealers: Vec<Sealer>,
    /// Why it is not a pass.
    pub problem: Option<String>,
}

/// One who sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealer {
    /// The domain (`d=` of the ARC-Seal).
    pub domain: String,
    /// The selector of its key.
    pub selector: String,
    /// What it says it found: its ARC-Authentication-Results field without `i=`.
    pub results: String,
}

/// Result of DMARC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dmarc {
    /// What it came to.
    pub result: DmarcResult,
    /// The domain of the From field, in A-labels; empty if there is none to tell.
    pub author_domain: String,
    /// Where the policy was found: `author_domain` or a domain above it.
    pub policy_domain: Option<String>,
    /// The organization of the author's domain.
    pub organizational_domain: String,
    /// What is to be done where it fails, test mode (`t=y`) taken into account.
    pub policy: DmarcPolicy,
    /// The record, where one was found.
    pub record: Option<crate::dmarc::Record>,
    /// The domain by which SPF speaks for the author.
    pub spf_aligned: Option<String>,
    /// The domain by which DKIM speaks for the author.
    pub dkim_aligned: Option<String>,
    /// Why it is neither pass nor fail, or why the author cannot be told.
    pub problem: Option<String>,
}

/// Result of the reverse check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iprev {
    /// What it came to.
    pub result: IprevResult,
    /// The address that was looked at.
    pub address: IpAddr,
    /// The names that lead back to it.
    pub names: Vec<String>,
}

impl Authentication {
    /// The signatures that verify, all of the body included.
    pub fn signed_by(&self) -> impl Iterator<Item = &str> {
        self.dkim.iter().filter(|one| one.speaks()).map(|one| one.domain.as_str())
    }
}

impl Dkim {
    /// Whether it verifies and covers the whole body.
    pub fn speaks(&self) -> bool {
        self.result == DkimResult::Pass && !self.partial
    }
}

impl Spf {
    pub(crate) fn new(identity: SpfIdentity, domain: String, result: SpfResult) -> Self {
        Self { result, identity, domain, explanation: None, problem: None }
    }
}

impl ArcChain {
    /// No chain.
    pub(crate) fn none() -> Self {
        Self { result: ArcResult::None, sealers: Vec::new(), problem: None }
    }
}
