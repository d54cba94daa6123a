//! The plugin's table of the configuration.

use gatepost_plugin::config::{self, Addresses, Glob, Networks, size};
use gatepost_plugin::{Error, Host, Reply};
use serde::Deserialize;

use crate::file::{File, Kind};

/// What the administrator chose. `README.md` describes every key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) rules: Vec<Rule>,
    /// Look into them.
    pub(crate) archives: bool,
    /// So many octets are unpacked of one message.
    #[serde(with = "size")]
    pub(crate) unpack: u64,
    pub(crate) note: String,
    pub(crate) origins: Vec<String>,
    pub(crate) exempt_clients: Networks,
    pub(crate) exempt_senders: Addresses,
    pub(crate) exempt_recipients: Addresses,
}

/// Which files, and what becomes of a message with one.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawRule")]
pub(crate) struct Rule {
    pub(crate) name: String,
    names: Vec<(String, Glob)>,
    types: Vec<(String, Glob)>,
    contains: Vec<Kind>,
    larger_than: Option<u64>,
    within_archives: bool,
    pub(crate) action: Action,
    pub(crate) reply: String,
    pub(crate) quarantine: String,
    pub(crate) tag: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawRule {
    name: Option<String>,
    #[serde(default, deserialize_with = "config::one_or_more")]
    names: Vec<String>,
    #[serde(default, deserialize_with = "config::one_or_more")]
    types: Vec<String>,
    #[serde(default, deserialize_with = "config::one_or_more")]
    contains: Vec<Kind>,
    #[serde(default)]
    larger_than: Option<Octets>,
    #[serde(default = "yes")]
    within_archives: bool,
    action: Action,
    reply: Option<String>,
    quarantine: Option<String>,
    tag: Option<String>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Octets(#[serde(with = "size")] u64);

/// What becomes of a message; the later, the severer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    Pass,
    Tag,
    Strip,
    Quarantine,
    Reject,
}

impl Action {
    /// For `gatepost why`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pass => "passed",
            Self::Tag => "tagged",
            Self::Strip => "stripped",
            Self::Quarantine => "held",
            Self::Reject => "refused",
        }
    }
}

impl Config {
    pub(crate) fn read(host: &Host) -> Result<Self, Error> {
        let config: Self = host.config()?;
        if config.rules.is_empty() {
            return Err("`rules` is empty: leave it out for the rule against programs".into());
        }
        if config.unpack > MOST_UNPACKED {
            return Err("`unpack` is at most \"8 MiB\": an instance has 16 MiB of memory".into());
        }
        Ok(config)
    }
}

impl Rule {
    /// Why this file fits, if it does.
    pub(crate) fn fits(&self, file: &File) -> Option<String> {
        if file.is_packed && !self.within_archives {
            return None;
        }
        let named = |list: &[(String, Glob)], text: &str| {
            list.iter().find(|(_, glob)| glob.matches(text)).map(|(pattern, _)| pattern.clone())
        };
        if let Some(pattern) = named(&self.names, &file.name) {
            return Some(["its name is ", &pattern].concat());
        }
        if let Some(pattern) = named(&self.types, &file.content_type) {
            return Some(["its type is ", &pattern].concat());
        }
        if let Some(kind) = self.contains.iter().find(|kind| file.kinds.contains(kind)) {
            return Some(kind.reason().to_owned());
        }
        self.larger_than.filter(|most| file.size > *most).map(|_| "it is too large".to_owned())
    }
}

impl TryFrom<RawRule> for Rule {
    type Error = Error;

    fn try_from(raw: RawRule) -> Result<Self, Error> {
        let first = raw.names.first().or(raw.types.first()).cloned();
        let first = first.or(raw.contains.first().map(|kind| kind.word().to_owned()));
        let name = raw.name.or(first).or(raw.larger_than.as_ref().map(|_| "large".to_owned()));
        let Some(name) = name else {
            return Err("a rule needs `names`, `types`, `contains` or `larger-than`".into());
        };
        let fault = |text: &str| Err(Error::new(["the rule `", &name, "`: ", text].concat()));
        let reply = raw.reply.unwrap_or_else(|| REPLY.to_owned());
        match reply.parse::<Reply>() {
            Ok(reply) if reply.code >= 500 => {}
            Ok(_) => return fault("`reply` needs a code from 500 to 599"),
            Err(error) => return fault(&["`reply`: ", &error.to_string()].concat()),
        }
        if raw.action == Action::Tag && raw.tag.is_none() {
            return fault("`action` = \"tag\" needs a `tag`");
        }
        let is_name = |text: &String| {
            (1..=64).contains(&text.len())
                && text
                    .bytes()
                    .all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet))
        };
        let quarantine = raw.quarantine.unwrap_or_else(|| "attachments".to_owned());
        if !is_name(&quarantine) || !raw.tag.iter().all(is_name) {
            return fault("`quarantine` and `tag` have 1 to 64 letters, digits, `-`, `_`, `.`");
        }
        let globs = |list: Vec<String>| {
            list.into_iter().map(|text| (text.clone(), Glob::from(text.as_str()))).collect()
        };
        Ok(Self {
            names: globs(raw.names),
            types: globs(raw.types),
            contains: raw.contains,
            larger_than: raw.larger_than.map(|octets| octets.0),
            within_archives: raw.within_archives,
            action: raw.action,
            reply,
            quarantine,
            tag: raw.tag,
            name,
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rules: vec![programs()],
            archives: true,
            unpack: 4 << 20,
            note: "The file \"{name}\" was removed from this message on its way to you: {reason}."
                .to_owned(),
            origins: Vec::new(),
            exempt_clients: Networks::default(),
            exempt_senders: Addresses::default(),
            exempt_recipients: Addresses::default(),
        }
    }
}

/// What a double click runs on Windows, and nobody mails on purpose.
fn programs() -> Rule {
    let pattern = |ending: &str| ["*.", ending].concat();
    Rule {
        name: "programs".to_owned(),
        names: PROGRAMS
            .split(' ')
            .map(|ending| (pattern(ending), Glob::from(pattern(ending).as_str())))
            .collect(),
        types: Vec::new(),
        contains: vec![Kind::Program],
        larger_than: None,
        within_archives: true,
        action: Action::Reject,
        reply: REPLY.to_owned(),
        quarantine: "attachments".to_owned(),
        tag: None,
    }
}

fn yes() -> bool {
    true
}

const PROGRAMS: &str = "ade adp appref-ms bas bat chm cmd com cpl diagcab dll exe gadget hlp hta inf ins isp jar \
                        jnlp js jse lnk mde msc msi msix msp mst ocx pif ps1 ps1xml ps2 psc1 psm1 reg scf scr sct \
                        settingcontent-ms shb shs sys vb vbe vbs vhd vhdx vxd wsc wsf wsh xll";
const REPLY: &str = "550 5.7.1 This file is not taken here: {name} ({reason})";
const MOST_UNPACKED: u64 = 8 << 20;
