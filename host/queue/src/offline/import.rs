//! Puts files into a spool: what [`export`](super::export) wrote, or plain messages with an envelope from the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use message::Id;
use serde_json::{Value, json};
use smtp::{ForwardPath, ReversePath};

use crate::config::Config;
use crate::error::Error;
use crate::message::{Message, RecipientState};
use crate::queue::Queue;
use crate::store::parse_message;

/// Where a plain message comes from and goes to.
#[derive(Clone, Debug)]
pub struct PlainEnvelope {
    /// Its reverse-path.
    pub reverse_path: ReversePath,
    /// Its forward-paths: at least one.
    pub forward_paths: Vec<ForwardPath>,
}

/// Why a file was not imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A file could not be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no envelope for it.
    #[error(
        "{path} has no envelope: put a .json with reverse_path and recipients beside it, or give --from and --to",
        path = path.display()
    )]
    NoEnvelope {
        /// The message.
        path: PathBuf,
    },
    /// Its envelope says nothing that can be used.
    #[error("{path}: {what}", path = path.display())]
    Envelope {
        /// The envelope.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The spool did not take it.
    #[error(transparent)]
    Spool(#[from] Error),
}

/// Puts messages into the spool, each under a new id; gives the file and the id of each that was taken, durably, and the
/// error that ended it, if one did. `paths` are `.eml` files, or folders of them. A message with an envelope of
/// [`export`](super::export) beside it goes on where it was: its recipients, attempts, waiting times and holds; `plain` is
/// for all others. Without a server: it has the spool meanwhile. `progress` hears how many of how many files were taken.
pub async fn import(
    config: Config,
    paths: &[PathBuf],
    plain: Option<&PlainEnvelope>,
    now: SystemTime,
    progress: impl FnMut(usize, usize),
) -> (Vec<(PathBuf, Id)>, Result<(), ImportError>) {
    let mut taken = Vec::new();
    let result = import_all(config, paths, plain, now, &mut taken, progress).await;
    (taken, result)
}

async fn import_all(
    config: Config,
    paths: &[PathBuf],
    plain: Option<&PlainEnvelope>,
    now: SystemTime,
    taken: &mut Vec<(PathBuf, Id)>,
    mut progress: impl FnMut(usize, usize),
) -> Result<(), ImportError> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(messages_at(path)?);
    }
    let (queue, _) = Queue::open(config).await?;
    let mut result = Ok(());
    let all = files.len();
    for (number, path) in (first_number(now)..).zip(files) {
        progress(taken.len(), all);
        // Nobody else makes ids for this spool now; within a millisecond the number tells them apart.
        let id = Id::new(now, number);
        match import_one(&queue, id, &path, plain, now).await {
            Ok(()) => taken.push((path, id)),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    queue.shutdown().await;
    result
}

async fn import_one(
    queue: &Queue,
    id: Id,
    path: &Path,
    plain: Option<&PlainEnvelope>,
    now: SystemTime,
) -> Result<(), ImportError> {
    let content = read(path)?;
    let beside = path.with_extension("json");
    let (message, content) = if beside.exists() {
        (
            from_envelope(&read(&beside)?, id, now)
                .map_err(|what| ImportError::Envelope { path: beside, what })?,
            content,
        )
    } else if let Some(plain) = plain {
        let message = from_plain(plain, id, now);
        let message =
            message.map_err(|what| ImportError::Envelope { path: path.to_owned(), what })?;
        (message, whole(&content))
    } else {
        return Err(ImportError::NoEnvelope { path: path.to_owned() });
    };
    let head = head_octets(&content);
    let content = Bytes::from(content);
    Ok(queue.restore(message, content.slice(..head), content.slice(head..)).await?)
}

/// The `.eml` files of a folder in the order of their names, or the file itself.
fn messages_at(path: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let error = |source| ImportError::Read { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(error)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(error)? {
        let file = entry.map_err(error)?.path();
        if file.extension().is_some_and(|extension| extension == "eml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, ImportError> {
    fs::read(path).map_err(|source| ImportError::Read { path: path.to_owned(), source })
}

/// Reads an envelope; what is missing of it is as in a message that was received a moment ago.
fn from_envelope(text: &[u8], id: Id, now: SystemTime) -> Result<Message, String> {
    let mut envelope: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let millis = millis(now);
    let fields = envelope.as_object_mut().ok_or("not an object")?;
    fields.insert("id".to_owned(), json!(id.to_string()));
    fields.insert("content".to_owned(), json!({ "head": 0, "body": 0, "crc": 0 }));
    fields.insert("size".to_owned(), json!(0));
    fields.insert("revision".to_owned(), json!(0));
    fields.entry("received").or_insert_with(|| json!(millis));
    // A report that was told is not told by its import again.
    fields.remove("tells");
    let recipients = fields.get_mut("recipients").and_then(Value::as_array_mut);
    for recipient in recipients.ok_or("no recipients")? {
        let recipient = recipient.as_object_mut().ok_or("a recipient is not an object")?;
        let path = recipient.get("path").cloned().ok_or("a recipient has no path")?;
        recipient.entry("original").or_insert(path);
        recipient.entry("state").or_insert_with(|| json!("pending"));
        recipient.entry("due").or_insert_with(|| json!(millis));
    }
    let text = envelope.to_string();
    // For the words of its error.
    serde_json::from_str::<Message>(&text).map_err(|error| error.to_string())?;
    let message = parse_message(text.as_bytes()).ok_or("not an envelope")?;
    if message.is_done() {
        return Err("every recipient is finished".to_owned());
    }
    Ok(message)
}

fn from_plain(plain: &PlainEnvelope, id: Id, now: SystemTime) -> Result<Message, String> {
    let recipients: Vec<Value> =
        plain.forward_paths.iter().map(|path| json!({ "path": path.to_string() })).collect();
    if recipients.is_empty() {
        return Err("no recipients: give --to".to_owned());
    }
    let envelope = json!({
        "reverse_path": plain.reverse_path,
        "recipients": recipients,
        "origin": "import",
    });
    let message = from_envelope(envelope.to_string().as_bytes(), id, now)?;
    debug_assert!(message.recipients.iter().all(|r| r.state == RecipientState::Pending));
    Ok(message)
}

/// A file of this system as mail: it ends with a line, and its header with an empty one.
fn whole(content: &[u8]) -> Vec<u8> {
    let mut octets = message::with_crlf(content);
    if !octets.is_empty() && !octets.ends_with(b"\r\n") {
        octets.extend_from_slice(b"\r\n");
    }
    if head_octets(&octets) == octets.len() && !octets.ends_with(b"\r\n\r\n") {
        // A header block and nothing else: it ends with an empty line all the same.
        octets.extend_from_slice(b"\r\n");
    }
    octets
}

/// Where the body begins: after the first empty line.
fn head_octets(content: &[u8]) -> usize {
    if content.starts_with(b"\r\n") {
        return 2;
    }
    memchr::memmem::find(content, b"\r\n\r\n").map_or(content.len(), |end| end + 4)
}

fn millis(now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Somewhere in the numbers, so that two imports within a millisecond differ.
fn first_number(now: SystemTime) -> u32 {
    let nanos = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    crc32c::crc32c_append(std::process::id(), &nanos.to_be_bytes()) >> 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_messages_get_the_line_ends_of_mail() {
        let check = |from: &str, to: &str, head: usize| {
            let found = whole(from.as_bytes());
            assert_eq!(String::from_utf8_lossy(&found), to, "{from:?}");
            assert_eq!(head_octets(&found), head, "{from:?}");
        };
        check("A: b\n\nc\n", "A: b\r\n\r\nc\r\n", 8);
        check("A: b\r\n\r\nc", "A: b\r\n\r\nc\r\n", 8);
        check("A: b\n", "A: b\r\n\r\n", 8);
        check("\nc\n", "\r\nc\r\n", 2);
        check("", "\r\n", 2);
    }

    #[test]
    fn an_envelope_needs_a_sender_and_somebody_who_waits() {
        let id: Id = "01HZZZZZZZ0000AB".parse().expect("an id");
        let check = |text: &str, wrong: Option<&str>| {
            let found = from_envelope(text.as_bytes(), id, SystemTime::UNIX_EPOCH);
            match (found, wrong) {
                (Ok(message), None) => assert_eq!(message.id, id, "{text}"),
                (Err(found), Some(wrong)) => assert!(found.contains(wrong), "{text}: {found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        };
        check(r#"{"reverse_path":"a@b.test","recipients":[{"path":"c@d.test"}]}"#, None);
        check(r#"{"reverse_path":"","recipients":[{"path":"c@d.test"}]}"#, None);
        check(r#"{"recipients":[{"path":"c@d.test"}]}"#, Some("reverse_path"));
        check(r#"{"reverse_path":"a@b.test"}"#, Some("no recipients"));
        check(r#"{"reverse_path":"a@b.test","recipients":[{"path":"not one"}]}"#, Some(""));
        check(
            r#"{"reverse_path":"a@b.test","recipients":[{"path":"c@d.test","state":"delivered"}]}"#,
            Some("finished"),
        );
        check("nonsense", Some("expected"));
    }
}
