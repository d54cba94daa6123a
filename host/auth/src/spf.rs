//! SPF (RFC 7208): may this client use this domain?
//!
//! An evaluator of our own: it asks through [`net::Resolver`], and bounds terms, void lookups and host names as §4.6.4
//! wants it, across includes and redirects.

mod evaluate;
mod macros;
mod record;

use std::net::IpAddr;
use std::time::SystemTime;

use net::Resolver;

use crate::limits::Limits;
use crate::outcome::SpfResult;

pub use record::is_spf;

/// The arguments of `check_host()` (RFC 7208 §4.1).
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Address of the client.
    pub client: IpAddr,
    /// Local part of the sender; empty means `postmaster` (RFC 7208 §4.3).
    pub local_part: &'a str,
    /// The domain to look at.
    pub domain: &'a str,
    /// What the client called itself.
    pub helo: &'a str,
    /// Our host name.
    pub receiver: &'a str,
    /// The time.
    pub now: SystemTime,
}

/// What `check_host()` gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The result.
    pub result: SpfResult,
    /// The owner's words about a fail, if the record has any that can be used.
    pub explanation: Option<String>,
    /// Why it is an error.
    pub problem: Option<String>,
}

/// `check_host()` of RFC 7208 §4.
pub async fn check(resolver: &Resolver, limits: &Limits, question: &Question<'_>) -> Answer {
    let check = evaluate::Evaluation::new(resolver, limits, question).run();
    // RFC 7208 §4.6.4: an evaluation that takes too long is a "temperror".
    tokio::time::timeout(limits.spf_time, check).await.unwrap_or_else(|_| Answer {
        result: SpfResult::TempError,
        explanation: None,
        problem: Some("the lookups took too long".to_owned()),
    })
}
