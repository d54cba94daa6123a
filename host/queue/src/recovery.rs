//! Finds out what is in a spool after it was left, in whatever state: replays the log in order, and merges it with what
//! the index says of the messages that left it.
//!
//! For each message the state with the highest revision is true, and DONE is the end. Segments leave the log oldest first,
//! so a DONE is never gone before the ACCEPT it ends, and of a message whose ACCEPT is in the log every state is there too.
//! The log is read before anything else happens; a large index while messages are accepted already. Everything here
//! blocks.

pub(crate) mod deferred;
mod scan;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use message::Id;

use crate::content::{ContentPlace, Source, large_path};
use crate::disk::{Disk, File};
use crate::entry::Brief;
use crate::error::Error;
use crate::index::Indexed;
use crate::message::{Change, Message, Tells};
use crate::queue::Recovery;
use crate::record::{Header, Kind};
use crate::segment::{Found, Segment, find, parse_segment_name};
use crate::store::{
    StatePlace, keep, parse_message, read_state, remove_if_there, set_aside, to_json,
};

/// Everything that was found in the log.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Messages with their content in the log.
    pub(crate) known: HashMap<Id, Known>,
    /// What it says of all others.
    pub(crate) late: Late,
    /// Parts of states that stand behind the last whole one.
    pub(crate) parts: HashMap<Id, Parts>,
    pub(crate) segments: BTreeMap<u32, Segment>,
    pub(crate) found: Found,
    /// What lies in `large/`.
    pub(crate) large: Vec<String>,
    pub(crate) damage: Vec<Damage>,
    /// The end of a write that a crash tore: nobody has a receipt for it.
    pub(crate) torn: Option<Damage>,
    /// Messages whose body is gone.
    pub(crate) lost: Vec<Id>,
    pub(crate) report: Recovery,
}

/// Octets of the log that are no record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Damage {
    pub(crate) segment: u32,
    pub(crate) offset: u64,
    pub(crate) octets: u64,
}

/// What the log says of messages whose content is not in it: to be merged with what the index says of them.
#[derive(Debug, Default)]
pub(crate) struct Late {
    /// Finished, as that segment knows.
    pub(crate) done: HashMap<Id, u32>,
    /// The last whole state.
    states: HashMap<Id, (Brief, (u32, u64))>,
}

impl Late {
    /// Merges what the index says of a message that is not known by its content in the log. `Err`: it is finished, as
    /// that segment knows.
    pub(crate) fn merge(&mut self, indexed: Indexed) -> Result<Known, u32> {
        if let Some(segment) = self.done.get(&indexed.id) {
            return Err(*segment);
        }
        let state = self.states.get(&indexed.id);
        let state = state.filter(|(brief, _)| brief.revision >= indexed.brief.revision);
        let revision = indexed.revision();
        let (brief, state) = match state {
            Some((brief, place)) => (brief.clone(), Some(*place)),
            None => (indexed.brief, None),
        };
        Ok(Known { content: None, state, indexed: Some(revision), brief, large: indexed.large })
    }
}

/// Parts of states, with the segments they stand in.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    changes: Vec<(u32, Change)>,
    tells: Vec<(u32, Tells)>,
}

impl Parts {
    /// Applies them to the last whole state; gives the segments they stand in. Empty: all of them are old.
    pub(crate) fn apply(&self, message: &mut Message) -> Vec<u32> {
        let mut segments = Vec::new();
        for (segment, change) in &self.changes {
            if change.revision > message.revision {
                change.clone().apply(message);
                segments.push(*segment);
            }
        }
        message.number_recipients();
        for (segment, tells) in &self.tells {
            if message.tell(tells) {
                segments.push(*segment);
            }
        }
        segments
    }
}

/// A message that was found.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Segment and offset of the content; `None`: in `deferred/`.
    pub(crate) content: Option<(u32, u64)>,
    /// Segment and offset of the last whole state; `None`: in `deferred/`.
    pub(crate) state: Option<(u32, u64)>,
    /// The revision in the index: there are or may be files in `deferred/`, though the log may be ahead of them.
    pub(crate) indexed: Option<u32>,
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

/// Reads the log. With `repair`, sets damaged things aside; without, changes nothing.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    segment_octets: u64,
    repair: bool,
) -> Result<Recovered, Error> {
    let mut found =
        find(&**disk, segment_octets, repair).map_err(Error::disk("list", disk.name("log")))?;
    if repair {
        flush_names(&**disk).map_err(Error::disk("flush", disk.name("")))?;
    }
    let large = disk.list("large").map_err(Error::disk("list", disk.name("large")))?;
    let mut replay = Replay::new(Arc::clone(disk), repair);
    for (number, path) in &found.segments {
        let Some(origin) = parse_segment_name(path) else { continue };
        let file = disk.open(path).map_err(Error::disk("open", disk.name(path)))?;
        replay.segments.insert(*number, Segment { origin, file: Arc::clone(&file) });
        let read = if repair { file.sync() } else { Ok(()) };
        let end = found.ends.get(number).copied();
        let read = read.and_then(|()| scan::segment(&mut replay, &*file, origin, end));
        let end = read.map_err(Error::disk("read", disk.name(path)))?;
        found.last = Some((*number, end));
        if repair {
            let damaged = replay.damage.iter().any(|damage| damage.segment == *number);
            let len = if damaged { file.len() } else { cut(&*file, end) };
            found.lens.insert(*number, len.map_err(Error::disk("read", disk.name(path)))?);
        }
    }
    if repair && let Err(error) = forget_torn(&**disk, &found) {
        tracing::warn!(%error, "what a crash tore off could not be removed; the next start tries again");
    }
    Ok(replay.finish(found, large))
}

/// After `kill -9` the names and octets that we see may not be durable; before anything is built on them they must be.
/// What lies in `deferred/` counts only after the log let go of it, and by then it was flushed.
fn flush_names(disk: &dyn Disk) -> io::Result<()> {
    ["log", "large"].into_iter().try_for_each(|path| disk.sync_dir(path))
}

/// Gives back what a segment allocated and does not use, as nothing is added to it any more; gives how long it is then.
/// It needs no flush: all up to `end` is durable, and if a crash brings back what stood behind it, the next start finds the
/// same end.
fn cut(file: &dyn File, end: u64) -> io::Result<u64> {
    let len = file.len()?;
    if end >= len {
        return Ok(len);
    }
    match file.truncate(end) {
        Ok(()) => Ok(end),
        Err(error) => {
            tracing::debug!(%error, "an old segment of the log could not be cut off");
            Ok(len)
        }
    }
}

/// The end that a crash tore off is kept as long as its segment.
fn forget_torn(disk: &dyn Disk, found: &Found) -> io::Result<()> {
    for name in disk.list("corrupt")? {
        let number = name.strip_suffix(".torn").and_then(|name| name.split('-').next());
        let number = number.and_then(|number| number.parse::<u32>().ok());
        if number.is_some_and(|number| found.segments.iter().all(|(other, _)| *other != number)) {
            remove_if_there(disk, &format!("corrupt/{name}"))?;
        }
    }
    Ok(())
}

/// What is known so far.
struct Replay {
    disk: Arc<dyn Disk>,
    repair: bool,
    known: HashMap<Id, Known>,
    late: Late,
    parts: HashMap<Id, Parts>,
    segments: BTreeMap<u32, Segment>,
    damage: Vec<Damage>,
    torn: Option<Damage>,
    lost: Vec<Id>,
}

impl Replay {
    fn new(disk: Arc<dyn Disk>, repair: bool) -> Self {
        Self {
            disk,
            repair,
            known: HashMap::new(),
            late: Late::default(),
            parts: HashMap::new(),
            segments: BTreeMap::new(),
            damage: Vec::new(),
            torn: None,
            lost: Vec::new(),
        }
    }

    /// Octets of the log that are no record, though there should be one.
    fn damaged(&mut self, segment: u32, offset: u64, octets: &[u8]) {
        self.damage.push(Damage { segment, offset, octets: octets.len() as u64 });
        if self.repair {
            set_aside(&*self.disk, &octets_name(segment, offset), octets);
        }
    }

    /// The end of a write that a crash tore. Nobody got a receipt for it; that is how a power cut looks afterwards.
    fn torn(&mut self, segment: u32, offset: u64, octets: &[u8]) {
        let octets_torn = octets.len() as u64;
        self.torn = Some(Damage { segment, offset, octets: octets_torn });
        if self.repair {
            tracing::info!(
                segment,
                offset,
                octets = octets_torn,
                "the last write before a crash was torn; nothing of it was acknowledged"
            );
            let _ = keep(&*self.disk, &format!("{segment:08}-{offset:010}.torn"), octets);
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
                    let parts = self.parts.entry(header.id).or_default();
                    parts.changes.push((place.0, change));
                    true
                }
                Err(_) => false,
            },
            Kind::Done => {
                self.parts.remove(&header.id);
                self.known.remove(&header.id);
                self.late.states.remove(&header.id);
                // The last one, should there be several: it outlives all files.
                self.late.done.insert(header.id, place.0);
                true
            }
        }
    }

    fn accept(&mut self, mut message: Message, place: (u32, u64), content: u64) -> bool {
        if let Some((of, tells)) = message.notice_of.zip(message.tells.take()) {
            self.parts.entry(of).or_default().tells.push((place.0, tells));
        }
        let known = Known {
            content: Some((place.0, content)),
            state: Some(place),
            indexed: None,
            brief: Brief::of(&message),
            large: message.content.large.is_some(),
        };
        self.known.insert(message.id, known);
        true
    }

    fn state(&mut self, message: &Message, place: (u32, u64)) -> bool {
        let brief = Brief::of(message);
        match self.known.get_mut(&message.id) {
            Some(known) if brief.revision >= known.brief.revision => {
                (known.state, known.brief) = (Some(place), brief);
            }
            Some(_) => {}
            // It left the log before. Or its ACCEPT is damaged, or its files are gone: then the index does not know it.
            None => {
                let newer = |(old, _): &(Brief, _)| old.revision > brief.revision;
                if !self.late.states.get(&message.id).is_some_and(newer) {
                    self.late.states.insert(message.id, (brief, place));
                }
            }
        }
        if let Some(parts) = self.parts.get_mut(&message.id) {
            parts.changes.retain(|(_, change)| change.revision > message.revision);
        }
        true
    }

    fn finish(mut self, found: Found, large: Vec<String>) -> Recovered {
        self.drop_those_without_body();
        let mut report = Recovery { segments: found.segments.len(), ..Recovery::default() };
        report.corrupt = self.damage.len() + self.lost.len();
        report.torn = self.torn.is_some();
        Recovered {
            known: self.known,
            late: self.late,
            parts: self.parts,
            segments: self.segments,
            found,
            large,
            damage: self.damage,
            torn: self.torn,
            lost: self.lost,
            report,
        }
    }

    /// A message without its body cannot be delivered: its record is set aside.
    fn drop_those_without_body(&mut self) {
        let lacks =
            |(id, known): &(&Id, &Known)| known.large && self.disk.open(&large_path(**id)).is_err();
        let lost: Vec<Id> = self.known.iter().filter(lacks).map(|(id, _)| *id).collect();
        for id in lost {
            let Some(known) = self.known.remove(&id) else { continue };
            let place = known.state.and_then(|(n, offset)| Some((self.segments.get(&n)?, offset)));
            let octets = place.and_then(|(segment, offset)| {
                let place = StatePlace::Log { file: Arc::clone(&segment.file), offset };
                read_state(&*self.disk, id, &place).ok().map(|message| to_json(&message))
            });
            self.lost.push(id);
            tracing::error!(message = %id, "the body of a message is lost; its state is set aside");
            if self.repair {
                set_aside(&*self.disk, &format!("{id}.record"), &octets.unwrap_or_default());
            }
        }
    }
}

/// The file in `corrupt/` for damaged octets of the log.
pub(crate) fn octets_name(segment: u32, offset: u64) -> String {
    format!("{segment:08}-{offset:010}.octets")
}
