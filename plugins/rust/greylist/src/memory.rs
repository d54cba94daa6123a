//! What is remembered of a triplet and of a client, in the host's store.
//!
//! | key | value | kept |
//! |---|---|---|
//! | `t/NETWORK/SENDER/RECIPIENT` | `w SECONDS`: first seen then, has to come back | `retry-window` |
//! | | `k SECONDS`: came back, last noted then | `lifetime` |
//! | `c/NETWORK` | `COUNT SECONDS`: triplets that came back, the last one then | `lifetime` |

use std::time::Duration;

use gatepost_plugin::{HostError, Kv};

use crate::config::Config;
use crate::triplet::Triplet;

/// What we think of an attempt; the later, the longer the wait.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// The recipient is exempt.
    Exempt,
    /// The store gave no answer.
    Unknown,
    /// Enough other mail of this client came back.
    Trusted,
    /// This triplet came back before.
    Known,
    /// This triplet came back just now.
    Returned,
    /// This triplet came back, but too early.
    Early { wait: Duration },
    /// Never seen before.
    New { wait: Duration },
}

/// The store at one moment.
pub(crate) struct Memory<'a> {
    pub(crate) kv: Kv<'a>,
    /// Seconds since 1970.
    pub(crate) now: u64,
    pub(crate) config: &'a Config,
}

impl Memory<'_> {
    /// Judges an attempt and remembers it.
    pub(crate) fn judge(&self, triplet: &Triplet) -> Result<Standing, HostError> {
        if self.config.trust_after > 0 && self.is_trusted(&triplet.client_key())? {
            return Ok(Standing::Trusted);
        }
        let key = triplet.key();
        let Some(entry) = self.kv.get_text(&key)? else {
            // Lost to another session that sees the same mail: it noted the same second, or nearly.
            self.kv.compare_and_set(&key, None, self.entry("w"), Some(self.config.retry_window))?;
            return Ok(Standing::New { wait: self.config.delay });
        };
        let (state, since) = parse(&entry);
        let age = Duration::from_secs(self.now.saturating_sub(since));
        if state == "k" {
            // One write a day is enough to keep what is in use.
            if age >= REFRESH {
                self.kv.set(&key, self.entry("k"), Some(self.config.lifetime))?;
            }
            return Ok(Standing::Known);
        }
        if age < self.config.delay {
            return Ok(Standing::Early { wait: self.config.delay - age });
        }
        // Only one session makes the step, so that the client is credited once.
        if self.kv.compare_and_set(
            &key,
            Some(entry.as_bytes()),
            self.entry("k"),
            Some(self.config.lifetime),
        )? {
            self.credit(&triplet.client_key())?;
        }
        Ok(Standing::Returned)
    }

    fn is_trusted(&self, key: &str) -> Result<bool, HostError> {
        let Some(entry) = self.kv.get_text(key)? else {
            return Ok(false);
        };
        let (count, last) = parse(&entry);
        let trusted = count.parse().is_ok_and(|count: u32| count >= self.config.trust_after);
        if trusted && self.now.saturating_sub(last) >= REFRESH.as_secs() {
            self.kv.set(key, self.entry(count), Some(self.config.lifetime))?;
        }
        Ok(trusted)
    }

    /// Counts a triplet that came back, at most one an hour: a client that comes back once with a
    /// message for ten recipients has come back once.
    fn credit(&self, key: &str) -> Result<(), HostError> {
        let present = self.kv.get_text(key)?;
        let (count, last) = present.as_deref().map_or(("0", None), |entry| {
            let (count, last) = parse(entry);
            (count, Some(last))
        });
        if last.is_some_and(|last| self.now.saturating_sub(last) < CREDIT.as_secs()) {
            return Ok(());
        }
        let count = count.parse::<u32>().unwrap_or(0).saturating_add(1);
        // Lost to another session of the same client: that was the credit of this hour.
        let present = present.as_ref().map(String::as_bytes);
        self.kv.compare_and_set(
            key,
            present,
            self.entry(&count.to_string()),
            Some(self.config.lifetime),
        )?;
        Ok(())
    }

    fn entry(&self, word: &str) -> String {
        [word, " ", &self.now.to_string()].concat()
    }
}

/// A word and seconds; what is not of this form is as old as can be, and gets a chance.
fn parse(entry: &str) -> (&str, u64) {
    let (word, seconds) = entry.split_once(' ').unwrap_or((entry, ""));
    (word, seconds.parse().unwrap_or(0))
}

const REFRESH: Duration = Duration::from_secs(86_400);
const CREDIT: Duration = Duration::from_secs(3_600);
