//! What a step came to, by the keys of `expect`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use inbound::Ended;
use message::{Body, Composed, Header, compose};
use policy::{NewMail, TraceEntry};
use queue::Message;
use serde_json::{Map, Value as Json, json};
use smtp::Reply;

use super::Visit;
use super::compare::Answered;
use super::conversation::{Exchange, Kind, Talk};
use super::expect::millis;
use super::lines::Line;

/// All there is to look at after a step.
pub(crate) struct Told<'a> {
    pub(crate) visit: &'a Visit,
    pub(crate) talk: &'a Talk,
    /// The message in the queue.
    pub(crate) held: Option<&'a Message>,
    pub(crate) subject: Option<&'a str>,
    pub(crate) now: SystemTime,
    pub(crate) lines: &'a [Line],
    pub(crate) asked: Vec<String>,
    pub(crate) submitted: Vec<NewMail>,
    /// What the subject's store holds.
    pub(crate) store: Option<BTreeMap<String, Vec<u8>>>,
}

/// What was said at each question of the session.
pub(crate) fn answered(talk: &Talk, subject: Option<&str>) -> Vec<Answered> {
    let one = |exchange: &Exchange| {
        let stage = match exchange.kind {
            Kind::Connect => "connect",
            Kind::Helo => "helo",
            Kind::Auth => "auth",
            Kind::Mail => "mail",
            Kind::Rcpt => "rcpt",
            Kind::Content => "data",
            Kind::Disconnect => "disconnect",
            Kind::Data | Kind::Reset | Kind::Quit => return None,
        };
        // LOGIN takes three lines, and is decided at the last.
        if exchange.kind == Kind::Auth
            && exchange.decided.is_empty()
            && exchange.replies.iter().all(|r| r.code() == 334)
        {
            return None;
        }
        let of_subject =
            |entry: &&TraceEntry| subject.is_some_and(|subject| *entry.plugin == *subject);
        let of_stage = || exchange.decided.iter().filter(|entry| entry.stage.name() == stage);
        let entry = of_stage().rfind(of_subject).or_else(|| of_stage().next_back());
        let mut keys = entry.map(of_entry).unwrap_or_default();
        if stage == "auth"
            && let (Some(identity), Some(verdict)) = (&talk.login, keys.get("verdict"))
            && verdict == "success"
        {
            keys.insert("identity".into(), identity.as_str().into());
        }
        if stage == "data"
            && let Some(name) = &talk.hold
            && keys.get("verdict") == Some(&"quarantine".into())
        {
            keys.insert("name".into(), name.as_str().into());
        }
        let about = (exchange.kind == Kind::Rcpt).then(|| address(&exchange.said));
        Some(Answered { stage, about, keys })
    };
    talk.exchanges.iter().filter_map(one).collect()
}

/// Of a RCPT command.
fn address(command: &str) -> String {
    let inner = command.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or(command, |(address, _)| address).to_owned()
}

/// An answer of a plugin or a rule.
pub(crate) fn of_entry(entry: &TraceEntry) -> Map<String, Json> {
    let mut keys = Map::new();
    let mut put = |key: &str, value: Json| drop(keys.insert(key.to_owned(), value));
    put("verdict", json!(entry.verdict));
    put("plugin", json!(entry.plugin));
    put("edits", json!(entry.edits));
    let texts = [
        ("recipient", &entry.recipient),
        ("reason", &entry.reason),
        ("rule", &entry.rule),
        ("error", &entry.error),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            put(key, json!(text));
        }
    }
    let delays = entry.edits.iter().filter_map(|line| {
        line.strip_prefix("delay-reply ")?.strip_suffix(" ms")?.parse::<u64>().ok()
    });
    let delay: u64 = delays.sum();
    put("delay", json!(millis(std::time::Duration::from_millis(delay))));
    if let Some(reply) = entry.reply.as_deref().and_then(|reply| reply.parse::<Reply>().ok()) {
        reply_keys(&mut keys, &reply);
    }
    keys
}

pub(crate) fn reply_keys(keys: &mut Map<String, Json>, reply: &Reply) {
    keys.insert("code".into(), reply.code().into());
    keys.insert("enhanced".into(), json!(reply.enhanced().map(|status| status.to_string())));
    keys.insert("text".into(), reply.text().into());
}

/// What came of it all.
pub(crate) fn outcome(told: &Told<'_>) -> Map<String, Json> {
    let mut keys = Map::new();
    let talk = told.talk;
    let spoken = talk
        .exchanges
        .iter()
        .filter(|exchange| !matches!(exchange.kind, Kind::Quit | Kind::Reset | Kind::Disconnect));
    let last = spoken.clone().next_back();
    let replies: Vec<String> =
        last.map(|one| one.replies.iter().map(plain).collect()).unwrap_or_default();
    keys.insert("result".into(), result(talk, last).into());
    keys.insert("reply".into(), json!(replies.last()));
    keys.insert("replies".into(), json!(replies));
    let lines: Vec<&str> = told.lines.iter().map(|line| line.text.as_str()).collect();
    keys.insert("log".into(), json!(lines));
    keys.insert("asked".into(), json!(told.asked));
    keys.insert("submitted".into(), told.submitted.iter().map(mail).collect());
    if let Some(store) = &told.store {
        let text = |(key, value): (&String, &Vec<u8>)| {
            (key.clone(), Json::from(String::from_utf8_lossy(value)))
        };
        keys.insert("kv".into(), Json::Object(store.iter().map(text).collect()));
    }
    if let Some(ended) =
        talk.ended.as_ref().filter(|ended| ["received", "held"].contains(&ended.fate))
    {
        envelope(&mut keys, ended, told);
        content(&mut keys, ended, told.visit);
        if let Some(name) = told.held.and_then(hold) {
            keys.insert("quarantine".into(), name.into());
        }
    }
    keys
}

/// The name of the hold, of the message or of a recipient.
pub(crate) fn hold(message: &Message) -> Option<String> {
    let of_recipient = || message.recipients.iter().find_map(|recipient| recipient.state.hold());
    message.hold.as_deref().or_else(of_recipient).map(str::to_owned)
}

fn result(talk: &Talk, last: Option<&Exchange>) -> &'static str {
    let Some(last) = last else { return "accepted" };
    let Some(reply) = last.replies.last() else { return "dropped" };
    // What stands in place of the greeting closes, too, and is a refusal all the same.
    if talk.was_closed && !reply.is_positive() && last.kind != Kind::Connect {
        return "disconnected";
    }
    match talk.ended.as_ref().map(|ended| ended.fate) {
        Some("received") => "accepted",
        Some("held") => "quarantined",
        Some("discarded") => "discarded",
        Some("deferred") => "deferred",
        Some("rejected") => "rejected",
        _ if reply.is_temporary() => "deferred",
        _ if reply.is_permanent() => "rejected",
        _ => "accepted",
    }
}

/// A reply on one line, without the id that the host puts behind refusals.
fn plain(reply: &Reply) -> String {
    let text = reply.to_string();
    match text.rsplit_once(" (") {
        Some((before, id))
            if id.strip_suffix(')').is_some_and(|id| id.parse::<message::Id>().is_ok()) =>
        {
            before.to_owned()
        }
        _ => text,
    }
}

fn mail(mail: &NewMail) -> Json {
    let to: Vec<String> = mail.recipients.iter().map(|(path, _)| path.to_string()).collect();
    json!({
        "plugin": mail.plugin,
        "from": mail.reverse_path.to_string(),
        "to": to,
        "content": String::from_utf8_lossy(&mail.content).replace("\r\n", "\n"),
    })
}

fn envelope(keys: &mut Map<String, Json>, ended: &Ended, told: &Told<'_>) {
    let transaction = &ended.transaction;
    let recipients: Vec<String> =
        transaction.recipients.iter().map(|recipient| recipient.path.to_string()).collect();
    let routes = transaction.recipients.iter().filter_map(|recipient| {
        Some((recipient.path.to_string(), Json::from(recipient.route.as_ref()?.to_string())))
    });
    keys.insert("from".into(), transaction.reverse_path.to_string().into());
    keys.insert("recipients".into(), json!(recipients));
    keys.insert("routes".into(), Json::Object(routes.collect()));
    keys.insert("tags".into(), json!(transaction.tags));
    keys.insert("priority".into(), transaction.priority.into());
    let own = told.subject.map(|subject| format!("{subject}/"));
    let notes = ended.notes.iter().map(|(key, value)| {
        let key = own.as_ref().and_then(|own| key.strip_prefix(own.as_str())).unwrap_or(key);
        (key.to_owned(), Json::from(value.as_str()))
    });
    keys.insert("notes".into(), Json::Object(notes.collect()));
    for (key, time) in [("not-before", transaction.not_before), ("expiry", transaction.expiry)] {
        let Some(time) = time else { continue };
        let since = |from| time.duration_since(from).unwrap_or_default().as_secs();
        let (relative, absolute) = (since(told.now), since(SystemTime::UNIX_EPOCH));
        keys.insert(
            key.into(),
            json!({ "relative": format!("+{relative}"), "absolute": absolute.to_string() }),
        );
    }
}

/// The content as it is stored.
pub(crate) fn composed(content: &[u8], ended: &Ended) -> Bytes {
    let header = Header::parse(content.to_vec());
    let composed = compose(&header, &ended.transaction.edits);
    let mut octets = composed.head.to_vec();
    octets.extend(body(content, composed));
    octets.into()
}

fn body(content: &[u8], composed: Composed) -> Vec<u8> {
    match composed.body {
        Body::Replaced(octets) => octets.to_vec(),
        Body::Received { offset } => {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            content.get(offset..).unwrap_or_default().to_vec()
        }
    }
}

/// The header and the body: what they are, and what plugins made of them.
fn content(keys: &mut Map<String, Json>, ended: &Ended, visit: &Visit) {
    let content = visit.content();
    let header = Header::parse(content.clone());
    let edits = &ended.transaction.edits;
    let before = compose(&header, &edits[..ended.own_edits.min(edits.len())]);
    let after = compose(&header, edits);
    let (old, new) = (lines(&before.head), lines(&after.head));
    let (added, removed) = (beyond(&new, &old), beyond(&old, &new));
    let same_body = body(&content, before.clone()) == body(&content, after.clone());
    keys.insert("unchanged".into(), (added.is_empty() && removed.is_empty() && same_body).into());
    keys.insert("added".into(), json!(added));
    keys.insert("removed".into(), json!(removed));
    let mut values: Map<String, Json> = Map::new();
    for field in Header::parse(after.head.clone()).fields() {
        let name = field.name().to_ascii_lowercase();
        let list = values.entry(name).or_insert_with(|| json!([]));
        if let Json::Array(list) = list {
            list.push(field.value().into());
        }
    }
    keys.insert("header".into(), values.into());
    let body = String::from_utf8_lossy(&body(&content, after)).replace("\r\n", "\n");
    keys.insert("body".into(), body.strip_suffix('\n').unwrap_or(&body).into());
}

/// The fields, unfolded, as `Name: value`.
fn lines(head: &Bytes) -> Vec<String> {
    let header = Header::parse(head.clone());
    header.fields().map(|field| format!("{}: {}", field.name(), field.value())).collect()
}

/// Those that the others have not, however often they occur.
fn beyond(lines: &[String], others: &[String]) -> Vec<String> {
    let mut others: Vec<&String> = others.iter().collect();
    let fresh = lines.iter().filter(|line| match others.iter().position(|other| other == line) {
        Some(place) => {
            others.swap_remove(place);
            false
        }
        None => true,
    });
    fresh.cloned().collect()
}
