//! What can be set, and what it is when nobody sets it.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use smtp::{LocalDomains, Reply, WhenFull};

use crate::authenticate::Authentication;
use crate::door::DoorLimits;
use crate::networks::Networks;
use crate::users::{LoginLimits, Users};

/// How mail is to come in.
#[derive(Clone, Debug)]
pub struct Config {
    /// What we call ourselves in greetings and Received fields.
    pub hostname: String,
    /// Where we listen. All are bound or none.
    pub listeners: Vec<ListenerConfig>,
    /// Whom we know. [`Inbound::set_directory`](crate::Inbound::set_directory) changes it in the running server.
    pub directory: Directory,
    /// Who mail is from, and our signature.
    pub authentication: Authentication,
    /// Bounds of this room.
    pub limits: Limits,
}

/// Whom we know. A session keeps what it began with.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Which domains are ours and who lives there.
    pub local: Arc<LocalDomains>,
    /// Who may log in.
    pub users: Arc<Users>,
    /// Clients that may relay without logging in.
    pub relay_from: Networks,
    /// Restores reverse-paths that we rewrote when we forwarded.
    pub forwarder: Option<Arc<auth::srs::Forwarder>>,
    /// Finds out whether a mailbox is full; `None`: nobody knows before delivery.
    pub mailbox_refusal: Option<MailboxRefusal>,
}

/// Why a Maildir takes no message of so many octets: its path, the octets that it may hold, what is said when it is full,
/// the octets that come. It may block.
pub type MailboxRefusal = fn(&Path, u64, WhenFull, u64) -> Option<Reply>;

/// One listener.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Its name in logs, metrics and plugins.
    pub name: String,
    /// Who comes here.
    pub role: Role,
    /// Where it is.
    pub address: Address,
    /// Balancers whose PROXY header (version 1 or 2) is required, and believed. Others are ordinary clients: a header
    /// from them is a bad command.
    pub proxy_from: Networks,
    /// When TLS begins.
    pub tls: TlsUse,
    /// Offer AUTH.
    pub auth: bool,
    /// Refuse MAIL before AUTH (RFC 6409 §4.3).
    pub auth_required: bool,
    /// Offer AUTH without TLS too. Passwords are then readable on the way.
    pub auth_without_tls: bool,
    /// Bounds of one session's protocol.
    pub limits: smtp::server::Limits,
}

impl ListenerConfig {
    /// A listener as its role should be.
    pub fn new(name: impl Into<String>, role: Role, address: impl Into<Address>) -> Self {
        let address = address.into();
        let submission = matches!(role, Role::Submission | Role::Submissions);
        let tls = match (role, &address) {
            (Role::Submissions, _) => TlsUse::Implicit,
            (Role::Submission, _) => TlsUse::Required,
            (Role::Lmtp, Address::Unix(_)) | (Role::Local | Role::Plugin, _) => TlsUse::Off,
            (Role::Mx | Role::Lmtp, _) => TlsUse::Offered,
        };
        Self {
            name: name.into(),
            role,
            address,
            proxy_from: Networks::default(),
            tls,
            auth: submission,
            auth_required: submission,
            auth_without_tls: false,
            limits: smtp::server::Limits::default(),
        }
    }
}

/// Who comes to a listener, and so what they may do there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Other servers with mail for us (port 25).
    Mx,
    /// Our users, with STARTTLS (RFC 6409, port 587).
    Submission,
    /// Our users, with TLS from the first octet (RFC 8314 §3.3, port 465).
    Submissions,
    /// A program that hands us mail for local users over LMTP (RFC 2033).
    Lmtp,
    /// Somebody on this machine who may use the admin socket. Not a listener: see [`Injector`](crate::Injector).
    Local,
    /// A plugin that submits mail. Not a listener.
    Plugin,
}

impl Role {
    /// Its name in configurations, logs and the plugin contract.
    pub fn name(self) -> &'static str {
        self.origin().name()
    }

    pub(crate) fn origin(self) -> policy::Origin {
        match self {
            Self::Mx => policy::Origin::Mx,
            Self::Submission => policy::Origin::Submission,
            Self::Submissions => policy::Origin::Submissions,
            Self::Lmtp => policy::Origin::Lmtp,
            Self::Local => policy::Origin::Local,
            Self::Plugin => policy::Origin::Plugin,
        }
    }

    /// RFC 6409 holds here.
    pub(crate) fn is_submission(self) -> bool {
        matches!(self, Self::Submission | Self::Submissions) || self.is_injection()
    }

    /// There is no connection: nobody is asked about one.
    pub(crate) fn is_injection(self) -> bool {
        matches!(self, Self::Local | Self::Plugin)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When TLS begins on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsUse {
    /// Never.
    Off,
    /// When the client says STARTTLS.
    Offered,
    /// When the client says STARTTLS, which it must before MAIL and AUTH.
    Required,
    /// From the first octet.
    Implicit,
}

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A socket in the file system. A socket that nobody listens to is replaced.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

/// Bounds of the room.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Sessions at once, all listeners together.
    pub sessions: usize,
    /// Sessions at once from one address (IPv6: from one /64).
    pub sessions_per_address: usize,
    /// Sessions at once from one network (IPv4 /24, IPv6 /48).
    pub sessions_per_network: usize,
    /// For the whole PROXY header. Balancers send it in their first packet.
    pub proxy_header: Duration,
    /// For a TLS handshake. Long enough for a few round trips on a bad line.
    pub tls_handshake: Duration,
    /// For a client to take what we wrote. RFC 5321 §4.5.3.2.7: five minutes are patient enough.
    pub write: Duration,
    /// Content may come slower than `content_rate` for so long. RFC 5321 §4.5.3.2.5: a block may take three minutes.
    pub content_grace: Duration,
    /// Octets for each second that content must have in the long run; 0 is any. Postfix demands 500.
    pub content_rate: u64,
    /// Pause before the answer to the third wrong password of a session, and to each after it.
    pub wrong_password: Duration,
    /// How many logins may fail.
    pub logins: LoginLimits,
    /// What is held against abuse.
    pub door: DoorLimits,
    /// Bounds of content that reaches parsers.
    pub content: message::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // As many as 64 KiB of buffers and a file descriptor each allow on a small machine.
            sessions: 2000,
            // Postfix has 50: smtpd_client_connection_count_limit.
            sessions_per_address: 50,
            sessions_per_network: 200,
            proxy_header: Duration::from_secs(5),
            tls_handshake: Duration::from_secs(30),
            write: Duration::from_mins(5),
            content_grace: Duration::from_mins(3),
            content_rate: 500,
            wrong_password: Duration::from_secs(2),
            logins: LoginLimits::default(),
            door: DoorLimits::default(),
            content: message::Limits::default(),
        }
    }
}
