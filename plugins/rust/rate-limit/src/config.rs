//! The plugin's table of the configuration.

use std::net::IpAddr;
use std::time::Duration;

use gatepost_plugin::config::{self, Addresses, Networks, duration, parse_duration};
use gatepost_plugin::{Error, Host, Rate, Reply};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::subject::Per;

/// What the administrator chose. `README.md` describes every key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) limits: Vec<Limit>,
    pub(crate) ipv4_prefix: u8,
    pub(crate) ipv6_prefix: u8,
    exempt_private: bool,
    exempt_clients: Networks,
    pub(crate) exempt_table: Option<String>,
    exempt_users: Vec<String>,
    pub(crate) exempt_senders: Addresses,
    pub(crate) exempt_recipients: Addresses,
    /// Not configured: [`Networks::private`], read once.
    #[serde(skip, default = "Networks::private")]
    private: Networks,
}

/// One limit.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawLimit")]
pub(crate) struct Limit {
    /// To log by, and the beginning of the keys of its counters.
    pub(crate) name: String,
    /// What counts as one: all of these together.
    pub(crate) per: Vec<Per>,
    pub(crate) of: Of,
    pub(crate) listeners: Vec<String>,
    pub(crate) messages: Option<Rate>,
    pub(crate) recipients: Option<Rate>,
    /// Has other rates for single subjects.
    pub(crate) table: Option<String>,
    pub(crate) action: Action,
    pub(crate) reply: String,
    pub(crate) longest_delay: Duration,
    /// Counted in the store, so that a restart forgets nothing.
    pub(crate) durable: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawLimit {
    name: Option<String>,
    #[serde(deserialize_with = "config::one_or_more")]
    per: Vec<Per>,
    #[serde(default)]
    of: Of,
    #[serde(default)]
    listeners: Vec<String>,
    #[serde(default)]
    messages: Option<Amount>,
    #[serde(default)]
    recipients: Option<Amount>,
    table: Option<String>,
    #[serde(default)]
    action: Action,
    reply: Option<String>,
    #[serde(default = "five_seconds", with = "duration")]
    longest_delay: Duration,
    #[serde(default)]
    durable: bool,
}

/// Whose mail is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Of {
    #[default]
    All,
    /// Who has not logged in and comes by no listener for submission.
    Strangers,
    /// Who has logged in.
    Users,
}

/// What becomes of mail that is too much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    #[default]
    Defer,
    Reject,
    Disconnect,
    /// The reply waits.
    Delay,
    /// Nothing, but the log and the trace say it.
    Log,
}

/// `100/1h`, in a configuration.
#[derive(Clone, Copy)]
struct Amount(Rate);

impl Config {
    pub(crate) fn read(host: &Host) -> Result<Self, Error> {
        let config: Self = host.config()?;
        if config.limits.is_empty() {
            return Err("`limits` is empty: nothing would ever be limited".into());
        }
        prefix("ipv4-prefix", config.ipv4_prefix, 8, 32)?;
        prefix("ipv6-prefix", config.ipv6_prefix, 16, 128)?;
        for (index, limit) in config.limits.iter().enumerate() {
            if config.limits.iter().take(index).any(|other| other.name == limit.name) {
                let name = &limit.name;
                return Err(Error::new(
                    ["`limits`: two are called `", name, "`: give one of them another `name`"]
                        .concat(),
                ));
            }
            limit.require(host).map_err(|error| {
                Error::new(["limit `", &limit.name, "`: ", &error.to_string()].concat())
            })?;
        }
        if let Some(table) = &config.exempt_table {
            host.lookup(table).require_networks()?;
        }
        Ok(config)
    }

    /// A client in a private network that has not logged in is one of ours; users are counted wherever they are.
    pub(crate) fn exempts_client(&self, client: IpAddr, is_known: bool) -> bool {
        self.exempt_clients.contains(client)
            || self.exempt_private && !is_known && self.private.contains(client)
    }

    pub(crate) fn exempts_user(&self, user: &str) -> bool {
        self.exempt_users.iter().any(|exempt| exempt.eq_ignore_ascii_case(user))
    }
}

impl Limit {
    /// An error unless the host grants what this limit needs.
    fn require(&self, host: &Host) -> Result<(), Error> {
        if self.durable {
            host.kv().require()?;
        } else {
            // A bucket that nobody else uses; it costs nothing.
            host.rate_limit().take("gatepost-probe", 0, Rate { tokens: 1, seconds: 1 })?;
        }
        if let Some(table) = &self.table {
            self.per.first().map_or(Ok(()), |per| per.require(host.lookup(table)))?;
        }
        Ok(())
    }
}

impl TryFrom<RawLimit> for Limit {
    type Error = Error;

    fn try_from(raw: RawLimit) -> Result<Self, Error> {
        let per: Vec<&str> = raw.per.iter().map(|per| per.word()).collect();
        let name = raw.name.unwrap_or_else(|| per.join("+"));
        let fault = |text: &str| Err(Error::new(["the limit `", &name, "`: ", text].concat()));
        if raw.per.is_empty() {
            return fault("`per` is empty: say who is counted");
        }
        if raw.messages.is_none() && raw.recipients.is_none() {
            return fault("it needs `messages` or `recipients`, like \"100/1h\"");
        }
        if raw.table.is_some() && raw.per.len() > 1 {
            return fault("`table` has values for one kind of subject, but `per` names several");
        }
        let reply = raw.reply.unwrap_or_else(|| raw.action.reply().to_owned());
        let code = match reply.parse::<Reply>() {
            Ok(reply) => reply.code,
            Err(error) => return fault(&["`reply`: ", &error.to_string()].concat()),
        };
        if raw.action == Action::Reject && code < 500 {
            return fault("`reply` needs a code from 500 to 599 where `action` is \"reject\"");
        }
        if raw.action == Action::Defer && code >= 500 {
            return fault("`reply` needs a code from 400 to 499 where `action` is \"defer\"");
        }
        Ok(Self {
            name,
            per: raw.per,
            of: raw.of,
            listeners: raw.listeners,
            messages: raw.messages.map(|amount| amount.0),
            recipients: raw.recipients.map(|amount| amount.0),
            table: raw.table,
            action: raw.action,
            reply,
            longest_delay: raw.longest_delay,
            durable: raw.durable,
        })
    }
}

impl Action {
    fn reply(self) -> &'static str {
        match self {
            Self::Reject => "550 5.7.1 Too much mail from {subject}",
            Self::Disconnect => "421 4.7.0 Too much mail from {subject}; try again in {wait}",
            Self::Defer | Self::Delay | Self::Log => {
                "450 4.7.1 Too much mail from {subject}; try again in {wait}"
            }
        }
    }
}

/// `COUNT/TIME`: so many in this time, `100/1h`.
pub(crate) fn parse_rate(text: &str) -> Option<Rate> {
    let (count, time) = text.split_once('/')?;
    let tokens = count.trim().parse().ok().filter(|count| *count > 0)?;
    let seconds = parse_duration(time)?.as_secs();
    let seconds = u32::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    Some(Rate { tokens, seconds })
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_rate(&text).map(Self).ok_or_else(|| {
            D::Error::custom(["`", &text, "` is no rate: write \"100/1h\" or \"20/10m\""].concat())
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: defaults(),
            ipv4_prefix: 24,
            ipv6_prefix: 64,
            exempt_private: true,
            exempt_clients: Networks::default(),
            exempt_table: None,
            exempt_users: Vec::new(),
            exempt_senders: Addresses::default(),
            exempt_recipients: Addresses::default(),
            private: Networks::private(),
        }
    }
}

/// What holds without `limits`: far above what people write, far below what a stolen password or a hijacked
/// machine sends.
fn defaults() -> Vec<Limit> {
    let limit = |per: Per, of: Of, messages: Rate, recipients: Rate| Limit {
        name: per.word().to_owned(),
        per: vec![per],
        of,
        listeners: Vec::new(),
        messages: Some(messages),
        recipients: Some(recipients),
        table: None,
        action: Action::Defer,
        reply: Action::Defer.reply().to_owned(),
        longest_delay: five_seconds(),
        durable: false,
    };
    let in_an_hour = |tokens| Rate { tokens, seconds: 3_600 };
    vec![
        limit(Per::User, Of::Users, in_an_hour(200), in_an_hour(1_000)),
        limit(Per::Client, Of::Strangers, in_an_hour(1_000), in_an_hour(5_000)),
    ]
}

fn prefix(key: &str, bits: u8, least: u8, most: u8) -> Result<(), Error> {
    if (least..=most).contains(&bits) {
        return Ok(());
    }
    let [bits, least, most] = [bits, least, most].map(|number| number.to_string());
    Err(Error::new(
        ["`", key, "` is ", &bits, ", but has to be from ", &least, " to ", &most].concat(),
    ))
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}
