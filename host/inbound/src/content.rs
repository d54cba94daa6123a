//! The end of data in steps: receive → watch → authenticate → ask → edit → sign → commit. Content streams through [`Incoming`] into the
//! queue's draft; it is never whole in memory when it is large.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use message::{Composed, Header, Watch};
use policy::{ContentView, RecipientVerdict, Stage, Verdict};
use queue::{Accept, Draft, Priority, Receipt};
use smtp::server::Answer;
use smtp::{Envelope, Recipient, Reply};
use tokio::time::{Duration, Instant};
use tracing::{error, info};

use crate::answer::wait;
use crate::authenticate::{self, Verified};
use crate::config::{Directory, Limits};
use crate::error::Error;
use crate::fold::{Fates, Folded};
use crate::forward;
use crate::house::now;
use crate::refusal;
use crate::rules;
use crate::session::Session;
use crate::submission;
use crate::trace_field;
use crate::transaction::{Fate, Transaction};

/// Content that is coming in.
pub(crate) struct Incoming {
    /// Where it goes; none when the message will be forgotten.
    draft: Option<Draft>,
    watch: Watch,
    octets: u64,
    began: Instant,
    /// What the first piece that could not be kept met; what follows it is thrown away.
    failure: Option<Error>,
}

impl Incoming {
    pub(crate) fn new(draft: Option<Draft>, limits: message::Limits) -> Self {
        Self { draft, watch: Watch::new(limits), octets: 0, began: Instant::now(), failure: None }
    }

    pub(crate) async fn take_in(&mut self, piece: Bytes) {
        self.octets += piece.len() as u64;
        let Some(draft) = &mut self.draft else { return };
        if self.failure.is_some() || self.watch.defect().is_some() {
            return;
        }
        self.watch.update(&piece);
        self.failure = draft.write(piece).await.err().map(Error::Queue);
    }

    /// When the next piece must have come, so that content keeps its minimum rate.
    pub(crate) fn deadline(&self, limits: &Limits) -> Instant {
        let earned =
            self.octets.checked_div(limits.content_rate).map_or(FOREVER, Duration::from_secs);
        self.began + limits.content_grace + earned.min(FOREVER)
    }
}

/// Why a message was not accepted at the end of data.
struct Refusal {
    reply: Reply,
    /// The rule of the host; none when policy said it.
    rule: Option<&'static str>,
    plugin: Option<Arc<str>>,
    disconnect: bool,
}

/// What became of a message that was not refused.
enum Taken {
    Queued { receipt: Receipt, held: bool },
    Discarded,
}

/// Answers the final dot.
pub(crate) async fn end_of_data(session: &mut Session) -> Answer {
    let asked = Instant::now();
    let recipients = session.machine.envelope().map_or(0, |envelope| envelope.recipients.len());
    let Some(mut transaction) = session.transaction.take() else {
        return Answer::Refuse(refusal::broken());
    };
    let result = accept(session, &mut transaction).await;
    let (fate, reply, disconnect) = match result {
        Ok(taken) => tell_taken(session, &transaction, &taken, asked.elapsed()),
        Err(refusal) => tell_refused(session, &mut transaction, &refusal),
    };
    let each = each_reply(session, &transaction, &reply);
    session.tell(transaction, fate, Some(reply.clone()));
    session.house.counters.end_of_data(asked.elapsed());
    match (disconnect, session.is_lmtp()) {
        (true, _) => Answer::Disconnect(reply),
        // RFC 2033 §4.2: one reply for each recipient that was accepted.
        (false, true) => Answer::Each(each.unwrap_or_else(|| vec![reply; recipients])),
        (false, false) if reply.is_positive() => Answer::Accepted(reply),
        (false, false) => Answer::Refuse(reply),
    }
}

/// Over LMTP, where policy decided about single recipients: what each of them hears.
fn each_reply(session: &Session, transaction: &Transaction, reply: &Reply) -> Option<Vec<Reply>> {
    let fates = transaction.fates.as_ref()?;
    let envelope = session.machine.envelope()?;
    let reply_to = |recipient: &Recipient| match fates.refusal(&recipient.path) {
        Some(refusal) => refusal::with_id(refusal, transaction.policy.id),
        None => reply.clone(),
    };
    Some(envelope.recipients.iter().map(reply_to).collect())
}

/// The five steps.
async fn accept(session: &mut Session, transaction: &mut Transaction) -> Result<Taken, Refusal> {
    let Some((draft, watch)) = receive(session, transaction)? else { return Ok(Taken::Discarded) };
    let header = examine(watch)?;
    check_author(session, &header)?;
    let mark = forward::mark(&session.directory.local, transaction, &header)
        .map_err(|reply| fault("loop", reply))?;
    transaction.policy.edits.extend(mark);
    let verified = authenticate::verify(session, transaction, &header, &draft).await;
    let hold = match ask(session, transaction, &header, &draft, verified.as_ref()).await? {
        Asked::Go => None,
        Asked::Hold(name) => Some(name),
        Asked::Forget => return Ok(Taken::Discarded),
    };
    let composed = edit(&header, transaction);
    let composed =
        authenticate::sign(session, transaction, verified.as_ref(), &draft, composed).await;
    let held = hold.is_some();
    let receipt = commit(session, transaction, draft, composed, hold).await?;
    Ok(Taken::Queued { receipt, held })
}

/// Step 1: is everything that was sent in the draft? Nothing is here when the message will be forgotten.
fn receive(
    session: &Session,
    transaction: &mut Transaction,
) -> Result<Option<(Draft, Watch)>, Refusal> {
    let Some(incoming) = transaction.incoming.take() else {
        return Err(fault("no-content", refusal::broken()));
    };
    session.house.counters.octets(incoming.octets);
    if let Some(error) = incoming.failure {
        return Err(failed(error));
    }
    Ok(incoming.draft.map(|draft| (draft, incoming.watch)))
}

/// Step 2: is it content that parsers may see, and is it not in a loop (RFC 5321 §6.3)?
fn examine(watch: Watch) -> Result<Header, Refusal> {
    watch.finish().map_err(|defect| fault("content", defect.reply()))
}

/// One who is logged in writes as itself.
fn check_author(session: &Session, header: &Header) -> Result<(), Refusal> {
    let Some(login) = &session.login else { return Ok(()) };
    let Directory { users, local, .. } = &*session.directory;
    submission::check_author(header, |mailbox| users.may_send_as(login, mailbox, local))
        .map_err(|reply| fault("author", reply))
}

enum Asked {
    Go,
    Hold(String),
    Forget,
}

/// Step 3: what does policy say? It sees our own fields already: what will be stored, not what came.
async fn ask(
    session: &mut Session,
    transaction: &mut Transaction,
    header: &Header,
    draft: &Draft,
    verified: Option<&Verified>,
) -> Result<Asked, Refusal> {
    transaction.policy.edits.push(trace_field::received(session, transaction).await);
    if session.entrance.config.role.is_submission() {
        let id = transaction.policy.id;
        transaction.policy.edits.extend(submission::edits(
            header,
            id,
            &session.house.config.hostname,
            transaction.began,
            session.login.as_deref(),
        ));
    }
    let mut content = ContentView::new(header.clone(), draft.octets());
    if let Some(verified) = verified {
        content = content.with_results(verified.typed());
        transaction.policy.spf = verified.typed().spf;
    }
    let content = Arc::new(session.made_up(content, transaction));
    session.tell_client_name().await;
    let ruling = session.policy.data(&mut transaction.policy, content).await;
    authenticate::tell(session, transaction, verified, &ruling);
    wait(ruling.delay).await;
    // A plugin that decided has seen what was found, and overrules it: for the message, or for single recipients.
    let (verdict, by_dmarc) = authenticate::overall(session, verified, &ruling);
    if session.is_lmtp() && verdict == Verdict::Pass {
        session.refuse_full(transaction, draft.octets().len()).await;
    }
    if let Some(fates) = Fates::of(&transaction.policy.recipients, &verdict) {
        return settle(session, transaction, fates, ruling.plugin);
    }
    let (reply, disconnect) = match verdict {
        Verdict::Pass => return check_recipients(session, transaction),
        Verdict::Quarantine(name) => {
            return Ok(match check_recipients(session, transaction)? {
                Asked::Go => Asked::Hold(name),
                asked @ (Asked::Hold(_) | Asked::Forget) => asked,
            });
        }
        Verdict::Discard => return Ok(Asked::Forget),
        Verdict::Refuse(reply) if by_dmarc => return Err(fault("dmarc", reply)),
        Verdict::Refuse(reply) => (reply, false),
        Verdict::Disconnect(reply) => (reply, true),
        Verdict::Drop => (refusal::broken(), true),
    };
    Err(Refusal { reply, rule: None, plugin: ruling.plugin, disconnect })
}

/// Policy decided about single recipients.
fn settle(
    session: &Session,
    transaction: &mut Transaction,
    fates: Fates,
    plugin: Option<Arc<str>>,
) -> Result<Asked, Refusal> {
    let refused = |reply| Refusal { reply, rule: None, plugin: plugin.clone(), disconnect: false };
    let lmtp = session.is_lmtp();
    match fates.fold() {
        Folded::Refuse(reply) if !lmtp => return Err(refused(reply)),
        Folded::Refuse(reply) if !fates.any_takes() => {
            // Each has its own reply all the same: the first stands for the message in the log.
            transaction.fates = Some(fates);
            return Err(refused(reply));
        }
        Folded::Refuse(_) | Folded::Take => {}
    }
    let (mut kept, mut verdicts) = (Vec::new(), Vec::new());
    for (recipient, verdict) in transaction.policy.recipients.drain(..).zip(fates.verdicts()) {
        let keep = match verdict {
            RecipientVerdict::Accept | RecipientVerdict::Quarantine(_) => true,
            // Over LMTP the client was told, and tells the sender; over SMTP nobody else can (RFC 5321 §6.1).
            RecipientVerdict::Refuse(_) => !lmtp,
            RecipientVerdict::Discard => false,
        };
        if keep {
            kept.push(recipient);
            verdicts.push(verdict.clone());
        }
    }
    transaction.policy.recipients = kept;
    for (index, verdict) in verdicts.into_iter().enumerate() {
        match verdict {
            RecipientVerdict::Quarantine(name) => drop(transaction.holds.insert(index, name)),
            RecipientVerdict::Refuse(reply) => drop(transaction.refusals.insert(index, reply)),
            RecipientVerdict::Accept | RecipientVerdict::Discard => {}
        }
    }
    transaction.fates = Some(fates);
    check_recipients(session, transaction)
}

/// Plugins may have changed the recipients once more.
fn check_recipients(session: &Session, transaction: &Transaction) -> Result<Asked, Refusal> {
    if transaction.policy.recipients.is_empty() {
        return Ok(Asked::Forget);
    }
    for recipient in &transaction.policy.recipients {
        if rules::check_exists(&session.directory.local, recipient).is_err() {
            error!(message = %transaction.policy.id, forward_path = %recipient.path, "a plugin added a local recipient that does not exist");
            return Err(fault("unknown-user", refusal::bad_recipient_by_policy()));
        }
    }
    Ok(Asked::Go)
}

/// Step 4: the head as it will be stored.
fn edit(header: &Header, transaction: &Transaction) -> Composed {
    message::compose(header, &transaction.policy.edits)
}

/// Step 5: on stable storage, or not accepted.
async fn commit(
    session: &Session,
    transaction: &Transaction,
    draft: Draft,
    composed: Composed,
    hold: Option<String>,
) -> Result<Receipt, Refusal> {
    let policy = &transaction.policy;
    let recipients = policy.recipients.iter();
    // A note of the session goes with its messages; the message's own wins.
    let mut notes: BTreeMap<String, String> =
        session.policy.notes().map(|(key, value)| (key.clone(), value.clone())).collect();
    notes.extend(policy.notes.clone());
    let accept = Accept {
        envelope: Envelope {
            reverse_path: policy.reverse_path.clone(),
            parameters: policy.parameters.clone(),
            recipients: recipients
                .clone()
                .map(|recipient| Recipient {
                    path: recipient.path.clone(),
                    parameters: recipient.parameters.clone(),
                })
                .collect(),
        },
        head: composed.head,
        body: composed.body,
        received: transaction.began,
        hold,
        notes,
        routes: (recipients.clone().enumerate())
            .filter_map(|(index, recipient)| Some((index, recipient.route.clone()?)))
            .collect(),
        originals: (recipients.enumerate())
            .filter(|(_, recipient)| recipient.original != recipient.path)
            .map(|(index, recipient)| (index, recipient.original.clone()))
            .collect(),
        origin: session.entrance.config.role.name().to_owned(),
        notice_of: None,
        peer: session.peer.ip(),
        session: session.id.to_string(),
        user: session.login.clone(),
        tags: policy.tags.clone(),
        priority: Priority::new(policy.priority),
        not_before: policy.not_before,
        // What is over already is tried once, and then given up.
        lifetime: policy
            .expiry
            .map(|expiry| expiry.duration_since(now()).unwrap_or(Duration::from_secs(1))),
        holds: transaction.holds.clone(),
        refusals: transaction.refusals.clone(),
        tls: (policy.recipients.iter().enumerate())
            .filter_map(|(index, recipient)| Some((index, recipient.tls?)))
            .collect(),
    };
    session
        .house
        .rooms
        .queue
        .commit(draft, accept)
        .await
        .map_err(|source| failed(Error::Queue(source)))
}

fn fault(rule: &'static str, reply: Reply) -> Refusal {
    Refusal { reply, rule: Some(rule), plugin: None, disconnect: false }
}

/// We could not do our work: an operator must know.
fn failed(error: Error) -> Refusal {
    error!("a message was not accepted: {error}");
    fault("failure", refusal::refusal(&error))
}

fn tell_taken(
    session: &Session,
    transaction: &Transaction,
    taken: &Taken,
    delay: Duration,
) -> (Fate, Reply, bool) {
    let policy = &transaction.policy;
    let (fate, reply) = match taken {
        Taken::Queued { receipt, held: false } => (Fate::Received, refusal::accepted(receipt)),
        Taken::Queued { receipt, held: true } => (Fate::Held, refusal::accepted(receipt)),
        Taken::Discarded => (Fate::Discarded, refusal::discarded(policy.id)),
    };
    // A message on hold was received; its hold is told by the queue.
    let event = if fate == Fate::Held { Fate::Received } else { fate };
    info!(
        target: "mail", event = event.name(), message = %policy.id, session = %session.id, peer = %session.peer_name(),
        reverse_path = %policy.reverse_path, forward_path = %forward_paths(transaction), stage = "data",
        reply = reply.to_string(), delay = delay.as_secs_f64(),
    );
    (fate, reply, false)
}

fn tell_refused(
    session: &Session,
    transaction: &mut Transaction,
    refusal: &Refusal,
) -> (Fate, Reply, bool) {
    if let Some(rule) = refusal.rule {
        transaction.note_rule(Stage::Data, rule, None, &refusal.reply);
    }
    let policy = &transaction.policy;
    let reply = refusal::with_id(&refusal.reply, policy.id);
    let fate = Fate::of(&reply);
    info!(
        target: "mail", event = fate.name(), message = %policy.id, session = %session.id, peer = %session.peer_name(),
        reverse_path = %policy.reverse_path, forward_path = %forward_paths(transaction), stage = "data",
        plugin = refusal.plugin.as_deref(), reply = reply.to_string(),
    );
    (fate, reply, refusal.disconnect)
}

/// The recipients on one line of a log; of many the first and a number.
fn forward_paths(transaction: &Transaction) -> String {
    match transaction.policy.recipients.as_slice() {
        [] => String::new(),
        [one] => one.path.to_string(),
        [first, others @ ..] => format!("{} and {} more", first.path, others.len()),
    }
}

/// A century; `Instant` cannot hold `Duration::MAX` more.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
