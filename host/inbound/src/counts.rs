//! What is counted against abuse as text, so that it can be kept over a restart: whoever has used up an hour gets no fresh
//! one by it. Who keeps the text is no matter of this room.
//!
//! A head line, then a line for each count: who, what is counted, a second of the day's clock, and numbers.
//!
//! ```text
//! gatepost counts 1
//! address 192.0.2.1 messages 1764000000 3 0
//! user 9ae16a3b2f90404f failures 1764000012 1.000
//! ```

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::house::{House, now};
use crate::who::Who;

/// The counts of a server: messages and recipients by the hour, and failed logins.
#[derive(Clone)]
pub struct Counts {
    pub(crate) house: Arc<House>,
}

impl Counts {
    /// The most octets of [`Counts::text`]: 200,000 lines.
    pub const MOST_OCTETS: u64 = 32 << 20;

    /// All that is counted; none if nothing was since it was asked last. It may take some milliseconds.
    pub fn text(&self) -> Option<String> {
        let House { door, logins, .. } = &*self.house;
        // Both are asked: each begins anew.
        let changed = [door.take_changed(), logins.take_changed()];
        if !changed.contains(&true) {
            return None;
        }
        let moment = Moment::now();
        let mut text = format!("{HEAD}\n");
        door.write(moment, &mut text);
        logins.write(moment, &mut text);
        Some(text)
    }

    /// Takes over what an earlier server wrote, before anything is counted. Tells how many lines it did not understand.
    pub fn restore(&self, text: &str) -> usize {
        let Some(lines) = text.strip_prefix(HEAD) else { return text.lines().count() };
        let moment = Moment::now();
        lines
            .lines()
            .filter(|line| !line.is_empty())
            .filter(|line| !self.take(line, moment))
            .count()
    }

    fn take(&self, line: &str, moment: Moment) -> bool {
        let mut words = line.split_ascii_whitespace();
        let mut next = || words.next().unwrap_or_default();
        let who = Who::parse(next(), next());
        let (Some(who), what, Ok(second)) = (who, next(), next().parse()) else { return false };
        let (since, numbers) = (moment.at(second), words.collect::<Vec<_>>());
        match (what, numbers.as_slice()) {
            ("failures", [count]) => self.house.logins.restore(who, since, count),
            (what, [now, before]) => self.house.door.restore(who, what, since, (now, before)),
            _ => false,
        }
    }
}

/// One moment by the clock that counts are kept by, and by that of the day, which alone outlives the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) instant: Instant,
    pub(crate) day: SystemTime,
}

impl Moment {
    fn now() -> Self {
        Self { instant: Instant::now(), day: now() }
    }

    /// An instant by the clock of the day, in seconds.
    pub(crate) fn second_of(self, instant: Instant) -> u64 {
        let passed = self.instant.saturating_duration_since(instant);
        let day = self.day.checked_sub(passed).unwrap_or(UNIX_EPOCH);
        day.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// The instant of a second of the day's clock. What that clock puts into the future is now: nobody gains by a clock
    /// that was set back.
    pub(crate) fn at(self, second: u64) -> Instant {
        let then = UNIX_EPOCH.checked_add(Duration::from_secs(second)).unwrap_or(self.day);
        let passed = self.day.duration_since(then).unwrap_or_default();
        self.instant.checked_sub(passed).unwrap_or(self.instant)
    }
}

/// Appends one line.
pub(crate) fn line(text: &mut String, who: Who, what: &str, second: u64, numbers: &str) {
    // A String takes everything.
    let _ = writeln!(text, "{who} {what} {second} {numbers}");
}

const HEAD: &str = "gatepost counts 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn moments_are_found_again_by_the_clock_of_the_day() {
        let day = UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        let moment = Moment { instant: Instant::now(), day };
        let before = moment.instant - Duration::from_mins(20);
        let second = moment.second_of(before);
        assert_eq!(second, 1_764_000_000 - 1200);
        assert_eq!(moment.at(second), before);
        // A later server, with a clock of its own.
        let later = Moment { instant: moment.instant, day: day + Duration::from_mins(5) };
        assert_eq!(later.at(second), moment.instant - Duration::from_mins(25));
        assert_eq!(later.at(u64::MAX), later.instant, "no clock has that");
        let back = Moment { instant: moment.instant, day: day - Duration::from_hours(2) };
        assert_eq!(back.at(second), back.instant, "the clock was set back");
    }
}
