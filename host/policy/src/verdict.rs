//! What the plugins of a stage decided together.

use std::sync::Arc;
use std::time::Duration;

use smtp::{Reply, Route};

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

/// A verdict and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What to do.
    pub verdict: Verdict,
    /// The plugin that decided; none if all passed.
    pub plugin: Option<Arc<str>>,
}

impl Ruling {
    /// Nobody objects.
    pub fn pass() -> Self {
        Self { verdict: Verdict::Pass, plugin: None }
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
