//! What lies in `deferred/`: takes it from the index, at the start or while the queue runs already, and keeps the index short.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use message::Id;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::{Command, Manager, Task};
use crate::disk::{Disk, File};
use crate::index::{Index, Indexed};
use crate::recovery::deferred::{Loader, Read, Step, tidy};
use crate::recovery::{Known, Late, Parts};
use crate::store::remove_if_there;

/// What the jobs that read the index report.
#[derive(Debug)]
pub(crate) enum FromIndex {
    /// Some of what is in it.
    Steps(Vec<Step>),
    /// It was read to its end.
    Read(Read),
    /// It was written anew.
    Tidied(io::Result<Index>),
}

/// The index, and how far it was read.
pub(super) struct Deferred {
    /// To be read while the queue runs.
    loader: Option<Loader>,
    reports: mpsc::Sender<FromIndex>,
    /// What the log says of messages that the index has not told yet. `None`: it told everything.
    pub(super) late: Option<Late>,
    /// The index was read: lists are complete, but for what a search may find.
    pub(super) listed: bool,
    /// What waits for that.
    pub(super) waiting: Vec<Command>,
    /// `None`: a job has it.
    index: Option<Index>,
    /// The index as it was when it came back from the last job.
    shown: Option<(Arc<dyn File>, u64)>,
    /// The directory must be searched.
    search: bool,
    /// Messages with a line.
    pub(super) live: u64,
    /// What was found in `large/`.
    large: Vec<String>,
    damaged: usize,
    /// Tells a search to end.
    stop: Arc<AtomicBool>,
}

impl Deferred {
    pub(super) fn new(late: Late, large: Vec<String>, reports: mpsc::Sender<FromIndex>) -> Self {
        Self {
            loader: None,
            reports,
            late: Some(late),
            listed: false,
            waiting: Vec::new(),
            index: None,
            shown: None,
            search: false,
            live: 0,
            large,
            damaged: 0,
            stop: Arc::default(),
        }
    }

    /// The index for readers: octets up to there are in use.
    pub(super) fn shown(&self) -> Option<(Arc<dyn File>, u64)> {
        self.shown.clone()
    }

    /// For a job that adds to it; [`Deferred::put_index`] when it is back.
    pub(super) fn take_index(&mut self) -> Option<Index> {
        self.index.take()
    }

    pub(super) fn put_index(&mut self, index: Index) {
        self.shown = Some((Arc::clone(&index.file), index.end));
        self.index = Some(index);
    }

    /// A search ends soon; the next start begins it anew.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Manager {
    /// Reads a small index at once; a large one is read when the owner runs.
    pub(crate) fn load_index(&mut self, mut loader: Loader) -> io::Result<()> {
        if loader.octets()? > self.config.limits.index_at_once_octets {
            self.deferred.loader = Some(loader);
            return Ok(());
        }
        while let Some(steps) = loader.portion() {
            self.take_steps(steps);
        }
        let disk = Arc::clone(&self.disk);
        self.index_was_read(loader.finish(Some(&*disk)));
        Ok(())
    }

    /// Damaged places in the index, messages, and those held, as far as they are known.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let held = self.entries.iter().filter(|(_, entry)| entry.held).count();
        (self.deferred.damaged, self.entries.len(), held)
    }

    /// Has everything that lies in the spool been read?
    pub(crate) fn knows_everything(&self) -> bool {
        self.deferred.late.is_none()
    }

    pub(super) fn start_loading(&mut self) {
        let Some(mut loader) = self.deferred.loader.take() else { return };
        let (disk, reports) = (Arc::clone(&self.disk), self.deferred.reports.clone());
        spawn_blocking(move || {
            while let Some(steps) = loader.portion() {
                if reports.blocking_send(FromIndex::Steps(steps)).is_err() {
                    // The owner is gone: nobody wants to know.
                    return;
                }
            }
            let _ = reports.blocking_send(FromIndex::Read(loader.finish(Some(&*disk))));
        });
    }

    pub(super) fn from_index(&mut self, report: FromIndex) {
        match report {
            FromIndex::Steps(steps) => self.take_steps(steps),
            FromIndex::Read(read) => {
                self.index_was_read(read);
                tracing::info!(messages = self.entries.len(), "the index of the spool was read");
            }
            FromIndex::Tidied(Ok(index)) => {
                self.settling.running = false;
                self.deferred.put_index(index);
                if std::mem::take(&mut self.deferred.search) {
                    self.everything_is_known();
                }
            }
            FromIndex::Tidied(Err(error)) => {
                tracing::warn!(%error, "the index of the spool could not be written; trying again");
                self.settling.running = false;
                self.settling.pause_for_failure(self.now());
            }
        }
    }

    fn take_steps(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Put(indexed) => self.take_indexed(indexed),
                Step::Delete(id) => self.take_deleted(id),
            }
        }
    }

    fn take_indexed(&mut self, indexed: Indexed) {
        let (id, revision) = (indexed.id, indexed.revision());
        if let Some(entry) = self.entries.get_mut(&id) {
            let known_by_index = entry.content.is_none() && entry.state.is_none();
            if known_by_index && entry.revision < revision {
                // What was known came from an earlier line of the same index.
                entry.revision = revision;
                self.put_back(id, &indexed.brief);
            }
            return self.set_indexed(id, Some(revision));
        }
        let Some(late) = &mut self.deferred.late else { return };
        match late.merge(indexed) {
            Ok(known) => self.take_known(id, known),
            Err(segment) => self.unlink_after(id, segment),
        }
    }

    fn take_deleted(&mut self, id: Id) {
        self.no_unlink(id);
        self.set_indexed(id, None);
        if self.entries.get(&id).is_some_and(|entry| entry.content.is_none()) {
            self.forget(id);
        }
    }

    /// Takes note of a message that was found; what is known of it in parts is put together when it was read.
    pub(super) fn take_known(&mut self, id: Id, known: Known) {
        self.enter(id, known.content, known.state, &known.brief, known.large);
        self.set_indexed(id, known.indexed);
        if let Some(parts) = self.parts.remove(&id) {
            self.load(id, Task::Merge(parts));
        }
    }

    /// The index has this revision of the message now.
    pub(super) fn set_indexed(&mut self, id: Id, revision: Option<u32>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let before = std::mem::replace(&mut entry.indexed, revision.map(one_more));
        match (before, revision) {
            (None, Some(_)) => self.deferred.live += 1,
            (Some(_), None) => self.deferred.live -= 1,
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    /// Puts the last whole state and what followed together.
    pub(super) fn merge(&mut self, id: Id, parts: &Parts) {
        let Some(loaded) = self.loaded.get_mut(&id) else { return };
        let Some(message) = loaded.message_mut() else { return };
        let segments = parts.apply(message);
        if segments.is_empty() {
            return;
        }
        loaded.changed_otherwise = true;
        loaded.parts.extend(&segments);
        for segment in segments {
            self.hold_segment(segment, id);
        }
    }

    fn index_was_read(&mut self, read: Read) {
        self.deferred.put_index(read.index);
        self.deferred.search = read.search;
        self.deferred.damaged = read.damaged;
        self.answer_what_waited();
        if read.search {
            tracing::warn!(
                damaged = read.damaged,
                "the index of the spool is not whole; deferred/ is searched"
            );
            self.tidy_index();
        } else {
            self.everything_is_known();
        }
    }

    fn answer_what_waited(&mut self) {
        self.deferred.listed = true;
        for command in std::mem::take(&mut self.deferred.waiting) {
            self.command(command);
        }
    }

    fn everything_is_known(&mut self) {
        self.deferred.late = None;
        self.parts.clear();
        self.parts.shrink_to_fit();
        let large = std::mem::take(&mut self.deferred.large);
        let orphans: Vec<String> =
            large.into_iter().filter(|name| !self.owns_large(name)).collect();
        self.orphans = orphans.len();
        if !orphans.is_empty() {
            let disk = Arc::clone(&self.disk);
            spawn_blocking(move || remove_orphans(&*disk, &orphans));
        }
    }

    fn owns_large(&self, name: &str) -> bool {
        let id = name.strip_suffix(".body").and_then(|name| name.parse::<Id>().ok());
        id.and_then(|id| self.entries.get(&id)).is_some_and(|entry| entry.large)
    }

    /// Should the index be written anew, or must it?
    pub(super) fn wants_tidying(&self) -> bool {
        let Some(index) = &self.deferred.index else { return false };
        self.deferred.search
            || index.spoiled
            || index.lines > self.deferred.live.saturating_mul(3) + GARBAGE
    }

    /// Writes the index anew, without what does not count any more; searches the directory if that is needed.
    pub(super) fn tidy_index(&mut self) {
        let Some(index) = self.deferred.index.clone() else { return };
        self.settling.running = true;
        let mut live: Vec<(Id, u32)> = self
            .entries
            .iter()
            .filter_map(|(id, entry)| Some((id, entry.indexed?.get() - 1)))
            .collect();
        let (disk, reports) = (Arc::clone(&self.disk), self.deferred.reports.clone());
        let (search, stop) = (self.deferred.search, Arc::clone(&self.deferred.stop));
        spawn_blocking(move || {
            live.sort_unstable();
            let tidied = tidy(&*disk, &index, &live, search, |steps| {
                let gone = reports.blocking_send(FromIndex::Steps(steps)).is_err();
                !gone && !stop.load(Ordering::Relaxed)
            });
            let _ = reports.blocking_send(FromIndex::Tidied(tidied));
        });
    }
}

fn one_more(revision: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(revision)
}

fn remove_orphans(disk: &dyn Disk, names: &[String]) {
    for name in names {
        if let Err(error) = remove_if_there(disk, &format!("large/{name}")) {
            tracing::warn!(name, %error, "a file that belongs to no message could not be removed");
        }
    }
}

/// So many lines that do not count are no reason to write an index anew.
const GARBAGE: u64 = 50_000;
