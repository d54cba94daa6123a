//! What operators ask of the owner.

use std::sync::Arc;

use message::Id;

use super::{Durable, Entry, Manager, Task};
use crate::admin::Action;
use crate::content::{ContentPlace, Source};
use crate::disk::File;
use crate::error::Error;
use crate::fate;
use crate::message::{Message, RecipientState};
use crate::store::{StatePlace, read_state};

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
    /// Reads it. Blocks.
    pub(crate) fn read(&self) -> Result<Message, Error> {
        match &self.loaded {
            Some(message) => Ok(Message::clone(message)),
            None => read_state(&*self.source.disk, self.id, &self.state),
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
    pub(super) fn survey(&self) -> Survey {
        let other = |(id, entry): (&Id, &Entry)| {
            (entry.state.is_some() || self.loaded.contains_key(id)).then_some(*id)
        };
        Survey {
            index: self.deferred.shown(),
            others: self.entries.iter().filter_map(other).collect(),
        }
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
            if self.entries.contains_key(&id) {
                self.load(id, Task::Act(action.clone(), done));
            } else {
                let _ = done.send(Err(Error::Unknown(id)));
            }
        }
    }

    pub(super) fn act(&mut self, id: Id, action: &Action, done: Durable) {
        let now = self.clock.now();
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
        }
        tracing::info!(message = %id, ?action, "by the operator");
        if matches!(action, Action::Hold { .. } | Action::Remove) {
            self.recall(id);
        }
        // What is in hand goes on; the operator does not wait for it.
        let Some(loaded) = self.loaded.get_mut(&id) else { return };
        if loaded.routing || !loaded.open.is_empty() || loaded.notices > 0 {
            for done in loaded.done.drain(..) {
                let _ = done.send(Ok(()));
            }
        }
    }
}

fn retry(message: &mut Message, now: std::time::SystemTime) {
    for recipient in &mut message.recipients {
        if recipient.state == RecipientState::Pending {
            fate::due_now(recipient, now);
        }
    }
}
