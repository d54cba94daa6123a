//! Reading a spool when no server runs on it.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use message::Id;

use crate::admin::{Detail, Filter, Summary};
use crate::content::Content;
use crate::disk::{Disk, RealDisk};
use crate::error::Error;
use crate::format;
use crate::index::Indexed;
use crate::manager::place_name;
use crate::message::Message;
use crate::recovery::deferred::{Loader, Step, search_all};
use crate::recovery::{Recovered, recover};
use crate::store::read_state;

/// The messages that match, oldest first. Changes nothing. [`Error::Locked`] when a server has the spool: ask that one.
pub fn list(directory: &Path, filter: &Filter, now: SystemTime) -> Result<Vec<Summary>, Error> {
    let spool = Spool::open(directory)?;
    let mut ids: Vec<Id> = spool.recovered.known.keys().copied().collect();
    ids.sort_unstable();
    let messages = ids.into_iter().filter_map(|id| spool.read(id).ok());
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
        take_deferred(&*disk, &mut recovered)
            .map_err(Error::disk("read", disk.name("deferred")))?;
        Ok(Self { disk, recovered, _lock: lock })
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

/// What left the log, by the index; if that lacks something, by the directory too.
fn take_deferred(disk: &dyn Disk, recovered: &mut Recovered) -> io::Result<()> {
    let mut search = true;
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
        search = loader.finish(None).search;
    }
    if search {
        for message in search_all(disk)? {
            if !recovered.known.contains_key(&message.id) {
                take(recovered, Indexed::of(&message));
            }
        }
    }
    Ok(())
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
