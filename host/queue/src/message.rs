//! A message at rest, and what is said about it.

mod epoch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use message::{Body, Id};
use serde::{Deserialize, Serialize};
use smtp::{
    Envelope, ForwardPath, MailParameters, Mailbox, RcptParameters, Reply, ReversePath, Route,
    TlsDemand,
};

use crate::priority::Priority;

/// What is committed with a draft.
#[derive(Debug)]
pub struct Accept {
    /// The envelope, after all edits.
    pub envelope: Envelope,
    /// The header block as it will be sent, with the empty line that ends it.
    pub head: Bytes,
    /// What follows the head.
    pub body: Body,
    /// When it was received.
    pub received: SystemTime,
    /// Do not deliver: the name of the hold.
    pub hold: Option<String>,
    /// What plugins noted.
    pub notes: BTreeMap<String, String>,
    /// Routes that policy demands, by the recipient's position in the envelope.
    pub routes: BTreeMap<usize, Route>,
    /// What the client gave as forward-paths, by position in the envelope, where policy rewrote them.
    pub originals: BTreeMap<usize, ForwardPath>,
    /// Where it came from: "mx", "submission", "local", "notice"; compared by nobody but plugins and operators.
    pub origin: String,
    /// This is the report for a [`Notice`](crate::Notice) of that message. The notice counts as told from this commit on.
    pub notice_of: Option<Id>,
    /// The client's address.
    pub peer: Option<IpAddr>,
    /// The session that brought it, for the logs.
    pub session: String,
    /// Who had logged in. Limits per sender, and fairness among senders, go by this if it is there.
    pub user: Option<String>,
    /// Words that policy gave it, by which operators and policy find it again.
    pub tags: BTreeSet<String>,
    /// Before whom it goes.
    pub priority: Priority,
    /// No attempt before this. The wait until then is not counted as time in the queue.
    pub not_before: Option<SystemTime>,
    /// Given up after so long a wait, instead of what the schedule says.
    pub lifetime: Option<Duration>,
    /// Recipients that are held from the beginning, by position in the envelope, and the names of their holds.
    pub holds: BTreeMap<usize, String>,
    /// Recipients that policy refused after the client was told 250, by position in the envelope: they fail with this
    /// reply, and the sender is told.
    pub refusals: BTreeMap<usize, Reply>,
    /// What recipients demand of TLS, by position in the envelope.
    pub tls: BTreeMap<usize, TlsDemand>,
}

impl Accept {
    /// What every message has; the rest is empty.
    pub fn new(envelope: Envelope, head: Bytes, body: Body, received: SystemTime) -> Self {
        Self {
            envelope,
            head,
            body,
            received,
            hold: None,
            notes: BTreeMap::new(),
            routes: BTreeMap::new(),
            originals: BTreeMap::new(),
            origin: String::new(),
            notice_of: None,
            peer: None,
            session: String::new(),
            user: None,
            tags: BTreeSet::new(),
            priority: Priority::default(),
            not_before: None,
            lifetime: None,
            holds: BTreeMap::new(),
            refusals: BTreeMap::new(),
            tls: BTreeMap::new(),
        }
    }
}

/// The proof that a message is on stable storage. Only [`Queue::commit`](crate::Queue::commit) makes one.
#[derive(Debug)]
pub struct Receipt {
    pub(crate) id: Id,
}

impl Receipt {
    /// The message.
    pub fn id(&self) -> Id {
        self.id
    }
}

/// A message in the queue: everything but its content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Its name everywhere.
    pub id: Id,
    /// Who is told when it fails.
    pub reverse_path: ReversePath,
    /// Parameters of MAIL.
    #[serde(default, skip_serializing_if = "is_default")]
    pub parameters: MailParameters,
    /// All recipients, finished ones too; an index is a position here and never changes.
    pub recipients: Vec<QueuedRecipient>,
    /// When it was received.
    #[serde(with = "epoch")]
    pub received: SystemTime,
    /// Where it came from.
    #[serde(default)]
    pub origin: String,
    /// The session that brought it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub session: String,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    /// Who had logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What plugins noted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, String>,
    /// Words that policy or operators gave it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// Before whom it goes.
    #[serde(default, skip_serializing_if = "Priority::is_normal")]
    pub priority: Priority,
    /// Until when policy or an operator asked to wait. What counts is [`QueuedRecipient::due`]; this is for those who ask why.
    #[serde(default, with = "epoch::option", skip_serializing_if = "Option::is_none")]
    pub not_before: Option<SystemTime>,
    /// Given up after so long a wait, instead of what the schedule says.
    #[serde(default, with = "epoch::optional_millis", skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Duration>,
    /// Of which message this is a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice_of: Option<Id>,
    /// Nothing is delivered while this is set: the name of the hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// Octets of content: head and body.
    pub size: u64,
    /// When the last pending recipient will be given up if nothing gets better. An estimate: what counts is time spent
    /// waiting, so that a clock that jumps bounces nothing.
    #[serde(skip, default = "unix_epoch")]
    pub expires: SystemTime,
    /// Counts the changes of this message; on disk the highest one is true.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) revision: u64,
    /// In an ACCEPT record only: what counts as told from then on, because this is the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tells: Option<Tells>,
    /// How the content is stored.
    pub(crate) content: StoredContent,
    /// Which recipients are routed or delivered now.
    #[serde(skip)]
    pub(crate) asked: Vec<usize>,
}

impl Message {
    /// The recipients that are to be routed now, in order. [`Router::route`] answers one [`Routing`] for each.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = &QueuedRecipient> {
        self.asked.iter().map(|&index| &self.recipients[index])
    }

    /// Octets of the header block with the empty line.
    pub fn head_octets(&self) -> u64 {
        self.content.head
    }

    /// Sets what follows from a place in the list, after reading.
    pub(crate) fn number_recipients(&mut self) {
        for (index, recipient) in self.recipients.iter_mut().enumerate() {
            recipient.index = index;
        }
    }

    /// Marks as told what was owed; `false`: nothing was.
    pub(crate) fn tell(&mut self, told: &Tells) -> bool {
        let mut changed = false;
        for &index in &told.recipients {
            if let Some(recipient) = self.recipients.get_mut(index)
                && recipient.owed == Some(told.kind)
            {
                recipient.owed = None;
                changed = true;
            }
        }
        changed
    }

    /// Nothing is left to do: every recipient has its disposition and everything that must be told was told.
    pub(crate) fn is_done(&self) -> bool {
        self.recipients
            .iter()
            .all(|recipient| recipient.state.is_final() && recipient.owed.is_none())
    }
}

/// Recipients of another message that a report tells of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tells {
    pub(crate) kind: NoticeKind,
    pub(crate) recipients: Vec<usize>,
}

/// The JSON of a CHANGE record: recipients that changed, or that an alias added.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) recipients: Vec<(usize, QueuedRecipient)>,
}

impl Change {
    /// Puts the recipients in their places. Those that an alias added come in order.
    pub(crate) fn apply(self, message: &mut Message) {
        message.revision = message.revision.max(self.revision);
        for (index, recipient) in self.recipients {
            if index == message.recipients.len() {
                message.recipients.push(recipient);
            } else if let Some(old) = message.recipients.get_mut(index) {
                *old = recipient;
            }
        }
    }
}

/// How the content of a message lies on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredContent {
    /// Octets of the header block.
    pub(crate) head: u64,
    /// Octets of the body.
    pub(crate) body: u64,
    /// The body lies in `large/ID.body` from this offset on; `None`: it follows the head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) large: Option<u64>,
    /// CRC32C of what lies with the head: the head, and the body if that is not a file of its own.
    pub(crate) crc: u32,
    /// CRC32C of the whole file of a large body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) large_crc: Option<u32>,
}

/// One recipient of a queued message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueuedRecipient {
    /// Its position in [`Message::recipients`].
    #[serde(skip)]
    pub index: usize,
    /// Where it goes.
    pub path: ForwardPath,
    /// What the client gave before policy or an alias changed it; what a report names when there is no ORCPT.
    pub original: ForwardPath,
    /// Parameters of RCPT.
    #[serde(default, skip_serializing_if = "is_default")]
    pub parameters: RcptParameters,
    /// What became of it.
    pub state: RecipientState,
    /// Attempts made.
    #[serde(default)]
    pub attempts: u32,
    /// The last reply about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Reply>,
    /// Who gave that reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_peer: Option<String>,
    /// When the last attempt ended.
    #[serde(default, with = "epoch::option", skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<SystemTime>,
    /// Policy refused it after the client was told 250: nothing is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Reply>,
    /// What its copy demands of TLS, whatever the route says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsDemand>,
    /// The route that policy demanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Route>,
    /// The destination of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// When it is due next, by the wall clock of the moment of writing.
    #[serde(with = "epoch")]
    pub due: SystemTime,
    /// The interval that ends at `due`; after a jump of the clock nobody waits longer than this.
    #[serde(default, with = "epoch::millis", skip_serializing_if = "Duration::is_zero")]
    pub wait: Duration,
    /// The part of `wait` that somebody asked for before any attempt: it does not count as time waited.
    #[serde(default, with = "epoch::millis", skip_serializing_if = "Duration::is_zero")]
    pub embargo: Duration,
    /// How long it has waited in all, without the time when no server ran. Expiry and the delay notice go by this.
    #[serde(default, with = "epoch::millis", skip_serializing_if = "Duration::is_zero")]
    pub waited: Duration,
    /// What must still be told about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed: Option<NoticeKind>,
    /// The sender was told of the delay, or need not be.
    #[serde(default, skip_serializing_if = "is_default")]
    pub delay_told: bool,
    /// How many aliases led here.
    #[serde(default, skip_serializing_if = "is_default")]
    pub depth: u8,
}

/// What became of a recipient: waiting, or its disposition (RFC 3464 §2.3.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecipientState {
    /// Is tried when due.
    Pending,
    /// Is not tried until released: the name of the hold.
    Held(String),
    /// Reached its mailbox.
    Delivered,
    /// Taken over by another host. `dsn`: that host sends the reports from now on (RFC 3461 §5.2.2).
    Relayed {
        /// The next host offers DSN and was given NOTIFY.
        dsn: bool,
    },
    /// An alias; its members are recipients of their own.
    Expanded,
    /// Refused for good.
    Failed,
    /// Not delivered within the time allowed.
    Expired,
    /// Dropped on purpose: nobody is told.
    Discarded,
}

impl RecipientState {
    /// Nothing more will happen to it.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Pending | Self::Held(_))
    }

    /// The name of the hold that keeps it, if one does.
    pub fn hold(&self) -> Option<&str> {
        if let Self::Held(name) = self { Some(name) } else { None }
    }
}

/// The result of an attempt for one recipient.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It reached its mailbox.
    Delivered {
        /// What the last host said.
        reply: Reply,
        /// Which host.
        peer: Option<String>,
    },
    /// Another host took it over.
    Relayed {
        /// What it said.
        reply: Reply,
        /// Which host.
        peer: Option<String>,
        /// It offers DSN and was given NOTIFY: it sends the reports from now on (RFC 3461 §5.2.2). If not, a success
        /// that must be told is told by us, as "relayed".
        dsn: bool,
    },
    /// Not now.
    Deferred {
        /// The temporary reply.
        reply: Reply,
        /// Which host said so; `None`: ourselves.
        peer: Option<String>,
        /// Instead of the schedule's interval.
        retry_in: Option<Duration>,
    },
    /// Never.
    Failed {
        /// The permanent reply.
        reply: Reply,
        /// Which host said so; `None`: ourselves.
        peer: Option<String>,
        /// Nobody is told.
        quiet: bool,
    },
    /// Keep it until somebody releases it. No attempt is counted.
    Hold {
        /// The name of the hold.
        name: String,
    },
    /// Drop it and tell nobody.
    Discard,
    /// Nothing was tried (a connection limit, a shutdown): as if it had not been handed out. No attempt is counted.
    NotTried {
        /// When it is due again.
        retry_in: Duration,
    },
}

/// Decides where recipients go. One per queue, given by [`Queue::set_router`](crate::Queue::set_router).
pub trait Router: Send + Sync + 'static {
    /// One routing per recipient of [`Message::pending`], in that order. Asked when they are due, every time anew. A
    /// panic, or too few answers, defers.
    fn route<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Vec<Routing>>;
}

/// Where a recipient goes.
#[derive(Clone, Debug)]
pub enum Routing {
    /// That way.
    To(Route),
    /// That way, at whose end are hosts that others may share: recipients of one message with the same `hosts` go in one
    /// delivery, and so in one transaction, though their routes have different names.
    ToHosts {
        /// The way of this recipient.
        route: Route,
        /// Any name for the hosts, and for all that matters on the way to them.
        hosts: String,
    },
    /// Nowhere until released: the name of the hold.
    Hold(String),
    /// Ask again later.
    Defer {
        /// How much later.
        for_: Duration,
        /// What to show meanwhile, and to tell if it expires.
        reply: Reply,
    },
    /// It can never be delivered.
    Fail(Reply),
    /// Drop it and tell nobody.
    Discard,
    /// It is an alias: these are recipients instead, routed at once.
    Expand(Vec<Mailbox>),
}

/// What a notice tells (RFC 3461 §4.1, §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// Failed or expired.
    Failure,
    /// Not delivered yet.
    Delay,
    /// Delivered, relayed to a host without DSN, or expanded: see each recipient's state.
    Success,
}

/// What every new message has is not written: it is read as the default.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn unix_epoch() -> SystemTime {
    SystemTime::UNIX_EPOCH
}
