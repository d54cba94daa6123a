//! Token buckets of the plugins, in memory. A bucket is one point in time, the one at which it will be full: what is missing
//! flows in by itself, and a full one need not be kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::seam::{Answer, Fault};

/// The buckets of all plugins.
#[derive(Default)]
pub(crate) struct Buckets(Mutex<HashMap<Arc<str>, HashMap<Box<str>, Duration>>>);

impl Buckets {
    /// Takes tokens out of one bucket, all or none. `rate` is what it holds, and the seconds in which so much flows in.
    pub(crate) fn take(
        &self,
        plugin: &Arc<str>,
        key: String,
        tokens: u32,
        rate: (u32, u32),
        now: Duration,
    ) -> Result<Answer, Fault> {
        let (capacity, seconds) = rate;
        if capacity == 0 || seconds == 0 || tokens > capacity {
            return Err(Fault::Invalid(format!(
                "{tokens} tokens from a bucket of {capacity} in {seconds} s: never"
            )));
        }
        if key.is_empty() || key.len() > MAX_KEY_OCTETS {
            return Err(Fault::Invalid(format!("a key has 1 to {MAX_KEY_OCTETS} octets")));
        }
        let mut plugins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = plugins.entry(plugin.clone()).or_default();
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(key.as_str()) {
            buckets.retain(|_, full_at| *full_at > now);
            if buckets.len() >= MAX_BUCKETS {
                return Err(Fault::Quota(format!("{MAX_BUCKETS} buckets that are not full")));
            }
        }
        let whole = Duration::from_secs(seconds.into());
        let full_at = buckets.get(key.as_str()).copied().unwrap_or(now).max(now);
        let wanted = full_at + whole * tokens / capacity;
        // What is missing may be at most a whole bucket.
        let allowed = wanted <= now + whole;
        let full_at = if allowed { wanted } else { full_at };
        if allowed && tokens > 0 {
            buckets.insert(key.into(), full_at);
        }
        let missing = (full_at - now).as_nanos() * u128::from(capacity);
        let missing = missing.div_ceil(whole.as_nanos());
        let wait = if allowed { Duration::ZERO } else { wanted - (now + whole) };
        Ok(Answer::Taken {
            allowed,
            remaining: capacity.saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX)),
            wait: u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX),
        })
    }
}

const MAX_KEY_OCTETS: usize = 500;
/// Of one plugin: a bucket for each address of a busy day. Some 10 MB.
const MAX_BUCKETS: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        buckets: &Buckets,
        at_millis: u64,
        tokens: u32,
        rate: (u32, u32),
        expected: (bool, u32, u64),
    ) {
        let now = Duration::from_secs(1000) + Duration::from_millis(at_millis);
        let answer = buckets.take(&"p".into(), "key".into(), tokens, rate, now).unwrap();
        let (allowed, remaining, wait) = expected;
        assert_eq!(answer, Answer::Taken { allowed, remaining, wait }, "at {at_millis} ms");
    }

    #[test]
    fn a_bucket_begins_full_and_fills_again() {
        let (buckets, rate) = (Buckets::default(), (3, 60));
        check(&buckets, 0, 1, rate, (true, 2, 0));
        check(&buckets, 0, 2, rate, (true, 0, 0));
        check(&buckets, 0, 1, rate, (false, 0, 20_000));
        check(&buckets, 19_999, 1, rate, (false, 0, 1));
        check(&buckets, 20_000, 1, rate, (true, 0, 0));
        check(&buckets, 80_000, 0, rate, (true, 3, 0));
        check(&buckets, 1_000_000, 3, rate, (true, 0, 0));
    }

    #[test]
    fn what_can_never_be_is_told() {
        let buckets = Buckets::default();
        let take = |key: &str, tokens, rate| {
            buckets.take(&"p".into(), key.into(), tokens, rate, Duration::ZERO)
        };
        for (key, tokens, rate) in
            [("k", 1, (0, 1)), ("k", 1, (1, 0)), ("k", 2, (1, 1)), ("", 1, (1, 1))]
        {
            assert!(matches!(take(key, tokens, rate), Err(Fault::Invalid(_))), "{key} {rate:?}");
        }
        take("k", u32::MAX, (u32::MAX, u32::MAX)).unwrap();
    }

    #[test]
    fn plugins_do_not_share_buckets_and_full_ones_are_forgotten() {
        let buckets = Buckets::default();
        let take = |plugin: &str, key: String, now| {
            buckets.take(&plugin.into(), key, 1, (1, 10), Duration::from_secs(now))
        };
        for n in 0..MAX_BUCKETS {
            take("p", n.to_string(), 0).unwrap();
        }
        assert!(matches!(take("p", "more".into(), 1), Err(Fault::Quota(_))));
        assert!(matches!(take("q", "0".into(), 1), Ok(Answer::Taken { allowed: true, .. })));
        take("p", "more".into(), 11).unwrap();
    }
}
