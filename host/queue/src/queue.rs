//! The door of the room: a handle that many tasks share.

mod accept;
mod open;
mod select;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use message::Id;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use crate::admin::{Action, Destination, Detail, Filter, LastWord, Summary};
use crate::clock::{Clock, SystemClock};
use crate::commit::{Accepting, Gauge};
use crate::condition::{Condition, SHOWN};
use crate::config::Config;
use crate::content::Content;
use crate::delivery::{Delivery, Notice};
use crate::disk::{Disk, RealDisk};
use crate::draft::{Draft, Memory};
use crate::error::Error;
use crate::manager::{Candidate, Command, Durable, Return};
use crate::message::{Accept, Message, QueuedRecipient, Receipt, Router, Tells};
use crate::sender::{Sender, SenderKey};
use crate::store::set_aside_names;
use crate::suspension::{Suspended, Suspension};

/// The queue. Clones share it.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("disk", &self.shared.disk).finish_non_exhaustive()
    }
}

struct Shared {
    config: Arc<Config>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    gauge: Arc<Gauge>,
    draft_memory: Arc<AtomicU64>,
    accepting: mpsc::Sender<Accepting>,
    commands: mpsc::Sender<Command>,
    home: mpsc::UnboundedSender<Return>,
}

/// What was found when the queue was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Messages in the queue, as far as they are known yet.
    pub messages: usize,
    /// Of these, messages on hold.
    pub held: usize,
    /// Everything is known. If not, a large index is still being read, or a directory searched; mail is accepted.
    pub complete: bool,
    /// Segments of the log that were read.
    pub segments: usize,
    /// Damaged records and files; set aside in `corrupt/`.
    pub corrupt: usize,
    /// The last write before a crash was torn. Nothing of it was acknowledged.
    pub torn: bool,
    /// Files that a crash left and that belong to no message; removed.
    pub orphans: usize,
    /// How long it took.
    pub took: Duration,
}

impl Queue {
    /// Opens the spool, recovers what is in it and starts the tasks of the queue on the current runtime. They end after
    /// [`Queue::shutdown`], or when the last handle is gone.
    pub async fn open(config: Config) -> Result<(Self, Recovery), Error> {
        let root = config.directory.clone();
        let disk = RealDisk::new(&root).map_err(Error::disk("make", root))?;
        Self::open_with(config, Arc::new(disk), Arc::new(SystemClock)).await
    }

    /// The same with another disk and clock. `config.directory` is not looked at.
    pub async fn open_with(
        config: Config,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Recovery), Error> {
        open::open(config, disk, clock).await
    }

    /// Begins to receive a message of our own making. [`Error::Full`] when there is no room.
    pub fn draft(&self, id: Id) -> Result<Draft, Error> {
        self.admit(id, None)
    }

    /// Begins to receive a message of this sender. [`Error::Full`] when there is no room, [`Error::SenderFull`] when there
    /// is none for this sender; ask at MAIL already.
    pub fn draft_of(&self, id: Id, sender: &Sender<'_>) -> Result<Draft, Error> {
        self.admit(id, (!sender.is_ourselves()).then(|| sender.key()))
    }

    /// Somebody who watches what the queue cannot see (memory) says that no more mail may come, and why; or `None`: that it
    /// may again. Deliveries go on.
    pub fn shut(&self, why: Option<String>) {
        self.shared.gauge.with_load(|load| load.shut(why));
    }

    fn admit(&self, id: Id, sender: Option<SenderKey>) -> Result<Draft, Error> {
        let shared = &self.shared;
        let limits = &shared.config.limits;
        shared.gauge.admit(sender, limits)?;
        let memory = Memory::new(Arc::clone(&shared.draft_memory), limits.draft_memory_octets);
        Ok(Draft::new(id, Arc::clone(&shared.disk), limits.large_octets, memory))
    }

    /// Accepts a message. It is on stable storage when this returns `Ok`; when it returns an error, it is not accepted
    /// and will not appear (unless the disk failed twice in a row and the machine stops before it works again).
    pub async fn commit(&self, draft: Draft, mut accept: Accept) -> Result<Receipt, Error> {
        let shared = &self.shared;
        shared.gauge.check_disk()?;
        accept.hold = accept.hold.take().or_else(|| shared.config.hold.clone());
        let tells = match accept.notice_of {
            Some(of) => self.tells(of).await,
            None => None,
        };
        let large = shared.config.limits.large_octets;
        let (reply, receipt) = oneshot::channel();
        let now = shared.clock.now();
        let accepting = accept::prepare(draft, accept, tells, large, now, reply).await?;
        shared.accepting.send(accepting).await.map_err(|_| Error::Closed)?;
        receipt.await.map_err(|_| Error::Closed)?
    }

    /// Accepts a message that was in a queue before, with all that is known of it.
    pub(crate) async fn restore(
        &self,
        message: Message,
        head: Bytes,
        body: Bytes,
    ) -> Result<(), Error> {
        let mut draft = self.draft(message.id)?;
        draft.write(body).await?;
        let large = self.shared.config.limits.large_octets;
        let (reply, receipt) = oneshot::channel();
        let accepting = accept::prepare_again(draft, message, head, large, reply).await?;
        self.shared.accepting.send(accepting).await.map_err(|_| Error::Closed)?;
        receipt.await.map_err(|_| Error::Closed)?.map(drop)
    }

    /// Reads these messages. What is damaged of them is set aside when it returns.
    pub(crate) async fn inspect(&self, ids: &[Id]) {
        for id in ids {
            let (done, waiting) = oneshot::channel();
            if self.command(Command::Apply(vec![(*id, done)], Action::Retry)).await.is_ok() {
                let _ = waiting.await;
            }
        }
    }

    /// Who decides where recipients go. Nothing is delivered before this is called; a later call replaces the router.
    pub fn set_router(&self, router: Arc<dyn Router>) {
        // The owner is gone: nothing will be routed.
        let _ = self.shared.home.send(Return::Router(router));
    }

    /// Waits for work: fair among destinations. `None` after [`Queue::shutdown`]. Cancel-safe.
    pub async fn next(&self) -> Option<Delivery> {
        self.ask(Command::Next).await
    }

    /// Waits for news that must be told. `None` after [`Queue::shutdown`]. Cancel-safe.
    pub async fn next_notice(&self) -> Option<Notice> {
        self.ask(Command::NextNotice).await
    }

    /// The messages that match, oldest first.
    pub async fn list(&self, filter: Filter) -> Vec<Summary> {
        self.matching(filter, |candidate, message| Summary::of(&message, candidate.active)).await
    }

    /// Everything about one message.
    pub async fn show(&self, id: Id) -> Option<Detail> {
        let detail = |candidate: &Candidate, message| Detail {
            message,
            active: candidate.active,
            place: candidate.place(),
        };
        self.matching(Filter::id(id), detail).await.pop()
    }

    /// The content of a message.
    pub async fn content(&self, id: Id) -> Result<Content, Error> {
        let open = |candidate: &Candidate, message| candidate.source.open(&message);
        self.matching(Filter::id(id), open).await.pop().ok_or(Error::Unknown(id))?
    }

    /// How it is: does mail come in, does it go out, is there anything to look at?
    pub async fn condition(&self) -> Condition {
        let mut condition = self.shared.gauge.condition();
        let disk = Arc::clone(&self.shared.disk);
        let names = spawn_blocking(move || set_aside_names(&*disk)).await.unwrap_or_default();
        condition.set_aside_count = names.len();
        condition.set_aside = names.into_iter().take(SHOWN).collect();
        condition
    }

    /// What waits for each destination, those with the most messages first.
    pub async fn destinations(&self) -> Vec<Destination> {
        let destinations = self.ask(Command::Destinations).await.unwrap_or_default();
        self.with_last_words(destinations).await
    }

    /// What is suspended now.
    pub async fn suspended(&self) -> Vec<Suspended> {
        self.ask(Command::Suspended).await.unwrap_or_default()
    }

    /// Hands nothing of this out until it is resumed, over restarts too. Messages still come in, and wait.
    pub async fn suspend(&self, what: Suspension, reason: Option<String>) -> Result<(), Error> {
        self.order(|done| Command::Suspend(what, reason, done)).await
    }

    /// Ends a suspension: what was due meanwhile is due now.
    pub async fn resume(&self, what: Suspension) -> Result<(), Error> {
        self.order(|done| Command::Resume(what, done)).await
    }

    /// Does something to all messages that match; on stable storage when it returns, but for those in hand just now. Gives
    /// how many there were.
    pub async fn apply(&self, filter: Filter, action: Action) -> Result<usize, Error> {
        self.apply_watched(filter, action, |_, _| {}).await
    }

    /// The same, telling how far it is: so many done of so many.
    pub async fn apply_watched(
        &self,
        filter: Filter,
        action: Action,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<usize, Error> {
        let ids = self.matching(filter, |candidate, _| candidate.id).await;
        let (mut count, mut done) = (0, 0);
        progress(done, ids.len());
        for portion in ids.chunks(PORTION) {
            let (asked, waiting): (Vec<_>, Vec<_>) = portion
                .iter()
                .map(|id| {
                    let (done, waiting) = oneshot::channel();
                    ((*id, done), waiting)
                })
                .unzip();
            self.command(Command::Apply(asked, action.clone())).await?;
            for one in waiting {
                match one.await {
                    Ok(Ok(())) => count += 1,
                    // It was finished, or set aside, meanwhile.
                    Ok(Err(Error::Unknown(_))) | Err(_) => {}
                    Ok(Err(error)) => return Err(error),
                }
            }
            done += portion.len();
            progress(done, ids.len());
        }
        Ok(count)
    }

    /// Makes them due now.
    pub async fn retry(&self, filter: Filter) -> Result<usize, Error> {
        self.apply(filter, Action::Retry).await
    }

    /// Keeps them until released.
    pub async fn hold(&self, filter: Filter, name: &str) -> Result<usize, Error> {
        self.apply(filter, Action::Hold { name: name.to_owned() }).await
    }

    /// Lifts their holds and makes them due now.
    pub async fn release(&self, filter: Filter) -> Result<usize, Error> {
        self.apply(filter, Action::Release).await
    }

    /// Drops them; nobody is told.
    pub async fn remove(&self, filter: Filter) -> Result<usize, Error> {
        self.apply(filter, Action::Remove).await
    }

    /// Hands out nothing more, takes the outcomes of what is in hand until all of it is back, flushes and unlocks the
    /// spool. Who drops this future does not stop that: the outcomes that come until the process ends are recorded.
    pub async fn shutdown(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.command(Command::Shutdown(reply)).await.is_ok() {
            // Answered when everything is written, or never if somebody else was faster.
            let _ = stopped.await;
        }
        self.shared.accepting.closed().await;
    }

    async fn tells(&self, of: Id) -> Option<Tells> {
        self.ask(|reply| Command::Tells(of, reply)).await.flatten()
    }

    async fn order(&self, command: impl FnOnce(Durable) -> Command) -> Result<(), Error> {
        let (done, durable) = oneshot::channel();
        self.command(command(done)).await?;
        durable.await.map_err(|_| Error::Closed)?
    }

    /// Of destinations that said nothing since the start: what they said of their oldest message.
    async fn with_last_words(&self, all: Vec<(Destination, Option<Id>)>) -> Vec<Destination> {
        let mut destinations = Vec::with_capacity(all.len());
        let mut looked_up = 0;
        for (mut one, oldest) in all {
            // Only what was tried has the name of a route.
            let tried = oldest.filter(|_| one.last.is_none() && one.name.contains(':'));
            if let Some(id) = tried.filter(|_| looked_up < LOOKED_UP) {
                looked_up += 1;
                one.last = self.last_word(id, &one.name).await;
            }
            destinations.push(one);
        }
        destinations
    }

    async fn last_word(&self, id: Id, destination: &str) -> Option<LastWord> {
        let message = self.matching(Filter::id(id), |_, message| message).await.pop()?;
        let of_it = |one: &QueuedRecipient| one.destination.as_deref() == Some(destination);
        let recipients = message.recipients.into_iter().filter(of_it);
        let latest = recipients.max_by_key(|recipient| recipient.last_attempt)?;
        Some(LastWord { reply: latest.last?, peer: latest.last_peer, time: latest.last_attempt? })
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.command(command(reply)).await.ok()?;
        answer.await.ok()
    }

    async fn command(&self, command: Command) -> Result<(), Error> {
        self.shared.commands.send(command).await.map_err(|_| Error::Closed)
    }
}

/// Messages that an operator's wish touches at once.
const PORTION: usize = 256;

/// Destinations whose last words are looked up on disk for one view.
const LOOKED_UP: usize = 20;
