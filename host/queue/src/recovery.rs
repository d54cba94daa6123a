//! Finds out what is in a spool after it was left, in whatever state: replays the log in order, and takes the files of
//! messages that left it.
//!
//! For each message the state with the highest revision is true, and DONE is the end. Segments leave the log oldest first,
//! so a DONE is never gone before the ACCEPT it ends. Everything here blocks.

mod scan;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;

use message::Id;

use crate::content::{ContentPlace, Source, deferred_dir, eml_path, large_path, record_path};
use crate::disk::Disk;
use crate::entry::Brief;
use crate::error::Error;
use crate::message::{Change, Message, Tells};
use crate::queue::Recovery;
use crate::record::{Header, Kind, Record, parse_file};
use crate::segment::{Found, Segment, find, parse_segment_name};
use crate::store::{
    StatePlace, parse_message, read_state, read_whole, remove_if_there, set_aside, to_json,
};

/// Everything that was found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) known: HashMap<Id, Known>,
    pub(crate) segments: BTreeMap<u32, Segment>,
    pub(crate) found: Found,
    /// Whole states to be written because parts of them stand in several records.
    pub(crate) states: Vec<(Message, Record)>,
    /// Finished messages whose files must go before the log forgets that they are finished.
    pub(crate) unlink: Vec<Id>,
    pub(crate) report: Recovery,
}

/// A message that was found.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Segment and offset of the content; `None`: in `deferred/`.
    pub(crate) content: Option<(u32, u64)>,
    /// Segment and offset of the last whole state; `None`: in `deferred/`.
    pub(crate) state: Option<(u32, u64)>,
    /// There are files in `deferred/`, though the log may be ahead of them.
    pub(crate) settled: bool,
    pub(crate) brief: Brief,
    pub(crate) large: bool,
}

impl Recovered {
    /// Where to read the state of a message.
    pub(crate) fn state_place(&self, known: &Known) -> StatePlace {
        match known.state.and_then(|(segment, offset)| Some((self.segments.get(&segment)?, offset)))
        {
            Some((segment, offset)) => StatePlace::Log { file: Arc::clone(&segment.file), offset },
            None => StatePlace::Deferred,
        }
    }

    /// Where to read the content of a message.
    pub(crate) fn source(&self, disk: &Arc<dyn Disk>, known: &Known) -> Source {
        let place = known.content.and_then(|(segment, offset)| {
            let file = Arc::clone(&self.segments.get(&segment)?.file);
            Some(ContentPlace::Log { file, segment, offset })
        });
        Source { disk: Arc::clone(disk), place: place.unwrap_or(ContentPlace::Deferred) }
    }
}

/// Reads the whole spool. With `repair`, sets damaged things aside and removes what a crash left; without, changes nothing.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    segment_octets: u64,
    repair: bool,
) -> Result<Recovered, Error> {
    let found =
        find(&**disk, segment_octets, repair).map_err(Error::disk("list", disk.name("log")))?;
    if repair {
        flush_names(&**disk).map_err(Error::disk("flush", disk.name("")))?;
    }
    let mut replay = Replay::new(Arc::clone(disk), repair);
    replay.take_deferred().map_err(Error::disk("read", disk.name("deferred")))?;
    for (number, path) in &found.segments {
        let Some(origin) = parse_segment_name(path) else { continue };
        let file = disk.open(path).map_err(Error::disk("open", disk.name(path)))?;
        replay.segments.insert(*number, Segment { origin, file: Arc::clone(&file) });
        let read = if repair { file.sync() } else { Ok(()) };
        read.and_then(|()| scan::segment(&mut replay, &*file, origin))
            .map_err(Error::disk("read", disk.name(path)))?;
    }
    let mut recovered = replay.finish(found);
    if repair {
        let orphans =
            remove_orphans(&**disk, &recovered).map_err(Error::disk("tidy", disk.name("")))?;
        recovered.report.orphans = orphans;
    }
    Ok(recovered)
}

/// After `kill -9` the names and octets that we see may not be durable; before anything is built on them they must be.
fn flush_names(disk: &dyn Disk) -> io::Result<()> {
    let below = disk.list("deferred")?.into_iter().map(|name| format!("deferred/{name}"));
    ["log", "large", "deferred"].map(str::to_owned).into_iter().chain(below).try_for_each(|path| {
        match disk.sync_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    })
}

/// What is known so far.
struct Replay {
    disk: Arc<dyn Disk>,
    repair: bool,
    known: HashMap<Id, Known>,
    segments: BTreeMap<u32, Segment>,
    /// Parts of states that were written after the last whole one.
    changes: HashMap<Id, Vec<Change>>,
    tells: HashMap<Id, Vec<Tells>>,
    /// Content that lies in `deferred/` without a record.
    contents: HashSet<Id>,
    unlink: Vec<Id>,
    corrupt: usize,
}

impl Replay {
    fn new(disk: Arc<dyn Disk>, repair: bool) -> Self {
        Self {
            disk,
            repair,
            known: HashMap::new(),
            segments: BTreeMap::new(),
            changes: HashMap::new(),
            tells: HashMap::new(),
            contents: HashSet::new(),
            unlink: Vec::new(),
            corrupt: 0,
        }
    }

    /// Reads `deferred/`.
    fn take_deferred(&mut self) -> io::Result<()> {
        for directory in self.disk.list("deferred")? {
            let names = self.disk.list(&format!("deferred/{directory}"))?;
            let ids = |suffix: &'static str| {
                names.iter().filter_map(move |name| name.strip_suffix(suffix)?.parse::<Id>().ok())
            };
            self.contents.extend(ids(".eml"));
            for id in ids(".record") {
                let path = record_path(id);
                let octets = read_whole(&*self.disk, &path)?;
                let message = parse_file(&octets)
                    .filter(|(header, _)| header.id == id)
                    .and_then(|(_, json)| parse_message(json));
                match message {
                    Some(message) => {
                        let known = Known {
                            content: None,
                            state: None,
                            settled: true,
                            brief: Brief::of(&message),
                            large: message.content.large.is_some(),
                        };
                        self.known.insert(id, known);
                    }
                    None => self.damaged_file(&path, &format!("{id}.record"), &octets),
                }
            }
        }
        Ok(())
    }

    fn damaged_file(&mut self, path: &str, name: &str, octets: &[u8]) {
        self.corrupt += 1;
        if self.repair {
            set_aside(&*self.disk, name, octets);
            let _ = self.disk.remove(path);
        }
    }

    /// Octets of the log that are no record, though there should be one.
    fn damaged(&mut self, segment: u32, offset: u64, octets: &[u8]) {
        self.corrupt += 1;
        if self.repair {
            set_aside(&*self.disk, &format!("{segment:08}-{offset:010}.octets"), octets);
        }
    }

    /// A record of the log whose checksums fit. `false`: it says nothing that can be used.
    fn record(&mut self, header: &Header, json: &[u8], offset: u64) -> bool {
        let place = (header.origin.segment, offset);
        match header.kind {
            Kind::Accept => parse_message(json)
                .filter(|message| message.id == header.id)
                .is_some_and(|message| self.accept(message, place, offset + header.data_offset())),
            Kind::State => parse_message(json)
                .filter(|message| message.id == header.id)
                .is_some_and(|message| self.state(&message, place)),
            Kind::Change => match serde_json::from_slice(json) {
                Ok(change) => {
                    self.changes.entry(header.id).or_default().push(change);
                    true
                }
                Err(_) => false,
            },
            Kind::Done => {
                self.changes.remove(&header.id);
                self.tells.remove(&header.id);
                let known = self.known.remove(&header.id);
                if known.is_some_and(|known| known.settled) || self.contents.contains(&header.id) {
                    self.unlink.push(header.id);
                }
                true
            }
        }
    }

    fn accept(&mut self, mut message: Message, place: (u32, u64), content: u64) -> bool {
        if let Some((of, tells)) = message.notice_of.zip(message.tells.take()) {
            self.tells.entry(of).or_default().push(tells);
        }
        let has_content = self.contents.contains(&message.id);
        match self.known.get_mut(&message.id) {
            Some(known) if !has_content => known.content = Some((place.0, content)),
            Some(_) => {}
            None => {
                let known = Known {
                    content: Some((place.0, content)),
                    state: Some(place),
                    settled: false,
                    brief: Brief::of(&message),
                    large: message.content.large.is_some(),
                };
                self.known.insert(message.id, known);
            }
        }
        true
    }

    fn state(&mut self, message: &Message, place: (u32, u64)) -> bool {
        // Unknown: its ACCEPT was damaged, or it is done and its files are gone already.
        if let Some(known) = self.known.get_mut(&message.id)
            && message.revision >= known.brief.revision
        {
            known.state = Some(place);
            known.brief = Brief::of(message);
        }
        if let Some(changes) = self.changes.get_mut(&message.id) {
            changes.retain(|change| change.revision > message.revision);
        }
        true
    }

    fn finish(mut self, found: Found) -> Recovered {
        self.drop_those_without_content();
        let mut recovered = Recovered {
            report: Recovery {
                segments: found.segments.len(),
                corrupt: self.corrupt,
                ..Recovery::default()
            },
            known: self.known,
            segments: self.segments,
            found,
            states: Vec::new(),
            unlink: self.unlink,
        };
        let changed: HashSet<Id> = self.changes.keys().chain(self.tells.keys()).copied().collect();
        for id in changed {
            let Some(known) = recovered.known.get(&id) else { continue };
            let Ok(mut message) = read_state(&*self.disk, id, &recovered.state_place(known)) else {
                continue;
            };
            for change in self.changes.remove(&id).unwrap_or_default() {
                if change.revision > message.revision {
                    change.apply(&mut message);
                }
            }
            for tells in self.tells.remove(&id).unwrap_or_default() {
                message.tell(&tells);
            }
            message.revision += 1;
            message.number_recipients();
            let record = Record::new(Kind::State, id, to_json(&message));
            recovered.states.push((message, record));
        }
        recovered.report.messages = recovered.known.len();
        recovered.report.held = recovered.known.values().filter(|known| known.brief.held).count();
        recovered
    }

    /// A message whose content is nowhere cannot be delivered: its record is set aside.
    fn drop_those_without_content(&mut self) {
        let lacks = |id: &Id, known: &Known| {
            (known.content.is_none() && !self.contents.contains(id))
                || (known.large && self.disk.open(&large_path(*id)).is_err())
        };
        let lost: Vec<Id> =
            self.known.iter().filter(|(id, known)| lacks(id, known)).map(|(id, _)| *id).collect();
        for id in lost {
            let Some(known) = self.known.remove(&id) else { continue };
            let octets =
                match known.state.and_then(|(n, offset)| Some((self.segments.get(&n)?, offset))) {
                    Some((segment, offset)) => {
                        let place = StatePlace::Log { file: Arc::clone(&segment.file), offset };
                        let message = read_state(&*self.disk, id, &place);
                        message.map(|message| to_json(&message)).unwrap_or_default()
                    }
                    None => read_whole(&*self.disk, &record_path(id)).unwrap_or_default(),
                };
            self.corrupt += 1;
            tracing::error!(message = %id, "the content of a message is lost; its state is set aside");
            if self.repair {
                set_aside(&*self.disk, &format!("{id}.record"), &octets);
                self.unlink.push(id);
            }
        }
    }
}

/// Removes files that belong to no message.
fn remove_orphans(disk: &dyn Disk, recovered: &Recovered) -> io::Result<usize> {
    let mut orphans = Vec::new();
    for name in disk.list("large")? {
        let id = name.strip_suffix(".body").and_then(|name| name.parse::<Id>().ok());
        if !id.and_then(|id| recovered.known.get(&id)).is_some_and(|known| known.large) {
            orphans.push(format!("large/{name}"));
        }
    }
    for directory in disk.list("deferred")? {
        for name in disk.list(&format!("deferred/{directory}"))? {
            let id = name.rsplit_once('.').and_then(|(id, _)| id.parse::<Id>().ok());
            let known = id.and_then(|id| recovered.known.get(&id).map(|known| (id, known)));
            let path = format!("deferred/{directory}/{name}");
            let wanted = known.is_some_and(|(id, known)| {
                deferred_dir(id) == format!("deferred/{directory}")
                    && ((path == eml_path(id) && known.content.is_none())
                        || (path == record_path(id) && known.settled))
            });
            // What is on the list to be unlinked goes with its directory flushed.
            if !wanted && !id.is_some_and(|id| recovered.unlink.contains(&id)) {
                orphans.push(path);
            }
        }
    }
    for path in &orphans {
        remove_if_there(disk, path)?;
    }
    Ok(orphans.len())
}
