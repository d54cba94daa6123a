//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), the server's side: the client proves
//! that it knows the password without saying it, and the server proves that it knew it before.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::SaslError;

/// What a server keeps of a password (RFC 5802 §3). Whoever steals it can't log in with it, but can
/// try passwords against it.
///
/// It is written `SCRAM-SHA-256$ITERATIONS:SALT$STORED-KEY:SERVER-KEY` with the octets in base64, as
/// other servers write it.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl ScramVerifier {
    /// Derives what is kept of a password. Takes a few milliseconds for each 10,000 iterations.
    ///
    /// # Errors
    /// A password with characters that RFC 4013 §2.3 prohibits.
    pub fn derive(password: &str, salt: &[u8], iterations: u32) -> Result<Self, SaslError> {
        // RFC 5802 §2.2: Normalize(password) is SASLprep.
        let password = stringprep::saslprep(password).map_err(|_| SaslError::Malformed)?;
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, iterations);
        Ok(Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: Sha256::digest(mac(&salted, b"Client Key")).into(),
            server_key: mac(&salted, b"Server Key"),
        })
    }

    /// What an unknown user's exchange is held with, so that it looks like a known user's: the salt
    /// is always the same for a name, and no proof fits (RFC 5802 §9).
    pub fn stand_in(secret: &[u8], identity: &str) -> Self {
        let half = |label: &[u8]| mac(secret, &[label, identity.as_bytes()].concat());
        Self {
            iterations: ITERATIONS,
            salt: half(b"salt")[..SALT].to_vec(),
            stored_key: half(b"stored"),
            server_key: half(b"server"),
        }
    }

    /// With the iterations and the length of the salt of a real one, from which it can't be told then.
    #[must_use]
    pub fn like(mut self, model: &Self) -> Self {
        self.iterations = model.iterations;
        let salt = mac(&self.stored_key, &self.salt);
        self.salt = salt.iter().copied().cycle().take(model.salt.len()).collect();
        self
    }

    /// A number that only one who has the secret of a stand-in can foresee.
    pub fn number(&self) -> u32 {
        let [a, b, c, d, ..] = self.server_key;
        u32::from_be_bytes([a, b, c, d])
    }
}

impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] = [&self.salt[..], &self.stored_key, &self.server_key]
            .map(|octets| STANDARD.encode(octets));
        write!(f, "{NAME}${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl FromStr for ScramVerifier {
    type Err = SaslError;

    fn from_str(text: &str) -> Result<Self, SaslError> {
        let mut parts = text.split('$');
        let (Some(NAME), Some(salt), Some(keys), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SaslError::Malformed);
        };
        let (iterations, salt) = salt.split_once(':').ok_or(SaslError::Malformed)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(SaslError::Malformed)?;
        let key = |text: &str| decode(text)?.try_into().map_err(|_| SaslError::Malformed);
        let iterations = iterations.parse().map_err(|_| SaslError::Malformed)?;
        // RFC 7677 §4: at least 4096.
        if iterations < FEWEST_ITERATIONS {
            return Err(SaslError::Malformed);
        }
        Ok(Self {
            iterations,
            salt: decode(salt)?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }
}

/// The first message of a client, read.
///
/// ```text
/// client-first-message = gs2-header client-first-message-bare
/// gs2-header           = ("p=" cb-name / "n" / "y") "," ["a=" saslname] ","
/// client-first-bare    = ["m=" …] "n=" saslname ",r=" c-nonce ["," extensions]
/// ```
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct First {
    /// As it came, for the `c=` of the last message.
    header: String,
    /// As it came, for the proof.
    bare: String,
    /// Whom the client wants to act for; empty: for itself.
    pub(crate) authorization: String,
    /// Who it is.
    pub(crate) identity: String,
    nonce: String,
}

impl First {
    /// `binding` is what the client must have bound the exchange to: `None` for the mechanism
    /// without PLUS; `plus_offered`: whether the one with PLUS was there to be chosen.
    pub(crate) fn parse(message: &str, plus: bool, plus_offered: bool) -> Result<Self, SaslError> {
        let mut parts = message.splitn(3, ',');
        let (Some(flag), Some(authorization), Some(bare)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(SaslError::Malformed);
        };
        match flag {
            // RFC 9266 §2
            "p=tls-exporter" if plus => {}
            // RFC 5802 §6: "y" says that we offer no PLUS. We do, so somebody in between took it out.
            "y" if !plus && !plus_offered => {}
            "n" if !plus => {}
            _ => return Err(SaslError::Binding),
        }
        let authorization = match authorization.strip_prefix("a=") {
            Some(name) => unescape(name)?,
            None if authorization.is_empty() => String::new(),
            None => return Err(SaslError::Malformed),
        };
        // RFC 5802 §5.1: an `m=` before the name is an extension that must be understood.
        let mut attributes = bare.split(',');
        let (Some(identity), Some(nonce)) = (
            attributes.next().and_then(|part| part.strip_prefix("n=")),
            attributes.next().and_then(|part| part.strip_prefix("r=")),
        ) else {
            return Err(SaslError::Malformed);
        };
        let identity = unescape(identity)?;
        let identity = stringprep::saslprep(&identity).map_err(|_| SaslError::Malformed)?;
        let printable = nonce.bytes().all(|octet| octet.is_ascii_graphic());
        if identity.is_empty() || nonce.is_empty() || !printable {
            return Err(SaslError::Malformed);
        }
        Ok(Self {
            header: message[..message.len() - bare.len()].to_owned(),
            identity: identity.into_owned(),
            authorization,
            nonce: nonce.to_owned(),
            bare: bare.to_owned(),
        })
    }

    /// The server's first message. `nonce` is new for each exchange and of printable octets.
    pub(crate) fn challenge(self, verifier: ScramVerifier, nonce: &str) -> Challenged {
        let nonce = format!("{}{nonce}", self.nonce);
        let salt = STANDARD.encode(&verifier.salt);
        let message = format!("r={nonce},s={salt},i={}", verifier.iterations);
        Challenged { first: self, verifier, nonce, message }
    }
}

/// The server has sent salt and nonce.
#[derive(Debug)]
pub(crate) struct Challenged {
    first: First,
    verifier: ScramVerifier,
    nonce: String,
    /// What was sent.
    pub(crate) message: String,
}

impl Challenged {
    /// The client chose the mechanism with PLUS.
    pub(crate) fn is_bound(&self) -> bool {
        self.first.header.starts_with("p=")
    }

    /// Takes the client's last message, and gives who it is and the server's last one; `Ok(Err)` if
    /// the proof is wrong, and `Err` if it is none.
    pub(crate) fn finish(self, message: &str, binding: Option<&[u8]>) -> Finished {
        let authorization = self.first.authorization.clone();
        let identity = self.first.identity.clone();
        let signature = self.verify(message, binding);
        Finished { authorization, identity, signature }
    }

    /// ```text
    /// client-final-message = "c=" base64 ",r=" nonce ["," extensions] ",p=" base64
    /// ```
    fn verify(&self, message: &str, binding: Option<&[u8]>) -> Result<String, SaslError> {
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(SaslError::Malformed)?;
        let mut attributes = without_proof.split(',');
        let (Some(bound), Some(nonce)) = (
            attributes.next().and_then(|part| part.strip_prefix("c=")),
            attributes.next().and_then(|part| part.strip_prefix("r=")),
        ) else {
            return Err(SaslError::Malformed);
        };
        let expected = [self.first.header.as_bytes(), binding.unwrap_or_default()].concat();
        if decode(bound)? != expected {
            return Err(SaslError::Binding);
        }
        let proof: [u8; 32] = decode(proof)?.try_into().map_err(|_| SaslError::Malformed)?;
        if nonce != self.nonce {
            return Err(SaslError::Malformed);
        }
        // RFC 5802 §3: AuthMessage
        let messages = format!("{},{},{without_proof}", self.first.bare, self.message);
        let signature = mac(&self.verifier.stored_key, messages.as_bytes());
        let mut client_key = proof;
        client_key.iter_mut().zip(signature).for_each(|(octet, other)| *octet ^= other);
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        if !bool::from(stored_key.ct_eq(&self.verifier.stored_key)) {
            return Err(SaslError::Proof);
        }
        let server_signature = mac(&self.verifier.server_key, messages.as_bytes());
        Ok(format!("v={}", STANDARD.encode(server_signature)))
    }
}

/// How an exchange ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) authorization: String,
    pub(crate) identity: String,
    /// The server's last message; or what is wrong with the client's.
    pub(crate) signature: Result<String, SaslError>,
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn decode(text: &str) -> Result<Vec<u8>, SaslError> {
    STANDARD.decode(text).map_err(|_| SaslError::Malformed)
}

/// RFC 5802 §5.1: `=2C` is a comma and `=3D` an equals sign; nothing else may follow `=`.
fn unescape(name: &str) -> Result<String, SaslError> {
    let mut pieces = name.split('=');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (escaped, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(SaslError::Malformed),
        };
        plain.push(escaped);
        plain.push_str(rest);
    }
    if plain.contains('\0') { Err(SaslError::Malformed) } else { Ok(plain) }
}

const NAME: &str = "SCRAM-SHA-256";
/// Iterations of a new verifier: the smallest count that RFC 7677 §4 calls for with SHA-256 is 4096,
/// and it asks for 15,000 where clients can bear it.
pub const ITERATIONS: u32 = 15_000;
/// Octets of a new verifier's salt.
pub const SALT: usize = 16;
const FEWEST_ITERATIONS: u32 = 4096;
