//! How a server is set up, and what it lets a client do.

use std::time::Duration;

use crate::extension::{Extensions, OfferedLimits};
use crate::sasl::Mechanism;

/// How the server is set up for one listener.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our name in the greeting and in the reply to EHLO.
    pub hostname: String,
    /// Which protocol is spoken.
    pub protocol: Protocol,
    /// Offer STARTTLS.
    pub tls_offered: bool,
    /// Refuse MAIL and AUTH before TLS is up (RFC 3207 §4).
    pub tls_required: bool,
    /// TLS is up before the greeting (RFC 8314 §3).
    pub tls_active: bool,
    /// The mechanisms of AUTH, in the order they are offered; none: AUTH is not offered.
    pub mechanisms: Vec<Mechanism>,
    /// Offer AUTH in the clear too. Only for tests and trusted networks (RFC 4954 §9, RFC 8314
    /// §4.1).
    pub auth_without_tls: bool,
    /// Refuse MAIL before AUTH (RFC 6409 §4.3).
    pub auth_required: bool,
    /// What a client may do.
    pub limits: Limits,
    /// What the greeting says behind the protocol; may be empty.
    pub software: String,
}

impl Settings {
    /// A server that takes mail for everybody's MX: no TLS, no AUTH, the usual limits.
    pub fn new(hostname: impl Into<String>) -> Self {
        Self {
            hostname: hostname.into(),
            protocol: Protocol::Smtp,
            tls_offered: false,
            tls_required: false,
            tls_active: false,
            mechanisms: Vec::new(),
            auth_without_tls: false,
            auth_required: false,
            limits: Limits::default(),
            software: String::new(),
        }
    }

    /// What EHLO offers, given whether TLS is up and SCRAM can be bound to it.
    pub(super) fn offer(&self, tls_active: bool, bound: bool) -> Extensions {
        let possible = |mechanism: &&Mechanism| bound || **mechanism != Mechanism::ScramSha256Plus;
        let auth_allowed = tls_active || (self.auth_without_tls && !self.tls_required);
        Extensions {
            pipelining: true,
            size: Some(Some(self.limits.message_octets)),
            eight_bit_mime: true,
            enhanced_status_codes: true,
            smtputf8: true,
            chunking: true,
            binary_mime: true,
            dsn: true,
            limits: Some(OfferedLimits {
                transactions: Some(self.limits.transactions),
                recipients: Some(self.limits.recipients as u64),
                domains: None,
            }),
            // RFC 3207 §4.2: not again once TLS is up.
            starttls: self.tls_offered && !tls_active,
            auth: if auth_allowed {
                self.mechanisms.iter().filter(possible).map(Mechanism::to_string).collect()
            } else {
                Vec::new()
            },
            help: true,
        }
    }
}

/// The two protocols of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 5321
    Smtp,
    /// RFC 2033: LHLO, and one reply for each recipient at the end of the content.
    Lmtp,
}

/// What a client may do before it is refused.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Octets of a command line with its CRLF. RFC 5321 §4.5.3.1.4 says 512; the parameters of MAIL
    /// and RCPT add some 700 (RFC 1870 §3, RFC 3461 §5, RFC 4954 §4, RFC 6531 §3.4), and addresses
    /// may be longer than they say.
    pub command_line: usize,
    /// Octets of a line of AUTH with its CRLF (RFC 4954 §4).
    pub auth_line: usize,
    /// Commands in a session: what a thousand full messages need, and no endless session.
    pub commands: u64,
    /// Commands that lead to nothing (NOOP, RSET, VRFY, EXPN, HELP, EHLO) between two messages. RFC
    /// 5321 §4.1.1.5 lets a client send them at any time, but nobody needs a hundred.
    pub junk_commands: u64,
    /// Commands that are malformed or out of order, between two accepted messages. RFC 5321 §7.8
    /// leaves it to the server to hang up.
    pub errors: u64,
    /// Recipients in a session that are refused: somebody tries names (RFC 5321 §7.3).
    pub refused_recipients: u64,
    /// Wrong passwords in a session (RFC 4954 §9).
    pub failed_logins: u64,
    /// Transactions in a session, told as MAILMAX (RFC 9422 §4.1).
    pub transactions: u64,
    /// Recipients in a transaction: at least 100 (RFC 5321 §4.5.3.1.8), told as RCPTMAX (RFC 9422
    /// §4.2).
    pub recipients: usize,
    /// Octets of content, told as SIZE (RFC 1870 §4).
    pub message_octets: u64,
    /// How long to wait for the next command (RFC 5321 §4.5.3.2.7).
    pub command_timeout: Duration,
    /// How long to wait for the first octets after 354 (RFC 5321 §4.5.3.2.4 gives the client two
    /// minutes to wait).
    pub data_timeout: Duration,
    /// How long to wait for the next piece of content (RFC 5321 §4.5.3.2.5).
    pub block_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command_line: 2048,
            auth_line: 12_288,
            commands: 1_000_000,
            junk_commands: 100,
            errors: 20,
            refused_recipients: 1000,
            failed_logins: 3,
            transactions: 10_000,
            recipients: 1000,
            message_octets: 50 * 1024 * 1024,
            command_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(120),
            block_timeout: Duration::from_secs(180),
        }
    }
}
