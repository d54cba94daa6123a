//! Reads the index of `deferred/`, and searches the directory when the index may lack something.

use std::collections::HashSet;
use std::io;

use message::Id;

use crate::content::record_path;
use crate::disk::Disk;
use crate::index::{Found, Index, Indexed, Line, Reader, put_line, remove_aside};
use crate::message::Message;
use crate::record::parse_file;
use crate::store::{parse_message, read_whole, set_aside, to_json};

/// What a line of the index, or a record without a line, says.
#[derive(Debug)]
pub(crate) enum Step {
    /// That message has files.
    Put(Indexed),
    /// It has none any more.
    Delete(Id),
}

/// An index that was read to its end.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) index: Index,
    /// It may lack something.
    pub(crate) search: bool,
    /// Places that are no line.
    pub(crate) damaged: usize,
}

/// Reads an index, portion by portion.
#[derive(Debug)]
pub(crate) struct Loader {
    index: Index,
    reader: Reader,
    search: bool,
    /// Places that are no line: offset and octets.
    damaged: Vec<(u64, Vec<u8>)>,
    /// A part of it could not be read.
    unreadable: bool,
}

impl Loader {
    /// Opens the index. With `repair`, makes one where there is none.
    pub(crate) fn open(disk: &dyn Disk, repair: bool) -> io::Result<Option<Self>> {
        if repair {
            remove_aside(disk)?;
        }
        let index = match Index::open(disk)? {
            Some(index) => index,
            None if repair => {
                let search = disk.list("deferred")?.iter().any(|name| is_directory(name));
                let index = Index::create(disk, search)?;
                index.install(disk)?;
                index
            }
            None => return Ok(None),
        };
        let reader = Reader::new(index.file.clone(), u64::MAX)?;
        Ok(Some(Self { index, reader, search: false, damaged: Vec::new(), unreadable: false }))
    }

    /// At least as many octets as there are to be read.
    pub(crate) fn octets(&self) -> io::Result<u64> {
        self.index.file.len()
    }

    /// The next so many lines; `None` at the end.
    pub(crate) fn portion(&mut self) -> Option<Vec<Step>> {
        let mut steps = Vec::with_capacity(PORTION);
        while steps.len() < PORTION {
            let next = self.reader.next().unwrap_or_else(|error| {
                tracing::error!(%error, "the index of the spool could not be read");
                self.unreadable = true;
                None
            });
            let step = match next {
                None => break,
                Some(Found::Line(Line::Put(indexed, _))) => Step::Put(indexed),
                Some(Found::Line(Line::Delete(id))) => Step::Delete(id),
                Some(Found::Line(Line::Search)) => {
                    self.search = true;
                    continue;
                }
                Some(Found::Line(Line::Searched)) => {
                    self.search = false;
                    continue;
                }
                Some(Found::Damaged { offset, octets }) => {
                    let octets = octets[..octets.len().min(MOST_SET_ASIDE)].to_vec();
                    self.damaged.push((offset, octets));
                    continue;
                }
            };
            self.index.lines += 1;
            steps.push(step);
        }
        (!steps.is_empty()).then_some(steps)
    }

    /// After the last portion. With `disk`, keeps damaged octets for an operator.
    pub(crate) fn finish(mut self, disk: Option<&dyn Disk>) -> Read {
        self.index.end = self.reader.offset();
        // What stands where a line should be may be the end of a write that was torn, or a line that was true.
        let damaged = self.damaged.len() + usize::from(self.unreadable);
        (self.index.spoiled, self.search) = (damaged > 0, self.search || damaged > 0);
        if let Some(disk) = disk {
            for (offset, octets) in &self.damaged {
                set_aside(disk, &format!("index-{offset:010}.octets"), octets);
            }
        }
        Read { index: self.index, search: self.search, damaged }
    }
}

/// Writes the index anew with the lines that still count: those with one of these ids and revisions, which are sorted.
/// With `search`, adds a line for each record that has none, and tells it, until nobody listens. Durable when it returns.
pub(crate) fn tidy(
    disk: &dyn Disk,
    old: &Index,
    live: &[(Id, u32)],
    search: bool,
    mut tell: impl FnMut(Vec<Step>) -> bool,
) -> io::Result<Index> {
    let mut index = Index::create(disk, search)?;
    let mut known = HashSet::new();
    let mut reader = Reader::new(old.file.clone(), old.end)?;
    let mut lines = Vec::new();
    loop {
        let raw = match reader.next_raw() {
            Ok(Some((_, raw))) => raw,
            Ok(None) => break,
            // What cannot be read is found by the search.
            Err(_) if search => break,
            Err(error) => return Err(error),
        };
        let Some(Line::Put(indexed, _)) = crate::index::parse(raw) else { continue };
        if live.binary_search(&(indexed.id, indexed.revision())).is_err() {
            continue;
        }
        lines.extend_from_slice(raw);
        lines.push(b'\n');
        if search {
            known.insert(indexed.id);
        }
        if lines.len() >= WRITE {
            index.write(&lines)?;
            lines.clear();
        }
    }
    index.write(&lines)?;
    index.install(disk)?;
    if search {
        for directory in disk.list("deferred")?.iter().filter(|name| is_directory(name)) {
            let steps = search_directory(disk, &mut index, directory, &known)?;
            if !tell(steps) {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        index.append_searched()?;
    }
    Ok(index)
}

/// Gives each record without a line one.
fn search_directory(
    disk: &dyn Disk,
    index: &mut Index,
    directory: &str,
    known: &HashSet<Id>,
) -> io::Result<Vec<Step>> {
    let (mut steps, mut lines) = (Vec::new(), Vec::new());
    for name in disk.list(&format!("deferred/{directory}"))? {
        let id = name.strip_suffix(".record").and_then(|id| id.parse::<Id>().ok());
        let Some(id) = id.filter(|id| !known.contains(id)) else { continue };
        let path = record_path(id);
        let octets = match read_whole(disk, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        if let Some(message) = parse_record(id, &octets) {
            lines.extend(put_line(&message, &to_json(&message)));
            steps.push(Step::Put(Indexed::of(&message)));
        } else {
            set_aside(disk, &format!("{id}.record"), &octets);
            disk.remove(&path)?;
        }
    }
    if !lines.is_empty() {
        index.append(&lines)?;
    }
    Ok(steps)
}

/// Every message that has a whole record. Changes nothing.
pub(crate) fn search_all(disk: &dyn Disk) -> io::Result<Vec<Message>> {
    let mut messages = Vec::new();
    for directory in disk.list("deferred")?.iter().filter(|name| is_directory(name)) {
        for name in disk.list(&format!("deferred/{directory}"))? {
            let id = name.strip_suffix(".record").and_then(|id| id.parse::<Id>().ok());
            if let Some(id) = id {
                messages.extend(parse_record(id, &read_whole(disk, &record_path(id))?));
            }
        }
    }
    Ok(messages)
}

/// The message in a `.record` file. `None`: it is damaged.
pub(crate) fn parse_record(id: Id, octets: &[u8]) -> Option<Message> {
    let (_, json) = parse_file(octets).filter(|(header, _)| header.id == id)?;
    parse_message(json)
}

/// Directories are named by two characters of an id.
pub(crate) fn is_directory(name: &str) -> bool {
    name.len() == 2
}

/// Lines that are handed on together.
const PORTION: usize = 512;

/// Octets that are written at once.
const WRITE: usize = 1 << 20;

/// More than this of one damaged place helps nobody.
const MOST_SET_ASIDE: usize = 4 << 20;
