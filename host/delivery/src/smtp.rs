//! The driver of `smtp::client`: one connection to one host. It moves octets and holds no rules.

use std::{io, net::SocketAddr, path::Path, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use net::Stream;
use smtp::{
    Reply, TlsDemand,
    client::{
        Client, ClientCredentials, Dialect, Failure, Fate, Output, Settings, Step, TlsUse,
        Transaction,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    House,
    content::Outgoing,
    dial::{self, Endpoint, Peer},
    pool,
    reading::{self, News},
    resolve::{Place, Target},
};

/// An open session with a host.
#[derive(Debug)]
pub(crate) struct Session {
    stream: Stream,
    client: Client,
    pub(crate) peer: Peer,
    /// Which targets it serves.
    pub(crate) key: String,
    dialect: Dialect,
    /// Messages sent over this connection.
    pub(crate) used: u32,
    /// When it was made.
    pub(crate) opened: Instant,
    /// Since when it is idle.
    pub(crate) idle_since: Instant,
    /// Ends when the outcome of the message before is on disk. No other message is ended before: after a kill a host gets
    /// at most one message per connection twice. It costs nothing, since the next one is under way meanwhile.
    pub(crate) unrecorded: Option<watch::Receiver<()>>,
    /// The place among the connections to this host; given back when the session is dropped.
    pub(crate) place: pool::Place,
}

/// What a turn of the machine came to.
enum Event {
    Ready,
    StartTls,
    Ended(Vec<Fate>),
    Failed(Failure),
    Closed,
}

/// Why no session came about with a host.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) reply: Reply,
    /// Who said so; `None`: ourselves.
    pub(crate) peer: Option<String>,
    /// It was TLS that failed.
    tls_failed: bool,
    /// The host is well; our credentials are not.
    login_failed: bool,
    /// The host has other connections of ours: it wants no more of them, but it takes mail.
    pub(crate) has_enough: bool,
}

impl Refusal {
    pub(crate) fn by(reply: Reply, peer: Option<String>) -> Self {
        Self { reply, peer, tls_failed: false, login_failed: false, has_enough: false }
    }

    pub(crate) fn ours(reply: Reply) -> Self {
        Self::by(reply, None)
    }

    /// What it says about the host: one that answers and does not fit us is there all the same.
    fn news(&self) -> News {
        let is_about_us = self.tls_failed || self.login_failed || self.reply.is_permanent();
        if is_about_us { News::Answered } else { News::Unavailable }
    }
}

impl Session {
    /// Opens a session with the first address of the target that takes one.
    pub(crate) async fn open(
        house: &House,
        target: &Target,
        place: pool::Place,
    ) -> Result<Self, Refusal> {
        let opened = match &target.place {
            Place::Tcp(addresses) => at_addresses(house, target, &place, addresses).await,
            Place::Unix(path) => at_socket(house, target, path).await,
        };
        let (key, dialect, now) = (target.key(), target.dialect, Instant::now());
        match opened {
            Ok((stream, client, peer)) => Ok(Self {
                stream,
                client,
                peer,
                key,
                dialect,
                used: 0,
                opened: now,
                idle_since: now,
                unrecorded: None,
                place,
            }),
            Err(refusal) => {
                let news = softened(refusal.news(), dialect);
                let others = place.tell(news, place.began(), &refusal.reply);
                Err(Refusal { has_enough: others && news == News::Unavailable, ..refusal })
            }
        }
    }

    /// Sends one message. One fate for each recipient of the transaction, in their order.
    pub(crate) async fn transact(
        &mut self,
        transaction: Transaction,
        content: &Outgoing,
    ) -> Vec<Fate> {
        let (count, began) = (transaction.recipients.len(), Instant::now());
        self.used += 1;
        self.client.begin(transaction);
        let sending = Sending { content, unrecorded: self.unrecorded.take() };
        let fates = match turn(&mut self.stream, &mut self.client, Some(sending)).await {
            Event::Ended(fates) => fates,
            Event::Ready | Event::StartTls | Event::Failed(_) | Event::Closed => {
                let reply = Reply::new(451, "4.4.2 The connection was lost");
                vec![Fate::Lost { reply, uncertain: false }; count]
            }
        };
        // A connection that served before may be closed at any time (idle for too long, enough
        // messages): that says nothing of the host.
        let has_worn = self.used > 1 && fates.iter().any(|fate| matches!(fate, Fate::Lost { .. }));
        if let Some((news, reply)) = reading::news(&fates).filter(|_| !has_worn) {
            self.place.tell(softened(news, self.dialect), began, reply);
        }
        fates
    }

    /// True if the host offers DSN, so that it takes over NOTIFY (RFC 3461 §5.2.2).
    pub(crate) fn takes_dsn(&self) -> bool {
        self.client.extensions().dsn
    }

    /// True if another transaction can begin now.
    pub(crate) fn can_begin(&self) -> bool {
        self.client.can_begin()
    }

    /// True if the connection still stands: a host that waits says nothing.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.client.can_begin()
            && self.stream.read_buf(self.client.input()).now_or_never().is_none()
    }

    /// Says good-bye and waits for the answer a few seconds.
    pub(crate) async fn quit(mut self) {
        self.client.quit();
        loop {
            match turn(&mut self.stream, &mut self.client, None).await {
                Event::Closed => break,
                Event::Ready | Event::StartTls | Event::Ended(_) | Event::Failed(_) => {}
            }
        }
        let _ = timeout(GOOD_BYE, self.stream.shutdown()).await;
    }
}

/// A mail store of our own is never left alone: it has no other senders to mind, and its mail is at
/// home.
fn softened(news: News, dialect: Dialect) -> News {
    match (news, dialect) {
        (News::Unavailable, Dialect::Lmtp) => News::Strained,
        _ => news,
    }
}

type Opened = (Stream, Client, Peer);

/// Calls the addresses of a host until one of them gives a session.
async fn at_addresses(
    house: &House,
    target: &Target,
    place: &pool::Place,
    addresses: &[SocketAddr],
) -> Result<Opened, Refusal> {
    let mut left = place.order(addresses);
    let mut refusal = None;
    while !left.is_empty() {
        let connected = match dial::tcp(house, target, &left).await {
            Ok(connected) => connected,
            Err(reply) => return Err(refusal.unwrap_or_else(|| Refusal::ours(reply))),
        };
        place.passed(&connected.passed);
        let peer = Peer { name: target.name.clone(), endpoint: Endpoint::Tcp(connected.address) };
        let again = async || {
            dial::tcp(house, target, &[connected.address]).await.map(|connected| connected.stream)
        };
        match open(house, target, &peer, connected.stream, again).await {
            Ok((stream, client)) => return Ok((stream, client, peer)),
            // A host that answers and refuses would do so at its other addresses too.
            Err(other) if other.peer.is_some() => return Err(other),
            Err(other) => {
                tracing::debug!(%peer, reply = %other.reply, "no session");
                refusal = Some(other);
            }
        }
        left.retain(|address| *address != connected.address);
    }
    Err(refusal.unwrap_or_else(|| {
        Refusal::ours(Reply::new(451, format!("4.4.1 {} has no address", target.name)))
    }))
}

async fn at_socket(house: &House, target: &Target, path: &Path) -> Result<Opened, Refusal> {
    let peer = Peer { name: target.name.clone(), endpoint: Endpoint::Unix };
    let stream = dial::unix(house, path).await.map_err(Refusal::ours)?;
    let (stream, client) =
        open(house, target, &peer, stream, async || dial::unix(house, path).await).await?;
    Ok((stream, client, peer))
}

/// Opens the session on a connection; where TLS is only wished for and fails, once more without, on
/// another one.
async fn open(
    house: &House,
    target: &Target,
    peer: &Peer,
    stream: Stream,
    again: impl AsyncFnOnce() -> Result<Stream, Reply>,
) -> Result<(Stream, Client), Refusal> {
    let tls = match target.tls {
        TlsDemand::Opportunistic => TlsUse::Opportunistic,
        TlsDemand::Require | TlsDemand::Verify => TlsUse::Required,
        TlsDemand::Implicit => TlsUse::Active,
    };
    let settings = Settings {
        dialect: target.dialect,
        tls,
        credentials: credentials(house, target)?,
        // A password on a socket of this machine reaches nobody else.
        auth_without_tls: matches!(target.place, Place::Unix(_)),
        timeouts: house.config.timeouts.clone(),
        ..Settings::new(&house.config.hostname)
    };
    match open_once(house, target, peer, stream, settings.clone()).await {
        Err(refusal) if refusal.tls_failed && tls == TlsUse::Opportunistic => {
            tracing::debug!(%peer, reply = %refusal.reply, "going on without TLS");
            let stream = again().await.map_err(Refusal::ours)?;
            let settings = Settings { tls: TlsUse::Never, ..settings };
            open_once(house, target, peer, stream, settings).await
        }
        result => result,
    }
}

async fn open_once(
    house: &House,
    target: &Target,
    peer: &Peer,
    mut stream: Stream,
    settings: Settings,
) -> Result<(Stream, Client), Refusal> {
    if settings.tls == TlsUse::Active {
        stream = dial::tls(house, stream, target).await.map_err(Refusal::ours)?;
    }
    let mut client = Client::new(settings);
    loop {
        match turn(&mut stream, &mut client, None).await {
            Event::Ready => return Ok((stream, client)),
            Event::StartTls => match dial::tls(house, stream, target).await {
                Ok(encrypted) => stream = encrypted,
                Err(reply) => return Err(Refusal { tls_failed: true, ..Refusal::ours(reply) }),
            },
            Event::Failed(failure) => {
                let refusal = refused(peer, failure);
                while !matches!(turn(&mut stream, &mut client, None).await, Event::Closed) {}
                return Err(refusal);
            }
            Event::Ended(_) | Event::Closed => {
                return Err(Refusal::ours(Reply::new(
                    451,
                    format!("4.4.2 {peer} closed the connection"),
                )));
            }
        }
        if stream.tls().is_some() {
            client.handle_tls_established();
        }
    }
}

/// A failed opening as the reply that recipients get.
fn refused(peer: &Peer, failure: Failure) -> Refusal {
    let Failure { step, reply, by_peer } = failure;
    let tls_failed = step == Step::Tls;
    if step == Step::Auth {
        // The configuration is wrong, or the other side's accounts are; the mail is not.
        let words = reply.text();
        let reply = Reply::new(454, format!("4.7.8 Logging in at {peer} failed: {words}"));
        return Refusal { login_failed: true, ..Refusal::ours(reply) };
    }
    if !by_peer {
        let status = reply.enhanced().map(|status| format!("{status} ")).unwrap_or_default();
        let reply = Reply::new(451, format!("{status}{peer}: {}", reply.text()));
        return Refusal { tls_failed, ..Refusal::ours(reply) };
    }
    Refusal { tls_failed, ..Refusal::by(reply, Some(peer.to_string())) }
}

fn credentials(house: &House, target: &Target) -> Result<Option<ClientCredentials>, Refusal> {
    let Some(name) = &target.credentials else { return Ok(None) };
    match house.routing().credentials.get(name) {
        Some(credentials) => Ok(Some(credentials.clone())),
        None => {
            let reply = Reply::new(451, format!("4.3.5 There are no credentials named {name}"));
            Err(Refusal { login_failed: true, ..Refusal::ours(reply) })
        }
    }
}

/// What a transaction sends.
struct Sending<'a> {
    content: &'a Outgoing,
    unrecorded: Option<watch::Receiver<()>>,
}

impl Sending<'_> {
    /// The last piece waits until the message before is done with.
    async fn read(&mut self, offset: u64, length: usize) -> io::Result<Bytes> {
        if offset + length as u64 >= self.content.traits().octets
            && let Some(mut unrecorded) = self.unrecorded.take()
        {
            // Nothing is ever sent: the other end is dropped.
            let _ = unrecorded.changed().await;
        }
        self.content.read(offset, length).await
    }
}

/// Carries out what the machine wants until it has news.
async fn turn(stream: &mut Stream, client: &mut Client, mut sending: Option<Sending<'_>>) -> Event {
    // RFC 5321 §4.5.3.2: the clock runs from our last write or the last whole reply; a host that
    // sends single octets gains nothing.
    let mut since = (client.replies(), Instant::now());
    loop {
        if since.0 != client.replies() {
            since = (client.replies(), Instant::now());
        }
        match client.poll_output() {
            Some(Output::Send(octets)) => {
                write(stream, client, &octets).await;
                since.1 = Instant::now();
            }
            Some(Output::Content { offset, length }) => {
                let piece = match &mut sending {
                    Some(sending) => sending.read(offset, length).await,
                    None => Err(io::ErrorKind::NotFound.into()),
                };
                if let Err(error) = &piece {
                    tracing::error!(%error, "the content of a message cannot be read");
                }
                client.handle_content(&piece.unwrap_or_default());
                glance(stream, client);
            }
            Some(Output::StartTls) => return Event::StartTls,
            Some(Output::Ready) => return Event::Ready,
            Some(Output::Ended(fates)) => return Event::Ended(fates),
            Some(Output::Failed(failure)) => return Event::Failed(failure),
            Some(Output::Close) => return Event::Closed,
            None if !client.is_open() => return Event::Closed,
            None => read(stream, client, since.1).await,
        }
    }
}

async fn read(stream: &mut Stream, client: &mut Client, since: Instant) {
    let deadline = since + client.timeout();
    let input = client.input();
    input.reserve(READ);
    match timeout_at(deadline, stream.read_buf(input)).await {
        Ok(Ok(0) | Err(_)) => client.handle_eof(),
        Ok(Ok(_)) => client.handle_input(),
        Err(_) => client.handle_timeout(),
    }
}

async fn write(stream: &mut Stream, client: &mut Client, octets: &[u8]) {
    let writing = async {
        stream.write_all(octets).await?;
        stream.flush().await
    };
    match timeout(client.timeout(), writing).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => {
            // A host that refuses may close before it has read all; what it said is still to be
            // read.
            while client.is_open() {
                let heard = timeout(GOOD_BYE, stream.read_buf(client.input())).await;
                if !matches!(heard, Ok(Ok(1..))) {
                    break;
                }
                client.handle_input();
            }
            client.handle_eof();
        }
        Err(_) => client.handle_timeout(),
    }
}

/// Reads what is there already, without waiting: a refusal in the middle of a content.
fn glance(stream: &mut Stream, client: &mut Client) {
    let input = client.input();
    input.reserve(READ);
    match stream.read_buf(input).now_or_never() {
        Some(Ok(1..)) => client.handle_input(),
        Some(Ok(0) | Err(_)) => client.handle_eof(),
        None => {}
    }
}

// A reply of usual length.
const READ: usize = 4096;
// For a peer that is being left anyway.
const GOOD_BYE: Duration = Duration::from_secs(2);
