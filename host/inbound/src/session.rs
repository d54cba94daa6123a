//! One session: a stream on one side, the machine on the other. The loop holds no rules; what the machine asks is
//! answered in [`answer`](crate::answer), the end of data in [`content`](crate::content).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use message::Id;
use net::Stream;
use smtp::Reply;
use smtp::sasl::Mechanism;
use smtp::server::{Answer, Output, Protocol, Server, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{Instrument, debug, error, info_span, trace};

use crate::config::{Directory, ListenerConfig, Role, TlsUse};
use crate::door::UserPermit;
use crate::house::{Entrance, House};
use crate::listener::Phase;
use crate::refusal;
use crate::simulate::Simulated;
use crate::transaction::{Fate, Transaction};
use crate::users::Users;

/// Everything one session knows.
pub(crate) struct Session {
    pub(crate) house: Arc<House>,
    /// Whom we knew when the session began.
    pub(crate) directory: Arc<Directory>,
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) id: Id,
    pub(crate) peer: Peer,
    pub(crate) machine: Server,
    pub(crate) policy: policy::Session,
    pub(crate) client_name: ClientName,
    pub(crate) helo: Option<Helo>,
    /// Who logged in.
    pub(crate) login: Option<String>,
    pub(crate) wrong_passwords: u32,
    /// Replies of 4yz and 5yz to a stranger so far.
    pub(crate) refusals: u32,
    /// The right of the one who logged in to this session.
    pub(crate) user_permit: Option<UserPermit>,
    /// In a box: it passes from hand to hand with each question.
    pub(crate) transaction: Option<Box<Transaction>>,
    /// How the session ends if nothing else is known of it, in the words of the plugin contract.
    ending: &'static str,
    /// A transaction that the machine ended, until the reply to its client tells how.
    gone: Option<Box<Transaction>>,
    /// Present if the client is made up.
    pub(crate) simulated: Option<Box<Simulated>>,
    stream: Option<Stream>,
    phase: watch::Receiver<Phase>,
    /// Memory is short.
    short: watch::Receiver<bool>,
    /// When this session must be over, once the server drains.
    until: Option<Instant>,
    /// When the machine last had something to do: the client's time runs from here.
    waiting_since: Instant,
}

/// The two ends of a connection, as a PROXY header or the socket tells them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// The client; none on a Unix socket.
    pub(crate) client: Option<SocketAddr>,
    /// The address it came to.
    pub(crate) server: SocketAddr,
}

impl Peer {
    /// A program on the other side of a Unix socket.
    pub(crate) fn local() -> Self {
        Self { client: None, server: NOWHERE }
    }

    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.client.map(|address| address.ip().to_canonical())
    }
}

/// What the client called itself.
#[derive(Clone, Debug)]
pub(crate) struct Helo {
    pub(crate) name: String,
    pub(crate) extended: bool,
}

/// Why the loop ended without the machine's consent.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    #[error("the client does not take our replies")]
    Deaf,
    #[error("TLS handshake failed: {0}")]
    Handshake(#[source] net::tls::TlsError),
    #[error("the server stops")]
    Stopped,
}

impl Session {
    pub(crate) fn new(
        house: Arc<House>,
        entrance: Arc<Entrance>,
        stream: Stream,
        peer: Peer,
        phase: watch::Receiver<Phase>,
    ) -> Box<Self> {
        let id = house.new_id();
        let facts = policy::SessionFacts {
            id,
            listener: entrance.config.name.clone(),
            origin: entrance.config.role.origin(),
            client: peer.client.unwrap_or(NOWHERE),
            server: peer.server,
        };
        let mut session = Box::new(Self {
            machine: Server::new(entrance.settings()),
            policy: policy::Session::new(house.rooms.policy.current(), facts),
            short: house.pressure.subscribe(),
            client_name: ClientName::look_up(&house, entrance.config.role, &peer),
            directory: house.directory(),
            house,
            entrance,
            id,
            peer,
            helo: None,
            login: None,
            wrong_passwords: 0,
            refusals: 0,
            user_permit: None,
            transaction: None,
            ending: "quit",
            gone: None,
            simulated: None,
            stream: Some(stream),
            phase,
            until: None,
            waiting_since: Instant::now(),
        });
        session.note_tls();
        session
    }

    /// Holds the conversation to its end. A bug ends this session and no other.
    pub(crate) async fn run(mut self: Box<Self>) {
        let span = info_span!("session", session = %self.id, listener = %self.entrance.config.name, peer = %self.peer_name());
        let began = Instant::now();
        async {
            self.entrance.counters.session_began();
            let how = match contain(self.converse()).await {
                Ok(Ok(())) => {
                    debug!("session ended");
                    self.ending
                }
                Ok(Err(End::Stopped)) => {
                    self.say_last(&refusal::shutting_down()).await;
                    "shutdown"
                }
                Ok(Err(end)) => {
                    debug!("session ended: {end}");
                    "lost"
                }
                Err(panic) => {
                    error!("a bug ended the session: {panic}");
                    self.say_last(&refusal::broken()).await;
                    "error"
                }
            };
            self.tell_gone(b"");
            self.end_transaction(Fate::Abandoned, None);
            // The client is gone, or hears nothing any more: it need not wait for this.
            drop(self.stream.take());
            if how != "error" && !self.entrance.config.role.is_injection() {
                self.policy.disconnect(how).await;
                self.show();
            }
            self.entrance.counters.session_ended(began.elapsed());
        }
        .instrument(span)
        .await;
    }

    /// The command loop.
    async fn converse(&mut self) -> Result<(), End> {
        loop {
            match self.machine.poll_output() {
                Some(Output::Send(octets)) => {
                    self.tell_gone(&octets);
                    self.write(&octets).await?;
                    self.machine.reuse(octets);
                }
                Some(Output::Ask(question)) => {
                    self.tell_gone(b"");
                    let answer = self.decide(question).await;
                    self.show();
                    if matches!(answer, Answer::Disconnect(_) | Answer::Drop) {
                        self.ending = "refused";
                    }
                    self.machine.handle_answer(answer);
                }
                Some(Output::Content(piece)) => self.take_in(piece).await,
                Some(Output::Reset) => self.gone = self.transaction.take(),
                Some(Output::StartTls) => self.start_tls().await?,
                Some(Output::Close) => return self.close().await,
                None => self.read().await?,
            }
        }
    }

    /// Waits for the client, the server's end or the deadline, whichever is first.
    async fn read(&mut self) -> Result<(), End> {
        let deadline = self.deadline();
        let keep = self.transaction.is_none().then(|| self.policy.rest()).flatten();
        let is_idle = keep.is_some();
        let rest = self.rest(keep).filter(|rest| *rest < deadline);
        let rests = rest.is_some();
        let Self { stream, machine, phase, short, policy, ending, .. } = self;
        let Some(stream) = stream else {
            return Err(End::Lost(io::ErrorKind::NotConnected.into()));
        };
        let appetite = machine.appetite();
        machine.input().reserve(appetite);
        tokio::select! {
            read = timeout_at(rest.unwrap_or(deadline), stream.read_buf(machine.input())) => match read {
                Ok(Ok(0)) => {
                    *ending = "lost";
                    machine.handle_eof();
                }
                Ok(Ok(octets)) => {
                    trace!(octets, "read");
                    machine.handle_input();
                }
                Ok(Err(source)) => return Err(End::Lost(source)),
                Err(_) if rests => {
                    policy.release();
                    machine.rest();
                }
                Err(_) if self.until.is_some_and(|until| until <= deadline) => return Err(End::Stopped),
                Err(_) => {
                    *ending = "timeout";
                    machine.handle_timeout();
                }
            },
            () = until_short(short), if is_idle => {
                debug!("memory is short: the plugins' instances go until the next command");
                policy.release();
            }
            until = Phase::draining(phase), if self.until.is_none() => {
                self.until = Some(until);
                *ending = "shutdown";
                machine.handle_shutdown();
            }
        }
        Ok(())
    }

    /// When a client that says nothing between transactions needs neither plugins, which are worth their memory for so
    /// long, nor buffers any more.
    fn rest(&self, keep: Option<Duration>) -> Option<Instant> {
        if self.transaction.is_some() || self.machine.is_resting() {
            return None;
        }
        Some(self.waiting_since + keep.unwrap_or(REST))
    }

    /// When the client must have said something whole.
    ///
    /// A command's time runs from our last reply and not from its last octet, so that nobody holds a session by
    /// sending an octet a minute. Content must keep a minimum rate besides.
    fn deadline(&self) -> Instant {
        let mut deadline = self.waiting_since + self.machine.timeout();
        if let Some(incoming) =
            self.transaction.as_ref().and_then(|transaction| transaction.incoming.as_ref())
        {
            deadline = deadline.min(incoming.deadline(&self.house.config.limits));
        }
        self.until.map_or(deadline, |until| until.min(deadline))
    }

    /// Whether the client says something within this time. What it says is not obeyed.
    pub(crate) async fn speaks_within(&mut self, time: Duration) -> bool {
        let Self { stream, machine, .. } = self;
        let Some(stream) = stream.as_mut().filter(|stream| stream.tls().is_none()) else {
            return false;
        };
        matches!(timeout(time, stream.read_buf(machine.input())).await, Ok(Ok(1..)))
    }

    async fn write(&mut self, octets: &[u8]) -> Result<(), End> {
        self.house.counters.replies(octets);
        trace!(octets = octets.len(), "write");
        if let Some(pause) = self.tarpit(octets) {
            tokio::time::sleep(pause).await;
        }
        let patience = self.house.config.limits.write;
        let Some(stream) = &mut self.stream else {
            return Err(End::Lost(io::ErrorKind::NotConnected.into()));
        };
        let written = timeout(patience, async {
            stream.write_all(octets).await?;
            stream.flush().await
        });
        written.await.map_err(|_| End::Deaf)??;
        self.waiting_since = Instant::now();
        Ok(())
    }

    /// A piece of content, into the draft.
    async fn take_in(&mut self, piece: Bytes) {
        if let Some(incoming) =
            self.transaction.as_mut().and_then(|transaction| transaction.incoming.as_mut())
        {
            incoming.take_in(piece).await;
        }
        self.waiting_since = Instant::now();
    }

    /// RFC 3207 §4: the 220 is sent, the handshake follows, and then everything begins anew.
    async fn start_tls(&mut self) -> Result<(), End> {
        let Some(stream) = self.stream.take() else {
            return Err(End::Lost(io::ErrorKind::NotConnected.into()));
        };
        let patience = self.house.config.limits.tls_handshake;
        let stream = self.entrance.tls.accept(stream, patience).await.map_err(End::Handshake)?;
        self.stream = Some(stream);
        self.machine.handle_tls_established();
        self.policy.reset_for_starttls();
        self.helo = None;
        self.login = None;
        self.user_permit = None;
        self.note_tls();
        self.waiting_since = Instant::now();
        Ok(())
    }

    /// The machine ended a transaction: by a refusal of the content, or because the client gave up. The last of these
    /// replies says which.
    fn tell_gone(&mut self, replies: &[u8]) {
        let Some(transaction) = self.gone.take() else { return };
        let last =
            replies.trim_ascii_end().rsplit(|octet| *octet == b'\n').next().unwrap_or_default();
        let reply = str::from_utf8(last).ok().and_then(|line| line.parse::<Reply>().ok());
        let refused = reply.filter(|reply| !reply.is_positive());
        self.tell(transaction, refused.as_ref().map_or(Fate::Abandoned, Fate::of), refused);
    }

    fn note_tls(&mut self) {
        self.machine.set_channel_binding(self.stream.as_ref().and_then(Stream::exporter));
        if let Some(tls) = self.stream.as_ref().and_then(Stream::tls) {
            debug!(version = %tls.version, cipher = %tls.cipher, "TLS");
            self.policy.set_tls(policy::TlsInfo {
                version: tls.version.clone(),
                cipher: tls.cipher.clone(),
                server_name: tls.server_name.clone(),
            });
        }
    }

    /// The TLS of the connection, if it has any.
    pub(crate) fn tls(&self) -> Option<net::TlsInfo> {
        self.stream.as_ref().and_then(Stream::tls).cloned()
    }

    async fn close(&mut self) -> Result<(), End> {
        if let Some(stream) = &mut self.stream {
            // RFC 5321 §4.1.1.10: the reply goes out before the connection ends. A client that is gone does not matter.
            let _ = timeout(GOODBYE, stream.shutdown()).await;
        }
        Ok(())
    }

    async fn say_last(&mut self, reply: &Reply) {
        let mut octets = Vec::new();
        reply.write(&mut octets);
        if let Some(stream) = &mut self.stream {
            let _ = timeout(GOODBYE, async {
                stream.write_all(&octets).await?;
                stream.shutdown().await
            })
            .await;
        }
    }

    pub(crate) fn peer_name(&self) -> String {
        self.peer.ip().map_or_else(|| "local".to_owned(), |ip| ip.to_string())
    }

    pub(crate) fn is_lmtp(&self) -> bool {
        self.entrance.config.role == Role::Lmtp
    }
}

/// The client's verified name, looked up beside the conversation; a Received field takes it if it has come by then.
pub(crate) struct ClientName {
    task: Option<tokio::task::JoinHandle<Option<String>>>,
    known: Option<String>,
}

impl ClientName {
    /// One that need not be looked up, or is not there.
    pub(crate) fn known(known: Option<String>) -> Self {
        Self { task: None, known }
    }

    fn look_up(house: &House, role: Role, peer: &Peer) -> Self {
        let (Some(ip), Role::Mx) = (peer.ip(), role) else {
            return Self { task: None, known: None };
        };
        let resolver = house.rooms.resolver.clone();
        let found = async move { resolver.names_of(ip).await.ok()?.into_iter().next() };
        // In a box: what is left of a task that ended has the size of its future.
        Self { task: Some(tokio::spawn(Box::pin(found))), known: None }
    }

    /// Does not wait: it is there, or it is not.
    pub(crate) async fn get(&mut self) -> Option<String> {
        if let Some(task) = self.task.take_if(|task| task.is_finished()) {
            self.known = task.await.ok().flatten();
        }
        self.known.clone()
    }
}

impl Drop for ClientName {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Waits until memory is short.
async fn until_short(short: &mut watch::Receiver<bool>) {
    if short.wait_for(|short| *short).await.is_err() {
        // Nobody watches it any more.
        std::future::pending().await
    }
}

/// How the machines of a listener's sessions are set up.
pub(crate) fn settings(hostname: &str, listener: &ListenerConfig, users: &Users) -> Settings {
    let mechanisms = if users.is_empty() {
        Vec::new()
    } else if users.knows_scram() {
        Mechanism::ALL.to_vec()
    } else {
        vec![Mechanism::Plain, Mechanism::Login]
    };
    Settings {
        hostname: hostname.to_owned(),
        protocol: if listener.role == Role::Lmtp { Protocol::Lmtp } else { Protocol::Smtp },
        tls_offered: matches!(listener.tls, TlsUse::Offered | TlsUse::Required),
        tls_required: listener.tls == TlsUse::Required,
        tls_active: listener.tls == TlsUse::Implicit,
        mechanisms: if listener.auth { mechanisms } else { Vec::new() },
        auth_without_tls: listener.auth_without_tls,
        auth_required: listener.auth_required,
        limits: listener.limits.clone(),
        software: "Gatepost".to_owned(),
    }
}

/// Keeps a panic to the future that it came from, and gives its text.
fn contain<T>(work: impl Future<Output = T>) -> impl Future<Output = Result<T, String>> {
    // Not an `async fn`: that would have room for the work twice.
    AssertUnwindSafe(work).catch_unwind().map(|ended| {
        ended.map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text").to_owned()
        })
    })
}

/// What the ends of a Unix socket look like to plugins.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// A client that is there and quick says something within this time.
const REST: Duration = Duration::from_secs(1);
/// For a last reply that nobody may be waiting for.
const GOODBYE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_stays_in_the_session_that_it_came_from() {
        assert_eq!(contain(async { 1 }).await, Ok(1));
        let broken = contain(async { panic!("a recipient is in a transaction") });
        assert_eq!(broken.await, Err::<(), _>("a recipient is in a transaction".to_owned()));
        let formatted = contain(async { panic!("{} recipients", 2) });
        assert_eq!(formatted.await, Err::<(), _>("2 recipients".to_owned()));
    }
}
