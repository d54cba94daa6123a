//! Plugins decide, the protocol asks: this room runs WebAssembly components at the stages of a message's life.
//!
//! It owns the set of plugins ([`Chain`]), the sandbox they run in ([`Host`]), what they see and edit ([`Transaction`],
//! [`ContentView`]), the services they may call (key-value store, DNS, tables, log), and the trace of what they decided
//! ([`trace::Journal`]). It knows no socket and no queue: the rooms above ask, and act on the [`Verdict`].
//!
//! The contract for authors of plugins is `wit/README.md`.

mod answer;
pub mod authentication;
mod bindings;
mod breaker;
mod buckets;
mod call;
mod chain;
mod compile;
mod config;
mod consult;
mod content;
mod effects;
mod engine;
mod error;
mod guest;
mod host;
mod http;
mod imports;
mod kv;
mod lanes;
mod queued;
pub mod seam;
mod session;
mod staged;
mod submit;
pub mod tables;
pub mod trace;
mod transaction;
mod verdict;
mod wasi;

pub use breaker::BreakerState;
pub use chain::{Chain, PluginInfo, Stage};
pub use compile::{Compiler, CompilerChild, CompilerLimits, serve_compiler};
pub use config::{
    BreakerConfig, Component, DnsGrant, EditGrant, Fallback, Grants, OnError, PluginConfig,
    PluginLimits,
};
pub use content::ContentView;
pub use error::{Error, LoadError};
pub use host::{Clock, Host, HostConfig, KvLimits, MakeSeam, SystemClock};
pub use http::HttpHost;
pub use queued::{AttemptResult, Notice, Queued, outcome, route};
pub use session::{AuthInfo, Login, Origin, Session, SessionFacts, TlsInfo};
pub use submit::{NewMail, Submit};
pub use tables::{Table, TableError, TableKind, TableSource, Tables};
pub use trace::TraceEntry;
pub use transaction::{PolicyRecipient, Transaction};
pub use verdict::{
    AuthRuling, AuthVerdict, DeliverVerdict, NoticeVerdict, OutcomeVerdict, Place,
    RecipientVerdict, ReturnedPart, RouteVerdict, Ruling, Verdict,
};
