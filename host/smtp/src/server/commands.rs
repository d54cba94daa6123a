//! Commands: what may come when (RFC 5321 §4.1.4), and the question each of them raises.

use super::{Asked, Output, Protocol, Question, Reading, Server, State};
use crate::address::{ForwardPath, ReversePath};
use crate::command::{Command, CommandError};
use crate::envelope::{BodyType, Envelope, MailParameters, RcptParameters, Recipient};
use crate::line::LineFault;
use crate::reply::Reply;

impl Server {
    /// Takes the next command line, if it is complete.
    pub(super) fn next_command(&mut self) -> bool {
        if self.draining && self.envelope().is_none() {
            // RFC 5321 §3.8: 421 can be the reply to any command, or come without one.
            self.leave("421 4.3.2 Closing for maintenance, try again later");
            return true;
        }
        let longest = self.longest_line();
        let Some(line) = self.lines.next(&mut self.input, longest) else { return false };
        match line {
            Ok(line) => self.command(&line),
            Err(fault) => self.no_line(fault),
        }
        true
    }

    fn longest_line(&self) -> usize {
        let limits = &self.settings.limits;
        // RFC 4954 §4: AUTH with an initial response is a long command.
        let auth_may_come = !self.authenticated && !self.offer.extensions.auth.is_empty();
        if auth_may_come { limits.command_line.max(limits.auth_line) } else { limits.command_line }
    }

    fn command(&mut self, line: &[u8]) {
        self.counts.commands += 1;
        if self.counts.commands > self.settings.limits.commands {
            return self.leave("421 4.7.0 Too many commands");
        }
        match Command::parse(line, &self.offer) {
            Ok(command) => self.obey(command),
            Err(error) => self.no_command(error, line),
        }
    }

    /// The whole order of commands; read it beside RFC 5321 §4.1.4. A command out of order leaves
    /// the state as it was.
    fn obey(&mut self, command: Command) {
        match (&self.state, command) {
            (_, Command::Quit) => self.leave("221 2.0.0 Bye"),
            (State::Unwelcome, _) => self.error("503 5.5.1 You are not welcome here, only QUIT is"),
            (_, Command::Ehlo(name)) if self.speaks(Protocol::Smtp) => self.helo(name, true),
            (_, Command::Helo(name)) if self.speaks(Protocol::Smtp) => self.helo(name, false),
            (_, Command::Lhlo(name)) if self.speaks(Protocol::Lmtp) => self.helo(name, true),
            // RFC 2033 §4.1: neither knows the other's hello.
            (_, Command::Ehlo(_) | Command::Helo(_) | Command::Lhlo(_)) => {
                self.error("500 5.5.1 Command unrecognised")
            }
            (_, Command::Noop) => self.junk("250 2.0.0 Ok"),
            (_, Command::Help) => self.junk(HELP),
            // RFC 5321 §3.5.3 and §7.3: who lives here is not told.
            (_, Command::Vrfy) => {
                self.junk("252 2.5.0 Cannot verify, but will take mail and try to deliver it")
            }
            (_, Command::Expn) => self.junk("502 5.5.1 EXPN is not implemented"),
            (_, Command::Rset) => self.rset(),

            (State::Ready, Command::Mail(path, parameters)) => self.mail(path, parameters),
            (State::Ready | State::Mail { .. }, Command::StartTls) => self.starttls(),
            (State::Ready, Command::Auth { mechanism, initial }) => {
                self.auth(&mechanism, initial.as_deref())
            }
            (State::Mail { chunks: None, .. }, Command::Rcpt(path, parameters)) => {
                self.rcpt(path, parameters)
            }
            (State::Mail { chunks: None, envelope }, Command::Data)
                if !envelope.recipients.is_empty() =>
            {
                self.data()
            }
            (State::Mail { envelope, .. }, Command::Bdat { size, last })
                if !envelope.recipients.is_empty() =>
            {
                self.bdat(size, last)
            }

            // RFC 3030 §2: a chunk that is refused is read all the same, or it would be taken for
            // commands.
            (_, Command::Bdat { size, .. }) => {
                self.refuse_chunk(size, Reply::new(503, "5.5.1 MAIL and RCPT first"))
            }
            (State::Mail { chunks: Some(_), .. }, _) => {
                self.error("503 5.5.1 Only BDAT and RSET after BDAT")
            }
            // RFC 2033 §4.2, RFC 5321 §3.3: no content without a recipient.
            (State::Mail { .. }, Command::Data) => self.error("503 5.5.1 No valid recipients"),
            (State::Mail { .. }, Command::Mail(..)) => {
                self.error("503 5.5.1 A transaction is open already")
            }
            (State::Mail { .. }, Command::Auth { .. }) => {
                self.error("503 5.5.1 Not in a transaction")
            }
            (State::Ready, Command::Rcpt(..) | Command::Data) => self.error("503 5.5.1 MAIL first"),
            (State::Connecting | State::Connected | State::Closed, _) => {
                self.error(match self.settings.protocol {
                    Protocol::Smtp => "503 5.5.1 EHLO first",
                    Protocol::Lmtp => "503 5.5.1 LHLO first",
                })
            }
        }
    }

    fn speaks(&self, protocol: Protocol) -> bool {
        self.settings.protocol == protocol
    }

    fn helo(&mut self, name: String, extended: bool) {
        if self.count_junk() {
            self.ask(Question::Helo { name, extended }, Asked::Helo { extended });
        }
    }

    fn rset(&mut self) {
        self.end_transaction();
        self.junk("250 2.0.0 Ok");
    }

    fn mail(&mut self, path: ReversePath, parameters: MailParameters) {
        if self.settings.tls_required && !self.tls_active {
            return self.error("530 5.7.0 Must issue a STARTTLS command first");
        }
        if self.settings.auth_required && !self.authenticated {
            return self.error("530 5.7.0 Authentication required");
        }
        if self.counts.transactions >= self.settings.limits.transactions {
            // RFC 9422 §4.1
            return self.leave("421 4.7.0 Too many messages in this session");
        }
        let question =
            Question::Mail { reverse_path: path.clone(), parameters: parameters.clone() };
        self.ask(question, Asked::Mail(path, parameters));
    }

    fn rcpt(&mut self, path: ForwardPath, parameters: RcptParameters) {
        let accepted = self.envelope().map_or(0, |envelope| envelope.recipients.len());
        if accepted >= self.settings.limits.recipients {
            // RFC 5321 §4.5.3.1.10: the client sends the others in another transaction.
            return self.say("452 4.5.3 Too many recipients");
        }
        let recipient = Recipient { path, parameters };
        self.ask(Question::Rcpt(recipient.clone()), Asked::Rcpt(recipient));
    }

    fn data(&mut self) {
        if self.envelope().is_some_and(is_binary) {
            // RFC 3030 §3: binary content goes by BDAT alone.
            return self.error("503 5.5.1 BINARYMIME needs BDAT");
        }
        self.ask(Question::Data, Asked::Data);
    }

    fn bdat(&mut self, size: u64, last: bool) {
        // It was not offered to a client that said HELO.
        if !self.offer.extensions.chunking {
            return self.refuse_chunk(size, Reply::new(503, "5.5.1 BDAT needs EHLO"));
        }
        if matches!(&self.state, State::Mail { chunks: Some(_), .. }) {
            self.reading = Reading::Chunk { remaining: size, last };
        } else {
            self.ask(Question::Data, Asked::FirstChunk { size, last });
        }
    }

    fn starttls(&mut self) {
        if self.tls_active {
            return self.error("503 5.5.1 TLS is up already");
        }
        if !self.offer.extensions.starttls {
            return self.error("502 5.5.1 STARTTLS is not offered");
        }
        self.end_transaction();
        self.say("220 2.0.0 Ready to start TLS");
        // RFC 3207 §4.2: what the client sent behind the command came in the clear and does not
        // count.
        self.input.clear();
        self.lines.reset();
        let replies = self.gathered();
        self.outputs.extend(replies);
        self.outputs.push_back(Output::StartTls);
        self.state = State::Connected;
        self.reading = Reading::Handshake;
    }

    fn no_command(&mut self, error: CommandError, line: &[u8]) {
        match error {
            // A browser was tricked into talking to us; the rest of what it says is not its own.
            CommandError::Unknown if matches!(self.state, State::Connected) && is_http(line) => {
                self.leave("554 5.5.1 This is a mail server")
            }
            // Deviation from RFC 5321 §3.8: closed without 421, because the chunk cannot be told
            // from commands.
            CommandError::ChunkSize => self.leave(&error.to_string()),
            CommandError::Empty
            | CommandError::Unknown
            | CommandError::Argument
            | CommandError::ReversePath
            | CommandError::ForwardPath
            | CommandError::Parameter
            | CommandError::ParameterValue
            | CommandError::Size
            | CommandError::NeedsSmtputf8 => self.error(&error.to_string()),
        }
    }

    fn no_line(&mut self, fault: LineFault) {
        match fault {
            // RFC 5321 §4.5.3.1.9
            LineFault::TooLong => self.error("500 5.5.2 Line too long"),
            LineFault::Endless => self.leave("421 4.5.2 Line too long"),
            // RFC 5321 §2.3.8, RFC 7504 §4: peer and we do not agree where lines end, so we stop
            // talking.
            LineFault::BareLf => self.leave("521 5.5.2 Bare LF in a command"),
            LineFault::BareCr => self.leave("521 5.5.2 Bare CR in a command"),
        }
    }

    /// Refuses a command that is malformed or out of order, and counts it.
    pub(super) fn error(&mut self, reply: &str) {
        self.counts.errors += 1;
        if self.counts.errors > self.settings.limits.errors {
            self.leave("421 4.7.0 Too many errors");
        } else {
            self.say(reply);
        }
    }

    fn junk(&mut self, reply: &str) {
        if self.count_junk() {
            self.say(reply);
        }
    }

    fn count_junk(&mut self) -> bool {
        self.counts.junk_commands += 1;
        let within = self.counts.junk_commands <= self.settings.limits.junk_commands;
        if !within {
            self.leave("421 4.7.0 Too many commands without a message");
        }
        within
    }
}

pub(super) fn is_binary(envelope: &Envelope) -> bool {
    envelope.parameters.body == BodyType::BinaryMime
}

fn is_http(line: &[u8]) -> bool {
    HTTP_METHODS.iter().any(|method| {
        line.strip_prefix(method.as_bytes()).is_some_and(|rest| rest.starts_with(b" "))
    })
}

const HELP: &str =
    "214 2.0.0 See RFC 5321: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS AUTH QUIT";
const HTTP_METHODS: [&str; 8] =
    ["GET", "POST", "CONNECT", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH"];
