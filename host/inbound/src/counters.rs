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

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use smtp::server::Question;

use crate::transaction::Fate;

pub(crate) fn session_began(listener: &str) {
    counter!("gatepost_sessions_total", "listener" => listener.to_owned()).increment(1);
    gauge!("gatepost_sessions", "listener" => listener.to_owned()).increment(1);
}

pub(crate) fn session_ended(listener: &str, took: Duration) {
    gauge!("gatepost_sessions", "listener" => listener.to_owned()).decrement(1);
    histogram!("gatepost_session_seconds", "listener" => listener.to_owned()).record(took);
}

pub(crate) fn session_refused(listener: &str, cause: &'static str) {
    counter!("gatepost_sessions_refused_total", "listener" => listener.to_owned(), "cause" => cause).increment(1);
}

pub(crate) fn question(question: &Question) {
    let command = match question {
        Question::Connect | Question::Verifier { .. } => return,
        Question::Helo { .. } => "helo",
        Question::Auth(_) => "auth",
        Question::Mail { .. } => "mail",
        Question::Rcpt(_) => "rcpt",
        Question::Data => "data",
        Question::Content => "end_of_data",
    };
    counter!("gatepost_commands_total", "command" => command).increment(1);
}

/// Counts the replies in what is sent: the last line of each has a space after its code (RFC 5321 §4.2).
pub(crate) fn replies(octets: &[u8]) {
    let mut classes = [0; 6];
    for line in octets.split(|octet| *octet == b'\n') {
        if let [class @ b'2'..=b'5', _, _, b' ' | b'\r', ..] = line {
            classes[usize::from(class - b'0')] += 1;
        }
    }
    for (class, name) in [(2, "2"), (3, "3"), (4, "4"), (5, "5")] {
        if classes[class] > 0 {
            counter!("gatepost_replies_total", "class" => name).increment(classes[class]);
        }
    }
}

pub(crate) fn transaction(fate: Fate) {
    counter!("gatepost_transactions_total", "fate" => fate.name()).increment(1);
}

pub(crate) fn octets(octets: u64) {
    counter!("gatepost_received_octets_total").increment(octets);
}

pub(crate) fn end_of_data(took: Duration) {
    histogram!("gatepost_end_of_data_seconds").record(took);
}
