//! A host in memory, to test a plugin with `cargo test`: no server, no WebAssembly, no clock.
//!
//! ```
//! use gatepost_plugin::test::{Session, Transaction, World};
//! use gatepost_plugin::{Decision, Error, Host, MailVerdict, Plugin, Reply};
//! use serde_json::json;
//!
//! /// Takes so many messages from one address per hour.
//! struct Slow {
//!     per_hour: i64,
//! }
//!
//! impl Plugin for Slow {
//!     fn configure(host: &Host) -> Result<Self, Error> {
//!         let per_hour = host.config_value("per-hour").and_then(|text| text.parse().ok());
//!         Ok(Self { per_hour: per_hour.ok_or("`per-hour` is missing")? })
//!     }
//!
//!     fn mail(&self, host: &Host, session: &Session, _: &Transaction) -> Result<Decision<MailVerdict>, Error> {
//!         let hour = std::time::Duration::from_secs(3600);
//!         let count = host.kv().increment(&session.info().client.ip, 1, Some(hour))?;
//!         if count <= self.per_hour {
//!             return Ok(Decision::next());
//!         }
//!         Ok(Decision::defer(Reply::new(450, "4.7.1", "Too much mail")).because(format!("{count} within an hour")))
//!     }
//! }
//!
//! let world = World::new().config(json!({ "per-hour": 1 }));
//! let host = world.host();
//! let plugin = Slow::configure(&host)?;
//! let (session, transaction) = (Session::from("192.0.2.1"), Transaction::from("bob@example.net"));
//! assert_eq!(plugin.mail(&host, &session, &transaction)?, Decision::next());
//! assert_eq!(plugin.mail(&host, &session, &transaction)?.reason(), Some("2 within an hour"));
//! world.advance(std::time::Duration::from_secs(3601));
//! assert_eq!(plugin.mail(&host, &session, &transaction)?, Decision::next());
//! # Ok::<(), Error>(())
//! ```

mod message;
mod readme;
mod services;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;

pub use self::message::{Content, Session, Transaction};
pub use self::readme::readme_examples;
use crate::wit::imports::gatepost::policy::dns::Query;
use crate::{Answer, Host, HostError, Kind, Level, Mail, Request, Response};

/// Everything that a host would know, and what the plugin did to it. Clones share one state.
#[derive(Clone, Default)]
pub struct World(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    config: Option<Value>,
    now: u64,
    kv: BTreeMap<String, Stored>,
    tables: BTreeMap<String, BTreeMap<String, String>>,
    answers: BTreeMap<(String, &'static str), Result<Answer, HostError>>,
    asked: Vec<String>,
    logged: Vec<String>,
    denied: BTreeSet<String>,
    randoms: u64,
    buckets: BTreeMap<String, Bucket>,
    measured: Vec<String>,
    responses: BTreeMap<String, Result<Response, HostError>>,
    requests: Vec<Request>,
    submitted: Vec<Mail>,
}

struct Bucket {
    /// Tokens times the seconds in which the bucket fills.
    left: u64,
    at: u64,
}

struct Stored {
    value: Vec<u8>,
    until: Option<u64>,
}

/// What a test arranges and looks at.
impl World {
    /// A world without configuration, tables and names, at the beginning of time, where everything
    /// is granted.
    pub fn new() -> Self {
        Self::default()
    }

    /// The plugin's table of the configuration.
    #[must_use]
    pub fn config(self, table: Value) -> Self {
        self.0.borrow_mut().config = Some(table);
        self
    }

    /// The time, in seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn at(self, seconds: u64) -> Self {
        self.0.borrow_mut().now = seconds;
        self
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        self.0.borrow_mut().now += time.as_secs();
    }

    /// A table of the configuration: of networks if all its keys are, of addresses otherwise.
    #[must_use]
    pub fn table(self, name: &str, entries: &[(&str, &str)]) -> Self {
        let entries =
            entries.iter().map(|(key, value)| (key.to_lowercase(), (*value).to_owned())).collect();
        self.0.borrow_mut().tables.insert(name.to_owned(), entries);
        self
    }

    /// The records of a name. Names without any do not exist.
    #[must_use]
    pub fn answer(self, name: &str, kind: Kind, records: &[&str]) -> Self {
        let records = records.iter().map(|record| (*record).to_owned()).collect();
        let answer = Answer { records, nxdomain: false, ttl: 300 };
        self.0.borrow_mut().answers.insert((name.to_lowercase(), kind.as_str()), Ok(answer));
        self
    }

    /// A name that cannot be looked up.
    #[must_use]
    pub fn failure(self, name: &str, kind: Kind, error: HostError) -> Self {
        self.0.borrow_mut().answers.insert((name.to_lowercase(), kind.as_str()), Err(error));
        self
    }

    /// What a service answers to requests for this URL. Others are denied, as hosts that are not granted.
    #[must_use]
    pub fn responds(self, url: &str, status: u16, body: &str) -> Self {
        let response = Response { status, headers: Vec::new(), body: body.as_bytes().to_vec() };
        self.0.borrow_mut().responses.insert(url.to_owned(), Ok(response));
        self
    }

    /// A URL whose service gives no answer.
    #[must_use]
    pub fn fails(self, url: &str, error: HostError) -> Self {
        self.0.borrow_mut().responses.insert(url.to_owned(), Err(error));
        self
    }

    /// Takes a grant away: `kv`, `dns`, `metrics`, `rate-limit`, `submit`, or the name of a table.
    #[must_use]
    pub fn deny(self, grant: &str) -> Self {
        self.0.borrow_mut().denied.insert(grant.to_owned());
        self
    }

    /// The host of this world, as a plugin sees it.
    pub fn host(&self) -> Host {
        Host::of(self.clone())
    }

    /// The names that were looked up, in order: `A example.org`.
    pub fn asked(&self) -> Vec<String> {
        self.0.borrow().asked.clone()
    }

    /// The requests that were sent, in order. The content of a message stands behind the body.
    pub fn requests(&self) -> Vec<Request> {
        self.0.borrow().requests.clone()
    }

    /// The mails that were submitted.
    pub fn submitted(&self) -> Vec<Mail> {
        self.0.borrow().submitted.clone()
    }

    /// What went into metrics, in order: `name{label=value} 1`.
    pub fn measured(&self) -> Vec<String> {
        self.0.borrow().measured.clone()
    }

    /// The lines that were logged: `warn message field=value`.
    pub fn logged(&self) -> Vec<String> {
        self.0.borrow().logged.clone()
    }

    /// The keys of the store that have not run out.
    pub fn keys(&self) -> Vec<String> {
        let state = self.0.borrow();
        state
            .kv
            .iter()
            .filter(|(_, stored)| stored.lives(state.now))
            .map(|(key, _)| key.clone())
            .collect()
    }
}

/// What [`Host`] asks for.
impl World {
    pub(crate) fn config_json(&self) -> String {
        self.0.borrow().config.as_ref().map_or_else(|| "{}".to_owned(), Value::to_string)
    }

    pub(crate) fn config_value(&self, key: &str) -> Option<String> {
        fn step<'a>(value: &'a Value, part: &str) -> Option<&'a Value> {
            let list = value.as_array();
            list.map_or_else(|| value.get(part), |list| list.get(part.parse::<usize>().ok()?))
        }
        let state = self.0.borrow();
        let value = key.split('.').try_fold(state.config.as_ref()?, step)?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    pub(crate) fn now(&self) -> (i64, u32) {
        (i64::try_from(self.0.borrow().now).expect("a time within the next 292 billion years"), 0)
    }

    pub(crate) fn monotonic(&self) -> u64 {
        self.0.borrow().now * 1_000_000_000
    }

    pub(crate) fn log(&self, level: Level, message: &str, fields: &[(&str, &str)]) {
        let level = match level {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        let fields: String =
            fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        self.0.borrow_mut().logged.push(format!("{level} {message}{fields}"));
    }

    pub(crate) fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        self.granted("kv")?;
        let state = self.0.borrow();
        Ok(state
            .kv
            .get(key)
            .filter(|stored| stored.lives(state.now))
            .map(|stored| stored.value.clone()))
    }

    pub(crate) fn kv_set(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<u32>,
    ) -> Result<(), HostError> {
        self.granted("kv")?;
        let mut state = self.0.borrow_mut();
        let until = ttl.map(|seconds| state.now + u64::from(seconds));
        state.kv.insert(key.to_owned(), Stored { value: value.to_owned(), until });
        Ok(())
    }

    pub(crate) fn kv_delete(&self, key: &str) -> Result<bool, HostError> {
        let present = self.kv_get(key)?.is_some();
        self.0.borrow_mut().kv.remove(key);
        Ok(present)
    }

    pub(crate) fn kv_increment(
        &self,
        key: &str,
        delta: i64,
        ttl: Option<u32>,
    ) -> Result<i64, HostError> {
        let Some(present) = self.kv_get(key)? else {
            self.kv_set(key, delta.to_string().as_bytes(), ttl)?;
            return Ok(delta);
        };
        let number = std::str::from_utf8(&present).ok().and_then(|text| text.parse::<i64>().ok());
        let sum = number.and_then(|number| number.checked_add(delta));
        let sum = sum.ok_or_else(|| HostError::Invalid(format!("{key} holds no number")))?;
        if let Some(stored) = self.0.borrow_mut().kv.get_mut(key) {
            stored.value = sum.to_string().into_bytes();
        }
        Ok(sum)
    }

    pub(crate) fn kv_compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<u32>,
    ) -> Result<bool, HostError> {
        let equal = self.kv_get(key)?.as_deref() == expected;
        if equal {
            self.kv_set(key, value, ttl)?;
        }
        Ok(equal)
    }

    pub(crate) fn lookup_get(&self, table: &str, key: &str) -> Result<Option<String>, HostError> {
        let found = self.entries(table, false)?.remove(&key.to_lowercase());
        Ok(found)
    }

    pub(crate) fn lookup_match_ip(
        &self,
        table: &str,
        ip: &str,
    ) -> Result<Option<String>, HostError> {
        let entries = self.entries(table, true)?;
        let ip: IpAddr =
            ip.parse().map_err(|_| HostError::Invalid(format!("{ip} is no address")))?;
        let holding = entries.into_iter().filter_map(|(key, value)| {
            let network = network(&key).filter(|network| network.contains(&ip))?;
            Some((network.prefix_len(), value))
        });
        Ok(holding.max_by_key(|(bits, _)| *bits).map(|(_, value)| value))
    }

    pub(crate) fn lookup_match_address(
        &self,
        table: &str,
        address: &str,
    ) -> Result<Option<String>, HostError> {
        let entries = self.entries(table, false)?;
        let address = address.to_lowercase();
        let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
        let parents =
            domain.match_indices('.').filter_map(|(dot, _)| domain.get(dot..)).map(str::to_owned);
        let keys = [address.clone(), format!("@{domain}"), format!(".{domain}")];
        Ok(keys.into_iter().chain(parents).find_map(|key| entries.get(&key).cloned()))
    }

    /// The entries of a table, if it is of the kind that is asked for.
    fn entries(&self, table: &str, networks: bool) -> Result<BTreeMap<String, String>, HostError> {
        self.granted(table)?;
        let state = self.0.borrow();
        let missing = || HostError::Invalid(format!("there is no table {table}"));
        let entries = state.tables.get(table).ok_or_else(missing)?;
        let fits = entries.keys().all(|key| network(key).is_some() == networks);
        if fits {
            Ok(entries.clone())
        } else {
            Err(HostError::Invalid(format!("table {table} is of another kind")))
        }
    }

    pub(crate) fn dns_resolve(&self, query: &Query) -> Result<Answer, HostError> {
        self.granted("dns")?;
        if query.name.is_empty() {
            return Err(HostError::Invalid("an empty name".into()));
        }
        let mut state = self.0.borrow_mut();
        state.asked.push(format!("{} {}", query.kind, query.name));
        let name = query.name.to_lowercase();
        let mut answers = state.answers.iter().filter(|((known, _), _)| *known == name).peekable();
        let nxdomain = answers.peek().is_none();
        let absent = || Ok(Answer { records: Vec::new(), nxdomain, ttl: 300 });
        answers
            .find(|((_, kind), _)| *kind == query.kind)
            .map_or_else(absent, |(_, answer)| answer.clone())
    }

    pub(crate) fn dns_resolve_many(&self, queries: &[Query]) -> Vec<Result<Answer, HostError>> {
        queries.iter().map(|query| self.dns_resolve(query)).collect()
    }

    fn granted(&self, grant: &str) -> Result<(), HostError> {
        if self.0.borrow().denied.contains(grant) {
            Err(HostError::Denied(grant.to_owned()))
        } else {
            Ok(())
        }
    }
}

fn network(key: &str) -> Option<IpNet> {
    key.parse().ok().or_else(|| key.parse::<IpAddr>().ok().map(IpNet::from))
}

impl Stored {
    fn lives(&self, now: u64) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}
