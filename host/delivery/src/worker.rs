//! One attempt, in four steps: resolve → connect → converse → report.

use std::{collections::BTreeMap, sync::Arc};

use metrics::{counter, gauge, histogram};
use smtp::{Reply, Route, TlsDemand};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::Instant,
};
use tracing::Instrument;

use crate::{
    House,
    content::Outgoing,
    course::{Course, Origin, Outcomes},
    forwarding, list, mailbox, metric,
    pool::{self, Call, Entry},
    report,
    resolve::resolve,
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
    let (unrecorded, recorded) = watch::channel(());
    let outcomes = outcomes(house, &delivery, &recorded).await;
    report::report(house, delivery, outcomes).await;
    // What came of it is on disk: whoever has the connection now may end the next message.
    drop(unrecorded);
    gauge!(metric::ATTEMPTS).decrement(1.0);
    histogram!(metric::DURATION).record(started.elapsed());
}

/// What came of it for each recipient: the first three steps. `recorded` ends when that is on disk.
async fn outcomes(
    house: &House,
    delivery: &queue::Delivery,
    recorded: &watch::Receiver<()>,
) -> Outcomes {
    let content = match delivery.content() {
        Ok(content) => Arc::new(content),
        Err(error) => {
            let course = Course::new(delivery, &delivery.recipients, house.config.greylist_retry);
            return course.give_up(&unreadable(delivery, &error), None);
        }
    };
    let (mut outcomes, recipients) = match &delivery.route {
        Route::Maildir(path) => return mailbox::deliver(house, path, delivery, &content).await,
        // RFC 2033 §1: what is behind LMTP is the mailbox.
        Route::Lmtp(_) => mailbox::judge(house, delivery, &content).await,
        Route::List(address) => return list::deliver(house, address, delivery, &content).await,
        Route::Mx(_) | Route::Host { .. } => (Outcomes::new(), delivery.recipients.clone()),
    };
    let reverse_path = forwarding::reverse_path(&house.routing(), delivery);
    for (demand, recipients) in by_demand(delivery, &recipients) {
        let mut course = Course::new(delivery, &recipients, house.config.greylist_retry);
        if let Some(path) = &reverse_path {
            course.set_reverse_path(path.clone());
        }
        outcomes.extend(pursue(house, course, (delivery, recorded), demand, &content).await);
    }
    outcomes
}

/// The recipients by what policy demands of TLS for their copies: each such group has connections of its own. Of most
/// messages nothing is demanded.
fn by_demand(delivery: &queue::Delivery, recipients: &[usize]) -> BTreeMap<TlsDemand, Vec<usize>> {
    let mut groups: BTreeMap<TlsDemand, Vec<usize>> = BTreeMap::new();
    for &index in recipients {
        let demand = delivery.message.recipients[index].tls.unwrap_or_default();
        groups.entry(demand).or_default().push(index);
    }
    groups
}

/// One course to its end. A connection that is kept waits with its next message until `recorded` ends.
async fn pursue(
    house: &House,
    mut course: Course<'_>,
    (delivery, recorded): (&queue::Delivery, &watch::Receiver<()>),
    demand: TlsDemand,
    content: &Arc<queue::Content>,
) -> Outcomes {
    match resolve(house, &delivery.route).await {
        Ok(targets) => {
            course.set_targets(targets.into_iter().map(|target| target.with(demand)).collect());
        }
        Err(reply) => return course.give_up(&reply, None),
    }
    let mut outgoing = None;
    while course.is_open() {
        let Some(mut session) = connect(house, &mut course, &delivery.route).await else { break };
        // Looked through once a host is there, so that who waits for one holds no buffer.
        let content = match &outgoing {
            Some(content) => content,
            None => match Outgoing::survey(Arc::clone(content)).await {
                Ok(content) => outgoing.insert(content),
                Err(error) => return course.give_up(&unreadable(delivery, &error), None),
            },
        };
        converse(&mut session, &mut course, content).await;
        session.unrecorded = Some(recorded.clone());
        if course.is_open() {
            // Another host is next, and nobody may wait on this connection until all of the attempt is over.
            pool::farewell(session);
        } else {
            house.pool.keep_or_quit(session);
        }
    }
    course.finish()
}

fn unreadable(delivery: &queue::Delivery, error: &dyn std::error::Error) -> Reply {
    tracing::error!(message = %delivery.message.id, %error, "the content of a message cannot be read");
    Reply::new(451, "4.3.0 The content cannot be read at the moment")
}

/// Second step: a session with the next host that takes one. `None` when no host is left.
async fn connect(house: &House, course: &mut Course<'_>, route: &Route) -> Option<Session> {
    let (name, rate) = (route.destination(), house.routing().way(route).rate);
    while let Some(target) = course.next_target() {
        let has_to_be_new = course.is_stale(&target);
        let call = Call { target: &target, route: &name, rate, has_to_be_new };
        let place = match house.pool.enter(call).await {
            Entry::New(place) => place,
            Entry::Reused(session) => {
                counter!(metric::SESSIONS, "origin" => "reused").increment(1);
                course.talks_to(target, Origin::Reused);
                return Some(*session);
            }
            Entry::Later(wait) => {
                course.postpone(&target, wait);
                continue;
            }
            Entry::Down(reply) => {
                course.refused(Refusal::ours(reply));
                continue;
            }
        };
        match Session::open(house, &target, place).await {
            Ok(session) => {
                counter!(metric::SESSIONS, "origin" => "new").increment(1);
                course.talks_to(target, Origin::New);
                return Some(session);
            }
            Err(refusal) => course.no_session(target, refusal),
        }
    }
    None
}

/// Third step: the recipients that have no outcome yet, in as many transactions as the host wants.
async fn converse(session: &mut Session, course: &mut Course<'_>, content: &Outgoing) {
    while course.is_open() && session.can_begin() {
        let recipients = course.open();
        let transaction = course.transaction(&recipients, content.traits());
        let fates = session.transact(transaction, content).await;
        let progress = course.take(session, &recipients, fates);
        if !progress {
            return;
        }
    }
    if course.is_open() {
        course.again();
    }
}
