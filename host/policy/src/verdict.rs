//! What the plugins of a stage decided together.

use std::sync::Arc;
use std::time::Duration;

use smtp::{Mailbox, Reply, Route};

/// The answer of the whole chain at a stage of an SMTP session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No plugin objects: go on by the host's own rules. Never grants relaying. Every stage.
    Pass,
    /// Give this reply (4yz or 5yz) and go on with the session. At `helo`, `mail`, `rcpt`, `data`.
    Refuse(Reply),
    /// Give this reply and close. Every stage; at `connect` it stands in place of the greeting.
    Disconnect(Reply),
    /// Close without a word. At `connect` only.
    Drop,
    /// Say 250 and forget: the recipient at `rcpt`, the message at `data`.
    Discard,
    /// Say 250 and hold the message under this name. At `data` only.
    Quarantine(String),
}

/// What the data stage decided about one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientVerdict {
    /// It gets its copy.
    Accept,
    /// Not it: 4yz or 5yz.
    Refuse(Reply),
    /// Say 250 and forget its copy.
    Discard,
    /// Say 250 and hold its copy under this name.
    Quarantine(String),
}

/// The answer of the whole chain at `auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthVerdict {
    /// No plugin has an opinion: the users of the configuration.
    Next,
    /// The client is known by this identity.
    Success(String),
    /// Give this reply (4yz or 5yz) and go on with the session.
    Refuse(Reply),
    /// Give this reply and close.
    Disconnect(Reply),
}

/// An [`AuthVerdict`] and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthRuling {
    /// What to do.
    pub verdict: AuthVerdict,
    /// The plugin that decided.
    pub plugin: Option<Arc<str>>,
    /// How long to wait before the reply is sent.
    pub delay: Duration,
}

/// A verdict and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What to do.
    pub verdict: Verdict,
    /// The plugin that decided; none if all passed.
    pub plugin: Option<Arc<str>>,
    /// How long to wait before the reply is sent.
    pub delay: Duration,
}

impl Ruling {
    /// Nobody objects.
    pub fn pass() -> Self {
        Self { verdict: Verdict::Pass, plugin: None, delay: Duration::ZERO }
    }
}

/// Where the chain sends the copy for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteVerdict {
    /// No opinion: the host's own rules.
    Next,
    /// Along this route.
    To(Route),
    /// Hold under this name until an administrator releases it.
    Hold(String),
    /// Not now.
    Defer {
        /// Until the next question.
        wait: Duration,
        /// What to note as the cause (4yz).
        reply: Reply,
    },
    /// Never (5yz); the sender is told.
    Fail(Reply),
    /// Forget this copy without a word.
    Discard,
}

/// What the chain makes of the end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutcomeVerdict {
    /// No opinion: the host's own schedule.
    Next,
    /// Try again after this time.
    RetryIn(Duration),
    /// Give up now (5yz); the sender is told.
    Fail(Reply),
    /// Hold under this name until an administrator releases it.
    Hold(String),
    /// Give up if it failed, but tell nobody.
    SuppressNotice,
}

/// What the chain makes of a copy for a local mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliverVerdict {
    /// Into the inbox.
    Next,
    /// Into another place of the mailbox.
    File(Place),
    /// On to these instead (RFC 5321 §3.9.2).
    Redirect(Vec<Mailbox>),
    /// Never (5yz); the sender is told.
    Fail(Reply),
    /// Not now.
    Defer {
        /// Until the next question.
        wait: Duration,
        /// What to note as the cause (4yz).
        reply: Reply,
    },
    /// Forget this copy without a word.
    Discard,
    /// Hold under this name until an administrator releases it.
    Hold(String),
}

/// A place in a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The parts of the folder's name: "Lists", "wasm". None for the inbox. No part is empty, begins with a dot, or holds a
    /// slash or a control character.
    pub folder: Vec<String>,
    /// As if it had been read.
    pub is_seen: bool,
    /// Marked.
    pub is_flagged: bool,
}

/// What the chain makes of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoticeVerdict {
    /// As it is.
    Next,
    /// With changes.
    Send {
        /// To somebody else.
        to: Option<Mailbox>,
        /// How much goes back.
        returned: Option<ReturnedPart>,
        /// Words above those of the host.
        text: Option<String>,
    },
    /// To nobody.
    Suppress,
}

/// How much of a message goes back with a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnedPart {
    /// All of it.
    Full,
    /// Its header.
    Header,
    /// Nothing.
    Nothing,
}
