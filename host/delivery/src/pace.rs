//! How many connections a host may have, and whether it is called at all: a pure machine.
//!
//! It begins low, grows by one connection for each round of successes and is halved when the host
//! shows strain, as a TCP sender does (RFC 5681 §3.1): many senders that do so share a host fairly
//! without knowing of each other. A host that gives no session at all is left alone for a while,
//! longer each time (RFC 5321 §4.5.4.1).

use std::time::Duration;

use tokio::time::Instant;

/// What bounds a [`Pace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PaceLimits {
    /// Connections at most.
    pub(crate) most: usize,
    /// How long a host is left alone after its first failure; doubled with each further one.
    pub(crate) down_first: Duration,
    /// The longest time it is left alone.
    pub(crate) down_longest: Duration,
}

/// The pace of one host.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    limits: PaceLimits,
    allowed: usize,
    /// Successes since the last change, at full use.
    successes: usize,
    /// So many were too many the last time.
    ceiling: Option<usize>,
    /// Strain of what began before this is old news: ten connections that break together are one
    /// event.
    shrunk: Option<Instant>,
    failures: u32,
    down_until: Option<Instant>,
    /// When it was last found down; what began before tells nothing new.
    found_down: Option<Instant>,
}

/// Whether one more connection may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Yes.
    Granted,
    /// Not while so many are open.
    Full,
    /// Not while so many are open, and those find out whether the host is back.
    Probing,
    /// Not before this moment.
    Down(Instant),
}

impl Pace {
    pub(crate) fn new(limits: PaceLimits) -> Self {
        Self {
            limits,
            allowed: FIRST.min(limits.most).max(1),
            successes: 0,
            ceiling: None,
            shrunk: None,
            failures: 0,
            down_until: None,
            found_down: None,
        }
    }

    /// Whether a connection may be made beside the `open` ones.
    pub(crate) fn leave(&self, open: usize, now: Instant) -> Leave {
        match self.down_until {
            Some(until) if now < until => Leave::Down(until),
            _ if open < self.allowed => Leave::Granted,
            _ if self.failures > 0 => Leave::Probing,
            _ => Leave::Full,
        }
    }

    /// The host took a message while so many connections were open.
    pub(crate) fn succeeded(&mut self, open: usize) {
        self.answered();
        // RFC 7661 §4.3: a limit that is not used up has not been tested, and does not grow.
        if open < self.allowed {
            return;
        }
        self.successes += 1;
        let is_close = self.ceiling.is_some_and(|ceiling| self.allowed + 1 >= ceiling);
        let round = if is_close { self.allowed * CAUTION } else { self.allowed };
        if self.successes >= round && self.allowed < self.limits.most {
            self.allowed += 1;
            self.successes = 0;
            self.ceiling = self.ceiling.filter(|_| !is_close);
        }
    }

    /// The host answered a message, whatever it said: it is there.
    pub(crate) fn answered(&mut self) {
        self.failures = 0;
        self.down_until = None;
    }

    /// The host is short of something, or a connection that was made at `began` broke.
    pub(crate) fn strained(&mut self, began: Instant, now: Instant) {
        if self.shrunk.is_none_or(|shrunk| began >= shrunk) {
            self.ceiling = Some(self.allowed);
            self.allowed = (self.allowed / 2).max(1);
            self.successes = 0;
            self.shrunk = Some(now);
        }
    }

    /// The host gave no session to an attempt that began then, or ended one with 421. With other
    /// connections open it is there and has enough; without, it is down.
    pub(crate) fn failed(&mut self, others: usize, began: Instant, now: Instant) {
        if others > 0 {
            return self.strained(began, now);
        }
        if self.found_down.is_some_and(|found| began < found) {
            return;
        }
        let doubled = 2_u32.saturating_pow(self.failures);
        let wait = self.limits.down_first.saturating_mul(doubled).min(self.limits.down_longest);
        self.failures = self.failures.saturating_add(1);
        self.allowed = 1;
        self.successes = 0;
        self.shrunk = Some(now);
        self.found_down = Some(now);
        self.down_until = Some(now + wait);
    }

    /// Connections allowed at the moment.
    pub(crate) const fn allowed(&self) -> usize {
        self.allowed
    }

    /// Failures in a row.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Until when it is not called, if that is still to come.
    pub(crate) fn down_until(&self, now: Instant) -> Option<Instant> {
        self.down_until.filter(|until| now < *until)
    }
}

// One that is slow does not stop all, and a host that never saw us sees little of us. Postfix
// begins with five.
const FIRST: usize = 2;
// A limit that was too high is tried again after so many rounds (RFC 9438 is as careful near the
// last loss): a host with a fixed number of places hears one call too many in some dozen messages.
const CAUTION: usize = 10;

#[cfg(test)]
mod tests;
