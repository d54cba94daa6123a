//! News that must be told: who gets them handed out, and when they count as told.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use message::Id;
use tokio::sync::oneshot;

use super::loaded::millis;
use super::{Durable, Manager, Task};
use crate::delivery::Notice;
use crate::message::{NoticeKind, Tells};

/// News that wait, and those in hand.
#[derive(Default)]
pub(super) struct Notices {
    queue: VecDeque<(Id, NoticeKind)>,
    queued: HashSet<(Id, NoticeKind)>,
    /// To be handed out again.
    later: BTreeSet<(u64, Id, NoticeKind)>,
    /// The same without the time.
    postponed: HashSet<(Id, NoticeKind)>,
    in_hand: HashMap<Id, Tells>,
    pub(super) tellers: VecDeque<oneshot::Sender<Notice>>,
}

impl Notices {
    /// News are owed. What was postponed stays so, however often it is said that it is owed.
    pub(super) fn owe(&mut self, id: Id, kind: NoticeKind) {
        if !self.postponed.contains(&(id, kind)) && self.queued.insert((id, kind)) {
            self.queue.push_back((id, kind));
        }
    }

    /// The same, but not at once.
    pub(super) fn later(&mut self, due: u64, id: Id, kind: NoticeKind) {
        if self.postponed.insert((id, kind)) {
            self.later.insert((due, id, kind));
        }
    }

    /// What a report about this message tells: what was handed out.
    pub(super) fn in_hand(&self, id: Id) -> Option<Tells> {
        self.in_hand.get(&id).cloned()
    }

    fn take(&mut self, now: u64) -> Option<(Id, NoticeKind)> {
        while let Some(first) = self.later.first().copied().filter(|(due, ..)| *due <= now) {
            self.later.remove(&first);
            self.postponed.remove(&(first.1, first.2));
            self.owe(first.1, first.2);
        }
        let next = self.queue.pop_front()?;
        self.queued.remove(&next);
        Some(next)
    }
}

impl Manager {
    /// Gives news to those who wait for them.
    pub(super) fn pump_notices(&mut self, now: u64) {
        self.notices.tellers.retain(|teller| !teller.is_closed());
        let mut busy = Vec::new();
        while !self.notices.tellers.is_empty() {
            let Some((id, kind)) = self.notices.take(now) else { break };
            if !self.entries.contains(&id) {
                continue;
            }
            if self.notices.in_hand.contains_key(&id) {
                // One report about a message at a time: then each knows exactly what it tells.
                busy.push((id, kind));
                continue;
            }
            if let Some(teller) = self.notices.tellers.pop_front() {
                self.load(id, Task::Tell(kind, teller));
            }
        }
        for (id, kind) in busy {
            self.notices.later(now + AGAIN, id, kind);
        }
    }

    pub(super) fn hand_notice(
        &mut self,
        id: Id,
        kind: NoticeKind,
        teller: oneshot::Sender<Notice>,
    ) {
        let Some(loaded) = self.loaded.get_mut(&id) else { return };
        let (Some(message), Some(source)) = (&loaded.message, &loaded.source) else { return };
        let owed: Vec<_> =
            message.recipients.iter().filter(|r| r.owed == Some(kind)).cloned().collect();
        let told_already = owed.is_empty() || loaded.removed;
        if told_already || self.notices.in_hand.contains_key(&id) || self.stopping.is_some() {
            if !told_already {
                self.notices.later(0, id, kind);
            }
            self.notices.tellers.push_front(teller);
            return;
        }
        let tells =
            Tells { kind, recipients: owed.iter().map(|recipient| recipient.index).collect() };
        let notice = Notice {
            message: Arc::clone(message),
            kind,
            recipients: owed,
            source: Arc::clone(source),
            home: Some(self.home.clone()),
        };
        match teller.send(notice) {
            Ok(()) => {
                loaded.notices += 1;
                self.notices.in_hand.insert(id, tells);
            }
            Err(mut notice) => {
                notice.home = None;
                self.notices.owe(id, kind);
            }
        }
    }

    /// A notice came back: told, or to be told again.
    pub(super) fn notice_returned(
        &mut self,
        id: Id,
        tells: &Tells,
        told: bool,
        done: Option<Durable>,
    ) {
        self.notices.in_hand.remove(&id);
        let again = self.now() + millis(self.config.schedule.soon);
        let Some(loaded) = self.loaded.get_mut(&id) else { return };
        loaded.notices = loaded.notices.saturating_sub(1);
        loaded.done.extend(done);
        let Some(message) = &loaded.message else { return };
        let owed = tells.recipients.iter().any(|index| {
            message.recipients.get(*index).is_some_and(|r| r.owed == Some(tells.kind))
        });
        if owed && told {
            loaded.tasks.push_back(Task::Told(tells.clone()));
        } else if owed {
            self.notices.later(again, id, tells.kind);
        }
        self.run_tasks(id);
        let open = self.loaded.get(&id).is_some_and(|loaded| !loaded.done.is_empty());
        if open {
            self.write_changes(id);
        }
    }

    /// A report was committed: it counts as told, whatever becomes of the notice.
    pub(super) fn tell(&mut self, of: Id, tells: Tells) {
        self.load(of, Task::Told(tells));
    }

    pub(super) fn told(&mut self, id: Id, tells: &Tells) {
        let Some(loaded) = self.loaded.get_mut(&id) else { return };
        let Some(message) = loaded.message.as_mut().map(Arc::make_mut) else { return };
        message.tell(tells);
        loaded
            .changed
            .extend(tells.recipients.iter().filter(|index| **index < message.recipients.len()));
    }
}

/// A second notice about a message waits this long for the first, in milliseconds.
const AGAIN: u64 = 1000;
