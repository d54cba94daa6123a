//! What people read of the queue.

use std::time::SystemTime;

use ::queue::{Condition, Summary, Suspended};

use super::super::{count, say};
use crate::admin::destination::{Host, View};

/// How the queue is.
pub(super) fn status(condition: &Condition) {
    let messages = usize::try_from(condition.messages).unwrap_or(usize::MAX);
    say(&format!("{}, {} octets", count(messages, "message"), condition.octets));
    for (fault, advice) in condition.faults() {
        say(&format!("{fault}\n    {advice}"));
    }
    if condition.is_well() {
        say("mail comes in and goes out; nothing was set aside");
    }
}

/// A list of messages.
pub(super) fn messages(messages: &[Summary]) {
    if messages.is_empty() {
        say("no messages");
        return;
    }
    say(&format!(
        "{:<17}{:>10} {:>5}  {:<12} {:<30} RECIPIENTS",
        "ID", "OCTETS", "AGE", "STATE", "SENDER"
    ));
    for message in messages {
        let state = match (&message.hold, message.active, message.attempts) {
            (Some(name), _, _) => format!("hold:{name}"),
            (None, true, _) => "active".to_owned(),
            (None, false, 0) => "new".to_owned(),
            (None, false, n) => format!("deferred:{n}"),
        };
        let sender = format!("<{}>", message.sender);
        let (id, age) = (message.id.to_string(), age(message.received));
        let recipients = message.recipients.join(" ");
        say(&format!(
            "{id:<17}{:>10} {age:>5}  {state:<12} {sender:<30} {recipients}",
            message.size
        ));
        let mut more: Vec<String> = message.tags.iter().map(|tag| format!("tag:{tag}")).collect();
        more.extend(message.user.iter().map(|user| format!("user:{user}")));
        if message.priority.value() != 0 {
            more.push(format!("priority:{}", message.priority));
        }
        if !more.is_empty() {
            say(&format!("{:<17}{}", "", more.join(" ")));
        }
        if let Some(last) = &message.last {
            say(&format!("{:<17}{last}", ""));
        }
    }
    say(&count(messages.len(), "message"));
}

/// A list of destinations.
pub(super) fn destinations(destinations: &[View]) {
    if destinations.is_empty() {
        say("nothing waits for any destination");
        return;
    }
    say(&format!(
        "{:>8} {:>6} {:>7} {:>7} {:>7}  DESTINATION",
        "MESSAGES", "HELD", "IN HAND", "OLDEST", "NEXT"
    ));
    for view in destinations {
        let one = &view.queue;
        let oldest = one.oldest.map_or_else(|| "-".to_owned(), age);
        let next = match one.due {
            _ if one.suspended => "never".to_owned(),
            Some(due) => until(due),
            None => "-".to_owned(),
        };
        let mark = if one.suspended { "  (suspended)" } else { "" };
        say(&format!(
            "{:>8} {:>6} {:>7} {oldest:>7} {next:>7}  {}{mark}",
            one.messages, one.held, one.in_hand, one.name
        ));
        if let Some(last) = &one.last {
            let peer = last.peer.as_ref().map(|peer| format!(" ({peer})")).unwrap_or_default();
            say(&format!("{:41}{}{peer}, {} ago", "", last.reply, age(last.time)));
        }
        for host in &view.hosts {
            say(&format!("{:41}{}", "", describe(host)));
        }
    }
    say(&count(destinations.len(), "destination"));
}

/// How a host does, in a line.
fn describe(host: &Host) -> String {
    let name = host.names.first().or(host.addresses.first()).cloned().unwrap_or_default();
    let Host { connections, concurrency, in_flight, waiting, .. } = host;
    let mut text = format!(
        "{name}: {connections} of {concurrency} connections, {in_flight} in flight, {waiting} waiting"
    );
    if let Some(down) = host.down_until {
        text.push_str(&format!("; down for {} after {} failures", until(down), host.failures));
    }
    text
}

/// What is suspended.
pub(super) fn suspended(suspended: &[Suspended]) {
    if suspended.is_empty() {
        say("nothing is suspended");
    }
    for one in suspended {
        let reason = one.reason.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
        say(&format!(
            "{}, for {}, {} due{reason}",
            one.what,
            age(one.since),
            count(one.waiting, "message")
        ));
    }
}

fn age(time: SystemTime) -> String {
    span(now().duration_since(time).map_or(0, |passed| passed.as_secs()))
}

fn until(time: SystemTime) -> String {
    match time.duration_since(now()) {
        Ok(left) if left.as_secs() > 0 => span(left.as_secs()),
        Ok(_) | Err(_) => "now".to_owned(),
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a command that shows ages to a person asks for the time"
)]
fn now() -> SystemTime {
    SystemTime::now()
}
