//! From a draft to a record.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use message::{Body, Id};
use tokio::sync::oneshot;

use crate::commit::Accepting;
use crate::disk::Disk;
use crate::draft::{Draft, DraftContent, LargeFile};
use crate::error::Error;
use crate::fate::LONGEST_WAIT;
use crate::message::{
    Accept, Message, QueuedRecipient, Receipt, RecipientState, StoredContent, Tells,
};
use crate::record::{Kind, Record};
use crate::store::to_json;

/// Everything that can be done before the log is written. A large body is durable in its own file then.
pub(super) async fn prepare(
    draft: Draft,
    accept: Accept,
    tells: Option<Tells>,
    large_octets: u64,
    now: SystemTime,
    reply: oneshot::Sender<Result<Receipt, Error>>,
) -> Result<Accepting, Error> {
    let (id, disk, received) = draft.into_parts();
    let stored = store(&disk, id, received, &accept.head, &accept.body, large_octets).await?;
    let message = Box::new(queued(id, accept, tells, stored.content.clone(), now));
    let json = to_json(&message);
    let data_crc = stored.content.crc;
    let record = Record { kind: Kind::Accept, id, json, data: stored.data, data_crc };
    Ok(Accepting { record, message, large: stored.large, reply })
}

/// The same for a message that was in a queue before: all of it stays but its content, which is that of the draft.
pub(super) async fn prepare_again(
    draft: Draft,
    mut message: Message,
    head: Bytes,
    large_octets: u64,
    reply: oneshot::Sender<Result<Receipt, Error>>,
) -> Result<Accepting, Error> {
    let (id, disk, received) = draft.into_parts();
    let body = Body::Received { offset: 0 };
    let stored = store(&disk, id, received, &head, &body, large_octets).await?;
    message.size = stored.content.head + stored.content.body;
    message.content = stored.content.clone();
    let json = to_json(&message);
    let data_crc = stored.content.crc;
    let record = Record { kind: Kind::Accept, id, json, data: stored.data, data_crc };
    Ok(Accepting { record, message: Box::new(message), large: stored.large, reply })
}

/// What of a draft goes where.
struct Stored {
    content: StoredContent,
    data: Vec<Bytes>,
    large: Option<LargeFile>,
}

/// Puts the content where it will stay, as far as that is not the log.
async fn store(
    disk: &Arc<dyn Disk>,
    id: Id,
    received: DraftContent,
    head: &Bytes,
    body: &Body,
    large_octets: u64,
) -> Result<Stored, Error> {
    match (body, received) {
        (_, DraftContent::Broken) => {
            Err(Error::NotDurable("an earlier write of the draft failed".to_owned()))
        }
        (Body::Received { offset }, DraftContent::Memory(octets)) => {
            let offset = usize::try_from(*offset).unwrap_or(usize::MAX).min(octets.len());
            // Nobody else has it in most cases: then nothing is copied.
            let octets = Arc::try_unwrap(octets).unwrap_or_else(|shared| Vec::clone(&shared));
            Ok(in_log(head, Bytes::from(octets).slice(offset..)))
        }
        (Body::Received { offset }, DraftContent::Large { file, len }) => {
            Ok(in_file(head, file.sync().await?, (*offset).min(len), len))
        }
        (Body::Replaced(body), received) => {
            // The received content is not needed any more; its file must be gone before another takes its name.
            drop(received);
            if body.len() as u64 <= large_octets {
                return Ok(in_log(head, body.clone()));
            }
            let file = LargeFile::create(disk, id, body.clone()).await?.sync().await?;
            Ok(in_file(head, file, 0, body.len() as u64))
        }
    }
}

fn in_log(head: &Bytes, body: Bytes) -> Stored {
    let content = StoredContent {
        head: head.len() as u64,
        body: body.len() as u64,
        large: None,
        large_crc: None,
        crc: crc32c::crc32c_append(crc32c::crc32c(head), &body),
    };
    Stored { content, data: vec![head.clone(), body], large: None }
}

/// `offset` to `end` of the file is the body.
fn in_file(head: &Bytes, file: LargeFile, offset: u64, end: u64) -> Stored {
    let content = StoredContent {
        head: head.len() as u64,
        body: end - offset,
        large: Some(offset),
        large_crc: Some(file.crc()),
        crc: crc32c::crc32c(head),
    };
    Stored { content, data: vec![head.clone()], large: Some(file) }
}

fn queued(
    id: Id,
    mut accept: Accept,
    tells: Option<Tells>,
    content: StoredContent,
    now: SystemTime,
) -> Message {
    let due = accept.not_before.map_or(now, |time| time.clamp(now, now + LONGEST_WAIT));
    let embargo = due.duration_since(now).unwrap_or_default();
    let recipients =
        accept.envelope.recipients.into_iter().enumerate().map(|(index, recipient)| {
            QueuedRecipient {
                index,
                original: accept.originals.remove(&index).unwrap_or_else(|| recipient.path.clone()),
                path: recipient.path,
                parameters: recipient.parameters,
                state: match accept.holds.remove(&index) {
                    Some(name) => RecipientState::Held(name),
                    None => RecipientState::Pending,
                },
                refusal: accept.refusals.remove(&index),
                tls: accept.tls.remove(&index),
                attempts: 0,
                last: None,
                last_peer: None,
                last_attempt: None,
                hint: accept.routes.remove(&index),
                destination: None,
                due,
                wait: embargo,
                embargo,
                waited: Duration::ZERO,
                owed: None,
                delay_told: false,
                depth: 0,
            }
        });
    Message {
        id,
        reverse_path: accept.envelope.reverse_path,
        parameters: accept.envelope.parameters,
        recipients: recipients.collect(),
        received: accept.received,
        origin: accept.origin,
        session: accept.session,
        peer: accept.peer,
        user: accept.user,
        notes: accept.notes,
        tags: accept.tags,
        priority: accept.priority,
        not_before: accept.not_before,
        lifetime: accept.lifetime,
        notice_of: accept.notice_of,
        hold: accept.hold,
        size: content.head + content.body,
        expires: now,
        revision: 0,
        tells,
        content,
        asked: Vec::new(),
    }
}
