//! Reading the state of one message, and the files of messages that stay.
//!
//! A message that outlives its segment is moved to `deferred/ab/ID.eml` (content) and `ID.record` (one STATE record); the
//! record is what makes it valid. Everything here blocks.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use message::{Id, Octets};

use crate::condition::is_for_operators;
use crate::content::{
    Content, ContentPlace, Source, deferred_dir, eml_path, large_path, record_path,
};
use crate::disk::{Disk, File};
use crate::error::Error;
use crate::index::{Index, delete_line, put_line};
use crate::message::Message;
use crate::record::{Header, Kind, LONGEST_LINE, Record, parse_file, parse_start};

/// Where the last whole state of a message lies.
#[derive(Clone, Debug)]
pub(crate) enum StatePlace {
    /// In a segment of the log.
    Log { file: Arc<dyn File>, offset: u64 },
    /// In `deferred/`.
    Deferred,
}

/// Reads the last whole state of a message.
pub(crate) fn read_state(disk: &dyn Disk, id: Id, place: &StatePlace) -> Result<Message, Error> {
    let all = |_: &[u8]| true;
    let damaged = || Error::Damaged { what: format!("the state of {id}") };
    read_state_if(disk, id, place, all)?.ok_or_else(damaged)
}

/// The same, if its JSON is wanted.
pub(crate) fn read_state_if(
    disk: &dyn Disk,
    id: Id,
    place: &StatePlace,
    wanted: impl FnOnce(&[u8]) -> bool,
) -> Result<Option<Message>, Error> {
    let octets = match place {
        StatePlace::Log { file, offset } => read_record(&**file, *offset),
        StatePlace::Deferred => read_whole(disk, &record_path(id)),
    };
    let damaged = || Error::Damaged { what: format!("the state of {id}") };
    let octets = match octets {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged()),
        other => other.map_err(Error::disk("read the state of", disk.name(&id.to_string())))?,
    };
    let parsed = match place {
        StatePlace::Log { .. } => parse_start(&octets),
        StatePlace::Deferred => parse_file(&octets),
    };
    let (header, json) = parsed.ok_or_else(damaged)?;
    if header.id != id {
        return Err(damaged());
    }
    if !wanted(json) {
        return Ok(None);
    }
    parse_message(json).ok_or_else(damaged).map(Some)
}

/// The JSON of an ACCEPT or STATE record.
pub(crate) fn parse_message(json: &[u8]) -> Option<Message> {
    let mut message: Message = serde_json::from_slice(json).ok()?;
    message.number_recipients();
    Some(message)
}

/// Writes the JSON of an ACCEPT or STATE record.
pub(crate) fn to_json(message: &impl serde::Serialize) -> Vec<u8> {
    let mut json = Vec::with_capacity(USUAL_JSON);
    serde_json::to_writer(&mut json, message)
        .expect("a message has no map with keys that are not text");
    json
}

/// Line and JSON of the record at `offset`, whatever they are worth.
fn read_record(file: &dyn File, offset: u64) -> io::Result<Vec<u8>> {
    let mut octets = vec![0; 4096];
    let count = file.read_at(offset, &mut octets)?;
    octets.truncate(count);
    let Some(header) = Header::parse(&octets) else { return Ok(octets) };
    let whole = header.data_offset();
    if whole > octets.len() as u64 && whole < MOST_JSON {
        octets = file.read_exact_at(offset, usize::try_from(whole).unwrap_or(LONGEST_LINE))?;
    }
    Ok(octets)
}

pub(crate) fn read_whole(disk: &dyn Disk, path: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let len = file.len()?.min(MOST_JSON);
    file.read_exact_at(0, usize::try_from(len).unwrap_or(usize::MAX))
}

/// One message that is to leave the log.
#[derive(Debug)]
pub(crate) struct Move {
    pub(crate) id: Id,
    pub(crate) state: StatePlace,
    /// Where the content lies, if it must be moved too.
    pub(crate) content: Option<Source>,
}

/// What became of a move.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) id: Id,
    /// The revision that the index names now, whether the files came after it or not.
    pub(crate) indexed: Option<u64>,
    /// The revision that lies in the files, durably.
    pub(crate) result: Result<u64, Error>,
}

/// Moves messages to files of their own. All files of the portion are flushed together, and each directory once.
pub(crate) fn settle(disk: &dyn Disk, index: &mut Index, moves: Vec<Move>) -> Vec<Moved> {
    let mut results = Vec::with_capacity(moves.len());
    let mut ready = Vec::with_capacity(moves.len());
    let mut lines = Vec::new();
    for one in moves {
        match one.read(disk) {
            Ok((message, content)) => {
                let json = to_json(&message);
                lines.extend(put_line(&message, &json));
                ready.push((message, json, content));
            }
            Err(error) => results.push(Moved { id: one.id, indexed: None, result: Err(error) }),
        }
    }
    if ready.is_empty() {
        return results;
    }
    // The lines first: then no crash leaves a file that nobody knows of.
    if let Err(error) = index.append(&lines) {
        let what = error.to_string();
        results.extend(ready.into_iter().map(|(message, ..)| Moved {
            id: message.id,
            indexed: None,
            result: Err(not_durable(&what)),
        }));
        return results;
    }
    let mut written = Vec::with_capacity(ready.len());
    for (message, json, content) in ready {
        let files = write_aside(disk, &message, json, content.as_ref());
        written.push((message.id, message.revision, files));
    }
    results.extend(install(disk, written));
    results
}

/// Makes files durable, gives them their names, and makes the names durable.
fn install(disk: &dyn Disk, written: Vec<(Id, u64, Result<Vec<Aside>, Error>)>) -> Vec<Moved> {
    let all = written.iter().flat_map(|(.., files)| files.iter().flatten());
    let all: Vec<_> = all.map(|aside| Arc::clone(&aside.file)).collect();
    let mut flushed = disk.sync_all(&all).into_iter();
    let mut directories = BTreeSet::new();
    let mut results = Vec::with_capacity(written.len());
    for (id, revision, files) in written {
        let named = files.and_then(|files| {
            let synced: Vec<_> = flushed.by_ref().take(files.len()).collect();
            let mut pairs = files.iter().zip(synced);
            let named = pairs.try_for_each(|(aside, synced)| aside.name(disk, synced));
            if named.is_err() {
                files.iter().for_each(|aside| aside.remove(disk));
            }
            named
        });
        if named.is_ok() {
            directories.insert(deferred_dir(id));
        }
        results.push(Moved { id, indexed: Some(revision), result: named.map(|()| revision) });
    }
    // The directories first: without them their files are nowhere.
    let synced = [String::from("deferred")]
        .iter()
        .chain(&directories)
        .try_for_each(|directory| disk.sync_dir(directory));
    if let Err(error) = synced {
        let what = error.to_string();
        for moved in results.iter_mut().filter(|moved| moved.result.is_ok()) {
            moved.result = Err(not_durable(&what));
        }
    }
    results
}

fn not_durable(what: &str) -> Error {
    Error::NotDurable(what.to_owned())
}

impl Move {
    fn read(&self, disk: &dyn Disk) -> Result<(Message, Option<Content>), Error> {
        let message = read_state(disk, self.id, &self.state)?;
        let Some(source) = &self.content else { return Ok((message, None)) };
        source.verify(&message)?;
        let content = source.open(&message)?;
        Ok((message, Some(content)))
    }
}

/// A file that was written, and has not its name yet.
struct Aside {
    path: String,
    file: Arc<dyn File>,
}

/// Writes the files of a message: its content, if that must leave the log, and the record that makes it valid. None is left
/// if one could not be written.
fn write_aside(
    disk: &dyn Disk,
    message: &Message,
    json: Vec<u8>,
    content: Option<&Content>,
) -> Result<Vec<Aside>, Error> {
    let mut files = Vec::with_capacity(2);
    if let Some(content) = content {
        let path = eml_path(message.id);
        files.push(Aside::write(disk, path, |file| copy_content(file, message, content))?);
    }
    let record = Record::new(Kind::State, message.id, json).to_file();
    match Aside::write(disk, record_path(message.id), |file| file.write_at(0, &[&record])) {
        Ok(aside) => files.push(aside),
        Err(error) => {
            files.iter().for_each(|aside| aside.remove(disk));
            return Err(error);
        }
    }
    Ok(files)
}

/// Copies what lies with the head; a large body keeps its own file.
fn copy_content(file: &dyn File, message: &Message, content: &Content) -> io::Result<()> {
    let stored = &message.content;
    let len = if stored.large.is_some() { stored.head } else { stored.head + stored.body };
    let mut buffer = vec![0; COPY.min(usize::try_from(len).unwrap_or(COPY))];
    let mut offset = 0;
    while offset < len {
        let want = buffer.len().min(usize::try_from(len - offset).unwrap_or(COPY));
        match content.read_at(offset, &mut buffer[..want])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                file.write_at(offset, &[&buffer[..count]])?;
                offset += count as u64;
            }
        }
    }
    Ok(())
}

impl Aside {
    fn write(
        disk: &dyn Disk,
        path: String,
        write: impl FnOnce(&dyn File) -> io::Result<()>,
    ) -> Result<Self, Error> {
        let aside = aside(&path);
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let made = disk.create_dir(directory).and_then(|()| disk.create(&aside));
        match made.and_then(|file| write(&*file).map(|()| file)) {
            Ok(file) => Ok(Self { path, file }),
            Err(error) => {
                // Recovery removes what is left here.
                let _ = disk.remove(&aside);
                Err(Error::disk("write", disk.name(&path))(error))
            }
        }
    }

    /// Gives it its name, if its flush succeeded. The name is durable after a flush of the directory.
    fn name(&self, disk: &dyn Disk, synced: io::Result<()>) -> Result<(), Error> {
        let named = synced.and_then(|()| disk.rename(&aside(&self.path), &self.path));
        named.map_err(Error::disk("write", disk.name(&self.path)))
    }

    fn remove(&self, disk: &dyn Disk) {
        let _ = disk.remove(&aside(&self.path));
    }
}

/// What a file is called until it is whole.
fn aside(path: &str) -> String {
    format!("{path}.tmp")
}

/// Removes the files of messages that are done, and what a failed move left of them; durable when it returns.
pub(crate) fn unlink(disk: &dyn Disk, index: &mut Index, ids: &[Id]) -> io::Result<()> {
    let mut directories = BTreeSet::new();
    let mut lines = Vec::new();
    for id in ids {
        let (record, eml) = (record_path(*id), eml_path(*id));
        for path in [aside(&record), aside(&eml), record, eml] {
            remove_if_there(disk, &path)?;
        }
        directories.insert(deferred_dir(*id));
        lines.extend(delete_line(*id));
    }
    directories.iter().try_for_each(|directory| match disk.sync_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    })?;
    // The line last: as long as there may be files, a start must know of them.
    index.append(&lines)
}

/// Removes the file of a large message that is done. If a crash undoes it, recovery removes an orphan.
pub(crate) fn unlink_large(disk: &dyn Disk, id: Id) {
    if let Err(error) = remove_if_there(disk, &large_path(id)) {
        tracing::warn!(message = %id, %error, "the file of a finished message could not be removed");
    }
}

pub(crate) fn remove_if_there(disk: &dyn Disk, path: &str) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Keeps damaged octets for an operator, in `corrupt/`.
pub(crate) fn set_aside(disk: &dyn Disk, name: &str, octets: &[u8]) {
    let file = disk.name(&format!("corrupt/{name}"));
    let file = file.display();
    match keep(disk, name, octets) {
        Ok(()) => {
            tracing::error!(%file, "something damaged in the spool was set aside; `gatepost queue status` says what to do")
        }
        Err(error) => {
            tracing::error!(%file, %error, "something damaged in the spool could not be set aside")
        }
    }
}

/// What lies in `corrupt/` for operators, sorted. Says it to the metrics, too.
pub(crate) fn set_aside_names(disk: &dyn Disk) -> Vec<String> {
    let mut names = disk.list("corrupt").unwrap_or_default();
    names.retain(|name| is_for_operators(name));
    names.sort_unstable();
    metrics::gauge!("gatepost_queue_set_aside").set(names.len() as f64);
    names
}

/// Puts octets into `corrupt/`, durably.
pub(crate) fn keep(disk: &dyn Disk, name: &str, octets: &[u8]) -> io::Result<()> {
    disk.create_dir("corrupt")?;
    let file = disk.create(&format!("corrupt/{name}"))?;
    file.write_at(0, &[octets])?;
    file.sync()?;
    disk.sync_dir("corrupt")
}

/// Keeps what can still be read of a message whose content or state is damaged.
pub(crate) fn set_message_aside(disk: &dyn Disk, id: Id, state: &StatePlace, source: &Source) {
    let message = read_state(disk, id, state);
    let place = match state {
        StatePlace::Log { file, offset } => read_record(&**file, *offset),
        StatePlace::Deferred => read_whole(disk, &record_path(id)),
    };
    set_aside(disk, &format!("{id}.record"), &place.unwrap_or_default());
    let content = match (&message, &source.place) {
        (Ok(message), ContentPlace::Log { .. }) => source.open(message).ok().map(|content| {
            let len = usize::try_from(message.content.head + message.content.body).unwrap_or(0);
            let mut octets = vec![0; len.min(COPY * 64)];
            let mut done = 0;
            while let Ok(count @ 1..) = content.read_at(done as u64, &mut octets[done..]) {
                done += count;
            }
            octets.truncate(done);
            octets
        }),
        (_, ContentPlace::Deferred) => read_whole(disk, &eml_path(id)).ok(),
        (Err(_), ContentPlace::Log { .. }) => None,
    };
    if let Some(content) = content {
        set_aside(disk, &format!("{id}.eml"), &content);
    }
    let body = large_path(id);
    let _ = disk.rename(&body, &format!("corrupt/{id}.body"));
}

/// More than any JSON of ours has: ten thousand recipients.
const MOST_JSON: u64 = 256 << 20;

/// What a message with one recipient has.
const USUAL_JSON: usize = 768;

const COPY: usize = 256 << 10;
