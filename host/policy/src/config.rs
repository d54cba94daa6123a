//! What the administrator says about a plugin: where it is, what it may do, and what happens when it fails.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::http::HttpHost;

/// One plugin of the configuration. The order in the list is the order in which plugins are asked.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConfig {
    /// Unique in the list; stands in the trace, in logs, and before the notes and keys of the plugin.
    pub name: String,
    /// The component itself.
    pub component: Component,
    /// SHA-256 of the component in hexadecimal. If given, nothing else is loaded.
    pub sha256: Option<String>,
    /// What a failed call means.
    pub on_error: OnError,
    /// When it is not asked any more, and what then.
    pub breaker: BreakerConfig,
    /// What the plugin may do besides looking and answering.
    pub grants: Grants,
    /// What it may use up.
    pub limits: PluginLimits,
    /// The plugin's own table of the configuration, handed out by the import `config`.
    pub config: serde_json::Value,
}

impl PluginConfig {
    /// A plugin with the default limits, no grant, and an empty table.
    pub fn new(name: impl Into<String>, component: Component) -> Self {
        Self {
            name: name.into(),
            component,
            sha256: None,
            on_error: OnError::default(),
            breaker: BreakerConfig::default(),
            grants: Grants::default(),
            limits: PluginLimits::default(),
            config: serde_json::Value::Object(serde_json::Map::new()),
        }
    }
}

/// Where the octets of a component come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Component {
    /// A `.wasm` file, read anew at each load.
    File(PathBuf),
    /// Built into the program; the label names it in messages.
    Bytes(&'static [u8], &'static str),
}

/// What the failure of one call (trap, timeout, exhausted budget, illegal answer) means for that call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// `451 4.3.0`: the client comes back. Nothing is lost, nothing slips through.
    #[default]
    Defer,
    /// As if the plugin had no opinion.
    Pass,
    /// `554 5.3.0`.
    Reject,
}

/// When a plugin that keeps failing is not asked any more, and what stands in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// So many calls must fail within the window. Default 5; 0 switches the breaker off.
    pub failures: u32,
    /// Default 10 s.
    pub window: Duration,
    /// Percent of the calls in the window that must fail: one odd message in a hundred stops nothing. Default 50.
    pub share: u8,
    /// Time until the first probe; each probe that fails doubles it, up to 16 times. Default 30 s.
    pub pause: Duration,
    /// What happens in the meantime.
    pub fallback: Fallback,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            window: Duration::from_secs(10),
            share: 50,
            pause: Duration::from_secs(30),
            fallback: Fallback::OnError,
        }
    }
}

/// What stands in the place of a plugin that is not asked any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// What every failed call means: [`OnError`].
    #[default]
    OnError,
    /// The version that was live before this one, with its own table of the configuration, but with the grants and limits
    /// of today. Without one, as `OnError`.
    Previous,
}

/// What a plugin may do. Nothing is granted unless the configuration says so, but for what reaches nobody: `log`, `clock`
/// and `random` are granted unless the configuration takes them away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    /// Lines in the log.
    pub log: bool,
    /// The time.
    pub clock: bool,
    /// Randomness.
    pub random: bool,
    /// Counters and histograms of its own.
    pub metrics: bool,
    /// Its own key-value store.
    pub kv: bool,
    /// Its own token buckets.
    pub rate_limit: bool,
    /// DNS queries through the resolver of the host.
    pub dns: DnsGrant,
    /// Tables it may read, by name.
    pub lookup: Vec<String>,
    /// Hosts it may ask over HTTP.
    pub http: Vec<HttpHost>,
    /// Networks that are not of the public internet, which hosts of `http` may lie in.
    pub http_networks: Vec<IpNet>,
    /// New mail.
    pub submit: bool,
    /// Replies may be delayed.
    pub delay: bool,
    /// It sees passwords, and says who may log in.
    pub auth: bool,
    /// Kinds of edits.
    pub edit: BTreeSet<EditGrant>,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            log: true,
            clock: true,
            random: true,
            metrics: false,
            kv: false,
            rate_limit: false,
            dns: DnsGrant::None,
            lookup: Vec::new(),
            http: Vec::new(),
            http_networks: Vec::new(),
            submit: false,
            delay: false,
            auth: false,
            edit: BTreeSet::new(),
        }
    }
}

/// Names that a plugin may look up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DnsGrant {
    /// None at all.
    #[default]
    None,
    /// All there are.
    All,
    /// These domains and what is below them.
    Below(Vec<String>),
}

impl DnsGrant {
    /// Whether this name may be looked up.
    pub fn admits(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Below(domains) => {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                domains.iter().any(|domain| {
                    let domain = domain.trim_matches('.').to_ascii_lowercase();
                    name == domain
                        || name
                            .strip_suffix(&domain)
                            .is_some_and(|rest| !domain.is_empty() && rest.ends_with('.'))
                })
            }
        }
    }
}

/// A kind of edit that the configuration may grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EditGrant {
    /// Change the reverse-path.
    ReversePath,
    /// Add, remove and replace recipients.
    Recipients,
    /// Say where the copy for a recipient goes.
    Route,
    /// Add, change and remove header fields.
    Header,
    /// Add header fields, and nothing else.
    HeaderAdd,
    /// Touch the fields that say where a message came from and who vouches for it: Received, Return-Path, DKIM-Signature,
    /// ARC-*, Authentication-Results. Only with one of the two above.
    TraceFields,
    /// Replace the body.
    Body,
    /// Set not-before, expiry and priority.
    Schedule,
    /// Add and remove tags.
    Tags,
    /// Let a message, a recipient or a notification vanish by a verdict.
    Discard,
    /// Hold a message back by a verdict.
    Hold,
}

impl EditGrant {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 11] = [
        Self::ReversePath,
        Self::Recipients,
        Self::Route,
        Self::Header,
        Self::HeaderAdd,
        Self::TraceFields,
        Self::Body,
        Self::Schedule,
        Self::Tags,
        Self::Discard,
        Self::Hold,
    ];

    /// The name in the configuration and in refusals.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReversePath => "reverse-path",
            Self::Recipients => "recipients",
            Self::Route => "route",
            Self::Header => "header",
            Self::HeaderAdd => "header-add",
            Self::TraceFields => "trace-fields",
            Self::Body => "body",
            Self::Schedule => "schedule",
            Self::Tags => "tags",
            Self::Discard => "discard",
            Self::Hold => "hold",
        }
    }
}

impl std::str::FromStr for EditGrant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|grant| grant.name() == text).ok_or_else(|| {
            let all = Self::ALL.map(Self::name).join(", ");
            format!("this is not one of {all}")
        })
    }
}

/// What one plugin may use up. Each limit holds for one instance or one call, as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginLimits {
    /// Execution time of one call. Waiting for the host (DNS, kv) does not count. Default 50 ms: a hundred times what a
    /// stage of an ordinary plugin takes.
    pub cpu: Duration,
    /// The same at the stage `data`, where a plugin may read a whole message. Default 250 ms.
    pub cpu_data: Duration,
    /// Time of one call on the clock, waiting included. Default 10 s: far below the five minutes after which a client
    /// gives up (RFC 5321 §4.5.3.2).
    pub wall: Duration,
    /// Linear memory and tables of one instance, in octets. Default 16 MiB: a bulk memory instruction cannot be
    /// interrupted, so the limit bounds that stall too (16 MiB are 11 ms).
    pub memory: usize,
    /// Calls into the host during one call. Default 10,000.
    pub host_calls: u32,
    /// Octets that one call into the host may hand over. Default 4 MiB.
    pub host_call_octets: usize,
    /// Live resource handles of one instance. Default 256: a stage hands out three, WASI a few more.
    pub handles: usize,
    /// Elements of all tables of one instance. Default 20,000 (an indirect function table of a large component).
    pub table_elements: usize,
    /// Waits for DNS and kv during one call. Default 200.
    pub waits: u32,
    /// Edits staged by one call. Default 10,000: ten times the recipients of RFC 5321 §4.5.3.1.8.
    pub edits: usize,
    /// Octets of header and body text staged by one call. Default 64 MiB, above the usual message limit.
    pub edit_octets: usize,
    /// Octets of all notes of the plugin on one session or transaction. Default 16 KiB.
    pub note_octets: usize,
    /// Series of metrics: names with their labels. Default 100.
    pub series: usize,
    /// Mails that one call may submit. Default 10.
    pub submissions: usize,
    /// Mails that the plugin may submit in a minute. Default 60.
    pub submissions_per_minute: u32,
    /// Log lines per second, over all instances. Default 100, with a burst of as many.
    pub log_lines: u32,
    /// Keys in the key-value store. Default 1,000,000.
    pub kv_keys: u64,
    /// Octets of the key-value store. Default 256 MiB.
    pub kv_octets: u64,
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            cpu: Duration::from_millis(50),
            cpu_data: Duration::from_millis(250),
            wall: Duration::from_secs(10),
            memory: 16 << 20,
            host_calls: 10_000,
            host_call_octets: 4 << 20,
            handles: 256,
            table_elements: 20_000,
            waits: 200,
            edits: 10_000,
            edit_octets: 64 << 20,
            note_octets: 16 << 10,
            series: 100,
            submissions: 10,
            submissions_per_minute: 60,
            log_lines: 100,
            kv_keys: 1_000_000,
            kv_octets: 256 << 20,
        }
    }
}
