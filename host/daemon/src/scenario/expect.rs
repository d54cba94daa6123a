//! What a scenario expects, as it is written: for each stage what was said there, and what came of it all.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use crate::config::reader::{Node, Reader};
use crate::config::value::to_json;

/// `expect`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// By the name of the stage, in the order of the stages; each with one entry, which holds for all questions of the stage, or one
    /// for each question.
    pub(crate) stages: Vec<(&'static str, Said)>,
    /// What came of it, by key.
    pub(crate) outcome: Map<String, Json>,
}

/// What is expected at one stage.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    Always(Map<String, Json>),
    Each(Vec<Map<String, Json>>),
}

/// Stages that a session has.
pub(crate) const BEFORE: &[&str] =
    &["connect", "helo", "auth", "mail", "rcpt", "data", "route", "disconnect"];
/// Stages that an attempt has.
pub(crate) const AFTER: &[&str] = &["route", "deliver", "outcome", "dsn"];

/// Reads the expectations of a step ([`BEFORE`]) or an attempt ([`AFTER`]).
pub(crate) fn read(section: Reader<'_>, stages: &'static [&'static str]) -> Expected {
    let mut expected = Expected::default();
    for stage in stages {
        if let Some(node) = section.node(stage) {
            expected.stages.push((stage, said(&section, stage, node)));
        }
    }
    if stages == BEFORE {
        expected.outcome = outcome(&section);
    }
    section.finish();
    expected
}

fn said(section: &Reader<'_>, stage: &'static str, node: Node<'_>) -> Said {
    match node {
        Node::List(items) => {
            Said::Each(items.into_iter().map(|item| one(section, stage, item)).collect())
        }
        other => Said::Always(one(section, stage, other)),
    }
}

fn one(section: &Reader<'_>, stage: &'static str, node: Node<'_>) -> Map<String, Json> {
    let mut keys = Map::new();
    match node {
        Node::Plain(value) => drop(keys.insert("verdict".into(), to_json(value))),
        Node::Table(table) => {
            for key in KEYS {
                if let Some(value) = table.get::<Json>(key) {
                    keys.insert((*key).into(), value);
                }
            }
            if let Some(delay) = table.get::<Duration>("delay") {
                keys.insert("delay".into(), json!(millis(delay)));
            }
            table.finish();
        }
        Node::List(_) => section.fault(stage, "write a verdict, or { verdict = \"…\", … }"),
    }
    if let Some(verdict) = keys.get("verdict").and_then(Json::as_str)
        && !VERDICTS.contains(&verdict)
        && !verdict.contains('*')
    {
        section.fault(
            stage,
            format!("\"{verdict}\" is no verdict; these are: {}", VERDICTS.join(", ")),
        );
    }
    keys
}

fn outcome(section: &Reader<'_>) -> Map<String, Json> {
    let mut keys = Map::new();
    for key in OUTCOME {
        if let Some(value) = section.get::<Json>(key) {
            keys.insert((*key).into(), value);
        }
    }
    for key in ["not-before", "expiry"] {
        let Some(text) = section.get::<String>(key) else { continue };
        match seconds(&text) {
            Ok(value) => drop(keys.insert(key.into(), value)),
            Err(fault) => section.fault(key, fault),
        }
    }
    if let Some(Json::String(result)) = keys.get("result")
        && !RESULTS.contains(&result.as_str())
    {
        section.fault("result", format!("a result is one of {}", RESULTS.join(", ")));
    }
    keys
}

/// `+1h` from now, or a time: in both cases seconds, from the beginning of the step or from 1970.
fn seconds(text: &str) -> Result<Json, String> {
    if let Some(text) = text.strip_prefix('+') {
        let quoted = toml::de::DeValue::String(text.into());
        let duration = <Duration as crate::config::value::Value>::read(&quoted)?;
        return Ok(json!(format!("+{}", duration.as_secs())));
    }
    let time = super::moment(text)?;
    let since = time.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(json!(since.as_secs().to_string()))
}

/// A delay, as it is compared and printed.
pub(crate) fn millis(delay: Duration) -> String {
    format!("{} ms", delay.as_millis())
}

const KEYS: &[&str] = &[
    "verdict",
    "plugin",
    "recipient",
    "code",
    "enhanced",
    "text",
    "reason",
    "rule",
    "error",
    "edits",
    "name",
    "route",
    "folder",
    "seen",
    "flagged",
    "addresses",
    "seconds",
    "identity",
    "to",
    "returned",
    "notice",
    "not-asked",
];
const OUTCOME: &[&str] = &[
    "result",
    "reply",
    "replies",
    "quarantine",
    "from",
    "recipients",
    "routes",
    "tags",
    "priority",
    "notes",
    "added",
    "removed",
    "header",
    "body",
    "unchanged",
    "log",
    "kv",
    "submitted",
    "asked",
];
const RESULTS: &[&str] =
    &["accepted", "rejected", "deferred", "discarded", "quarantined", "disconnected", "dropped"];
/// As the trace has them.
const VERDICTS: &[&str] = &[
    "next",
    "accept",
    "reject",
    "defer",
    "drop",
    "disconnect",
    "success",
    "discard",
    "quarantine",
    "each",
    "to",
    "hold",
    "fail",
    "file",
    "redirect",
    "retry-in",
    "suppress-notice",
    "send",
    "suppress",
    "error",
    "pass",
];
