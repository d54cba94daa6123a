//! Final delivery into a Maildir: written to `tmp`, flushed, renamed into `new`, and the directory
//! flushed before anybody is told that it was delivered. (D. J. Bernstein, "Using maildir format".)
//!
//! Names of directories come from routes, which the configuration makes; a local part of the
//! network never becomes a path by itself. Directories are opened once and everything else happens
//! relative to them without following links, so swapping one for a link in the middle of a delivery
//! leads nowhere.

use std::{
    fs::{DirBuilder, File},
    io::{self, Write},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Component, Path},
    process,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use message::Octets;
use policy::Place;
use queue::Outcome;
use rustix::{
    fs::{
        AtFlags, Mode, OFlags, RenameFlags, fsync, linkat, mkdirat, open, openat, renameat_with,
        unlinkat,
    },
    io::Errno,
};
use smtp::{ForwardPath, LocalDomains, Reply, ReversePath, WhenFull};
use tokio::sync::Semaphore;

use crate::{
    clock,
    content::{PIECE, read},
    quota,
};

/// One copy, and for whom it is.
pub(crate) struct OneCopy<'a> {
    /// The mailbox.
    pub(crate) path: &'a Path,
    pub(crate) delivery: &'a queue::Delivery,
    /// Which recipient of the message.
    pub(crate) index: usize,
    pub(crate) content: &'a Arc<queue::Content>,
    /// Who knows how much the mailbox holds.
    pub(crate) local: &'a LocalDomains,
}

/// Makes names that no other delivery has.
#[derive(Debug)]
pub(crate) struct Maildirs {
    /// Our name as it may stand in a file name.
    host: String,
    /// Deliveries of this process so far.
    deliveries: Arc<AtomicU64>,
    /// Files that may be written at once: each holds a thread and a buffer, and a disk is not faster
    /// for being asked by hundreds.
    writing: Semaphore,
    /// Held from the look at a quota to the note of the new size, each for some of the mailboxes.
    counting: Arc<[Mutex<()>; 16]>,
}

impl Maildirs {
    pub(crate) fn new(hostname: &str) -> Self {
        // The specification: / and : are written in octal.
        Self {
            host: hostname.replace('/', "\\057").replace(':', "\\072"),
            deliveries: Arc::default(),
            writing: Semaphore::new(32),
            counting: Arc::default(),
        }
    }

    /// One copy for each recipient.
    pub(crate) async fn deliver(
        &self,
        path: &Path,
        delivery: &queue::Delivery,
        content: &Arc<queue::Content>,
        local: &LocalDomains,
    ) -> Vec<(usize, Outcome)> {
        let mut outcomes = Vec::with_capacity(delivery.recipients.len());
        let inbox = Place { folder: Vec::new(), is_seen: false, is_flagged: false };
        for &index in &delivery.recipients {
            let copy = OneCopy { path, delivery, index, content, local };
            let outcome = self.deliver_one(&copy, &inbox).await;
            outcomes.push((index, outcome));
        }
        outcomes
    }

    /// The copy for one recipient, at this place of the mailbox.
    pub(crate) async fn deliver_one(&self, copy: &OneCopy<'_>, place: &Place) -> Outcome {
        let OneCopy { path, delivery, index, content, local } = copy;
        let (message, recipient) = (&delivery.message, &delivery.message.recipients[*index]);
        let _permit = self.writing.acquire().await.expect("nobody closes this semaphore");
        let job = Job {
            mailbox: path.to_path_buf(),
            quota: recipient.path.mailbox().and_then(|mailbox| local.quota(mailbox)),
            folder: (!place.folder.is_empty()).then(|| format!(".{}", place.folder.join("."))),
            name: self.unique_name(clock::now()),
            flags: match (place.is_flagged, place.is_seen) {
                (false, false) => None,
                (true, false) => Some(":2,F"),
                (false, true) => Some(":2,S"),
                (true, true) => Some(":2,FS"),
            },
            head: trace_fields(&message.reverse_path, &recipient.path),
            content: Arc::clone(content),
        };
        let counting = Arc::clone(&self.counting);
        let result = tokio::task::spawn_blocking(move || job.run(&*counting))
            .await
            .map_err(io::Error::other);
        outcome(path, result.flatten())
    }

    /// Seconds, then what makes it unique within them: microseconds, process, deliveries of the
    /// process, and chance.
    fn unique_name(&self, now: SystemTime) -> String {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let number = self.deliveries.fetch_add(1, Ordering::Relaxed);
        let (seconds, micros) = (since.as_secs(), since.subsec_micros());
        let (process, random) = (process::id(), clock::random());
        format!("{seconds}.M{micros}P{process}Q{number}R{random:016x}.{}", self.host)
    }
}

/// RFC 5321 §4.4: the final delivery adds the reverse-path; `Delivered-To` says for whom this copy
/// is.
fn trace_fields(reverse_path: &ReversePath, forward_path: &ForwardPath) -> String {
    format!("{}Delivered-To: {forward_path}\r\n", message::trace::return_path(reverse_path))
}

/// The reply in the result is why it has no room.
fn outcome(path: &Path, result: io::Result<Result<(), Reply>>) -> Outcome {
    match result {
        Ok(Ok(())) => Outcome::Delivered {
            reply: Reply::new(250, "2.1.5 Delivered to the mailbox"),
            peer: None,
        },
        Ok(Err(reply)) if reply.is_permanent() => {
            Outcome::Failed { reply, peer: None, quiet: false }
        }
        Ok(Err(reply)) => Outcome::Deferred { reply, peer: None, retry_in: None },
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "no delivery to this Maildir");
            let full =
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            let reply = if full {
                Reply::new(452, "4.2.2 There is no room in the mailbox")
            } else {
                Reply::new(451, "4.2.0 The mailbox cannot be written to at the moment")
            };
            Outcome::Deferred { reply, peer: None, retry_in: None }
        }
    }
}

/// One copy to be written.
struct Job {
    mailbox: std::path::PathBuf,
    /// Octets that it holds, and what happens when it is full.
    quota: Option<(u64, WhenFull)>,
    /// Maildir++: ".Lists.wasm", a Maildir inside of the mailbox.
    folder: Option<String>,
    name: String,
    /// With flags it is not new any more: it goes into `cur`.
    flags: Option<&'static str>,
    head: String,
    content: Arc<queue::Content>,
}

impl Job {
    /// Octets of the file.
    fn size(&self) -> u64 {
        self.head.len() as u64 + self.content.len()
    }

    /// The inner error is a refusal: there is no room.
    fn run(mut self, counting: &[Mutex<()>]) -> io::Result<Result<(), Reply>> {
        let size = self.size();
        // Two deliveries at once must not both find the last room.
        let lock = self.quota.map(|_| &counting[place_of(&self.mailbox, counting.len())]);
        let _counting = lock.map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some((limit, when_full)) = self.quota
            && let Some(full) = quota::check(&self.mailbox, limit, size)?
        {
            return Ok(Err(full.reply(when_full)));
        }
        // Maildir++: who counts need not look at each file.
        self.name = format!("{},S={size}", self.name);
        let maildir = match &self.folder {
            None => Maildir::open(&self.mailbox)?,
            Some(folder) => {
                Maildir::open(&self.mailbox)?;
                let directory = self.mailbox.join(folder);
                let maildir = Maildir::open(&directory)?;
                // Maildir++: what tells a folder from a mailbox.
                File::create(directory.join("maildirfolder"))?;
                maildir
            }
        };
        let written = self.write(&maildir);
        if written.is_err() {
            // What is left in tmp is removed by every reader after 36 hours; we need not wait for
            // that.
            let _ = unlinkat(&maildir.tmp, &self.name, AtFlags::empty());
        }
        written?;
        if self.quota.is_some()
            && let Err(error) = quota::note(&self.mailbox, size)
        {
            // The message is delivered; the count is found out anew when the mailbox seems full.
            tracing::warn!(path = %self.mailbox.display(), %error, "the size of this mailbox is not noted");
        }
        Ok(Ok(()))
    }

    fn write(&self, maildir: &Maildir) -> io::Result<()> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file =
            File::from(openat(&maildir.tmp, &self.name, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(self.head.as_bytes())?;
        let mut offset = 0;
        while offset < self.content.len() {
            let piece = read(&*self.content, offset, PIECE)?;
            file.write_all(&piece)?;
            offset += piece.len() as u64;
        }
        file.sync_all()?;
        maildir.publish(&self.name, self.flags)
    }
}

/// Always the same for a mailbox.
fn place_of(mailbox: &Path, places: usize) -> usize {
    let octets = mailbox.as_os_str().as_encoded_bytes();
    octets.iter().fold(0, |sum, octet| (sum * 31 + usize::from(*octet)) % places)
}

/// An open Maildir.
struct Maildir {
    tmp: OwnedFd,
    new: OwnedFd,
    cur: OwnedFd,
}

impl Maildir {
    /// Opens the folder, made with its three parts if it is not there.
    fn open(path: &Path) -> io::Result<Self> {
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the path of a Maildir has no ..",
            ));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let root = open(path, DIRECTORY, Mode::empty())?;
        let mut is_new = false;
        let mut part = |name: &str| -> io::Result<OwnedFd> {
            match mkdirat(&root, name, Mode::RWXU) {
                Ok(()) => is_new = true,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(openat(&root, name, DIRECTORY, Mode::empty())?)
        };
        let (tmp, new, cur) = (part("tmp")?, part("new")?, part("cur")?);
        if is_new {
            fsync(&root)?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                fsync(open(parent, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)?;
            }
        }
        Ok(Self { tmp, new, cur })
    }

    /// Makes the file visible, for good.
    fn publish(&self, name: &str, flags: Option<&str>) -> io::Result<()> {
        let (folder, to) = match flags {
            None => (&self.new, name.to_owned()),
            Some(flags) => (&self.cur, format!("{name}{flags}")),
        };
        match renameat_with(&self.tmp, name, folder, &to, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            // File systems without this flag have links.
            Err(Errno::INVAL | Errno::NOSYS) => {
                linkat(&self.tmp, name, folder, &to, AtFlags::empty())?;
                unlinkat(&self.tmp, name, AtFlags::empty())?;
            }
            Err(error) => return Err(error.into()),
        }
        fsync(folder).inspect_err(|_| {
            // It would be delivered again after the next attempt.
            let _ = unlinkat(folder, &to, AtFlags::empty());
        })?;
        Ok(())
    }
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
