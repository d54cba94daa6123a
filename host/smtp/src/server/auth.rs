//! AUTH (RFC 4954): carries the lines of an exchange, and asks about the credentials at its end.

use super::{Asked, Mechanism, Proof, Question, Reading, Server};
use crate::line::LineFault;
use crate::sasl::{Channel, Exchange, SaslError, ScramVerifier, Step};

impl Server {
    /// RFC 4954 §4: AUTH came between transactions.
    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<&str>) {
        if self.authenticated {
            return self.error("503 5.5.1 Authenticated already");
        }
        if self.settings.mechanisms.is_empty() {
            return self.error("502 5.5.1 AUTH is not offered");
        }
        if !self.offer.extensions.pipelining {
            return self.error("503 5.5.1 AUTH needs EHLO");
        }
        if self.offer.extensions.auth.is_empty() {
            return self.error("538 5.7.11 Encryption required for authentication");
        }
        let offered = |known: &Mechanism| {
            self.offer.extensions.auth.iter().any(|name| *name == known.to_string())
        };
        let known = mechanism.parse().ok().filter(offered);
        let Some(mechanism) = known else {
            return self.error("504 5.5.4 Unrecognised authentication mechanism");
        };
        self.begin(mechanism, initial.map(str::as_bytes));
    }

    /// Takes the next line of the exchange, if it is complete.
    pub(super) fn next_response(&mut self) -> bool {
        let Some(line) = self.lines.next(&mut self.input, self.settings.limits.auth_line) else {
            return false;
        };
        let Reading::Auth(mut exchange) = std::mem::replace(&mut self.reading, Reading::Commands)
        else {
            return true;
        };
        match line {
            Ok(response) => {
                let step = exchange.step(&response);
                self.take_step(exchange, step);
            }
            // RFC 4954 §4
            Err(LineFault::TooLong) => {
                self.error("500 5.5.6 Authentication exchange line is too long")
            }
            Err(LineFault::Endless | LineFault::BareCr | LineFault::BareLf) => {
                self.leave("521 5.5.2 This is no line")
            }
        }
        true
    }

    fn begin(&mut self, mechanism: Mechanism, initial: Option<&[u8]>) {
        let plus = Mechanism::ScramSha256Plus.to_string();
        let channel = Channel {
            binding: self.channel_binding.clone(),
            plus_offered: self.offer.extensions.auth.contains(&plus),
        };
        let (exchange, step) = Exchange::start(mechanism, initial, channel);
        self.take_step(exchange, step);
    }

    /// The driver gave what it keeps of the user.
    pub(super) fn challenge(&mut self, verifier: ScramVerifier, nonce: &str) {
        if let Reading::Auth(exchange) = std::mem::replace(&mut self.reading, Reading::Commands) {
            let (exchange, step) = exchange.challenge(verifier, nonce);
            self.take_step(exchange, step);
        }
    }

    fn take_step(&mut self, exchange: Exchange, step: Result<Step, SaslError>) {
        match step {
            Ok(Step::Challenge(challenge)) => {
                self.replies.extend_from_slice(b"334 ");
                self.say(&challenge);
                self.reading = Reading::Auth(exchange);
            }
            Ok(Step::Verify { identity }) => {
                self.reading = Reading::Auth(exchange);
                self.ask(Question::Verifier { identity }, Asked::Verifier);
            }
            Ok(Step::Done(credentials)) => {
                let wrong = credentials.proof == Proof::Wrong;
                self.ask(Question::Auth(credentials), Asked::Auth { wrong });
            }
            Err(SaslError::Cancelled) => self.error("501 5.7.0 Authentication cancelled"),
            // RFC 5802 §6: the client would be bound to a connection that is not this one.
            Err(SaslError::Binding | SaslError::Proof) => {
                self.error("535 5.7.8 The channel binding does not fit")
            }
            Err(SaslError::Malformed | SaslError::Mechanism) => {
                self.error("501 5.5.2 Cannot decode the response")
            }
        }
    }
}
