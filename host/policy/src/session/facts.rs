//! What is known of a session, told by who holds it.

use std::net::SocketAddr;

use message::Id;

/// What is known about a connection from its first moment.
#[derive(Clone, Debug)]
pub struct SessionFacts {
    /// Unique for each connection; stands in every log line.
    pub id: Id,
    /// Name of the listener in the configuration.
    pub listener: String,
    /// Where the mail comes from.
    pub origin: Origin,
    /// The client's address.
    pub client: SocketAddr,
    /// Our own address.
    pub server: SocketAddr,
}

/// The kind of entrance that mail came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Port 25: from anywhere.
    Mx,
    /// Port 587: from our users.
    Submission,
    /// Port 465: from our users, TLS from the first octet.
    Submissions,
    /// From a program that speaks LMTP.
    Lmtp,
    /// Handed in on this machine, by whoever may use the admin socket.
    Local,
    /// A notification that the host makes.
    Notice,
    /// Made by a plugin.
    Plugin,
}

impl Origin {
    /// The name in the plugin contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mx => "mx",
            Self::Submission => "submission",
            Self::Submissions => "submissions",
            Self::Lmtp => "lmtp",
            Self::Local => "local",
            Self::Notice => "notice",
            Self::Plugin => "plugin",
        }
    }
}

/// The TLS of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// "TLSv1.2" or "TLSv1.3".
    pub version: String,
    /// The cipher suite.
    pub cipher: String,
    /// The name that the client asked for (SNI).
    pub server_name: Option<String>,
}

/// Who logged in, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthInfo {
    /// SASL mechanism in upper case.
    pub mechanism: String,
    /// The authenticated identity.
    pub identity: String,
}

/// What a client sent to log in.
#[derive(Clone)]
pub struct Login {
    /// SASL mechanism in upper case.
    pub mechanism: String,
    /// Who logs in.
    pub identity: String,
    /// Whom the client wants to act for; empty for itself.
    pub authorization: String,
    /// The proof; none if the mechanism shows no password. Plugins with the grant `auth` see it.
    pub password: Option<String>,
}
