//! What plugins may call: one file for each interface of the contract. Each function is counted first, then asked
//! "may it?", and works only then.

mod clock;
mod config;
mod content;
mod dns;
mod http;
mod kv;
pub(crate) mod log;
mod lookup;
mod metrics;
mod random;
mod rate_limit;
mod session;
mod submit;
mod transaction;

use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};

use crate::bindings::imports;
use crate::guest::Guest;

pub(crate) use transaction::recipient;

/// A linker with every interface of `gatepost:policy`.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    imports::types::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    imports::authentication::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    imports::message::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    imports::log::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    imports::metrics::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    imports::clock::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    imports::random::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    imports::config::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    imports::kv::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    imports::rate_limit::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    imports::lookup::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    imports::dns::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    imports::http::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    imports::submit::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    Ok(linker)
}

/// The names of the interfaces that this host has of the contract, without version.
pub(crate) const INTERFACES: [&str; 14] = [
    "types",
    "authentication",
    "message",
    "log",
    "metrics",
    "clock",
    "random",
    "config",
    "kv",
    "rate-limit",
    "lookup",
    "dns",
    "http",
    "submit",
];

impl imports::types::Host for Guest {}
impl imports::authentication::Host for Guest {}
impl imports::message::Host for Guest {}
