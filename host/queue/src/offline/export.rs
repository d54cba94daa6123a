//! Messages as files that every mail program reads: `ID.eml`, and the envelope beside it as `ID.json`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use message::{Id, Octets};

use super::Spool;
use crate::admin::Filter;
use crate::content::Content;
use crate::error::Error;
use crate::message::Message;

/// Writes the messages that match into the folder `to`, which is made if absent: the content octet for octet, and all that
/// [`import`](super::import) needs. Durable when it returns; the spool stays as it is. An existing file is never replaced.
/// `progress` hears how many of how many messages were looked at.
pub fn export(
    directory: &Path,
    filter: &Filter,
    now: SystemTime,
    to: &Path,
    mut progress: impl FnMut(usize, usize),
) -> Result<Exported, Error> {
    let spool = Spool::open(directory)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(to)
        .map_err(Error::disk("make", to))?;
    let mut exported = Exported::default();
    let ids = spool.ids();
    let all = ids.len();
    for (number, id) in ids.into_iter().enumerate() {
        progress(number, all);
        let message = match spool.read(id) {
            Ok(message) => message,
            Err(error) => {
                exported.damaged.push((id, error.to_string()));
                continue;
            }
        };
        if !filter.matches(&message, now) {
            continue;
        }
        match spool.verified(&message) {
            Ok(content) => {
                write(to, &message, &content)?;
                exported.messages.push(id);
            }
            Err(error) => exported.damaged.push((id, error.to_string())),
        }
        if filter.limit.is_some_and(|limit| exported.messages.len() >= limit) {
            break;
        }
    }
    File::open(to).and_then(|folder| folder.sync_all()).map_err(Error::disk("flush", to))?;
    Ok(exported)
}

/// What was written, and what could not be.
#[derive(Clone, Debug, Default)]
pub struct Exported {
    /// Written.
    pub messages: Vec<Id>,
    /// Not written, and why.
    pub damaged: Vec<(Id, String)>,
}

fn write(to: &Path, message: &Message, content: &Content) -> Result<(), Error> {
    let eml = to.join(format!("{}.eml", message.id));
    let copied = create(&eml).and_then(|mut file| {
        let mut buffer = vec![0; COPY];
        let mut offset = 0;
        while offset < content.len() {
            let count = content.read_at(offset, &mut buffer)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.write_all(&buffer[..count])?;
            offset += count as u64;
        }
        file.sync_all()
    });
    copied.map_err(Error::disk("write", &eml))?;
    // The envelope last: with it the message is whole.
    let json = to.join(format!("{}.json", message.id));
    let text = serde_json::to_vec_pretty(message).expect("a message is JSON");
    let written = create(&json).and_then(|mut file| {
        file.write_all(&text)?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    written.map_err(Error::disk("write", &json))
}

/// Mail is private.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

const COPY: usize = 256 << 10;
