//! What a plugin answered, in one form for all stages, checked before anybody acts on it.

use std::time::Duration;

use smtp::{Reply, Route};

use crate::bindings::stages::{
    on_connect, on_data, on_helo, on_mail, on_outcome, on_rcpt, on_route,
};
use crate::bindings::types;
use crate::imports::log::clean;
use crate::verdict::{OutcomeVerdict, RouteVerdict, Verdict};

/// The decision of one plugin, as it came.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) answer: Answer,
    pub(crate) reason: Option<String>,
    pub(crate) rule: Option<String>,
}

/// The verdicts of all stages. Which can occur where is the contract's matter: its types admit no other.
#[derive(Debug)]
pub(crate) enum Answer {
    Next,
    Accept,
    Reject(Option<types::Reply>),
    Defer(Option<types::Reply>),
    Disconnect(Option<types::Reply>),
    Drop,
    Discard,
    Quarantine(String),
    Hold(String),
    To(String),
    Wait(u32, Option<types::Reply>),
    Fail(Option<types::Reply>),
    RetryIn(u32),
    SuppressNotice,
}

impl Answer {
    /// The name for the trace: the contract's own word.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Accept => "accept",
            Self::Reject(_) => "reject",
            Self::Defer(_) | Self::Wait(..) => "defer",
            Self::Disconnect(_) => "disconnect",
            Self::Drop => "drop",
            Self::Discard => "discard",
            Self::Quarantine(_) => "quarantine",
            Self::Hold(_) => "hold",
            Self::To(_) => "to",
            Self::Fail(_) => "fail",
            Self::RetryIn(_) => "retry-in",
            Self::SuppressNotice => "suppress-notice",
        }
    }
}

/// Cases of a stage's own verdict type, each with the same name here.
macro_rules! decision {
    ($stage:ident: $($case:ident $(($value:ident))?),+) => {
        impl From<$stage::Decision> for Decision {
            fn from(decision: $stage::Decision) -> Self {
                let answer = match decision.verdict {
                    $($stage::Verdict::$case $(($value))? => Answer::$case $(($value))?,)+
                };
                Self::new(answer, decision.reason, decision.rule)
            }
        }
    };
}

decision!(on_connect: Next, Accept, Reject(reply), Defer(reply), Drop);
decision!(on_helo: Next, Accept, Reject(reply), Defer(reply), Disconnect(reply));
decision!(on_mail: Next, Accept, Reject(reply), Defer(reply), Disconnect(reply));
decision!(on_rcpt: Next, Accept, Reject(reply), Defer(reply), Disconnect(reply), Discard);
decision!(on_data: Next, Accept, Reject(reply), Defer(reply), Disconnect(reply), Discard, Quarantine(name));
decision!(on_outcome: Next, RetryIn(seconds), Fail(reply), Hold(name), SuppressNotice);

impl From<on_route::Decision> for Decision {
    fn from(decision: on_route::Decision) -> Self {
        let answer = match decision.verdict {
            on_route::Verdict::Next => Answer::Next,
            on_route::Verdict::To(route) => Answer::To(route),
            on_route::Verdict::Hold(name) => Answer::Hold(name),
            on_route::Verdict::Defer(waiting) => Answer::Wait(waiting.seconds, waiting.reply),
            on_route::Verdict::Fail(reply) => Answer::Fail(reply),
            on_route::Verdict::Discard => Answer::Discard,
        };
        Self::new(answer, decision.reason, decision.rule)
    }
}

impl Decision {
    /// Of a plugin that has nothing to say.
    pub(crate) fn next() -> Self {
        Self::new(Answer::Next, None, None)
    }

    fn new(answer: Answer, reason: Option<String>, rule: Option<String>) -> Self {
        let clean = |text: Option<String>, octets| {
            text.map(|text| clean(&text, octets)).filter(|text| !text.is_empty())
        };
        Self { answer, reason: clean(reason, REASON_OCTETS), rule: clean(rule, RULE_OCTETS) }
    }
}

/// The checked answer at a stage of a session; none lets the next plugin speak.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other answers belong to other stages")]
pub(crate) fn verdict(answer: Answer, at_connect: bool) -> Result<Option<Verdict>, String> {
    Ok(Some(match answer {
        Answer::Next => return Ok(None),
        Answer::Accept => Verdict::Pass,
        // RFC 5321 §3.1: 554 in place of the greeting. The session can't go on after either.
        Answer::Reject(reply) if at_connect => {
            Verdict::Disconnect(checked(reply, 5, "554 5.7.1 No SMTP service here")?)
        }
        Answer::Defer(reply) if at_connect => {
            Verdict::Disconnect(checked(reply, 4, "421 4.7.0 Try again later")?)
        }
        Answer::Reject(reply) => Verdict::Refuse(checked(reply, 5, "550 5.7.1 Refused by policy")?),
        Answer::Defer(reply) => Verdict::Refuse(checked(reply, 4, "451 4.7.1 Try again later")?),
        Answer::Disconnect(reply) => {
            let class = if reply.as_ref().is_some_and(|reply| reply.code >= 500) { 5 } else { 4 };
            Verdict::Disconnect(checked(reply, class, "421 4.7.0 Closing connection")?)
        }
        Answer::Drop => Verdict::Drop,
        Answer::Discard => Verdict::Discard,
        Answer::Quarantine(name) => Verdict::Quarantine(checked_name(name)?),
        other => return Err(misplaced(&other)),
    }))
}

/// The checked answer at `route`.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other answers belong to other stages")]
pub(crate) fn route_verdict(answer: Answer) -> Result<RouteVerdict, String> {
    Ok(match answer {
        Answer::To(text) => {
            let route: Route =
                text.parse().map_err(|error| format!("{text:?} is no route: {error}"))?;
            RouteVerdict::To(route)
        }
        Answer::Hold(name) => RouteVerdict::Hold(checked_name(name)?),
        Answer::Wait(seconds, reply) => RouteVerdict::Defer {
            wait: wait(seconds),
            reply: checked(reply, 4, "451 4.3.0 Deferred by policy")?,
        },
        Answer::Fail(reply) => {
            RouteVerdict::Fail(checked(reply, 5, "550 5.7.1 Refused by policy")?)
        }
        Answer::Discard => RouteVerdict::Discard,
        Answer::Next => RouteVerdict::Next,
        other => return Err(misplaced(&other)),
    })
}

/// The checked answer at `outcome`.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other answers belong to other stages")]
pub(crate) fn outcome_verdict(answer: Answer) -> Result<OutcomeVerdict, String> {
    Ok(match answer {
        Answer::RetryIn(seconds) => OutcomeVerdict::RetryIn(wait(seconds)),
        Answer::Fail(reply) => {
            OutcomeVerdict::Fail(checked(reply, 5, "550 5.7.1 Given up by policy")?)
        }
        Answer::Hold(name) => OutcomeVerdict::Hold(checked_name(name)?),
        Answer::SuppressNotice => OutcomeVerdict::SuppressNotice,
        Answer::Next => OutcomeVerdict::Next,
        other => return Err(misplaced(&other)),
    })
}

/// The contract's types admit no such answer; if one comes, the call has failed.
fn misplaced(answer: &Answer) -> String {
    format!("{} is no answer here", answer.name())
}

/// Text of an error, fit for a line.
pub(crate) fn short(text: &str) -> String {
    clean(text, REASON_OCTETS)
}

fn wait(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds).clamp(1, MAX_WAIT_SECONDS))
}

/// A reply that may go over the wire, or why not.
fn checked(reply: Option<types::Reply>, class: u16, default: &str) -> Result<Reply, String> {
    let Some(reply) = reply else { return Ok(parse(default)) };
    // RFC 5321 §4.2: the second digit is 0 to 5.
    if reply.code / 100 != class || reply.code / 10 % 10 > 5 {
        return Err(format!("reply code {} where {class}yz is due", reply.code));
    }
    if reply.lines.len() > MAX_LINES {
        return Err(format!(
            "a reply of {} lines, at most {MAX_LINES} are sent",
            reply.lines.len()
        ));
    }
    for line in &reply.lines {
        if line.len() > MAX_LINE_OCTETS {
            return Err(format!(
                "a reply line of {} octets, at most {MAX_LINE_OCTETS} are sent",
                line.len()
            ));
        }
        // RFC 5321 §4.2: textstring. CR, LF and NUL above all: they would forge replies.
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(format!("a control character in the reply {:?}", clean(line, 100)));
        }
    }
    let (subject, detail) = match &reply.enhanced {
        Some(enhanced) => (enhanced.subject, enhanced.detail),
        None => (7, 1),
    };
    // RFC 3463 §2: up to three digits each.
    if subject > 999 || detail > 999 {
        return Err(format!("enhanced status code {class}.{subject}.{detail}"));
    }
    let text = if reply.lines.is_empty() {
        default_text(default).to_owned()
    } else {
        reply.lines.join("\n")
    };
    Ok(Reply::new(reply.code, format!("{class}.{subject}.{detail} {text}").as_str()))
}

fn parse(default: &str) -> Reply {
    let (code, text) = default.split_at(3);
    Reply::new(code.parse().expect("a default begins with its code"), text.trim_start())
}

fn default_text(default: &str) -> &str {
    default.splitn(3, ' ').nth(2).unwrap_or_default()
}

/// A name under which messages are held: it stands in listings and commands.
fn checked_name(name: String) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
        return Err(format!(
            "{:?} is no name: 1 to 64 letters, digits, \"-\", \"_\", \".\"",
            clean(&name, 64)
        ));
    }
    Ok(name)
}

const MAX_LINES: usize = 16;
/// RFC 5321 §4.5.3.1.5: a reply line has at most 512 octets, with code and CRLF; the enhanced code takes some.
const MAX_LINE_OCTETS: usize = 400;
const REASON_OCTETS: usize = 500;
const RULE_OCTETS: usize = 100;
/// No message lives that long in a queue.
const MAX_WAIT_SECONDS: u64 = 30 * 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, lines: &[&str]) -> types::Reply {
        types::Reply {
            code,
            enhanced: None,
            lines: lines.iter().map(|&line| line.into()).collect(),
        }
    }

    #[track_caller]
    fn check(answer: Answer, expected: Result<&str, &str>) {
        let found = verdict(answer, false);
        match (&found, expected) {
            (Ok(Some(Verdict::Refuse(reply) | Verdict::Disconnect(reply))), Ok(text)) => {
                assert_eq!(reply.to_string(), text)
            }
            (Ok(Some(other)), Ok(text)) => assert_eq!(format!("{other:?}"), text),
            (Err(error), Err(word)) => assert!(error.contains(word), "{error}"),
            _ => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn replies_are_of_the_class_that_the_verdict_demands() {
        check(Answer::Reject(None), Ok("550 5.7.1 Refused by policy"));
        check(Answer::Defer(None), Ok("451 4.7.1 Try again later"));
        check(Answer::Disconnect(None), Ok("421 4.7.0 Closing connection"));
        check(Answer::Reject(Some(reply(552, &["Too large"]))), Ok("552 5.7.1 Too large"));
        check(Answer::Reject(Some(reply(550, &[]))), Ok("550 5.7.1 Refused by policy"));
        check(Answer::Disconnect(Some(reply(554, &["Bye"]))), Ok("554 5.7.1 Bye"));
        for code in [0, 99, 250, 354, 450, 560, 599, 600, 65535] {
            check(Answer::Reject(Some(reply(code, &["no"]))), Err("reply code"));
        }
        for code in [221, 550, 461] {
            check(Answer::Defer(Some(reply(code, &["no"]))), Err("reply code"));
        }
        let enhanced = types::Reply {
            enhanced: Some(types::EnhancedStatus { subject: 1, detail: 1 }),
            ..reply(550, &["x"])
        };
        check(Answer::Reject(Some(enhanced.clone())), Ok("550 5.1.1 x"));
        let enhanced = types::Reply {
            enhanced: Some(types::EnhancedStatus { subject: 1, detail: 1000 }),
            ..enhanced
        };
        check(Answer::Reject(Some(enhanced)), Err("enhanced"));
    }

    #[test]
    fn a_reply_cannot_forge_another() {
        for line in ["a\r\n250 ok", "a\nb", "a\rb", "a\0b", "\u{1b}[31m", "\u{85}"] {
            check(Answer::Reject(Some(reply(550, &[line]))), Err("control"));
        }
        check(Answer::Reject(Some(reply(550, &["a\tb"]))), Ok("550 5.7.1 a\tb"));
        check(Answer::Reject(Some(reply(550, &[&"x".repeat(401)]))), Err("octets"));
        check(Answer::Reject(Some(reply(550, &["x"; 17]))), Err("lines"));
    }

    #[test]
    fn names_of_holds_are_words() {
        check(Answer::Quarantine("spam-1.a_b".into()), Ok(r#"Quarantine("spam-1.a_b")"#));
        for name in ["", "a b", "a/b", "a\n", "ü", &"x".repeat(65)] {
            check(Answer::Quarantine(name.into()), Err("no name"));
        }
    }

    #[test]
    fn nothing_at_connect_keeps_the_session() {
        assert!(
            matches!(verdict(Answer::Reject(None), true), Ok(Some(Verdict::Disconnect(reply))) if reply.code() == 554)
        );
        assert!(
            matches!(verdict(Answer::Defer(None), true), Ok(Some(Verdict::Disconnect(reply))) if reply.code() == 421)
        );
    }
}
