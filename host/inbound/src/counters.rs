//! What can be measured here, by name:
//!
//! | name | kind | labels |
//! |---|---|---|
//! | `gatepost_sessions_total` | counter | `listener` |
//! | `gatepost_sessions` | gauge: open now | `listener` |
//! | `gatepost_sessions_refused_total` | counter: in place of a greeting | `listener`, `cause` |
//! | `gatepost_session_seconds` | histogram | `listener` |
//! | `gatepost_commands_total` | counter: commands that needed a decision | `command` |
//! | `gatepost_replies_total` | counter | `class` (2 to 5) |
//! | `gatepost_transactions_total` | counter | `fate` |
//! | `gatepost_received_octets_total` | counter: content as it came | |
//! | `gatepost_end_of_data_seconds` | histogram: from the final dot to its reply | |

//!
//! Handles are made once: to find a metric by its name costs more than a command.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use smtp::server::Question;

use crate::transaction::Fate;

/// What is counted for each listener.
pub(crate) struct SessionCounters {
    total: Counter,
    open: Gauge,
    seconds: Histogram,
}

impl SessionCounters {
    pub(crate) fn new(listener: &str) -> Self {
        let labels = [("listener", listener.to_owned())];
        Self {
            total: counter!("gatepost_sessions_total", &labels),
            open: gauge!("gatepost_sessions", &labels),
            seconds: histogram!("gatepost_session_seconds", &labels),
        }
    }

    pub(crate) fn session_began(&self) {
        self.total.increment(1);
        self.open.increment(1);
    }

    pub(crate) fn session_ended(&self, took: Duration) {
        self.open.decrement(1);
        self.seconds.record(took);
    }
}

/// Seldom: it may look the name up.
pub(crate) fn session_refused(listener: &str, cause: &'static str) {
    counter!("gatepost_sessions_refused_total", "listener" => listener.to_owned(), "cause" => cause).increment(1);
}

/// What is counted for the whole house.
pub(crate) struct Counters {
    helo: Counter,
    auth: Counter,
    mail: Counter,
    rcpt: Counter,
    data: Counter,
    end_of_data: Counter,
    /// By class, 2 to 5.
    replies: [Counter; 4],
    /// In the order of [`Fate::ALL`].
    transactions: [Counter; Fate::ALL.len()],
    octets: Counter,
    end_of_data_seconds: Histogram,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let command =
            |command: &'static str| counter!("gatepost_commands_total", "command" => command);
        let replies = |class: &'static str| counter!("gatepost_replies_total", "class" => class);
        let fate = |fate: Fate| counter!("gatepost_transactions_total", "fate" => fate.name());
        Self {
            helo: command("helo"),
            auth: command("auth"),
            mail: command("mail"),
            rcpt: command("rcpt"),
            data: command("data"),
            end_of_data: command("end_of_data"),
            replies: ["2", "3", "4", "5"].map(replies),
            transactions: Fate::ALL.map(fate),
            octets: counter!("gatepost_received_octets_total"),
            end_of_data_seconds: histogram!("gatepost_end_of_data_seconds"),
        }
    }

    pub(crate) fn question(&self, question: &Question) {
        let command = match question {
            Question::Connect | Question::Verifier { .. } => return,
            Question::Helo { .. } => &self.helo,
            Question::Auth(_) => &self.auth,
            Question::Mail { .. } => &self.mail,
            Question::Rcpt(_) => &self.rcpt,
            Question::Data => &self.data,
            Question::Content => &self.end_of_data,
        };
        command.increment(1);
    }

    /// Counts the replies in what is sent: the last line of each has a space after its code (RFC 5321 §4.2).
    pub(crate) fn replies(&self, octets: &[u8]) {
        let mut classes = [0; 4];
        for line in octets.split(|octet| *octet == b'\n') {
            if let [class @ b'2'..=b'5', _, _, b' ' | b'\r', ..] = line {
                classes[usize::from(class - b'2')] += 1;
            }
        }
        for (counter, count) in self.replies.iter().zip(classes) {
            if count > 0 {
                counter.increment(count);
            }
        }
    }

    pub(crate) fn transaction(&self, fate: Fate) {
        self.transactions[fate as usize].increment(1);
    }

    pub(crate) fn octets(&self, octets: u64) {
        self.octets.increment(octets);
    }

    pub(crate) fn end_of_data(&self, took: Duration) {
        self.end_of_data_seconds.record(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fate_is_counted_under_its_own_name() {
        for (position, fate) in Fate::ALL.iter().enumerate() {
            assert_eq!(*fate as usize, position, "{}", fate.name());
        }
    }
}
