//! Opening the spool, and starting and ending the tasks of the queue.

use std::any::Any;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::{Queue, Recovery, Shared};
use crate::clock::Clock;
use crate::commit::{self, Committer, Gauge};
use crate::config::Config;
use crate::disk::Disk;
use crate::error::Error;
use crate::format;
use crate::index;
use crate::manager::{self, Manager, Parts};
use crate::recovery::deferred::Loader;
use crate::recovery::recover;
use crate::segment::{Log, make_spare};
use crate::suspension;

pub(super) async fn open(
    config: Config,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
) -> Result<(Queue, Recovery), Error> {
    let began = tokio::time::Instant::now();
    let config = Arc::new(config);
    let gauge = Arc::new(Gauge::default());
    let (home, returns) = mpsc::unbounded_channel();
    let (orders, order_inbox) = mpsc::unbounded_channel();
    let (reports, reports_inbox) = mpsc::channel(REPORTS);
    let parts = Parts {
        config: Arc::clone(&config),
        disk: Arc::clone(&disk),
        clock: Arc::clone(&clock),
        gauge: Arc::clone(&gauge),
        orders,
        home: home.clone(),
        reports,
    };
    let opened = spawn_blocking(move || open_spool(parts)).await;
    let Opened { lock, committer, manager, mut report } =
        opened.map_err(|error| Error::NotDurable(error.to_string()))??;
    report.took = began.elapsed();

    let (accepting, accepting_inbox) = mpsc::channel(config.limits.batch_messages.max(1));
    let (written, written_inbox) = mpsc::channel(WRITTEN);
    let (commands, command_inbox) = mpsc::channel(COMMANDS);
    let inbox = commit::Inbox { accepting: accepting_inbox, orders: order_inbox, written };
    let committing = tokio::spawn(commit::run(committer, inbox, lock));
    let inbox = manager::Inbox {
        commands: command_inbox,
        returns,
        written: written_inbox,
        reports: reports_inbox,
    };
    tokio::spawn(async move {
        manager.run(inbox).await;
        // With the owner its orders end, and so does the committer, which unlocks the spool.
        let _ = committing.await;
    });
    let draft_memory = Arc::default();
    let shared = Shared { config, disk, clock, gauge, draft_memory, accepting, commands, home };
    Ok((Queue { shared: Arc::new(shared) }, report))
}

struct Opened {
    lock: Box<dyn Any + Send + Sync>,
    committer: Committer,
    manager: Manager,
    report: Recovery,
}

/// Everything that is done before the first task runs. Blocks.
fn open_spool(parts: Parts) -> Result<Opened, Error> {
    let (disk, limits) = (Arc::clone(&parts.disk), parts.config.limits.clone());
    let lock = format::lock(&*disk)?;
    format::prepare(&*disk)?;
    let mut recovered = recover(&disk, limits.segment_octets, true)?;
    let mut log = Log::new(Arc::clone(&disk), &limits, std::mem::take(&mut recovered.found));
    while log.spares_wanted() > 0 {
        let name = log.spare_name();
        if let Err(error) = make_spare(&*disk, &name, limits.segment_octets) {
            // What is queued can be delivered all the same; accepting begins when there is room.
            tracing::error!(%error, "no spare segment could be made");
            break;
        }
        log.add_spare(name);
    }
    let gauge = Arc::clone(&parts.gauge);
    let committer = Committer::new(Arc::clone(&disk), limits, log, gauge);
    let mut report = recovered.report.clone();
    let suspended = suspension::load(&*disk)?;
    let mut manager = Manager::new(parts, recovered, suspended);
    let index = Loader::open(&*disk, true).transpose();
    index
        .unwrap_or_else(|| Err(std::io::ErrorKind::NotFound.into()))
        .and_then(|loader| manager.load_index(loader))
        .map_err(Error::disk("read", disk.name(index::FILE)))?;
    let (damaged, messages, held) = manager.counts();
    (report.messages, report.held, report.orphans) = (messages, held, manager.orphans);
    report.corrupt += damaged;
    report.complete = manager.knows_everything();
    Ok(Opened { lock, committer, manager, report })
}

/// Portions of the index that may be on their way to the owner.
const REPORTS: usize = 4;

/// Batches that may be on their way from the disk to the owner.
const WRITTEN: usize = 16;

/// Questions that may wait for the owner.
const COMMANDS: usize = 256;
