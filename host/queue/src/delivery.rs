//! What is handed out: work to be done, and news to be told. Both come back by themselves when they are dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smtp::Route;
use tokio::sync::{mpsc, oneshot};

use crate::content::{Content, Source};
use crate::error::Error;
use crate::manager::Return;
use crate::message::{Message, NoticeKind, Outcome, QueuedRecipient, Receipt, Tells};

/// Recipients of one message that go the same way, for one worker. Dropped without [`Delivery::finish`], its recipients
/// are due again soon.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// Positions in `message.recipients`.
    pub recipients: Vec<usize>,
    /// Where they go.
    pub route: Route,
    /// Ways of recipients that lead to the same hosts as `route` and have another name ([`Routing::ToHosts`]).
    ///
    /// [`Routing::ToHosts`]: crate::Routing::ToHosts
    pub others: Arc<BTreeMap<usize, Route>>,
    pub(crate) number: u64,
    /// `None` when it is finished: what it kept open can be used again.
    pub(crate) source: Option<Arc<Source>>,
    pub(crate) home: Option<mpsc::UnboundedSender<Return>>,
}

impl Delivery {
    /// The content: head, then body. Opens files: blocks for a moment.
    pub fn content(&self) -> Result<Content, Error> {
        self.source.as_ref().ok_or(Error::Closed)?.open(&self.message)
    }

    /// Where this recipient goes, by its own name.
    pub fn route_of(&self, index: usize) -> &Route {
        self.others.get(&index).unwrap_or(&self.route)
    }

    /// Records what came of it, one outcome per recipient; a recipient without an outcome is due again soon. On stable
    /// storage when it returns: nothing of it is attempted again, whatever happens. If this fails, the outcomes are kept
    /// in memory and written as soon as the disk allows.
    pub async fn finish(mut self, outcomes: Vec<(usize, Outcome)>) -> Result<(), Error> {
        let home = self.home.take().ok_or(Error::Closed)?;
        self.source = None;
        let (done, durable) = oneshot::channel();
        let mine: BTreeSet<usize> = self.recipients.iter().copied().collect();
        let outcomes = outcomes.into_iter().filter(|(index, _)| mine.contains(index)).collect();
        let finished = Return::Finished { number: self.number, outcomes, done: Some(done) };
        home.send(finished).map_err(|_| Error::Closed)?;
        durable.await.map_err(|_| Error::Closed)?
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let finished =
                Return::Finished { number: self.number, outcomes: Vec::new(), done: None };
            // The queue was shut down: the spool still has the message.
            let _ = home.send(finished);
        }
    }
}

/// What must be told to the reverse-path of a message. It stays owed, over restarts too, until a report was committed
/// with [`Accept::notice_of`](crate::Accept::notice_of) or [`Notice::dropped`] was called.
#[derive(Debug)]
pub struct Notice {
    /// The message; its reverse-path is a mailbox.
    pub message: Arc<Message>,
    /// What is told.
    pub kind: NoticeKind,
    /// About whom: copies from the message, with the last reply of each.
    pub recipients: Vec<QueuedRecipient>,
    pub(crate) source: Arc<Source>,
    pub(crate) home: Option<mpsc::UnboundedSender<Return>>,
}

impl Notice {
    /// The content, to be returned with the report. Opens files: blocks for a moment.
    pub fn content(&self) -> Result<Content, Error> {
        self.source.open(&self.message)
    }

    /// The report was committed.
    pub async fn done(self, receipt: &Receipt) -> Result<(), Error> {
        tracing::debug!(message = %self.message.id, report = %receipt.id, "notice told");
        self.told().await
    }

    /// Nobody is to be told, by policy.
    pub async fn dropped(self) -> Result<(), Error> {
        self.told().await
    }

    async fn told(mut self) -> Result<(), Error> {
        let home = self.home.take().ok_or(Error::Closed)?;
        let (done, durable) = oneshot::channel();
        home.send(self.returned(true, Some(done))).map_err(|_| Error::Closed)?;
        durable.await.map_err(|_| Error::Closed)?
    }

    fn returned(&self, told: bool, done: Option<oneshot::Sender<Result<(), Error>>>) -> Return {
        let recipients = self.recipients.iter().map(|recipient| recipient.index).collect();
        let tells = Tells { kind: self.kind, recipients };
        Return::Notice { id: self.message.id, tells, told, done }
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let _ = home.send(self.returned(false, None));
        }
    }
}
