//! Authentication exchanges (RFC 4954, RFC 4422): PLAIN (RFC 4616) and LOGIN, both sides, and the
//! server's side of SCRAM ([`scram`]).
//!
//! The machines encode and decode base64 here and carry lines. SCRAM needs what the server keeps of
//! the account in the middle of the exchange: [`Step::Verify`].

mod scram;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use self::scram::{Challenged, First};
pub use self::scram::{ITERATIONS, SALT, ScramVerifier};

/// A way to prove who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// Everything in one message (RFC 4616).
    Plain,
    /// Name and password one after the other; never standardised, still spoken by old clients.
    Login,
    /// A proof of the password without the password (RFC 7677).
    ScramSha256,
    /// The same, bound to the TLS connection, so that nobody sits in between (RFC 5802 §6, RFC
    /// 9266).
    ScramSha256Plus,
}

impl Mechanism {
    /// All, in the order in which a client should choose (RFC 8314 and RFC 7677 prefer those that
    /// show no password).
    pub const ALL: [Self; 4] = [Self::ScramSha256Plus, Self::ScramSha256, Self::Plain, Self::Login];
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
        })
    }
}

impl FromStr for Mechanism {
    type Err = SaslError;
    // RFC 4954 §4: names of mechanisms have no case here.
    fn from_str(text: &str) -> Result<Self, SaslError> {
        let known = Self::ALL.into_iter().find(|one| text.eq_ignore_ascii_case(&one.to_string()));
        known.ok_or(SaslError::Mechanism)
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password",
            Self::Shown => "Shown",
            Self::Wrong => "Wrong",
        })
    }
}

/// Who a client claims to be, and its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// How it was said.
    pub mechanism: Mechanism,
    /// Whom it wants to act for; empty: for itself (RFC 4616 §2).
    pub authorization: String,
    /// Who it is.
    pub identity: String,
    /// What it has shown.
    pub proof: Proof,
}

/// What a client showed.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// The password itself, to be checked.
    Password(String),
    /// That it knows what belongs to the [`ScramVerifier`].
    Shown,
    /// That it does not know it.
    Wrong,
}

/// The server's side of one AUTH command.
#[derive(Debug)]
pub(crate) enum Exchange {
    Plain,
    LoginName,
    LoginPassword { identity: String },
    ScramFirst { channel: Channel, plus: bool },
    ScramWaiting { channel: Channel, first: First },
    ScramChallenged { channel: Channel, challenged: Challenged },
    ScramProven(Credentials),
}

/// What SCRAM can be bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Channel {
    /// The exporter of the TLS connection (RFC 9266), if it has one.
    pub(crate) binding: Option<Vec<u8>>,
    /// The mechanism with PLUS is among those that were offered.
    pub(crate) plus_offered: bool,
}

/// What the server does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send `334` and this, and wait.
    Challenge(Cow<'static, str>),
    /// Find the verifier of this user, then [`Exchange::challenge`].
    Verify {
        /// Who the client says it is.
        identity: String,
    },
    /// All was said.
    Done(Credentials),
}

impl Exchange {
    /// Begins; `initial` is the initial response as it came, if there was one.
    pub(crate) fn start(
        mechanism: Mechanism,
        initial: Option<&[u8]>,
        channel: Channel,
    ) -> (Self, Result<Step, SaslError>) {
        let mut exchange = match mechanism {
            Mechanism::Plain => Self::Plain,
            Mechanism::Login => Self::LoginName,
            Mechanism::ScramSha256 => Self::ScramFirst { channel, plus: false },
            Mechanism::ScramSha256Plus => Self::ScramFirst { channel, plus: true },
        };
        let step = match initial {
            // RFC 4954 §4: `=` is a response of no octets, which is not the same as none.
            Some(b"=") => exchange.step(b""),
            Some(encoded) => exchange.step(encoded),
            None if mechanism == Mechanism::Login => Ok(Step::Challenge(USERNAME.into())),
            None => Ok(Step::Challenge("".into())),
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
        let (next, step) = std::mem::replace(self, Self::Plain).take(&response)?;
        *self = next;
        Ok(step)
    }

    fn take(self, response: &str) -> Result<(Self, Step), SaslError> {
        match self {
            Self::Plain => Ok((Self::Plain, Step::Done(plain(response)?))),
            Self::LoginName => Ok((
                Self::LoginPassword { identity: checked(response)? },
                Step::Challenge(PASSWORD.into()),
            )),
            Self::LoginPassword { identity } => {
                let credentials = Credentials {
                    mechanism: Mechanism::Login,
                    authorization: String::new(),
                    identity,
                    proof: Proof::Password(checked(response)?),
                };
                Ok((Self::LoginName, Step::Done(credentials)))
            }
            Self::ScramFirst { channel, plus } => {
                let first = First::parse(response, plus, channel.plus_offered)?;
                let identity = first.identity.clone();
                Ok((Self::ScramWaiting { channel, first }, Step::Verify { identity }))
            }
            Self::ScramChallenged { channel, challenged } => {
                finish_scram(&channel, challenged, response)
            }
            // RFC 5802 §3: the client has nothing more to say; RFC 4954 §4 gives it a line for that.
            Self::ScramProven(credentials) if response.is_empty() => {
                Ok((Self::Plain, Step::Done(credentials)))
            }
            Self::ScramWaiting { .. } | Self::ScramProven(_) => Err(SaslError::Malformed),
        }
    }

    /// Goes on with what the server keeps of the user, and a nonce that is new.
    pub(crate) fn challenge(
        self,
        verifier: ScramVerifier,
        nonce: &str,
    ) -> (Self, Result<Step, SaslError>) {
        match self {
            Self::ScramWaiting { channel, first } => {
                let challenged = first.challenge(verifier, nonce);
                let challenge = STANDARD.encode(&challenged.message);
                (
                    Self::ScramChallenged { channel, challenged },
                    Ok(Step::Challenge(challenge.into())),
                )
            }
            other => (other, Err(SaslError::Malformed)),
        }
    }
}

/// A wrong proof is told to the driver as well, which counts it.
fn finish_scram(
    channel: &Channel,
    challenged: Challenged,
    response: &str,
) -> Result<(Exchange, Step), SaslError> {
    let plus = challenged.is_bound();
    let binding = channel.binding.as_deref().filter(|_| plus);
    let finished = challenged.finish(response, binding);
    let mut credentials = Credentials {
        mechanism: if plus { Mechanism::ScramSha256Plus } else { Mechanism::ScramSha256 },
        authorization: finished.authorization,
        identity: finished.identity,
        proof: Proof::Wrong,
    };
    match finished.signature {
        Ok(signature) => {
            credentials.proof = Proof::Shown;
            let challenge = STANDARD.encode(signature);
            Ok((Exchange::ScramProven(credentials), Step::Challenge(challenge.into())))
        }
        Err(SaslError::Proof | SaslError::Binding) => {
            Ok((Exchange::Plain, Step::Done(credentials)))
        }
        Err(error) => Err(error),
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
        proof: Proof::Password(checked(password)?),
    })
}

fn checked(text: &str) -> Result<String, SaslError> {
    if text.is_empty() || text.contains('\0') {
        Err(SaslError::Malformed)
    } else {
        Ok(text.to_owned())
    }
}

/// The client's side of one AUTH command: PLAIN or LOGIN.
#[derive(Debug)]
pub struct ClientExchange {
    mechanism: Mechanism,
    identity: String,
    password: String,
    answered: usize,
}

impl ClientExchange {
    /// Begins with LOGIN if it is asked for, with PLAIN otherwise.
    pub fn new(mechanism: Mechanism, identity: String, password: String) -> Self {
        Self { mechanism, identity, password, answered: 0 }
    }

    /// What stands behind `AUTH`: the mechanism, and the initial response if the mechanism begins
    /// with the client and the line stays short enough for every server (RFC 4954 §4).
    pub fn argument(&mut self) -> String {
        if self.mechanism == Mechanism::Login {
            return self.mechanism.to_string();
        }
        let message = self.plain();
        if message.len() > LONGEST_INITIAL_RESPONSE {
            return Mechanism::Plain.to_string();
        }
        self.answered = 1;
        format!("PLAIN {message}")
    }

    /// The line that answers the next challenge. A server that asks for more than there is gets an
    /// error; cancel with `*`.
    pub fn answer(&mut self, _challenge: &str) -> Result<String, SaslError> {
        self.answered += 1;
        match (self.mechanism == Mechanism::Login, self.answered) {
            (false, 1) => Ok(self.plain()),
            (true, 1) => Ok(STANDARD.encode(&self.identity)),
            (true, 2) => Ok(STANDARD.encode(&self.password)),
            _ => Err(SaslError::Malformed),
        }
    }

    fn plain(&self) -> String {
        STANDARD.encode(format!("\0{}\0{}", self.identity, self.password))
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
    /// The client bound the exchange to another connection, or believes that it can't be bound.
    #[error("the channel binding does not fit")]
    Binding,
    /// The proof is not that of the password.
    #[error("wrong proof")]
    Proof,
}

// "Username:" and "Password:", which is all that old clients understand
// (draft-murchison-sasl-login).
const USERNAME: &str = "VXNlcm5hbWU6";
const PASSWORD: &str = "UGFzc3dvcmQ6";
// RFC 4954 §4: the command line must stay within 512 octets.
const LONGEST_INITIAL_RESPONSE: usize = 490;
