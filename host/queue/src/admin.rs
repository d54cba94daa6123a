//! What operators see and do.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use message::Id;
use serde::{Deserialize, Serialize};
use smtp::{Reply, ReversePath, Route};

use crate::message::{Message, QueuedRecipient, RecipientState};
use crate::priority::Priority;

/// Which messages. Every field that is set must match; the default matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// One of these. Empty: any.
    pub ids: Vec<Id>,
    /// The reverse-path, without regard to case; "" or "<>" is the null one; "@example.org" any of that domain.
    pub sender: Option<String>,
    /// A forward-path of an unfinished recipient, without regard to case.
    pub recipient: Option<String>,
    /// The domain of an unfinished recipient, without regard to case.
    pub domain: Option<String>,
    /// In the queue for longer than this.
    pub older: Option<Duration>,
    /// Held ones only, or only those that are not.
    pub held: Option<bool>,
    /// With this hold, of the message or of a recipient: a quarantine by its name.
    pub hold: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// Of who had logged in by this name, without regard to case.
    pub user: Option<String>,
    /// The last reply about an unfinished recipient has this in it, without regard to case.
    pub last: Option<String>,
    /// The destination of an unfinished recipient's last attempt, as it stands in [`Summary::destination`].
    pub destination: Option<String>,
    /// The first so many, oldest first. `None`: all.
    pub limit: Option<usize>,
}

impl Filter {
    /// Exactly this message.
    pub fn id(id: Id) -> Self {
        Self { ids: vec![id], ..Self::default() }
    }

    /// Does the message match? `now` is for [`Filter::older`].
    pub fn matches(&self, message: &Message, now: SystemTime) -> bool {
        let waiting = || message.recipients.iter().filter(|recipient| !recipient.state.is_final());
        let held = || {
            message.hold.is_some() || waiting().any(|r| matches!(r.state, RecipientState::Held(_)))
        };
        (self.ids.is_empty() || self.ids.contains(&message.id))
            && self.sender.as_ref().is_none_or(|wanted| same_sender(wanted, &message.reverse_path))
            && self.recipient.as_ref().is_none_or(|wanted| {
                waiting().any(|r| r.path.to_string().eq_ignore_ascii_case(wanted))
            })
            && self.domain.as_ref().is_none_or(|wanted| {
                waiting().any(|r| domain_of(&r.path.to_string()).eq_ignore_ascii_case(wanted))
            })
            && self.older.is_none_or(|age| {
                now.duration_since(message.received).is_ok_and(|passed| passed > age)
            })
            && self.held.is_none_or(|wanted| held() == wanted)
            && self.hold.as_ref().is_none_or(|wanted| {
                let held = |r: &QueuedRecipient| matches!(&r.state, RecipientState::Held(name) if name == wanted);
                message.hold.as_ref() == Some(wanted) || waiting().any(held)
            })
            && self.tag.as_ref().is_none_or(|wanted| message.tags.contains(wanted))
            && self.user.as_ref().is_none_or(|wanted| {
                message.user.as_ref().is_some_and(|user| user.eq_ignore_ascii_case(wanted))
            })
            && self.last.as_ref().is_none_or(|wanted| {
                let wanted = wanted.to_lowercase();
                let said = |r: &QueuedRecipient| {
                    r.last.as_ref().is_some_and(|l| l.to_string().to_lowercase().contains(&wanted))
                };
                waiting().any(said)
            })
            && self
                .destination
                .as_ref()
                .is_none_or(|wanted| waiting().any(|r| r.destination.as_ref() == Some(wanted)))
    }
}

/// What to do with the messages that match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Try now.
    Retry,
    /// Do not try until released.
    Hold {
        /// The name of the hold.
        name: String,
    },
    /// Lift every hold, and try now.
    Release,
    /// Drop it; nobody is told. What is under way is finished first.
    Remove,
    /// Give up now, and tell the sender. What is under way is finished first.
    Bounce {
        /// What the report says; a permanent reply. `None`: that the operator did it.
        reply: Option<Reply>,
    },
    /// Change what is known of it.
    Change(Changes),
}

/// What an operator may change. What is not set stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Changes {
    /// Before whom it goes.
    pub priority: Option<Priority>,
    /// Tags that it gets.
    pub add_tags: BTreeSet<String>,
    /// Tags that it loses.
    pub remove_tags: BTreeSet<String>,
    /// Given up after so long a wait, in all.
    pub lifetime: Option<Duration>,
    /// No attempt before so long from now. The wait does not count as time in the queue.
    pub delay: Option<Duration>,
    /// Where its unfinished recipients go.
    pub route: Option<Route>,
}

/// What waits for one destination.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Destination {
    /// Its name: that of the last attempt's route ("mx:example.org"), or the domain of what was not tried yet.
    pub name: String,
    /// Messages that wait for it, or are on their way; one with several destinations counts for its next.
    pub messages: usize,
    /// Of these, messages with a hold.
    pub held: usize,
    /// Their octets, rounded up.
    pub octets: u64,
    /// When the oldest of them came.
    pub oldest: Option<SystemTime>,
    /// The earliest next attempt.
    pub due: Option<SystemTime>,
    /// Deliveries in hand.
    pub in_hand: usize,
    /// Deliveries that are ready and wait for their turn.
    pub ready: usize,
    /// It is suspended by name.
    pub suspended: bool,
    /// What it said last, since the server started; or what it said of its oldest message.
    pub last: Option<LastWord>,
}

/// What a destination said last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LastWord {
    /// The reply.
    pub reply: Reply,
    /// Who gave it; `None`: ourselves.
    pub peer: Option<String>,
    /// When.
    pub time: SystemTime,
}

impl Destination {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            messages: 0,
            held: 0,
            octets: 0,
            oldest: None,
            due: None,
            in_hand: 0,
            ready: 0,
            suspended: false,
            last: None,
        }
    }
}

/// One line of a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// The message.
    pub id: Id,
    /// Its reverse-path.
    pub sender: ReversePath,
    /// Its unfinished recipients.
    pub recipients: Vec<String>,
    /// Octets of content.
    pub size: u64,
    /// When it was received.
    pub received: SystemTime,
    /// The earliest next attempt.
    pub due: Option<SystemTime>,
    /// Attempts made: the most of any recipient.
    pub attempts: u32,
    /// The hold, if any.
    pub hold: Option<String>,
    /// The destination of the last attempt.
    pub destination: Option<String>,
    /// The last reply.
    pub last: Option<Reply>,
    /// Who had logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// Before whom it goes.
    #[serde(default)]
    pub priority: Priority,
    /// It is being routed or delivered now.
    pub active: bool,
}

impl Summary {
    pub(crate) fn of(message: &Message, active: bool) -> Self {
        let waiting = || message.recipients.iter().filter(|recipient| !recipient.state.is_final());
        let latest = waiting().max_by_key(|recipient| recipient.last_attempt);
        let held = waiting().find_map(|recipient| recipient.state.hold().map(str::to_owned));
        Self {
            id: message.id,
            sender: message.reverse_path.clone(),
            recipients: waiting().map(|recipient| recipient.path.to_string()).collect(),
            size: message.size,
            received: message.received,
            due: waiting()
                .filter(|recipient| recipient.state == RecipientState::Pending)
                .map(|recipient| recipient.due)
                .min()
                .filter(|_| message.hold.is_none()),
            attempts: waiting().map(|recipient| recipient.attempts).max().unwrap_or_default(),
            hold: message.hold.clone().or(held),
            destination: latest.and_then(|recipient| recipient.destination.clone()),
            last: latest.and_then(|recipient| recipient.last.clone()),
            user: message.user.clone(),
            tags: message.tags.clone(),
            priority: message.priority,
            active,
        }
    }
}

/// Everything about one message but its content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Detail {
    /// The message with all its recipients.
    pub message: Message,
    /// It is being routed or delivered now.
    pub active: bool,
    /// Where its content lies, for an operator's eyes: a segment and offset, or a file.
    pub place: String,
}

pub(crate) fn same_sender(wanted: &str, reverse_path: &ReversePath) -> bool {
    let sender = reverse_path.to_string();
    match wanted.strip_prefix('@') {
        Some(domain) => domain_of(&sender).eq_ignore_ascii_case(domain),
        None => sender.eq_ignore_ascii_case(if wanted == "<>" { "" } else { wanted }),
    }
}

/// What stands behind the last "@", or nothing.
pub(crate) fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}
