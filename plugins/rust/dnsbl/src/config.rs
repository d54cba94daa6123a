//! The plugin's table of the configuration.

use std::net::{IpAddr, Ipv4Addr};

use gatepost_plugin::config::{Addresses, Networks};
use gatepost_plugin::{Error, Host, Reply};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::question::is_name;

/// What the administrator chose. `README.md` describes every key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) zones: Vec<Zone>,
    #[serde(default)]
    pub(crate) refuse_at: Stage,
    #[serde(default = "one")]
    pub(crate) reject: i32,
    #[serde(default)]
    pub(crate) defer: Option<i32>,
    #[serde(default = "default_reply")]
    pub(crate) reply: String,
    #[serde(default = "yes")]
    exempt_private: bool,
    #[serde(default)]
    exempt_clients: Networks,
    #[serde(default)]
    pub(crate) exempt_table: Option<String>,
    #[serde(default)]
    pub(crate) exempt_senders: Addresses,
    #[serde(default)]
    pub(crate) exempt_recipients: Addresses,
    /// Hosts of URIs that are not asked about.
    #[serde(default)]
    pub(crate) exempt_uris: Addresses,
    /// Of one message, so many hosts are asked about.
    #[serde(default = "twenty")]
    pub(crate) most_uris: usize,
    /// Not configured: [`Networks::private`], read once.
    #[serde(skip, default = "Networks::private")]
    private: Networks,
}

/// From which stage on the lists are asked and obeyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    Connect,
    Helo,
    #[default]
    Mail,
    Rcpt,
    /// URIs are asked about there; nobody chooses it.
    #[serde(skip)]
    Data,
}

/// One list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Zone {
    #[serde(deserialize_with = "zone_name")]
    pub(crate) name: String,
    #[serde(default = "client")]
    of: Vec<Subject>,
    #[serde(default = "one")]
    score: i32,
    #[serde(default)]
    codes: Vec<Code>,
    #[serde(default = "yes")]
    pub(crate) text: bool,
}

/// What a list knows about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Subject {
    /// The address of the client.
    Client,
    /// The name in HELO or EHLO.
    Helo,
    /// The domain of the reverse-path.
    Sender,
    /// A host that a URI in the body names.
    Uri,
}

/// What an answer counts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Code {
    answer: Answers,
    score: i32,
}

/// A range of answers: `127.0.0.2` or `127.0.0.4-7`.
#[derive(Debug)]
struct Answers {
    from: Ipv4Addr,
    to: Ipv4Addr,
}

impl Config {
    pub(crate) fn read(host: &Host) -> Result<Self, Error> {
        let config: Self = host.config()?;
        if config.zones.is_empty() {
            return Err("`zones` is empty: there is nobody to ask".into());
        }
        if config.reject < 1 || config.defer.is_some_and(|defer| defer < 1) {
            return Err("`reject` and `defer` are scores of at least 1: with less, everybody would be refused".into());
        }
        if config.defer.is_some_and(|defer| defer >= config.reject) {
            return Err("`defer` has to be below `reject`, or nothing is ever deferred".into());
        }
        match config.reply.parse::<Reply>() {
            Ok(reply) if reply.code >= 500 => {}
            Ok(_) => {
                return Err(
                    "`reply` needs a code from 500 to 599; `defer` has a reply of its own".into()
                );
            }
            Err(error) => return Err(Error::new(["`reply`: ", &error.to_string()].concat())),
        }
        if !(1..=50).contains(&config.most_uris) {
            return Err(
                "`most-uris` is from 1 to 50: each is several questions to each list".into()
            );
        }
        if config.refuse_at < Stage::Mail && !config.exempt_senders.is_empty() {
            return Err("`exempt-senders` needs `refuse-at` = \"mail\" or \"rcpt\": before, the sender is not known".into());
        }
        if config.refuse_at != Stage::Rcpt && !config.exempt_recipients.is_empty() {
            return Err("`exempt-recipients` needs `refuse-at` = \"rcpt\": before, the recipient is not known".into());
        }
        Ok(config)
    }

    pub(crate) fn exempts_client(&self, client: IpAddr) -> bool {
        self.exempt_clients.contains(client) || self.exempt_private && self.private.contains(client)
    }
}

impl Zone {
    pub(crate) fn knows(&self, subject: Subject) -> bool {
        self.of.contains(&subject)
    }

    /// What an answer of this list counts; `None` for one that says nothing. With `codes` the first
    /// that fits; without, everything in 127.0.0.0/8 (RFC 5782 §2.1) is a listing.
    pub(crate) fn score(&self, answer: Ipv4Addr) -> Option<i32> {
        if answer.octets()[0] != 127 || refuses_to_say(answer) {
            return None;
        }
        if self.codes.is_empty() {
            return Some(self.score);
        }
        let code =
            self.codes.iter().find(|code| (code.answer.from..=code.answer.to).contains(&answer));
        code.map(|code| code.score)
    }
}

/// 127.255.255.0/24 says by common custom that the question was not answered: over a public
/// resolver, by too large a user, for a mistyped zone. It never means a listing.
pub(crate) fn refuses_to_say(answer: Ipv4Addr) -> bool {
    answer.octets()[..3] == [127, 255, 255]
}

impl<'de> Deserialize<'de> for Answers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let range = || {
            let (from, to) = text.split_once('-').unwrap_or((&text, ""));
            let from: Ipv4Addr = from.parse().ok()?;
            let [a, b, c, d] = from.octets();
            let last = if to.is_empty() && !text.contains('-') { d } else { to.parse().ok()? };
            (a == 127 && d <= last).then(|| Self { from, to: Ipv4Addr::new(a, b, c, last) })
        };
        range().ok_or_else(|| {
            D::Error::custom(
                ["`", &text, "` is no answer of a list: write 127.0.0.2 or 127.0.0.4-7"].concat(),
            )
        })
    }
}

fn zone_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    if is_name(&name) {
        Ok(name)
    } else {
        Err(D::Error::custom(["`", &text, "` is no domain name"].concat()))
    }
}

fn client() -> Vec<Subject> {
    vec![Subject::Client]
}

fn twenty() -> usize {
    20
}

fn one() -> i32 {
    1
}

fn yes() -> bool {
    true
}

fn default_reply() -> String {
    "550 5.7.1 {subject} is listed by {zone}; {text}".to_owned()
}
