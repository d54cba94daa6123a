//! How far one attempt is: which hosts are left, and what came of it for whom.

use std::{collections::VecDeque, time::Duration};

use queue::{Outcome, QueuedRecipient};
use smtp::{
    Recipient, Reply, ReversePath,
    client::{ContentTraits, Fate, Transaction},
};

use crate::{
    reading,
    resolve::Target,
    smtp::{Refusal, Session},
};

/// The state of an attempt.
pub(crate) struct Course<'a> {
    delivery: &'a queue::Delivery,
    /// What hosts are told in place of the message's own reverse-path.
    reverse_path: Option<ReversePath>,
    outcomes: Vec<(usize, Option<Outcome>)>,
    /// Hosts that were not tried yet.
    targets: VecDeque<Target>,
    /// The host that is being talked to.
    target: Option<(Target, Origin)>,
    /// Why the hosts so far did not do.
    refusal: Option<Refusal>,
    /// A reused connection to this host broke: the next one has to be new.
    stale: Option<String>,
    /// A host could not be asked, by our own limits: come again after so long.
    later: Option<Duration>,
    /// How often it was put back in line for a connection.
    waits: u32,
    /// When a recipient that met greylisting comes again, if the host does not say.
    greylist_retry: Duration,
}

/// Where a session came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    New,
    Reused,
}

impl<'a> Course<'a> {
    /// An attempt for these recipients of a delivery, by their positions in the message.
    pub(crate) fn new(
        delivery: &'a queue::Delivery,
        recipients: &[usize],
        greylist_retry: Duration,
    ) -> Self {
        Self {
            delivery,
            reverse_path: None,
            outcomes: recipients.iter().map(|index| (*index, None)).collect(),
            targets: VecDeque::new(),
            target: None,
            refusal: None,
            stale: None,
            later: None,
            waits: 0,
            greylist_retry,
        }
    }

    /// Hosts are told this reverse-path.
    pub(crate) fn set_reverse_path(&mut self, path: ReversePath) {
        self.reverse_path = Some(path);
    }

    /// These hosts are to be tried, in this order.
    pub(crate) fn set_targets(&mut self, targets: Vec<Target>) {
        self.targets = targets.into();
    }

    pub(crate) fn next_target(&mut self) -> Option<Target> {
        self.targets.pop_front()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.outcomes.iter().any(|(_, outcome)| outcome.is_none())
    }

    /// True if only a new connection will do for this host.
    pub(crate) fn is_stale(&self, target: &Target) -> bool {
        self.stale.as_ref() == Some(&target.name)
    }

    /// This host gave a session.
    pub(crate) fn talks_to(&mut self, target: Target, origin: Origin) {
        self.target = Some((target, origin));
    }

    /// The host takes no more transactions in one session; it gets another one.
    pub(crate) fn again(&mut self) {
        if let Some((target, _)) = self.target.take() {
            self.targets.push_front(target);
        }
    }

    /// By our own limits a host cannot be asked now. Nobody said anything, so no attempt counts.
    /// Hosts of the same preference may do instead; a worse one is for hosts that fail (RFC 5321
    /// §5.1).
    pub(crate) fn postpone(&mut self, target: &Target, wait: Duration) {
        self.later = Some(self.later.map_or(wait, |known| known.min(wait)));
        self.targets.retain(|other| other.preference == target.preference);
    }

    /// A new connection came to nothing. Where others of ours stand, the message waits for one of
    /// them.
    pub(crate) fn no_session(&mut self, target: Target, refusal: Refusal) {
        if refusal.has_enough && self.waits < MOST_WAITS {
            self.waits += 1;
            return self.targets.push_front(target);
        }
        self.refused(refusal);
    }

    /// A host did not do. What may change later counts more than what will not: another host may be
    /// back then.
    pub(crate) fn refused(&mut self, refusal: Refusal) {
        match &self.refusal {
            Some(known) if known.reply.is_temporary() && refusal.reply.is_permanent() => {}
            _ => self.refusal = Some(refusal),
        }
    }

    /// Positions in `outcomes` of the recipients without an outcome.
    pub(crate) fn open(&self) -> Vec<usize> {
        (0..self.outcomes.len()).filter(|position| self.outcomes[*position].1.is_none()).collect()
    }

    pub(crate) fn transaction(&self, positions: &[usize], content: ContentTraits) -> Transaction {
        let message = &self.delivery.message;
        let recipient = |position: &usize| {
            let recipient = self.recipient(*position);
            Recipient { path: recipient.path.clone(), parameters: recipient.parameters.clone() }
        };
        Transaction {
            reverse_path: self.reverse_path.as_ref().unwrap_or(&message.reverse_path).clone(),
            parameters: message.parameters.clone(),
            recipients: positions.iter().map(recipient).collect(),
            content,
        }
    }

    fn recipient(&self, position: usize) -> &QueuedRecipient {
        &self.delivery.message.recipients[self.outcomes[position].0]
    }

    /// Takes the fates of a transaction. False if nothing was decided, so that the host must not be
    /// asked again.
    pub(crate) fn take(
        &mut self,
        session: &Session,
        positions: &[usize],
        fates: Vec<Fate>,
    ) -> bool {
        let peer = session.peer.to_string();
        let is_final = self.target.as_ref().is_some_and(|(target, _)| target.is_final());
        let dsn = session.takes_dsn();
        let mut progress = false;
        for (position, fate) in positions.iter().zip(fates) {
            let peer = Some(peer.clone());
            let outcome = match fate {
                Fate::Accepted(reply) if is_final => Outcome::Delivered { reply, peer },
                Fate::Accepted(reply) => Outcome::Relayed { reply, peer, dsn },
                Fate::Refused(reply) if reply.is_permanent() => {
                    Outcome::Failed { reply, peer, quiet: false }
                }
                Fate::Refused(reply) => self.put_off(*position, reply, peer),
                Fate::Unfit(reply) => Outcome::Failed { reply, peer: None, quiet: false },
                // The next host might deliver a second copy.
                Fate::Lost { reply, uncertain: true } => {
                    Outcome::Deferred { reply, peer, retry_in: None }
                }
                Fate::Lost { reply, uncertain: false } => {
                    self.lost(reply, peer);
                    continue;
                }
                Fate::Untried => continue,
            };
            self.outcomes[*position].1 = Some(outcome);
            progress = true;
        }
        progress
    }

    /// A temporary refusal. Greylisting has a time of its own, whatever the schedule's next
    /// interval is; but who says so again and again means something else.
    fn put_off(&self, position: usize, reply: Reply, peer: Option<String>) -> Outcome {
        let is_early = self.recipient(position).attempts < EARLY_RETRIES;
        let retry_in = reading::greylist_retry(&reply, self.greylist_retry).filter(|_| is_early);
        Outcome::Deferred { reply, peer, retry_in }
    }

    /// The connection broke before anything was decided. One that had waited in the pool may just
    /// have been closed by the host, so the same host gets a new one.
    fn lost(&mut self, reply: Reply, peer: Option<String>) {
        match self.target.take() {
            Some((target, Origin::Reused)) => {
                self.stale = Some(target.name.clone());
                self.targets.push_front(target);
            }
            Some((_, Origin::New)) => self.refused(Refusal::by(reply, peer)),
            None => {}
        }
    }

    /// The same outcome for all that have none.
    pub(crate) fn give_up(mut self, reply: &Reply, peer: Option<&str>) -> Outcomes {
        let outcome = outcome(reply, peer);
        self.fill(&outcome);
        self.into_outcomes()
    }

    /// No host is left, or nothing is open.
    pub(crate) fn finish(mut self) -> Outcomes {
        match (self.later, self.refusal.take()) {
            (Some(retry_in), _) => {
                self.fill(&Outcome::NotTried { retry_in });
                self.into_outcomes()
            }
            (None, Some(refusal)) => self.give_up(&refusal.reply, refusal.peer.as_deref()),
            (None, None) => self.give_up(&Reply::new(451, "4.4.0 No host took the message"), None),
        }
    }

    fn fill(&mut self, outcome: &Outcome) {
        for (_, open) in &mut self.outcomes {
            open.get_or_insert_with(|| outcome.clone());
        }
    }

    fn into_outcomes(self) -> Outcomes {
        self.outcomes.into_iter().filter_map(|(index, outcome)| Some((index, outcome?))).collect()
    }
}

/// What came of an attempt, by the recipient's position in the message.
pub(crate) type Outcomes = Vec<(usize, Outcome)>;

fn outcome(reply: &Reply, peer: Option<&str>) -> Outcome {
    let (reply, peer) = (reply.clone(), peer.map(str::to_owned));
    if reply.is_permanent() {
        Outcome::Failed { reply, peer, quiet: false }
    } else {
        Outcome::Deferred { reply, peer, retry_in: None }
    }
}

// Greylisting that does not end after half an hour is none.
const EARLY_RETRIES: u32 = 6;
// Each time the host may have fewer connections; after three there is one, or it is down.
const MOST_WAITS: u32 = 3;
