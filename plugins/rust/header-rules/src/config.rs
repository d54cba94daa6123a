//! The plugin's table of the configuration.

use gatepost_plugin::{Error, Host, Reply, config};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::expression::{Expression, Kind, Value};
use crate::parse::{expression, value};
use crate::variable::Scene;

/// What the administrator chose. `README.md` describes every key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) rules: Vec<Rule>,
}

/// When a rule is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    Mail,
    Rcpt,
    #[default]
    Data,
}

/// A condition, and what follows from it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Rule {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) stage: Stage,
    #[serde(default, rename = "if")]
    condition: Option<Condition>,
    #[serde(default)]
    pub(crate) add: Fields,
    #[serde(default)]
    pub(crate) prepend: Fields,
    #[serde(default)]
    pub(crate) replace: Fields,
    #[serde(default, deserialize_with = "config::one_or_more")]
    pub(crate) remove: Vec<FieldName>,
    #[serde(default, deserialize_with = "config::one_or_more")]
    pub(crate) tag: Vec<String>,
    #[serde(default)]
    pub(crate) note: Vec<Pair>,
    #[serde(default)]
    pub(crate) route: Option<Template>,
    #[serde(default)]
    pub(crate) priority: Option<i8>,
    #[serde(default)]
    pub(crate) delay: Option<Delay>,
    /// Refuses, for good or for now.
    #[serde(default)]
    pub(crate) reply: Option<ReplyTemplate>,
    #[serde(default)]
    pub(crate) accept: bool,
    #[serde(default)]
    pub(crate) discard: bool,
    #[serde(default)]
    pub(crate) quarantine: Option<String>,
    /// Later rules are not asked.
    #[serde(default)]
    pub(crate) last: bool,
}

#[derive(Debug)]
struct Condition(Expression);

/// `Name: value`, several of them.
#[derive(Debug, Default)]
pub(crate) struct Fields(pub(crate) Vec<Pair>);

/// A name, and a text with values in it.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) value: Template,
}

/// The name of a header field.
#[derive(Debug)]
pub(crate) struct FieldName(pub(crate) String);

/// `Spam from {client.ip}`.
#[derive(Debug)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(String),
    Value(Value),
}

/// A reply whose text is a template; what it begins with was checked.
#[derive(Debug)]
pub(crate) struct ReplyTemplate {
    pub(crate) is_final: bool,
    template: Template,
}

/// At most a minute: the host adds delays up to its own bound.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Delay(#[serde(with = "config::duration")] pub(crate) std::time::Duration);

impl Config {
    pub(crate) fn read(host: &Host) -> Result<Self, Error> {
        let mut config: Self = host.config()?;
        if config.rules.is_empty() {
            return Err("`rules` is empty: nothing would ever be done".into());
        }
        for (index, rule) in config.rules.iter_mut().enumerate() {
            if rule.name.is_empty() {
                rule.name = ["rule ", &(index + 1).to_string()].concat();
            }
            rule.check(host).map_err(|error| {
                let index = index.to_string();
                Error::new(
                    ["`rules[", &index, "]` (", &rule.name, "): ", &error.to_string()].concat(),
                )
            })?;
        }
        Ok(config)
    }
}

impl Rule {
    pub(crate) fn holds(&self, scene: &Scene<'_>) -> Result<bool, Error> {
        match &self.condition {
            None => Ok(true),
            Some(Condition(expression)) => Ok(expression.is_true(scene)?),
        }
    }

    fn check(&self, host: &Host) -> Result<(), Error> {
        let verdicts = [self.reply.is_some(), self.accept, self.discard, self.quarantine.is_some()];
        let count = verdicts.iter().filter(|given| **given).count();
        if count > 1 {
            return Err(
                "only one of `reply`, `accept`, `discard` and `quarantine` can be done".into()
            );
        }
        let edits_fields = !(self.add.0.is_empty()
            && self.prepend.0.is_empty()
            && self.replace.0.is_empty()
            && self.remove.is_empty());
        let idle = count == 0
            && !edits_fields
            && self.tag.is_empty()
            && self.note.is_empty()
            && self.route.is_none()
            && self.priority.is_none()
            && self.delay.is_none()
            && !self.last;
        if idle {
            return Err("nothing follows: it needs `reply`, `add`, `tag` or another action".into());
        }
        let only_data = edits_fields || self.quarantine.is_some();
        let after_mail = self.discard || self.route.is_some();
        if only_data && self.stage != Stage::Data {
            return Err("fields are edited and messages held at `stage` = \"data\"".into());
        }
        if after_mail && self.stage == Stage::Mail {
            return Err(
                "`discard` and `route` need a recipient: `stage` = \"rcpt\" or \"data\"".into()
            );
        }
        if self
            .quarantine
            .as_deref()
            .into_iter()
            .chain(self.tag.iter().map(String::as_str))
            .any(|name| !is_name(name))
        {
            return Err("`quarantine` and `tag` have 1 to 64 letters, digits, `-`, `_`, `.`".into());
        }
        self.check_values(host)
    }

    /// Everything is known at this stage, and the host answers for every table.
    fn check_values(&self, host: &Host) -> Result<(), Error> {
        let condition = self.condition.as_ref().map(|condition| &condition.0);
        let pairs = [&self.add.0, &self.prepend.0, &self.replace.0, &self.note];
        let templates = pairs.into_iter().flatten().map(|pair| &pair.value);
        let templates = templates.chain(&self.route);
        let templates = templates.chain(self.reply.as_ref().map(|reply| &reply.template));
        let mut values = condition.map(Expression::values).unwrap_or_default();
        values.extend(templates.flat_map(Template::values));
        let mut tables = condition.map(Expression::tables).unwrap_or_default();
        for value in values {
            if let Some(early) = value.too_early(self.stage) {
                let stage = match early.stage() {
                    Stage::Mail => "mail",
                    Stage::Rcpt => "rcpt",
                    Stage::Data => "data",
                };
                return Err(Error::new(
                    ["`", &early.name(), "` is known from `stage` = \"", stage, "\" on"].concat(),
                ));
            }
            tables.extend(value.tables());
        }
        for (table, kind) in tables {
            let lookup = host.lookup(table);
            match kind {
                Kind::Ip => lookup.require_networks()?,
                Kind::Address => lookup.require_addresses()?,
                Kind::Domain => drop(lookup.match_domain("probe.invalid")?),
                Kind::Text | Kind::Number | Kind::Truth => drop(lookup.get("probe")?),
            }
        }
        Ok(())
    }
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        if text.contains(['\r', '\n', '\0']) {
            return Err("this is one line: the host folds what is long".to_owned());
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            if let Some(behind) = behind.strip_prefix('{') {
                pieces.push(Piece::Text([before, "{"].concat()));
                rest = behind;
                continue;
            }
            let Some((inner, behind)) = behind.split_once('}') else {
                return Err(["`", text, "`: a `{` has no `}`; write `{{` for a brace"].concat());
            };
            let found = value(inner)
                .map_err(|fault| ["in `{", inner, "}` ", &fault.tell(inner)].concat())?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Value(found));
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    fn values(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Value(value) => Some(value),
            Piece::Text(_) => None,
        })
    }

    /// With `", "` between several values, and without line ends.
    pub(crate) fn fill(&self, scene: &Scene<'_>) -> Result<String, Error> {
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled += text,
                Piece::Value(value) => filled += &value.texts(scene)?.join(", "),
            }
        }
        Ok(filled.replace(['\r', '\n', '\0'], " ").trim().to_owned())
    }
}

impl ReplyTemplate {
    pub(crate) fn fill(&self, scene: &Scene<'_>) -> Result<Reply, Error> {
        self.template.fill(scene)?.parse()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let reply: Reply = text.parse().map_err(|error: Error| error.to_string())?;
        Ok(Self { is_final: reply.code >= 500, template: Template::parse(text)? })
    }
}

impl Pair {
    /// `Name: value`.
    fn parse(text: &str) -> Result<Self, String> {
        let Some((name, value)) = text.split_once(':') else {
            return Err(["`", text, "` has no colon: write `Name: value`"].concat());
        };
        Ok(Self { name: name.trim().to_owned(), value: Template::parse(value)? })
    }
}

impl FieldName {
    fn parse(text: &str) -> Result<Self, String> {
        // RFC 5322 §2.2: printable US-ASCII without the colon.
        let is_legal =
            !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':');
        if is_legal {
            Ok(Self(text.to_owned()))
        } else {
            Err(["`", text, "` is no name of a header field"].concat())
        }
    }
}

macro_rules! from_text {
    ($($name:ty: $parse:expr;)*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let parse: fn(&str) -> Result<Self, String> = $parse;
                parse(&text).map_err(D::Error::custom)
            }
        }
    )*};
}

from_text! {
    Condition: |text| expression(text).map(Self).map_err(|fault| fault.tell(text));
    Template: Self::parse;
    ReplyTemplate: Self::parse;
    Pair: Self::parse;
    FieldName: Self::parse;
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs: Vec<Pair> = config::one_or_more(deserializer)?;
        for pair in &pairs {
            FieldName::parse(&pair.name).map_err(D::Error::custom)?;
        }
        Ok(Self(pairs))
    }
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet))
}
