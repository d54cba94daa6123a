//! Who a message is from: SPF, DKIM, ARC and DMARC, verified, decided and signed.
//!
//! [`Verifier`] takes what a session knows and what came as content, asks the DNS through [`net::Resolver`], and gives
//! an [`Authentication`]. [`decide`] turns it into what is done with the message. It opens no socket, reads no clock
//! and keeps no state; whether its decision stands is for policy to say.

pub mod arc;
mod author;
mod canonical;
#[cfg(test)]
mod corpora;
mod decision;
pub mod dkim;
pub mod dmarc;
mod key;
mod limits;
mod name;
mod outcome;
pub mod report;
pub mod results;
pub mod spf;
pub mod srs;
mod tags;
mod verify;

pub use author::sole_author;
pub use decision::{Decision, Exception, Trust, decide};
pub use limits::Limits;
pub use outcome::{
    ArcChain, ArcResult, Authentication, Dkim, DkimResult, Dmarc, DmarcPolicy, DmarcResult, Iprev,
    IprevResult, Sealer, Spf, SpfIdentity, SpfResult,
};
pub use verify::{Discovery, Facts, Options, Verifier};
