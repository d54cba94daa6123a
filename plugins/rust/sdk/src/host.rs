//! What the host does for a plugin.

#[cfg(target_family = "wasm")]
mod wasm;
mod web;

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;

use crate::verdict::seconds;
use crate::wit::imports::gatepost::policy::dns::Query;
use crate::{Answer, Error, HostError, Level, Listing, Mail, Rate, Taken, config};

pub use web::Http;

/// The services of the host: configuration, time, logs, storage, tables and DNS.
///
/// ```
/// use gatepost_plugin::{Kind, Level, test::World};
///
/// let world = World::new().answer("example.net", Kind::A, &["192.0.2.1"]);
/// let host = world.host();
/// let answer = host.dns().resolve("example.net", Kind::A)?;
/// host.log(Level::Info, "looked up", &[("records", &answer.records.join(" "))]);
/// assert_eq!(world.logged(), ["info looked up records=192.0.2.1"]);
/// # Ok::<(), gatepost_plugin::HostError>(())
/// ```
pub struct Host {
    services: Services,
}

#[cfg(not(target_family = "wasm"))]
type Services = crate::test::World;
#[cfg(target_family = "wasm")]
type Services = wasm::Services;

impl Host {
    #[cfg(target_family = "wasm")]
    pub(crate) fn new() -> Self {
        Self { services: wasm::Services }
    }

    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn of(world: crate::test::World) -> Self {
        Self { services: world }
    }

    /// The plugin's own table of the configuration, as a type of the plugin's own. The error names
    /// the key at fault. Derive `Deserialize` with `deny_unknown_fields`, so that a slip of the pen
    /// is found; see [`config`](mod@crate::config) for types to use in it.
    ///
    /// ```
    /// use gatepost_plugin::test::World;
    /// use serde_json::json;
    ///
    /// #[derive(Debug, serde::Deserialize)]
    /// #[serde(deny_unknown_fields)]
    /// struct Config {
    ///     limit: u32,
    /// }
    ///
    /// let config: Config = World::new().config(json!({ "limit": 3 })).host().config()?;
    /// assert_eq!(config.limit, 3);
    ///
    /// let fault = World::new().config(json!({ "limit": "x" })).host().config::<Config>();
    /// assert_eq!(
    ///     fault.unwrap_err().to_string(),
    ///     "`limit`: invalid type: string \"x\", expected u32"
    /// );
    /// # Ok::<(), gatepost_plugin::Error>(())
    /// ```
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, Error> {
        config::read(&self.services.config_json())
    }

    /// One value of the plugin's table by its dotted key, in which a number is a place in a list:
    /// numbers and truth values as text, tables and lists as JSON.
    ///
    /// ```
    /// let world = gatepost_plugin::test::World::new().config(serde_json::json!({ "a": { "b": 1 } }));
    /// assert_eq!(world.host().config_value("a.b").as_deref(), Some("1"));
    /// ```
    pub fn config_value(&self, key: &str) -> Option<String> {
        self.services.config_value(key)
    }

    /// The time, which a test can set.
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    ///
    /// let world = gatepost_plugin::test::World::new().at(1_000);
    /// assert_eq!(world.host().now(), UNIX_EPOCH + Duration::from_secs(1_000));
    /// ```
    pub fn now(&self) -> SystemTime {
        let (seconds, nanoseconds) = self.services.now();
        let offset = Duration::from_secs(seconds.unsigned_abs());
        let whole = if seconds < 0 { UNIX_EPOCH - offset } else { UNIX_EPOCH + offset };
        whole + Duration::from_nanos(nanoseconds.into())
    }

    /// Whole seconds since 1970-01-01T00:00:00Z; 0 before.
    ///
    /// ```
    /// assert_eq!(gatepost_plugin::test::World::new().at(1_000).host().unix_time(), 1_000);
    /// ```
    pub fn unix_time(&self) -> u64 {
        u64::try_from(self.services.now().0).unwrap_or(0)
    }

    /// Time since an arbitrary point, never going back.
    pub fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.services.monotonic())
    }

    /// Writes a line to the server's log, with fields. The host adds the plugin, the session and
    /// the stage, and limits rate and size.
    pub fn log(&self, level: Level, message: &str, fields: &[(&str, &str)]) {
        self.services.log(level, message, fields);
    }

    /// Random octets, fit for secrets; at most 64 KiB. A test gives the same ones each time.
    ///
    /// ```
    /// let host = gatepost_plugin::test::World::new().host();
    /// assert_eq!(host.random_octets(4).len(), 4);
    /// ```
    pub fn random_octets(&self, length: u32) -> Vec<u8> {
        self.services.random_octets(length)
    }

    /// A random number.
    pub fn random(&self) -> u64 {
        self.services.random_number()
    }

    /// Counters, gauges and histograms of the plugin. Grant: `metrics`.
    pub fn metrics(&self) -> Metrics<'_> {
        Metrics { services: &self.services }
    }

    /// Token buckets of the plugin. Grant: `rate-limit`.
    pub fn rate_limit(&self) -> RateLimit<'_> {
        RateLimit { services: &self.services }
    }

    /// Services over HTTP. Grant: `http`, by host.
    pub fn http(&self) -> Http<'_> {
        Http { services: &self.services }
    }

    /// New mail, sent when the verdict of this call is taken. Grant: `submit`.
    ///
    /// ```
    /// use gatepost_plugin::{Mail, NewRecipient, test::World};
    ///
    /// let world = World::new();
    /// world.host().submit(&Mail {
    ///     reverse_path: None,
    ///     recipients: vec![NewRecipient::to("bob@example.org")],
    ///     content: b"Subject: news\r\n\r\n".to_vec(),
    /// })?;
    /// assert_eq!(world.submitted().len(), 1);
    /// # Ok::<(), gatepost_plugin::HostError>(())
    /// ```
    pub fn submit(&self, mail: &Mail) -> Result<(), HostError> {
        self.services.submit(mail)
    }

    /// The plugin's durable store. Grant: `kv`.
    pub fn kv(&self) -> Kv<'_> {
        Kv { services: &self.services }
    }

    /// DNS through the host's caching resolver. Grant: `dns`.
    pub fn dns(&self) -> Dns<'_> {
        Dns { services: &self.services }
    }

    /// A table of the configuration, read-only. Grant: `lookup` with this table.
    pub fn lookup<'a>(&'a self, table: &'a str) -> Lookup<'a> {
        Lookup { services: &self.services, table }
    }
}

/// A durable key-value store of the plugin's own, shared by all of its instances. Every write is
/// atomic. What is written with a time to live vanishes after it; `None` keeps it for good.
///
/// ```
/// use std::time::Duration;
///
/// let world = gatepost_plugin::test::World::new();
/// let host = world.host();
/// let kv = host.kv();
/// kv.set("seen", "once", Some(Duration::from_secs(60)))?;
/// assert_eq!(kv.get_text("seen")?.as_deref(), Some("once"));
/// assert_eq!(kv.increment("count", 2, None)?, 2);
/// world.advance(Duration::from_secs(61));
/// assert_eq!(kv.get("seen")?, None);
/// # Ok::<(), gatepost_plugin::HostError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Kv<'a> {
    services: &'a Services,
}

impl Kv<'_> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        self.services.kv_get(key)
    }

    /// The value of a key as text, with invalid UTF-8 replaced.
    pub fn get_text(&self, key: &str) -> Result<Option<String>, HostError> {
        let value = self.get(key)?;
        Ok(value.map(|octets| String::from_utf8_lossy(&octets).into_owned()))
    }

    /// Sets a value.
    pub fn set(
        &self,
        key: &str,
        value: impl AsRef<[u8]>,
        ttl: Option<Duration>,
    ) -> Result<(), HostError> {
        self.services.kv_set(key, value.as_ref(), ttl.map(seconds))
    }

    /// Removes a value; true if there was one.
    pub fn delete(&self, key: &str) -> Result<bool, HostError> {
        self.services.kv_delete(key)
    }

    /// Adds and returns the sum. A missing key counts from 0 and gets the time to live; a present
    /// one keeps its own.
    pub fn increment(
        &self,
        key: &str,
        delta: i64,
        ttl: Option<Duration>,
    ) -> Result<i64, HostError> {
        self.services.kv_increment(key, delta, ttl.map(seconds))
    }

    /// Sets the value if the present one is `expected` (`None`: there is none); true if it was set.
    pub fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Option<Duration>,
    ) -> Result<bool, HostError> {
        self.services.kv_compare_and_set(key, expected, value.as_ref(), ttl.map(seconds))
    }

    /// The keys that begin so, in order, behind `after`: up to 1,000 at once.
    ///
    /// ```
    /// let world = gatepost_plugin::test::World::new();
    /// let host = world.host();
    /// host.kv().set("a/1", "", None)?;
    /// host.kv().set("a/2", "", None)?;
    /// host.kv().set("b/1", "", None)?;
    /// assert_eq!(host.kv().keys("a/", Some("a/1"))?, ["a/2"]);
    /// # Ok::<(), gatepost_plugin::HostError>(())
    /// ```
    pub fn keys(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, HostError> {
        self.services.kv_keys(prefix, after)
    }

    /// An error if the configuration does not grant the store: for [`Plugin::configure`](crate::Plugin::configure).
    pub fn require(&self) -> Result<(), Error> {
        granted(self.get("gatepost-probe"))
    }
}

/// Counters, gauges and histograms, exported as `gatepost_plugin_NAME` with the label `plugin`. Of
/// names and values of labels there are to be few: each combination is a series.
///
/// ```
/// let world = gatepost_plugin::test::World::new();
/// world.host().metrics().add("verdicts", &[("what", "spam")], 1)?;
/// assert_eq!(world.measured(), ["verdicts{what=spam} 1"]);
/// # Ok::<(), gatepost_plugin::HostError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Metrics<'a> {
    services: &'a Services,
}

impl Metrics<'_> {
    /// Adds to a counter.
    pub fn add(&self, name: &str, labels: &[(&str, &str)], delta: u64) -> Result<(), HostError> {
        self.services.metrics_add(name, labels, delta)
    }

    /// Sets a gauge.
    pub fn set(&self, name: &str, labels: &[(&str, &str)], value: f64) -> Result<(), HostError> {
        self.services.metrics_set(name, labels, value)
    }

    /// Puts a value into a histogram.
    pub fn observe(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) -> Result<(), HostError> {
        self.services.metrics_observe(name, labels, value)
    }
}

/// Token buckets in the memory of the host: they begin full, and are full again after a restart.
///
/// ```
/// use gatepost_plugin::{Rate, test::World};
/// use std::time::Duration;
///
/// let world = World::new();
/// let host = world.host();
/// let rate = Rate { tokens: 2, seconds: 60 };
/// assert!(host.rate_limit().take("192.0.2.1", 2, rate)?.allowed);
/// let taken = host.rate_limit().take("192.0.2.1", 1, rate)?;
/// assert_eq!((taken.allowed, taken.wait), (false, 30_000));
/// world.advance(Duration::from_secs(30));
/// assert!(host.rate_limit().take("192.0.2.1", 1, rate)?.allowed);
/// # Ok::<(), gatepost_plugin::HostError>(())
/// ```
#[derive(Clone, Copy)]
pub struct RateLimit<'a> {
    services: &'a Services,
}

impl RateLimit<'_> {
    /// Takes so many tokens out of the bucket of this key, or none.
    pub fn take(&self, key: &str, tokens: u32, rate: Rate) -> Result<Taken, HostError> {
        self.services.rate_limit_take(key, tokens, rate)
    }
}

/// DNS through the host's caching resolver. A call waits, but only this instance waits.
#[derive(Clone, Copy)]
pub struct Dns<'a> {
    services: &'a Services,
}

impl Dns<'_> {
    /// The records of a name. An absent name or type is an answer without records, not an error.
    pub fn resolve(&self, name: &str, kind: Kind) -> Result<Answer, HostError> {
        self.services.dns_resolve(&Query { name: name.to_owned(), kind: kind.as_str().to_owned() })
    }

    /// Looks several names up at the same time; answers in the order of the questions.
    ///
    /// ```
    /// use gatepost_plugin::{Kind, test::World};
    ///
    /// let host = World::new().answer("b.example", Kind::Txt, &["hello"]).host();
    /// let answers = host.dns().resolve_many(&[("a.example", Kind::A), ("b.example", Kind::Txt)]);
    /// assert!(answers[0].as_ref().is_ok_and(|answer| answer.nxdomain));
    /// assert!(answers[1].as_ref().is_ok_and(|answer| answer.records == ["hello"]));
    /// ```
    pub fn resolve_many(
        &self,
        questions: &[(impl AsRef<str>, Kind)],
    ) -> Vec<Result<Answer, HostError>> {
        let query = |(name, kind): &(_, Kind)| Query {
            name: AsRef::<str>::as_ref(name).to_owned(),
            kind: kind.as_str().to_owned(),
        };
        self.services.dns_resolve_many(&questions.iter().map(query).collect::<Vec<_>>())
    }

    /// Names of an address that lead back to it.
    ///
    /// ```
    /// use gatepost_plugin::{Kind, test::World};
    ///
    /// let world = World::new()
    ///     .answer("7.2.0.192.in-addr.arpa", Kind::Ptr, &["mail.example"])
    ///     .answer("mail.example", Kind::A, &["192.0.2.7"]);
    /// assert_eq!(world.host().dns().verified_names([192, 0, 2, 7].into())?, ["mail.example"]);
    /// # Ok::<(), gatepost_plugin::HostError>(())
    /// ```
    pub fn verified_names(&self, address: IpAddr) -> Result<Vec<String>, HostError> {
        self.services.dns_verified_names(&address.to_string())
    }

    /// Asks block or allow lists (RFC 5782) about an address or a domain, all at once. Only those
    /// that have it come back.
    ///
    /// ```
    /// use gatepost_plugin::{Kind, test::World};
    ///
    /// let world = World::new().answer("7.2.0.192.list.example", Kind::A, &["127.0.0.2"]);
    /// let listings = world.host().dns().listed("192.0.2.7", &["list.example", "other.example"])?;
    /// assert_eq!((listings.len(), listings[0].codes[0].as_str()), (1, "127.0.0.2"));
    /// # Ok::<(), gatepost_plugin::HostError>(())
    /// ```
    pub fn listed(
        &self,
        subject: &str,
        zones: &[impl AsRef<str>],
    ) -> Result<Vec<Listing>, HostError> {
        let zones: Vec<String> = zones.iter().map(|zone| zone.as_ref().to_owned()).collect();
        self.services.dns_listed(subject, &zones)
    }

    /// An error if the configuration does not grant DNS: for [`Plugin::configure`](crate::Plugin::configure).
    pub fn require(&self) -> Result<(), Error> {
        // The host asks "may it?" before anything else, and no name server hears of this name.
        granted(self.resolve("", Kind::A))
    }
}

/// Types of DNS records that a plugin can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names of RFC 1035 and its successors")]
pub enum Kind {
    A,
    Aaaa,
    Mx,
    Txt,
    Ptr,
    Ns,
    Srv,
    Cname,
}

impl Kind {
    /// The type in presentation form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Mx => "MX",
            Self::Txt => "TXT",
            Self::Ptr => "PTR",
            Self::Ns => "NS",
            Self::Srv => "SRV",
            Self::Cname => "CNAME",
        }
    }
}

/// A table of the configuration. Its kind says which questions make sense: `exact` for
/// [`get`](Self::get), `cidr` for [`match_ip`](Self::match_ip), `address` for
/// [`match_address`](Self::match_address) and [`get`](Self::get).
///
/// ```
/// use gatepost_plugin::test::World;
///
/// let host = World::new()
///     .table("doors", &[("@example.org", "open")])
///     .table("walls", &[("192.0.2.0/24", "high")])
///     .host();
/// assert_eq!(host.lookup("doors").match_address("bob@example.org")?.as_deref(), Some("open"));
/// assert_eq!(host.lookup("walls").match_ip([192, 0, 2, 7].into())?.as_deref(), Some("high"));
/// assert!(host.lookup("walls").match_address("bob@example.org").is_err());
/// assert!(host.lookup("windows").get("x").is_err());
/// # Ok::<(), gatepost_plugin::HostError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Lookup<'a> {
    services: &'a Services,
    table: &'a str,
}

impl Lookup<'_> {
    /// The value of exactly this key, without regard to case.
    pub fn get(&self, key: &str) -> Result<Option<String>, HostError> {
        self.services.lookup_get(self.table, key)
    }

    /// The value of the longest prefix (CIDR) that holds the address.
    pub fn match_ip(&self, address: IpAddr) -> Result<Option<String>, HostError> {
        self.services.lookup_match_ip(self.table, &address.to_string())
    }

    /// The value of the whole address, else of `@domain`, else of the nearest `.parent-domain`.
    pub fn match_address(&self, address: &str) -> Result<Option<String>, HostError> {
        self.services.lookup_match_address(self.table, address)
    }

    /// The value of the domain itself, else of the nearest `.parent-domain`: a table of the kind
    /// `domain`.
    pub fn match_domain(&self, domain: &str) -> Result<Option<String>, HostError> {
        self.services.lookup_match_domain(self.table, domain)
    }

    /// An error unless there is such a table of networks and the configuration grants it: for
    /// [`Plugin::configure`](crate::Plugin::configure).
    pub fn require_networks(&self) -> Result<(), Error> {
        self.match_ip(IpAddr::from([192, 0, 2, 0])).map(drop).map_err(Error::from)
    }

    /// An error unless there is such a table of addresses and the configuration grants it: for
    /// [`Plugin::configure`](crate::Plugin::configure).
    pub fn require_addresses(&self) -> Result<(), Error> {
        self.match_address("probe@probe.invalid").map(drop).map_err(Error::from)
    }
}

fn granted<T>(probe: Result<T, HostError>) -> Result<(), Error> {
    match probe {
        Err(error @ HostError::Denied(_)) => Err(error.into()),
        _ => Ok(()),
    }
}
