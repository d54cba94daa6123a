//! What the queue could not do, in words for operators.

use std::path::PathBuf;

/// The queue could not do its work. What a peer hears of it is the caller's matter: [`Error::Full`] and
/// [`Error::SenderFull`] are 452 4.3.1, all others are 451 4.3.0; none is ever a permanent reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no room for more mail: disk space, inodes, spare segments, memory, or the number of messages or octets.
    /// Deliveries go on.
    #[error("the spool is full: {what}")]
    Full {
        /// Which limit was met.
        what: String,
    },
    /// There is no room for more mail of this sender.
    #[error("a sender has enough in the queue: {what}")]
    SenderFull {
        /// Which limit was met.
        what: String,
    },
    /// The disk refused twice in a row to make data durable. Nothing is accepted or delivered until a probe succeeds.
    #[error(
        "the spool cannot be written: {what}; nothing is accepted or delivered until a probe of the disk succeeds"
    )]
    Broken {
        /// The last failure.
        what: String,
    },
    /// A file operation of the spool failed.
    #[error("{action} {path}: {source}", path = path.display())]
    Disk {
        /// What was tried: "open", "write", "flush".
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A batch could not be written or flushed; this message was not accepted.
    #[error("the message could not be made durable: {0}")]
    NotDurable(String),
    /// Another process has the spool.
    #[error("the spool {path} is in use by another server; stop that one, or give this one a spool of its own", path = path.display())]
    Locked {
        /// The spool directory.
        path: PathBuf,
    },
    /// The spool was written by a newer version.
    #[error("the spool {path} has format {found}; this version reads format {known}", path = path.display())]
    Format {
        /// The spool directory.
        path: PathBuf,
        /// What its `FORMAT` file says.
        found: String,
        /// What we can read.
        known: u32,
    },
    /// A record or file does not have the checksum it was written with.
    #[error("{what} is damaged")]
    Damaged {
        /// Which record or file.
        what: String,
    },
    /// No such message in the queue.
    #[error("no message {0} in the queue")]
    Unknown(message::Id),
    /// Nothing of the kind is suspended.
    #[error("{0} is not suspended")]
    NotSuspended(String),
    /// The queue was shut down.
    #[error("the queue is shut down")]
    Closed,
}

impl Error {
    /// Makes [`Error::Disk`] of an [`std::io::Error`].
    pub(crate) fn disk(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { action, path, source }
    }
}
