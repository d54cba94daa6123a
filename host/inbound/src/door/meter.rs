//! Counts by the hour, for each address, each network and each user, and sessions of users.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::counts::{Moment, line};
use crate::who::Who;

/// What a server counts at its door.
#[derive(Debug, Default)]
pub(crate) struct Door {
    counts: Mutex<HashMap<Key, Count>>,
    sessions: Arc<Mutex<HashMap<Who, u32>>>,
    /// Whether anything was counted since that was asked last.
    changed: AtomicBool,
}

/// Who is counted, and for what.
pub(crate) type Key = (Who, What);

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
    sessions: Arc<Mutex<HashMap<Who, u32>>>,
    user: Who,
}

impl What {
    const ALL: [Self; 2] = [Self::Messages, Self::Recipients];

    fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Recipients => "recipients",
        }
    }
}

impl Door {
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
            self.changed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether anything was counted since this was asked last.
    pub(crate) fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }

    /// A line for each count that still counts.
    pub(crate) fn write(&self, moment: Moment, text: &mut String) {
        // Nobody waits at the door while numbers are put into words.
        let counts: Vec<(Key, Count)> =
            lock(&self.counts).iter().map(|(key, count)| (*key, *count)).collect();
        for ((who, what), count) in counts {
            let count = count.at(moment.instant);
            if count.sum(moment.instant) > 0.0 {
                let numbers = format!("{} {}", count.now, count.before);
                line(text, who, what.name(), moment.second_of(count.began), &numbers);
            }
        }
    }

    /// Takes back what [`Door::write`] wrote. False where it cannot be understood.
    pub(crate) fn restore(
        &self,
        who: Who,
        what: &str,
        began: Instant,
        (now, before): (&str, &str),
    ) -> bool {
        let what = What::ALL.into_iter().find(|one| one.name() == what);
        let (Some(what), Ok(now), Ok(before)) = (what, now.parse(), before.parse()) else {
            return false;
        };
        let mut counts = lock(&self.counts);
        if counts.len() < MOST_KEYS {
            counts.insert((who, what), Count { began, now, before });
        }
        true
    }

    /// One more session of a user, if there are fewer than `limit`.
    pub(crate) fn begin_session(&self, name: &str, limit: u32) -> Option<UserPermit> {
        let user = Who::user(name);
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const HOUR: Duration = Duration::from_hours(1);
/// About 10 MB.
const MOST_KEYS: usize = 100_000;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[tokio::test]
    async fn an_hour_has_only_so_many() {
        let door = Door::default();
        let start = Instant::now();
        let key = |address: &str| (Who::address(address.parse().unwrap()), What::Messages);
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
            let (address, network) = (Who::address(ip), Who::network(ip));
            [((address, What::Messages), 2), ((network, What::Messages), limit)]
        };
        assert_eq!(door.count(&keys(1, 3), now), Ok(()));
        assert_eq!(door.count(&keys(1, 3), now), Ok(()));
        assert_eq!(door.count(&keys(1, 3), now), Err(0), "the address");
        assert_eq!(door.count(&keys(2, 3), now), Ok(()), "the network has one left");
        assert_eq!(door.count(&keys(2, 3), now), Err(1), "the network");
        assert_eq!(door.count(&keys(3, 0), now), Ok(()), "no limit");
    }

    #[tokio::test]
    async fn what_was_counted_outlives_a_restart() {
        let key = (Who::address([192, 0, 2, 1].into()), What::Messages);
        let start = Moment {
            instant: Instant::now(),
            day: std::time::UNIX_EPOCH + Duration::from_secs(1_764_000_000),
        };
        let after = |minutes| Moment {
            instant: start.instant + Duration::from_mins(minutes),
            day: start.day + Duration::from_mins(minutes),
        };
        let first = Door::default();
        assert!(!first.take_changed());
        for minute in 0..4 {
            assert_eq!(first.count(&[(key, 4)], after(minute).instant), Ok(()));
        }
        assert!(first.take_changed() && !first.take_changed());
        let mut text = String::new();
        first.write(after(10), &mut text);
        assert_eq!(text, "address 192.0.2.1 messages 1764000000 4 0\n");
        let restored = |minute| {
            let second = Door::default();
            assert!(second.restore(key.0, "messages", after(minute).at(1_764_000_000), ("4", "0")));
            second.count(&[(key, 4)], after(minute).instant)
        };
        assert_eq!(restored(11), Err(0), "the hour goes on");
        assert_eq!(restored(61), Ok(()), "the first of them is over an hour ago");
        assert!(!Door::default().restore(key.0, "things", start.instant, ("4", "0")));
        assert!(!Door::default().restore(key.0, "messages", start.instant, ("4", "-1")));
        // What is over is not written.
        text.clear();
        first.write(after(180), &mut text);
        assert_eq!(text, "");
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
