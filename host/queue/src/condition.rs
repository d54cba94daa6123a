//! How the queue is, for whoever looks after it.

use serde::{Deserialize, Serialize};

/// What an operator has to know at first sight: does mail come in, does it go out, and is there anything to look at?
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Messages in the queue.
    pub messages: u64,
    /// Octets of their content, rounded up.
    pub octets: u64,
    /// The disk failed twice in a row: nothing is accepted or delivered until it can be written again.
    pub broken: Option<String>,
    /// The disk has no room: nothing is accepted, deliveries go on.
    pub full: Option<String>,
    /// Limits that stand against more mail, of the queue or of memory; deliveries go on.
    pub closed: Vec<String>,
    /// Files in the spool's `corrupt/`: what was damaged, and kept for somebody to look at. The first hundred.
    pub set_aside: Vec<String>,
    /// How many there are.
    pub set_aside_count: usize,
}

impl Condition {
    /// Is there nothing for anybody to do?
    pub fn is_well(&self) -> bool {
        self.broken.is_none()
            && self.full.is_none()
            && self.closed.is_empty()
            && self.set_aside_count == 0
    }

    /// What is wrong, each with what to do about it.
    pub fn faults(&self) -> Vec<(String, &'static str)> {
        let mut faults = Vec::new();
        if let Some(what) = &self.broken {
            faults.push((format!("no mail is accepted or delivered: {what}"), BROKEN));
        }
        if let Some(what) = &self.full {
            faults.push((format!("no mail is accepted: {what}"), FULL));
        }
        for what in &self.closed {
            faults.push((format!("no mail is accepted: {what}"), CLOSED));
        }
        if self.set_aside_count > 0 {
            let names = self.set_aside.iter().take(3).cloned().collect::<Vec<_>>().join(" ");
            let more = if self.set_aside_count > 3 { " …" } else { "" };
            let count = self.set_aside_count;
            let files = if count == 1 { "file" } else { "files" };
            faults.push((
                format!("{count} {files} of what was damaged in corrupt/: {names}{more}"),
                SET_ASIDE,
            ));
        }
        faults
    }
}

/// Is this file in `corrupt/` something for an operator? The end of a write that a crash tore is not.
pub(crate) fn is_for_operators(name: &str) -> bool {
    !name.ends_with(".torn")
}

/// Names that are shown.
pub(crate) const SHOWN: usize = 100;

const BROKEN: &str = "see the log and the kernel's log for the disk under the queue; once it can be written the server goes on \
by itself within a second, and nothing that was acknowledged is lost. If the file system is read-only or dead: stop the \
server, repair or replace the disk, `gatepost queue fsck`, start it";

const FULL: &str = "make room on the file system of the queue; mail is accepted again by itself within five seconds";

const CLOSED: &str = "see `gatepost queue destinations` for what does not go out; raise the limit, or release, bounce or remove \
what nobody needs; mail is accepted again by itself at nine tenths";

const SET_ASIDE: &str = "each name begins with the id of a message or the number of a segment: read the file with less, deliver \
what is whole of it with `gatepost queue import`, tell its sender, then remove the file; look for the cause in the disk";
