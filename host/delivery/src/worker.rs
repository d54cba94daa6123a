//! One attempt, in four steps: resolve → connect → converse → report.

use std::{collections::VecDeque, sync::Arc};

use metrics::{counter, gauge, histogram};
use queue::Outcome;
use smtp::{
    Recipient, Reply, Route,
    client::{Fate, Transaction},
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::Instant,
};
use tracing::Instrument;

use crate::{
    House,
    content::Outgoing,
    metric,
    pool::Entry,
    report,
    resolve::{Target, resolve},
    smtp::{Refusal, Session},
};

/// Takes work from the queue until the room stops, then waits for the attempts under way.
pub(crate) async fn run(house: Arc<House>, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(house.config.limits.attempts.max(1)));
    let mut attempts = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let delivery = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break,
            delivery = house.rooms.queue.next() => delivery,
        };
        let Some(delivery) = delivery else { break };
        let house = Arc::clone(&house);
        attempts.spawn(async move {
            let span = tracing::debug_span!("attempt", message = %delivery.message.id, route = %delivery.route);
            attempt(&house, delivery).instrument(span).await;
            drop(place);
        });
        // Attempts that ended are forgotten; a panic in one of them is its own, and its delivery
        // has gone back to the queue.
        while let Some(ended) = attempts.try_join_next() {
            tell_panic(ended);
        }
    }
    while let Some(ended) = attempts.join_next().await {
        tell_panic(ended);
    }
}

fn tell_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "an attempt ended in a panic; its recipients are tried again");
    }
}

async fn attempt(house: &House, delivery: queue::Delivery) {
    let started = Instant::now();
    gauge!(metric::ATTEMPTS).increment(1.0);
    let outcomes = outcomes(house, &delivery).await;
    report::report(house, delivery, outcomes).await;
    gauge!(metric::ATTEMPTS).decrement(1.0);
    histogram!(metric::DURATION).record(started.elapsed());
}

/// What came of it for each recipient: the first three steps.
async fn outcomes(house: &House, delivery: &queue::Delivery) -> Vec<(usize, Outcome)> {
    let mut course = Course::new(delivery);
    let content = match delivery.content() {
        Ok(content) => Arc::new(content),
        Err(error) => return course.give_up(&unreadable(delivery, &error), None),
    };
    if let Route::Maildir(path) = &delivery.route {
        return house.maildirs.deliver(path, delivery, &content).await;
    }
    let content = match Outgoing::survey(content).await {
        Ok(content) => content,
        Err(error) => return course.give_up(&unreadable(delivery, &error), None),
    };
    match resolve(house, &delivery.route).await {
        Ok(targets) => course.targets = targets.into(),
        Err(reply) => return course.give_up(&reply, None),
    }
    while course.is_open() {
        let Some(mut session) = connect(house, &mut course).await else { break };
        converse(&mut session, &mut course, &content).await;
        if let Some(unwanted) = house.pool.keep(session) {
            tokio::spawn(unwanted.quit());
        }
    }
    course.finish()
}

fn unreadable(delivery: &queue::Delivery, error: &dyn std::error::Error) -> Reply {
    tracing::error!(message = %delivery.message.id, %error, "the content of a message cannot be read");
    Reply::new(451, "4.3.0 The content cannot be read at the moment")
}

/// Second step: a session with the next host that takes one. `None` when no host is left.
async fn connect(house: &House, course: &mut Course<'_>) -> Option<Session> {
    while let Some(target) = course.targets.pop_front() {
        let has_to_be_new = course.is_stale(&target.key());
        let place = match house.pool.enter(&target.key(), has_to_be_new).await {
            Some(Entry::New(place)) => place,
            Some(Entry::Reused(session)) => {
                counter!(metric::SESSIONS, "origin" => "reused").increment(1);
                course.target = Some((target, Origin::Reused));
                return Some(*session);
            }
            None => {
                // Others use all connections to this host; nobody was asked, so no attempt is
                // counted.
                course.is_crowded = true;
                continue;
            }
        };
        match Session::open(house, &target, place).await {
            Ok(session) => {
                counter!(metric::SESSIONS, "origin" => "new").increment(1);
                course.target = Some((target, Origin::New));
                return Some(session);
            }
            Err(refusal) => course.refused(refusal),
        }
    }
    None
}

/// Third step: the recipients that have no outcome yet, in as many transactions as the host wants.
async fn converse(session: &mut Session, course: &mut Course<'_>, content: &Outgoing) {
    while course.is_open() && session.can_begin() {
        let recipients = course.open();
        let fates = session.transact(course.transaction(&recipients, content), content).await;
        let progress = course.take(session, &recipients, fates);
        if !progress {
            return;
        }
    }
    // The host takes no more transactions in one session; it gets another one.
    if course.is_open()
        && let Some((target, _)) = course.target.take()
    {
        course.targets.push_front(target);
    }
}

/// How far an attempt is.
struct Course<'a> {
    delivery: &'a queue::Delivery,
    outcomes: Vec<(usize, Option<Outcome>)>,
    /// Hosts that were not tried yet.
    targets: VecDeque<Target>,
    /// The host that is being talked to.
    target: Option<(Target, Origin)>,
    /// Why the hosts so far did not do.
    refusal: Option<Refusal>,
    /// A reused connection to this host broke: the next one has to be new.
    stale: Option<String>,
    is_crowded: bool,
}

/// Where a session came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    New,
    Reused,
}

impl<'a> Course<'a> {
    fn new(delivery: &'a queue::Delivery) -> Self {
        Self {
            delivery,
            outcomes: delivery.recipients.iter().map(|index| (*index, None)).collect(),
            targets: VecDeque::new(),
            target: None,
            refusal: None,
            stale: None,
            is_crowded: false,
        }
    }

    fn is_open(&self) -> bool {
        self.outcomes.iter().any(|(_, outcome)| outcome.is_none())
    }

    fn is_stale(&self, key: &str) -> bool {
        self.stale.as_deref() == Some(key)
    }

    /// Positions in `outcomes` of the recipients without an outcome.
    fn open(&self) -> Vec<usize> {
        (0..self.outcomes.len()).filter(|position| self.outcomes[*position].1.is_none()).collect()
    }

    fn transaction(&self, positions: &[usize], content: &Outgoing) -> Transaction {
        let message = &self.delivery.message;
        let recipient = |position: &usize| {
            let recipient = &message.recipients[self.outcomes[*position].0];
            Recipient { path: recipient.path.clone(), parameters: recipient.parameters.clone() }
        };
        Transaction {
            reverse_path: message.reverse_path.clone(),
            parameters: message.parameters.clone(),
            recipients: positions.iter().map(recipient).collect(),
            content: content.traits(),
        }
    }

    /// Takes the fates of a transaction. False if nothing was decided, so that the host must not be
    /// asked again.
    fn take(&mut self, session: &Session, positions: &[usize], fates: Vec<Fate>) -> bool {
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
                Fate::Refused(reply) => Outcome::Deferred { reply, peer, retry_in: None },
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

    /// The connection broke before anything was decided. One that had waited in the pool may just
    /// have been closed by the host, so the same host gets a new one.
    fn lost(&mut self, reply: Reply, peer: Option<String>) {
        match self.target.take() {
            Some((target, Origin::Reused)) => {
                self.stale = Some(target.key());
                self.targets.push_front(target);
            }
            Some((_, Origin::New)) => self.refused(Refusal::by(reply, peer)),
            None => {}
        }
    }

    /// A host did not do. What may change later counts more than what will not: another host may be
    /// back then.
    fn refused(&mut self, refusal: Refusal) {
        match &self.refusal {
            Some(known) if known.reply.is_temporary() && refusal.reply.is_permanent() => {}
            _ => self.refusal = Some(refusal),
        }
    }

    /// The same outcome for all that have none.
    fn give_up(mut self, reply: &Reply, peer: Option<&str>) -> Vec<(usize, Outcome)> {
        let peer = peer.map(str::to_owned);
        let outcome = if reply.is_permanent() {
            Outcome::Failed { reply: reply.clone(), peer, quiet: false }
        } else {
            Outcome::Deferred { reply: reply.clone(), peer, retry_in: None }
        };
        self.fill(&outcome);
        self.into_outcomes()
    }

    /// No host is left, or nothing is open.
    fn finish(mut self) -> Vec<(usize, Outcome)> {
        match self.refusal.take() {
            Some(refusal) => self.give_up(&refusal.reply, refusal.peer.as_deref()),
            None if self.is_crowded => {
                self.fill(&Outcome::NotTried { retry_in: CROWDED });
                self.into_outcomes()
            }
            None => self.give_up(&Reply::new(451, "4.4.0 No host took the message"), None),
        }
    }

    fn fill(&mut self, outcome: &Outcome) {
        for (_, open) in &mut self.outcomes {
            open.get_or_insert_with(|| outcome.clone());
        }
    }

    fn into_outcomes(self) -> Vec<(usize, Outcome)> {
        self.outcomes.into_iter().filter_map(|(index, outcome)| Some((index, outcome?))).collect()
    }
}

// When all connections to a host are in use, the message waits in the queue, not here.
const CROWDED: std::time::Duration = std::time::Duration::from_secs(5);
