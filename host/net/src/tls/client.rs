//! The sending side of TLS.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use super::certificate::read_certificates;
use super::{TlsError, info, provider};
use crate::Stream;

/// Whom a verified connection trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientRoots {
    /// The trust anchors of the system.
    #[default]
    System,
    /// Those of a PEM file.
    File(PathBuf),
}

/// How much a server has to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Nothing: encryption against listeners only (RFC 7435). This is how mail travels between strangers, for
    /// whom the alternative is no encryption at all.
    None,
    /// A certificate for the name, from a trusted issuer (RFC 5280, RFC 9525).
    WebPki,
}

/// TLS towards other servers. Cheap to clone.
#[derive(Clone)]
pub struct ClientTls {
    opportunistic: Arc<ClientConfig>,
    /// Absent where the system has no trust anchors.
    verified: Option<Arc<ClientConfig>>,
}

impl ClientTls {
    /// Reads the trust anchors. A system without any is no error until [`Verification::WebPki`] is asked for.
    pub fn new(roots: &ClientRoots) -> Result<Self, TlsError> {
        let store = trust_anchors(roots)?;
        let builder = || {
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()
        };
        let opportunistic = builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone {
                schemes: provider().signature_verification_algorithms.supported_schemes(),
            }))
            .with_no_client_auth();
        let verified = match store.is_empty() {
            true => None,
            false => Some(Arc::new(builder()?.with_root_certificates(store).with_no_client_auth())),
        };
        Ok(Self { opportunistic: Arc::new(opportunistic), verified })
    }

    /// Does the handshake, as the client. `name` is the server's host name in A-labels, or its address; it goes
    /// into SNI and, if asked for, is what the certificate must be valid for.
    pub async fn connect(
        &self,
        stream: impl Into<Stream>,
        name: &str,
        verification: Verification,
        timeout: Duration,
    ) -> Result<Stream, TlsError> {
        let (config, server_name) = match verification {
            Verification::None => (&self.opportunistic, opportunistic_name(name)),
            Verification::WebPki => {
                let name = ServerName::try_from(name.to_owned())
                    .map_err(|_| TlsError::Name(name.to_owned()))?;
                (self.verified.as_ref().ok_or(TlsError::NoTrustAnchors)?, name)
            }
        };
        let socket = stream.into().into_socket().map_err(|_| TlsError::AlreadyTls)?;
        let handshake = TlsConnector::from(Arc::clone(config)).connect(server_name, socket);
        let stream = match tokio::time::timeout(timeout, handshake).await {
            Ok(result) => result.map_err(TlsError::Handshake)?,
            Err(_) => return Err(TlsError::Timeout(timeout)),
        };
        let info = info(stream.get_ref().1, Some(name), verification == Verification::WebPki);
        Ok(Stream::client(stream, info))
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("verifies", &self.verified.is_some())
            .finish_non_exhaustive()
    }
}

fn trust_anchors(roots: &ClientRoots) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    match roots {
        ClientRoots::System => {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "some trust anchors of the system cannot be read");
            }
            // Bundles hold certificates that nobody can parse any more; the others count.
            store.add_parsable_certificates(found.certs);
        }
        ClientRoots::File(path) => {
            for certificate in read_certificates(path)? {
                store.add(certificate).map_err(|error| TlsError::Content {
                    path: path.clone(),
                    fault: format!("holds a certificate that cannot be a trust anchor: {error}"),
                })?;
            }
        }
    }
    Ok(store)
}

/// A name that cannot go into SNI does not stand in the way of encryption. An address means no SNI (RFC 6066 §3).
fn opportunistic_name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned())
        .unwrap_or(ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into()))
}

/// Takes every certificate.
#[derive(Debug)]
struct Anyone {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    // The signature proves that the server has the key of its certificate. Of a certificate that proves nothing,
    // this proves nothing, and to check it would fail on old certificates that cannot be parsed.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
