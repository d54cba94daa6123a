//! Failed logins, counted for each address, each network and each user, so that nobody tries
//! passwords all day.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::counts::{Moment, line};
use crate::who::Who;

/// How many logins may fail in [`LoginLimits::period`] before further ones are refused unseen.
#[derive(Clone, Debug)]
pub struct LoginLimits {
    /// From one address (IPv6: one /64).
    pub per_address: u32,
    /// From one network: IPv4 /24, IPv6 /48.
    pub per_network: u32,
    /// For one user name, known or not, wherever they come from. Generous, because others can use
    /// it up to lock the user out.
    pub per_user: u32,
    /// A failure is forgotten after so long.
    pub period: Duration,
}

impl Default for LoginLimits {
    fn default() -> Self {
        Self { per_address: 10, per_network: 50, per_user: 30, period: Duration::from_mins(15) }
    }
}

/// The failures of a server.
#[derive(Debug)]
pub(crate) struct Throttle {
    limits: LoginLimits,
    failures: Mutex<HashMap<Who, Failures>>,
    /// Whether a login failed since that was asked last.
    changed: AtomicBool,
}

/// A count that sinks to nothing in one period.
#[derive(Clone, Copy, Debug)]
struct Failures {
    count: f64,
    seen: Instant,
}

impl Throttle {
    pub(crate) fn new(limits: LoginLimits) -> Self {
        Self { limits, failures: Mutex::default(), changed: AtomicBool::new(false) }
    }

    /// Whether a login is looked at.
    pub(crate) fn allows(&self, address: Option<IpAddr>, user: &str, now: Instant) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys(address, user).into_iter().all(|(key, limit)| {
            let count = failures.get(&key).map_or(0.0, |known| known.at(now, self.limits.period));
            count + 1.0 <= f64::from(limit)
        })
    }

    /// A login has failed.
    pub(crate) fn note_failure(&self, address: Option<IpAddr>, user: &str, now: Instant) {
        let period = self.limits.period;
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MOST_KEYS {
            failures.retain(|_, known| known.at(now, period) >= 1.0);
        }
        if failures.len() >= MOST_KEYS {
            // More attackers than we can remember: the new ones are those that are still about.
            failures.clear();
        }
        for (key, _) in self.keys(address, user) {
            let known = failures.entry(key).or_insert(Failures { count: 0.0, seen: now });
            *known = Failures { count: known.at(now, period) + 1.0, seen: now };
        }
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Whether a login failed since this was asked last.
    pub(crate) fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }

    /// A line for each whose failures are not forgotten.
    pub(crate) fn write(&self, moment: Moment, text: &mut String) {
        let failures: Vec<(Who, Failures)> = {
            let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.iter().map(|(who, known)| (*who, *known)).collect()
        };
        for (who, known) in failures {
            if known.at(moment.instant, self.limits.period) > 0.0 {
                let numbers = format!("{:.3}", known.count);
                line(text, who, "failures", moment.second_of(known.seen), &numbers);
            }
        }
    }

    /// Takes back what [`Throttle::write`] wrote. False where it cannot be understood.
    pub(crate) fn restore(&self, who: Who, seen: Instant, count: &str) -> bool {
        let Some(count) = count.parse().ok().filter(|count: &f64| count.is_finite()) else {
            return false;
        };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < MOST_KEYS {
            failures.insert(who, Failures { count, seen });
        }
        true
    }

    fn keys(&self, address: Option<IpAddr>, user: &str) -> Vec<(Who, u32)> {
        let mut keys = vec![(Who::user(user), self.limits.per_user)];
        if let Some(address) = address {
            keys.push((Who::address(address), self.limits.per_address));
            keys.push((Who::network(address), self.limits.per_network));
        }
        keys
    }
}

impl Failures {
    fn at(&self, now: Instant, period: Duration) -> f64 {
        let passed = now.saturating_duration_since(self.seen).as_secs_f64();
        let forgotten = self.count.max(1.0) * passed / period.as_secs_f64().max(1.0);
        (self.count - forgotten).max(0.0)
    }
}

/// About 10 MB.
const MOST_KEYS: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(throttle: &Throttle, count: u32, address: &str, user: &str, now: Instant) {
        for _ in 0..count {
            throttle.note_failure(address.parse().ok(), user, now);
        }
    }

    #[tokio::test]
    async fn failures_close_the_door_for_an_address_a_network_and_a_user() {
        let limits =
            LoginLimits { per_address: 3, per_network: 5, per_user: 7, ..LoginLimits::default() };
        let throttle = Throttle::new(limits);
        let now = Instant::now();
        let allows = |address: &str, user: &str| throttle.allows(address.parse().ok(), user, now);
        fail(&throttle, 3, "192.0.2.1", "bob", now);
        assert!(!allows("192.0.2.1", "alice"), "the address has used up its failures");
        assert!(allows("192.0.2.2", "bob"));
        fail(&throttle, 2, "192.0.2.2", "bob", now);
        assert!(!allows("192.0.2.3", "alice"), "the network has");
        assert!(allows("198.51.100.1", "bob"));
        fail(&throttle, 2, "198.51.100.1", "BOB", now);
        assert!(!allows("203.0.113.1", "bob"), "the user has");
        assert!(allows("203.0.113.1", "alice"));
        assert!(allows("", "alice"), "a Unix socket has no address");
        fail(&throttle, 3, "2001:db8::1", "x", now);
        assert!(!allows("2001:db8::2", "alice"), "one /64 is one host");
        assert!(allows("2001:db8:0:1::1", "alice"));
    }

    #[tokio::test]
    async fn failures_are_forgotten() {
        let throttle = Throttle::new(LoginLimits { per_address: 4, ..LoginLimits::default() });
        let now = Instant::now();
        fail(&throttle, 4, "192.0.2.1", "bob", now);
        let allows = |minutes| {
            throttle.allows("192.0.2.1".parse().ok(), "bob", now + Duration::from_mins(minutes))
        };
        assert!(!allows(0));
        assert!(!allows(3));
        assert!(allows(4));
        assert!(allows(15));
    }

    #[tokio::test]
    async fn failures_outlive_a_restart() {
        let limits = || LoginLimits { per_address: 4, ..LoginLimits::default() };
        let first = Throttle::new(limits());
        let day = std::time::UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        let moment = Moment { instant: Instant::now(), day };
        fail(&first, 4, "192.0.2.1", "bob", moment.instant);
        assert!(first.take_changed() && !first.take_changed());
        let mut text = String::new();
        first.write(moment, &mut text);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("address 192.0.2.1 failures 1764000000 4.000\n"), "{text}");
        let second = Throttle::new(limits());
        let who = Who::address([192, 0, 2, 1].into());
        assert!(second.restore(who, moment.at(1_764_000_000), "4.000"));
        assert!(!second.allows("192.0.2.1".parse().ok(), "eve", moment.instant));
        assert!(second.allows("192.0.2.2".parse().ok(), "eve", moment.instant));
        for count in ["", "x", "inf", "NaN"] {
            assert!(!second.restore(who, moment.instant, count), "{count}");
        }
    }
}
