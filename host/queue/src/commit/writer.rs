//! Who waits for work, and gathers it: batches for the log, and spare segments for it.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::{Accepting, Committer, Inbox, OFTEN, Order};
use crate::config::Limits;
use crate::segment::make_spare;

/// Runs until the owner of the queue is gone. The lock is held while anything can be written.
pub(crate) async fn run(committer: Committer, inbox: Inbox, lock: Box<dyn Any + Send + Sync>) {
    let _lock = lock;
    let spares = Spares { making: None, next: Instant::now() };
    let mut writer = Writer { committer, inbox, carried: None, spares };
    while let Some(batch) = writer.wait().await {
        let work = spawn_blocking(move || {
            let goes_on = writer.write(batch);
            (writer, goes_on)
        });
        let (back, goes_on) = work.await.expect("a round of the log does not panic");
        if !goes_on {
            return;
        }
        writer = back;
    }
}

/// The committer with its work. It waits as a task; under load it stays on the thread where it may block, because the
/// next batch has gathered whenever one is flushed.
struct Writer {
    committer: Committer,
    inbox: Inbox,
    /// What was too much for the last batch.
    carried: Option<Accepting>,
    spares: Spares,
}

/// A spare segment in the making.
struct Spares {
    making: Option<oneshot::Receiver<Option<String>>>,
    /// After a failure, not before this.
    next: Instant,
}

impl Writer {
    /// Waits for the first of a batch, or for a reason to look at the disk. `None`: the owner of the queue is gone.
    async fn wait(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        tokio::select! {
            biased;
            order = self.inbox.orders.recv() => batch.orders.push(order?),
            Some(accepting) = self.inbox.accepting.recv(), if self.carried.is_none() => {
                self.carried = Some(accepting);
            }
            made = ready(&mut self.spares.making) => self.take_spare(made),
            () = tokio::time::sleep(self.committer.patience()) => {}
        }
        Some(batch)
    }

    /// Writes this batch, and the next as long as there is one. False: the owner of the queue is gone. Blocks.
    fn write(&mut self, mut batch: Batch) -> bool {
        loop {
            let carried = self.carried.take();
            self.carried = batch.gather(carried, &mut self.inbox, &self.committer.limits);
            self.wait_for_spare(&batch);
            let (written, replies) = self.committer.round(batch);
            if self.inbox.written.blocking_send(written).is_err() {
                return false;
            }
            // Only now: who has a receipt finds the message in every list.
            for reply in replies {
                reply.send();
            }
            self.make_spare();
            let Some(next) = self.next_batch() else { return true };
            batch = next;
        }
    }

    /// What came while the last batch was written.
    fn next_batch(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        if self.carried.is_none() {
            match self.inbox.orders.try_recv() {
                Ok(order) => batch.orders.push(order),
                Err(_) => self.carried = Some(self.inbox.accepting.try_recv().ok()?),
            }
        }
        Some(batch)
    }

    /// Large messages can fill a segment in less time than a spare takes: then they wait, and nobody is refused. A disk
    /// that needs longer than [`SPARE_PATIENCE`] is too slow for this mail.
    fn wait_for_spare(&mut self, batch: &Batch) {
        let octets = batch.most_octets();
        if octets == 0 {
            return;
        }
        let until = Instant::now() + SPARE_PATIENCE;
        let runtime = Handle::current();
        while self.committer.log.needs_spare(octets) {
            self.make_spare();
            let Some(making) = &mut self.spares.making else { return };
            let made = runtime.block_on(async { tokio::time::timeout_at(until, making).await });
            let Ok(made) = made else { return };
            self.take_spare(made.ok().flatten());
        }
    }

    /// Begins to make a spare segment, if one is wanted and takes no room from others.
    fn make_spare(&mut self) {
        if let Some(making) = &mut self.spares.making {
            match making.try_recv() {
                Ok(made) => self.take_spare(made),
                Err(oneshot::error::TryRecvError::Empty) => return,
                Err(oneshot::error::TryRecvError::Closed) => self.take_spare(None),
            }
        }
        if Instant::now() < self.spares.next || !self.committer.may_make_spare() {
            return;
        }
        let committer = &mut self.committer;
        let (disk, octets) = (Arc::clone(&committer.disk), committer.limits.segment_octets);
        let name = committer.log.spare_name();
        let (made, making) = oneshot::channel();
        spawn_blocking(move || {
            let _ = made.send(make_spare(&*disk, &name, octets).is_ok().then_some(name));
        });
        self.spares.making = Some(making);
    }

    /// A spare segment is there; or it could not be made.
    fn take_spare(&mut self, made: Option<String>) {
        self.spares.making = None;
        match made {
            Some(name) => self.committer.log.add_spare(name),
            None => self.spares.next = Instant::now() + OFTEN,
        }
    }
}

/// What became of a job that runs aside; forever none if there is none.
async fn ready<T>(job: &mut Option<oneshot::Receiver<Option<T>>>) -> Option<T> {
    match job {
        Some(job) => job.await.ok().flatten(),
        None => std::future::pending().await,
    }
}

/// What is written with one flush.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) orders: Vec<Order>,
    pub(super) accepting: Vec<Accepting>,
}

impl Batch {
    /// At least as many octets as its messages will have in the log.
    fn most_octets(&self) -> u64 {
        self.accepting.iter().map(|one| one.record.most_octets()).sum()
    }

    /// Takes everything that waits, up to the limits. What is too much for this batch is given back.
    fn gather(
        &mut self,
        mut carried: Option<Accepting>,
        inbox: &mut Inbox,
        limits: &Limits,
    ) -> Option<Accepting> {
        while let Ok(order) = inbox.orders.try_recv() {
            self.orders.push(order);
        }
        // In small segments, small batches: two of them fit.
        let most = limits.batch_octets.min((limits.segment_octets - limits.reserve_octets) / 2);
        let mut octets = 0;
        loop {
            let next = carried.take().or_else(|| inbox.accepting.try_recv().ok())?;
            octets += next.record.most_octets();
            let full = self.accepting.len() >= limits.batch_messages || octets > most;
            if full && !self.accepting.is_empty() {
                return Some(next);
            }
            self.accepting.push(next);
        }
    }
}

/// How long messages wait for a spare segment before they are refused: a client waits ten minutes for the reply to its
/// final dot (RFC 5321 §4.5.3.2.6), and a disk that needs longer for an empty file cannot be relied on.
const SPARE_PATIENCE: Duration = Duration::from_secs(5);
