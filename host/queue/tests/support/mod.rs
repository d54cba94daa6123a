//! What the tests of the queue share: messages, a router by domain, a clock that can jump.
#![expect(clippy::unwrap_used, reason = "a test may fail")]
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::allow_attributes, reason = "what is unused differs from file to file")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use message::{Body, Id, Octets};
use queue::disk::{Disk, SimulatedDisk};
use queue::{
    Accept, Clock, Config, Delivery, Error, Limits, Message, Queue, Receipt, Recovery, Router,
    Routing,
};
use smtp::{
    Envelope, ForwardPath, MailParameters, Notify, RcptParameters, Recipient, Reply, ReversePath,
};

/// Wall time that follows tokio's clock and can be set.
#[derive(Debug)]
pub(crate) struct TestClock {
    began: tokio::time::Instant,
    base: Mutex<SystemTime>,
}

impl TestClock {
    pub(crate) fn new() -> Arc<Self> {
        let base = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Arc::new(Self { began: tokio::time::Instant::now(), base: Mutex::new(base) })
    }

    pub(crate) fn forward(&self, by: Duration) {
        *self.base.lock().unwrap() += by;
    }

    pub(crate) fn back(&self, by: Duration) {
        *self.base.lock().unwrap() -= by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        *self.base.lock().unwrap() + self.began.elapsed()
    }
}

/// Routes "x@something.domain" by the first label of the domain: what is not listed goes by MX.
#[derive(Default)]
pub(crate) struct TestRouter(pub(crate) BTreeMap<&'static str, Routing>);

impl Router for TestRouter {
    fn route<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Vec<Routing>> {
        let routing = |path: &ForwardPath| {
            let text = path.to_string();
            let domain = text.rsplit_once('@').map_or("", |(_, domain)| domain);
            let label = domain.split('.').next().unwrap_or_default();
            self.0
                .get(label)
                .cloned()
                .unwrap_or_else(|| Routing::To(format!("mx:{domain}").parse().expect("a route")))
        };
        let answers = message.pending().map(|recipient| routing(&recipient.path)).collect();
        Box::pin(async move { answers })
    }
}

/// Small everything.
pub(crate) fn config() -> Config {
    Config { limits: Limits::small(), ..Config::new("unused") }
}

pub(crate) async fn open(disk: &SimulatedDisk, clock: &Arc<TestClock>) -> (Queue, Recovery) {
    open_with(config(), disk, clock).await
}

pub(crate) async fn open_with(
    config: Config,
    disk: &SimulatedDisk,
    clock: &Arc<TestClock>,
) -> (Queue, Recovery) {
    try_open(config, disk, clock).await.expect("the spool opens")
}

pub(crate) async fn try_open(
    config: Config,
    disk: &SimulatedDisk,
    clock: &Arc<TestClock>,
) -> Result<(Queue, Recovery), Error> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(clock);
    Queue::open_with(config, disk, clock).await
}

pub(crate) fn id(number: u32) -> Id {
    Id::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000), number)
}

pub(crate) fn recipient(address: &str, notify: Option<&str>) -> Recipient {
    let notify = notify.map(|text| text.parse::<Notify>().expect("a NOTIFY"));
    let parameters = RcptParameters { notify, orcpt: None };
    Recipient { path: address.parse().expect("a forward-path"), parameters }
}

pub(crate) fn accept(sender: &str, recipients: Vec<Recipient>, head: &str) -> Accept {
    let reverse_path =
        sender.trim_matches(['<', '>']).parse::<ReversePath>().expect("a reverse-path");
    let parameters = MailParameters::default();
    let envelope = Envelope { reverse_path, parameters, recipients };
    let head = Bytes::copy_from_slice(head.as_bytes());
    let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    Accept::new(envelope, head, Body::Received { offset: 0 }, received)
}

/// Commits a message with one head line and that body.
pub(crate) async fn send(
    queue: &Queue,
    number: u32,
    recipients: &[&str],
    body: &[u8],
) -> Result<Receipt, Error> {
    let recipients = recipients.iter().map(|address| recipient(address, None)).collect();
    send_accept(queue, number, accept("sender@example.com", recipients, HEAD), body).await
}

pub(crate) async fn send_accept(
    queue: &Queue,
    number: u32,
    accept: Accept,
    body: &[u8],
) -> Result<Receipt, Error> {
    let mut draft = queue.draft(id(number))?;
    for piece in body.chunks(20_000) {
        draft.write(Bytes::copy_from_slice(piece)).await?;
    }
    queue.commit(draft, accept).await
}

/// Everything that a delivery would send.
pub(crate) fn content_of(delivery: &Delivery) -> Vec<u8> {
    let content = delivery.content().expect("the content opens");
    content.read(0, usize::MAX).expect("the content can be read")
}

/// The next delivery, if there is one within `patience`.
pub(crate) async fn next_within(queue: &Queue, patience: Duration) -> Option<Delivery> {
    tokio::time::timeout(patience, queue.next()).await.ok().flatten()
}

pub(crate) fn reply(code: u16) -> Reply {
    Reply::new(code, format!("{}.0.0 as the test says", code / 100))
}

pub(crate) const HEAD: &str = "Subject: test\r\n\r\n";

pub(crate) const SECOND: Duration = Duration::from_secs(1);
