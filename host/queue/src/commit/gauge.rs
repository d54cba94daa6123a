//! What everybody may know of the spool without asking the one who writes it.

use std::sync::{Mutex, PoisonError};

use crate::condition::Condition;
use crate::config::Limits;
use crate::error::Error;
use crate::load::{Cause, Closed, Load};
use crate::sender::SenderKey;

/// What everybody may know of the state of the spool.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    /// What is in the queue.
    load: Mutex<Load>,
    state: Mutex<GaugeState>,
}

/// What the disk says.
#[derive(Clone, Debug, Default)]
pub(super) struct GaugeState {
    pub(super) full: Option<String>,
    pub(super) broken: Option<String>,
}

impl Gauge {
    /// May a message be accepted, of this sender?
    pub(crate) fn admit(&self, sender: Option<SenderKey>, limits: &Limits) -> Result<(), Error> {
        self.check_disk().inspect_err(|_| refused("disk"))?;
        let Err(closed) = self.with_load(|load| load.admit(sender, limits)) else { return Ok(()) };
        let Closed { cause, what, is_new } = closed;
        refused(cause.name());
        if is_new {
            tracing::warn!(cause = cause.name(), %what, "the queue has reached a limit; mail is refused until it has fallen to nine tenths of it");
        }
        Err(if cause == Cause::Sender { Error::SenderFull { what } } else { Error::Full { what } })
    }

    /// Does the disk take a message?
    pub(crate) fn check_disk(&self) -> Result<(), Error> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match state {
            GaugeState { broken: Some(what), .. } => Err(Error::Broken { what }),
            GaugeState { full: Some(what), .. } => Err(Error::Full { what }),
            GaugeState { full: None, broken: None } => Ok(()),
        }
    }

    /// How it is, but for what only the disk knows.
    pub(crate) fn condition(&self) -> Condition {
        let GaugeState { full, broken } =
            self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (all, closed) = self.with_load(|load| (load.all(), load.closed_words()));
        let (messages, octets) = (all.messages, all.octets);
        Condition { messages, octets, broken, full, closed, ..Condition::default() }
    }

    /// What is in the queue.
    pub(crate) fn with_load<T>(&self, look: impl FnOnce(&mut Load) -> T) -> T {
        look(&mut self.load.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut GaugeState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn refused(cause: &'static str) {
    metrics::counter!("gatepost_queue_refusals_total", "cause" => cause).increment(1);
}
