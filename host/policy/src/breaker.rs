//! The circuit breaker of a plugin: one that keeps failing is not asked any more, so that it costs nobody time, until a
//! probe goes well or another version takes its place.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::BreakerConfig;

/// Counts the failures of one plugin over all sessions. As long as nothing fails, a call costs it one read.
pub(crate) struct Breaker {
    config: BreakerConfig,
    /// Closed, and no failure in the present window.
    quiet: AtomicBool,
    state: Mutex<State>,
}

struct State {
    circuit: Circuit,
    /// How often it opened.
    trips: u64,
    last_failure: Option<String>,
}

#[derive(Clone, Copy)]
enum Circuit {
    /// Calls and failures since the first failure of the window.
    Closed { began: Duration, calls: u32, failures: u32 },
    /// From `probe_at` on, one call at a time is let through. So many have gone well.
    Open { pause: Duration, probe_at: Duration, passed: u32 },
}

/// What is to be done with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Ask,
    /// Ask, and learn from the answer whether the plugin works again.
    Probe,
    Refuse,
}

/// What a call changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Opened,
    Closed,
}

/// The state of a circuit breaker, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerState {
    /// The plugin is not asked, but for probes.
    pub open: bool,
    /// How often it opened since the plugin was loaded.
    pub trips: u64,
    /// Why the last call failed that did.
    pub last_failure: Option<String>,
}

impl Breaker {
    pub(crate) fn new(config: BreakerConfig) -> Self {
        let circuit = Circuit::Closed { began: Duration::ZERO, calls: 0, failures: 0 };
        let state = State { circuit, trips: 0, last_failure: None };
        Self { config, quiet: AtomicBool::new(true), state: Mutex::new(state) }
    }

    /// Asked before a call. `now` is the time of the host's monotonic clock, as in all that follows.
    pub(crate) fn admit(&self, now: Duration) -> Admission {
        if self.quiet.load(Ordering::Relaxed) {
            return Admission::Ask;
        }
        match &mut self.state().circuit {
            Circuit::Closed { .. } => Admission::Ask,
            Circuit::Open { probe_at, pause, .. } if now >= *probe_at => {
                // A probe that never comes back must not be the last.
                *probe_at = now + *pause;
                Admission::Probe
            }
            Circuit::Open { .. } => Admission::Refuse,
        }
    }

    /// A call was answered.
    pub(crate) fn succeeded(&self, now: Duration, admission: Admission) -> Change {
        if self.quiet.load(Ordering::Relaxed) {
            return Change::None;
        }
        let mut state = self.state();
        match &mut state.circuit {
            Circuit::Closed { began, calls, .. } => {
                *calls = calls.saturating_add(1);
                if now.saturating_sub(*began) > self.config.window {
                    self.quiet.store(true, Ordering::Relaxed);
                }
                Change::None
            }
            Circuit::Open { probe_at, passed, .. } if admission == Admission::Probe => {
                (*probe_at, *passed) = (now, *passed + 1);
                if *passed < PROBES {
                    return Change::None;
                }
                state.circuit = Circuit::Closed { began: now, calls: 0, failures: 0 };
                self.quiet.store(true, Ordering::Relaxed);
                Change::Closed
            }
            // It was asked before the others failed.
            Circuit::Open { .. } => Change::None,
        }
    }

    /// A call failed, and it was the plugin's own fault.
    pub(crate) fn failed(&self, now: Duration, admission: Admission, why: &str) -> Change {
        let BreakerConfig { failures: limit, window, share, pause, .. } = self.config;
        let mut state = self.state();
        state.last_failure = Some(why.to_owned());
        if limit == 0 {
            return Change::None;
        }
        match &mut state.circuit {
            Circuit::Closed { began, calls, failures } => {
                if *failures == 0 || now.saturating_sub(*began) > window {
                    (*began, *calls, *failures) = (now, 0, 0);
                    self.quiet.store(false, Ordering::Relaxed);
                }
                (*calls, *failures) = (calls.saturating_add(1), *failures + 1);
                if *failures < limit
                    || u64::from(*failures) * 100 < u64::from(*calls) * u64::from(share)
                {
                    return Change::None;
                }
                state.circuit = Circuit::Open { pause, probe_at: now + pause, passed: 0 };
                state.trips += 1;
                Change::Opened
            }
            Circuit::Open { pause: present, probe_at, passed } => {
                if admission == Admission::Probe {
                    *present = (*present * 2).min(pause * LONGEST_PAUSE);
                    (*probe_at, *passed) = (now + *present, 0);
                }
                Change::None
            }
        }
    }

    pub(crate) fn config(&self) -> &BreakerConfig {
        &self.config
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.quiet.load(Ordering::Relaxed) && matches!(self.state().circuit, Circuit::Open { .. })
    }

    /// For people.
    pub(crate) fn describe(&self) -> BreakerState {
        let state = self.state();
        BreakerState {
            open: matches!(state.circuit, Circuit::Open { .. }),
            trips: state.trips,
            last_failure: state.last_failure.clone(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// So many probes in a row must go well: one may have been a question that the plugin had no trouble with.
const PROBES: u32 = 3;
/// Each probe that fails doubles the pause before the next, up to so many times the first.
const LONGEST_PAUSE: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(BreakerConfig {
            failures: 3,
            window: Duration::from_secs(10),
            share: 50,
            pause: Duration::from_secs(30),
            ..BreakerConfig::default()
        })
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// One call at a time: `+` is answered, `-` fails; what became of each is a letter of the expected text.
    #[track_caller]
    fn check(breaker: &Breaker, now: u64, calls: &str, expected: &str) {
        let found: String = calls
            .chars()
            .map(|outcome| {
                let admission = breaker.admit(at(now));
                if admission == Admission::Refuse {
                    return 'r';
                }
                let change = match outcome {
                    '+' => breaker.succeeded(at(now), admission),
                    _ => breaker.failed(at(now), admission, "trap"),
                };
                match (change, admission) {
                    (Change::Opened, _) => 'O',
                    (Change::Closed, _) => 'C',
                    (Change::None, Admission::Probe) => 'p',
                    (Change::None, _) => '.',
                }
            })
            .collect();
        assert_eq!(found, expected, "{calls} at {now}");
    }

    #[test]
    fn it_opens_when_most_calls_fail() {
        check(&breaker(), 0, "---+", "..Or");
        check(&breaker(), 0, "-+-+-", "....O");
        // Ninety-nine of a hundred go well: somebody sent something odd.
        check(&breaker(), 0, "-+++-+++-+++-+++", "................");
    }

    #[test]
    fn failures_that_lie_far_apart_do_not_count_together() {
        let breaker = breaker();
        for now in [0, 11, 22, 33, 44] {
            check(&breaker, now, "--+", "...");
        }
        assert_eq!(breaker.describe().trips, 0);
    }

    #[test]
    fn probes_close_it_again() {
        let breaker = breaker();
        check(&breaker, 0, "---", "..O");
        check(&breaker, 29, "++", "rr");
        check(&breaker, 30, "+++++", "ppC..");
        assert!(!breaker.is_open());
        assert_eq!(breaker.describe().trips, 1);
    }

    #[test]
    fn a_probe_that_fails_makes_the_pause_longer() {
        let breaker = breaker();
        check(&breaker, 0, "---", "..O");
        check(&breaker, 30, "-++", "prr");
        check(&breaker, 89, "+", "r");
        check(&breaker, 90, "+-+", "ppr");
        check(&breaker, 209, "+", "r");
        check(&breaker, 210, "+++", "ppC");
    }

    #[test]
    fn one_probe_at_a_time_and_one_that_is_lost_is_not_the_last() {
        let breaker = breaker();
        check(&breaker, 0, "---", "..O");
        assert_eq!(breaker.admit(at(30)), Admission::Probe);
        assert_eq!(breaker.admit(at(31)), Admission::Refuse);
        assert_eq!(breaker.admit(at(60)), Admission::Probe);
    }

    #[test]
    fn a_limit_of_none_switches_it_off() {
        let off = Breaker::new(BreakerConfig { failures: 0, ..BreakerConfig::default() });
        check(&off, 0, "----------", "..........");
        assert_eq!(off.describe().last_failure.as_deref(), Some("trap"));
    }
}
