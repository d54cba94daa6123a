//! The opening of a session: greeting, EHLO or HELO or LHLO, STARTTLS, AUTH.

use super::{Awaited, Client, Dialect, Failure, Output, State, Step, TlsUse};
use crate::{
    extension::Extensions,
    reply::Reply,
    sasl::{ClientExchange, Mechanism},
};

/// What was tried already while the session is being opened.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// STARTTLS was refused, and TLS is not required.
    tls_refused: bool,
    /// AUTH under way.
    exchange: Option<ClientExchange>,
}

impl Client {
    pub(super) fn handle_opening(&mut self, awaited: Awaited, reply: Reply) {
        match (awaited, reply.code()) {
            (Awaited::Greeting, 220) => self.say_hello(),
            (Awaited::Greeting, _) => self.fail(Step::Greeting, reply),
            (Awaited::Ehlo, 250) => {
                self.extensions = Extensions::parse(&reply);
                self.go_on();
            }
            // RFC 5321 §3.2: a host that does not know EHLO is greeted with HELO. LMTP has nothing
            // else (RFC 2033 §4.1).
            (Awaited::Ehlo, 500..=599) if self.settings.dialect == Dialect::Smtp => {
                let hello = format!("HELO {}", self.settings.hostname);
                self.command(&hello, Awaited::Helo);
            }
            (Awaited::Helo, 250) => {
                self.extensions = Extensions::default();
                self.go_on();
            }
            (Awaited::StartTls, 220) => {
                // RFC 3207 §4.2: whatever stands behind the 220 was not protected, so it does not
                // count.
                self.input.clear();
                self.state = State::Handshake;
                self.outputs.push_back(Output::StartTls);
            }
            (Awaited::StartTls, 400..=599) if self.settings.tls == TlsUse::Opportunistic => {
                self.state = State::Opening(Opening { tls_refused: true, exchange: None });
                self.go_on();
            }
            (Awaited::StartTls, _) => self.fail(Step::Tls, reply),
            (Awaited::Auth, _) => self.handle_auth(reply),
            _ => self.fail(Step::Hello, reply),
        }
    }

    pub(super) fn say_hello(&mut self) {
        let hostname = &self.settings.hostname;
        let hello = match self.settings.dialect {
            Dialect::Smtp => format!("EHLO {hostname}"),
            Dialect::Lmtp => format!("LHLO {hostname}"),
        };
        self.command(&hello, Awaited::Ehlo);
    }

    /// Extensions are known: TLS first, then AUTH, then work.
    fn go_on(&mut self) {
        let tls_refused = matches!(self.state, State::Opening(Opening { tls_refused: true, .. }));
        if !self.tls_active && !tls_refused && self.settings.tls != TlsUse::Never {
            if self.extensions.starttls {
                return self.command("STARTTLS", Awaited::StartTls);
            }
            if self.settings.tls == TlsUse::Required {
                return self.fail_ourselves(
                    Step::Tls,
                    Reply::new(454, "4.7.10 TLS is required, but the host does not offer it"),
                );
            }
        }
        if self.settings.credentials.is_some() && !self.authenticated {
            return self.log_in();
        }
        self.state = State::Ready;
        self.outputs.push_back(Output::Ready);
    }

    /// RFC 4954 §4, with PLAIN (RFC 4616) or LOGIN, which has no RFC but many hosts.
    fn log_in(&mut self) {
        let Some(credentials) = self.settings.credentials.clone() else { return };
        if !self.tls_active && !self.settings.auth_without_tls {
            // RFC 4954 §4: passwords do not travel in the clear.
            return self.fail_ourselves(
                Step::Auth,
                Reply::new(454, "4.7.11 There is no TLS, so the password is not sent"),
            );
        }
        let offers = |mechanism: &Mechanism| {
            self.extensions.auth.iter().any(|offered| offered.parse() == Ok(*mechanism))
        };
        let Some(mechanism) = [Mechanism::Plain, Mechanism::Login].into_iter().find(offers) else {
            let words = "4.7.0 The host offers neither AUTH PLAIN nor AUTH LOGIN";
            return self.fail_ourselves(Step::Auth, Reply::new(454, words));
        };
        let mut exchange = ClientExchange::new(mechanism, credentials.user, credentials.password);
        self.command(&format!("AUTH {}", exchange.argument()), Awaited::Auth);
        if let State::Opening(opening) = &mut self.state {
            opening.exchange = Some(exchange);
        }
    }

    fn handle_auth(&mut self, reply: Reply) {
        let State::Opening(Opening { exchange: Some(exchange), .. }) = &mut self.state else {
            return;
        };
        match reply.code() {
            235 => {
                self.authenticated = true;
                self.go_on();
            }
            334 => match exchange.answer(&reply.text()) {
                Ok(line) => self.command(&line, Awaited::Auth),
                Err(_) => {
                    let words = "4.7.0 The host asks for more than its mechanism knows";
                    self.fail_ourselves(Step::Auth, Reply::new(454, words));
                }
            },
            _ => self.fail(Step::Auth, reply),
        }
    }

    /// The peer refused a step of the opening.
    fn fail(&mut self, step: Step, reply: Reply) {
        if reply.is_positive() {
            // A success of the wrong kind: nothing that follows can be trusted.
            return self.out_of_step(&reply);
        }
        self.give_up(Failure { step, reply, by_peer: true });
    }

    fn fail_ourselves(&mut self, step: Step, reply: Reply) {
        self.give_up(Failure { step, reply, by_peer: false });
    }

    /// The connection is sound, so good-bye is said (RFC 5321 §4.1.1.10).
    fn give_up(&mut self, failure: Failure) {
        self.outputs.push_back(Output::Failed(failure));
        self.quit();
    }
}
