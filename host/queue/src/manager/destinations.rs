//! What operators see of each destination.

use std::collections::HashMap;
use std::time::Duration;

use message::Id;
use smtp::Reply;

use super::Manager;
use crate::admin::{Destination, LastWord};
use crate::message::Outcome;

impl Manager {
    /// All destinations that have messages or deliveries in hand, those with the most messages first; each with its oldest
    /// message.
    pub(super) fn destinations(&self) -> Vec<(Destination, Option<Id>)> {
        let (now, time) = (self.now(), self.clock.now());
        let mut all: HashMap<&str, (Destination, Option<Id>)> = HashMap::new();
        let new = |name: &str| (Destination::new(name), None);
        for (id, entry) in self.entries.iter() {
            let name = self.lanes.destination(entry.lane);
            let (one, oldest) = all.entry(name).or_insert_with(|| new(name));
            one.messages += 1;
            one.held += usize::from(entry.held);
            one.octets = one.octets.saturating_add(u64::from(entry.kib) * 1024);
            *oldest = Some(oldest.map_or(id, |oldest: Id| oldest.min(id)));
            if let Some(due) = entry.due {
                let due = time + Duration::from_millis(due.get().saturating_sub(now));
                one.due = Some(one.due.map_or(due, |earliest| earliest.min(due)));
            }
        }
        for (name, in_hand, ready) in self.turns.counts() {
            let (one, _) = all.entry(name).or_insert_with(|| new(name));
            (one.in_hand, one.ready) = (in_hand, ready);
        }
        let mut all: Vec<_> = all.into_values().collect();
        for (one, oldest) in &mut all {
            one.oldest = oldest.map(Id::time);
            one.suspended = self.suspensions.name(&one.name);
            one.last = self.last_words.get(&one.name).cloned();
        }
        all.sort_by(|(a, _), (b, _)| b.messages.cmp(&a.messages).then_with(|| a.name.cmp(&b.name)));
        all
    }

    /// Remembers the last reply of a destination.
    pub(super) fn note_last_word<'a>(
        &mut self,
        destination: &str,
        outcomes: impl Iterator<Item = &'a Outcome>,
    ) {
        let Some((reply, peer)) = outcomes.filter_map(said).last() else { return };
        let word = LastWord { reply: reply.clone(), peer: peer.clone(), time: self.clock.now() };
        if self.last_words.len() >= REMEMBERED && !self.last_words.contains_key(destination) {
            let lanes = &self.lanes;
            self.last_words.retain(|name, _| lanes.knows(name));
            if self.last_words.len() >= REMEMBERED {
                self.last_words.clear();
            }
        }
        self.last_words.insert(destination.to_owned(), word);
    }
}

fn said(outcome: &Outcome) -> Option<(&Reply, &Option<String>)> {
    match outcome {
        Outcome::Delivered { reply, peer }
        | Outcome::Relayed { reply, peer, .. }
        | Outcome::Deferred { reply, peer, .. }
        | Outcome::Failed { reply, peer, .. } => Some((reply, peer)),
        Outcome::Hold { .. } | Outcome::Discard | Outcome::NotTried { .. } => None,
    }
}

/// The last words of all destinations, while they are needed.
pub(super) type LastWords = HashMap<String, LastWord>;

/// Destinations whose last words are kept: a few hundred octets each.
const REMEMBERED: usize = 10_000;
