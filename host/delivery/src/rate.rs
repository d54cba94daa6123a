//! Messages per time: what the configuration allows towards one host.

use std::{fmt, str::FromStr, time::Duration};

use tokio::time::Instant;

/// So many messages in such a time: `100/1h`, `20/m`.
///
/// They are spread over the time; a tenth of them may go together, so that in any stretch of that
/// length there are at most 1.1 times as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    messages: u32,
    per: Duration,
}

/// A text that is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a number of messages and a time: \"100/1h\", \"20/m\", \"5/s\"")]
pub struct RateError;

impl Rate {
    /// `None` if there is no message or no time in it.
    #[must_use]
    pub fn new(messages: u32, per: Duration) -> Option<Self> {
        (messages > 0 && !per.is_zero()).then_some(Self { messages, per })
    }

    /// Time from one message to the next.
    fn interval(&self) -> Duration {
        self.per / self.messages
    }

    /// How far ahead of its time a message may go.
    fn tolerance(&self) -> Duration {
        self.interval() * (self.messages / BURST).saturating_sub(1)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}s", self.messages, self.per.as_secs_f64())
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (messages, per) = text.split_once('/').ok_or(RateError)?;
        let per = per.trim();
        let digits = per.find(|c: char| !c.is_ascii_digit()).ok_or(RateError)?;
        let (number, unit) = per.split_at(digits);
        let unit: u64 = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(RateError),
        };
        let number: u64 =
            if number.is_empty() { 1 } else { number.parse().map_err(|_| RateError)? };
        let messages = messages.trim().parse().map_err(|_| RateError)?;
        let seconds = number.checked_mul(unit).filter(|seconds| *seconds <= LONGEST);
        Self::new(messages, Duration::from_secs(seconds.ok_or(RateError)?)).ok_or(RateError)
    }
}

/// Counts the messages to one host: the generic cell rate algorithm (ITU-T I.371 §A), which needs
/// one moment of memory however large the rate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    /// When the next message would go if all went at even intervals.
    next: Option<Instant>,
    /// The last moment that was promised to somebody who had to come again.
    promised: Option<Instant>,
}

impl Meter {
    /// One message may go now, or is to come again after so long. Everybody who is sent away gets a
    /// moment of their own, so that a hundred thousand do not all come at the next one.
    pub(crate) fn take(&mut self, rate: &Rate, now: Instant) -> Result<(), Duration> {
        let interval = rate.interval();
        let next = self.next.map_or(now, |next| next.max(now));
        let earliest = next.checked_sub(rate.tolerance()).unwrap_or(next);
        if earliest <= now {
            self.next = Some(next + interval);
            return Ok(());
        }
        let promised = self.promised.map_or(earliest, |last| earliest.max(last + interval));
        let promised = promised.min(now + Duration::from_secs(LONGEST));
        self.promised = Some(promised);
        Err(promised - now)
    }
}

// A tenth at once: a conversation does not wait, and hosts that count by the minute see no peak.
const BURST: u32 = 10;
// Nobody counts in longer times than a day.
const LONGEST: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        fn check(text: &str, expected: Option<(u32, u64)>) {
            let expected =
                expected.map(|(messages, per)| Rate { messages, per: Duration::from_secs(per) });
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
        check("100/1h", Some((100, 3600)));
        check("100/h", Some((100, 3600)));
        check("5/s", Some((5, 1)));
        check("20 / 10m", Some((20, 600)));
        check("1/1d", Some((1, 86_400)));
        check("0/1h", None);
        check("1/0s", None);
        check("1/2d", None);
        check("-1/s", None);
        check("10", None);
        check("10/", None);
        check("10/5", None);
        check("/s", None);
        check("99999999999/s", None);
        check("1/99999999999999999999s", None);
    }

    /// Messages that are there from the start, at each of these seconds: which of them go?
    fn check(rate: &str, seconds: &[u64], expected: &[bool]) {
        let (rate, start) = (rate.parse().unwrap(), Instant::now());
        let mut meter = Meter::default();
        let found: Vec<bool> = seconds
            .iter()
            .map(|second| meter.take(&rate, start + Duration::from_secs(*second)).is_ok())
            .collect();
        assert_eq!(found, expected, "{rate} {seconds:?}");
    }

    #[test]
    fn messages_go_at_intervals_and_a_tenth_of_them_together() {
        check("6/m", &[0, 0, 9, 10, 11, 20], &[true, false, false, true, false, true]);
        check("6/m", &[0, 100, 101, 110], &[true, true, false, true]); // nothing is saved up
        check("60/m", &[0; 8], &[true, true, true, true, true, true, false, false]);
        check(
            "60/m",
            &[0, 0, 0, 0, 0, 0, 1, 1],
            &[true, true, true, true, true, true, true, false],
        );
    }

    #[test]
    fn who_has_to_wait_gets_a_moment_of_their_own() {
        let (rate, start) = ("6/m".parse().unwrap(), Instant::now());
        let mut meter = Meter::default();
        assert_eq!(meter.take(&rate, start), Ok(()));
        let waits: Vec<u64> =
            (0..5).map(|_| meter.take(&rate, start).unwrap_err().as_secs()).collect();
        assert_eq!(waits, [10, 20, 30, 40, 50]);
        for wait in waits {
            assert_eq!(meter.take(&rate, start + Duration::from_secs(wait)), Ok(()), "{wait}");
        }
    }

    #[test]
    fn no_rate_makes_the_arithmetic_fail() {
        for rate in ["4294967295/s", "1/d", "4294967295/d"] {
            let (rate, now) = (rate.parse().unwrap(), Instant::now());
            let mut meter = Meter::default();
            for _ in 0..1000 {
                let _ = meter.take(&rate, now);
            }
        }
    }
}
