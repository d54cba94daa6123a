//! Checks every record and every file of a spool, and says what is wrong, where, and what to do.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use message::Id;

use super::Spool;
use crate::config::Config;
use crate::content::{ContentPlace, Source, deferred_dir, eml_path, large_path, record_path};
use crate::error::Error;
use crate::index;
use crate::queue::Queue;
use crate::record::parse_file;
use crate::recovery::deferred::is_directory;
use crate::recovery::{Damage, octets_name};
use crate::segment::parse_segment_name;
use crate::store::read_whole;

/// What [`fsck`] found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Messages in the queue.
    pub messages: usize,
    /// Octets of their content, all read.
    pub octets: u64,
    /// What is wrong, or was before it was repaired.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A path in the spool, with the place in the file.
    pub place: String,
    /// What is wrong.
    pub fault: Fault,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// So many octets of the log are no record: damage.
    Octets(u64),
    /// So many octets are the end of a write that a crash tore.
    Torn(u64),
    /// State or content of that message is damaged.
    Message(Id, String),
    /// The large body of a message is gone.
    Body(Id),
    /// So many places of the index are no line, or it is gone or not whole.
    Index(usize),
    /// The file is damaged, but what counts of its message stands in the log.
    Void,
    /// The file belongs to no message.
    Orphan,
    /// Nothing of ours.
    Stranger,
    /// It was set aside at some time, for an operator to look at.
    SetAside,
}

impl Fault {
    /// Nobody needs to do anything about it.
    pub fn is_harmless(&self) -> bool {
        matches!(self, Self::SetAside | Self::Stranger | Self::Torn(_) | Self::Void)
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Octets(_) => {
                "the next start sets it aside in corrupt/; see what of it can be read, and tell its sender"
            }
            Self::Torn(_) => {
                "nothing is lost: it was never acknowledged, and the next start clears it away"
            }
            Self::Message(..) => {
                "--repair sets it aside in corrupt/; see what of it can be read, and tell its sender"
            }
            Self::Body(_) => {
                "restore the file from a backup before the next start, or tell its sender"
            }
            Self::Index(_) => {
                "nothing is lost: the next start searches deferred/ and writes it anew"
            }
            Self::Void => {
                "nothing is lost: it is removed or written anew with the next move of its message"
            }
            Self::Orphan => "--repair sets it aside in corrupt/",
            Self::Stranger => "gatepost did not write it and leaves it alone",
            Self::SetAside => "look at it, then remove it",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Octets(octets) => write!(f, "{octets} octets are no record"),
            Self::Torn(octets) => {
                write!(f, "{octets} octets are the end of a write that a crash tore")
            }
            Self::Message(id, what) => write!(f, "message {id} cannot be delivered: {what}"),
            Self::Body(id) => write!(f, "the body of message {id} is gone"),
            Self::Index(0) => f.write_str("the index is missing or not whole"),
            Self::Index(places) => write!(f, "the index is damaged in {places} places"),
            Self::Void => f.write_str("is damaged, but a newer one stands in the log"),
            Self::Orphan => f.write_str("belongs to no message"),
            Self::Stranger => f.write_str("is no file of a spool"),
            Self::SetAside => f.write_str("was set aside earlier"),
        }
    }
}

/// Reads everything in a spool and compares every checksum. Changes nothing. [`Error::Locked`] when a server has it.
/// `progress` hears how many of how many messages were read.
pub fn fsck(directory: &Path, mut progress: impl FnMut(usize, usize)) -> Result<Report, Error> {
    let spool = Spool::open(directory)?;
    let mut report = Report { messages: spool.recovered.known.len(), ..Report::default() };
    log(&spool, &mut report).map_err(Error::disk("list", directory))?;
    if let Some(damaged) = spool.index_damage {
        report.add(index::FILE, Fault::Index(damaged));
    }
    for (number, id) in spool.ids().into_iter().enumerate() {
        progress(number, report.messages);
        let checked = spool.read(id).and_then(|message| {
            spool.verified(&message)?;
            Ok(message.size)
        });
        match checked {
            Ok(octets) => report.octets += octets,
            Err(error) => report.add(&spool.place(id), Fault::Message(id, error.to_string())),
        }
    }
    files(&spool, &mut report).map_err(Error::disk("list", directory))?;
    Ok(report)
}

/// The same, and then mends it: what is damaged or belongs to no message is moved to `corrupt/`, the index is written anew.
/// Nothing is removed that was not set aside.
pub async fn repair(
    config: Config,
    progress: impl FnMut(usize, usize) + Send + 'static,
) -> Result<Report, Error> {
    let directory = config.directory.clone();
    let report = tokio::task::spawn_blocking(move || fsck(&directory, progress)).await;
    let report = report.map_err(|error| Error::NotDurable(error.to_string()))??;
    let directory = config.directory.clone();
    set_orphans_aside(&directory, &report)
        .map_err(Error::disk("set aside files of", &directory))?;
    // A start mends the log and the index, and whoever reads a damaged message sets it aside.
    let (queue, _) = Queue::open(config).await?;
    let damaged = report.findings.iter().filter_map(|finding| match &finding.fault {
        Fault::Message(id, _) => Some(*id),
        Fault::Octets(_)
        | Fault::Torn(_)
        | Fault::Body(_)
        | Fault::Index(_)
        | Fault::Void
        | Fault::Orphan
        | Fault::Stranger
        | Fault::SetAside => None,
    });
    let damaged: Vec<Id> = damaged.collect();
    queue.inspect(&damaged).await;
    queue.shutdown().await;
    Ok(report)
}

impl Report {
    /// Is everything as it should be?
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.fault.is_harmless())
    }

    fn add(&mut self, place: &str, fault: Fault) {
        self.findings.push(Finding { place: place.to_owned(), fault });
    }
}

fn log(spool: &Spool, report: &mut Report) -> io::Result<()> {
    let place = |damage: &Damage| {
        let segment = spool.recovered.found.segments.iter().find(|(n, _)| *n == damage.segment);
        let path = segment.map_or("log", |(_, path)| path);
        format!("{path} at {}", damage.offset)
    };
    let aside = spool.disk.list("corrupt")?;
    for damage in &spool.recovered.damage {
        // What a start set aside stands in the log until its segment is used again, and says nothing new.
        if !aside.contains(&octets_name(damage.segment, damage.offset)) {
            report.add(&place(damage), Fault::Octets(damage.octets));
        }
    }
    if let Some(torn) = &spool.recovered.torn {
        report.add(&place(torn), Fault::Torn(torn.octets));
    }
    for id in &spool.recovered.lost {
        report.add(&large_path(*id), Fault::Body(*id));
    }
    Ok(())
}

/// Looks for files that belong to no message.
fn files(spool: &Spool, report: &mut Report) -> io::Result<()> {
    let disk = &*spool.disk;
    for name in disk.list("large")? {
        let id = name.strip_suffix(".body").and_then(|id| id.parse().ok());
        let known = id.and_then(|id: Id| spool.recovered.known.get(&id));
        let lost = id.is_some_and(|id| spool.recovered.lost.contains(&id));
        if !known.is_some_and(|known| known.large) && !lost {
            report.add(&format!("large/{name}"), Fault::Orphan);
        }
    }
    for directory in disk.list("deferred")? {
        if !is_directory(&directory) {
            report.add(&format!("deferred/{directory}"), Fault::Stranger);
            continue;
        }
        for name in disk.list(&format!("deferred/{directory}"))? {
            let path = format!("deferred/{directory}/{name}");
            let owner = name.split_once('.').and_then(|(id, _)| id.parse::<Id>().ok());
            let ours = owner.is_some_and(|id| {
                let expected = [record_path(id), eml_path(id)];
                let waits = spool.recovered.known.get(&id).is_some_and(|k| k.indexed.is_some());
                let done = spool.recovered.late.done.contains_key(&id);
                deferred_dir(id) == format!("deferred/{directory}")
                    && (waits || done)
                    && expected
                        .iter()
                        .any(|name| path.strip_suffix(".tmp").unwrap_or(&path) == name)
            });
            if !ours {
                report.add(&path, Fault::Orphan);
            } else if owner.is_some_and(|id| is_void(spool, id, &path)) {
                report.add(&path, Fault::Void);
            }
        }
    }
    for name in disk.list("log")? {
        let path = format!("log/{name}");
        if parse_segment_name(&path).is_none() && !name.starts_with("spare-") {
            report.add(&path, Fault::Stranger);
        }
    }
    for name in disk.list("corrupt")? {
        report.add(&format!("corrupt/{name}"), Fault::SetAside);
    }
    let ours: BTreeSet<&str> = OURS.into_iter().collect();
    for name in disk.list("")? {
        if !ours.contains(&*name) {
            report.add(&name, Fault::Stranger);
        }
    }
    Ok(())
}

/// Is this a damaged file that nobody would read, because the log is ahead of it?
fn is_void(spool: &Spool, id: Id, path: &str) -> bool {
    let disk = &spool.disk;
    let known = spool.recovered.known.get(&id);
    if path == record_path(id) {
        let counts = known.is_some_and(|known| known.state.is_none());
        return !counts
            && read_whole(&**disk, path).is_ok_and(|octets| parse_file(&octets).is_none());
    }
    let copied = known.is_some_and(|known| known.content.is_some());
    let source = Source { disk: Arc::clone(disk), place: ContentPlace::Deferred };
    path == eml_path(id)
        && copied
        && spool.read(id).is_ok_and(|message| source.verify(&message).is_err())
}

fn set_orphans_aside(directory: &Path, report: &Report) -> io::Result<()> {
    for finding in report.findings.iter().filter(|finding| finding.fault == Fault::Orphan) {
        let from = directory.join(&finding.place);
        let to = directory.join("corrupt").join(finding.place.replace('/', "-"));
        std::fs::create_dir_all(directory.join("corrupt"))?;
        std::fs::rename(from, to)?;
    }
    std::fs::File::open(directory)?.sync_all()
}

/// What stands in the spool itself.
const OURS: [&str; 12] = [
    "FORMAT",
    "FORMAT.tmp",
    "lock",
    "log",
    "large",
    "deferred",
    "corrupt",
    index::FILE,
    "deferred.index.tmp",
    "suspended",
    "suspended.tmp",
    "lost+found",
];
