//! Group commit: everything that waits is written with one flush, then everybody who waited is told.
//!
//! One task owns the log. While a batch is being flushed the next one gathers by itself; nobody waits for company. Under
//! load the thread that flushes takes the next batch at once, so that a batch costs no change of threads but those of the
//! sessions that are told.

mod gauge;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::config::Limits;
use crate::disk::{Disk, File};
use crate::draft::LargeFile;
use crate::error::Error;
use crate::message::{Message, Receipt};
use crate::record::Record;
use crate::segment::{Log, Place, Segment, WriteError};
pub(crate) use gauge::Gauge;
use gauge::GaugeState;
use writer::Batch;
pub(crate) use writer::run;

/// A message that waits for its receipt.
#[derive(Debug)]
pub(crate) struct Accepting {
    pub(crate) record: Record,
    pub(crate) message: Box<Message>,
    /// Its file, removed again if the message is not accepted.
    pub(crate) large: Option<LargeFile>,
    pub(crate) reply: oneshot::Sender<Result<Receipt, Error>>,
}

/// What the owner of the queue wants written. It is never refused for want of room in the channel: there is at most one
/// per message in hand, and administration waits for each portion.
#[derive(Debug)]
pub(crate) enum Order {
    /// Write this and report under this number.
    Record(u64, Record),
    /// The oldest segment is not needed any more; its file, to see whether somebody reads it. Then it is freed later, or
    /// removed instead of used again if `pinned_too`.
    Free { number: u32, file: Arc<dyn File>, pinned_too: bool },
    /// Begin a new segment, so that the current one can be emptied.
    Roll,
}

/// What was done, for the owner of the queue.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Accepted, in order.
    pub(crate) accepted: Vec<(Box<Message>, Place)>,
    /// Recorded, or why not.
    pub(crate) recorded: Vec<(u64, Result<Place, String>)>,
    /// Segments that were freed.
    pub(crate) freed: Vec<u32>,
    /// Segments that somebody still reads, or that could not be freed: try later.
    pub(crate) pinned: Vec<u32>,
    /// Segments that were begun.
    pub(crate) begun: Vec<Segment>,
    /// Deliveries may go on: what they do can be recorded.
    pub(crate) healthy: bool,
}

/// The task's ends of the channels.
pub(crate) struct Inbox {
    pub(crate) accepting: mpsc::Receiver<Accepting>,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    pub(crate) written: mpsc::Sender<Written>,
}

/// An answer that is ready to be given.
struct Reply {
    to: oneshot::Sender<Result<Receipt, Error>>,
    result: Result<Receipt, Error>,
}

impl Reply {
    fn send(self) {
        // Who waited may have gone; an accepted message is delivered all the same.
        let _ = self.to.send(self.result);
    }
}

/// The owner of the log.
#[derive(Debug)]
pub(crate) struct Committer {
    disk: Arc<dyn Disk>,
    limits: Limits,
    log: Log,
    gauge: Arc<Gauge>,
    /// Messages that were refused although their record may be on the disk: to be called off.
    unsure: Vec<Record>,
    /// Flushes that failed since the last that did not.
    failures: u32,
    /// What the last of them said.
    last_failure: String,
    low_space: Option<String>,
    /// Messages were refused, and none was taken since.
    refusing: bool,
    meters: Meters,
}

/// Handles of the metrics that every round changes, looked up once.
struct Meters {
    flushes: metrics::Counter,
    records: metrics::Counter,
    free_octets: metrics::Gauge,
    free_inodes: metrics::Gauge,
    full: metrics::Gauge,
    broken: metrics::Gauge,
}

impl Meters {
    fn new() -> Self {
        Self {
            flushes: metrics::counter!("gatepost_queue_flushes_total"),
            records: metrics::counter!("gatepost_queue_records_total"),
            free_octets: metrics::gauge!("gatepost_spool_free_octets"),
            free_inodes: metrics::gauge!("gatepost_spool_free_inodes"),
            full: metrics::gauge!("gatepost_backpressure", "cause" => "disk"),
            broken: metrics::gauge!("gatepost_backpressure", "cause" => "broken"),
        }
    }
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

impl Committer {
    pub(crate) fn new(disk: Arc<dyn Disk>, limits: Limits, log: Log, gauge: Arc<Gauge>) -> Self {
        let (unsure, failures, last_failure) = (Vec::new(), 0, String::new());
        let (low_space, refusing, meters) = (None, false, Meters::new());
        let mut committer = Self {
            disk,
            limits,
            log,
            gauge,
            unsure,
            failures,
            last_failure,
            low_space,
            refusing,
            meters,
        };
        // Before the first MAIL, not after the first message.
        committer.look_at_space();
        committer.publish();
        committer
    }

    fn round(&mut self, batch: Batch) -> (Written, Vec<Reply>) {
        let mut written = Written::default();
        let before = self.log.current().map(|segment| segment.origin.segment);
        self.look_at_space();
        let mut records = Vec::new();
        for order in batch.orders {
            match order {
                Order::Record(number, record) => records.push((number, record)),
                Order::Free { number, file, pinned_too } => {
                    // One came with the order, one the owner of the queue keeps until it is freed; more are readers.
                    let pinned = Arc::strong_count(&file) > 2;
                    if pinned && !pinned_too {
                        written.pinned.push(number);
                    } else {
                        self.free(number, pinned, &mut written);
                    }
                }
                Order::Roll => drop(self.log.roll()),
            }
        }
        let replies = self.write(records, batch.accepting, &mut written);
        if let Some(segment) = self.log.current().filter(|now| Some(now.origin.segment) != before) {
            written.begun.push(segment.clone());
        }
        written.healthy = self.failures < 2 && self.log.can_record();
        self.publish();
        (written, replies)
    }

    /// How long nothing may happen.
    fn patience(&self) -> Duration {
        let well = self.failures == 0 && self.low_space.is_none() && self.log.has_room(0);
        if well { SELDOM } else { OFTEN }
    }

    fn write(
        &mut self,
        records: Vec<(u64, Record)>,
        accepting: Vec<Accepting>,
        written: &mut Written,
    ) -> Vec<Reply> {
        let mut refusal = self.refusal(&accepting);
        if refusal.is_none() && !accepting.is_empty() {
            match self.try_write(&records, &accepting) {
                Ok((places, accepted_places)) => {
                    written.recorded.extend(numbered(&records, places));
                    self.refusing = false;
                    return accept(accepting, accepted_places, written);
                }
                Err(WriteError::Full(what)) => refusal = Some(Refusal::Full(what)),
                Err(WriteError::Disk(error)) => {
                    self.failed(&error);
                    self.unsure.extend(accepting.iter().map(|one| Record::done(one.record.id)));
                    refusal = Some(Refusal::NotDurable(error.to_string()));
                }
            }
        }
        // Without the messages: what happened to earlier ones, and that the failed ones are not accepted after all.
        if !records.is_empty() || !self.unsure.is_empty() || self.failures > 0 {
            match self.probe().and_then(|()| self.try_write(&records, &[])) {
                Ok((places, _)) => written.recorded.extend(numbered(&records, places)),
                Err(error) => {
                    if let WriteError::Disk(error) = &error {
                        self.failed(error);
                    }
                    let what = error.to_string();
                    written.recorded.extend(records.iter().map(|(n, _)| (*n, Err(what.clone()))));
                }
            }
        }
        self.tell_refusal(refusal.as_ref());
        let refuse = |one: Accepting| Reply {
            to: one.reply,
            result: Err(refusal.as_ref().map_or(Error::Closed, Refusal::error)),
        };
        accepting.into_iter().map(refuse).collect()
    }

    /// Says once why messages are refused, and not again before one was taken.
    fn tell_refusal(&mut self, refusal: Option<&Refusal>) {
        if let Some(refusal) = refusal
            && !std::mem::replace(&mut self.refusing, true)
        {
            tracing::warn!("messages are refused at the end of data: {}", refusal.error());
        }
    }

    /// One batch: what is called off, records of the owner, messages.
    fn try_write(
        &mut self,
        records: &[(u64, Record)],
        accepting: &[Accepting],
    ) -> Result<(Vec<Place>, Vec<Place>), WriteError> {
        let all: Vec<&Record> = self
            .unsure
            .iter()
            .chain(records.iter().map(|(_, record)| record))
            .chain(accepting.iter().map(|one| &one.record))
            .collect();
        let mut places = self.log.write(&all, !accepting.is_empty())?;
        self.meters.flushes.increment(1);
        self.meters.records.increment(all.len() as u64);
        let mut places = places.split_off(self.unsure.len());
        let accepted = places.split_off(records.len());
        self.unsure.clear();
        if self.failures > 0 {
            tracing::warn!(failures = self.failures, "the spool can be written again");
            self.failures = 0;
        }
        Ok((places, accepted))
    }

    /// After two failures in a row, segments are too precious to try with: a file of its own must be writable first.
    fn probe(&self) -> Result<(), WriteError> {
        if self.failures < 2 {
            return Ok(());
        }
        let probe = || {
            let file = self.disk.create(PROBE)?;
            file.write_at(0, &[&[0; 4096]])?;
            file.sync()?;
            self.disk.remove(PROBE)
        };
        probe().map_err(|error| WriteError::Full(error.to_string()))
    }

    fn failed(&mut self, error: &std::io::Error) {
        self.failures += 1;
        metrics::counter!("gatepost_queue_flush_failures_total").increment(1);
        tracing::error!(%error, failures = self.failures, "the spool could not be written; its segment is sealed");
        self.last_failure = error.to_string();
        if self.failures == 2 {
            tracing::error!(
                "no mail is accepted or delivered until the spool can be written again, which is tried every second; \
                 `gatepost queue status` says what to do"
            );
        }
    }

    fn broken(&self) -> Option<String> {
        let words = || format!("two flushes in a row failed ({})", self.last_failure);
        (self.failures >= 2).then(words)
    }

    /// Why no message can be accepted in this round.
    fn refusal(&self, accepting: &[Accepting]) -> Option<Refusal> {
        let octets = accepting.iter().map(|one| one.record.most_octets()).sum();
        if self.failures >= 2 {
            Some(Refusal::Broken)
        } else if let Some(what) = &self.low_space {
            Some(Refusal::Full(what.clone()))
        } else if !self.log.has_room(octets) {
            Some(Refusal::Full("no spare segment".to_owned()))
        } else {
            None
        }
    }

    fn free(&mut self, number: u32, pinned: bool, written: &mut Written) {
        match self.log.free_oldest(number, pinned) {
            Ok(()) => written.freed.push(number),
            Err(error) => {
                tracing::warn!(segment = number, %error, "a segment could not be freed; trying again");
                written.pinned.push(number);
            }
        }
    }

    /// Looks at free octets and inodes; once too low they must rise to one and a half times the mark.
    fn look_at_space(&mut self) {
        let Ok(space) = self.disk.space() else { return };
        self.meters.free_octets.set(space.octets as f64);
        self.meters.free_inodes.set(space.inodes as f64);
        let mark = |low: u64| if self.low_space.is_some() { low + low / 2 } else { low };
        let (octets, inodes) = (mark(self.limits.free_octets), mark(self.limits.free_inodes));
        let now = if space.octets < octets {
            Some(format!(
                "{} octets are free on its file system, {octets} are demanded",
                space.octets
            ))
        } else if space.inodes < inodes {
            Some(format!(
                "{} inodes are free on its file system, {inodes} are demanded",
                space.inodes
            ))
        } else {
            None
        };
        if now.is_some() != self.low_space.is_some() {
            match &now {
                Some(what) => tracing::error!(%what, "the spool is full; mail is refused for now"),
                None => tracing::warn!("the spool has room again; mail is accepted"),
            }
        }
        self.low_space = now;
    }

    fn publish(&self) {
        let full = match self.refusal(&[]) {
            Some(Refusal::Full(what)) => Some(what),
            Some(Refusal::Broken | Refusal::NotDurable(_)) | None => None,
        };
        let broken = self.broken();
        let closed = |is_closed: bool| if is_closed { 1.0 } else { 0.0 };
        self.meters.full.set(closed(full.is_some()));
        self.meters.broken.set(closed(broken.is_some()));
        self.gauge.change(|state| *state = GaugeState { full, broken });
    }

    /// Is a spare segment wanted, and would it leave enough for everything else?
    fn may_make_spare(&self) -> bool {
        let needed = self.limits.segment_octets + self.limits.free_octets;
        self.log.spares_wanted() > 0
            && self.disk.space().is_ok_and(|space| space.octets > needed && space.inodes > 1)
    }
}

#[derive(Debug)]
enum Refusal {
    Full(String),
    Broken,
    NotDurable(String),
}

impl Refusal {
    fn error(&self) -> Error {
        match self {
            Self::Full(what) => Error::Full { what: what.clone() },
            Self::Broken => Error::Broken { what: "two flushes in a row failed".to_owned() },
            Self::NotDurable(what) => Error::NotDurable(what.clone()),
        }
    }
}

fn accept(accepting: Vec<Accepting>, places: Vec<Place>, written: &mut Written) -> Vec<Reply> {
    let mut replies = Vec::with_capacity(accepting.len());
    for (one, place) in accepting.into_iter().zip(places) {
        if let Some(large) = one.large {
            large.keep();
        }
        replies.push(Reply { to: one.reply, result: Ok(Receipt { id: one.message.id }) });
        written.accepted.push((one.message, place));
    }
    replies
}

fn numbered(
    records: &[(u64, Record)],
    places: Vec<Place>,
) -> impl Iterator<Item = (u64, Result<Place, String>)> {
    records.iter().zip(places).map(|((number, _), place)| (*number, Ok(place)))
}

/// Written and removed to see whether the disk works again.
const PROBE: &str = "log/probe";

/// How often space is looked at when nothing else happens…
const SELDOM: Duration = Duration::from_secs(30);

/// …and when mail is refused for want of it, or a broken disk is to be probed.
const OFTEN: Duration = Duration::from_secs(1);
