//! The set of plugins that judges mail: loaded together, live together, replaced together.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use metrics::{Counter, Histogram};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::InstancePre;

use crate::bindings::stages::{
    configure, on_auth, on_connect, on_data, on_deliver, on_disconnect, on_dsn, on_helo, on_mail,
    on_outcome, on_rcpt, on_route,
};
use crate::breaker::{Breaker, BreakerState, Change};
use crate::buckets::Buckets;
use crate::config::{BreakerConfig, Grants, OnError, PluginConfig, PluginLimits};
use crate::engine::Ticker;
use crate::guest::Guest;
use crate::host::Clock;
use crate::kv::Namespace;
use crate::lanes::Lanes;
use crate::seam::Seam;
use crate::submit::Submit;
use crate::tables::Tables;

/// A set of plugins in configuration order. Sessions keep the one they began with.
#[derive(Default)]
pub struct Chain {
    pub(crate) generation: u64,
    pub(crate) infos: Vec<PluginInfo>,
    /// In the order of `infos`.
    pub(crate) cores: Vec<Arc<Core>>,
}

impl Chain {
    /// What is loaded, in the order in which plugins are asked.
    pub fn plugins(&self) -> &[PluginInfo] {
        &self.infos
    }

    /// Counts the sets that this host has loaded; 0 is the empty set it begins with.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The circuit breakers, in the order of [`plugins`](Self::plugins), as they are now.
    pub fn breakers(&self) -> impl Iterator<Item = BreakerState> {
        self.cores.iter().map(|core| core.breaker.describe())
    }

    /// The live instances of each plugin over all sessions, in the order of [`plugins`](Self::plugins), as they are now.
    pub fn instances(&self) -> impl Iterator<Item = usize> {
        self.cores.iter().map(|core| core.instances())
    }

    /// Whether any plugin is asked at this stage. If not, the stage costs nothing.
    pub fn asks(&self, stage: Stage) -> bool {
        self.cores.iter().any(|core| core.exports.has(stage))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("generation", &self.generation)
            .field("infos", &self.infos)
            .finish_non_exhaustive()
    }
}

/// What an administrator may want to know about a loaded plugin.
#[derive(Clone, Debug)]
pub struct PluginInfo {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What the plugin calls itself.
    pub registered_name: String,
    /// The version that it tells.
    pub version: Arc<str>,
    /// One sentence of its author.
    pub description: String,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: Arc<str>,
    /// The stages that it exports: where it is asked.
    pub stages: Vec<Stage>,
    /// What it may do.
    pub grants: Grants,
    /// The interfaces that the component imports.
    pub imports: Vec<String>,
    /// Octets of the component.
    pub size: usize,
}

/// A moment in the life of a message at which plugins are asked.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The plugin was made: before every other stage of an instance.
    Configure,
    /// A client connected.
    Connect,
    /// HELO, EHLO or LHLO.
    Helo,
    /// AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT, for each recipient.
    Rcpt,
    /// The whole content is here.
    Data,
    /// Before each attempt, for each recipient.
    Route,
    /// Before a copy is put into a local mailbox.
    Deliver,
    /// After each attempt, for each recipient.
    Outcome,
    /// Before a notification is made.
    Dsn,
    /// The connection ended.
    Disconnect,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 12] = [
        Self::Configure,
        Self::Connect,
        Self::Helo,
        Self::Auth,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Route,
        Self::Deliver,
        Self::Outcome,
        Self::Dsn,
        Self::Disconnect,
    ];

    /// Where it stands in [`Self::ALL`].
    pub(crate) fn position(self) -> usize {
        Self::ALL.iter().position(|one| *one == self).unwrap_or_default()
    }

    /// Whether plugins may change the message at this stage.
    pub(crate) fn edits(self) -> bool {
        matches!(self, Self::Mail | Self::Rcpt | Self::Data)
    }

    /// The name in traces, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Connect => "connect",
            Self::Helo => "helo",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Route => "route",
            Self::Deliver => "deliver",
            Self::Outcome => "outcome",
            Self::Dsn => "dsn",
            Self::Disconnect => "disconnect",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A plugin as it runs: all that does not change while it is loaded.
pub(crate) struct Core {
    pub(crate) name: Arc<str>,
    /// SHA-256 of the component, in hexadecimal.
    pub(crate) digest: Arc<str>,
    pub(crate) on_error: OnError,
    pub(crate) grants: Grants,
    pub(crate) limits: PluginLimits,
    pub(crate) config: serde_json::Value,
    pub(crate) config_json: String,
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) exports: Arc<Exports>,
    pub(crate) breaker: Breaker,
    /// What was live under this name before, if the breaker is to fall back on it.
    pub(crate) previous: Option<Previous>,
    /// Present if it is granted.
    pub(crate) kv: Option<Namespace>,
    pub(crate) services: Arc<Services>,
    /// Live instances that this plugin may have: fewer than there are, so that no plugin can take all of them.
    pub(crate) share: Arc<Semaphore>,
    /// Calls that go straight to the quick lane, because one of the last ran longer than a tick.
    pub(crate) slow: AtomicU32,
    pub(crate) log: Mutex<Bucket>,
    pub(crate) meters: Vec<Meters>,
    /// The series of metrics that the plugin has made.
    pub(crate) series: Mutex<BTreeSet<String>>,
}

/// An earlier version of a plugin.
pub(crate) struct Previous {
    pub(crate) core: Arc<Core>,
    /// What it calls itself, and the digest of its component.
    pub(crate) version: Arc<str>,
    pub(crate) digest: Arc<str>,
}

/// What the host shares among all plugins.
pub(crate) struct Services {
    pub(crate) engine: Engine,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) tick: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    /// What plugins ask of the world goes through here.
    pub(crate) seam: Arc<dyn Seam>,
    /// What plugins submit goes here.
    pub(crate) submit: ArcSwapOption<Box<dyn Submit>>,
    /// How many of their mails are on their way.
    pub(crate) submitting: Arc<Semaphore>,
    pub(crate) tables: Arc<ArcSwap<Tables>>,
    /// Where calls run.
    pub(crate) lanes: Lanes,
    /// The runtime of the server: its sockets live there.
    pub(crate) server: Handle,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) slot_wait: Duration,
    /// Of a reply, whatever plugins want.
    pub(crate) longest_delay: Duration,
    /// What each plugin may submit in a minute.
    pub(crate) submissions: Buckets,
    /// How many of the slots one plugin may have.
    pub(crate) slots_of_a_plugin: usize,
    /// With fewer free slots than this, or a quarter of a plugin's own, sessions do not keep their instances between
    /// stages.
    pub(crate) slots_reserve: usize,
}

impl Services {
    /// What one plugin may have of the slots: all but the reserve.
    pub(crate) fn share(&self) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(self.slots_of_a_plugin))
    }
}

/// The exported stages, looked up once.
pub(crate) struct Exports {
    pub(crate) configure: configure::GuestIndices,
    pub(crate) connect: Option<on_connect::GuestIndices>,
    pub(crate) helo: Option<on_helo::GuestIndices>,
    pub(crate) auth: Option<on_auth::GuestIndices>,
    pub(crate) mail: Option<on_mail::GuestIndices>,
    pub(crate) rcpt: Option<on_rcpt::GuestIndices>,
    pub(crate) data: Option<on_data::GuestIndices>,
    pub(crate) route: Option<on_route::GuestIndices>,
    pub(crate) deliver: Option<on_deliver::GuestIndices>,
    pub(crate) outcome: Option<on_outcome::GuestIndices>,
    pub(crate) dsn: Option<on_dsn::GuestIndices>,
    pub(crate) disconnect: Option<on_disconnect::GuestIndices>,
}

impl Exports {
    /// Fails if `configure` is missing: no plugin goes without.
    pub(crate) fn find(pre: &InstancePre<Guest>) -> wasmtime::Result<Self> {
        Ok(Self {
            configure: configure::GuestIndices::new(pre)?,
            connect: on_connect::GuestIndices::new(pre).ok(),
            helo: on_helo::GuestIndices::new(pre).ok(),
            auth: on_auth::GuestIndices::new(pre).ok(),
            mail: on_mail::GuestIndices::new(pre).ok(),
            rcpt: on_rcpt::GuestIndices::new(pre).ok(),
            data: on_data::GuestIndices::new(pre).ok(),
            route: on_route::GuestIndices::new(pre).ok(),
            deliver: on_deliver::GuestIndices::new(pre).ok(),
            outcome: on_outcome::GuestIndices::new(pre).ok(),
            dsn: on_dsn::GuestIndices::new(pre).ok(),
            disconnect: on_disconnect::GuestIndices::new(pre).ok(),
        })
    }

    pub(crate) fn has(&self, stage: Stage) -> bool {
        match stage {
            Stage::Configure => true,
            Stage::Connect => self.connect.is_some(),
            Stage::Helo => self.helo.is_some(),
            Stage::Auth => self.auth.is_some(),
            Stage::Mail => self.mail.is_some(),
            Stage::Rcpt => self.rcpt.is_some(),
            Stage::Data => self.data.is_some(),
            Stage::Route => self.route.is_some(),
            Stage::Deliver => self.deliver.is_some(),
            Stage::Outcome => self.outcome.is_some(),
            Stage::Dsn => self.dsn.is_some(),
            Stage::Disconnect => self.disconnect.is_some(),
        }
    }
}

/// Handles of the metrics of one plugin at one stage, made once.
pub(crate) struct Meters {
    pub(crate) calls: Counter,
    pub(crate) failures: Counter,
    pub(crate) seconds: Histogram,
}

impl Meters {
    /// One for each stage, in the order of [`Stage::ALL`].
    pub(crate) fn all(plugin: &str) -> Vec<Self> {
        Stage::ALL
            .iter()
            .map(|stage| {
                let labels = [("plugin", plugin.to_owned()), ("stage", stage.name().to_owned())];
                Self {
                    calls: metrics::counter!("gatepost_policy_calls_total", &labels),
                    failures: metrics::counter!("gatepost_policy_failures_total", &labels),
                    seconds: metrics::histogram!("gatepost_policy_seconds", &labels),
                }
            })
            .collect()
    }
}

impl Core {
    /// The same code with the same table, under the grants and limits of today: a version to fall back on.
    pub(crate) fn under(&self, today: &PluginConfig, kv: Option<Namespace>) -> Arc<Self> {
        Arc::new(Self {
            name: self.name.clone(),
            on_error: today.on_error,
            grants: today.grants.clone(),
            limits: today.limits.clone(),
            config: self.config.clone(),
            config_json: self.config_json.clone(),
            pre: self.pre.clone(),
            exports: self.exports.clone(),
            // Nothing stands behind it: a version that fails here just fails.
            breaker: Breaker::new(BreakerConfig { failures: 0, ..today.breaker }),
            previous: None,
            kv,
            services: self.services.clone(),
            share: self.services.share(),
            slow: AtomicU32::new(0),
            log: Bucket::new(today.limits.log_lines),
            meters: Meters::all(&self.name),
            digest: self.digest.clone(),
            series: Mutex::default(),
        })
    }

    /// Says for people and for monitoring what a call changed.
    pub(crate) fn tell(&self, change: Change) {
        let name = &*self.name;
        match change {
            Change::None => return,
            Change::Opened => {
                let BreakerConfig { failures, window, .. } = self.breaker.config();
                let fallback =
                    self.previous.as_ref().map_or("on-error", |_| "the previous version");
                metrics::counter!("gatepost_policy_breaker_trips_total", "plugin" => name.to_owned())
                    .increment(1);
                tracing::error!(
                    target: "plugin",
                    plugin = name,
                    fallback,
                    "{failures} calls failed within {window:?}: the plugin is not asked any more until probes go well or another version takes its place"
                );
            }
            Change::Closed => {
                tracing::info!(target: "plugin", plugin = name, "probes went well: the plugin is asked again")
            }
        }
        self.show_breaker();
    }

    /// Whether the plugin is asked, as a metric.
    pub(crate) fn show_breaker(&self) {
        metrics::gauge!("gatepost_policy_breaker_open", "plugin" => self.name.to_string())
            .set(f64::from(u8::from(self.breaker.is_open())));
    }

    /// Whether this is what the configuration still wants.
    pub(crate) fn is(&self, config: &PluginConfig) -> bool {
        *self.name == *config.name
            && self.config == config.config
            && self.grants == config.grants
            && self.limits == config.limits
            && self.on_error == config.on_error
            && *self.breaker.config() == config.breaker
    }

    /// Whether instances of this plugin have become rare.
    pub(crate) fn is_short(&self) -> bool {
        let services = &self.services;
        services.slots.available_permits() < services.slots_reserve
            || self.share.available_permits() < services.slots_of_a_plugin / 4
    }

    /// Live instances, of all sessions.
    fn instances(&self) -> usize {
        self.services.slots_of_a_plugin.saturating_sub(self.share.available_permits())
    }

    /// Whether many sessions have an instance of this plugin.
    pub(crate) fn is_crowded(&self) -> bool {
        self.instances() > CROWD
    }

    /// Takes a line from what the plugin may log this second.
    pub(crate) fn may_log(&self) -> bool {
        let now = self.services.clock.monotonic();
        self.log.lock().is_ok_and(|mut bucket| bucket.take(now, self.limits.log_lines, &self.name))
    }

    /// A line that the plugin wrote to stdout or stderr: a panic, mostly.
    pub(crate) fn log_output(&self, line: &str) {
        if self.may_log() {
            tracing::warn!(target: "plugin", plugin = &*self.name, "{}", crate::imports::log::clean(line, 2048));
        }
    }

    /// Whether the next call is to begin in the quick lane.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed) > 0
            && self
                .slow
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
    }
}

/// A token bucket that holds one second's worth.
pub(crate) struct Bucket {
    tokens: f64,
    since: Duration,
    dropped: u64,
}

impl Bucket {
    pub(crate) fn new(lines: u32) -> Mutex<Self> {
        Mutex::new(Self { tokens: f64::from(lines), since: Duration::ZERO, dropped: 0 })
    }

    fn take(&mut self, now: Duration, per_second: u32, plugin: &str) -> bool {
        let rate = f64::from(per_second);
        let passed = now.saturating_sub(self.since).as_secs_f64();
        self.since = now;
        self.tokens = (self.tokens + passed * rate).min(rate);
        if self.tokens < 1.0 {
            self.dropped += 1;
            return false;
        }
        self.tokens -= 1.0;
        if self.dropped > 0 {
            tracing::warn!(target: "plugin", plugin, lines = self.dropped, "the plugin logs too much; lines were dropped");
            self.dropped = 0;
        }
        true
    }
}

/// As many instances of a plugin as a busy server of two cores needs at once, and some more.
const CROWD: usize = 64;
