//! Certificates read from files, and which of them a client gets.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use webpki::EndEntityCert;

use super::{CertifiedFiles, TlsError};

/// A set of certificates. It is replaced as a whole.
#[derive(Debug)]
pub(super) struct Certificates {
    /// By lower-case name; a wildcard stands as `*.example.org`.
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// For clients that name nothing we know, and those that name nothing.
    default: Arc<CertifiedKey>,
}

impl Certificates {
    /// Reads all files; the first certificate is the default.
    pub(super) fn read(
        files: &[CertifiedFiles],
        provider: &CryptoProvider,
    ) -> Result<Self, TlsError> {
        let mut by_name = HashMap::new();
        let mut default = None;
        for entry in files {
            let key = Arc::new(read_pair(entry, provider)?);
            for name in names(entry, &key)? {
                // The first in the configuration keeps a name.
                by_name.entry(name).or_insert_with(|| Arc::clone(&key));
            }
            default.get_or_insert(key);
        }
        Ok(Self { by_name, default: default.ok_or(TlsError::NoCertificate)? })
    }

    /// RFC 6066 §3 lets a server go on when it does not know the name. For mail it should: RFC 7672 §8.1 tells
    /// servers to present a default certificate then.
    fn choose(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let found = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            // RFC 9525 §6.3: a wildcard stands for exactly one label.
            let wildcard = || {
                name.split_once('.')
                    .and_then(|(_, parent)| self.by_name.get(&format!("*.{parent}")))
            };
            self.by_name.get(&name).or_else(wildcard)
        });
        Arc::clone(found.unwrap_or(&self.default))
    }
}

/// The set in use, for rustls; all listeners share it.
#[derive(Debug)]
pub(super) struct Chosen(pub(super) Arc<ArcSwap<Certificates>>);

impl ResolvesServerCert for Chosen {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().choose(hello.server_name()))
    }
}

/// All certificates of a PEM file; at least one.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let octets = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&octets).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(content(
            path,
            "holds no certificate; it must have a block \"-----BEGIN CERTIFICATE-----\"",
        )),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(content(path, &format!("is not PEM: {error}"))),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the libraries may fail in new ways")]
fn read_pair(files: &CertifiedFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = read_certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?).map_err(|error| match error {
        pem::Error::NoItemsFound => content(
            &files.key,
            "holds no private key; it must have a block \"-----BEGIN PRIVATE KEY-----\"",
        ),
        other => content(&files.key, &format!("is not PEM: {other}")),
    })?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let certificate = files.certificate.display();
            content(&files.key, &format!("is not the key of {certificate}; the server's own certificate must be the first there"))
        }
        rustls::Error::InvalidCertificate(fault) => content(&files.certificate, &format!("is no usable certificate: {fault:?}")),
        other => content(&files.key, &format!("is no usable private key: {other}")),
    })
}

/// The names of the configuration, else those of the certificate.
fn names(files: &CertifiedFiles, key: &CertifiedKey) -> Result<Vec<String>, TlsError> {
    if !files.names.is_empty() {
        return Ok(files.names.iter().map(|name| name.to_ascii_lowercase()).collect());
    }
    let own = key.end_entity_cert()?;
    let parsed = EndEntityCert::try_from(own).map_err(|error| {
        content(&files.certificate, &format!("is no usable certificate: {error}"))
    })?;
    Ok(parsed.valid_dns_names().map(str::to_ascii_lowercase).collect())
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB");
    fs::metadata(path)
        .and_then(
            |metadata| {
                if metadata.len() > LARGEST_FILE { Err(too_large()) } else { fs::read(path) }
            },
        )
        .map_err(|source| TlsError::File { action: "cannot read", path: path.to_owned(), source })
}

fn content(path: &Path, fault: &str) -> TlsError {
    TlsError::Content { path: path.to_owned(), fault: fault.to_owned() }
}

/// A wrong path (a device, a spool file) is not read into memory. A bundle of all public CAs has 220 KiB.
const LARGEST_FILE: u64 = 1 << 20;
