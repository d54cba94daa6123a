//! The plugin's table of the configuration.

use std::net::IpAddr;
use std::time::Duration;

use gatepost_plugin::config::{Addresses, Networks, duration};
use gatepost_plugin::{Error, Host};
use serde::Deserialize;

/// What the administrator chose. `README.md` describes every key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Config {
    #[serde(with = "duration")]
    pub(crate) delay: Duration,
    #[serde(with = "duration")]
    pub(crate) retry_window: Duration,
    #[serde(with = "duration")]
    pub(crate) lifetime: Duration,
    /// 0: no client is ever trusted as a whole.
    pub(crate) trust_after: u32,
    pub(crate) ipv4_prefix: u8,
    pub(crate) ipv6_prefix: u8,
    exempt_private: bool,
    exempt_clients: Networks,
    pub(crate) exempt_table: Option<String>,
    pub(crate) exempt_senders: Addresses,
    pub(crate) exempt_recipients: Addresses,
    /// Not configured: [`Networks::private`], read once.
    #[serde(skip, default = "Networks::private")]
    private: Networks,
}

impl Config {
    pub(crate) fn read(host: &Host) -> Result<Self, Error> {
        let config: Self = host.config()?;
        // RFC 5321 §4.5.4.1: a client waits at least 30 minutes, and gives up after 4 to 5 days.
        if config.retry_window <= config.delay + Duration::from_secs(3_600) {
            return Err("`retry-window` has to be more than an hour longer than `delay`: many servers come back after 30 minutes or later".into());
        }
        if config.lifetime < config.retry_window {
            return Err("`lifetime` is shorter than `retry-window`".into());
        }
        prefix("ipv4-prefix", config.ipv4_prefix, 8, 32)?;
        prefix("ipv6-prefix", config.ipv6_prefix, 16, 128)?;
        Ok(config)
    }

    pub(crate) fn exempts_client(&self, client: IpAddr) -> bool {
        self.exempt_clients.contains(client) || self.exempt_private && self.private.contains(client)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(5 * 60),
            retry_window: Duration::from_secs(2 * DAY),
            lifetime: Duration::from_secs(36 * DAY),
            trust_after: 5,
            ipv4_prefix: 24,
            ipv6_prefix: 64,
            exempt_private: true,
            exempt_clients: Networks::default(),
            exempt_table: None,
            exempt_senders: Addresses::default(),
            exempt_recipients: Addresses::default(),
            private: Networks::private(),
        }
    }
}

fn prefix(key: &str, bits: u8, least: u8, most: u8) -> Result<(), Error> {
    if (least..=most).contains(&bits) {
        return Ok(());
    }
    Err(Error::new(format!("`{key}` is {bits}, but has to be from {least} to {most}")))
}

const DAY: u64 = 86_400;
