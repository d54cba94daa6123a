//! What is kept in memory of each message.

use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroU64};

use message::Id;

use crate::entry::Owed;
use crate::schedule::Lane;
use crate::sender::SenderKey;

/// All messages. They lie side by side, and a map says where: a map that held them itself would be half empty when it has
/// just grown, and needs twice the memory while it grows. A million take 64 MB, and 36 MB for the map.
#[derive(Debug, Default)]
pub(super) struct Entries {
    places: HashMap<Id, u32>,
    all: Vec<(Id, Entry)>,
}

/// What is kept of a message that waits.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where its content begins; `None`: in `deferred/`.
    pub(super) content: Option<Spot>,
    /// Where its last whole state lies; `None`: in `deferred/`.
    pub(super) state: Option<Spot>,
    /// Counts the states on disk.
    pub(super) revision: u32,
    /// One more than the revision in the index; `None`: it has no line there and no files in `deferred/`.
    pub(super) indexed: Option<NonZeroU32>,
    pub(super) lane: Lane,
    /// When it is due, in milliseconds of the owner's own time; `None`: it is held, or only news are owed, or it is out.
    pub(super) due: Option<NonZeroU64>,
    /// By whom it counts for limits per sender…
    pub(super) sender: SenderKey,
    /// …and how much, in KiB begun.
    pub(super) kib: u32,
    /// It was taken from its lane and has not been put back.
    pub(super) out: bool,
    pub(super) owed: Owed,
    pub(super) held: bool,
    /// It has a file for its body.
    pub(super) large: bool,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// The first has number 1.
    pub(super) segment: NonZeroU32,
    pub(super) offset: u32,
}

impl Spot {
    /// No segment is as large as 4 GiB.
    pub(super) fn new(segment: u32, offset: u64) -> Option<Self> {
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        Some(Self { segment: NonZeroU32::new(segment)?, offset })
    }
}

impl Entries {
    pub(super) fn get(&self, id: &Id) -> Option<&Entry> {
        self.all.get(*self.places.get(id)? as usize).map(|(_, entry)| entry)
    }

    pub(super) fn get_mut(&mut self, id: &Id) -> Option<&mut Entry> {
        self.all.get_mut(*self.places.get(id)? as usize).map(|(_, entry)| entry)
    }

    pub(super) fn contains(&self, id: &Id) -> bool {
        self.places.contains_key(id)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Gives what was there before.
    pub(super) fn insert(&mut self, id: Id, entry: Entry) -> Option<Entry> {
        if let Some(old) = self.get_mut(&id) {
            return Some(std::mem::replace(old, entry));
        }
        // The limit of messages in a queue is far below.
        self.places.insert(id, u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.all.push((id, entry));
        None
    }

    pub(super) fn remove(&mut self, id: &Id) -> Option<Entry> {
        let place = self.places.remove(id)?;
        let (_, entry) = self.all.swap_remove(place as usize);
        // The last one has moved to where this was.
        if let Some((moved, _)) = self.all.get(place as usize) {
            self.places.insert(*moved, place);
        }
        Some(entry)
    }

    /// All, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Id, &Entry)> {
        self.all.iter().map(|(id, entry)| (*id, entry))
    }
}
