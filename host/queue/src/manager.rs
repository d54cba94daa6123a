//! The one owner: takes what was accepted, hands out deliveries and notices, records outcomes.
//!
//! Of a message that waits it keeps an [`Entry`]; the message itself is read when it is due (or an operator acts) and is
//! then [`Loaded`] until nothing is in hand and its new state is on disk. The owner never blocks and never waits for
//! anybody: files are read by jobs, written by the committer, and both report back.

mod admin;
mod deferred;
mod destinations;
mod entries;
mod loaded;
mod notices;
mod outcomes;
mod routing;
mod settle;
mod suspended;
mod waiting;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use message::Id;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior};

pub(crate) use admin::{Candidate, Survey, place_name};
use deferred::Deferred;
pub(crate) use deferred::FromIndex;
use destinations::LastWords;
use entries::{Entries, Entry, Spot};
use loaded::{Loaded, Task};
use notices::Notices;
use outcomes::Handed;
use settle::{Settling, Used};
use suspended::Suspensions;

use crate::admin::{Action, Destination, Filter};
use crate::clock::Clock;
use crate::commit::{Gauge, Order, Written};
use crate::config::Config;
use crate::delivery::{Delivery, Notice};
use crate::disk::Disk;
use crate::error::Error;
use crate::index::Index;
use crate::load::Cause;
use crate::message::{Message, Outcome, Router, Routing, Tells};
use crate::record::Record;
use crate::recovery::{Parts as StateParts, Recovered};
use crate::schedule::{Lanes, Turns};
use crate::store::{Moved, set_aside_names};
use crate::suspension::{Suspended, Suspension};

/// What others ask of the owner.
pub(crate) enum Command {
    /// A worker waits for work.
    Next(oneshot::Sender<Delivery>),
    /// Somebody waits for news.
    NextNotice(oneshot::Sender<Notice>),
    /// Where all messages are that may match, without a look at each.
    Survey(Arc<Filter>, oneshot::Sender<Survey>),
    /// Where to read these messages.
    Select(Vec<Id>, oneshot::Sender<Vec<Candidate>>),
    /// What a report for this message tells.
    Tells(Id, oneshot::Sender<Option<Tells>>),
    /// What waits for each destination, and the oldest of it.
    Destinations(oneshot::Sender<Vec<(Destination, Option<Id>)>>),
    /// What is suspended.
    Suspended(oneshot::Sender<Vec<Suspended>>),
    /// Keep this back, for this reason.
    Suspend(Suspension, Option<String>, Durable),
    /// Let it go.
    Resume(Suspension, Durable),
    /// Do something to these messages.
    Apply(Vec<(Id, Durable)>, Action),
    /// Hand out nothing more; answered when everything is back and written.
    Shutdown(oneshot::Sender<()>),
}

impl Command {
    fn is_of_operators(&self) -> bool {
        matches!(self, Self::Survey(..) | Self::Select(..) | Self::Apply(..))
    }
}

/// What comes back to the owner. There is at most one for each thing that was handed out, so the channel needs no bound.
pub(crate) enum Return {
    Finished { number: u64, outcomes: Vec<(usize, Outcome)>, done: Option<Durable> },
    Notice { id: Id, tells: Tells, told: bool, done: Option<Durable> },
    Loaded { id: Id, result: Result<Box<Message>, Error> },
    Routed { id: Id, routings: Vec<Routing> },
    Settled { results: Vec<Moved>, removed: Vec<Id>, index: Index },
    SetAside(Id),
    SuspensionsSaved(Result<(), String>),
    Router(Arc<dyn Router>),
}

impl std::fmt::Debug for Return {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Return")
    }
}

pub(crate) type Durable = oneshot::Sender<Result<(), Error>>;

/// The owner's ends of the channels.
pub(crate) struct Inbox {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) returns: mpsc::UnboundedReceiver<Return>,
    pub(crate) written: mpsc::Receiver<Written>,
    pub(crate) reports: mpsc::Receiver<FromIndex>,
}

/// The owner.
pub(crate) struct Manager {
    config: Arc<Config>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    gauge: Arc<Gauge>,
    orders: mpsc::UnboundedSender<Order>,
    home: mpsc::UnboundedSender<Return>,
    router: Option<Arc<dyn Router>>,
    /// The disk takes what outcomes say. If not, nothing is handed out: it would be done twice.
    healthy: bool,
    stopping: Option<Vec<oneshot::Sender<()>>>,
    /// The owner's own time: what the wall clock said at the start, and since then a clock that nobody sets.
    began: (Instant, u64),
    entries: Entries,
    loaded: HashMap<Id, Loaded>,
    /// Accepted a moment ago: needs not be read.
    fresh: HashMap<Id, Box<Message>>,
    lanes: Lanes,
    turns: Turns,
    workers: VecDeque<oneshot::Sender<Delivery>>,
    handed: HashMap<u64, Handed>,
    notices: Notices,
    segments: BTreeMap<u32, Used>,
    deferred: Deferred,
    /// Parts of states that were found, of messages that are not known yet.
    parts: HashMap<Id, StateParts>,
    /// Files that belong to no message, as far as was looked.
    pub(crate) orphans: usize,
    settling: Settling,
    suspensions: Suspensions,
    last_words: LastWords,
    /// What is being written, and what is to happen then.
    writing: HashMap<u64, Writing>,
    /// Something in `loaded` is to be written again.
    any_failed: bool,
    next_number: u64,
}

/// A record on its way to the disk.
struct Writing {
    id: Id,
    what: What,
    done: Vec<Durable>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    State { brief_revision: u64 },
    Change,
    Done,
}

impl Manager {
    pub(crate) fn new(parts: Parts, recovered: Recovered, suspended: Vec<Suspended>) -> Self {
        let Parts { config, disk, clock, gauge, orders, home, reports } = parts;
        let millis = clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(millis.as_millis()).unwrap_or_default();
        // Twice as many as can be in hand: while some are delivered the next are read and routed.
        let lanes = Lanes::new(config.active, config.per_destination.saturating_mul(2));
        let turns = Turns::new(config.workers, config.per_destination);
        let mut manager = Self {
            config,
            disk,
            clock,
            gauge,
            orders,
            home,
            router: None,
            healthy: true,
            stopping: None,
            began: (Instant::now(), millis),
            entries: Entries::default(),
            loaded: HashMap::new(),
            fresh: HashMap::new(),
            lanes,
            turns,
            workers: VecDeque::new(),
            handed: HashMap::new(),
            notices: Notices::default(),
            segments: BTreeMap::new(),
            deferred: Deferred::new(recovered.late, recovered.large, reports),
            parts: recovered.parts,
            orphans: 0,
            settling: Settling::default(),
            suspensions: Suspensions::new(suspended),
            last_words: LastWords::new(),
            writing: HashMap::new(),
            any_failed: false,
            next_number: 1,
        };
        for segment in recovered.segments.into_values() {
            manager.begin_segment(segment);
        }
        for (id, known) in recovered.known {
            manager.take_known(id, known);
        }
        manager.age_segments();
        manager
    }

    /// Runs until every handle is gone, or a shutdown is complete.
    pub(crate) async fn run(mut self, mut inbox: Inbox) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.start_loading();
        loop {
            let wake = self.wake();
            tokio::select! {
                biased;
                written = inbox.written.recv() => match written {
                    Some(written) => self.written(written),
                    None => return,
                },
                Some(returned) = inbox.returns.recv() => self.returned(returned),
                Some(report) = inbox.reports.recv() => self.from_index(report),
                command = inbox.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                () = tokio::time::sleep_until(wake) => {}
                _ = tick.tick() => {
                    self.tell_metrics();
                    self.maintain();
                }
            }
            self.pump();
            if self.is_stopped() {
                return;
            }
        }
    }

    fn command(&mut self, command: Command) {
        if !self.deferred.listed && command.is_of_operators() {
            return self.deferred.waiting.push(command);
        }
        match command {
            Command::Next(worker) => self.workers.push_back(worker),
            Command::NextNotice(teller) => self.notices.tellers.push_back(teller),
            Command::Survey(filter, reply) => drop(reply.send(self.survey(&filter))),
            Command::Select(ids, reply) => drop(reply.send(self.select(&ids))),
            Command::Destinations(reply) => drop(reply.send(self.destinations())),
            Command::Suspended(reply) => drop(reply.send(self.suspensions.list())),
            Command::Suspend(what, reason, done) => self.suspend(what, reason, done),
            Command::Resume(what, done) => self.resume(&what, done),
            Command::Tells(id, reply) => drop(reply.send(self.notices.in_hand(id))),
            Command::Apply(ids, action) => self.apply(ids, &action),
            Command::Shutdown(reply) => self.stop(reply),
        }
    }

    fn returned(&mut self, returned: Return) {
        match returned {
            Return::Finished { number, outcomes, done } => self.finished(number, outcomes, done),
            Return::Notice { id, tells, told, done } => {
                self.notice_returned(id, &tells, told, done)
            }
            Return::Loaded { id, result } => self.was_loaded(id, result),
            Return::Routed { id, routings } => {
                self.routed(id, routings);
                // What was being routed when the end began is not handed out any more.
                if self.stopping.is_some() {
                    self.recall_everything();
                }
            }
            Return::Settled { results, removed, index } => self.settled(results, removed, index),
            Return::SetAside(id) => self.was_set_aside(id),
            Return::SuspensionsSaved(result) => self.suspensions_saved(&result),
            Return::Router(router) => self.router = Some(router),
        }
    }

    /// What the committer did.
    fn written(&mut self, written: Written) {
        for segment in written.begun {
            self.begin_segment(segment);
        }
        for (message, place) in written.accepted {
            self.accepted(message, place);
        }
        for number in written.freed {
            self.segments.remove(&number);
        }
        for number in written.pinned {
            self.free_later(number);
        }
        self.healthy = written.healthy;
        for (number, result) in written.recorded {
            self.recorded(number, result);
        }
        if self.healthy {
            self.write_what_failed();
        }
        // Nothing else waits for the ticks while a disk is broken.
        if !self.segments.is_empty() {
            self.free_segments();
        }
    }

    /// Starts everything that can be started now.
    fn pump(&mut self) {
        if !self.healthy || self.stopping.is_some() || !self.deferred.listed {
            return;
        }
        let now = self.now();
        while self.may_take() {
            let Some((_, id)) = self.lanes.take(now) else { break };
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.due = None;
                entry.out = true;
                self.load(id, Task::Route);
            }
        }
        self.hand_out();
        self.pump_notices(now);
    }

    fn may_take(&self) -> bool {
        self.router.is_some() && self.loaded.len() < self.config.active
    }

    /// When there is something to do by itself.
    fn wake(&self) -> Instant {
        let listed = self.deferred.listed;
        let due = if self.healthy && self.stopping.is_none() && listed && self.may_take() {
            self.lanes.next_due()
        } else {
            None
        };
        let in_millis = due.map_or(u64::MAX, |due| due.saturating_sub(self.now()));
        Instant::now() + Duration::from_millis(in_millis).min(IDLE)
    }

    /// Milliseconds on the owner's own scale.
    fn now(&self) -> u64 {
        let passed = u64::try_from(self.began.0.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.began.1.saturating_add(passed)
    }

    /// A time of the wall clock on the owner's own scale. It lies ahead by the interval it ended at most: if the clock was
    /// set back meanwhile, nobody waits for it to catch up.
    fn own_time(&self, (due, wait): (SystemTime, Duration)) -> u64 {
        let ahead = due.duration_since(self.clock.now()).unwrap_or_default().min(wait);
        self.now().saturating_add(u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX))
    }

    fn tell_metrics(&self) {
        use metrics::gauge;
        let disk = Arc::clone(&self.disk);
        spawn_blocking(move || set_aside_names(&*disk));
        let (all, closed) = self.gauge.with_load(|load| {
            // What was met is looked at again even when nobody comes.
            let _ = load.admit(None, &self.config.limits);
            (load.all(), load.closed().collect::<Vec<_>>())
        });
        gauge!("gatepost_queue_messages").set(all.messages as f64);
        gauge!("gatepost_queue_octets").set(all.octets as f64);
        gauge!("gatepost_queue_active").set(self.loaded.len() as f64);
        gauge!("gatepost_queue_deliveries").set(self.handed.len() as f64);
        for cause in [Cause::Messages, Cause::Octets, Cause::Outside] {
            let value = if closed.contains(&cause) { 1.0 } else { 0.0 };
            gauge!("gatepost_backpressure", "cause" => cause.name()).set(value);
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Sends a record to the disk.
    fn write(&mut self, record: Record, what: What, done: Vec<Durable>) {
        let number = self.number();
        self.writing.insert(number, Writing { id: record.id, what, done });
        // If the committer is gone, so are we in a moment.
        let _ = self.orders.send(Order::Record(number, record));
    }

    fn stop(&mut self, reply: oneshot::Sender<()>) {
        self.stopping.get_or_insert_default().push(reply);
        self.workers.clear();
        self.notices.tellers.clear();
        self.deferred.stop();
        self.recall_everything();
    }

    /// Everything handed out is back and on disk. Sends the answers.
    fn is_stopped(&mut self) -> bool {
        let still = !self.loaded.is_empty() || !self.writing.is_empty() || self.settling.running;
        if self.stopping.is_none() || (still && self.healthy) || !self.handed.is_empty() {
            return false;
        }
        for reply in self.stopping.take().unwrap_or_default() {
            let _ = reply.send(());
        }
        true
    }
}

/// What the owner is made of.
pub(crate) struct Parts {
    pub(crate) config: Arc<Config>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    pub(crate) home: mpsc::UnboundedSender<Return>,
    pub(crate) reports: mpsc::Sender<FromIndex>,
}

/// How often segments are looked after.
const TICK: Duration = Duration::from_secs(5);

/// Longer than this nobody sleeps, so that no sum overflows.
const IDLE: Duration = Duration::from_secs(3600);
