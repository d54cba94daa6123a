//! One mail transaction (RFC 5321 §3.3): what MAIL began and the end of data, RSET or a lost connection ends.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use message::Id;
use policy::trace::Entry;
use policy::{Stage, TraceEntry};
use queue::Draft;
use smtp::{ForwardPath, Reply};

use crate::content::Incoming;
use crate::fold::Fates;

/// A transaction and everything that was decided about it.
pub(crate) struct Transaction {
    /// The envelope as policy sees and edits it.
    pub(crate) policy: policy::Transaction,
    /// When MAIL came.
    pub(crate) began: SystemTime,
    /// What the client named in RCPT, refused or not; no more than the machine lets it.
    pub(crate) forward_paths: Vec<ForwardPath>,
    /// Policy said at MAIL: take the message and forget it.
    pub(crate) discard: bool,
    /// Opened at MAIL, so that a full disk is told before anything is sent.
    pub(crate) draft: Option<Draft>,
    /// The content, from DATA on.
    pub(crate) incoming: Option<Incoming>,
    /// What policy decided about single recipients at the end of data.
    pub(crate) fates: Option<Fates>,
    /// Recipients that are held, by their place among those that are kept, and under which name.
    pub(crate) holds: BTreeMap<usize, String>,
    /// Recipients whose refusal the sender has to be told of.
    pub(crate) refusals: BTreeMap<usize, Reply>,
    /// The last refusal.
    pub(crate) refused: Option<Reply>,
}

impl Transaction {
    pub(crate) fn new(policy: policy::Transaction, began: SystemTime, draft: Draft) -> Self {
        Self {
            policy,
            began,
            forward_paths: Vec::new(),
            discard: false,
            draft: Some(draft),
            incoming: None,
            fates: None,
            holds: BTreeMap::new(),
            refusals: BTreeMap::new(),
            refused: None,
        }
    }

    /// Notes in the trace that a rule of the host refused.
    pub(crate) fn note_rule(
        &mut self,
        stage: Stage,
        rule: &'static str,
        recipient: Option<&ForwardPath>,
        reply: &Reply,
    ) {
        let version = env!("CARGO_PKG_VERSION").into();
        self.policy.trace.push(TraceEntry {
            recipient: recipient.map(ToString::to_string),
            verdict: Cow::Borrowed(if reply.is_temporary() { "defer" } else { "reject" }),
            reply: Some(reply.to_string()),
            rule: Some(rule.to_owned()),
            ..TraceEntry::new(stage, "host".into(), version, "".into())
        });
    }

    /// The line of the journal for the end of this transaction.
    pub(crate) fn into_entry(mut self, end: Ending) -> Entry {
        let fate = end.fate.name();
        let mut recipients: Vec<String> =
            self.forward_paths.iter().map(ToString::to_string).collect();
        for recipient in &self.policy.recipients {
            let path = recipient.path.to_string();
            if recipient.path != recipient.original && !recipients.contains(&path) {
                recipients.push(path);
            }
        }
        Entry {
            id: self.policy.id,
            session: Some(end.session.to_string()),
            time: end.time,
            kind: Cow::Borrowed("transaction"),
            peer: end.peer.map(|peer| peer.to_string()),
            helo: end.helo,
            reverse_path: Some(self.policy.reverse_path.to_string()),
            recipients,
            fate: Cow::Borrowed(fate),
            reply: end.reply.or(self.refused.take()).map(|reply| reply.to_string()),
            stages: end.before.into_iter().chain(self.policy.trace).collect(),
        }
    }
}

/// How a transaction ended.
pub(crate) struct Ending {
    /// What was decided about its session before it began.
    pub(crate) before: Vec<TraceEntry>,
    pub(crate) fate: Fate,
    pub(crate) reply: Option<Reply>,
    pub(crate) session: Id,
    pub(crate) peer: Option<IpAddr>,
    pub(crate) helo: Option<String>,
    pub(crate) time: SystemTime,
}

/// What became of a transaction here. Each ends with exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// In the queue.
    Received,
    /// In the queue, on hold by policy.
    Held,
    /// Policy said 250 and forget it.
    Discarded,
    /// Refused for good (5yz), whole or the last recipient that was tried.
    Rejected,
    /// Refused for now (4yz).
    Deferred,
    /// The client gave it up: RSET, QUIT, STARTTLS, or the connection was lost.
    Abandoned,
}

impl Fate {
    /// All of them, in the order of their declaration.
    pub(crate) const ALL: [Self; 6] = [
        Self::Received,
        Self::Held,
        Self::Discarded,
        Self::Rejected,
        Self::Deferred,
        Self::Abandoned,
    ];

    /// What a refusal makes of a transaction.
    pub(crate) fn of(refusal: &Reply) -> Self {
        if refusal.is_temporary() { Self::Deferred } else { Self::Rejected }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Held => "held",
            Self::Discarded => "discarded",
            Self::Rejected => "rejected",
            Self::Deferred => "deferred",
            Self::Abandoned => "abandoned",
        }
    }
}
