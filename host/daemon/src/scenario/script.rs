//! The world of a scenario: its clock, its randomness, its store and its services, in the place of the live ones.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use policy::Clock;
use policy::seam::{Answer, Asker, Fault, Question, Seam};
use tracing::debug;

use super::compare::matches;
use super::{Given, HttpRule, Kept};

/// The world. Time stands still but for [`advance`](Self::advance).
pub(crate) struct Script {
    given: Given,
    begin: SystemTime,
    /// Whether what no rule answers goes to the live services: HTTP for `simulate`, never for a test.
    is_live: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    passed: Duration,
    /// By plugin and key.
    kv: BTreeMap<(String, String), Stored>,
    /// Plugins whose store has what the scenario gives it.
    filled: Vec<String>,
    /// When each bucket will be full.
    buckets: HashMap<(String, String), Duration>,
    random: u64,
    asked: Vec<String>,
}

struct Stored {
    value: Vec<u8>,
    /// Time passed since the beginning.
    until: Option<Duration>,
}

impl Script {
    pub(crate) fn new(given: Given, begin: SystemTime, is_live: bool) -> Arc<Self> {
        Arc::new(Self { given, begin, is_live, state: Mutex::default() })
    }

    /// A new world.
    pub(crate) fn begin_anew(&self) {
        *self.state() = State::default();
    }

    pub(crate) fn advance(&self, time: Duration) {
        self.state().passed += time;
    }

    /// What was asked of DNS and HTTP since the last time.
    pub(crate) fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state().asked)
    }

    /// What a plugin's store holds now.
    pub(crate) fn store(&self, plugin: &str) -> BTreeMap<String, Vec<u8>> {
        let mut state = self.state();
        self.fill(&mut state, plugin);
        let now = state.passed;
        let of_plugin = state.kv.iter().filter(|((owner, _), _)| owner == plugin);
        of_plugin
            .filter(|(_, stored)| stored.until.is_none_or(|until| now < until))
            .map(|((_, key), stored)| (key.clone(), stored.value.clone()))
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, state: &mut State, plugin: &str) {
        if state.filled.iter().any(|filled| filled == plugin) {
            return;
        }
        state.filled.push(plugin.to_owned());
        for (key, Kept { value, ttl }) in &self.given.kv {
            let stored = Stored { value: value.clone(), until: *ttl };
            state.kv.insert((plugin.to_owned(), key.clone()), stored);
        }
    }

    /// What the script itself answers; the rest is for the live side.
    fn answer(&self, asker: &Asker, question: &Question) -> Option<Result<Answer, Fault>> {
        let plugin = asker.plugin();
        let mut state = self.state();
        Some(match question {
            Question::Now => {
                let since = self.begin + state.passed;
                let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                Ok(Answer::Time {
                    seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                    nanoseconds: since.subsec_nanos(),
                })
            }
            Question::Monotonic => Ok(Answer::Nanoseconds(
                u64::try_from((LONG_AGO + state.passed).as_nanos()).unwrap_or(u64::MAX),
            )),
            Question::Random { octets } => {
                let octets = (0..*octets).map(|_| state.octet());
                Ok(Answer::Octets(octets.collect()))
            }
            Question::Take { key, tokens, capacity, seconds } => {
                state.take(plugin, key, *tokens, (*capacity, *seconds))
            }
            Question::Http { method, url, headers, body, .. } => {
                state.asked.push(format!("{method} {url}"));
                let rule = self.given.http.iter().find(|rule| {
                    fits(rule, (method.as_str(), url.as_str()), headers, &whole(asker, body))
                });
                match rule {
                    Some(rule) => rule.answer.clone().map(|response| Answer::Response {
                        status: response.status,
                        headers: response.headers,
                        body: response.body,
                    }),
                    None if self.is_live => return None,
                    None => Err(Fault::Unavailable(format!(
                        "the scenario has no [[http]] for {method} {url}"
                    ))),
                }
            }
            Question::Dns { name, kind } => {
                state.asked.push(format!("{kind} {name}"));
                return None;
            }
            Question::Names { address } => {
                state.asked.push(format!("PTR {address}"));
                return None;
            }
            Question::Lookup { .. } => return None,
            Question::KvGet { .. }
            | Question::KvKeys { .. }
            | Question::KvSet { .. }
            | Question::KvDelete { .. }
            | Question::KvIncrement { .. }
            | Question::KvCompareAndSet { .. } => {
                self.fill(&mut state, plugin);
                state.kept(plugin, question)
            }
        })
    }
}

impl State {
    /// Steps of splitmix64: the same octets in each run.
    fn octet(&mut self) -> u8 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed.to_le_bytes()[3]
    }

    /// As the buckets of the host.
    fn take(
        &mut self,
        plugin: &str,
        key: &str,
        tokens: u32,
        (capacity, seconds): (u32, u32),
    ) -> Result<Answer, Fault> {
        if capacity == 0 || seconds == 0 || tokens > capacity {
            return Err(Fault::Invalid(format!(
                "{tokens} tokens from a bucket of {capacity} in {seconds} s: never"
            )));
        }
        let now = LONG_AGO + self.passed;
        let whole = Duration::from_secs(seconds.into());
        let place = (plugin.to_owned(), key.to_owned());
        let full_at = self.buckets.get(&place).copied().unwrap_or(now).max(now);
        let wanted = full_at + whole * tokens / capacity;
        let allowed = wanted <= now + whole;
        let full_at = if allowed { wanted } else { full_at };
        self.buckets.insert(place, full_at);
        let missing =
            ((full_at - now).as_nanos() * u128::from(capacity)).div_ceil(whole.as_nanos());
        let wait = if allowed { Duration::ZERO } else { wanted - (now + whole) };
        Ok(Answer::Taken {
            allowed,
            remaining: capacity.saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX)),
            wait: u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX),
        })
    }

    fn get(&self, plugin: &str, key: &str) -> Option<&Stored> {
        let stored = self.kv.get(&(plugin.to_owned(), key.to_owned()))?;
        stored.until.is_none_or(|until| self.passed < until).then_some(stored)
    }

    fn set(&mut self, plugin: &str, key: &str, value: Vec<u8>, until: Option<Duration>) {
        self.kv.insert((plugin.to_owned(), key.to_owned()), Stored { value, until });
    }

    /// The store, as the host has it.
    fn kept(&mut self, plugin: &str, question: &Question) -> Result<Answer, Fault> {
        let until =
            |ttl: &Option<u32>| ttl.map(|ttl| self.passed + Duration::from_secs(ttl.into()));
        Ok(match question {
            Question::KvGet { key } => {
                Answer::Value(self.get(plugin, key).map(|stored| stored.value.clone()))
            }
            Question::KvSet { key, value, ttl } => {
                let until = until(ttl);
                self.set(plugin, key, value.clone(), until);
                Answer::Flag(true)
            }
            Question::KvDelete { key } => {
                let was = self.get(plugin, key).is_some();
                self.kv.remove(&(plugin.to_owned(), key.clone()));
                Answer::Flag(was)
            }
            Question::KvIncrement { key, delta, ttl } => {
                let (before, until) = match self.get(plugin, key) {
                    // It keeps the time to live that it began with.
                    Some(stored) => (number(&stored.value)?, stored.until),
                    None => (0, until(ttl)),
                };
                let sum = before
                    .checked_add(*delta)
                    .ok_or_else(|| Fault::Invalid("the sum is out of range".into()))?;
                self.set(plugin, key, sum.to_string().into_bytes(), until);
                Answer::Sum(sum)
            }
            Question::KvCompareAndSet { key, expected, value, ttl } => {
                let present = self.get(plugin, key).map(|stored| &stored.value);
                let same = present == expected.as_ref();
                if same {
                    let until = until(ttl);
                    self.set(plugin, key, value.clone(), until);
                }
                Answer::Flag(same)
            }
            Question::KvKeys { prefix, after } => {
                let mine = self.kv.keys().filter(|(owner, _)| owner == plugin).map(|(_, key)| key);
                let keys = mine
                    .filter(|key| key.starts_with(prefix.as_str()))
                    .filter(|key| after.as_ref().is_none_or(|after| *key > after))
                    .filter(|key| self.get(plugin, key).is_some());
                Answer::Names(keys.take(MOST_KEYS).cloned().collect())
            }
            other => return Err(Fault::Other(format!("the store is not asked this: {other:?}"))),
        })
    }
}

fn number(value: &[u8]) -> Result<i64, Fault> {
    let text = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    text.ok_or_else(|| Fault::Invalid("the value is no number".into()))
}

/// The body of a request, with the content behind it that goes along.
fn whole(asker: &Asker, body: &[u8]) -> String {
    let mut octets = body.to_vec();
    if let Some(content) = asker.content() {
        match content.octets.read(0, MOST_CONTENT) {
            Ok(piece) => octets.extend(piece),
            Err(error) => debug!("the content of a request can't be read: {error}"),
        }
    }
    String::from_utf8_lossy(&octets).into_owned()
}

fn fits(rule: &HttpRule, asked: (&str, &str), headers: &[(String, String)], body: &str) -> bool {
    let (method, url) = asked;
    rule.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
        && matches(&rule.url, url)
        && rule.body.as_ref().is_none_or(|wanted| matches(wanted, body))
        && rule.header.iter().all(|(name, wanted)| {
            let same = |(other, value): &&(String, String)| {
                other.eq_ignore_ascii_case(name) && matches(wanted, value)
            };
            headers.iter().find(same).is_some()
        })
}

/// The clock of the host: the time of day is the scenario's; what passes while a call runs is real, so that it can be measured.
impl Clock for Script {
    fn now(&self) -> SystemTime {
        self.begin + self.state().passed
    }

    fn monotonic(&self) -> Duration {
        policy::SystemClock.monotonic() + self.state().passed
    }
}

/// The script before the live services.
pub(crate) struct Scripted {
    pub(crate) script: Arc<Script>,
    pub(crate) live: Arc<dyn Seam>,
}

impl Seam for Scripted {
    fn at_once(&self, asker: &Asker, question: Question) -> Result<Answer, Fault> {
        match self.script.answer(asker, &question) {
            Some(answer) => answer,
            None => self.live.at_once(asker, question),
        }
    }

    fn later<'a>(
        &'a self,
        asker: &'a Asker,
        question: Question,
    ) -> BoxFuture<'a, Result<Answer, Fault>> {
        match self.script.answer(asker, &question) {
            Some(answer) => Box::pin(async { answer }),
            None => self.live.later(asker, question),
        }
    }
}

/// The monotonic clock has run for a while already: a plugin that subtracts from it is not to go below zero.
const LONG_AGO: Duration = Duration::from_secs(1_000_000);
/// `kv.keys` gives 1,000 at most.
const MOST_KEYS: usize = 1000;
/// Of a message, for patterns.
const MOST_CONTENT: usize = 16 << 20;
