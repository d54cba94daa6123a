//! The plugin's table of the configuration.

use gatepost_plugin::config::Captures;
use gatepost_plugin::{Error, Host, Reply};
use serde::Deserialize;

use crate::header::HeaderRule;
use crate::pattern::{Pattern, Target};

/// What the administrator chose. `README.md` describes every key.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) recipients: Vec<RecipientRule>,
    pub(crate) recipient_table: Option<String>,
    pub(crate) extension_separator: Option<String>,
    pub(crate) reverse_path: Vec<ReversePathRule>,
    pub(crate) reverse_path_table: Option<String>,
    pub(crate) headers: Vec<HeaderRule>,
    pub(crate) routes: Vec<RouteRule>,
    pub(crate) route_table: Option<String>,
}

/// What becomes of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// These take its place.
    Become(Vec<String>),
    /// The client is told that all is well.
    Discard,
    /// 4yz or 5yz.
    Refuse(Reply),
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "RawRecipientRule")]
pub(crate) struct RecipientRule {
    pub(crate) pattern: Pattern,
    to: Vec<Target>,
    keep: bool,
    reply: Option<Reply>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawRecipientRule {
    #[serde(rename = "match")]
    pattern: Pattern,
    #[serde(default)]
    to: Vec<Target>,
    #[serde(default)]
    keep: bool,
    reply: Option<Reply>,
    #[serde(default)]
    discard: bool,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "RawReversePathRule")]
pub(crate) struct ReversePathRule {
    pub(crate) pattern: Pattern,
    pub(crate) to: Target,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawReversePathRule {
    #[serde(rename = "match")]
    pattern: Pattern,
    to: Target,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "RawRouteRule")]
pub(crate) struct RouteRule {
    pub(crate) pattern: Pattern,
    pub(crate) to: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawRouteRule {
    #[serde(rename = "match")]
    pattern: Pattern,
    to: String,
}

impl Config {
    pub(crate) fn read(host: &Host) -> Result<Self, Error> {
        let config: Self = host.config()?;
        let idle = config.recipients.is_empty()
            && config.reverse_path.is_empty()
            && config.headers.is_empty()
            && config.routes.is_empty()
            && config.tables().next().is_none();
        if idle {
            return Err("there is no rule and no table: nothing would ever be rewritten".into());
        }
        if config
            .extension_separator
            .as_deref()
            .is_some_and(|text| text.is_empty() || text.contains('@'))
        {
            return Err("`extension-separator` is what stands before the extension in user+extension@domain, as \"+\"".into());
        }
        Ok(config)
    }

    /// The tables that are asked.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &str> {
        [&self.recipient_table, &self.reverse_path_table, &self.route_table]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .chain(self.headers.iter().filter_map(HeaderRule::table))
    }
}

impl RecipientRule {
    pub(crate) fn action(&self, captures: &Captures<'_>) -> Action {
        if let Some(reply) = &self.reply {
            return Action::Refuse(reply.clone());
        }
        if self.to.is_empty() {
            return Action::Discard;
        }
        let kept = self.keep.then(|| captures.whole.to_owned());
        let made = self.to.iter().map(|target| target.fill(captures));
        Action::Become(distinct(kept.into_iter().chain(made)))
    }
}

impl Action {
    /// A value of a table: addresses with commas between them, `@domain` to keep the local part,
    /// `discard`, or a reply as `550 5.1.6 Moved`.
    pub(crate) fn from_table(value: &str, address: &str) -> Result<Self, Error> {
        let value = value.trim();
        if value.eq_ignore_ascii_case("discard") {
            return Ok(Self::Discard);
        }
        if let Ok(reply) = value.parse() {
            return Ok(Self::Refuse(reply));
        }
        let captures = Captures::of(address);
        let texts = value.split(',').map(str::trim).filter(|text| !text.is_empty());
        let targets: Vec<Target> = texts.map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self::Become(distinct(targets.iter().map(|target| target.fill(&captures)))))
    }
}

impl TryFrom<RawRecipientRule> for RecipientRule {
    type Error = Error;

    fn try_from(raw: RawRecipientRule) -> Result<Self, Error> {
        let RawRecipientRule { pattern, to, keep, reply, discard } = raw;
        let actions = [!to.is_empty(), reply.is_some(), discard];
        if actions.iter().filter(|action| **action).count() != 1 {
            return Err(Error::new(
                [
                    "the rule for `",
                    pattern.as_str(),
                    "` needs one of `to`, `reply` and `discard = true`",
                ]
                .concat(),
            ));
        }
        if keep && to.is_empty() {
            return Err(Error::new(
                ["the rule for `", pattern.as_str(), "`: `keep` belongs to `to`"].concat(),
            ));
        }
        to.iter().try_for_each(|target| target.fits(pattern.stars()))?;
        Ok(Self { pattern, to, keep, reply })
    }
}

impl TryFrom<RawReversePathRule> for ReversePathRule {
    type Error = Error;

    fn try_from(RawReversePathRule { pattern, to }: RawReversePathRule) -> Result<Self, Error> {
        to.fits(pattern.stars())?;
        Ok(Self { pattern, to })
    }
}

impl TryFrom<RawRouteRule> for RouteRule {
    type Error = Error;

    fn try_from(RawRouteRule { pattern, to }: RawRouteRule) -> Result<Self, Error> {
        let known =
            ROUTES.iter().any(|kind| to.strip_prefix(kind).is_some_and(|rest| !rest.is_empty()));
        if known {
            return Ok(Self { pattern, to });
        }
        let hint = "write mx:example.net, smtp:host:25, smtps:host:465, lmtp:/path, lmtp:host:24 or maildir:path";
        Err(Error::new(["`", &to, "` is no route: ", hint].concat()))
    }
}

/// Without repetitions, in order.
fn distinct(addresses: impl Iterator<Item = String>) -> Vec<String> {
    let mut distinct = Vec::new();
    for address in addresses {
        if !distinct.contains(&address) {
            distinct.push(address);
        }
    }
    distinct
}

/// How the textual form of a route begins; the host reads the rest.
const ROUTES: [&str; 5] = ["mx:", "smtp:", "smtps:", "lmtp:", "maildir:"];
