//! Failed logins, counted for each address, each network and each user, so that nobody tries
//! passwords all day.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

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
    failures: Mutex<HashMap<Key, Failures>>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr),
    Network(IpAddr),
    /// Names are the client's choice and may be long: their hash does.
    User(u64),
}

/// A count that sinks to nothing in one period.
#[derive(Clone, Copy, Debug)]
struct Failures {
    count: f64,
    seen: Instant,
}

impl Throttle {
    pub(crate) fn new(limits: LoginLimits) -> Self {
        Self { limits, failures: Mutex::default(), hasher: RandomState::new() }
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
    }

    fn keys(&self, address: Option<IpAddr>, user: &str) -> Vec<(Key, u32)> {
        let user = self.hasher.hash_one(user.to_ascii_lowercase());
        let mut keys = vec![(Key::User(user), self.limits.per_user)];
        if let Some(address) = address {
            let [host, network] = match address.to_canonical() {
                IpAddr::V4(_) => [32, 24],
                IpAddr::V6(_) => [64, 48],
            };
            keys.push((Key::Address(prefix(address, host)), self.limits.per_address));
            keys.push((Key::Network(prefix(address, network)), self.limits.per_network));
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

fn prefix(address: IpAddr, length: u8) -> IpAddr {
    ipnet::IpNet::new(address.to_canonical(), length).map_or(address, |network| network.network())
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
}
