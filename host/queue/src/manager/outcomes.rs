//! Hands deliveries to workers and records what came of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use message::Id;
use smtp::Route;

use super::routing::tell_fate;
use super::{Durable, Manager};
use crate::delivery::Delivery;
use crate::error::Error;
use crate::fate;
use crate::message::{Outcome, RecipientState};
use crate::schedule::Answer;

/// A delivery that is ready or in hand.
pub(super) struct Handed {
    pub(super) id: Id,
    pub(super) recipients: Vec<usize>,
    pub(super) route: Route,
    /// Whose turn it takes.
    pub(super) destination: String,
    /// Recipients whose route has another name, though it leads to the same hosts.
    pub(super) others: Arc<BTreeMap<usize, Route>>,
    pub(super) in_hand: bool,
}

impl Handed {
    /// The destination of a recipient, by its own name.
    fn destination_of(&self, index: usize) -> String {
        self.others.get(&index).map_or_else(|| self.destination.clone(), Route::destination)
    }

    /// All destinations that it goes to.
    pub(super) fn destinations(&self) -> BTreeSet<String> {
        let others = self.others.values().map(Route::destination);
        others.chain([self.destination.clone()]).collect()
    }
}

impl Manager {
    /// Gives ready deliveries to waiting workers.
    pub(super) fn hand_out(&mut self) {
        self.workers.retain(|worker| !worker.is_closed());
        while !self.workers.is_empty() {
            let Some(number) = self.turns.take() else { return };
            let Some(handed) = self.handed.get_mut(&number) else { continue };
            let Some(loaded) = self.loaded.get_mut(&handed.id) else { continue };
            let (Some(message), Some(source)) = (loaded.shown_message(), &loaded.source) else {
                continue;
            };
            handed.in_hand = true;
            let mut delivery = Delivery {
                message,
                recipients: handed.recipients.clone(),
                route: handed.route.clone(),
                others: Arc::clone(&handed.others),
                number,
                source: Some(Arc::clone(source)),
                home: Some(self.home.clone()),
            };
            while let Some(worker) = self.workers.pop_front() {
                match worker.send(delivery) {
                    Ok(()) => break,
                    Err(back) => delivery = back,
                }
                if self.workers.is_empty() {
                    // All had gone: it is ready as before.
                    delivery.home = None;
                    handed.in_hand = false;
                    let destination = handed.destination.clone();
                    self.turns.back(&destination, Answer::Unknown);
                    self.turns.add(&destination, number);
                    return;
                }
            }
        }
    }

    /// A delivery came back.
    pub(super) fn finished(
        &mut self,
        number: u64,
        outcomes: Vec<(usize, Outcome)>,
        done: Option<Durable>,
    ) {
        let Some(handed) = self.handed.remove(&number) else { return };
        self.turns.back(&handed.destination, answer_of(&outcomes));
        for destination in handed.destinations() {
            let said =
                outcomes.iter().filter(|(index, _)| handed.destination_of(*index) == destination);
            self.note_last_word(&destination, said.map(|(_, outcome)| outcome));
        }
        let Some(loaded) = self.loaded.get_mut(&handed.id) else { return };
        loaded.open.remove(&number);
        loaded.done.extend(done);
        let Some(message) = loaded.message.clone() else { return };
        let facts = self.facts(&message);
        drop(message);
        let Some(loaded) = self.loaded.get_mut(&handed.id) else { return };
        let Some(message) = loaded.message.as_mut().map(Arc::make_mut) else { return };
        let mut outcomes: HashMap<usize, Outcome> = outcomes.into_iter().collect();
        for &index in &handed.recipients {
            let recipient = &mut message.recipients[index];
            if recipient.state != RecipientState::Pending {
                continue;
            }
            let outcome = outcomes
                .remove(&index)
                .unwrap_or(Outcome::NotTried { retry_in: self.config.schedule.soon });
            if !matches!(outcome, Outcome::NotTried { .. }) {
                recipient.destination = Some(handed.destination_of(index));
            }
            fate::record(recipient, outcome, facts.facts());
            loaded.changed.insert(index);
            tell_fate(message, index);
        }
        if loaded.open.is_empty() && !loaded.routing {
            self.run_tasks(handed.id);
        }
        // Something else of the message is in hand: this is durable without waiting for it.
        let open = self.loaded.get(&handed.id).is_some_and(|loaded| !loaded.done.is_empty());
        if open {
            self.write_changes(handed.id);
        }
    }

    /// Takes back what is ready and not in hand.
    pub(super) fn recall(&mut self, id: Id) {
        let Some(loaded) = self.loaded.get_mut(&id) else { return };
        let ready: Vec<u64> = loaded
            .open
            .iter()
            .filter(|number| self.handed.get(number).is_some_and(|handed| !handed.in_hand))
            .copied()
            .collect();
        for number in ready {
            loaded.open.remove(&number);
            if let Some(handed) = self.handed.remove(&number) {
                self.turns.cancel(&handed.destination, number);
            }
        }
    }

    /// Recipients of a message that are being delivered now.
    pub(super) fn recipients_in_hand(&self, id: Id) -> HashSet<usize> {
        let open = self.loaded.get(&id).into_iter().flat_map(|loaded| &loaded.open);
        open.filter_map(|number| self.handed.get(number).filter(|handed| handed.in_hand))
            .flat_map(|handed| handed.recipients.iter().copied())
            .collect()
    }

    /// The queue stops: what is not in hand waits for the next start.
    pub(super) fn recall_everything(&mut self) {
        let ids: Vec<Id> = self.loaded.keys().copied().collect();
        for id in ids {
            self.recall(id);
            if let Some(loaded) = self.loaded.get_mut(&id) {
                loaded
                    .tasks
                    .retain(|task| !matches!(task, super::Task::Route | super::Task::Tell(..)));
            }
            self.close_if_idle(id);
        }
        for done in self.loaded.values_mut().filter(|l| l.failed).flat_map(|l| l.done.drain(..)) {
            let _ = done.send(Err(Error::Closed));
        }
    }
}

/// What outcomes say of their destination: a host that speaks, if only to refuse, is there.
fn answer_of(outcomes: &[(usize, Outcome)]) -> Answer {
    let mut answer = Answer::Unknown;
    for (_, outcome) in outcomes {
        answer = match outcome {
            Outcome::Delivered { .. } | Outcome::Relayed { .. } | Outcome::Failed { .. } => {
                return Answer::Answered;
            }
            // RFC 5321 §4.2.3: 421 closes the channel.
            Outcome::Deferred { reply, peer: Some(_), .. } if reply.code() != 421 => {
                return Answer::Answered;
            }
            Outcome::Deferred { .. } | Outcome::NotTried { .. } => Answer::Silent,
            Outcome::Hold { .. } | Outcome::Discard => answer,
        };
    }
    answer
}
