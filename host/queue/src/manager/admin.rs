//! What operators ask of the owner.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use message::Id;
use smtp::Reply;

use super::{Durable, Entry, Manager, Task};
use crate::admin::{Action, Changes, Filter};
use crate::content::{ContentPlace, Source};
use crate::disk::File;
use crate::error::Error;
use crate::fate;
use crate::message::{Message, Outcome, QueuedRecipient, RecipientState};
use crate::store::{StatePlace, read_state_if};

/// Where to read a message.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) id: Id,
    pub(crate) active: bool,
    state: StatePlace,
    revision: u32,
    pub(crate) source: Source,
    /// In memory, perhaps newer than on disk.
    loaded: Option<Arc<Message>>,
}

impl Candidate {
    /// Reads it, unless what lies on the disk is not wanted. Blocks.
    pub(crate) fn read_if(
        &self,
        wanted: impl FnOnce(&[u8]) -> bool,
    ) -> Result<Option<Message>, Error> {
        match &self.loaded {
            Some(message) => Ok(Some(Message::clone(message))),
            None => read_state_if(&*self.source.disk, self.id, &self.state, wanted),
        }
    }

    /// Is this revision its last state, and is that in `deferred/`?
    pub(crate) fn is_deferred_as(&self, revision: u32) -> bool {
        let deferred = matches!(self.state, StatePlace::Deferred);
        deferred && self.revision == revision && self.loaded.is_none()
    }

    /// Where the content lies, for an operator.
    pub(crate) fn place(&self) -> String {
        place_name(&self.source, self.id)
    }
}

/// Where the content lies, for an operator.
pub(crate) fn place_name(source: &Source, id: Id) -> String {
    match &source.place {
        ContentPlace::Log { segment, offset, .. } => format!("log segment {segment} at {offset}"),
        ContentPlace::Deferred => {
            source.disk.name(&crate::content::eml_path(id)).display().to_string()
        }
    }
}

/// Where all messages are.
#[derive(Debug)]
pub(crate) struct Survey {
    /// The index of those in `deferred/`, with the octets that are in use.
    pub(crate) index: Option<(Arc<dyn File>, u64)>,
    /// Those whose last state the index does not have.
    pub(crate) others: Vec<Id>,
}

impl Manager {
    pub(super) fn survey(&self, filter: &Filter) -> Survey {
        if let Some(others) = self.few(filter) {
            return Survey { index: None, others };
        }
        let other = |(id, entry): (Id, &Entry)| {
            (entry.state.is_some() || self.loaded.contains_key(&id)).then_some(id)
        };
        Survey {
            index: self.deferred.shown(),
            others: self.entries.iter().filter_map(other).collect(),
        }
    }

    /// All messages that may match, if what is kept of each in memory says that they are few: then their own files are
    /// read, and not the index.
    fn few(&self, filter: &Filter) -> Option<Vec<Id>> {
        if filter.held == Some(true) || filter.hold.is_some() {
            let may_be_held = |(id, entry): (Id, &Entry)| {
                (entry.held || self.loaded.contains_key(&id)).then_some(id)
            };
            let ids: Vec<Id> = self.entries.iter().filter_map(may_be_held).take(FEW + 1).collect();
            return (ids.len() <= FEW).then_some(ids);
        }
        let limit = filter.limit.filter(|limit| *limit <= FEW)?;
        if *filter != (Filter { limit: filter.limit, ..Filter::default() }) {
            return None;
        }
        let mut ids: Vec<Id> = self.entries.iter().map(|(id, _)| id).collect();
        // Some of them may be finished before they are read.
        let most = limit + limit / 10 + 10;
        if most < ids.len() {
            ids.select_nth_unstable(most);
            ids.truncate(most);
        }
        Some(ids)
    }

    /// Where to read these messages, oldest first.
    pub(super) fn select(&self, ids: &[Id]) -> Vec<Candidate> {
        let mut ids: Vec<Id> = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter()
            .filter_map(|id| {
                let entry = self.entries.get(&id)?;
                let loaded = self.loaded.get(&id);
                Some(Candidate {
                    id,
                    active: loaded.is_some(),
                    revision: entry.revision,
                    state: self.state_place(entry.state),
                    source: self.source(entry.content),
                    loaded: loaded.and_then(|loaded| loaded.message.clone()),
                })
            })
            .collect()
    }

    pub(super) fn apply(&mut self, ids: Vec<(Id, Durable)>, action: &Action) {
        for (id, done) in ids {
            if self.entries.contains(&id) {
                self.load(id, Task::Act(action.clone(), done));
            } else {
                let _ = done.send(Err(Error::Unknown(id)));
            }
        }
    }

    pub(super) fn act(&mut self, id: Id, action: &Action, done: Durable) {
        let now = self.clock.now();
        if !matches!(action, Action::Retry | Action::Release) {
            self.recall(id);
        }
        let in_hand = self.recipients_in_hand(id);
        let Some(facts) = self.loaded.get(&id).and_then(|loaded| loaded.message.as_ref()) else {
            return;
        };
        let facts = self.facts(facts);
        let Some(loaded) = self.loaded.get_mut(&id) else { return };
        loaded.done.push(done);
        loaded.changed_otherwise = true;
        let Some(message) = loaded.message_mut() else { return };
        match action {
            Action::Retry => retry(message, now),
            Action::Hold { name } => message.hold = Some(name.clone()),
            Action::Release => {
                message.hold = None;
                for recipient in &mut message.recipients {
                    if matches!(recipient.state, RecipientState::Held(_)) {
                        recipient.state = RecipientState::Pending;
                    }
                }
                retry(message, now);
            }
            Action::Remove => loaded.removed = true,
            Action::Bounce { reply } => bounce(message, reply.as_ref(), &in_hand, facts.facts()),
            Action::Change(changes) => change(message, changes, &in_hand, now),
        }
        tracing::info!(message = %id, ?action, "by the operator");
        // What is in hand goes on; the operator does not wait for it.
        let Some(loaded) = self.loaded.get_mut(&id) else { return };
        if loaded.routing || !loaded.open.is_empty() || loaded.notices > 0 {
            for done in loaded.done.drain(..) {
                let _ = done.send(Ok(()));
            }
        }
    }
}

fn retry(message: &mut Message, now: SystemTime) {
    for recipient in &mut message.recipients {
        if recipient.state == RecipientState::Pending {
            fate::due_now(recipient, now);
        }
    }
}

/// Gives up what is not finished and not being delivered at this moment.
fn bounce(
    message: &mut Message,
    reply: Option<&Reply>,
    in_hand: &HashSet<usize>,
    facts: fate::Facts<'_>,
) {
    // RFC 3463 §3.8: 5.7.0 is security or policy, and it is no fault of the address.
    let own = || Reply::new(554, "5.7.0 Returned by the postmaster of this server");
    let reply = reply.filter(|reply| reply.is_permanent()).cloned().unwrap_or_else(own);
    message.hold = None;
    let (id, reverse_path) = (message.id, message.reverse_path.clone());
    for recipient in message.recipients.iter_mut().filter(|r| is_idle(r, in_hand)) {
        let failed = Outcome::Failed { reply: reply.clone(), peer: None, quiet: false };
        fate::record(recipient, failed, facts);
        tracing::info!(
            target: "mail", event = "bounced", message = %id, %reverse_path,
            forward_path = %recipient.path, reply = reply.to_string(), reason = "by the operator",
        );
    }
}

fn change(message: &mut Message, changes: &Changes, in_hand: &HashSet<usize>, now: SystemTime) {
    message.priority = changes.priority.unwrap_or(message.priority);
    message.tags.extend(changes.add_tags.iter().cloned());
    message.tags.retain(|tag| !changes.remove_tags.contains(tag));
    message.lifetime = changes.lifetime.or(message.lifetime);
    if let Some(delay) = changes.delay {
        message.not_before = Some(now + delay.min(fate::LONGEST_WAIT));
    }
    for recipient in message.recipients.iter_mut().filter(|r| is_idle(r, in_hand)) {
        if let Some(route) = &changes.route {
            recipient.hint = Some(route.clone());
        }
        if let Some(delay) = changes.delay {
            fate::due_after(recipient, delay, now);
        }
    }
}

/// It is not finished, and nobody is delivering it now.
fn is_idle(recipient: &QueuedRecipient, in_hand: &HashSet<usize>) -> bool {
    !recipient.state.is_final() && !in_hand.contains(&recipient.index)
}

/// So many files are read sooner than an index of a million lines.
const FEW: usize = 1000;
