//! The plugin's table of the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use gatepost_plugin::config::{self, Networks, duration, size};
use gatepost_plugin::{Error, Host};
use serde::Deserialize;

/// What the administrator chose. `README.md` describes every key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Config {
    /// In order: who is asked first.
    #[serde(deserialize_with = "config::one_or_more")]
    pub(crate) url: Vec<String>,
    #[serde(with = "duration")]
    pub(crate) timeout: Duration,
    pub(crate) password: Option<String>,
    /// The settings of rspamd to use, by their id.
    pub(crate) settings_id: Option<String>,
    #[serde(with = "size")]
    pub(crate) max_size: u64,
    pub(crate) origins: Vec<String>,
    pub(crate) scan_users: bool,
    pub(crate) exempt_clients: Networks,
    pub(crate) actions: BTreeMap<String, Treatment>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) milter_headers: bool,
    pub(crate) spam_header: String,
    pub(crate) subject: String,
    pub(crate) reject_text: String,
    pub(crate) defer_text: String,
    pub(crate) quarantine: String,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Treatment {
    /// Nothing but the edits that rspamd wants.
    Pass,
    /// Also a field that says it is spam.
    Header,
    /// Also another subject.
    Subject,
    Defer,
    Reject,
    Quarantine,
    Discard,
}

impl Treatment {
    /// What rspamd's own milter makes of its actions.
    pub(crate) fn of_action(action: &str) -> Option<Self> {
        Some(match action {
            // A message that has to wait comes as "soft reject" from the module; "greylist" alone is a threshold.
            "no action" | "greylist" => Self::Pass,
            "add header" => Self::Header,
            "rewrite subject" => Self::Subject,
            "soft reject" => Self::Defer,
            "reject" => Self::Reject,
            "quarantine" => Self::Quarantine,
            "discard" => Self::Discard,
            _ => return None,
        })
    }
}

impl Config {
    pub(crate) fn read(host: &Host) -> Result<Self, Error> {
        let mut config: Self = host.config()?;
        if config.url.is_empty() {
            return Err("`url` is empty: there is nobody to ask".into());
        }
        for url in &mut config.url {
            *url = url.trim_end_matches('/').to_owned();
            let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            if rest.is_none_or(|host| host.is_empty() || host.contains('/')) {
                return Err(Error::new(
                    ["`url`: `", url, "` has to be like http://127.0.0.1:11333, without a path"]
                        .concat(),
                ));
            }
        }
        if config.timeout.is_zero() {
            return Err("`timeout` is 0: rspamd could never answer".into());
        }
        if config.subject.contains(['\r', '\n']) || !config.subject.contains("{subject}") {
            return Err(
                "`subject` has to be one line with `{subject}` in it: nobody likes to lose it"
                    .into(),
            );
        }
        let name = |text: &str| {
            (1..=64).contains(&text.len())
                && text
                    .bytes()
                    .all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet))
        };
        if !name(&config.quarantine) {
            return Err("`quarantine` has 1 to 64 letters, digits, `-`, `_`, `.`".into());
        }
        if let Some((action, _)) = config.tags.iter().find(|(_, tag)| !name(tag)) {
            return Err(Error::new(
                ["`tags.", action, "` has 1 to 64 letters, digits, `-`, `_`, `.`"].concat(),
            ));
        }
        Ok(config)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: vec!["http://127.0.0.1:11333".to_owned()],
            // Below the 10 s that a call has, so that a second server can still be asked.
            timeout: Duration::from_secs(8),
            password: None,
            settings_id: None,
            max_size: 50 << 20,
            origins: ["mx", "submission", "submissions", "lmtp", "local"]
                .map(str::to_owned)
                .to_vec(),
            scan_users: true,
            exempt_clients: Networks::default(),
            actions: BTreeMap::new(),
            tags: BTreeMap::new(),
            milter_headers: true,
            spam_header: "X-Spam".to_owned(),
            subject: "[SPAM] {subject}".to_owned(),
            reject_text: "Spam message rejected".to_owned(),
            defer_text: "Try again later".to_owned(),
            quarantine: "rspamd".to_owned(),
        }
    }
}
