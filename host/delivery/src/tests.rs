//! Deliveries to hosts that live in the same process: real sockets on loopback, a DNS world from a
//! literal.

mod bounces;
mod fake;
mod hosts;
mod local;
mod pacing;
mod relays;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use message::{Body, Header, Id};
use net::{
    Resolver, Zone,
    tls::{ClientRoots, ClientTls},
};
use queue::{Accept, Filter, Queue, RecipientState, ScheduleConfig};
use smtp::{
    BodyType, Envelope, ForwardPath, MailParameters, RcptParameters, Recipient, ReversePath,
};
use tempfile::TempDir;

use crate::{Config, Delivery, Limits, Rooms, clock};

const CONTENT: &str = "Subject: hi\r\nFrom: a@example.net\r\n\r\n.dot\r\nend\r\n";

/// A recipient whose domain gives no answer, in every zone.
const SLOW: &str = "waits@slow.example";

/// A house with a queue and the delivery room, and nothing else.
struct World {
    queue: Queue,
    delivery: Delivery,
    directory: TempDir,
}

/// A message to be sent.
struct Letter {
    reverse_path: &'static str,
    parameters: MailParameters,
    recipients: Vec<Recipient>,
    content: String,
}

impl Letter {
    fn to(recipients: &[&str]) -> Self {
        let recipient = |address: &&str| Recipient {
            path: path(address),
            parameters: RcptParameters::default(),
        };
        Self {
            reverse_path: "a@example.net",
            parameters: MailParameters::default(),
            recipients: recipients.iter().map(recipient).collect(),
            content: CONTENT.to_owned(),
        }
    }
}

fn path(address: &str) -> ForwardPath {
    if address == "postmaster" {
        ForwardPath::Postmaster
    } else {
        ForwardPath::Mailbox(address.parse().unwrap())
    }
}

impl World {
    async fn new(zone: &str, port: u16, change: impl FnOnce(&mut Config)) -> Self {
        Self::in_directory(zone, port, tempfile::tempdir().unwrap(), change).await
    }

    async fn in_directory(
        zone: &str,
        port: u16,
        directory: TempDir,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::open(zone, port, directory, ScheduleConfig::default(), change).await
    }

    async fn with_schedule(zone: &str, port: u16, schedule: ScheduleConfig) -> Self {
        Self::open(zone, port, tempfile::tempdir().unwrap(), schedule, |_| {}).await
    }

    async fn open(
        zone: &str,
        port: u16,
        directory: TempDir,
        schedule: ScheduleConfig,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut queue_config = queue::Config::new(directory.path().join("queue"));
        queue_config.limits = queue::Limits::small();
        queue_config.schedule = schedule;
        let (queue, _) = Queue::open(queue_config).await.unwrap();
        let zone: Zone = format!("{zone}\nslow.example TIMEOUT\n").parse().unwrap();
        let rooms = Rooms {
            queue: queue.clone(),
            policy: None,
            resolver: Resolver::zone(zone),
            tls: ClientTls::new(&ClientRoots::System).unwrap(),
            journal: None,
        };
        let mut config = Config { port, ..Config::new("me.example") };
        config.limits = Limits { connect: Duration::from_secs(5), ..Limits::default() };
        change(&mut config);
        let delivery = Delivery::start(config, rooms);
        Self { queue, delivery, directory }
    }

    async fn send(&self, letter: Letter) -> Id {
        let id = Id::new(clock::now(), u32::try_from(clock::random() >> 32).unwrap());
        let mut draft = self.queue.draft(id).unwrap();
        draft.write(letter.content.clone().into()).await.unwrap();
        let head = Header::parse(letter.content).raw().clone();
        let reverse_path = match letter.reverse_path {
            "" => ReversePath::Null,
            address => ReversePath::Mailbox(address.parse().unwrap()),
        };
        let envelope =
            Envelope { reverse_path, parameters: letter.parameters, recipients: letter.recipients };
        let body = Body::Received { offset: head.len() as u64 };
        let accept = Accept {
            origin: "test".to_owned(),
            session: "test".to_owned(),
            ..Accept::new(envelope, head, body, clock::now())
        };
        self.queue.commit(draft, accept).await.unwrap().id()
    }

    /// Waits until nothing of the queue is left.
    async fn empty(&self) {
        eventually("the queue is empty", async || {
            self.queue.list(Filter::default()).await.is_empty()
        })
        .await;
    }

    /// Waits until the first recipients of the message have these states and last replies. A
    /// message that is done is gone, so one that is to be looked at has a last recipient that
    /// stays: [`SLOW`].
    async fn becomes(&self, id: Id, expected: &[(RecipientState, &str)]) {
        let matches = async || {
            let Some(detail) = self.queue.show(id).await else { return false };
            let recipients = &detail.message.recipients;
            recipients.len() >= expected.len()
                && recipients.iter().zip(expected).all(|(recipient, (state, reply))| {
                    let last = recipient.last.as_ref().map(ToString::to_string).unwrap_or_default();
                    recipient.state == *state && last.starts_with(reply) && recipient.attempts > 0
                })
        };
        let what = format!("the recipients are {expected:?}");
        if !within(matches).await {
            panic!("never: {what}; but {:#?}", self.queue.show(id).await);
        }
    }

    /// Waits for the one deferral of the only recipient.
    async fn is_deferred(&self, id: Id, reply: &str) {
        self.becomes(id, &[(RecipientState::Pending, reply)]).await;
    }
}

async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    assert!(within(condition).await, "never: {what}");
}

/// Long enough for a busy machine; a test that passes does not wait.
async fn within(condition: impl AsyncFn() -> bool) -> bool {
    for _ in 0..1500 {
        if condition().await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

/// Zone with one domain and its MX hosts at these addresses, best first.
fn zone_of(domain: &str, hosts: &[SocketAddr]) -> String {
    let mut zone = String::new();
    for (index, host) in hosts.iter().enumerate() {
        let preference = 10 * (index + 1);
        zone.push_str(&format!("{domain} MX {preference} mx{index}.{domain}\n"));
        zone.push_str(&format!("mx{index}.{domain} A {}\n", host.ip()));
    }
    zone
}

fn eight_bit() -> MailParameters {
    MailParameters { body: BodyType::EightBitMime, ..MailParameters::default() }
}

fn shared<T>(value: T) -> Arc<std::sync::Mutex<T>> {
    Arc::new(std::sync::Mutex::new(value))
}
