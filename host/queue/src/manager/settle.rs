//! Empties old segments: moves what stays to files of its own, and lets the log forget what is done.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use message::Id;
use tokio::task::spawn_blocking;

use super::loaded::millis;
use super::{Manager, Return, Task};
use crate::commit::Order;
use crate::disk::File;
use crate::error::Error;
use crate::index::Index;
use crate::segment::Segment;
use crate::store::{Move, Moved, settle, unlink};

/// A segment in use.
#[derive(Debug)]
pub(super) struct Used {
    pub(super) file: Arc<dyn File>,
    /// When it was begun, on the owner's own scale.
    begun: u64,
    /// Places in it that are still true, and things done that only it knows.
    holds: usize,
    /// Messages that have or had something in it.
    ids: Vec<Id>,
    /// The committer was told to free it.
    freeing: bool,
    /// How often it was found to be read, and when it is tried again.
    pinned: (u32, u64),
}

/// What is being moved or removed.
#[derive(Debug, Default)]
pub(super) struct Settling {
    pub(super) running: bool,
    /// Messages whose files are being written now.
    pub(super) moving: HashSet<Id>,
    /// Finished messages whose files must be removed, and the segment that knows that they are finished.
    unlink: HashMap<Id, u32>,
    /// Not before this, after a failure.
    pause: u64,
}

impl Settling {
    /// Nothing is moved, removed or written anew for a while.
    pub(super) fn pause_for_failure(&mut self, now: u64) {
        self.pause = now + PAUSE;
    }
}

impl Manager {
    pub(super) fn begin_segment(&mut self, segment: Segment) {
        let used = Used {
            file: segment.file,
            begun: self.now(),
            holds: 0,
            ids: Vec::new(),
            freeing: false,
            pinned: (0, 0),
        };
        self.segments.insert(segment.origin.segment, used);
    }

    /// The segments that recovery found are old, whenever they were begun.
    pub(super) fn age_segments(&mut self) {
        for used in self.segments.values_mut() {
            used.begun = 0;
        }
    }

    pub(super) fn hold_segment(&mut self, segment: u32, id: Id) {
        if let Some(used) = self.segments.get_mut(&segment) {
            used.holds += 1;
            if used.ids.last() != Some(&id) {
                used.ids.push(id);
            }
        }
    }

    pub(super) fn release_segment(&mut self, segment: u32) {
        if let Some(used) = self.segments.get_mut(&segment) {
            used.holds = used.holds.saturating_sub(1);
        }
    }

    /// A message with files is done, as that segment knows. An index says so once for each line of the message: it holds
    /// its segment once all the same, or nothing would ever let go of it.
    pub(super) fn unlink_after(&mut self, id: Id, segment: u32) {
        let before = self.settling.unlink.insert(id, segment);
        if before != Some(segment) {
            self.hold_segment(segment, id);
        }
        if let Some(other) = before.filter(|before| *before != segment) {
            self.release_segment(other);
        }
    }

    /// Its files are gone already, as the index says.
    pub(super) fn no_unlink(&mut self, id: Id) {
        if let Some(segment) = self.settling.unlink.remove(&id) {
            self.release_segment(segment);
        }
    }

    /// Looks after segments, once in a while.
    pub(super) fn maintain(&mut self) {
        self.free_segments();
        let now = self.now();
        if self.settling.running || now < self.settling.pause || !self.healthy {
            return;
        }
        if self.wants_tidying() {
            return self.tidy_index();
        }
        if !self.knows_everything() {
            return;
        }
        if !self.settling.unlink.is_empty() {
            return self.unlink_some();
        }
        let limit = millis(self.config.limits.settle_after);
        let many = self.segments.len() > self.config.limits.segments / KEEP_SHARE;
        let Some((&oldest, used)) = self.segments.first_key_value() else { return };
        let old = now.saturating_sub(used.begun) >= limit;
        if self.segments.len() == 1 {
            // It is written now. If something stays in it for long, another one is begun and this one emptied.
            if old && used.holds > 0 {
                let _ = self.orders.send(Order::Roll);
            }
        } else if (old || many) && used.holds > 0 {
            self.settle_some(oldest);
        }
    }

    /// Frees segments that nobody needs, oldest first.
    pub(super) fn free_segments(&mut self) {
        if self.segments.len() < 2 || !self.knows_everything() {
            return;
        }
        let now = self.now();
        let Some(mut first) = self.segments.first_entry() else { return };
        let (number, used) = (*first.key(), first.get_mut());
        if used.holds == 0 && !used.freeing && now >= used.pinned.1 {
            used.freeing = true;
            let (file, pinned_too) = (Arc::clone(&used.file), used.pinned.0 >= PINNED);
            let _ = self.orders.send(Order::Free { number, file, pinned_too });
        }
    }

    /// Somebody reads that segment: most likely not for long.
    pub(super) fn free_later(&mut self, number: u32) {
        let again = self.now() + PINNED_PAUSE;
        if let Some(used) = self.segments.get_mut(&number) {
            used.freeing = false;
            used.pinned = (used.pinned.0 + 1, again);
        }
    }

    /// Moves some messages out of a segment.
    fn settle_some(&mut self, segment: u32) {
        let Some(used) = self.segments.get_mut(&segment) else { return };
        let mut ids = std::mem::take(&mut used.ids);
        let mut moves = Vec::new();
        let mut save = Vec::new();
        while moves.len() < TOGETHER {
            let Some(id) = ids.pop() else { break };
            let Some(entry) = self.entries.get(&id) else { continue };
            let content = entry.content.filter(|spot| spot.segment.get() == segment);
            let state = entry.state.filter(|spot| spot.segment.get() == segment);
            if self.loaded.get(&id).is_some_and(|loaded| loaded.parts.contains(&segment)) {
                save.push(id);
            }
            if content.is_some() || state.is_some() {
                let one = Move {
                    id,
                    state: self.state_place(entry.state),
                    content: content.is_some().then(|| self.source(entry.content)),
                };
                if self.settling.moving.insert(id) {
                    moves.push(one);
                }
            }
        }
        if let Some(used) = self.segments.get_mut(&segment) {
            used.ids.append(&mut ids);
            // They come again if something of them is still here.
            used.ids.extend(moves.iter().map(|one| one.id).chain(save.iter().copied()));
            used.ids.rotate_right(moves.len() + save.len());
        }
        for id in save {
            self.load(id, Task::Save);
        }
        if !moves.is_empty()
            && let Some(mut index) = self.deferred.take_index()
        {
            self.settling.running = true;
            let (disk, home) = (Arc::clone(&self.disk), self.home.clone());
            spawn_blocking(move || {
                let results = settle(&*disk, &mut index, moves);
                let _ = home.send(Return::Settled { results, removed: Vec::new(), index });
            });
        }
    }

    fn unlink_some(&mut self) {
        let ids: Vec<Id> = self.settling.unlink.keys().copied().take(TOGETHER * 4).collect();
        let Some(mut index) = self.deferred.take_index() else { return };
        self.settling.running = true;
        let (disk, home) = (Arc::clone(&self.disk), self.home.clone());
        spawn_blocking(move || {
            let removed = match unlink(&*disk, &mut index, &ids) {
                Ok(()) => ids,
                Err(error) => {
                    tracing::warn!(%error, "files of finished messages could not be removed");
                    Vec::new()
                }
            };
            let _ = home.send(Return::Settled { results: Vec::new(), removed, index });
        });
    }

    /// A portion was moved or removed.
    pub(super) fn settled(&mut self, results: Vec<Moved>, removed: Vec<Id>, index: Index) {
        self.settling.running = false;
        self.deferred.put_index(index);
        let moved = results.iter().any(|moved| moved.result.is_ok()) || !removed.is_empty();
        for id in removed {
            if let Some(segment) = self.settling.unlink.remove(&id) {
                self.release_segment(segment);
            }
        }
        for Moved { id, indexed, result } in results {
            self.settling.moving.remove(&id);
            if let Some(revision) = indexed {
                self.set_indexed(id, Some(u32::try_from(revision).unwrap_or(u32::MAX)));
            }
            match result {
                Ok(revision) => self.moved(id, revision),
                Err(Error::Damaged { what }) => {
                    tracing::error!(message = %id, %what, "found while moving it");
                    // Reading it for any reason sets it aside.
                    self.load(id, Task::Save);
                }
                Err(error) => {
                    tracing::warn!(message = %id, %error, "a message could not be moved out of the log")
                }
            }
        }
        if moved {
            self.maintain();
        } else {
            self.settling.pause_for_failure(self.now());
        }
    }

    fn moved(&mut self, id: Id, revision: u64) {
        // Finished meanwhile: then its files are on the list to be removed.
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let content = entry.content.take();
        let same = u64::from(entry.revision) == revision;
        let state = if same { entry.state.take() } else { None };
        for spot in content.iter().chain(&state) {
            self.release_segment(spot.segment.get());
        }
    }
}

/// This part of the segments may hold something before the oldest is emptied, old or not: one of so many. A burst that fits
/// into it costs no file for each message.
const KEEP_SHARE: usize = 2;

/// Messages moved at once, with one flush of each directory.
const TOGETHER: usize = 64;

/// A segment that is read is freed later, so many times; then it is removed, which those who read it do not notice…
const PINNED: u32 = 5;

/// …with pauses of so long, in milliseconds.
const PINNED_PAUSE: u64 = 1000;

/// After a failure nothing is moved for so long, in milliseconds.
const PAUSE: u64 = 10_000;
