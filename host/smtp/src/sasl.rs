//! Authentication exchanges (RFC 4954, RFC 4422): PLAIN (RFC 4616) and LOGIN, both sides.
//!
//! The machines encode and decode base64 here and carry lines. An exchange that needs to know
//! something about the account in the middle, as SCRAM does, becomes a variant of [`Exchange`] and
//! another [`Step`].

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A way to prove who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// Everything in one message (RFC 4616).
    Plain,
    /// Name and password one after the other; never standardised, still spoken by old clients.
    Login,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        })
    }
}

impl FromStr for Mechanism {
    type Err = SaslError;
    // RFC 4954 §4: names of mechanisms have no case here.
    fn from_str(text: &str) -> Result<Self, SaslError> {
        match text {
            _ if text.eq_ignore_ascii_case("PLAIN") => Ok(Self::Plain),
            _ if text.eq_ignore_ascii_case("LOGIN") => Ok(Self::Login),
            _ => Err(SaslError::Mechanism),
        }
    }
}

/// Who a client claims to be, and its proof.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// How it was said.
    pub mechanism: Mechanism,
    /// Whom it wants to act for; empty: for itself (RFC 4616 §2).
    pub authorization: String,
    /// Who it is.
    pub identity: String,
    /// The proof.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("mechanism", &self.mechanism)
            .field("authorization", &self.authorization)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// The server's side of one AUTH command.
#[derive(Debug)]
pub(crate) enum Exchange {
    Plain,
    LoginName,
    LoginPassword { identity: String },
}

/// What the server does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send `334` and this, and wait.
    Challenge(&'static str),
    /// All was said.
    Done(Credentials),
}

impl Exchange {
    /// Begins; `initial` is the initial response as it came, if there was one.
    pub(crate) fn start(
        mechanism: Mechanism,
        initial: Option<&[u8]>,
    ) -> (Self, Result<Step, SaslError>) {
        let mut exchange = match mechanism {
            Mechanism::Plain => Self::Plain,
            Mechanism::Login => Self::LoginName,
        };
        let step = match initial {
            // RFC 4954 §4: `=` is a response of no octets, which is not the same as none.
            Some(b"=") => exchange.step(b""),
            Some(encoded) => exchange.step(encoded),
            None => Ok(Step::Challenge(match mechanism {
                Mechanism::Plain => "",
                Mechanism::Login => USERNAME,
            })),
        };
        (exchange, step)
    }

    /// Takes a response as it came: a line of base64.
    pub(crate) fn step(&mut self, encoded: &[u8]) -> Result<Step, SaslError> {
        // RFC 4954 §4: a lone asterisk cancels.
        if encoded == b"*" {
            return Err(SaslError::Cancelled);
        }
        let decoded = STANDARD.decode(encoded).map_err(|_| SaslError::Malformed)?;
        let response = String::from_utf8(decoded).map_err(|_| SaslError::Malformed)?;
        match self {
            Self::Plain => plain(&response).map(Step::Done),
            Self::LoginName => {
                *self = Self::LoginPassword { identity: checked(&response)? };
                Ok(Step::Challenge(PASSWORD))
            }
            Self::LoginPassword { identity } => Ok(Step::Done(Credentials {
                mechanism: Mechanism::Login,
                authorization: String::new(),
                identity: std::mem::take(identity),
                password: checked(&response)?,
            })),
        }
    }
}

/// ```text
/// message = [authzid] UTF8NUL authcid UTF8NUL passwd
/// ```
fn plain(message: &str) -> Result<Credentials, SaslError> {
    let mut parts = message.split('\0');
    let (Some(authorization), Some(identity), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(SaslError::Malformed);
    };
    Ok(Credentials {
        mechanism: Mechanism::Plain,
        authorization: authorization.to_owned(),
        identity: checked(identity)?,
        password: checked(password)?,
    })
}

fn checked(text: &str) -> Result<String, SaslError> {
    if text.is_empty() || text.contains('\0') {
        Err(SaslError::Malformed)
    } else {
        Ok(text.to_owned())
    }
}

/// The client's side of one AUTH command.
#[derive(Debug)]
pub struct ClientExchange {
    credentials: Credentials,
    answered: usize,
}

impl ClientExchange {
    /// Begins with these credentials, by their mechanism.
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials, answered: 0 }
    }

    /// What stands behind `AUTH`: the mechanism, and the initial response if the mechanism begins
    /// with the client and the line stays short enough for every server (RFC 4954 §4).
    pub fn argument(&mut self) -> String {
        match self.credentials.mechanism {
            Mechanism::Plain => {
                let message = self.plain();
                if message.len() > LONGEST_INITIAL_RESPONSE {
                    return Mechanism::Plain.to_string();
                }
                self.answered = 1;
                format!("PLAIN {message}")
            }
            Mechanism::Login => Mechanism::Login.to_string(),
        }
    }

    /// The line that answers the next challenge. A server that asks for more than there is gets an
    /// error; cancel with `*`.
    pub fn answer(&mut self, _challenge: &str) -> Result<String, SaslError> {
        self.answered += 1;
        match (self.credentials.mechanism, self.answered) {
            (Mechanism::Plain, 1) => Ok(self.plain()),
            (Mechanism::Login, 1) => Ok(STANDARD.encode(&self.credentials.identity)),
            (Mechanism::Login, 2) => Ok(STANDARD.encode(&self.credentials.password)),
            _ => Err(SaslError::Malformed),
        }
    }

    fn plain(&self) -> String {
        let Credentials { authorization, identity, password, .. } = &self.credentials;
        STANDARD.encode(format!("{authorization}\0{identity}\0{password}"))
    }
}

/// Why an exchange failed before anybody looked at the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// A mechanism that we do not have.
    #[error("unknown mechanism")]
    Mechanism,
    /// Not base64, or not what the mechanism says.
    #[error("malformed response")]
    Malformed,
    /// The client sent `*`.
    #[error("cancelled by the client")]
    Cancelled,
}

// "Username:" and "Password:", which is all that old clients understand
// (draft-murchison-sasl-login).
const USERNAME: &str = "VXNlcm5hbWU6";
const PASSWORD: &str = "UGFzc3dvcmQ6";
// RFC 4954 §4: the command line must stay within 512 octets.
const LONGEST_INITIAL_RESPONSE: usize = 490;
