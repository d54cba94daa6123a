//! A spool when no server runs on it: reading, export, import, check and repair.

mod export;
mod fsck;
mod import;

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use message::Id;

use crate::admin::{Detail, Filter, Summary};
use crate::content::{Content, eml_path};
use crate::disk::{Disk, RealDisk};
use crate::error::Error;
use crate::format;
use crate::index::Indexed;
use crate::manager::place_name;
use crate::message::Message;
use crate::recovery::deferred::{Loader, Step, is_directory, search_all};
use crate::recovery::{Recovered, recover};
use crate::store::read_state;

pub use export::{Exported, export};
pub use fsck::{Fault, Finding, Report, fsck, repair};
pub use import::{ImportError, PlainEnvelope, import};

/// The messages that match, oldest first. Changes nothing. [`Error::Locked`] when a server has the spool: ask that one.
pub fn list(directory: &Path, filter: &Filter, now: SystemTime) -> Result<Vec<Summary>, Error> {
    let spool = Spool::open(directory)?;
    let messages = spool.ids().into_iter().filter_map(|id| spool.read(id).ok());
    let matching = messages.filter(|message| filter.matches(message, now));
    let limit = filter.limit.unwrap_or(usize::MAX);
    Ok(matching.take(limit).map(|message| Summary::of(&message, false)).collect())
}

/// Everything about one message.
pub fn show(directory: &Path, id: Id) -> Result<Option<Detail>, Error> {
    let spool = Spool::open(directory)?;
    let Some(known) = spool.recovered.known.get(&id) else { return Ok(None) };
    let place = place_name(&spool.recovered.source(&spool.disk, known), id);
    Ok(Some(Detail { message: spool.read(id)?, active: false, place }))
}

/// The content of a message.
pub fn content(directory: &Path, id: Id) -> Result<Content, Error> {
    let spool = Spool::open(directory)?;
    let known = spool.recovered.known.get(&id).ok_or(Error::Unknown(id))?;
    spool.recovered.source(&spool.disk, known).open(&spool.read(id)?)
}

struct Spool {
    disk: Arc<dyn Disk>,
    recovered: Recovered,
    /// The index is damaged in so many places, or not whole (0).
    index_damage: Option<usize>,
    /// No server starts while we read.
    _lock: Option<Box<dyn Any + Send + Sync>>,
}

impl Spool {
    fn open(directory: &Path) -> Result<Self, Error> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::existing(directory));
        let lock = match format::lock(&*disk) {
            Ok(lock) => Some(lock),
            // Who may only read, reads.
            Err(Error::Disk { .. }) => None,
            Err(error) => return Err(error),
        };
        format::check(&*disk)?;
        let mut recovered = recover(&disk, 0, false)?;
        let index_damage = take_deferred(&*disk, &mut recovered)
            .map_err(Error::disk("read", disk.name("deferred")))?;
        Ok(Self { disk, recovered, index_damage, _lock: lock })
    }

    /// All messages, oldest first.
    fn ids(&self) -> Vec<Id> {
        let mut ids: Vec<Id> = self.recovered.known.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// The content, if it is whole.
    fn verified(&self, message: &Message) -> Result<Content, Error> {
        let known = self.recovered.known.get(&message.id).ok_or(Error::Unknown(message.id))?;
        let source = self.recovered.source(&self.disk, known);
        source.verify(message)?;
        source.open(message)
    }

    /// Where the content of a message lies in the spool.
    fn place(&self, id: Id) -> String {
        let content = self.recovered.known.get(&id).and_then(|known| known.content);
        let segment = content.and_then(|(number, offset)| {
            let mut segments = self.recovered.found.segments.iter();
            let (_, path) = segments.find(|(segment, _)| *segment == number)?;
            Some(format!("{path} at {offset}"))
        });
        segment.unwrap_or_else(|| eml_path(id))
    }

    /// The last whole state, or the newer one that its parts make.
    fn read(&self, id: Id) -> Result<Message, Error> {
        let known = self.recovered.known.get(&id).ok_or(Error::Unknown(id))?;
        let mut message = read_state(&*self.disk, id, &self.recovered.state_place(known))?;
        if let Some(parts) = self.recovered.parts.get(&id) {
            parts.apply(&mut message);
        }
        Ok(message)
    }
}

/// What left the log, by the index; if that lacks something, by the directory too: then it gives in how many places.
fn take_deferred(disk: &dyn Disk, recovered: &mut Recovered) -> io::Result<Option<usize>> {
    let there = disk.list("deferred")?.iter().any(|name| is_directory(name));
    let mut search = there.then_some(0);
    if let Some(mut loader) = Loader::open(disk, false)? {
        while let Some(steps) = loader.portion() {
            for step in steps {
                match step {
                    Step::Put(indexed) => take(recovered, indexed),
                    Step::Delete(id) => {
                        if recovered.known.get(&id).is_some_and(|known| known.content.is_none()) {
                            recovered.known.remove(&id);
                        }
                    }
                }
            }
        }
        let read = loader.finish(None);
        search = read.search.then_some(read.damaged);
    }
    if search.is_some() {
        for message in search_all(disk)? {
            if !recovered.known.contains_key(&message.id) {
                take(recovered, Indexed::of(&message));
            }
        }
    }
    Ok(search)
}

fn take(recovered: &mut Recovered, indexed: Indexed) {
    let (id, revision) = (indexed.id, indexed.revision());
    match recovered.known.get_mut(&id) {
        Some(known) if known.content.is_some() => known.indexed = Some(revision),
        Some(_) | None => {
            if let Ok(known) = recovered.late.merge(indexed) {
                recovered.known.insert(id, known);
            }
        }
    }
}
