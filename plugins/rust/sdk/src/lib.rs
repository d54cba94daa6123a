//! Write Gatepost plugins in Rust.
//!
//! A plugin is a type that implements [`Plugin`]: one method for each stage at which it has
//! something to say. [`export!`] names these stages, and the host asks the plugin at no other.
//!
//! ```
//! use gatepost_plugin::{Decision, Error, HeloVerdict, Host, Plugin, Reply, Session};
//!
//! /// Refuses clients that greet us with our own name.
//! struct NoMirror {
//!     hostname: String,
//! }
//!
//! impl Plugin for NoMirror {
//!     fn configure(host: &Host) -> Result<Self, Error> {
//!         Ok(Self { hostname: host.config_value("hostname").ok_or("`hostname` is missing")? })
//!     }
//!
//!     fn helo(&self, _: &Host, _: &Session, name: &str) -> Result<Decision<HeloVerdict>, Error> {
//!         if !name.eq_ignore_ascii_case(&self.hostname) {
//!             return Ok(Decision::next());
//!         }
//!         let reply = Reply::new(550, "5.7.1", "You are not me");
//!         Ok(Decision::reject(reply).because("our own name in HELO").rule("mirror"))
//!     }
//! }
//!
//! gatepost_plugin::export!(NoMirror: helo);
//! ```
//!
//! Built with `cargo build --release --target wasm32-wasip2`, a crate of the type `cdylib` that
//! holds these lines is a component as Gatepost loads it. Compiled for any other target, the same
//! code runs on the host of [`test`](mod@test), so that `cargo test` needs neither a server nor WebAssembly.
//!
//! **The memory of a plugin is a cache.** An instance may be dropped between any two stages and made
//! anew. What has to outlive a call goes to a note of the [`Session`] or [`Transaction`], or to
//! [`Host::kv`].

mod decision;
mod error;
mod export;
mod glob;
mod host;
mod message;
mod plugin;
mod reply;
mod tree;

#[cfg(target_family = "wasm")]
mod component;
pub mod config;
#[cfg(not(target_family = "wasm"))]
pub mod test;
pub mod verdict;
#[doc(hidden)]
pub mod wit;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub use component::Hosted;
pub use decision::Decision;
pub use error::Error;
pub use host::{Dns, Host, Http, Kind, Kv, Lookup, Metrics, RateLimit};
#[doc(inline)]
pub use message::{Content, Session, Transaction};
pub use plugin::{Plugin, Registration};
pub use verdict::{
    AuthVerdict, ConnectVerdict, DataVerdict, DeliverVerdict, DsnVerdict, HeloVerdict, MailVerdict,
    OutcomeVerdict, RcptVerdict, RouteVerdict,
};
pub use wit::imports::gatepost::policy::{
    authentication,
    dns::{Answer, Listing},
    http::{Request, Response},
    log::Level,
    message::{Field, PartInfo, PartPlace},
    rate_limit::{Rate, Taken},
    submit::Mail,
    types::{
        AuthInfo, Endpoint, EnhancedStatus, HostError, NewRecipient, Recipient, Reply, SessionInfo,
        TlsInfo,
    },
};
pub use wit::on_auth::Credentials;
pub use wit::on_data::RecipientVerdict;
pub use wit::on_deliver::Place;
pub use wit::on_dsn::{Changes as NoticeChanges, Notice, Reported};
pub use wit::on_outcome::AttemptResult;
