//! Who sent a message, for limits per sender and for fairness among senders.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use smtp::{Host, Mailbox, ReversePath};

use crate::message::Message;

/// The one who answers for a message: who had logged in, or else the reverse-path, or else (it is null) the client.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// Who had logged in.
    pub user: Option<&'a str>,
    /// The argument of MAIL.
    pub reverse_path: &'a ReversePath,
    /// The client's address.
    pub peer: Option<IpAddr>,
}

/// Names a sender by a hash, so that a million of them cost nothing but their messages. Two senders that share it share a
/// limit; among a thousand busy senders that happens once in nine thousand servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SenderKey(pub(crate) u32);

impl<'a> Sender<'a> {
    pub(crate) fn of(message: &'a Message) -> Self {
        Self {
            user: message.user.as_deref(),
            reverse_path: &message.reverse_path,
            peer: message.peer,
        }
    }

    /// Our own reports: they have no limit, because they end what others began.
    pub(crate) fn is_ourselves(&self) -> bool {
        self.user.is_none() && self.reverse_path.is_null() && self.peer.is_none()
    }

    /// By whom it counts.
    pub(crate) fn key(&self) -> SenderKey {
        SenderKey(match (self.user, self.peer) {
            (Some(user), _) => hash(b'u', &user.to_lowercase()),
            (None, Some(peer)) if self.reverse_path.is_null() => hash(b'p', &peer.to_string()),
            (None, _) => {
                let mut text = self.reverse_path.to_string();
                text.make_ascii_lowercase();
                hash(b'r', &text)
            }
        })
    }

    /// Whose turns it shares. Lists give every copy a reverse-path of its own (VERP), so its domain decides.
    pub(crate) fn group(&self) -> u8 {
        let hash = match self.user {
            Some(user) => hash(b'u', &user.to_lowercase()),
            None => hash(b'd', &domain(self.reverse_path.mailbox())),
        };
        hash.to_le_bytes()[0]
    }
}

/// What is behind the `@`, in lower case; empty for who has none.
pub(crate) fn domain(mailbox: Option<&Mailbox>) -> String {
    match mailbox.map(Mailbox::host) {
        // A domain is in lower case since it was read.
        Some(Host::Domain(domain)) => domain.as_str().to_owned(),
        Some(Host::Literal(literal)) => literal.to_string().to_ascii_lowercase(),
        None => String::new(),
    }
}

fn hash(kind: u8, text: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    (kind, text).hash(&mut hasher);
    (hasher.finish() >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_told_apart_by_user_then_reverse_path_then_client() {
        let (one, two): (ReversePath, ReversePath) =
            ("a@One.example".parse().unwrap(), "b@one.example".parse().unwrap());
        let peer = |last| Some(IpAddr::from([192, 0, 2, last]));
        let sender = |user, reverse_path, peer| Sender { user, reverse_path, peer };
        let check = |left: Sender<'_>, right: Sender<'_>, key: bool, group: bool| {
            assert_eq!(left.key() == right.key(), key, "key: {left:?} {right:?}");
            assert_eq!(left.group() == right.group(), group, "group: {left:?} {right:?}");
        };
        check(sender(None, &one, peer(1)), sender(None, &one, peer(2)), true, true);
        check(sender(None, &one, None), sender(None, &two, None), false, true);
        check(sender(Some("al"), &one, None), sender(Some("AL"), &two, peer(1)), true, true);
        check(sender(Some("al"), &one, None), sender(Some("bo"), &one, None), false, false);
        let null = ReversePath::Null;
        check(sender(None, &null, peer(1)), sender(None, &null, peer(2)), false, true);
        assert!(sender(None, &null, None).is_ourselves());
        assert!(!sender(None, &null, peer(1)).is_ourselves());
    }
}
