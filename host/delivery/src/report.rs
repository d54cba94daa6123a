//! Fourth step of an attempt: plugins are asked, the queue is told, and everybody who wants to know
//! can read it.

use std::sync::Arc;

use metrics::counter;
use policy::{
    AttemptResult, OutcomeVerdict, Queued, Stage, TraceEntry,
    trace::{Entry, Journal},
};
use queue::{Message, Outcome, QueuedRecipient};
use smtp::{Reply, Route};

use crate::{House, clock, metric, router};

/// Records what came of an attempt.
pub(crate) async fn report(
    house: &House,
    delivery: queue::Delivery,
    mut outcomes: Vec<(usize, Outcome)>,
) {
    let message = Arc::clone(&delivery.message);
    let chain = house.rooms.policy.as_ref().map(|host| host.current());
    let mut asked = chain.and_then(|chain| router::ask_at(&chain, Stage::Outcome, &message));
    let mut traces = Vec::with_capacity(outcomes.len());
    for (index, outcome) in &mut outcomes {
        let trace = match &mut asked {
            Some(queued) => ask(queued, *index, delivery.route_of(*index), outcome).await,
            None => Vec::new(),
        };
        traces.push(trace);
    }
    let recorded = outcomes.clone();
    if let Err(error) = delivery.finish(outcomes).await {
        // The queue keeps the outcomes in memory and writes them when it can.
        tracing::error!(message = %message.id, %error, "the outcome of an attempt is not on disk yet");
    }
    for ((index, outcome), trace) in recorded.into_iter().zip(traces) {
        let Some(recipient) = message.recipients.get(index) else { continue };
        tell(&message, recipient, &outcome, "attempt");
        if let Some(journal) = &house.rooms.journal {
            write_down(journal, &message, recipient, &outcome, trace);
        }
    }
}

/// The stage `outcome` of the plugins. What is delivered is done; everything else they may change.
async fn ask(
    queued: &mut Queued,
    index: usize,
    route: &Route,
    outcome: &mut Outcome,
) -> Vec<TraceEntry> {
    let result = match &*outcome {
        Outcome::Delivered { reply, .. } => AttemptResult::Delivered(reply.clone()),
        Outcome::Relayed { reply, .. } => AttemptResult::Relayed(reply.clone()),
        Outcome::Deferred { reply, .. } => AttemptResult::Deferred(reply.clone()),
        Outcome::Failed { reply, .. } => AttemptResult::Failed(reply.clone()),
        Outcome::Hold { .. } | Outcome::Discard | Outcome::NotTried { .. } => return Vec::new(),
    };
    let (verdict, trace) = queued.outcome(index, route, result).await;
    apply(verdict, outcome);
    trace
}

fn apply(verdict: OutcomeVerdict, outcome: &mut Outcome) {
    let (reply, peer) = match &*outcome {
        Outcome::Deferred { reply, peer, .. } | Outcome::Failed { reply, peer, .. } => {
            (reply.clone(), peer.clone())
        }
        Outcome::Delivered { .. }
        | Outcome::Relayed { .. }
        | Outcome::Hold { .. }
        | Outcome::Discard
        | Outcome::NotTried { .. } => return,
    };
    match verdict {
        OutcomeVerdict::Next => {}
        OutcomeVerdict::RetryIn(wait) => {
            *outcome = Outcome::Deferred { reply, peer, retry_in: Some(wait) }
        }
        OutcomeVerdict::Fail(reply) => {
            *outcome = Outcome::Failed { reply, peer: None, quiet: false }
        }
        OutcomeVerdict::Hold(name) => *outcome = Outcome::Hold { name },
        OutcomeVerdict::SuppressNotice => {
            if let Outcome::Failed { quiet, .. } = outcome {
                *quiet = true;
            }
        }
    }
}

/// An outcome in the words of logs, metrics and journal.
struct Facts<'a> {
    fate: &'static str,
    reply: Option<&'a Reply>,
    peer: Option<&'a str>,
}

fn facts(outcome: &Outcome) -> Facts<'_> {
    let (fate, reply, peer) = match outcome {
        Outcome::Delivered { reply, peer } => ("delivered", Some(reply), peer.as_deref()),
        Outcome::Relayed { reply, peer, .. } => ("relayed", Some(reply), peer.as_deref()),
        Outcome::Deferred { reply, peer, .. } => ("deferred", Some(reply), peer.as_deref()),
        Outcome::Failed { reply, peer, .. } => ("bounced", Some(reply), peer.as_deref()),
        Outcome::Hold { .. } => ("held", None, None),
        Outcome::Discard => ("discarded", None, None),
        Outcome::NotTried { .. } => ("not tried", None, None),
    };
    Facts { fate, reply, peer }
}

/// One event for each fate.
pub(crate) fn tell(
    message: &Message,
    recipient: &QueuedRecipient,
    outcome: &Outcome,
    stage: &'static str,
) {
    let Facts { fate, reply, peer } = facts(outcome);
    counter!(metric::OUTCOMES, "outcome" => fate).increment(1);
    if matches!(outcome, Outcome::NotTried { .. } | Outcome::Hold { .. }) {
        tracing::debug!(message = %message.id, forward_path = %recipient.path, fate);
        return;
    }
    let delay = clock::now().duration_since(message.received).unwrap_or_default();
    tracing::info!(
        target: "mail",
        event = fate,
        session = %message.session,
        message = %message.id,
        peer,
        reverse_path = %message.reverse_path,
        forward_path = %recipient.path,
        stage,
        reply = reply.map(ToString::to_string),
        delay = delay.as_secs_f64(),
    );
}

fn write_down(
    journal: &Journal,
    message: &Message,
    recipient: &QueuedRecipient,
    outcome: &Outcome,
    trace: Vec<TraceEntry>,
) {
    if matches!(outcome, Outcome::NotTried { .. }) {
        return;
    }
    let Facts { fate, reply, peer } = facts(outcome);
    journal.record(entry(
        message,
        &[recipient],
        Note { kind: "attempt", fate, reply, peer },
        trace,
    ));
}

/// What an entry of the journal says beside the envelope.
pub(crate) struct Note<'a> {
    pub(crate) kind: &'static str,
    pub(crate) fate: &'static str,
    pub(crate) reply: Option<&'a Reply>,
    pub(crate) peer: Option<&'a str>,
}

/// An entry of the journal about a queued message.
pub(crate) fn entry(
    message: &Message,
    recipients: &[&QueuedRecipient],
    note: Note<'_>,
    stages: Vec<TraceEntry>,
) -> Entry {
    Entry {
        id: message.id,
        session: (!message.session.is_empty()).then(|| message.session.clone()),
        time: clock::now(),
        kind: note.kind.into(),
        peer: note.peer.map(str::to_owned),
        helo: None,
        reverse_path: Some(message.reverse_path.to_string()),
        recipients: recipients.iter().map(|recipient| recipient.path.to_string()).collect(),
        fate: note.fate.into(),
        reply: note.reply.map(ToString::to_string),
        stages,
    }
}
