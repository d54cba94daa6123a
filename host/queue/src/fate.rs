//! What an outcome means for a recipient, and what must be told of it. Pure: time is an argument.

use std::time::{Duration, SystemTime};

use message::Id;
use smtp::{Mailbox, Notify, RcptParameters, Reply};

use crate::admin::domain_of;
use crate::config::{RouteSchedule, ScheduleConfig};
use crate::message::{NoticeKind, Outcome, QueuedRecipient, RecipientState};
use crate::schedule::interval;

/// What the fate of a recipient depends on besides itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) id: Id,
    /// The reverse-path is null: nobody is ever told (RFC 5321 §4.5.5).
    pub(crate) null: bool,
    pub(crate) now: SystemTime,
    /// How long it may wait, if the message has a time of its own.
    pub(crate) lifetime: Option<Duration>,
    pub(crate) schedule: &'a ScheduleConfig,
    /// Schedules of some domains.
    pub(crate) schedules: &'a [RouteSchedule],
}

impl Facts<'_> {
    /// The schedule of this recipient's domain.
    fn schedule_of(&self, recipient: &QueuedRecipient) -> &ScheduleConfig {
        if self.schedules.is_empty() {
            return self.schedule;
        }
        let path = recipient.path.to_string();
        let fits = |route: &&RouteSchedule| route.fits(domain_of(&path));
        self.schedules.iter().find(fits).map_or(self.schedule, |route| &route.schedule)
    }

    /// After so long a wait it is given up.
    pub(crate) fn max_age(&self, recipient: &QueuedRecipient) -> Duration {
        self.lifetime.unwrap_or_else(|| self.schedule_of(recipient).max_age)
    }

    fn wants(&self, parameters: &RcptParameters, kind: NoticeKind) -> bool {
        !self.null && wanted(parameters.notify, kind)
    }
}

/// RFC 3461 §4.1: NEVER is never; without NOTIFY a failure is told, a delay may be, a success is not.
fn wanted(notify: Option<Notify>, kind: NoticeKind) -> bool {
    match (kind, notify) {
        (NoticeKind::Failure | NoticeKind::Delay, None) => true,
        (NoticeKind::Success, None) => false,
        (NoticeKind::Failure, Some(notify)) => notify.failure,
        (NoticeKind::Delay, Some(notify)) => notify.delay,
        (NoticeKind::Success, Some(notify)) => notify.success,
    }
}

/// Applies the outcome of an attempt.
pub(crate) fn record(recipient: &mut QueuedRecipient, outcome: Outcome, facts: Facts<'_>) {
    let tried =
        !matches!(outcome, Outcome::Hold { .. } | Outcome::Discard | Outcome::NotTried { .. });
    count_wait(recipient, facts.now);
    if tried {
        recipient.attempts = recipient.attempts.saturating_add(1);
        recipient.last_attempt = Some(facts.now);
    }
    match outcome {
        Outcome::Delivered { reply, peer } => {
            said(recipient, reply, peer);
            finish(recipient, RecipientState::Delivered, Some(NoticeKind::Success), facts);
        }
        Outcome::Relayed { reply, peer, dsn } => {
            said(recipient, reply, peer);
            // RFC 3461 §5.2.2: a host that offers DSN reports the success itself. §5.2.3: for one that does not, we
            // say "relayed".
            let tell = (!dsn).then_some(NoticeKind::Success);
            finish(recipient, RecipientState::Relayed { dsn }, tell, facts);
        }
        Outcome::Deferred { reply, peer, retry_in } => {
            said(recipient, reply, peer);
            defer(recipient, retry_in, facts);
        }
        Outcome::Failed { reply, peer, quiet } => {
            said(recipient, reply, peer);
            let tell = (!quiet).then_some(NoticeKind::Failure);
            finish(recipient, RecipientState::Failed, tell, facts);
        }
        Outcome::Hold { name } => recipient.state = RecipientState::Held(name),
        Outcome::Discard => finish(recipient, RecipientState::Discarded, None, facts),
        Outcome::NotTried { retry_in } => wait(recipient, retry_in, facts.now),
    }
}

/// A router said: later.
pub(crate) fn postpone(
    recipient: &mut QueuedRecipient,
    retry_in: Duration,
    reply: Reply,
    facts: Facts<'_>,
) {
    count_wait(recipient, facts.now);
    said(recipient, reply, None);
    defer(recipient, Some(retry_in), facts);
}

/// An alias: gives its members as recipients of their own.
pub(crate) fn expand(
    recipient: &mut QueuedRecipient,
    members: Vec<Mailbox>,
    facts: Facts<'_>,
) -> Vec<QueuedRecipient> {
    let parameters = RcptParameters {
        notify: match (recipient.parameters.notify, members.len()) {
            // RFC 3461 §5.2.7.2: an alias with one member passes everything on and tells nothing. §5.2.7.3: one with
            // several answers SUCCESS with "expanded", and its members do not.
            (Some(notify), count) if count > 1 && notify.success => {
                Some(Notify { success: false, ..notify })
            }
            (notify, _) => notify,
        },
        orcpt: recipient.parameters.orcpt.clone(),
    };
    let tell = (members.len() > 1).then_some(NoticeKind::Success);
    let member = |mailbox| QueuedRecipient {
        path: smtp::ForwardPath::Mailbox(mailbox),
        parameters: parameters.clone(),
        depth: recipient.depth.saturating_add(1),
        hint: None,
        ..recipient.clone()
    };
    let members = members.into_iter().map(member).collect();
    finish(recipient, RecipientState::Expanded, tell, facts);
    members
}

/// Adds the time since the last event to the time waited. A jump of the clock, or time without a server, counts an hour
/// at most beyond what was planned, so that neither can expire anything.
fn count_wait(recipient: &mut QueuedRecipient, now: SystemTime) {
    let began = recipient.due.checked_sub(recipient.wait).unwrap_or(recipient.due);
    let passed = now.duration_since(began).unwrap_or_default();
    let most = recipient.wait.saturating_add(UNPLANNED);
    let counted = passed.clamp(recipient.wait, most).saturating_sub(recipient.embargo);
    recipient.waited = recipient.waited.saturating_add(counted);
    wait(recipient, Duration::ZERO, now);
}

/// The operator or a release says: now.
pub(crate) fn due_now(recipient: &mut QueuedRecipient, now: SystemTime) {
    let began = recipient.due.checked_sub(recipient.wait).unwrap_or(recipient.due);
    recipient.wait = now.duration_since(began).unwrap_or_default().min(recipient.wait);
    recipient.embargo = recipient.embargo.min(recipient.wait);
    recipient.due = now;
}

/// The operator says: later. That wait does not count.
pub(crate) fn due_after(recipient: &mut QueuedRecipient, delay: Duration, now: SystemTime) {
    count_wait_so_far(recipient, now);
    wait(recipient, delay, now);
    recipient.embargo = recipient.wait;
}

/// What was waited of an interval that is cut short.
fn count_wait_so_far(recipient: &mut QueuedRecipient, now: SystemTime) {
    due_now(recipient, now);
    let counted = recipient.wait.saturating_sub(recipient.embargo);
    recipient.waited = recipient.waited.saturating_add(counted);
}

fn said(recipient: &mut QueuedRecipient, reply: Reply, peer: Option<String>) {
    recipient.last = Some(reply);
    recipient.last_peer = peer;
}

fn wait(recipient: &mut QueuedRecipient, duration: Duration, now: SystemTime) {
    recipient.wait = duration.min(LONGEST_WAIT);
    recipient.embargo = Duration::ZERO;
    recipient.due = now + recipient.wait;
}

fn finish(
    recipient: &mut QueuedRecipient,
    state: RecipientState,
    tell: Option<NoticeKind>,
    facts: Facts<'_>,
) {
    recipient.state = state;
    // A delay that nobody was told of yet is news no more.
    recipient.owed = tell.filter(|kind| facts.wants(&recipient.parameters, *kind));
}

fn defer(recipient: &mut QueuedRecipient, retry_in: Option<Duration>, facts: Facts<'_>) {
    let (schedule, max_age) = (facts.schedule_of(recipient), facts.max_age(recipient));
    if recipient.waited >= max_age {
        return finish(recipient, RecipientState::Expired, Some(NoticeKind::Failure), facts);
    }
    let planned = retry_in.unwrap_or_else(|| interval(schedule, recipient.attempts, facts.id));
    // The last attempt comes when the time is over, not an interval later.
    let left = max_age.saturating_sub(recipient.waited);
    wait(recipient, planned.min(left.max(schedule.first)), facts.now);
    let late = schedule.delay_notice_after.is_some_and(|after| recipient.waited >= after);
    if late && !recipient.delay_told {
        recipient.delay_told = true;
        if facts.wants(&recipient.parameters, NoticeKind::Delay) {
            recipient.owed = Some(NoticeKind::Delay);
        }
    }
}

/// A server that was busy or down for less counts as waiting.
const UNPLANNED: Duration = Duration::from_hours(1);

/// Nobody plans further ahead than this, whatever a plugin says: a year.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_hours(365 * 24);

#[cfg(test)]
#[path = "fate/tests.rs"]
mod tests;
