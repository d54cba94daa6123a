//! Counting: token buckets in the memory of the host, or counters in the store.

use std::time::Duration;

use gatepost_plugin::{Host, HostError, Rate};

use crate::config::{Config, Limit, parse_rate};
use crate::subject::{Facts, together};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    Messages,
    Recipients,
}

/// What counting came to.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) allowed: bool,
    /// Milliseconds until it would be allowed.
    pub(crate) wait: u64,
    pub(crate) subject: String,
    pub(crate) measure: Measure,
    pub(crate) rate: Rate,
}

impl Measure {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Messages => " messages",
            Self::Recipients => " recipients",
        }
    }

    /// True if this is counted now: a message at MAIL, or, where it counts for its recipients, at each RCPT; a
    /// recipient at its RCPT.
    fn is_due(self, limit: &Limit, facts: &Facts) -> bool {
        let of_recipient = limit.per.iter().any(|per| per.is_of_recipient());
        let at_rcpt = facts.has_recipient();
        match self {
            Self::Messages => of_recipient == at_rcpt,
            Self::Recipients => at_rcpt,
        }
    }
}

/// Counts one, if this limit counts it here.
pub(crate) fn take(
    host: &Host,
    config: &Config,
    limit: &Limit,
    measure: Measure,
    facts: &Facts,
) -> Result<Option<Taken>, HostError> {
    let rate = match measure {
        Measure::Messages => limit.messages,
        Measure::Recipients => limit.recipients,
    };
    let Some(mut rate) = rate.filter(|_| measure.is_due(limit, facts)) else { return Ok(None) };
    let Some(subjects) = together(&limit.per, facts, config) else { return Ok(None) };
    let subject = subjects.join(" ");
    if let (Some(table), [per]) = (&limit.table, limit.per.as_slice()) {
        let value = per.look_up(host.lookup(table), facts, &subject)?.unwrap_or_default();
        match own_rate(&value, measure) {
            Ok(own) => rate = own.unwrap_or(rate),
            Err(Unlimited) => return Ok(None),
        }
    }
    let key = bounded([&limit.name, measure.word(), " ", &subject].concat());
    let (allowed, wait) = if limit.durable {
        counted(host, &key, rate)?
    } else {
        let taken = host.rate_limit().take(&key, 1, rate)?;
        (taken.allowed, taken.wait)
    };
    Ok(Some(Taken { allowed, wait, subject, measure, rate }))
}

struct Unlimited;

/// The value of a table: `unlimited`, or `messages=100/1h recipients=500/1h` or one of them.
fn own_rate(value: &str, measure: Measure) -> Result<Option<Rate>, Unlimited> {
    if value.trim().eq_ignore_ascii_case("unlimited") {
        return Err(Unlimited);
    }
    let wanted = measure.word().trim_start();
    let of = |word: &str| {
        let (key, rate) = word.split_once('=')?;
        (key == wanted).then(|| parse_rate(rate)).flatten()
    };
    Ok(value.split_whitespace().find_map(of))
}

/// A window that begins with the first of a series and ends with its time: at most so many in it.
fn counted(host: &Host, key: &str, rate: Rate) -> Result<(bool, u64), HostError> {
    let window = Duration::from_secs(rate.seconds.into());
    let sum = host.kv().increment(key, 1, Some(window))?;
    if sum <= i64::from(rate.tokens) {
        return Ok((true, 0));
    }
    // What is refused does not count. The store does not say when the window ends.
    host.kv().increment(key, -1, Some(window))?;
    Ok((false, u64::from(rate.seconds) * 1000))
}

/// Keys of the host have at most 500 octets; what is longer counts with all that begins so.
fn bounded(mut key: String) -> String {
    let mut end = key.len().min(KEY_OCTETS);
    while !key.is_char_boundary(end) {
        end -= 1;
    }
    key.truncate(end);
    key
}

/// RFC 5321 §4.5.3.1: an address has at most 254 octets, so that all fit whose sender and recipient are short.
const KEY_OCTETS: usize = 480;

#[cfg(test)]
mod tests {
    use gatepost_plugin::Rate;

    use super::{Measure, own_rate};
    use crate::config::parse_rate;

    #[test]
    fn a_rate_is_a_number_in_a_time() {
        check("100/1h", Some((100, 3_600)));
        check(" 5 / 90s", Some((5, 90)));
        check("1/1d", Some((1, 86_400)));
        for text in ["0/1h", "5", "5/", "5/h", "5/0s", "-1/1h", "99999999999/1h", ""] {
            check(text, None);
        }

        fn check(text: &str, expected: Option<(u32, u32)>) {
            let rate = parse_rate(text).map(|rate| (rate.tokens, rate.seconds));
            assert_eq!(rate, expected, "{text}");
        }
    }

    #[test]
    fn a_table_has_rates_of_its_own() {
        check("messages=5/1h", Some(Some((5, 3_600))));
        check("recipients=5/1h messages=7/1m", Some(Some((7, 60))));
        check("recipients=5/1h", Some(None));
        check("", Some(None));
        check("Unlimited", None);

        fn check(value: &str, expected: Option<Option<(u32, u32)>>) {
            let own = own_rate(value, Measure::Messages).ok();
            let pair = |rate: Rate| (rate.tokens, rate.seconds);
            assert_eq!(own.map(|own| own.map(pair)), expected, "{value}");
        }
    }
}
