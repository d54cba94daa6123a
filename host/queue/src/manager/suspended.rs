//! Keeps back what operators suspended, and lets it go when they resume it.
//!
//! A message is looked at when it is due: recipients that a suspension covers are then parked with it, not held, so that
//! nothing about the message changes on disk and a resume needs no reading. After a start everything that is due is looked
//! at once more.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::SystemTime;

use message::Id;
use tokio::task::spawn_blocking;

use super::outcomes::Handed;
use super::{Durable, Manager, Return};
use crate::entry::Brief;
use crate::error::Error;
use crate::message::{Message, QueuedRecipient, RecipientState};
use crate::suspension::{Suspended, Suspension, save};

/// All suspensions in force.
#[derive(Debug, Default)]
pub(super) struct Suspensions {
    rules: BTreeMap<Suspension, Rule>,
    /// Who waits for the file that is written now…
    saving: Option<Vec<Durable>>,
    /// …and for the one after it.
    unsaved: Vec<Durable>,
}

#[derive(Debug)]
struct Rule {
    since: SystemTime,
    reason: Option<String>,
    /// What was due, and when it was, in milliseconds of the owner's own time.
    parked: HashMap<Id, u64>,
}

impl Suspensions {
    pub(super) fn new(suspended: Vec<Suspended>) -> Self {
        let rule = |one: Suspended| {
            let rule = Rule { since: one.since, reason: one.reason, parked: HashMap::new() };
            (one.what, rule)
        };
        Self { rules: suspended.into_iter().map(rule).collect(), ..Self::default() }
    }

    /// Is this recipient not to be tried?
    pub(super) fn cover(&self, message: &Message, recipient: &QueuedRecipient) -> bool {
        self.cover_to(message, recipient, recipient.destination.as_deref())
    }

    /// The same, when it is known where it goes.
    pub(super) fn cover_to(
        &self,
        message: &Message,
        recipient: &QueuedRecipient,
        destination: Option<&str>,
    ) -> bool {
        self.rules.keys().any(|what| what.covers(message, recipient, destination))
    }

    /// Is this destination suspended?
    pub(super) fn name(&self, destination: &str) -> bool {
        self.rules.keys().any(|what| what.names(destination))
    }

    /// The message is gone.
    pub(super) fn forget(&mut self, id: Id) {
        for rule in self.rules.values_mut() {
            rule.parked.remove(&id);
        }
    }

    pub(super) fn list(&self) -> Vec<Suspended> {
        let one = |(what, rule): (&Suspension, &Rule)| Suspended {
            what: what.clone(),
            since: rule.since,
            reason: rule.reason.clone(),
            waiting: rule.parked.len(),
        };
        self.rules.iter().map(one).collect()
    }
}

impl Manager {
    /// Keeps back what this covers; `done` when that will survive a restart. What is in hand is finished.
    pub(super) fn suspend(&mut self, what: Suspension, reason: Option<String>, done: Durable) {
        tracing::info!(%what, ?reason, "suspended by the operator");
        let since = self.clock.now();
        let rule = self.suspensions.rules.entry(what.clone());
        let new = || Rule { since, reason: None, parked: HashMap::new() };
        rule.or_insert_with(new).reason = reason;
        let covered = |message: &Message| {
            message
                .recipients
                .iter()
                .any(|recipient| what.covers(message, recipient, recipient.destination.as_deref()))
        };
        let ready: Vec<Id> = self
            .loaded
            .iter()
            .filter(|(_, loaded)| {
                let goes_there = |number: &u64| {
                    let destinations = self.handed.get(number).map(Handed::destinations);
                    destinations.into_iter().flatten().any(|name| what.names(&name))
                };
                loaded.open.iter().any(goes_there)
                    || loaded.message.as_ref().is_some_and(|message| covered(message))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ready {
            self.recall(id);
            self.run_tasks(id);
        }
        self.save_suspensions(done);
    }

    /// Lets go what this kept back.
    pub(super) fn resume(&mut self, what: &Suspension, done: Durable) {
        let Some(rule) = self.suspensions.rules.remove(what) else {
            let _ = done.send(Err(Error::NotSuspended(what.to_string())));
            return;
        };
        tracing::info!(%what, messages = rule.parked.len(), "resumed by the operator");
        let now = self.now();
        for (id, due) in rule.parked {
            let Some(entry) = self.entries.get_mut(&id).filter(|entry| !entry.out && !entry.held)
            else {
                continue;
            };
            let due = NonZeroU64::new(due.max(now));
            let before = entry.due;
            if before.is_some() && before <= due {
                continue;
            }
            entry.due = due;
            if let Some(before) = before {
                self.lanes.cancel(entry.lane, before.get(), id);
            }
            if let Some(due) = due {
                self.lanes.wait(entry.lane, due.get(), id);
            }
        }
        self.save_suspensions(done);
    }

    /// A message is to wait again: what of it is suspended waits for the resume, whatever its time.
    pub(super) fn park(&mut self, message: &Message, brief: &mut Brief) {
        if self.suspensions.rules.is_empty() || message.hold.is_some() {
            return;
        }
        let pending = || message.recipients.iter().filter(|r| r.state == RecipientState::Pending);
        let mut parked = Vec::new();
        for recipient in pending().filter(|recipient| self.suspensions.cover(message, recipient)) {
            let destination = recipient.destination.as_deref();
            for what in self.suspensions.rules.keys() {
                if what.covers(message, recipient, destination) {
                    parked.push((what.clone(), self.own_time((recipient.due, recipient.wait))));
                }
            }
        }
        if parked.is_empty() {
            return;
        }
        let goes_on = pending().filter(|recipient| !self.suspensions.cover(message, recipient));
        brief.due = goes_on
            .min_by_key(|recipient| recipient.due)
            .map(|recipient| (recipient.due, recipient.wait));
        for (what, due) in parked {
            if let Some(rule) = self.suspensions.rules.get_mut(&what) {
                let earliest = rule.parked.entry(message.id).or_insert(due);
                *earliest = due.min(*earliest);
            }
        }
    }

    fn save_suspensions(&mut self, done: Durable) {
        self.suspensions.unsaved.push(done);
        if self.suspensions.saving.is_none() {
            self.save_suspensions_now();
        }
    }

    fn save_suspensions_now(&mut self) {
        self.suspensions.saving = Some(std::mem::take(&mut self.suspensions.unsaved));
        let list = self.suspensions.list();
        let (disk, home) = (Arc::clone(&self.disk), self.home.clone());
        spawn_blocking(move || {
            let result = save(&*disk, &list).map_err(|error| error.to_string());
            let _ = home.send(Return::SuspensionsSaved(result));
        });
    }

    pub(super) fn suspensions_saved(&mut self, result: &Result<(), String>) {
        if let Err(error) = result {
            tracing::error!(%error, "what is suspended could not be written; a restart would forget it");
        }
        for done in self.suspensions.saving.take().unwrap_or_default() {
            let _ = done.send(result.clone().map_err(Error::NotDurable));
        }
        if !self.suspensions.unsaved.is_empty() {
            self.save_suspensions_now();
        }
    }
}
