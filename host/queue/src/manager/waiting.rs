//! What the owner knows of a message from its receipt to its end: where it lies, and in which lane it waits.

use std::num::NonZeroU64;

use message::Id;

use super::Manager;
use super::entries::{Entry, Spot};
use crate::entry::{Brief, Owed};
use crate::message::Message;
use crate::segment::Place;

impl Manager {
    pub(super) fn accepted(&mut self, mut message: Box<Message>, place: Place) {
        let id = message.id;
        let content = place.offset + u64::from(place.prefix);
        let tells = message.notice_of.zip(message.tells.take());
        let brief = Brief::of(&message);
        let large = message.content.large.is_some();
        self.enter(
            id,
            Some((place.segment, content)),
            Some((place.segment, place.offset)),
            &brief,
            large,
        );
        if self.fresh.len() < FRESH && brief.due.is_some() {
            self.fresh.insert(id, message);
        }
        if let Some((of, tells)) = tells {
            self.tell(of, tells);
        }
    }

    /// Takes note of a message that waits.
    pub(super) fn enter(
        &mut self,
        id: Id,
        content: Option<(u32, u64)>,
        state: Option<(u32, u64)>,
        brief: &Brief,
        large: bool,
    ) {
        for segment in content.iter().chain(&state).map(|(segment, _)| *segment) {
            self.hold_segment(segment, id);
        }
        let spot = |(segment, offset)| Spot::new(segment, offset);
        let lane = self.lanes.join(&brief.lane, brief.class, brief.group);
        let kib = u32::try_from(brief.octets.div_ceil(1024)).unwrap_or(u32::MAX);
        let entry = Entry {
            sender: brief.sender,
            kib,
            content: content.and_then(spot),
            state: state.and_then(spot),
            indexed: None,
            revision: u32::try_from(brief.revision).unwrap_or(u32::MAX),
            lane,
            due: None,
            out: false,
            owed: Owed::default(),
            held: false,
            large,
        };
        if self.entries.insert(id, entry).is_none() {
            self.gauge.with_load(|load| load.enter(brief.sender, u64::from(kib) * 1024));
        }
        self.wait_in_lane(id, brief);
    }

    /// A message waits (again): in its lane until it is due, and with its news.
    pub(super) fn put_back(&mut self, id: Id, brief: &Brief) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if let Some(old) = entry.due.take() {
            self.lanes.cancel(entry.lane, old.get(), id);
        }
        if std::mem::take(&mut entry.out) {
            self.lanes.back(entry.lane);
        }
        let lane = self.lanes.join(&brief.lane, brief.class, brief.group);
        self.lanes.leave(std::mem::replace(&mut entry.lane, lane));
        self.wait_in_lane(id, brief);
    }

    /// It is in the lane that it belongs to.
    fn wait_in_lane(&mut self, id: Id, brief: &Brief) {
        let due = brief.due.map(|due| self.own_time(due));
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.due = due.and_then(NonZeroU64::new);
        if let Some(due) = entry.due {
            self.lanes.wait(entry.lane, due.get(), id);
        }
        (entry.owed, entry.held) = (brief.owed, brief.held);
        for kind in brief.owed.kinds() {
            self.notices.owe(id, kind);
        }
    }

    /// A message is finished, or was set aside: nothing of it stays in memory.
    pub(super) fn forget(&mut self, id: Id) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.deferred.live -= u64::from(entry.indexed.is_some());
        self.fresh.remove(&id);
        self.suspensions.forget(id);
        if let Some(due) = entry.due {
            self.lanes.cancel(entry.lane, due.get(), id);
        }
        if entry.out {
            self.lanes.back(entry.lane);
        }
        self.lanes.leave(entry.lane);
        for spot in entry.content.iter().chain(&entry.state) {
            self.release_segment(spot.segment.get());
        }
        self.gauge.with_load(|load| load.leave(entry.sender, u64::from(entry.kib) * 1024));
        Some(entry)
    }
}

/// Messages that are kept in memory between acceptance and first attempt.
const FRESH: usize = 1000;
