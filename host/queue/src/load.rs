//! How much is in the queue, in all and of each sender, and whether more may come. Pure.
//!
//! A limit that was met stays closed until the load has fallen to nine tenths of it, so that senders are not let in and
//! shut out with every message.

use std::collections::BTreeSet;

use crate::config::Limits;
use crate::sender::SenderKey;

/// What is in the queue.
#[derive(Debug)]
pub(crate) struct Load {
    all: Count,
    /// Counts of senders by two hashes; the smaller of a sender's two is near the truth, and never below it.
    rows: [Vec<Count>; 2],
    /// Limits that were met and not yet released.
    closed: BTreeSet<Cause>,
    closed_senders: BTreeSet<SenderKey>,
    /// Somebody outside says that nothing more may come, and why.
    outside: Option<String>,
}

/// Messages and their octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) messages: u64,
    pub(crate) octets: u64,
}

/// Which limit stands against more mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// Messages in the queue.
    Messages,
    /// Octets in the queue.
    Octets,
    /// Messages or octets of one sender.
    Sender,
    /// What somebody outside watches: memory.
    Outside,
}

impl Cause {
    /// Its name in metrics and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Octets => "octets",
            Self::Sender => "sender",
            Self::Outside => "memory",
        }
    }
}

/// A limit stands against a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) cause: Cause,
    /// For operators.
    pub(crate) what: String,
    /// It did not a moment ago.
    pub(crate) is_new: bool,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            all: Count::default(),
            rows: [vec![Count::default(); ROW], vec![Count::default(); ROW]],
            closed: BTreeSet::new(),
            closed_senders: BTreeSet::new(),
            outside: None,
        }
    }
}

impl Load {
    /// A message came.
    pub(crate) fn enter(&mut self, sender: SenderKey, octets: u64) {
        self.change(sender, |count| {
            count.messages += 1;
            count.octets = count.octets.saturating_add(octets);
        });
    }

    /// A message is gone.
    pub(crate) fn leave(&mut self, sender: SenderKey, octets: u64) {
        self.change(sender, |count| {
            count.messages = count.messages.saturating_sub(1);
            count.octets = count.octets.saturating_sub(octets);
        });
    }

    /// Somebody outside shuts the door, or opens it again.
    pub(crate) fn shut(&mut self, why: Option<String>) {
        self.outside = why;
    }

    /// What is in the queue.
    pub(crate) fn all(&self) -> Count {
        self.all
    }

    /// What is in the queue of one sender, or slightly more.
    pub(crate) fn of(&self, sender: SenderKey) -> Count {
        let [first, second] = places(sender);
        let (first, second) = (self.rows[0][first], self.rows[1][second]);
        Count {
            messages: first.messages.min(second.messages),
            octets: first.octets.min(second.octets),
        }
    }

    /// Limits that stand against everybody now.
    pub(crate) fn closed(&self) -> impl Iterator<Item = Cause> + '_ {
        self.closed.iter().copied().chain(self.outside.as_ref().map(|_| Cause::Outside))
    }

    /// The same, in words.
    pub(crate) fn closed_words(&self) -> Vec<String> {
        let words = |cause: Cause| match cause {
            Cause::Messages => format!("{} messages are queued", self.all.messages),
            Cause::Octets => format!("{} octets are queued", self.all.octets),
            Cause::Sender => "one sender has too much queued".to_owned(),
            Cause::Outside => self.outside.clone().unwrap_or_default(),
        };
        self.closed().map(words).collect()
    }

    /// May one more message come? `None` for the sender: one that has no limit of its own.
    pub(crate) fn admit(
        &mut self,
        sender: Option<SenderKey>,
        limits: &Limits,
    ) -> Result<(), Closed> {
        if let Some(what) = &self.outside {
            return Err(Closed { cause: Cause::Outside, what: what.clone(), is_new: false });
        }
        let all = self.all;
        let most = limits.messages as u64;
        self.check(Cause::Messages, all.messages, most, "messages are queued")?;
        self.check(Cause::Octets, all.octets, limits.octets, "octets are queued")?;
        let Some(sender) = sender else { return Ok(()) };
        let count = self.of(sender);
        let was_closed = self.closed_senders.contains(&sender);
        let messages = reached(count.messages, limits.sender_messages, was_closed);
        if messages || reached(count.octets, limits.sender_octets, was_closed) {
            let is_new = self.closed_senders.insert(sender);
            let Count { messages, octets } = count;
            let what = format!("{messages} messages with {octets} octets of one sender are queued");
            return Err(Closed { cause: Cause::Sender, what, is_new });
        }
        self.closed_senders.remove(&sender);
        Ok(())
    }

    fn check(&mut self, cause: Cause, now: u64, most: u64, what: &str) -> Result<(), Closed> {
        if reached(now, most, self.closed.contains(&cause)) {
            let is_new = self.closed.insert(cause);
            return Err(Closed { cause, what: format!("{now} {what}, {most} may be"), is_new });
        }
        self.closed.remove(&cause);
        Ok(())
    }

    fn change(&mut self, sender: SenderKey, change: impl Fn(&mut Count)) {
        change(&mut self.all);
        let [first, second] = places(sender);
        change(&mut self.rows[0][first]);
        change(&mut self.rows[1][second]);
    }
}

/// Is a limit met, or was it and is not released yet?
fn reached(now: u64, most: u64, was_closed: bool) -> bool {
    now >= if was_closed { most - most / 10 } else { most }
}

fn places(SenderKey(hash): SenderKey) -> [usize; 2] {
    [hash as usize % ROW, (hash >> 16) as usize % ROW]
}

/// Half a mebibyte for each of the two. A queue with a million senders of one message each adds thirty messages to what a
/// sender seems to have, which is little beside any sensible limit.
const ROW: usize = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            messages: 20,
            octets: 10_000,
            sender_messages: 10,
            sender_octets: 5_000,
            ..Limits::default()
        }
    }

    fn admit(load: &mut Load, sender: u32) -> Result<(), Cause> {
        load.admit(Some(SenderKey(sender)), &limits()).map_err(|closed| closed.cause)
    }

    #[test]
    fn a_limit_that_was_met_is_released_at_nine_tenths() {
        let mut load = Load::default();
        for number in 0..20 {
            assert_eq!(admit(&mut load, number << 15 | number), Ok(()), "{number}");
            load.enter(SenderKey(number << 15 | number), 1);
        }
        assert!(load.admit(None, &limits()).unwrap_err().is_new);
        assert!(!load.admit(None, &limits()).unwrap_err().is_new);
        load.leave(SenderKey(0), 1);
        assert_eq!(admit(&mut load, 99), Err(Cause::Messages), "19 of 20");
        load.leave(SenderKey(1 << 15 | 1), 1);
        assert_eq!(admit(&mut load, 99), Err(Cause::Messages), "18 of 20");
        load.leave(SenderKey(2 << 15 | 2), 1);
        assert_eq!(admit(&mut load, 99), Ok(()), "17 of 20");
        load.enter(SenderKey(3), 1);
        load.enter(SenderKey(3), 1);
        assert_eq!(admit(&mut load, 99), Ok(()), "19 of 20, and it was open");
    }

    #[test]
    fn a_sender_meets_its_own_limit_and_no_other_does() {
        let mut load = Load::default();
        for _ in 0..10 {
            assert_eq!(admit(&mut load, 7), Ok(()));
            load.enter(SenderKey(7), 1);
        }
        assert_eq!(admit(&mut load, 7), Err(Cause::Sender));
        assert_eq!(admit(&mut load, 8), Ok(()));
        assert_eq!(load.admit(None, &limits()), Ok(()));
        load.leave(SenderKey(7), 1);
        assert_eq!(admit(&mut load, 7), Err(Cause::Sender), "9 of 10");
        load.leave(SenderKey(7), 1);
        assert_eq!(admit(&mut load, 7), Ok(()), "8 of 10");
        load.enter(SenderKey(7), 6_000);
        assert_eq!(admit(&mut load, 7), Err(Cause::Sender), "octets");
        load.enter(SenderKey(8), 6_000);
        assert_eq!(admit(&mut load, 9), Err(Cause::Octets), "octets in all");
    }

    #[test]
    fn who_watches_from_outside_can_shut_the_door() {
        let mut load = Load::default();
        load.shut(Some("memory".to_owned()));
        assert_eq!(admit(&mut load, 1), Err(Cause::Outside));
        assert_eq!(load.closed().collect::<Vec<_>>(), [Cause::Outside]);
        load.shut(None);
        assert_eq!(admit(&mut load, 1), Ok(()));
    }

    #[test]
    fn a_million_other_senders_hardly_count() {
        let mut load = Load::default();
        for number in 0..1_000_000_u32 {
            load.enter(SenderKey(number.wrapping_mul(0x9E37_79B1)), 10);
        }
        let most = (0..1000).map(|sender| load.of(SenderKey(sender * 77_777)).messages).max();
        assert!(most.unwrap() <= 100, "{most:?}");
        assert_eq!(load.all(), Count { messages: 1_000_000, octets: 10_000_000 });
    }
}
