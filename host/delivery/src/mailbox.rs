//! The stage `deliver`: plugins are asked about each copy before it is put into a mailbox, here or behind LMTP.

use std::path::Path;
use std::sync::Arc;

use message::{Body, Edit, Header, Id, Octets};
use policy::{ContentView, DeliverVerdict, Place, Queued, Stage};
use queue::{Accept, Delivery, Message, Outcome, QueuedRecipient};
use smtp::{Envelope, ForwardPath, Mailbox, RcptParameters, Recipient, Reply, ReversePath};

use crate::course::Outcomes;
use crate::{House, clock, content::read, maildir::OneCopy, report, router};

/// Puts a copy for each recipient where the plugins want it.
pub(crate) async fn deliver(
    house: &House,
    path: &Path,
    delivery: &Delivery,
    content: &Arc<queue::Content>,
) -> Outcomes {
    let local = Arc::clone(&house.routing().local);
    let Some(mut desk) = Desk::open(house, delivery, content).await else {
        return house.maildirs.deliver(path, delivery, content, &local).await;
    };
    let mut outcomes = Vec::with_capacity(delivery.recipients.len());
    for &index in &delivery.recipients {
        let copy = OneCopy { path, delivery, index, content, local: &local };
        let outcome = match desk.decide(index).await {
            Decided::Put(place) => house.maildirs.deliver_one(&copy, &place).await,
            Decided::Otherwise(outcome) => outcome,
        };
        outcomes.push((index, outcome));
    }
    outcomes
}

/// The same before copies go to a mailbox store by LMTP: what was decided, and whose copies are to go there.
pub(crate) async fn judge(
    house: &House,
    delivery: &Delivery,
    content: &Arc<queue::Content>,
) -> (Outcomes, Vec<usize>) {
    let Some(mut desk) = Desk::open(house, delivery, content).await else {
        return (Outcomes::new(), delivery.recipients.clone());
    };
    let (mut outcomes, mut recipients) = (Outcomes::new(), Vec::new());
    for &index in &delivery.recipients {
        match desk.decide(index).await {
            Decided::Put(place) => {
                if place != INBOX {
                    // RFC 2033 has no word for it: the store files by rules of its own.
                    tracing::warn!(message = %delivery.message.id, folder = place.folder.join("/"), "a plugin names a place in a mailbox behind LMTP; the copy goes to the inbox");
                }
                recipients.push(index);
            }
            Decided::Otherwise(outcome) => outcomes.push((index, outcome)),
        }
    }
    (outcomes, recipients)
}

/// The plugins that are asked about the copies of one delivery.
struct Desk<'a> {
    house: &'a House,
    delivery: &'a Delivery,
    asked: Queued,
    view: Arc<ContentView>,
}

/// What becomes of a copy.
enum Decided {
    Put(Place),
    Otherwise(Outcome),
}

impl<'a> Desk<'a> {
    /// None if nobody wants to be asked, or the content cannot be read: the delivery itself meets the same fault, and has
    /// words for it.
    async fn open(
        house: &'a House,
        delivery: &'a Delivery,
        content: &Arc<queue::Content>,
    ) -> Option<Self> {
        let chain = house.rooms.policy.as_ref()?.current();
        let asked = router::ask_at(&chain, Stage::Deliver, &delivery.message)?;
        let header = header(delivery, content).await.ok()?;
        let view = Arc::new(ContentView::new(header, Arc::clone(content) as Arc<dyn Octets>));
        Some(Self { house, delivery, asked, view })
    }

    async fn decide(&mut self, index: usize) -> Decided {
        let recipient = &self.delivery.message.recipients[index];
        Decided::Otherwise(match self.ask(recipient).await {
            DeliverVerdict::Next => return Decided::Put(INBOX),
            DeliverVerdict::File(place) => return Decided::Put(place),
            DeliverVerdict::Redirect(to) => {
                redirect(self.house, self.delivery, recipient, &self.view, to).await
            }
            DeliverVerdict::Fail(reply) => Outcome::Failed { reply, peer: None, quiet: false },
            DeliverVerdict::Defer { wait, reply } => {
                Outcome::Deferred { reply, peer: None, retry_in: Some(wait) }
            }
            DeliverVerdict::Discard => Outcome::Discard,
            DeliverVerdict::Hold(name) => Outcome::Hold { name },
        })
    }

    async fn ask(&mut self, recipient: &QueuedRecipient) -> DeliverVerdict {
        let (verdict, trace) = self.asked.deliver(recipient.index, Arc::clone(&self.view)).await;
        if let Some(journal) = &self.house.rooms.journal
            && !trace.is_empty()
        {
            let fate = match &verdict {
                DeliverVerdict::Next => "next",
                DeliverVerdict::File(_) => "filed",
                DeliverVerdict::Redirect(_) => "redirected",
                DeliverVerdict::Fail(_) => "failed",
                DeliverVerdict::Defer { .. } => "deferred",
                DeliverVerdict::Discard => "discarded",
                DeliverVerdict::Hold(_) => "held",
            };
            let note = report::Note { kind: "deliver", fate, reply: None, peer: None };
            journal.record(report::entry(&self.delivery.message, &[recipient], note, trace));
        }
        verdict
    }
}

const INBOX: Place = Place { folder: Vec::new(), is_seen: false, is_flagged: false };

/// The header of a message that is to be delivered.
pub(crate) async fn header(
    delivery: &Delivery,
    content: &Arc<queue::Content>,
) -> std::io::Result<Header> {
    let length = usize::try_from(delivery.message.head_octets()).unwrap_or(usize::MAX);
    let content = Arc::clone(content);
    let head = tokio::task::spawn_blocking(move || read(&*content, 0, length)).await;
    Ok(Header::parse(head.map_err(std::io::Error::other)??))
}

/// RFC 5321 §3.9.2: the same message, on to others. It is in the queue before this copy counts as delivered.
async fn redirect(
    house: &House,
    delivery: &Delivery,
    recipient: &QueuedRecipient,
    view: &ContentView,
    to: Vec<Mailbox>,
) -> Outcome {
    let mark = recipient.path.to_string();
    // Who redirects to himself, also by way of others, finds his own mark.
    if has_mark(&view.header, &mark) {
        let reply = Reply::new(554, "5.4.6 Mail for this mailbox goes in a circle");
        return Outcome::Failed { reply, peer: None, quiet: false };
    }
    let onward = Onward {
        reverse_path: delivery.message.reverse_path.clone(),
        edits: Edit::prepend("Delivered-To", &mark).into_iter().collect(),
        recipients: to,
        original: Some(recipient.path.clone()),
    };
    match send_on(house, &delivery.message, view, onward).await {
        Ok(id) => {
            let reply = Reply::new(250, format!("2.1.5 Redirected as {id}"));
            Outcome::Delivered { reply, peer: None }
        }
        Err(error) => {
            tracing::error!(message = %delivery.message.id, %error, "a message cannot be redirected at the moment");
            let reply = Reply::new(451, "4.3.0 The message cannot be redirected at the moment");
            Outcome::Deferred { reply, peer: None, retry_in: None }
        }
    }
}

/// Whether a message has been at this address before (RFC 5321 §6.3): what is sent on bears a mark.
pub(crate) fn has_been_at(header: &Header, address: &Mailbox) -> bool {
    has_mark(header, &address.to_string())
}

fn has_mark(header: &Header, mark: &str) -> bool {
    header.get_all("Delivered-To").any(|field| field.value().eq_ignore_ascii_case(mark))
}

/// How a message goes on to others.
pub(crate) struct Onward {
    pub(crate) reverse_path: ReversePath,
    /// What is changed in its header.
    pub(crate) edits: Vec<Edit>,
    pub(crate) recipients: Vec<Mailbox>,
    /// Whose copy it was; what a report names.
    pub(crate) original: Option<ForwardPath>,
}

/// Puts the same content into the queue for others.
pub(crate) async fn send_on(
    house: &House,
    message: &Message,
    view: &ContentView,
    onward: Onward,
) -> Result<Id, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let queue = &house.rooms.queue;
    let id = Id::new(clock::now(), u32::try_from(clock::random() >> 32).unwrap_or_default());
    let mut draft = queue.draft(id).map_err(|error| text(&error))?;
    let mut offset = 0;
    while offset < view.octets.len() {
        let octets = Arc::clone(&view.octets);
        let piece = tokio::task::spawn_blocking(move || {
            read(octets.as_ref(), offset, crate::content::PIECE)
        });
        let piece = piece.await.map_err(|error| text(&error))?.map_err(|error| text(&error))?;
        offset += piece.len() as u64;
        draft.write(piece).await.map_err(|error| text(&error))?;
    }
    let composed = message::compose(&view.header, &onward.edits);
    let recipient = |mailbox| Recipient {
        path: ForwardPath::Mailbox(mailbox),
        parameters: RcptParameters::default(),
    };
    let originals = (0..onward.recipients.len()).zip(onward.original.into_iter().cycle());
    let originals = originals.collect();
    let envelope = Envelope {
        reverse_path: onward.reverse_path,
        parameters: message.parameters.clone(),
        recipients: onward.recipients.into_iter().map(recipient).collect(),
    };
    let body = match composed.body {
        Body::Received { offset } => Body::Received { offset },
        replaced @ Body::Replaced(_) => replaced,
    };
    let accept = Accept {
        originals,
        origin: message.origin.clone(),
        notes: message.notes.clone(),
        tags: message.tags.clone(),
        priority: message.priority,
        session: message.session.clone(),
        peer: message.peer,
        ..Accept::new(envelope, composed.head, body, clock::now())
    };
    let receipt = queue.commit(draft, accept).await.map_err(|error| text(&error))?;
    Ok(receipt.id())
}
