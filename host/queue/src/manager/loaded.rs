//! Messages that are in memory because something happens to them.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use message::Id;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::{Durable, Manager, Return, Spot, What, Writing};
use crate::admin::Action;
use crate::content::{ContentPlace, Source};
use crate::delivery::Notice;
use crate::entry::Brief;
use crate::error::Error;
use crate::fate;
use crate::message::{Change, Message, NoticeKind, RecipientState, Tells};
use crate::record::{Kind, Record};
use crate::recovery::Parts;
use crate::segment::Place;
use crate::store::{StatePlace, read_state, set_message_aside, to_json, unlink_large};

/// A message in memory.
#[derive(Default)]
pub(super) struct Loaded {
    /// `None` until it was read.
    pub(super) message: Option<Arc<Message>>,
    pub(super) source: Option<Arc<Source>>,
    /// The message as it was when its deliveries were made: one copy for all of them.
    pub(super) shown: Option<Arc<Message>>,
    /// What is to be done when it was read, or when its state was written.
    pub(super) tasks: VecDeque<Task>,
    pub(super) routing: bool,
    /// Deliveries that are ready or in hand.
    pub(super) open: BTreeSet<u64>,
    /// Notices in hand.
    pub(super) notices: usize,
    /// Recipients that differ from the disk.
    pub(super) changed: BTreeSet<usize>,
    /// More than recipients differs from the disk.
    pub(super) changed_otherwise: bool,
    /// Its last state is on its way to the disk.
    pub(super) closing: bool,
    /// The last write failed; it is tried again when the disk is well.
    pub(super) failed: bool,
    /// An operator removed it.
    pub(super) removed: bool,
    /// Segments with parts of its state that no whole state replaced yet.
    pub(super) parts: Vec<u32>,
    /// Who waits until this is durable.
    pub(super) done: Vec<Durable>,
}

/// What a message is loaded for.
pub(super) enum Task {
    Route,
    Act(Action, Durable),
    Tell(NoticeKind, oneshot::Sender<Notice>),
    Told(Tells),
    /// Its state must leave an old segment.
    Save,
    /// What was found of its state after the last whole one.
    Merge(Parts),
}

impl Loaded {
    pub(super) fn message_mut(&mut self) -> Option<&mut Message> {
        self.message.as_mut().map(Arc::make_mut)
    }

    /// The message for a delivery. Several deliveries share a copy of it: if each held the message itself, every
    /// recorded outcome would copy it anew, and a thousand recipients would be a thousand copies of a thousand.
    pub(super) fn shown_message(&mut self) -> Option<Arc<Message>> {
        let message = self.message.as_ref()?;
        if self.open.len() == 1 && self.shown.is_none() {
            return Some(Arc::clone(message));
        }
        Some(Arc::clone(self.shown.get_or_insert_with(|| Arc::new(Message::clone(message)))))
    }

    fn is_idle(&self) -> bool {
        self.message.is_some()
            && self.tasks.is_empty()
            && !self.routing
            && !self.closing
            && self.open.is_empty()
            && self.notices == 0
    }

    fn differs(&self) -> bool {
        !self.changed.is_empty() || self.changed_otherwise || self.removed
    }
}

impl Manager {
    /// Loads a message, if it is not yet, and then does this.
    pub(super) fn load(&mut self, id: Id, task: Task) {
        if let Some(loaded) = self.loaded.get_mut(&id) {
            loaded.tasks.push_back(task);
            return self.run_tasks(id);
        }
        let Some(entry) = self.entries.get(&id) else { return };
        let state = self.state_place(entry.state);
        let source = Arc::new(self.source(entry.content));
        let mut loaded = Loaded { source: Some(Arc::clone(&source)), ..Loaded::default() };
        loaded.tasks.push_back(task);
        self.loaded.insert(id, loaded);
        if let Some(message) = self.fresh.remove(&id) {
            return self.was_loaded(id, Ok(message));
        }
        let (disk, home) = (Arc::clone(&self.disk), self.home.clone());
        spawn_blocking(move || {
            let read = read_state(&*disk, id, &state)
                .and_then(|message| source.verify(&message).map(|()| Box::new(message)));
            let _ = home.send(Return::Loaded { id, result: read });
        });
    }

    pub(super) fn was_loaded(&mut self, id: Id, result: Result<Box<Message>, Error>) {
        match result {
            Ok(mut message) => {
                let facts = self.facts(&message);
                let left = message
                    .recipients
                    .iter()
                    .filter(|recipient| !recipient.state.is_final())
                    .map(|one| facts.facts().max_age(one).saturating_sub(one.waited))
                    .max();
                message.expires = self.clock.now() + left.unwrap_or_default();
                if let Some(loaded) = self.loaded.get_mut(&id) {
                    loaded.message = Some(Arc::new(*message));
                }
                self.run_tasks(id);
            }
            Err(Error::Damaged { what }) => {
                tracing::error!(message = %id, %what, "a damaged message is set aside");
                let Some(entry) = self.entries.get(&id) else { return };
                let (state, source) = (self.state_place(entry.state), self.source(entry.content));
                let (disk, home) = (Arc::clone(&self.disk), self.home.clone());
                spawn_blocking(move || {
                    set_message_aside(&*disk, id, &state, &source);
                    let _ = home.send(Return::SetAside(id));
                });
            }
            Err(error) => {
                tracing::error!(message = %id, %error, "a message could not be read; trying again soon");
                self.loaded.remove(&id);
                let due = self.now() + millis(self.config.schedule.soon);
                if let Some(entry) = self.entries.get_mut(&id) {
                    if std::mem::take(&mut entry.out) {
                        self.lanes.back(entry.lane);
                    }
                    if entry.due.is_none() && !entry.held {
                        entry.due = NonZeroU64::new(due);
                        self.lanes.wait(entry.lane, due, id);
                    }
                    for kind in entry.owed.kinds() {
                        self.notices.later(due, id, kind);
                    }
                }
            }
        }
    }

    /// What was damaged lies in `corrupt/`: the queue has it no more.
    pub(super) fn was_set_aside(&mut self, id: Id) {
        if let Some(loaded) = self.loaded.get_mut(&id) {
            loaded.closing = true;
        }
        self.write(Record::done(id), What::Done, Vec::new());
    }

    /// Does what is to be done, as far as possible.
    pub(super) fn run_tasks(&mut self, id: Id) {
        loop {
            let Some(loaded) = self.loaded.get_mut(&id) else { return };
            if loaded.message.is_none() || loaded.closing {
                return;
            }
            match loaded.tasks.pop_front() {
                Some(Task::Route) => self.route(id),
                Some(Task::Act(action, done)) => self.act(id, &action, done),
                Some(Task::Tell(kind, teller)) => self.hand_notice(id, kind, teller),
                Some(Task::Told(tells)) => self.told(id, &tells),
                Some(Task::Save) => loaded.changed_otherwise = true,
                Some(Task::Merge(parts)) => self.merge(id, &parts),
                None => break,
            }
        }
        self.close_if_idle(id);
    }

    /// When nothing is in hand: writes the new state, if there is one, and then lets the message wait.
    pub(super) fn close_if_idle(&mut self, id: Id) {
        let Some(loaded) = self.loaded.get_mut(&id).filter(|loaded| loaded.is_idle()) else {
            return;
        };
        if !loaded.differs() {
            for done in loaded.done.drain(..) {
                let _ = done.send(Ok(()));
            }
            return self.unload(id);
        }
        let removed = loaded.removed;
        let Some(message) = loaded.message.as_mut().map(Arc::make_mut) else { return };
        if removed {
            discard(message);
        }
        message.revision += 1;
        let (record, what) = if message.is_done() {
            (Record::done(id), What::Done)
        } else {
            let brief_revision = message.revision;
            (Record::new(Kind::State, id, to_json(message)), What::State { brief_revision })
        };
        loaded.changed.clear();
        loaded.changed_otherwise = false;
        loaded.closing = true;
        let done = std::mem::take(&mut loaded.done);
        self.write(record, what, done);
    }

    /// While something is in hand: writes which recipients changed.
    pub(super) fn write_changes(&mut self, id: Id) {
        let Some(loaded) = self.loaded.get_mut(&id) else { return };
        let changed = std::mem::take(&mut loaded.changed);
        let Some(message) = loaded.message.as_mut().map(Arc::make_mut) else { return };
        message.revision += 1;
        let recipients =
            changed.iter().map(|&index| (index, message.recipients[index].clone())).collect();
        let change = Change { revision: message.revision, recipients };
        let done = std::mem::take(&mut loaded.done);
        self.write(Record::new(Kind::Change, id, to_json(&change)), What::Change, done);
    }

    /// The committer wrote a record, or could not.
    pub(super) fn recorded(&mut self, number: u64, result: Result<Place, String>) {
        let Some(Writing { id, what, done }) = self.writing.remove(&number) else { return };
        match result {
            Ok(place) => {
                for done in done {
                    let _ = done.send(Ok(()));
                }
                match what {
                    What::Change => {
                        self.hold_segment(place.segment, id);
                        match self.loaded.get_mut(&id) {
                            Some(loaded) => loaded.parts.push(place.segment),
                            None => self.release_segment(place.segment),
                        }
                    }
                    What::State { brief_revision } => self.state_written(id, brief_revision, place),
                    What::Done => self.done_written(id, place),
                }
            }
            Err(what_failed) => {
                for done in done {
                    let _ = done.send(Err(Error::NotDurable(what_failed.clone())));
                }
                if let Some(loaded) = self.loaded.get_mut(&id) {
                    (loaded.failed, loaded.changed_otherwise) = (true, true);
                    self.any_failed = true;
                    // A finish that failed as a part is written as a whole.
                    loaded.closing = false;
                }
            }
        }
    }

    /// The disk is well again.
    pub(super) fn write_what_failed(&mut self) {
        if !std::mem::take(&mut self.any_failed) {
            return;
        }
        let failed =
            |(id, loaded): (&Id, &mut Loaded)| std::mem::take(&mut loaded.failed).then_some(*id);
        let failed: Vec<Id> = self.loaded.iter_mut().filter_map(failed).collect();
        for id in failed {
            match self.loaded.get(&id) {
                // It was damaged and is set aside: only DONE is missing.
                Some(Loaded { message: None, .. }) => self.was_set_aside(id),
                _ => self.run_tasks(id),
            }
        }
    }

    fn state_written(&mut self, id: Id, revision: u64, place: Place) {
        self.hold_segment(place.segment, id);
        let Some(entry) = self.entries.get_mut(&id) else {
            return self.release_segment(place.segment);
        };
        let before = std::mem::replace(&mut entry.state, Spot::new(place.segment, place.offset));
        entry.revision = u32::try_from(revision).unwrap_or(u32::MAX);
        if let Some(spot) = before {
            self.release_segment(spot.segment.get());
        }
        let Some(loaded) = self.loaded.get_mut(&id) else { return };
        loaded.closing = false;
        for segment in std::mem::take(&mut loaded.parts) {
            self.release_segment(segment);
        }
        self.run_tasks(id);
    }

    fn done_written(&mut self, id: Id, place: Place) {
        let loaded = self.loaded.remove(&id).unwrap_or_default();
        for segment in loaded.parts {
            self.release_segment(segment);
        }
        for task in loaded.tasks {
            if let Task::Act(_, done) = task {
                let _ = done.send(Err(Error::Unknown(id)));
            }
        }
        let Some(entry) = self.forget(id) else { return };
        if let Some(late) = &mut self.deferred.late {
            // The index has perhaps not told of it yet.
            late.done.insert(id, place.segment);
        }
        if entry.indexed.is_some() || self.settling.moving.contains(&id) {
            self.unlink_after(id, place.segment);
        }
        if entry.large {
            let disk = Arc::clone(&self.disk);
            spawn_blocking(move || unlink_large(&*disk, id));
        }
    }

    /// The message waits on disk again.
    fn unload(&mut self, id: Id) {
        let Some(loaded) = self.loaded.remove(&id) else { return };
        if let Some(message) = loaded.message {
            let mut brief = Brief::of(&message);
            self.park(&message, &mut brief);
            self.put_back(id, &brief);
        }
    }

    pub(super) fn state_place(&self, place: Option<Spot>) -> StatePlace {
        match place.and_then(|spot| Some((self.segments.get(&spot.segment.get())?, spot.offset))) {
            Some((used, offset)) => {
                StatePlace::Log { file: Arc::clone(&used.file), offset: offset.into() }
            }
            None => StatePlace::Deferred,
        }
    }

    pub(super) fn source(&self, place: Option<Spot>) -> Source {
        let place = place.and_then(|Spot { segment, offset }| {
            let segment = segment.get();
            let file = Arc::clone(&self.segments.get(&segment)?.file);
            Some(ContentPlace::Log { file, segment, offset: offset.into() })
        });
        Source { disk: Arc::clone(&self.disk), place: place.unwrap_or(ContentPlace::Deferred) }
    }

    /// What the fate of a recipient of this message depends on.
    pub(super) fn facts(&self, message: &Message) -> FactsOwned {
        FactsOwned {
            id: message.id,
            null: message.reverse_path.is_null(),
            now: self.clock.now(),
            lifetime: message.lifetime,
            config: Arc::clone(&self.config),
        }
    }
}

/// [`fate::Facts`] that borrow nothing of the owner.
pub(super) struct FactsOwned {
    id: Id,
    null: bool,
    pub(super) now: std::time::SystemTime,
    lifetime: Option<Duration>,
    config: Arc<crate::config::Config>,
}

impl FactsOwned {
    pub(super) fn facts(&self) -> fate::Facts<'_> {
        fate::Facts {
            id: self.id,
            null: self.null,
            now: self.now,
            lifetime: self.lifetime,
            schedule: &self.config.schedule,
            schedules: &self.config.schedules,
        }
    }
}

/// An operator removed it: what is not finished is discarded, and nobody is told.
fn discard(message: &mut Message) {
    for recipient in &mut message.recipients {
        recipient.owed = None;
        if !recipient.state.is_final() {
            recipient.state = RecipientState::Discarded;
            tracing::info!(
                target: "mail", event = "discarded", message = %message.id, forward_path = %recipient.path,
                reason = "removed by the operator",
            );
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
