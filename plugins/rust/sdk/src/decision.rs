//! A verdict with its reason.

use std::time::Duration;

use crate::verdict::{
    Accept, AuthVerdict, ConnectVerdict, DataVerdict, DeliverVerdict, Discard, Disconnect,
    DsnVerdict, Fail, Hold, OutcomeVerdict, Refuse, RouteVerdict, Verdict, Wait, seconds,
};
use crate::wit::on_data::ForRecipient;
use crate::{NoticeChanges, Place, RecipientVerdict, Reply};

/// What a plugin decides at a stage, and why.
///
/// The stage is inferred from where the decision is returned, and offers only the constructors
/// that make sense there. [`because`](Self::because) and [`rule`](Self::rule) go to the log and to
/// `gatepost why`, never to the client; a client reads the reply.
///
/// ```
/// use gatepost_plugin::{DataVerdict, Decision, RcptVerdict, Reply};
///
/// let refusal: Decision<RcptVerdict> =
///     Decision::reject(Reply::new(550, "5.7.1", "Not here")).because("on the list").rule("list");
/// assert_eq!(refusal.reason(), Some("on the list"));
///
/// let held: Decision<DataVerdict> = Decision::quarantine("suspicious");
/// assert_eq!(held.verdict(), &DataVerdict::Quarantine("suspicious".into()));
/// ```
///
/// ```compile_fail
/// # use gatepost_plugin::{Decision, RcptVerdict};
/// // There is no content to hold yet.
/// let held: Decision<RcptVerdict> = Decision::quarantine("suspicious");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Decision<V> {
    verdict: V,
    reason: Option<String>,
    rule: Option<String>,
}

impl<V: Verdict> Decision<V> {
    /// No opinion: the next plugin is asked, and the host's own rules after the last.
    pub fn next() -> Self {
        Self::from(V::NEXT)
    }

    /// Why, for the administrator: one sentence with the facts that counted.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// The name of the rule that decided, to search and count by.
    pub fn rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    /// What is to be done.
    pub fn verdict(&self) -> &V {
        &self.verdict
    }

    /// What [`because`](Self::because) said.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// What [`rule`](Self::rule) said.
    pub fn rule_name(&self) -> Option<&str> {
        self.rule.as_deref()
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn into_parts(self) -> (V, Option<String>, Option<String>) {
        (self.verdict, self.reason, self.rule)
    }
}

impl<V: Accept> Decision<V> {
    /// Ends this stage: later plugins are not asked. It never grants relaying, which is the host's
    /// to decide.
    pub fn accept() -> Self {
        Self::from(V::ACCEPT)
    }
}

impl<V: Refuse> Decision<V> {
    /// Refuses for good. The reply is 5yz; `None` takes the host's own.
    pub fn reject(reply: impl Into<Option<Reply>>) -> Self {
        Self::from(V::reject(reply.into()))
    }

    /// Refuses for now: the client is to try again. The reply is 4yz; `None` takes the host's own.
    pub fn defer(reply: impl Into<Option<Reply>>) -> Self {
        Self::from(V::defer(reply.into()))
    }
}

impl<V: Disconnect> Decision<V> {
    /// Replies (421 for `None`), then closes the connection.
    pub fn disconnect(reply: impl Into<Option<Reply>>) -> Self {
        Self::from(V::disconnect(reply.into()))
    }
}

impl<V: Discard> Decision<V> {
    /// Forgets the recipient (`rcpt`), the message (`data`) or the copy (`route`). The client is
    /// told that all is well.
    pub fn discard() -> Self {
        Self::from(V::DISCARD)
    }
}

impl<V: Hold> Decision<V> {
    /// Holds in the queue under this name until an administrator releases it.
    pub fn hold(name: impl Into<String>) -> Self {
        Self::from(V::hold(name.into()))
    }
}

impl<V: Wait> Decision<V> {
    /// Not now: the question comes again after this time. The reply, 4yz, is what a delay notice tells.
    pub fn wait(time: Duration, reply: impl Into<Option<Reply>>) -> Self {
        Self::from(V::wait(time, reply.into()))
    }
}

impl<V: Fail> Decision<V> {
    /// Gives up for good: the sender is told. The reply is 5yz; `None` takes the host's own.
    pub fn fail(reply: impl Into<Option<Reply>>) -> Self {
        Self::from(V::fail(reply.into()))
    }
}

impl Decision<ConnectVerdict> {
    /// Closes the connection without a word.
    pub fn hang_up() -> Self {
        Self::from(ConnectVerdict::Drop)
    }
}

impl Decision<DataVerdict> {
    /// Takes the message and holds it in the queue under this name until an administrator releases
    /// it. The client can't tell it from acceptance.
    pub fn quarantine(name: impl Into<String>) -> Self {
        Self::from(DataVerdict::Quarantine(name.into()))
    }

    /// Decides for single recipients; the next plugin is asked about the others. Over LMTP each gets
    /// its own reply; for SMTP `wit/README.md` says what becomes of them.
    ///
    /// ```
    /// use gatepost_plugin::{DataVerdict, Decision, RecipientVerdict};
    ///
    /// let decision: Decision<DataVerdict> =
    ///     Decision::each([("bob@example.org", RecipientVerdict::Discard)]);
    /// assert!(matches!(decision.verdict(), DataVerdict::Each(each) if each[0].address == "bob@example.org"));
    /// ```
    pub fn each<A: Into<String>>(
        verdicts: impl IntoIterator<Item = (A, RecipientVerdict)>,
    ) -> Self {
        let each = verdicts
            .into_iter()
            .map(|(address, verdict)| ForRecipient { address: address.into(), verdict });
        Self::from(DataVerdict::Each(each.collect()))
    }
}

impl Decision<RouteVerdict> {
    /// Sends the copy this way: `mx:example.net`, `smtp:[192.0.2.1]:25`, `lmtp:/run/lmtp`,
    /// `maildir:alice`.
    pub fn to(route: impl Into<String>) -> Self {
        Self::from(RouteVerdict::To(route.into()))
    }
}

impl Decision<AuthVerdict> {
    /// The client is who it says, and is known by this identity from now on. Grant: `auth`.
    pub fn success(identity: impl Into<String>) -> Self {
        Self::from(AuthVerdict::Success(identity.into()))
    }
}

impl Decision<DeliverVerdict> {
    /// Into this place of the mailbox: `"Junk"`, or `Place::folder("Lists/wasm").seen()`.
    pub fn file(place: impl Into<Place>) -> Self {
        Self::from(DeliverVerdict::File(place.into()))
    }

    /// Not into this mailbox but on to these addresses.
    pub fn redirect<A: Into<String>>(to: impl IntoIterator<Item = A>) -> Self {
        Self::from(DeliverVerdict::Redirect(to.into_iter().map(Into::into).collect()))
    }
}

impl Decision<DsnVerdict> {
    /// Tells nobody.
    pub fn suppress() -> Self {
        Self::from(DsnVerdict::Suppress)
    }

    /// Sends the notification with these changes.
    pub fn send(changes: NoticeChanges) -> Self {
        Self::from(DsnVerdict::Send(changes))
    }
}

impl Decision<OutcomeVerdict> {
    /// Tries again after this time, whatever the schedule says.
    pub fn retry_in(time: Duration) -> Self {
        Self::from(OutcomeVerdict::RetryIn(seconds(time)))
    }

    /// Gives up if the attempt failed for good, but tells nobody.
    pub fn suppress_notice() -> Self {
        Self::from(OutcomeVerdict::SuppressNotice)
    }
}

impl<V> From<V> for Decision<V> {
    fn from(verdict: V) -> Self {
        Self { verdict, reason: None, rule: None }
    }
}
