//! What the driver says about a session before it begins.

use std::{fmt, time::Duration};

/// Which of the two protocols is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// RFC 5321: one reply for all recipients after the content.
    Smtp,
    /// RFC 2033: one reply for each accepted recipient after the content.
    Lmtp,
}

/// When TLS is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsUse {
    /// STARTTLS is not even tried.
    Never,
    /// STARTTLS is tried when offered; without it the session goes on in the clear (RFC 7435).
    Opportunistic,
    /// No TLS, no mail.
    Required,
    /// TLS was made before the greeting (RFC 8314 §3.3).
    Active,
}

/// A name and a password for AUTH (RFC 4954). `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCredentials {
    /// Authentication identity.
    pub user: String,
    /// The password itself.
    pub password: String,
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// How a session is held.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our own name, said in EHLO or LHLO.
    pub hostname: String,
    /// SMTP or LMTP.
    pub dialect: Dialect,
    /// When TLS is used.
    pub tls: TlsUse,
    /// Who we are for this host. With credentials, no transaction starts before AUTH succeeded.
    pub credentials: Option<ClientCredentials>,
    /// Credentials may be sent without TLS: for tests and for sockets of the own machine.
    pub auth_without_tls: bool,
    /// What is too much.
    pub limits: Limits,
    /// How long is waited.
    pub timeouts: Timeouts,
}

impl Settings {
    /// Settings for a host of the wide world: SMTP, opportunistic TLS, no credentials.
    #[must_use]
    pub fn new(hostname: &str) -> Self {
        Self {
            hostname: hostname.to_owned(),
            dialect: Dialect::Smtp,
            tls: TlsUse::Opportunistic,
            credentials: None,
            auth_without_tls: false,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// Bounds of a session. Sizes of replies are bounded by the reply parser.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Commands that may wait for their replies at once, counted. Replies to so many fit the
    /// smallest socket buffers, so both sides never block on writing (RFC 2920 §3.1).
    pub pipeline: usize,
    /// Octets of content asked of the driver at once: one write to the socket.
    pub piece: usize,
    /// Octets in one BDAT: between two of them the host may refuse (RFC 3030 §2).
    pub chunk: u64,
    /// Recipients in one transaction: RFC 5321 §4.5.3.1.8 promises that a host takes a hundred.
    pub recipients: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pipeline: 100, piece: 64 * 1024, chunk: 16 * 1024 * 1024, recipients: 100 }
    }
}

/// How long each reply is waited for (RFC 5321 §4.5.3.2).
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// The greeting, 5 minutes (§4.5.3.2.1).
    pub greeting: Duration,
    /// MAIL, RCPT and all other commands, 5 minutes (§4.5.3.2.2–3).
    pub command: Duration,
    /// The reply to DATA, 2 minutes (§4.5.3.2.4).
    pub data: Duration,
    /// One write of content, 3 minutes (§4.5.3.2.5).
    pub block: Duration,
    /// The reply to the end of data, 10 minutes (§4.5.3.2.6).
    pub end: Duration,
    /// QUIT: nothing depends on its reply, so we wait a few seconds only.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            greeting: Duration::from_secs(300),
            command: Duration::from_secs(300),
            data: Duration::from_secs(120),
            block: Duration::from_secs(180),
            end: Duration::from_secs(600),
            quit: Duration::from_secs(5),
        }
    }
}
