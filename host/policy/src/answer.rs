//! What a plugin answered, in one form for all stages, checked before anybody acts on it.

mod queued;
mod reply;

use smtp::{ForwardPath, Mailbox};

use crate::bindings::stages::{
    on_auth, on_connect, on_data, on_deliver, on_dsn, on_helo, on_mail, on_outcome, on_rcpt,
    on_route,
};
use crate::bindings::types;
use crate::imports::log::clean;
use crate::verdict::{AuthVerdict, RecipientVerdict, Verdict};

pub(crate) use self::queued::{deliver_verdict, notice_verdict, outcome_verdict, route_verdict};
use self::reply::{checked, parting};

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
    Success(String),
    Each(Vec<on_data::ForRecipient>),
    File(on_deliver::Place),
    Redirect(Vec<String>),
    Send(on_dsn::Changes),
    Suppress,
    /// The stage has no verdict.
    Silence,
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
            Self::Success(_) => "success",
            Self::Each(_) => "each",
            Self::File(_) => "file",
            Self::Redirect(_) => "redirect",
            Self::Send(_) => "send",
            Self::Suppress => "suppress",
            Self::Silence => "",
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
decision!(on_auth: Next, Success(identity), Reject(reply), Defer(reply), Disconnect(reply));
decision!(on_mail: Next, Accept, Reject(reply), Defer(reply), Disconnect(reply));
decision!(on_rcpt: Next, Accept, Reject(reply), Defer(reply), Disconnect(reply), Discard);
decision!(on_data: Next, Accept, Reject(reply), Defer(reply), Disconnect(reply), Discard, Quarantine(name), Each(recipients));
decision!(on_outcome: Next, RetryIn(seconds), Fail(reply), Hold(name), SuppressNotice);
decision!(on_dsn: Next, Accept, Send(changes), Suppress);

impl From<on_deliver::Decision> for Decision {
    fn from(decision: on_deliver::Decision) -> Self {
        let answer = match decision.verdict {
            on_deliver::Verdict::Next => Answer::Next,
            on_deliver::Verdict::Accept => Answer::Accept,
            on_deliver::Verdict::File(place) => Answer::File(place),
            on_deliver::Verdict::Redirect(addresses) => Answer::Redirect(addresses),
            on_deliver::Verdict::Reject(reply) => Answer::Reject(reply),
            on_deliver::Verdict::Defer(waiting) => Answer::Wait(waiting.seconds, waiting.reply),
            on_deliver::Verdict::Discard => Answer::Discard,
            on_deliver::Verdict::Hold(name) => Answer::Hold(name),
        };
        Self::new(answer, decision.reason, decision.rule)
    }
}

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

    /// Of a stage that has none.
    pub(crate) fn silent() -> Self {
        Self::new(Answer::Silence, None, None)
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
        Answer::Reject(reply) => Verdict::Refuse(checked(reply, 5, REFUSED)?),
        Answer::Defer(reply) => Verdict::Refuse(checked(reply, 4, DEFERRED)?),
        Answer::Disconnect(reply) => Verdict::Disconnect(parting(reply)?),
        Answer::Drop => Verdict::Drop,
        Answer::Discard => Verdict::Discard,
        Answer::Quarantine(name) => Verdict::Quarantine(checked_name(name)?),
        other => return Err(misplaced(&other)),
    }))
}

/// The checked answer at `auth`; `granted` says whether the plugin may let somebody in.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other answers belong to other stages")]
pub(crate) fn auth_verdict(answer: Answer, granted: bool) -> Result<AuthVerdict, String> {
    Ok(match answer {
        Answer::Next => AuthVerdict::Next,
        Answer::Success(_) if !granted => return Err("the grant auth is missing".into()),
        Answer::Success(identity) => {
            if identity.is_empty() || clean(&identity, MAX_IDENTITY_OCTETS) != identity {
                return Err(format!(
                    "an identity has 1 to {MAX_IDENTITY_OCTETS} octets and no control character"
                ));
            }
            AuthVerdict::Success(identity)
        }
        // RFC 4954 §6.
        Answer::Reject(reply) => {
            AuthVerdict::Refuse(checked(reply, 5, "535 5.7.8 Authentication credentials invalid")?)
        }
        Answer::Defer(reply) => {
            AuthVerdict::Refuse(checked(reply, 4, "454 4.7.0 Temporary authentication failure")?)
        }
        Answer::Disconnect(reply) => AuthVerdict::Disconnect(parting(reply)?),
        other => return Err(misplaced(&other)),
    })
}

/// The checked verdicts of `each` at `data`: which recipient, by its place, and what. Whoever is named twice keeps the first.
pub(crate) fn recipient_verdicts(
    each: Vec<on_data::ForRecipient>,
    recipients: &[crate::transaction::PolicyRecipient],
) -> Result<Vec<(usize, RecipientVerdict)>, String> {
    let mut verdicts = Vec::with_capacity(each.len().min(recipients.len()));
    for on_data::ForRecipient { address, verdict } in each {
        let is_it = |path: &ForwardPath| match address.parse::<Mailbox>() {
            Ok(mailbox) => path.mailbox() == Some(&mailbox),
            Err(_) => path.to_string().eq_ignore_ascii_case(&address),
        };
        let verdict = match verdict {
            on_data::RecipientVerdict::Accept => RecipientVerdict::Accept,
            on_data::RecipientVerdict::Reject(reply) => {
                RecipientVerdict::Refuse(checked(reply, 5, REFUSED)?)
            }
            on_data::RecipientVerdict::Defer(reply) => {
                RecipientVerdict::Refuse(checked(reply, 4, DEFERRED)?)
            }
            on_data::RecipientVerdict::Discard => RecipientVerdict::Discard,
            on_data::RecipientVerdict::Quarantine(name) => {
                RecipientVerdict::Quarantine(checked_name(name)?)
            }
        };
        let places: Vec<usize> = recipients
            .iter()
            .enumerate()
            .filter(|(_, recipient)| recipient.verdict.is_none() && is_it(&recipient.path))
            .map(|(place, _)| place)
            .collect();
        if places.is_empty() {
            return Err(format!(
                "{:?} is no recipient that is still undecided",
                clean(&address, 320)
            ));
        }
        verdicts.extend(places.into_iter().map(|place| (place, verdict.clone())));
    }
    Ok(verdicts)
}

/// The contract's types admit no such answer; if one comes, the call has failed.
fn misplaced(answer: &Answer) -> String {
    format!("{} is no answer here", answer.name())
}

/// Text of an error, fit for a line.
pub(crate) fn short(text: &str) -> String {
    clean(text, REASON_OCTETS)
}

/// A name under which messages are held: it stands in listings and commands.
fn checked_name(name: String) -> Result<String, String> {
    if !is_word(&name) {
        return Err(format!(
            "{:?} is no name: 1 to 64 letters, digits, \"-\", \"_\", \".\"",
            clean(&name, 64)
        ));
    }
    Ok(name)
}

/// 1 to 64 letters, digits, "-", "_", ".": names of holds, tags.
pub(crate) fn is_word(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= 64 && text.chars().all(good)
}

const REFUSED: &str = "550 5.7.1 Refused by policy";
const DEFERRED: &str = "451 4.7.1 Try again later";
const REASON_OCTETS: usize = 500;
const RULE_OCTETS: usize = 100;
/// What a log and a Received field can carry.
const MAX_IDENTITY_OCTETS: usize = 255;

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
