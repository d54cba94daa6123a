//! Counts by the hour, for each address, each network and each user, and sessions of users.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What a server counts at its door.
#[derive(Debug, Default)]
pub(crate) struct Door {
    counts: Mutex<HashMap<Key, Count>>,
    sessions: Arc<Mutex<HashMap<u64, u32>>>,
    hasher: RandomState,
}

/// Who is counted, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// An IPv4 address, an IPv6 /64.
    Address(IpAddr, What),
    /// An IPv4 /24, an IPv6 /48.
    Network(IpAddr, What),
    /// Names are of any length: their hash does.
    User(u64, What),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Messages,
    Recipients,
}

/// Two hours: the one that runs, and the one before it.
#[derive(Clone, Copy, Debug)]
struct Count {
    began: Instant,
    now: u32,
    before: u32,
}

/// The right of a user to one more session; it is given back by dropping it.
#[derive(Debug)]
#[must_use = "a dropped permit is given back at once"]
pub(crate) struct UserPermit {
    sessions: Arc<Mutex<HashMap<u64, u32>>>,
    user: u64,
}

impl Key {
    pub(crate) fn address(ip: IpAddr, what: What) -> Self {
        Self::Address(prefix(ip, 32, 64), what)
    }

    pub(crate) fn network(ip: IpAddr, what: What) -> Self {
        Self::Network(prefix(ip, 24, 48), what)
    }
}

impl Door {
    pub(crate) fn user(&self, name: &str, what: What) -> Key {
        Key::User(self.hasher.hash_one(name.to_ascii_lowercase()), what)
    }

    /// Counts one more for each key, or for none if one of them has reached its limit: then its place is the error. A
    /// limit of 0 is none.
    pub(crate) fn count(&self, keys: &[(Key, u32)], now: Instant) -> Result<(), usize> {
        let mut counts = lock(&self.counts);
        let full = keys.iter().position(|(key, limit)| {
            *limit != 0
                && counts.get(key).is_some_and(|count| count.at(now).sum(now) >= f64::from(*limit))
        });
        if let Some(place) = full {
            return Err(place);
        }
        if counts.len() >= MOST_KEYS {
            counts.retain(|_, count| count.at(now).sum(now) >= 1.0);
        }
        if counts.len() >= MOST_KEYS {
            // More clients than we can remember: those that are still about come back.
            counts.clear();
        }
        for (key, _) in keys.iter().filter(|(_, limit)| *limit != 0) {
            let count = counts.entry(*key).or_insert(Count { began: now, now: 0, before: 0 });
            *count = count.at(now);
            count.now = count.now.saturating_add(1);
        }
        Ok(())
    }

    /// One more session of a user, if there are fewer than `limit`.
    pub(crate) fn begin_session(&self, name: &str, limit: u32) -> Option<UserPermit> {
        let user = self.hasher.hash_one(name.to_ascii_lowercase());
        let mut sessions = lock(&self.sessions);
        let count = sessions.entry(user).or_default();
        if limit != 0 && *count >= limit {
            return None;
        }
        *count += 1;
        Some(UserPermit { sessions: Arc::clone(&self.sessions), user })
    }
}

impl Drop for UserPermit {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = lock(&self.sessions).entry(self.user) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Count {
    /// The same, seen from a later time.
    fn at(self, now: Instant) -> Self {
        let passed = now.saturating_duration_since(self.began);
        if passed < HOUR {
            self
        } else if passed < 2 * HOUR {
            Self { began: self.began + HOUR, now: 0, before: self.now }
        } else {
            Self { began: now, now: 0, before: 0 }
        }
    }

    /// In the last hour, if those of the hour before came evenly.
    fn sum(self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.began).as_secs_f64();
        let left = (1.0 - passed / HOUR.as_secs_f64()).max(0.0);
        f64::from(self.now) + f64::from(self.before) * left
    }
}

fn prefix(ip: IpAddr, four: u8, six: u8) -> IpAddr {
    let ip = ip.to_canonical();
    let length = if ip.is_ipv4() { four } else { six };
    ipnet::IpNet::new(ip, length).map_or(ip, |network| network.network())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const HOUR: Duration = Duration::from_hours(1);
/// About 10 MB.
const MOST_KEYS: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_hour_has_only_so_many() {
        let door = Door::default();
        let start = Instant::now();
        let key = |address: &str| Key::address(address.parse().unwrap(), What::Messages);
        let count = |address: &str, minutes: u64| {
            door.count(&[(key(address), 4)], start + Duration::from_mins(minutes))
        };
        for minute in 0..4 {
            assert_eq!(count("192.0.2.1", minute), Ok(()));
        }
        assert_eq!(count("192.0.2.1", 4), Err(0));
        assert_eq!(count("192.0.2.2", 4), Ok(()), "another address");
        assert_eq!(count("192.0.2.1", 59), Err(0));
        assert_eq!(count("192.0.2.1", 61), Ok(()), "the first of them is over an hour ago");
        assert_eq!(count("192.0.2.1", 62), Err(0), "and the others are not");
        for minute in 181..185 {
            assert_eq!(count("192.0.2.1", minute), Ok(()), "all is forgotten");
        }
    }

    #[tokio::test]
    async fn what_one_key_refuses_counts_for_no_other() {
        let door = Door::default();
        let now = Instant::now();
        let keys = |last: u8, limit: u32| {
            let ip = IpAddr::from([192, 0, 2, last]);
            [(Key::address(ip, What::Messages), 2), (Key::network(ip, What::Messages), limit)]
        };
        assert_eq!(door.count(&keys(1, 3), now), Ok(()));
        assert_eq!(door.count(&keys(1, 3), now), Ok(()));
        assert_eq!(door.count(&keys(1, 3), now), Err(0), "the address");
        assert_eq!(door.count(&keys(2, 3), now), Ok(()), "the network has one left");
        assert_eq!(door.count(&keys(2, 3), now), Err(1), "the network");
        assert_eq!(door.count(&keys(3, 0), now), Ok(()), "no limit");
        let six = |text: &str| Key::address(text.parse().unwrap(), What::Recipients);
        assert_eq!(six("2001:db8::1"), six("2001:db8::2"), "one /64 is one host");
        assert_eq!(six("::ffff:192.0.2.1"), six("192.0.2.1"));
    }

    #[test]
    fn a_user_has_only_so_many_sessions() {
        let door = Door::default();
        let first = door.begin_session("alice", 2);
        let second = door.begin_session("ALICE", 2);
        assert!(first.is_some() && second.is_some());
        assert!(door.begin_session("alice", 2).is_none());
        assert!(door.begin_session("bob", 2).is_some());
        drop(first);
        assert!(door.begin_session("alice", 2).is_some());
        assert!(door.begin_session("alice", 0).is_some(), "no limit");
    }
}
