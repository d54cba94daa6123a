//! A step for people: the conversation with what was decided in it, and what does not fit.

use policy::TraceEntry;
use serde_json::{Map, Value as Json};

use super::Step;
use super::after::Asked;
use super::compare::{Mismatch, show};
use super::conversation::{Exchange, Kind};
use super::play::Played;

/// The conversation, line by line.
pub(crate) fn transcript(step: &Step, played: &Played) -> Vec<String> {
    let mut lines = vec![format!(
        "** {} from {} to {} ({})",
        step.name.as_deref().unwrap_or("session"),
        step.visit.client,
        step.visit.server,
        step.visit.listener,
    )];
    for exchange in &played.talk.exchanges {
        spoken(exchange, &mut lines);
    }
    for (n, asked) in played.attempts.iter().enumerate() {
        lines.push(format!("** attempt {}", n + 1));
        asked.iter().for_each(|asked| queued(asked, &mut lines));
    }
    for line in &played.lines {
        lines.push(format!("   log   {} {}: {}", line.level, line.plugin, line.text));
    }
    result(&played.outcome, &mut lines);
    lines
}

fn spoken(exchange: &Exchange, lines: &mut Vec<String>) {
    if !exchange.said.is_empty() {
        lines.push(format!("C: {}", exchange.said));
    }
    exchange.decided.iter().for_each(|entry| decided(entry, lines));
    for reply in &exchange.replies {
        let mut octets = Vec::new();
        reply.write(&mut octets);
        let text = String::from_utf8_lossy(&octets).into_owned();
        lines.extend(text.lines().map(|line| format!("S: {line}")));
    }
    if exchange.replies.is_empty() && exchange.kind != Kind::Disconnect {
        lines.push("S: (closes the connection)".to_owned());
    }
}

fn queued(asked: &Asked, lines: &mut Vec<String>) {
    asked.entries.iter().for_each(|entry| decided(entry, lines));
    let keys = &asked.answered.keys;
    for key in ["route", "name", "seconds", "folder", "addresses", "to", "returned", "notice"] {
        if let Some(value) = keys.get(key).filter(|value| !value.is_null()) {
            lines.push(format!("         {key} {}", show(value)));
        }
    }
}

/// One answer: the stage, who, what, why, the edits, and how long it took.
fn decided(entry: &TraceEntry, lines: &mut Vec<String>) {
    let digest = entry.digest.get(..12).unwrap_or_default();
    let at = if digest.is_empty() { String::new() } else { format!("@{digest}") };
    let verdict = if entry.verdict.is_empty() { "told" } else { &entry.verdict };
    let about =
        entry.recipient.as_ref().map(|recipient| format!(" <{recipient}>")).unwrap_or_default();
    let mut line = format!("   {}{about}: {}{at} {verdict}", entry.stage, entry.plugin);
    let more = [("rule", &entry.rule), ("because", &entry.reason), ("error", &entry.error)];
    for (word, text) in more {
        if let Some(text) = text {
            line.push_str(&format!(", {word} {text}"));
        }
    }
    line.push_str(&format!(" ({})", entry.effort()));
    lines.push(line);
    if let Some(reply) = &entry.reply {
        lines.push(format!("         reply {reply}"));
    }
    lines.extend(entry.asked.iter().map(|asked| format!("         asked {asked}")));
    lines.extend(entry.edits.iter().map(|edit| format!("         edit  {edit}")));
}

/// What came of it, without what says nothing.
fn result(outcome: &Map<String, Json>, lines: &mut Vec<String>) {
    let get = |key: &str| outcome.get(key).filter(|value| !is_empty(value));
    lines.push(format!("=> {}", get("result").map(show).unwrap_or_default()));
    for key in ["quarantine", "from", "recipients", "routes", "tags", "notes", "submitted"] {
        if let Some(value) = get(key) {
            lines.push(format!("   {key:<11} {}", show(value)));
        }
    }
    for (key, sign) in [("added", '+'), ("removed", '-')] {
        for field in get(key).and_then(Json::as_array).into_iter().flatten() {
            lines.push(format!("   header      {sign} {}", show(field)));
        }
    }
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Array(items) => items.is_empty(),
        Json::Object(entries) => entries.is_empty(),
        Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
    }
}

/// What does not fit, as a difference.
pub(crate) fn difference(number: usize, step: &Step, mismatches: &[Mismatch]) -> Vec<String> {
    let name = step.name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
    let mut lines = Vec::new();
    let mut place = None;
    for (at, mismatch) in mismatches.iter().enumerate() {
        if place != Some(&mismatch.place) {
            lines.push(format!("  step {number}{name}: {}", mismatch.place));
            place = Some(&mismatch.place);
        }
        let Mismatch { key, expected, found, context, .. } = mismatch;
        let (first, second) = (one_line(expected), one_line(found));
        lines.push(format!("    {key:<10} - {first}"));
        lines.push(format!("    {:<10} + {second}", ""));
        let last_of_place = mismatches.get(at + 1).is_none_or(|next| next.place != mismatch.place);
        if last_of_place {
            let others = mismatches.iter().filter(|other| other.place == mismatch.place);
            let named: Vec<&String> = others.map(|other| &other.key).collect();
            for (key, value) in context.iter().filter(|(key, _)| !named.contains(&key)) {
                lines.push(format!("    {key:<10}   {}", one_line(value)));
            }
        }
    }
    lines
}

/// Line ends are shown: a difference has one line each.
fn one_line(text: &str) -> String {
    text.replace('\n', "\\n")
}

/// A step for programs.
pub(crate) fn json(played: &Played) -> Json {
    let exchange = |exchange: &Exchange| {
        let replies: Vec<String> = exchange.replies.iter().map(ToString::to_string).collect();
        serde_json::json!({ "said": exchange.said, "decided": exchange.decided, "replies": replies })
    };
    let asked = |asked: &Asked| {
        serde_json::json!({
            "stage": asked.answered.stage,
            "about": asked.answered.about,
            "answer": asked.answered.keys,
            "decided": asked.entries,
        })
    };
    let attempts = played.attempts.iter();
    let attempts: Vec<Vec<Json>> = attempts.map(|all| all.iter().map(asked).collect()).collect();
    let lines = played.lines.iter();
    let lines: Vec<Json> = lines
        .map(|line| serde_json::json!({ "plugin": line.plugin, "level": line.level, "text": line.text }))
        .collect();
    serde_json::json!({
        "session": played.talk.exchanges.iter().map(exchange).collect::<Vec<_>>(),
        "attempts": attempts,
        "log": lines,
        "outcome": played.outcome,
    })
}
