//! Who is next: a pure function of state and time.
//!
//! Waiting messages stand in lanes; destinations (or domains, before the first attempt) take turns, and so do senders at
//! one destination; so do destinations when deliveries are handed out. A hundred thousand messages to a dead host, or of
//! one sender, therefore cost another message one turn (`simulation.rs` prints what). Times are milliseconds on a scale of
//! the caller's that never jumps.

mod lanes;
mod share;
#[cfg(test)]
mod simulation;
mod turns;
mod waiting;

use std::time::Duration;

use message::Id;

pub(crate) use lanes::{Lane, Lanes};
pub(crate) use turns::{Answer, Turns};

use crate::config::ScheduleConfig;

/// How long to wait after so many attempts. It grows from [`ScheduleConfig::first`] by [`ScheduleConfig::factor`] up to
/// [`ScheduleConfig::longest`]; the id shifts it by up to a tenth, so that what failed together does not come back
/// together.
pub fn interval(config: &ScheduleConfig, attempts: u32, id: Id) -> Duration {
    let exponent = i32::try_from(attempts.saturating_sub(1)).unwrap_or(i32::MAX);
    let longest = config.longest.max(config.first);
    let seconds = config.first.as_secs_f64() * config.factor.max(1.0).powi(exponent);
    let grown = seconds.min(longest.as_secs_f64());
    let shift = crc32c::crc32c_append(attempts, id.to_string().as_bytes());
    let jitter = f64::from(shift) / f64::from(u32::MAX) * 0.2 - 0.1;
    Duration::from_secs_f64(grown * (1.0 + jitter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(attempts: u32, minutes: f64) {
        let config = ScheduleConfig::default();
        for id in ["01HZZZZZZZ0000AB", "01HZZZZZZZ0000AC", "01HZZZZZZY0000AB"] {
            let found =
                interval(&config, attempts, id.parse().expect("an id")).as_secs_f64() / 60.0;
            assert!((found / minutes - 1.0).abs() <= 0.1001, "{attempts}: {found}, not {minutes}");
        }
    }

    #[test]
    fn intervals_grow_to_a_cap_and_are_within_a_tenth() {
        check(0, 5.0);
        check(1, 5.0);
        check(2, 7.5);
        check(3, 11.25);
        check(10, 5.0 * 1.5f64.powi(9));
        check(11, 240.0);
        check(1000, 240.0);
        check(u32::MAX, 240.0);
    }

    #[test]
    fn messages_of_one_moment_come_back_apart() {
        let config = ScheduleConfig::default();
        let times: std::collections::BTreeSet<_> =
            (0..100).map(|n| interval(&config, 1, Id::new(std::time::UNIX_EPOCH, n))).collect();
        assert!(times.len() > 90, "{} different of 100", times.len());
    }
}
