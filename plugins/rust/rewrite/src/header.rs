//! Rules that add, replace and remove header fields.

use std::cell::OnceCell;

use gatepost_plugin::config::{Captures, Glob};
use gatepost_plugin::{Content, Error, Host, Session, SessionInfo, Transaction};
use serde::Deserialize;

use crate::config::Action;
use crate::mailboxes::map_addresses;
use crate::pattern::{Pattern, Target, check_references, fill};

/// One rule, with its conditions.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawRule")]
pub(crate) struct HeaderRule {
    name: String,
    edit: Edit,
    /// Only fields with such a value.
    value_is: Option<Glob>,
    origins: Vec<String>,
    sender: Option<Pattern>,
    recipient: Option<Pattern>,
}

#[derive(Debug, PartialEq, Eq)]
enum Edit {
    /// Below all others, or above.
    Add {
        value: String,
        on_top: bool,
        unless_present: bool,
    },
    Replace {
        value: String,
    },
    Remove,
    /// The addresses in it, by a pattern or by a table.
    Map(Map),
}

#[derive(Debug, PartialEq, Eq)]
enum Map {
    Rule(Pattern, Target),
    Table(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawRule {
    add: Option<String>,
    prepend: Option<String>,
    replace: Option<String>,
    remove: Option<String>,
    map: Option<String>,
    #[serde(rename = "match")]
    pattern: Option<Pattern>,
    to: Option<Target>,
    table: Option<String>,
    value: Option<String>,
    #[serde(default)]
    unless_present: bool,
    value_is: Option<Glob>,
    #[serde(default)]
    origins: Vec<String>,
    sender: Option<Pattern>,
    recipient: Option<Pattern>,
}

/// What conditions and templates can ask about the message. The host is asked for what somebody wants to know, once:
/// each answer is copied into the sandbox.
pub(crate) struct Facts<'a> {
    session: &'a Session,
    transaction: &'a Transaction,
    info: OnceCell<SessionInfo>,
    sender: OnceCell<Option<String>>,
    recipients: OnceCell<Vec<String>>,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(session: &'a Session, transaction: &'a Transaction) -> Self {
        let (info, sender, recipients) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { session, transaction, info, sender, recipients }
    }

    /// `None`: the null reverse-path.
    pub(crate) fn sender(&self) -> Option<&str> {
        self.sender.get_or_init(|| self.transaction.reverse_path()).as_deref()
    }

    fn info(&self) -> &SessionInfo {
        self.info.get_or_init(|| self.session.info())
    }

    fn recipients(&self) -> &[String] {
        self.recipients.get_or_init(|| {
            let all = self.transaction.recipients().into_iter();
            all.map(|recipient| recipient.address).collect()
        })
    }

    /// `$i` the id, `$c` the client's address, `$h` its HELO name, `$l` the listener, `$s` the
    /// reverse-path, `$u` the authenticated identity; what is not there is empty.
    fn get(&self, key: char) -> Option<String> {
        let auth = || self.info().auth.as_ref().map(|auth| auth.identity.clone());
        Some(match key {
            'i' => self.transaction.id(),
            'c' => self.info().client.ip.clone(),
            'l' => self.info().listener.clone(),
            'h' => self.info().helo.clone().unwrap_or_default(),
            's' => self.sender().unwrap_or_default().to_owned(),
            'u' => auth().unwrap_or_default(),
            _ => return None,
        })
    }
}

impl HeaderRule {
    /// Stages the edits; says what was done.
    pub(crate) fn apply(
        &self,
        host: &Host,
        content: &Content,
        facts: &Facts<'_>,
    ) -> Result<Option<String>, Error> {
        if !self.applies(facts) {
            return Ok(None);
        }
        let present = match &self.edit {
            Edit::Add { unless_present: false, .. } | Edit::Map(_) => Vec::new(),
            _ => content.header(&self.name),
        };
        let count = match &self.edit {
            Edit::Add { unless_present: true, .. } if !present.is_empty() => 0,
            Edit::Add { value, on_top, .. } => {
                let value = fill(value, |key| facts.get(key));
                let value = value.trim();
                if *on_top {
                    content.prepend_header(&self.name, value)?
                } else {
                    content.add_header(&self.name, value)?
                }
                1
            }
            Edit::Replace { value } => self.replace(content, facts, &present, value)?,
            Edit::Remove => self.remove(content, &present)?,
            Edit::Map(map) => self.map(host, content, map)?,
        };
        let what = match self.edit {
            Edit::Add { .. } => " added",
            Edit::Replace { .. } => " replaced",
            Edit::Remove => " removed",
            Edit::Map(_) => " mapped",
        };
        Ok((count > 0).then(|| [&self.name, what].concat()))
    }

    /// The table that it asks.
    pub(crate) fn table(&self) -> Option<&str> {
        match &self.edit {
            Edit::Map(Map::Table(table)) => Some(table),
            _ => None,
        }
    }

    fn applies(&self, facts: &Facts<'_>) -> bool {
        let sender =
            |pattern: &Pattern| pattern.captures(facts.sender().unwrap_or_default()).is_some();
        (self.origins.is_empty() || self.origins.contains(&facts.info().origin))
            && self.sender.as_ref().is_none_or(sender)
            && self.recipient.as_ref().is_none_or(|pattern| {
                facts.recipients().iter().any(|address| pattern.captures(address).is_some())
            })
    }

    fn replace(
        &self,
        content: &Content,
        facts: &Facts<'_>,
        present: &[String],
        template: &str,
    ) -> Result<usize, Error> {
        let mut count = 0;
        for (index, captures) in self.found(present) {
            let value = fill(template, |key| captures.get(key).or_else(|| facts.get(key)));
            content.replace_header(&self.name, index, value.trim())?;
            count += 1;
        }
        Ok(count)
    }

    /// From the last to the first, so that the numbers of those to come stay true.
    fn remove(&self, content: &Content, present: &[String]) -> Result<usize, Error> {
        let mut found = self.found(present);
        found.reverse();
        for (index, _) in &found {
            content.remove_header(&self.name, Some(*index))?;
        }
        Ok(found.len())
    }

    /// Addresses become others; names, comments and encoded words stay as they are written.
    fn map(&self, host: &Host, content: &Content, map: &Map) -> Result<usize, Error> {
        let mut count = 0;
        for (index, raw) in (0..).zip(content.raw_header(&self.name)) {
            let raw = String::from_utf8_lossy(&raw).replace(['\r', '\n'], "");
            let value = raw.split_once(':').map_or("", |(_, value)| value.trim());
            let mut fault = None;
            let mapped = map_addresses(value, |address| {
                map.of(host, address).unwrap_or_else(|error| {
                    fault = Some(error);
                    None
                })
            });
            if let Some(error) = fault {
                return Err(error);
            }
            if let Some(mapped) = mapped {
                content.replace_header(&self.name, index, &mapped)?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn found<'a>(&self, present: &'a [String]) -> Vec<(u32, Captures<'a>)> {
        let captures = |value: &'a str| match &self.value_is {
            Some(glob) => glob.captures(value),
            None => Some(Captures::of(value)),
        };
        (0..).zip(present).filter_map(|(index, value)| Some((index, captures(value)?))).collect()
    }
}

impl Map {
    /// The address in the place of this one.
    fn of(&self, host: &Host, address: &str) -> Result<Option<String>, Error> {
        let table = match self {
            Self::Rule(pattern, target) => {
                return Ok(pattern.captures(address).map(|captures| target.fill(&captures)));
            }
            Self::Table(table) => table,
        };
        let value = host.lookup(table).match_address(address)?.unwrap_or_default();
        match Action::from_table(&value, address) {
            Ok(Action::Become(mut addresses)) if addresses.len() <= 1 => Ok(addresses.pop()),
            _ => Err(Error::new(
                ["table ", table, ": the value for ", address, " has to be one address"].concat(),
            )),
        }
    }
}

impl RawRule {
    /// `map` has either `match` with `to`, or `table`; no other rule has any of these.
    fn take_map(&mut self) -> Result<Option<Map>, Error> {
        let given = (self.pattern.take(), self.to.take(), self.table.take());
        match (self.map.is_some(), given) {
            (false, (None, None, None)) => Ok(None),
            (true, (Some(pattern), Some(to), None)) => {
                to.fits(pattern.stars())?;
                Ok(Some(Map::Rule(pattern, to)))
            }
            (true, (None, None, Some(table))) => Ok(Some(Map::Table(table))),
            (true, _) => Err("`map` needs `match` and `to`, or `table`".into()),
            (false, _) => Err("`match`, `to` and `table` belong to `map`".into()),
        }
    }
}

impl TryFrom<RawRule> for HeaderRule {
    type Error = Error;

    fn try_from(mut raw: RawRule) -> Result<Self, Error> {
        let map = raw.take_map()?;
        let kinds = [&raw.add, &raw.prepend, &raw.replace, &raw.remove, &raw.map];
        let mut named = kinds
            .iter()
            .enumerate()
            .filter_map(|(kind, name)| name.as_deref().map(|name| (kind, name)));
        let (Some((kind, name)), None) = (named.next(), named.next()) else {
            return Err("a header rule needs one of `add`, `prepend`, `replace`, `remove` and `map`, with the name of the field".into());
        };
        let name = field_name(name)?;
        let adds = kind < 2;
        if map.is_some() && (raw.value.is_some() || raw.value_is.is_some()) {
            return Err("`map` has neither `value` nor `value-is`".into());
        }
        if adds && raw.value_is.is_some() {
            return Err(
                "`value-is` belongs to `replace` and `remove`; a new field has no value to compare"
                    .into(),
            );
        }
        if raw.unless_present && !adds {
            return Err("`unless-present` belongs to `add` and `prepend`".into());
        }
        let edit = match (kind, raw.value) {
            (4, _) => Edit::Map(map.ok_or("`map` needs `match` and `to`, or `table`")?),
            (3, None) => Edit::Remove,
            (3, Some(_)) => return Err("`remove` has no `value`; choose by `value-is`".into()),
            (_, None) => {
                return Err(Error::new(["the rule for ", &name, " needs a `value`"].concat()));
            }
            (2, Some(value)) => {
                check_references(&value, raw.value_is.as_ref().map_or(0, Glob::stars))?;
                Edit::Replace { value: text(value)? }
            }
            (_, Some(value)) => Edit::Add {
                value: text(value)?,
                on_top: kind == 1,
                unless_present: raw.unless_present,
            },
        };
        let RawRule { value_is, origins, sender, recipient, .. } = raw;
        Ok(Self { name, edit, value_is, origins, sender, recipient })
    }
}

/// RFC 5322 §2.2 and §3.6.8: printable US-ASCII without the colon. The host refuses the rest: the
/// fields that it makes itself.
fn field_name(name: &str) -> Result<String, Error> {
    let legal =
        !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':');
    let reserved = RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name));
    match (legal, reserved) {
        (true, false) => Ok(name.to_owned()),
        (true, true) => {
            Err(Error::new([name, " is made by the host and cannot be edited"].concat()))
        }
        (false, _) => Err(Error::new(["`", name, "` is no name of a header field"].concat())),
    }
}

fn text(value: String) -> Result<String, Error> {
    if value.contains(['\r', '\n', '\0']) {
        return Err("`value` is one line: the host folds what is long".into());
    }
    Ok(value)
}

/// See `content.add-header` in `wit/message.wit`.
const RESERVED: [&str; 4] = ["Received", "Return-Path", "DKIM-Signature", "Authentication-Results"];
