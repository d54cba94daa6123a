//! Keys: public ones from the DNS (RFC 6376 §3.6.1, RFC 8463 §4), private ones of our own.
//!
//! Signatures are verified by mail-auth. Its private keys can be neither made nor written out again, so ours are aws-lc's,
//! which mail-auth signs and verifies with, too.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;

/// A way to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 over SHA-256 (RFC 6376 §3.3.2).
    RsaSha256,
    /// PureEdDSA over the SHA-256 of the data (RFC 8463 §3).
    Ed25519Sha256,
}

impl Algorithm {
    /// Its word in `a=`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa-sha256",
            Self::Ed25519Sha256 => "ed25519-sha256",
        }
    }

    /// Its word in the `k=` of a key record.
    pub fn key_type(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa",
            Self::Ed25519Sha256 => "ed25519",
        }
    }

    /// Takes the word of `a=`.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::RsaSha256, Self::Ed25519Sha256].into_iter().find(|one| one.as_str() == word)
    }
}

/// A public key that has the form of one.
#[derive(Clone)]
pub(crate) struct PublicKey {
    algorithm: Algorithm,
    key: Arc<DomainKey>,
    bits: usize,
}

impl PublicKey {
    /// The octets of `p=`: for RSA a SubjectPublicKeyInfo or an RSAPublicKey (RFC 6376 erratum 3017), for Ed25519 32
    /// octets (RFC 8463 §4.2).
    pub(crate) fn new(algorithm: Algorithm, octets: &[u8]) -> Option<Self> {
        // mail-auth has no other way to a key than by a record. This one is ours: what strangers wrote was read before.
        let record = format!("k={}; p={}", algorithm.key_type(), STANDARD.encode(octets));
        let key = DomainKey::parse(record.as_bytes()).ok()?;
        let bits = match algorithm {
            // In whole octets; what is no key has none.
            Algorithm::RsaSha256 => Some(key.p.public_key_bits()).filter(|bits| *bits > 0)?,
            Algorithm::Ed25519Sha256 if octets.len() == 32 => 256,
            Algorithm::Ed25519Sha256 => return None,
        };
        Some(Self { algorithm, key: Arc::new(key), bits })
    }

    pub(crate) fn bits(&self) -> usize {
        self.bits
    }

    /// Whether the signature is one of this data.
    pub(crate) fn verifies(&self, data: &[u8], signature: &[u8]) -> bool {
        let algorithm = match self.algorithm {
            Algorithm::RsaSha256 => mail_auth::common::crypto::Algorithm::RsaSha256,
            Algorithm::Ed25519Sha256 => mail_auth::common::crypto::Algorithm::Ed25519Sha256,
        };
        self.key.p.verify_bytes(data, signature, algorithm).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {} bits)", self.algorithm.as_str(), self.bits)
    }
}

/// A private key of ours.
pub struct PrivateKey {
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
    /// An RSA key smaller than the provider signs with; the suites have such.
    #[cfg(test)]
    Small(tests::Small),
}

/// Why a private key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not PEM, or not of a private key.
    #[error("this is no private key in PEM: PKCS #8, or PKCS #1 for RSA")]
    Form,
    /// The key is of another kind, or broken.
    #[error("the key is neither a good RSA key nor a good Ed25519 key: {0}")]
    Rejected(String),
    /// RFC 8301 §3.2: signers should use RSA keys of at least 2048 bits, and here they must.
    #[error("the RSA key has less than 2048 bits (RFC 8301 §3.2)")]
    TooSmall,
    /// The system gave no randomness.
    #[error("no key could be made")]
    Generate,
}

impl PrivateKey {
    /// A new key: RSA of 2048 bits (RFC 8301 §3.2), or Ed25519.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        let pair = match algorithm {
            Algorithm::RsaSha256 => RsaKeyPair::generate(KeySize::Rsa2048)
                .map(|pair| Pair::Rsa(Box::new(pair)))
                .map_err(|_| KeyError::Generate)?,
            Algorithm::Ed25519Sha256 => {
                Ed25519KeyPair::generate().map(Pair::Ed25519).map_err(|_| KeyError::Generate)?
            }
        };
        Ok(Self { pair })
    }

    /// Reads PEM: "PRIVATE KEY" (PKCS #8) or "RSA PRIVATE KEY" (PKCS #1).
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (label, der) = pem(text).ok_or(KeyError::Form)?;
        let rejected = |error: aws_lc_rs::error::KeyRejected| match error.to_string().as_str() {
            "TooSmall" => KeyError::TooSmall,
            other => KeyError::Rejected(other.to_owned()),
        };
        let pair = match label {
            "RSA PRIVATE KEY" => Pair::Rsa(Box::new(RsaKeyPair::from_der(&der).map_err(rejected)?)),
            "PRIVATE KEY" => match Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der) {
                Ok(pair) => Pair::Ed25519(pair),
                Err(_) => Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(&der).map_err(rejected)?)),
            },
            _ => return Err(KeyError::Form),
        };
        Ok(Self { pair })
    }

    /// The seed of an Ed25519 key, as RFC 8463 §A.1 writes it.
    pub fn from_ed25519_seed(seed: &[u8]) -> Result<Self, KeyError> {
        Ed25519KeyPair::from_seed_unchecked(seed)
            .map(|pair| Self { pair: Pair::Ed25519(pair) })
            .map_err(|error| KeyError::Rejected(error.to_string()))
    }

    /// The key as PKCS #8 in PEM. It is a secret.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let der = match &self.pair {
            Pair::Rsa(pair) => AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&**pair)
                .map(|der| der.as_ref().to_vec()),
            Pair::Ed25519(pair) => AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(pair)
                .map(|der| der.as_ref().to_vec()),
            #[cfg(test)]
            Pair::Small(_) => return Err(KeyError::TooSmall),
        };
        let text = STANDARD.encode(der.map_err(|_| KeyError::Generate)?);
        let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        Ok(pem)
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        match &self.pair {
            Pair::Rsa(_) => Algorithm::RsaSha256,
            Pair::Ed25519(_) => Algorithm::Ed25519Sha256,
            #[cfg(test)]
            Pair::Small(_) => Algorithm::RsaSha256,
        }
    }

    /// Size of the public key in bits.
    pub fn bits(&self) -> usize {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_modulus_len() * 8,
            Pair::Ed25519(_) => 256,
            #[cfg(test)]
            Pair::Small(small) => small.octets * 8,
        }
    }

    /// The `p=` of its record, in Base64.
    pub fn public(&self) -> Result<String, KeyError> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let key = pair.public_key();
                let der: Result<aws_lc_rs::encoding::PublicKeyX509Der<'_>, _> = key.as_der();
                der.map(|der| STANDARD.encode(der.as_ref())).map_err(|_| KeyError::Generate)
            }
            Pair::Ed25519(pair) => Ok(STANDARD.encode(pair.public_key().as_ref())),
            #[cfg(test)]
            Pair::Small(_) => Err(KeyError::TooSmall),
        }
    }

    /// The record that is to be published for it (RFC 6376 §3.6.1), as one text.
    pub fn record(&self) -> Result<String, KeyError> {
        Ok(format!("v=DKIM1; k={}; p={}", self.algorithm().key_type(), self.public()?))
    }

    /// Signs data.
    pub(crate) fn sign(&self, data: &[u8]) -> Option<Vec<u8>> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), data, &mut signature).ok()?;
                Some(signature)
            }
            Pair::Ed25519(pair) => Some(pair.sign(sha256(data).as_ref()).as_ref().to_vec()),
            #[cfg(test)]
            Pair::Small(small) => Some(small.sign(data)),
        }
    }

    /// How many octets its signatures have.
    pub(crate) fn signature_length(&self) -> usize {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_modulus_len(),
            Pair::Ed25519(_) => 64,
            #[cfg(test)]
            Pair::Small(small) => small.octets,
        }
    }
}

/// Without the secret.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, {} bits)", self.algorithm().as_str(), self.bits())
    }
}

pub(crate) fn sha256(data: &[u8]) -> aws_lc_rs::digest::Digest {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data)
}

/// The first block of a PEM text (RFC 7468): its label and its octets.
fn pem(text: &str) -> Option<(&str, Vec<u8>)> {
    let start = text.find("-----BEGIN ")? + "-----BEGIN ".len();
    let (label, rest) = text[start..].split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(body).ok().map(|der| (label, der))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// A key that the program openssl signs with.
    pub(crate) struct Small {
        file: tempfile::NamedTempFile,
        pub(super) octets: usize,
    }

    impl Small {
        pub(super) fn sign(&self, data: &[u8]) -> Vec<u8> {
            let mut openssl = Command::new("openssl")
                .args(["dgst", "-sha256", "-sign"])
                .arg(self.file.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            openssl.stdin.take().unwrap().write_all(data).unwrap();
            let signature = openssl.wait_with_output().unwrap().stdout;
            assert_eq!(signature.len(), self.octets);
            signature
        }
    }

    /// A key of 1024 bits, as the suites have it.
    pub(crate) fn small(pem: &str) -> PrivateKey {
        assert_eq!(PrivateKey::from_pem(pem).unwrap_err(), KeyError::TooSmall);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(pem.as_bytes()).unwrap();
        PrivateKey { pair: Pair::Small(Small { file, octets: 128 }) }
    }

    #[test]
    fn keys_are_made_stored_and_read_again() {
        for (algorithm, bits) in [(Algorithm::RsaSha256, 2048), (Algorithm::Ed25519Sha256, 256)] {
            let key = PrivateKey::generate(algorithm).unwrap();
            assert_eq!((key.algorithm(), key.bits()), (algorithm, bits));
            let again = PrivateKey::from_pem(&key.to_pem().unwrap()).unwrap();
            assert_eq!(again.public().unwrap(), key.public().unwrap());
            let public = STANDARD.decode(key.public().unwrap()).unwrap();
            let public = PublicKey::new(algorithm, &public).unwrap();
            assert_eq!(public.bits(), bits);
            let signature = again.sign(b"data").unwrap();
            assert_eq!(signature.len(), again.signature_length());
            assert!(public.verifies(b"data", &signature));
            assert!(!public.verifies(b"date", &signature));
        }
    }

    #[test]
    fn octets_that_are_no_key_are_none() {
        let check = |algorithm, octets: &[u8]| {
            assert!(PublicKey::new(algorithm, octets).is_none(), "{octets:?}");
        };
        check(Algorithm::Ed25519Sha256, &[0; 31]);
        for octets in [
            &[][..],
            &[0x30],
            &[0x30, 0x80],
            &[0x30, 0x82, 0xff],
            &[0x30, 0x82, 0xff, 0xff],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 2, 0x02, 0],
            &[0x30, 3, 0x02, 1, 0],
            &[0x30, 4, 0x30, 0, 0x03, 0],
            &[0x30, 5, 0x30, 0, 0x03, 1, 0],
        ] {
            check(Algorithm::RsaSha256, octets);
        }
        assert_eq!(PrivateKey::from_pem("nonsense").unwrap_err(), KeyError::Form);
        let foreign = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
        assert_eq!(PrivateKey::from_pem(foreign).unwrap_err(), KeyError::Form);
    }
}
