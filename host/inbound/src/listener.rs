//! The doors: they accept connections, find out who is there, give permits, and close in order.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use net::{Permit, Refused, Stream};
use smtp::Reply;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, error, info, warn};

use crate::config::{Address, Config, Directory, ListenerConfig, Role, TlsUse};
use crate::counters;
use crate::counts::Counts;
use crate::error::Error;
use crate::house::{Entrance, House, Pressure, Rooms};
use crate::inject::Injector;
use crate::proxy::{self, Proxied};
use crate::refusal;
use crate::session::{self, Peer, Session};

/// The entrance of a server: its listeners, bound and ready to run.
pub struct Inbound {
    house: Arc<House>,
    listening: Vec<Listening>,
    entrances: Vec<Arc<Entrance>>,
    doors: Mutex<Vec<Door>>,
    phase: watch::Sender<Phase>,
    injector: Injector,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Its name in the configuration.
    pub name: String,
    /// Who comes there.
    pub role: Role,
    /// Its address; a port that was 0 in the configuration is the one the system chose.
    pub address: Address,
}

/// Opens all listeners. Nothing is accepted before [`Inbound::start`].
pub async fn bind(config: Config, rooms: Rooms) -> Result<Inbound, Error> {
    let (phase, phases) = watch::channel(Phase::Serving);
    let (mut doors, mut entrances) = (Vec::new(), Vec::new());
    let mut listening = Vec::new();
    for listener in &config.listeners {
        check(listener)?;
        let bind_error = |source| Error::Bind {
            listener: listener.name.clone(),
            address: listener.address.clone(),
            source,
        };
        let (socket, address) = Socket::bind(&listener.address).map_err(bind_error)?;
        listening.push(Listening { name: listener.name.clone(), role: listener.role, address });
        let settings = session::settings(&config.hostname, listener, &config.directory.users);
        let entrance = Arc::new(Entrance::new(listener.clone(), settings, rooms.tls.listener()?));
        entrances.push(Arc::clone(&entrance));
        doors.push(Door { entrance, socket, phase: phases.clone() });
    }
    let inside = |role: Role| -> Result<Arc<Entrance>, Error> {
        let config_of = ListenerConfig::new(role.name(), role, Address::Unix(PathBuf::new()));
        let settings = session::settings(&config.hostname, &config_of, &config.directory.users);
        Ok(Arc::new(Entrance::new(config_of, settings, rooms.tls.listener()?)))
    };
    let (local, plugin) = (inside(Role::Local)?, inside(Role::Plugin)?);
    let house = Arc::new(House::new(config, rooms));
    let injector = Injector { house: Arc::clone(&house), local, plugin, phase: phase.clone() };
    Ok(Inbound { house, listening, entrances, doors: Mutex::new(doors), phase, injector })
}

fn check(listener: &ListenerConfig) -> Result<(), Error> {
    if !listener.proxy_from.is_empty() && matches!(listener.address, Address::Unix(_)) {
        return Err(Error::ProxyOnUnix { listener: listener.name.clone() });
    }
    Ok(())
}

impl Inbound {
    /// Where it listens, in the order of the configuration.
    pub fn addresses(&self) -> &[Listening] {
        &self.listening
    }

    /// Where it is said how short of memory the machine is.
    pub fn pressure(&self) -> Arc<Pressure> {
        Arc::clone(&self.house.pressure)
    }

    /// What is counted against abuse, for those who keep it over a restart.
    pub fn counts(&self) -> Counts {
        Counts { house: Arc::clone(&self.house) }
    }

    /// From now on new sessions know these domains and users.
    pub fn set_directory(&self, directory: Directory) {
        let hostname = &self.house.config.hostname;
        for entrance in &self.entrances {
            entrance.set_settings(session::settings(hostname, &entrance.config, &directory.users));
        }
        self.house.set_directory(directory);
    }

    /// Takes mail that comes by no connection.
    pub fn injector(&self) -> &Injector {
        &self.injector
    }

    /// Begins to receive mail, on tasks of the current runtime.
    pub fn start(&self) {
        for door in self.take_doors() {
            tokio::spawn(door.serve(Arc::clone(&self.house)));
        }
    }

    /// Receives mail until [`drain`](Self::drain) has ended the last session.
    pub async fn run(&self) {
        self.start();
        self.phase.closed().await;
    }

    /// Stops in order: nothing is accepted any more, idle sessions hear 421 4.3.2, transactions under way may finish
    /// until `time` is over, and then the rest hears 421, too. Returns when the last session is gone.
    pub async fn drain(&self, time: Duration) {
        self.phase.send_replace(Phase::Draining { until: Instant::now() + time });
        drop(self.take_doors());
        self.phase.closed().await;
    }

    fn take_doors(&self) -> Vec<Door> {
        std::mem::take(&mut *self.doors.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether the server goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It does.
    Serving,
    /// It stops; sessions end by this time.
    Draining { until: Instant },
}

impl Phase {
    /// Waits until the server stops, and gives the time by which sessions end. Cancel-safe.
    pub(crate) async fn draining(phase: &mut watch::Receiver<Self>) -> Instant {
        loop {
            if let Self::Draining { until } = *phase.borrow_and_update() {
                return until;
            }
            // Without a sender there is nobody left who waits for us.
            if phase.changed().await.is_err() {
                return Instant::now();
            }
        }
    }
}

/// One listener with its socket.
struct Door {
    entrance: Arc<Entrance>,
    socket: Socket,
    phase: watch::Receiver<Phase>,
}

impl Door {
    /// Accepts until the server stops, then waits for its sessions.
    async fn serve(self, house: Arc<House>) {
        let Self { entrance, socket, mut phase } = self;
        let name = &entrance.config.name;
        let mut sessions = JoinSet::new();
        let sessions_phase = phase.clone();
        let until = loop {
            tokio::select! {
                until = Phase::draining(&mut phase) => break until,
                Some(_) = sessions.join_next() => {}
                accepted = socket.accept() => match accepted {
                    Ok(connection) => {
                        let visit = Visit {
                            house: Arc::clone(&house),
                            entrance: Arc::clone(&entrance),
                            phase: sessions_phase.clone(),
                        };
                        sessions.spawn(visit.receive(connection));
                    }
                    Err(source) if is_about_one_connection(&source) => debug!("accept: {source}"),
                    Err(source) => {
                        error!(listener = %name, "cannot accept connections: {source}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        };
        drop(socket);
        info!(listener = %name, sessions = sessions.len(), "draining");
        // Sessions end by themselves at `until`; who is stuck after that is cut off.
        let all = async { while sessions.join_next().await.is_some() {} };
        if timeout_at(until + LAST_WORDS, all).await.is_err() {
            warn!(listener = %name, sessions = sessions.len(), "sessions cut off");
            sessions.shutdown().await;
        }
    }
}

/// What a connection needs on its way to a session.
struct Visit {
    house: Arc<House>,
    entrance: Arc<Entrance>,
    phase: watch::Receiver<Phase>,
}

impl Visit {
    /// PROXY header, permit, TLS, session.
    async fn receive(self, connection: Connection) {
        let (stream, peer) = match connection {
            Connection::Tcp(mut stream, from) => {
                // Replies are small and must not wait for others.
                let _ = stream.set_nodelay(true);
                let Some(peer) = self.find_peer(&mut stream, from).await else { return };
                (Stream::from(stream), peer)
            }
            Connection::Unix(stream) => (Stream::from(stream), Peer::local()),
        };
        let (stream, _permit) = match self.permit(&peer) {
            Ok(permit) => (stream, permit),
            Err(reply) => return Box::pin(self.turn_away(stream, &reply)).await,
        };
        let Some(stream) = self.secure(stream).await else { return };
        let session = Session::new(self.house, self.entrance, stream, peer, self.phase);
        Box::pin(session.run()).await;
    }

    /// Who is there: by the PROXY header if a balancer connected, by the socket otherwise. None when the header is bad:
    /// then the connection ends without a greeting.
    async fn find_peer(&self, stream: &mut TcpStream, from: SocketAddr) -> Option<Peer> {
        let server = stream.local_addr().ok()?;
        let peer = Peer { client: Some(from), server };
        if !self.entrance.config.proxy_from.contains(from.ip()) {
            return Some(peer);
        }
        let patience = self.house.config.limits.proxy_header;
        let header = Box::pin(timeout(patience, proxy::read_header(stream))).await;
        match header {
            Ok(Ok(Proxied::Client { source, destination })) => {
                Some(Peer { client: Some(source), server: destination })
            }
            Ok(Ok(Proxied::Local)) => Some(peer),
            Ok(Err(fault)) => {
                warn!(listener = %self.entrance.config.name, balancer = %from, "no session: {fault}");
                counters::session_refused(&self.entrance.config.name, "proxy");
                None
            }
            Err(_) => {
                warn!(listener = %self.entrance.config.name, balancer = %from, "no session: no PROXY header came in time");
                counters::session_refused(&self.entrance.config.name, "proxy");
                None
            }
        }
    }

    fn permit(&self, peer: &Peer) -> Result<Option<Permit>, Reply> {
        // A Unix socket's clients are programs of this machine; its permissions say who they are.
        let Some(ip) = peer.ip() else { return Ok(None) };
        if self.house.pressure.is_shedding() {
            counters::session_refused(&self.entrance.config.name, "memory");
            return Err(refusal::too_busy());
        }
        self.house.permits.acquire(ip).map(Some).map_err(|refused| {
            let (cause, reply) = match refused {
                Refused::Total => ("total", refusal::too_busy()),
                Refused::Address => ("address", refusal::too_many_of_yours()),
                Refused::Network => ("network", refusal::too_many_of_your_network()),
            };
            debug!(listener = %self.entrance.config.name, %ip, cause, "no session: too many");
            counters::session_refused(&self.entrance.config.name, cause);
            reply
        })
    }

    /// RFC 5321 §3.1 and §3.8: 421 in place of the greeting. Where TLS comes first nothing can be said.
    async fn turn_away(&self, mut stream: Stream, reply: &Reply) {
        if self.entrance.config.tls == TlsUse::Implicit {
            return;
        }
        let mut octets = Vec::new();
        reply.write(&mut octets);
        let _ = timeout(LAST_WORDS, async {
            stream.write_all(&octets).await?;
            stream.shutdown().await
        })
        .await;
    }

    async fn secure(&self, stream: Stream) -> Option<Stream> {
        if self.entrance.config.tls != TlsUse::Implicit {
            return Some(stream);
        }
        match self.entrance.tls.accept(stream, self.house.config.limits.tls_handshake).await {
            Ok(stream) => Some(stream),
            Err(fault) => {
                debug!(listener = %self.entrance.config.name, "TLS handshake failed: {fault}");
                counters::session_refused(&self.entrance.config.name, "tls");
                None
            }
        }
    }
}

enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, path: PathBuf },
}

enum Connection {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Socket {
    fn bind(address: &Address) -> io::Result<(Self, Address)> {
        match address {
            Address::Tcp(address) => {
                let listener = bind_tcp(*address)?;
                let address = listener.local_addr()?;
                Ok((Self::Tcp(listener), Address::Tcp(address)))
            }
            Address::Unix(path) => {
                let listener = bind_unix(path)?;
                Ok((Self::Unix { listener, path: path.clone() }, address.clone()))
            }
        }
    }

    async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Tcp(listener) => {
                listener.accept().await.map(|(stream, from)| Connection::Tcp(stream, from))
            }
            Self::Unix { listener, .. } => {
                listener.accept().await.map(|(stream, _)| Connection::Unix(stream))
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Self::Unix { path, .. } = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart does not wait for the connections of the server before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    if let Err(error) = std::os::unix::net::UnixStream::connect(path) {
        // Nobody listens: a server that was killed left it.
        if error.kind() == io::ErrorKind::ConnectionRefused {
            std::fs::remove_file(path)?;
        }
    }
    let listener = UnixListener::bind(path)?;
    // For the programs of our user and group; the folder decides further.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// accept(2): these tell of a client that went away before we came.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Connections that wait to be accepted. The kernel cuts it to net.core.somaxconn.
const BACKLOG: u32 = 1024;
/// When file descriptors are used up; by then some session has ended.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// For a last reply.
const LAST_WORDS: Duration = Duration::from_secs(2);
