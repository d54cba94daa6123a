//! The server and its clients.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use inbound::{
    Address, Config, Directory, Inbound, ListenerConfig, Networks, Role, Rooms, Secret, User, Users,
};
use net::tls::{ClientRoots, ClientTls, ServerTls, Verification};
use net::{Resolver, Stream, Zone};
use policy::trace::{Entry, Journal, JournalConfig, Query};
use policy::{Host, HostConfig};
use queue::{Detail, Filter, Queue};
use smtp::sasl::ScramVerifier;
use smtp::{LocalDelivery, LocalDomain, LocalDomains};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// One server. Its listeners are named after their roles.
pub(crate) struct World {
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) queue: Queue,
    pub(crate) policy: Arc<Host>,
    pub(crate) folder: tempfile::TempDir,
    journal: Journal,
}

impl World {
    /// A server with one listener of each role.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// The same, with changes to its configuration.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_in(Zone::default(), change).await
    }

    /// The same, in a world with names.
    pub(crate) async fn start_in(zone: Zone, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path().join("lmtp.sock"));
        change(&mut config);

        let resolver = Resolver::zone(zone);
        let mut settings = queue::Config::new(folder.path().join("queue"));
        settings.limits = queue::Limits::small();
        let (queue, _) = Queue::open(settings).await.unwrap();
        let policy =
            Host::new(HostConfig::new(folder.path().join("policy"), resolver.clone())).unwrap();
        let files =
            net::tls::self_signed(&folder.path().join("tls"), &["mx.example.test".to_owned()])
                .unwrap();
        let journal = Journal::open(JournalConfig::new(folder.path().join("trace"))).unwrap();
        let rooms = Rooms {
            queue: queue.clone(),
            policy: policy.clone(),
            tls: ServerTls::from_files(vec![files]).unwrap(),
            resolver,
            journal: journal.clone(),
        };
        let inbound = Arc::new(inbound::bind(config, rooms).await.unwrap());
        inbound.start();
        Self { inbound, queue, policy, folder, journal }
    }

    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        let listening =
            self.inbound.addresses().iter().find(|listening| listening.name == name).expect(name);
        match &listening.address {
            Address::Tcp(address) => *address,
            Address::Unix(path) => panic!("{name} is {}", path.display()),
        }
    }

    /// A client that has read the greeting.
    pub(crate) async fn client(&self, name: &str) -> Client {
        let mut client = self.silent_client(name).await;
        client.expect("220 mx.example.test").await;
        client
    }

    /// A client that has read nothing yet.
    pub(crate) async fn silent_client(&self, name: &str) -> Client {
        Client::new(Stream::from(TcpStream::connect(self.address(name)).await.unwrap()))
    }

    /// A client on the Unix socket, with the greeting read.
    pub(crate) async fn unix_client(&self) -> Client {
        let stream = UnixStream::connect(self.folder.path().join("lmtp.sock")).await.unwrap();
        let mut client = Client::new(Stream::from(stream));
        client.expect("220 mx.example.test LMTP").await;
        client
    }

    /// All messages in the queue and their contents, oldest first.
    pub(crate) async fn messages(&self) -> Vec<(Detail, Vec<u8>)> {
        let mut messages = Vec::new();
        for summary in self.queue.list(Filter::default()).await {
            let detail = self.queue.show(summary.id).await.unwrap();
            let content = self.queue.content(summary.id).await.unwrap();
            let octets = message::Octets::read(&content, 0, usize::MAX).unwrap();
            messages.push((detail, octets));
        }
        messages
    }

    /// The only message.
    pub(crate) async fn message(&self) -> (Detail, String) {
        let mut messages = self.messages().await;
        assert_eq!(messages.len(), 1, "one message is in the queue");
        let (detail, octets) = messages.pop().unwrap();
        (detail, String::from_utf8(octets).unwrap())
    }

    /// What the journal says of the transaction whose id stands at the end of a reply.
    pub(crate) async fn journal_of(&self, reply: &str) -> Vec<Entry> {
        self.search(Query::Id(id_in(reply))).await
    }

    /// What the journal says about an address, oldest first.
    pub(crate) async fn journal_about(&self, address: &str) -> Vec<Entry> {
        self.search(Query::Address(address.to_owned())).await
    }

    async fn search(&self, query: Query) -> Vec<Entry> {
        self.journal.flush().await;
        policy::trace::search(&self.folder.path().join("trace"), &query, 10).unwrap()
    }
}

/// The id in ` (ID)` or `queued as ID` at the end of a reply.
pub(crate) fn id_in(reply: &str) -> message::Id {
    let word = reply.trim_end().rsplit(' ').next().unwrap();
    word.trim_matches(['(', ')']).parse().unwrap_or_else(|_| panic!("no id in {reply}"))
}

fn config(socket: PathBuf) -> Config {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let lmtp_socket = ListenerConfig::new("lmtp-socket", Role::Lmtp, socket);
    let listeners = [
        ("mx", Role::Mx),
        ("submission", Role::Submission),
        ("submissions", Role::Submissions),
        ("lmtp", Role::Lmtp),
    ];
    let alice = User {
        name: "alice@example.test".to_owned(),
        password: Secret::hash("correct horse").unwrap().parse().unwrap(),
        scram: Some(ScramVerifier::derive("correct horse", b"a salt of alice", 4096).unwrap()),
        may_send_as: Vec::new(),
    };
    Config {
        hostname: "mx.example.test".to_owned(),
        listeners: listeners
            .map(|(name, role)| ListenerConfig::new(name, role, any))
            .into_iter()
            .chain([lmtp_socket])
            .collect(),
        directory: Directory {
            local: Arc::new(LocalDomains::new(vec![LocalDomain {
                name: "example.test".parse().unwrap(),
                users: ["alice".to_owned(), "bob".to_owned()].into(),
                catch_all: None,
                aliases: [("info".to_owned(), vec!["alice@example.test".parse().unwrap()])].into(),
                lists: std::collections::BTreeMap::new(),
                quota: smtp::Quota::default(),
                delivery: LocalDelivery::Maildir { template: "mail/{domain}/{user}".to_owned() },
                subaddress: Some('+'),
            }])),
            users: Arc::new(Users::new([alice], None, [0; 32])),
            relay_from: Networks::default(),
            forwarder: None,
            mailbox_refusal: None,
        },
        authentication: inbound::Authentication::default(),
        limits: inbound::Limits {
            wrong_password: Duration::from_millis(1),
            ..inbound::Limits::default()
        },
    }
}

/// A client that waits for whole replies, and not forever.
pub(crate) struct Client {
    stream: Option<Stream>,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream: Some(stream), buffer: Vec::new() }
    }

    fn stream(&mut self) -> &mut Stream {
        self.stream.as_mut().expect("the connection is open")
    }

    /// Sends octets as they are.
    pub(crate) async fn send(&mut self, octets: impl AsRef<[u8]>) {
        let send = async {
            self.stream().write_all(octets.as_ref()).await?;
            self.stream().flush().await
        };
        timeout(PATIENCE, send)
            .await
            .expect("the server takes what we send")
            .expect("the connection is open");
    }

    /// Sends octets to a server that may have closed the connection already.
    pub(crate) async fn try_send(&mut self, octets: impl AsRef<[u8]>) {
        let _ = self.stream().write_all(octets.as_ref()).await;
        let _ = self.stream().flush().await;
    }

    /// The next reply, all its lines; empty when the server closed the connection.
    pub(crate) async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let Some(line) = self.line().await else { return reply };
            let last = line.as_bytes().get(3) != Some(&b'-');
            reply.push_str(&line);
            if last {
                return reply;
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.drain(..end + 2).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            let Self { stream: Some(stream), buffer } = self else { return None };
            match timeout(PATIENCE, stream.read_buf(buffer))
                .await
                .expect("the server answers in time")
            {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Reads a reply that begins like this.
    pub(crate) async fn expect(&mut self, beginning: &str) -> String {
        let reply = self.reply().await;
        assert!(reply.starts_with(beginning), "expected {beginning}, got {reply:?}");
        reply
    }

    /// Sends a line and reads the reply, which begins like this.
    pub(crate) async fn say(&mut self, line: &str, beginning: &str) -> String {
        self.send(format!("{line}\r\n")).await;
        let reply = self.reply().await;
        assert!(reply.starts_with(beginning), "{line}: expected {beginning}, got {reply:?}");
        reply
    }

    /// The server closes the connection and says nothing more.
    pub(crate) async fn expect_end(&mut self) {
        let reply = self.reply().await;
        assert_eq!(reply, "", "the connection is closed");
    }

    /// EHLO, MAIL and RCPT for a message to alice.
    pub(crate) async fn begin(&mut self) {
        self.say("EHLO client.example.net", "250").await;
        self.say("MAIL FROM:<carol@example.net>", "250 2.1.0").await;
        self.say("RCPT TO:<alice@example.test>", "250 2.1.5").await;
    }

    /// A whole message to alice; gives the reply to the final dot.
    pub(crate) async fn deliver(&mut self, content: &str) -> String {
        self.begin().await;
        self.say("DATA", "354").await;
        self.say(&format!("{content}\r\n."), "250 2.0.0").await
    }

    /// EHLO, STARTTLS and the handshake.
    pub(crate) async fn start_tls_after_ehlo(&mut self) {
        self.say("EHLO client.example.net", "250").await;
        self.start_tls().await;
    }

    /// STARTTLS and the handshake.
    pub(crate) async fn start_tls(&mut self) {
        self.say("STARTTLS", "220").await;
        self.handshake().await;
    }

    /// The handshake.
    pub(crate) async fn handshake(&mut self) {
        let tls = ClientTls::new(&ClientRoots::System).unwrap();
        let stream = self.stream.take().unwrap();
        self.stream = Some(
            tls.connect(stream, "mx.example.test", Verification::None, PATIENCE).await.unwrap(),
        );
    }

    /// What an authentication can be bound to on this connection.
    pub(crate) fn exporter(&self) -> Option<Vec<u8>> {
        self.stream.as_ref().and_then(Stream::exporter)
    }

    /// Closes the connection without QUIT.
    pub(crate) fn hang_up(self) {
        drop(self);
    }
}

/// AUTH PLAIN's argument.
pub(crate) fn plain(identity: &str, password: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(format!("\0{identity}\0{password}"))
}

/// Long: the machine may be busy with everything else.
const PATIENCE: Duration = Duration::from_secs(60);
