//! Notice → report: what a sender has to be told becomes a message with a null reverse-path.
//!
//! The queue decides who is told what (RFC 3461 §4.1), and never gives out a notice about a message
//! with a null reverse-path; the room `message` writes the report (RFC 3464). Here the two meet.

use std::{io, sync::Arc};

use bytes::Bytes;
use message::{
    Header, Id, Octets,
    report::{Action, Report, ReportedRecipient, Returned},
};
use metrics::counter;
use policy::{NoticeVerdict, ReturnedPart};
use queue::{Accept, Notice, NoticeKind, QueuedRecipient, Receipt, RecipientState};
use smtp::{
    BodyType, EnhancedStatus, Envelope, ForwardPath, MailParameters, Mailbox, Notify,
    OriginalRecipient, RcptParameters, Recipient, Ret, ReversePath,
};
use tokio::sync::watch;

use crate::notice::{self, Passed};
use crate::{House, clock, content::read, metric, report};

/// Takes notices from the queue until the room stops.
pub(crate) async fn run(house: Arc<House>, mut stopped: watch::Receiver<bool>) {
    loop {
        let notice = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => return,
            notice = house.rooms.queue.next_notice() => notice,
        };
        let Some(notice) = notice else { return };
        let id = notice.message.id;
        if let Err(error) = tell(&house, notice).await {
            // The notice was dropped, so it comes again.
            tracing::error!(message = %id, %error, "a sender could not be told; trying again");
        }
    }
}

/// Why a sender could not be told.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the content cannot be read")]
    Read(#[source] io::Error),
    #[error(transparent)]
    Queue(#[from] queue::Error),
}

async fn tell(house: &House, notice: Notice) -> Result<(), Error> {
    let ReversePath::Mailbox(to) = notice.message.reverse_path.clone() else {
        // RFC 5321 §4.5.5: nobody is told about a notification.
        return Ok(notice.dropped().await?);
    };
    let (mut to, mut words, mut part) = (to, None, None);
    match notice::judge(house, &notice, kind_name(notice.kind)).await {
        NoticeVerdict::Next => {}
        NoticeVerdict::Suppress => return Ok(notice.dropped().await?),
        NoticeVerdict::Send { to: other, returned, text } => {
            to = other.unwrap_or(to);
            (words, part) = (text, returned);
        }
    }
    let returned = match part {
        Some(ReturnedPart::Nothing) => Returned::Headers(Bytes::new()),
        part => returned(house, &notice, part).await?,
    };
    let id = Id::new(clock::now(), fold(clock::random()));
    let text = write(house, &notice, id, &to, returned, words.as_deref());
    let Some(receipt) = commit(house, &notice, id, to, text).await? else {
        return Ok(notice.dropped().await?);
    };
    log(house, &notice, &receipt);
    Ok(notice.done(&receipt).await?)
}

/// What of the message goes back with the report.
async fn returned(
    house: &House,
    notice: &Notice,
    wanted: Option<ReturnedPart>,
) -> Result<Returned, Error> {
    let message = &notice.message;
    let limits = &house.config.limits;
    // RFC 3461 §4.3: RET is about failures; every other report returns the header section only.
    let asked = match wanted {
        Some(part) => part == ReturnedPart::Full,
        None => notice.kind == NoticeKind::Failure && message.parameters.ret == Some(Ret::Full),
    };
    let full = asked && message.size <= limits.returned;
    let octets =
        if full { message.size } else { message.head_octets().min(limits.returned_header) };
    let content = notice.content()?;
    let length = usize::try_from(octets.min(content.len())).unwrap_or(usize::MAX);
    let read = tokio::task::spawn_blocking(move || read(&content, 0, length)).await;
    let octets = read.map_err(io::Error::other).flatten().map_err(Error::Read)?;
    Ok(if full { Returned::Full(octets) } else { Returned::Headers(octets) })
}

fn write(
    house: &House,
    notice: &Notice,
    id: Id,
    to: &Mailbox,
    returned: Returned,
    words: Option<&str>,
) -> Bytes {
    let message = &notice.message;
    let recipients: Vec<ReportedRecipient> =
        notice.recipients.iter().map(|recipient| reported(notice, recipient)).collect();
    let international = message.parameters.smtputf8
        || to.needs_smtputf8()
        || notice.recipients.iter().any(|recipient| !recipient.path.to_string().is_ascii());
    let report = Report {
        id,
        reporting_mta: house.config.hostname.clone(),
        to: to.clone(),
        envid: message.parameters.envid.clone(),
        arrival: message.received,
        recipients,
        returned,
        smtputf8: international,
        date: clock::now(),
        explanation: match words {
            Some(words) => format!("{words}\n\n{}", explanation(notice)),
            None => explanation(notice),
        },
    };
    report.write().into()
}

/// One recipient in the words of RFC 3464 §2.3.
fn reported(notice: &Notice, recipient: &QueuedRecipient) -> ReportedRecipient {
    let (action, class) = match (&recipient.state, notice.kind) {
        (RecipientState::Delivered, _) => (Action::Delivered, 2),
        (RecipientState::Relayed { .. }, _) => (Action::Relayed, 2),
        (RecipientState::Expanded, _) => (Action::Expanded, 2),
        (RecipientState::Failed | RecipientState::Expired | RecipientState::Discarded, _) => {
            (Action::Failed, 5)
        }
        (RecipientState::Pending | RecipientState::Held(_), _) => (Action::Delayed, 4),
    };
    let said = recipient.last.as_ref().and_then(smtp::Reply::enhanced);
    let status = if recipient.state == RecipientState::Expired {
        // RFC 3463 §3.5: delivery time expired.
        EnhancedStatus::new(4, 4, 7)
    } else {
        // RFC 3464 §2.3.4: the status has to be of the class that the action says.
        said.filter(|status| status.class == class).unwrap_or(EnhancedStatus::new(class, 0, 0))
    };
    let is_delay = action == Action::Delayed;
    ReportedRecipient {
        final_recipient: recipient.path.clone(),
        original: original(recipient),
        action,
        status,
        // RFC 3464 §2.3.6: the words of another host; our own stand in the explanation.
        diagnostic: recipient.last.clone().filter(|_| recipient.last_peer.is_some()),
        remote_mta: recipient.last_peer.as_deref().map(host_name),
        will_retry_until: is_delay.then_some(notice.message.expires),
        last_attempt: recipient.last_attempt,
    }
}

/// RFC 3464 §2.3.1: ORCPT as it came; without it, the address that the client gave if it is another
/// one by now.
fn original(recipient: &QueuedRecipient) -> Option<OriginalRecipient> {
    let given = || {
        let address = recipient.original.to_string();
        let address_type = if address.is_ascii() { "rfc822" } else { "utf-8" };
        (recipient.original != recipient.path)
            .then(|| OriginalRecipient { address_type: address_type.to_owned(), address })
    };
    recipient.parameters.orcpt.clone().or_else(given)
}

/// The name out of `mx.example.org [192.0.2.1]:25`.
fn host_name(peer: &str) -> String {
    peer.split_ascii_whitespace().next().unwrap_or(peer).to_owned()
}

/// What a person reads first. The report itself lists the recipients and what other hosts said about each; our own words
/// about one stand here.
fn explanation(notice: &Notice) -> String {
    let news = match notice.kind {
        NoticeKind::Failure => {
            "Your message could not be delivered to the recipients below. It will not be tried again."
        }
        NoticeKind::Delay => {
            "Your message has not been delivered yet to the recipients below. It will be tried again; \
             you need not send it again."
        }
        NoticeKind::Success => {
            "Your message was delivered to the recipients below, or passed on for them."
        }
    };
    let expired = notice.recipients.iter().any(|one| one.state == RecipientState::Expired);
    let tried = if expired { "\nIt was tried for as long as this server tries." } else { "" };
    let mut text = format!("{news}{tried}\n");
    for recipient in notice.recipients.iter().filter(|one| one.last_peer.is_none()) {
        if let Some(reply) = &recipient.last {
            text.push_str(&format!("\nAbout <{}>: {reply}\n", recipient.path));
        }
    }
    text
}

/// Puts the report into the queue, for the sender of the message; none if policy forgets it.
async fn commit(
    house: &House,
    notice: &Notice,
    id: Id,
    to: Mailbox,
    text: Bytes,
) -> Result<Option<Receipt>, Error> {
    let queue = &house.rooms.queue;
    let header = Header::parse(text.clone());
    let parameters = MailParameters {
        smtputf8: to.needs_smtputf8() || !header.raw().is_ascii(),
        body: if text.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime },
        ..MailParameters::default()
    };
    let recipient = Recipient {
        path: ForwardPath::Mailbox(to),
        // RFC 3464 §2: reports about reports are never asked for.
        parameters: RcptParameters { notify: Some(Notify::never()), orcpt: None },
    };
    let passed = notice::pass(house, id, parameters, recipient, &text).await;
    let Passed::Send { edits, transaction, hold } = passed else { return Ok(None) };
    let policy::Transaction { parameters, recipients, notes, tags, trace, .. } = *transaction;
    let mut draft = queue.draft(id)?;
    draft.write(text.clone()).await?;
    let composed = message::compose(&header, &edits);
    let told = recipients.iter().map(|recipient| recipient.path.to_string()).collect();
    let envelope = Envelope {
        // RFC 5321 §6.1: a notification has nobody to be told about it, whatever a plugin says.
        reverse_path: ReversePath::Null,
        parameters,
        recipients: recipients
            .into_iter()
            .map(|one| Recipient { path: one.path, parameters: one.parameters })
            .collect(),
    };
    let accept = Accept {
        origin: "notice".to_owned(),
        notice_of: Some(notice.message.id),
        hold,
        notes,
        tags,
        ..Accept::new(envelope, composed.head, composed.body, clock::now())
    };
    let receipt = queue.commit(draft, accept).await?;
    if let Some(journal) = house.rooms.journal.as_ref().filter(|_| !trace.is_empty()) {
        let note = report::Note { kind: "transaction", fate: "received", reply: None, peer: None };
        let mut entry = report::entry(&notice.message, &[], note, trace);
        (entry.id, entry.recipients) = (id, told);
        entry.reverse_path = Some(String::new());
        journal.record(entry);
    }
    Ok(Some(receipt))
}

fn log(house: &House, notice: &Notice, receipt: &Receipt) {
    let kind = kind_name(notice.kind);
    counter!(metric::NOTICES, "kind" => kind).increment(1);
    tracing::info!(
        target: "mail",
        event = "received",
        message = %receipt.id(),
        reverse_path = "",
        forward_path = %notice.message.reverse_path,
        stage = "notice",
        of = %notice.message.id,
        kind,
    );
    if let Some(journal) = &house.rooms.journal {
        let told: Vec<&QueuedRecipient> = notice.recipients.iter().collect();
        let note = report::Note { kind: "notice", fate: kind, reply: None, peer: None };
        let mut entry = report::entry(&notice.message, &told, note, Vec::new());
        entry.reply = Some(format!("the sender was told by {}", receipt.id()));
        journal.record(entry);
    }
}

const fn kind_name(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::Failure => "failure",
        NoticeKind::Delay => "delay",
        NoticeKind::Success => "success",
    }
}

/// The random half of an id.
fn fold(random: u64) -> u32 {
    u32::try_from(random >> 32).unwrap_or_default()
}
