//! Preallocated append-only segments: where records are written, and how files are used again.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::sync::Arc;

use crate::config::Limits;
use crate::disk::{Disk, File};
use crate::record::{Origin, Record};

/// A segment in use.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) origin: Origin,
    pub(crate) file: Arc<dyn File>,
}

/// Where a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) offset: u64,
    /// Octets before the content.
    pub(crate) prefix: u32,
}

/// Why records were not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// No room: nothing was tried.
    Full(String),
    /// The disk failed: the segment is sealed, and what it holds of these records is unknown.
    Disk(io::Error),
}

impl std::fmt::Display for WriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(what) => f.write_str(what),
            Self::Disk(error) => error.fmt(f),
        }
    }
}

/// The log: one current segment, older ones that still hold something, and spares.
#[derive(Debug)]
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    segment_octets: u64,
    reserve_octets: u64,
    most_segments: usize,
    current: Option<Current>,
    /// The segment before the one that begins next: its number, and how much of it counts.
    last: Option<(u32, u64)>,
    /// In use, without the current one, oldest first.
    older: VecDeque<Older>,
    /// Sealed after a failure: never written again, not even as a spare.
    faulty: Vec<u32>,
    spares: Vec<String>,
    next_number: u32,
    next_spare: u32,
}

#[derive(Debug)]
struct Older {
    number: u32,
    name: String,
    /// Length of its file.
    octets: u64,
    left: Left,
}

impl Older {
    fn new(number: u32, name: String, octets: u64) -> Self {
        Self { number, name, octets, left: Left::InUse }
    }
}

/// How far a segment is on its way out; what was done is not durable before the directory is flushed.
#[derive(Debug)]
enum Left {
    InUse,
    Spare(String),
    Removed,
}

#[derive(Debug)]
struct Current {
    segment: Segment,
    name: String,
    end: u64,
    batches: u64,
}

impl Log {
    /// The log as recovery found it: the next segment begins after `older`.
    pub(crate) fn new(disk: Arc<dyn Disk>, limits: &Limits, found: Found) -> Self {
        let next_number = found.segments.iter().map(|(number, _)| number + 1).max().unwrap_or(1);
        let next_spare = found
            .spares
            .iter()
            .filter_map(|name| name.strip_prefix("log/spare-")?.parse::<u32>().ok())
            .max()
            .map_or(1, |number| number + 1);
        Self {
            disk,
            segment_octets: limits.segment_octets,
            reserve_octets: limits.reserve_octets,
            most_segments: limits.segments,
            current: None,
            last: found.last,
            older: found
                .segments
                .into_iter()
                .map(|(number, name)| {
                    let len = found.lens.get(&number).copied().unwrap_or(limits.segment_octets);
                    Older::new(number, name, len)
                })
                .collect(),
            faulty: Vec::new(),
            spares: found.spares,
            next_number,
            next_spare,
        }
    }

    /// The segment that is written now.
    pub(crate) fn current(&self) -> Option<&Segment> {
        self.current.as_ref().map(|current| &current.segment)
    }

    /// Could a message be accepted now, as far as segments go? What a full disk leaves is for states.
    pub(crate) fn has_room(&self, octets: u64) -> bool {
        let fits = self.current.as_ref().is_some_and(|current| {
            current.end + octets + TERMINATOR.len() as u64
                <= self.segment_octets - self.reserve_octets
        });
        fits || (self.spares.len() >= 2 && self.may_begin())
    }

    /// Would the log stay within its bounds with another segment? They are what it takes of the disk, which is what a start
    /// reads, and the files that are open. Segments that a start cut off count by what is left of them: so a loop of
    /// restarts, each of which begins one, does not use up what is meant for mail.
    fn may_begin(&self) -> bool {
        let (most, whole) = (self.most_segments, self.segment_octets);
        let current = u64::from(self.current.is_some());
        let used = self.older.iter().map(|older| older.octets).sum::<u64>() + current * whole;
        used + whole <= most as u64 * whole && self.older.len() + 1 < most * SHORT_ONES
    }

    /// Would a spare segment make room for so many octets?
    pub(crate) fn needs_spare(&self, octets: u64) -> bool {
        !self.has_room(octets) && self.may_begin()
    }

    /// Can records without content be written for sure?
    pub(crate) fn can_record(&self) -> bool {
        let tail = self.reserve_octets / 4;
        !self.spares.is_empty()
            || self
                .current
                .as_ref()
                .is_some_and(|current| current.end + tail <= self.segment_octets)
    }

    /// Makes records durable, together, with one flush. `accepting` leaves the reserve alone.
    pub(crate) fn write(
        &mut self,
        records: &[&Record],
        accepting: bool,
    ) -> Result<Vec<Place>, WriteError> {
        let octets: u64 = records.iter().map(|record| record.most_octets()).sum::<u64>()
            + TERMINATOR.len() as u64;
        let usable = self.segment_octets - if accepting { self.reserve_octets } else { 0 };
        if octets > usable {
            return Err(WriteError::Full(format!("{octets} octets do not fit into a segment")));
        }
        if self.current.as_ref().is_none_or(|current| current.end + octets > usable) {
            if accepting && !self.has_room(octets) {
                return Err(WriteError::Full("no spare segment".to_owned()));
            }
            self.roll()?;
        }
        let Some(current) = &mut self.current else {
            return Err(WriteError::Full("no segment".to_owned()));
        };
        match current.write(records) {
            Ok(places) => Ok(places),
            Err(error) => {
                self.seal();
                Err(WriteError::Disk(error))
            }
        }
    }

    /// Ends the current segment and begins another, in a spare one.
    pub(crate) fn roll(&mut self) -> Result<(), WriteError> {
        let Some(spare) = self.spares.pop() else {
            return Err(WriteError::Full("no spare segment".to_owned()));
        };
        if let Some(current) = &self.current {
            self.last = Some((current.segment.origin.segment, current.end));
        }
        match self.begin(&spare) {
            Ok(next) => {
                if let Some(last) = self.current.replace(next) {
                    self.retire(last);
                }
                Ok(())
            }
            Err(error) => {
                // Under which of its names it lies is unknown; recovery finds it. But if it has the new one, that says where
                // the last segment ends: so nothing may be added there any more.
                self.seal();
                Err(WriteError::Disk(error))
            }
        }
    }

    fn begin(&mut self, spare: &str) -> io::Result<Current> {
        let origin = Origin { segment: self.next_number, salt: random() };
        self.next_number += 1;
        let file = self.disk.open(spare)?;
        let name = segment_name(origin, self.last);
        self.disk.rename(spare, &name)?;
        // The name holds the salt, and the end of the segment before it: it must be there before the first record is
        // promised.
        self.disk.sync_dir("log")?;
        Ok(Current { segment: Segment { origin, file }, name, end: 0, batches: 0 })
    }

    /// Never writes or flushes the current segment again: after a failed flush the kernel may have forgotten what was
    /// not written, and a second flush would lie.
    fn seal(&mut self) {
        if let Some(last) = self.current.take() {
            self.last = Some((last.segment.origin.segment, last.end));
            self.faulty.push(last.segment.origin.segment);
            self.retire(last);
        }
    }

    fn retire(&mut self, last: Current) {
        let number = last.segment.origin.segment;
        self.older.push_back(Older::new(number, last.name, self.segment_octets));
    }

    /// Takes the oldest segment out of use; nothing in it is needed any more. `pinned`: somebody still reads it.
    pub(crate) fn free_oldest(&mut self, number: u32, pinned: bool) -> io::Result<()> {
        let Some(oldest) = self.older.front().filter(|oldest| oldest.number == number) else {
            return Ok(());
        };
        if let Left::InUse = oldest.left {
            let name = oldest.name.clone();
            let whole = oldest.octets == self.segment_octets;
            let healthy = !pinned && !self.faulty.contains(&number);
            let reuse = whole && healthy && self.spares.len() < SPARES;
            let left = if reuse {
                let spare = self.spare_name();
                self.disk.rename(&name, &spare)?;
                Left::Spare(spare)
            } else {
                self.disk.remove(&name)?;
                Left::Removed
            };
            if let Some(oldest) = self.older.front_mut() {
                oldest.left = left;
            }
        }
        // If a crash brought back this segment but not the next, messages that are done would rise again. Hence one
        // by one, oldest first, and each durable before the next.
        self.disk.sync_dir("log")?;
        if let Some(Older { left: Left::Spare(spare), .. }) = self.older.pop_front() {
            self.spares.push(spare);
        }
        Ok(())
    }

    /// How many more spares there should be.
    pub(crate) fn spares_wanted(&self) -> usize {
        SPARES.saturating_sub(self.spares.len())
    }

    /// A name for a new spare.
    pub(crate) fn spare_name(&mut self) -> String {
        let name = format!("log/spare-{:08}", self.next_spare);
        self.next_spare += 1;
        name
    }

    /// A spare was made.
    pub(crate) fn add_spare(&mut self, name: String) {
        self.spares.push(name);
    }
}

impl Current {
    fn write(&mut self, records: &[&Record]) -> io::Result<Vec<Place>> {
        self.batches += 1;
        let mut prefixes = Vec::with_capacity(records.len());
        for (place, record) in (0u32..).zip(records) {
            prefixes.push(record.prefix(self.segment.origin, (self.batches, place)));
        }
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(records.len() * 4 + 1);
        let mut places = Vec::with_capacity(records.len());
        let mut offset = self.end;
        for (record, prefix) in records.iter().zip(&prefixes) {
            let len = u32::try_from(prefix.len()).map_err(io::Error::other)?;
            places.push(Place { segment: self.segment.origin.segment, offset, prefix: len });
            pieces.push(prefix);
            pieces.extend(record.data.iter().map(|piece| &piece[..]));
            pieces.push(b"\n");
            offset += u64::from(len) + record.data_octets() + 1;
        }
        // Zeros say to recovery that this is the end, whatever an earlier use left behind it.
        pieces.push(&TERMINATOR);
        self.segment.file.write_at(self.end, &pieces)?;
        self.segment.file.sync()?;
        self.end = offset;
        Ok(places)
    }
}

/// Makes a spare segment: allocated and durable before anybody relies on it.
pub(crate) fn make_spare(disk: &dyn Disk, name: &str, octets: u64) -> io::Result<()> {
    let made = disk.create(name).and_then(|file| {
        file.allocate(octets)?;
        file.sync()?;
        disk.sync_dir("log")
    });
    if made.is_err() {
        // A half made one would only take room.
        let _ = disk.remove(name);
    }
    made
}

/// What lies in `log/`.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Number and path, oldest first.
    pub(crate) segments: Vec<(u32, String)>,
    /// Paths of whole spares.
    pub(crate) spares: Vec<String>,
    /// Where segments end, by number: their records fill all before it, and nothing behind it counts. Of the last one
    /// nobody knows yet.
    pub(crate) ends: BTreeMap<u32, u64>,
    /// How long their files are, by number; whole, if nothing is said.
    pub(crate) lens: BTreeMap<u32, u64>,
    /// The last segment, and where it was found to end.
    pub(crate) last: Option<(u32, u64)>,
}

/// Looks into `log/`. A spare of another size is removed if `repair`.
pub(crate) fn find(disk: &dyn Disk, octets: u64, repair: bool) -> io::Result<Found> {
    let mut found = Found::default();
    for name in disk.list("log")? {
        let path = format!("log/{name}");
        if let Some(origin) = parse_segment_name(&path) {
            found.ends.extend(parse_end(&path));
            found.segments.push((origin.segment, path));
        } else if name.starts_with("spare-") && repair {
            if disk.open(&path)?.len()? == octets {
                found.spares.push(path);
            } else {
                disk.remove(&path)?;
            }
        }
    }
    found.segments.sort();
    found.spares.sort();
    Ok(found)
}

/// Number and salt; then the number of the segment before it, and where that ends.
fn segment_name(origin: Origin, last: Option<(u32, u64)>) -> String {
    let after = last.map(|(number, end)| format!("-{number:08}.{end}")).unwrap_or_default();
    format!("log/{:08}-{:016x}{after}.seg", origin.segment, origin.salt)
}

/// Reads number and salt from the path of a segment.
pub(crate) fn parse_segment_name(path: &str) -> Option<Origin> {
    let (number, rest) = path.strip_prefix("log/")?.strip_suffix(".seg")?.split_once('-')?;
    let salt = rest.split('-').next()?;
    Some(Origin { segment: number.parse().ok()?, salt: u64::from_str_radix(salt, 16).ok()? })
}

/// Reads where the segment before this one ends, with its number.
fn parse_end(path: &str) -> Option<(u32, u64)> {
    let (_, after) = path.strip_suffix(".seg")?.rsplit_once('-')?;
    let (number, end) = after.split_once('.')?;
    Some((number.parse().ok()?, end.parse().ok()?))
}

/// A number that no peer can guess, from the keys that the standard library takes from the system.
fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

/// One to go on with, one as the reserve that lets states be written on a full disk, and one more so that rolling
/// seldom waits for a new one.
const SPARES: usize = 3;

/// For each whole segment, so many short ones may be in use at most.
const SHORT_ONES: usize = 16;

const TERMINATOR: [u8; 64] = [0; 64];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_where_the_segment_before_ends() {
        let origin = Origin { segment: 8, salt: 0xab };
        let name = segment_name(origin, Some((7, 790_063)));
        assert_eq!(name, "log/00000008-00000000000000ab-00000007.790063.seg");
        assert_eq!(
            (parse_segment_name(&name), parse_end(&name)),
            (Some(origin), Some((7, 790_063)))
        );
        let first = segment_name(origin, None);
        assert_eq!((parse_segment_name(&first), parse_end(&first)), (Some(origin), None));
        for name in ["log/spare-00000003", "log/8.seg", "log/x-00.seg", "8-0.seg"] {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }
}
