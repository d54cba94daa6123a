//! TLS of both sides on rustls, with one provider (aws-lc-rs) that is passed along and never installed globally.
//!
//! [`ServerTls`] chooses among certificates by the name a client asks for and takes new files without a restart.
//! [`ClientTls`] encrypts opportunistically (RFC 7435) or verifies against trust anchors. Watching files for
//! changes is the daemon's.

mod certificate;
mod client;
mod self_signed;
mod server;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;

use crate::TlsInfo;

pub use client::{ClientRoots, ClientTls, Verification};
pub use self_signed::self_signed;
pub use server::ServerTls;

/// One certificate with its key, in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedFiles {
    /// The certificate and those that lead to a root, in PEM, the server's own first (RFC 8446 §4.4.2).
    pub certificate: PathBuf,
    /// Its private key in PEM: PKCS #8, PKCS #1 or SEC1.
    pub key: PathBuf,
    /// The names it is used for, `*.example.org` included; if empty, those in the certificate.
    pub names: Vec<String>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{action} {path}: {source}", path = path.display())]
    File {
        /// "cannot read", "cannot write".
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path}: {fault}", path = path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do about it.
        fault: String,
    },
    /// No certificate is configured at all.
    #[error("no certificate is configured; name a certificate and its key")]
    NoCertificate,
    /// There is nothing to verify a server's certificate against.
    #[error("no trust anchors on this system; install its CA certificates or name a file of them")]
    NoTrustAnchors,
    /// The name is no domain name and no address, so no certificate can be valid for it.
    #[error("{0:?} cannot be verified: it is no host name")]
    Name(String),
    /// The library refused a configuration.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
    /// Handshake on a stream that is in TLS already.
    #[error("the connection is in TLS already")]
    AlreadyTls,
    /// The handshake failed, or the connection broke in it.
    #[error("TLS handshake failed: {0}")]
    Handshake(#[source] io::Error),
    /// The handshake took too long.
    #[error("TLS handshake was not over after {} s", .0.as_secs())]
    Timeout(Duration),
}

/// The one provider of cryptography.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// What was agreed on, in the names that logs and trace fields use.
fn info(connection: &rustls::CommonState, server_name: Option<&str>, verified: bool) -> TlsInfo {
    let version =
        connection.protocol_version().and_then(|version| version.as_str()).unwrap_or("unknown");
    let suite = connection
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str())
        .unwrap_or("unknown");
    TlsInfo {
        version: version.replace('_', "."),
        // rustls tells the suites of TLS 1.3 apart by a prefix of its own; IANA does not.
        cipher: suite.replacen("TLS13_", "TLS_", 1),
        server_name: server_name.map(str::to_ascii_lowercase),
        verified,
    }
}

#[cfg(test)]
mod tests;
