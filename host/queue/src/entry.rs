//! What is kept in memory of a message that waits.

use std::time::Duration;

use crate::message::{Message, NoticeKind, RecipientState};
use crate::priority::Class;
use crate::sender::{Sender, SenderKey, domain};

/// What the owner must know of a message without reading it.
#[derive(Clone, Debug)]
pub(crate) struct Brief {
    pub(crate) revision: u64,
    /// Somebody is waiting to be tried: when it is due, by the wall clock, and the interval that ends then.
    pub(crate) due: Option<(std::time::SystemTime, Duration)>,
    /// Whose turn it takes: its destination, or domain…
    pub(crate) lane: String,
    /// …its class of priority…
    pub(crate) class: Class,
    /// …and its group of senders: one user, or one domain of reverse-paths.
    pub(crate) group: u8,
    /// By whom it counts for limits per sender.
    pub(crate) sender: SenderKey,
    /// Octets of content.
    pub(crate) octets: u64,
    pub(crate) held: bool,
    /// What must be told.
    pub(crate) owed: Owed,
}

/// A set of kinds of notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) failure: bool,
    pub(crate) delay: bool,
    pub(crate) success: bool,
}

impl Owed {
    /// The kinds in it.
    pub(crate) fn kinds(self) -> impl Iterator<Item = NoticeKind> {
        [
            (self.failure, NoticeKind::Failure),
            (self.delay, NoticeKind::Delay),
            (self.success, NoticeKind::Success),
        ]
        .into_iter()
        .filter_map(|(owed, kind)| owed.then_some(kind))
    }
}

impl Brief {
    pub(crate) fn of(message: &Message) -> Self {
        let pending = message
            .recipients
            .iter()
            .filter(|recipient| recipient.state == RecipientState::Pending)
            .min_by_key(|recipient| recipient.due);
        // What is held has a destination, too, for those who look.
        let shown = pending.or_else(|| message.recipients.iter().find(|r| !r.state.is_final()));
        let held = message.hold.is_some()
            || message.recipients.iter().any(|r| matches!(r.state, RecipientState::Held(_)));
        let mut owed = Owed::default();
        for recipient in &message.recipients {
            match recipient.owed {
                Some(NoticeKind::Failure) => owed.failure = true,
                Some(NoticeKind::Delay) => owed.delay = true,
                Some(NoticeKind::Success) => owed.success = true,
                None => {}
            }
        }
        let sender = Sender::of(message);
        Self {
            revision: message.revision,
            due: pending
                .filter(|_| message.hold.is_none())
                .map(|recipient| (recipient.due, recipient.wait)),
            lane: shown.map_or_else(String::new, |recipient| match &recipient.destination {
                Some(destination) => destination.clone(),
                None => domain(recipient.path.mailbox()),
            }),
            class: message.priority.class(),
            group: sender.group(),
            sender: sender.key(),
            octets: message.size,
            held,
            owed,
        }
    }
}
