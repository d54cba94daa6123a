//! The receiving side of TLS.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use super::certificate::{Certificates, Chosen};
use super::{CertifiedFiles, TlsError, info, provider};
use crate::Stream;

/// TLS of the server: its certificates, and the configuration of one listener. Clones are the same listener;
/// [`ServerTls::listener`] makes another one with the same certificates.
#[derive(Clone)]
pub struct ServerTls {
    files: Arc<Vec<CertifiedFiles>>,
    certificates: Arc<ArcSwap<Certificates>>,
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Reads certificates and keys. The first one serves clients that name no host, or one we do not know.
    pub fn from_files(files: Vec<CertifiedFiles>) -> Result<Self, TlsError> {
        let certificates = Certificates::read(&files, &provider())?;
        let certificates = Arc::new(ArcSwap::from_pointee(certificates));
        Ok(Self { config: config(&certificates)?, files: Arc::new(files), certificates })
    }

    /// The same certificates for another listener. Session tickets are its own, so that a session begun on one
    /// service is not resumed on another, where other rules hold.
    pub fn listener(&self) -> Result<Self, TlsError> {
        let (files, certificates) = (Arc::clone(&self.files), Arc::clone(&self.certificates));
        Ok(Self { config: config(&certificates)?, files, certificates })
    }

    /// Reads the files again, for all listeners in one step. If one of them is at fault, everything stays as it
    /// was and the error says why. Handshakes under way end with what they began.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.certificates.store(Arc::new(Certificates::read(&self.files, &provider())?));
        Ok(())
    }

    /// The files that are read, for one who watches them.
    pub fn files(&self) -> &[CertifiedFiles] {
        &self.files
    }

    /// Does the handshake, as the server. The stream must be in clear and nothing may have been read from it that
    /// came after the command STARTTLS (RFC 3207 §4.2).
    pub async fn accept(
        &self,
        stream: impl Into<Stream>,
        timeout: Duration,
    ) -> Result<Stream, TlsError> {
        let socket = stream.into().into_socket().map_err(|_| TlsError::AlreadyTls)?;
        let handshake = TlsAcceptor::from(Arc::clone(&self.config)).accept(socket);
        // In a box: a session is much longer than its handshake, and most have none.
        let stream = match Box::pin(tokio::time::timeout(timeout, handshake)).await {
            Ok(result) => result.map_err(TlsError::Handshake)?,
            Err(_) => return Err(TlsError::Timeout(timeout)),
        };
        let connection = stream.get_ref().1;
        let info = info(connection, connection.server_name(), false);
        Ok(Stream::server(stream, info))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

fn config(certificates: &Arc<ArcSwap<Certificates>>) -> Result<Arc<ServerConfig>, TlsError> {
    // TLS 1.2 and 1.3: RFC 8996 withdrew what came before.
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Chosen(Arc::clone(certificates))));
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}
