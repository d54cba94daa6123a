//! The receiver's machine (RFC 5321 §3, RFC 2033): octets and answers go in; replies, questions and
//! content come out.
//!
//! It holds every rule of the protocol and decides nothing: before a command is carried out, the
//! driver is asked. While a question is open nothing is read, so commands that were pipelined (RFC
//! 2920) just wait in the buffer.
//!
//! A driver is a loop: do what [`Server::poll_output`] says until it says nothing, read into
//! [`Server::input`], tell with [`Server::handle_input`], and begin again.

mod answers;
mod auth;
mod commands;
mod intake;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::address::ReversePath;
use crate::command::Offer;
use crate::content::{ChunkDecoder, DataDecoder};
use crate::envelope::{Envelope, MailParameters, Recipient};
use crate::line::Lines;
use crate::reply::Reply;
pub use crate::sasl::{Credentials, Mechanism, Proof};
use crate::sasl::{Exchange, ScramVerifier};
pub use settings::{Limits, Protocol, Settings};

/// What the driver is to do next, in order.
#[derive(Debug)]
pub enum Output {
    /// Write these octets: the replies to all commands that came together. Hand the buffer back
    /// with [`Server::reuse`].
    Send(Vec<u8>),
    /// Decide this; nothing more is read until [`Server::handle_answer`].
    Ask(Question),
    /// A piece of the content, in order: without dot-stuffing, without the framing of BDAT.
    Content(Bytes),
    /// The transaction is gone without an end of content, whatever was asked about it is void:
    /// RSET, EHLO, STARTTLS, QUIT, a lost connection, or content that the machine itself refused.
    Reset,
    /// Begin the TLS handshake; then [`Server::handle_tls_established`], or [`Server::handle_eof`]
    /// if it fails.
    StartTls,
    /// Close the connection. Nothing comes after it.
    Close,
}

/// What must be decided before the protocol goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// A client has connected and waits for the greeting.
    Connect,
    /// EHLO, LHLO (`extended`) or HELO with this name.
    Helo {
        /// The client's name for itself, as it came.
        name: String,
        /// Whether it knows extensions.
        extended: bool,
    },
    /// AUTH by SCRAM: what is kept of this user? To be answered with [`Answer::Verifier`] whether
    /// there is such a user or not.
    Verifier {
        /// Who the client says it is.
        identity: String,
    },
    /// AUTH with these credentials, to be checked. [`Proof::Wrong`] is refused whatever the answer.
    Auth(Credentials),
    /// MAIL.
    Mail {
        /// Its argument.
        reverse_path: ReversePath,
        /// Its parameters.
        parameters: MailParameters,
    },
    /// RCPT. After [`Answer::Proceed`] the recipient is in [`Server::envelope`].
    Rcpt(Recipient),
    /// DATA or the first BDAT came in order; content follows. May be refused, as for want of space.
    Data,
    /// The content is complete; all its pieces were given out. The answer is the reply to the whole
    /// message.
    Content,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Go on, with the usual reply. Not for [`Question::Content`].
    Proceed,
    /// Go on, with this reply; the message is accepted.
    Accepted(Reply),
    /// Refuse with this reply. With 421 the connection is closed as well (RFC 5321 §3.8).
    Refuse(Reply),
    /// Only for [`Question::Content`] in LMTP: a reply for each accepted recipient, in order (RFC
    /// 2033 §4.2).
    Each(Vec<Reply>),
    /// Only for [`Question::Verifier`].
    Verifier {
        /// What is kept of the user, or [`ScramVerifier::stand_in`].
        verifier: Box<ScramVerifier>,
        /// New for each exchange and not to be guessed: printable octets without a comma.
        nonce: String,
    },
    /// Send this reply and close.
    Disconnect(Reply),
    /// Close without a word.
    Drop,
}

/// One session of the receiver.
#[derive(Debug)]
pub struct Server {
    settings: Arc<Settings>,
    state: State,
    reading: Reading,
    /// The question that is open.
    asked: Option<Asked>,
    offer: Offer,
    tls_active: bool,
    /// What SCRAM can be bound to on this connection.
    channel_binding: Option<Vec<u8>>,
    authenticated: bool,
    draining: bool,
    counts: Counts,
    input: BytesMut,
    lines: Lines,
    outputs: VecDeque<Output>,
    /// Replies that are not sent yet.
    replies: Vec<u8>,
    spare: Vec<u8>,
    /// It gave its buffers back, and nothing came since.
    resting: bool,
}

/// Where the session is (RFC 5321 §4.1.4).
#[derive(Debug)]
enum State {
    /// The greeting is not sent.
    Connecting,
    /// The greeting was a refusal: only QUIT is obeyed (RFC 5321 §3.1).
    Unwelcome,
    /// No EHLO yet, or forgotten by STARTTLS.
    Connected,
    /// No transaction.
    Ready,
    /// A transaction; with `chunks` from the first BDAT on.
    Mail { envelope: Envelope, chunks: Option<ChunkDecoder> },
    /// Over.
    Closed,
}

/// What the next octets are.
#[derive(Debug)]
enum Reading {
    Commands,
    /// A response of an authentication exchange.
    Auth(Exchange),
    /// Content of DATA. `begun`: something of it came.
    Data {
        decoder: DataDecoder,
        begun: bool,
    },
    /// A chunk of BDAT that is taken.
    Chunk {
        remaining: u64,
        last: bool,
    },
    /// A chunk of BDAT that is thrown away, and the reply at its end.
    RefusedChunk {
        remaining: u64,
        reply: Reply,
    },
    /// TLS; not ours to read.
    Handshake,
}

/// What an answer will be about.
#[derive(Debug)]
enum Asked {
    Connect,
    Helo { extended: bool },
    Verifier,
    Auth { wrong: bool },
    Mail(ReversePath, MailParameters),
    Rcpt(Recipient),
    Data,
    FirstChunk { size: u64, last: bool },
    Content,
}

/// What a session has used of its [`Limits`].
#[derive(Debug, Default)]
struct Counts {
    commands: u64,
    junk_commands: u64,
    errors: u64,
    refused_recipients: u64,
    failed_logins: u64,
    transactions: u64,
}

impl Server {
    /// A session begins: the first output asks about the connection.
    pub fn new(settings: impl Into<Arc<Settings>>) -> Self {
        let settings = settings.into();
        let mut server = Self {
            state: State::Connecting,
            reading: Reading::Commands,
            asked: None,
            offer: Offer::default(),
            tls_active: settings.tls_active,
            channel_binding: None,
            authenticated: false,
            draining: false,
            counts: Counts::default(),
            input: BytesMut::new(),
            lines: Lines::default(),
            outputs: VecDeque::new(),
            replies: Vec::new(),
            spare: Vec::new(),
            resting: false,
            settings,
        };
        server.ask(Question::Connect, Asked::Connect);
        server
    }

    /// Where the driver puts what it reads; then it calls [`Server::handle_input`].
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Octets of the input that are not used up: a client that has some before the greeting talks
    /// too early.
    pub fn buffered(&self) -> usize {
        self.input.len()
    }

    /// There is more in [`Server::input`].
    pub fn handle_input(&mut self) {
        self.resting = false;
        // It is looked at when an output is asked for. After the end nothing counts.
        if matches!(self.state, State::Closed) {
            self.input.clear();
        }
    }

    /// The client has closed the connection, or TLS failed.
    pub fn handle_eof(&mut self) {
        self.asked = None;
        self.close();
    }

    /// Nothing came for [`Server::timeout`].
    pub fn handle_timeout(&mut self) {
        // RFC 5321 §3.8, §4.5.3.2
        self.leave("421 4.4.2 Timeout, closing the connection");
    }

    /// The house closes: the session ends as soon as no transaction is open.
    pub fn handle_shutdown(&mut self) {
        self.draining = true;
    }

    /// TLS is up; everything that was said before is forgotten.
    pub fn handle_tls_established(&mut self) {
        // RFC 3207 §4.2: nothing that came in the clear may count, least of all commands behind
        // STARTTLS.
        self.input.clear();
        self.lines.reset();
        self.offer = Offer::default();
        self.authenticated = false;
        self.tls_active = true;
        self.channel_binding = None;
        self.reading = Reading::Commands;
        self.state = State::Connected;
    }

    /// The exporter of the TLS connection (RFC 9266 §4.2), which SCRAM is bound to. Without it no
    /// mechanism with PLUS is offered. To be told before the client says EHLO.
    pub fn set_channel_binding(&mut self, exporter: Option<Vec<u8>>) {
        self.channel_binding = exporter;
    }

    /// The decision about the last [`Output::Ask`].
    pub fn handle_answer(&mut self, answer: Answer) {
        // A session that was closed meanwhile needs no answer any more.
        if let Some(asked) = self.asked.take() {
            self.carry_out(asked, answer);
        }
    }

    /// What is to be done next; nothing: read more, if [`Server::wants_input`].
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            // RFC 2920 §3.2: replies are gathered as long as there are commands, within reason.
            if self.replies.len() >= GATHERED_REPLIES || !self.advance() {
                return self.gathered();
            }
        }
    }

    /// Whether more octets would be of use now.
    pub fn wants_input(&self) -> bool {
        self.asked.is_none()
            && !matches!(self.state, State::Closed)
            && !matches!(self.reading, Reading::Handshake)
    }

    /// For how many octets the driver makes room: few while commands come, so that an idle session is small, and many
    /// for content.
    pub fn appetite(&self) -> usize {
        match self.reading {
            _ if self.resting => RESTING_OCTETS,
            Reading::Commands | Reading::Auth(_) | Reading::Handshake => COMMAND_OCTETS,
            Reading::Data { .. } | Reading::Chunk { .. } | Reading::RefusedChunk { .. } => {
                CONTENT_OCTETS
            }
        }
    }

    /// The client says nothing: gives buffers back that the next command brings again.
    pub fn rest(&mut self) {
        if self.input.is_empty() && self.outputs.is_empty() && self.replies.is_empty() {
            self.input = BytesMut::new();
            self.outputs = VecDeque::new();
            (self.replies, self.spare) = (Vec::new(), Vec::new());
        }
        self.resting = true;
    }

    /// Whether it rests.
    pub fn is_resting(&self) -> bool {
        self.resting
    }

    /// How long the driver waits for input.
    pub fn timeout(&self) -> Duration {
        let limits = &self.settings.limits;
        match self.reading {
            Reading::Commands | Reading::Auth(_) | Reading::Handshake => limits.command_timeout,
            Reading::Data { begun: false, .. } => limits.data_timeout,
            Reading::Data { begun: true, .. }
            | Reading::Chunk { .. }
            | Reading::RefusedChunk { .. } => limits.block_timeout,
        }
    }

    /// The transaction as the client gave it, with the recipients accepted so far.
    pub fn envelope(&self) -> Option<&Envelope> {
        match &self.state {
            State::Mail { envelope, .. } => Some(envelope),
            State::Connecting
            | State::Unwelcome
            | State::Connected
            | State::Ready
            | State::Closed => None,
        }
    }

    /// How it was set up.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes the buffer of an [`Output::Send`] back, to be filled again.
    pub fn reuse(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.spare = buffer;
    }

    /// Takes one command, response or piece of content from the input. False: there is none, or it
    /// must wait.
    fn advance(&mut self) -> bool {
        if !self.wants_input() {
            return false;
        }
        match self.reading {
            Reading::Commands => self.next_command(),
            Reading::Auth(_) => self.next_response(),
            Reading::Data { .. } => self.next_data(),
            Reading::Chunk { .. } => self.next_chunk(),
            Reading::RefusedChunk { .. } => self.next_refused_chunk(),
            Reading::Handshake => false,
        }
    }

    fn ask(&mut self, question: Question, asked: Asked) {
        self.asked = Some(asked);
        self.outputs.push_back(Output::Ask(question));
    }

    /// Queues a reply of the machine itself.
    fn say(&mut self, reply: &str) {
        self.replies.extend_from_slice(reply.as_bytes());
        self.replies.extend_from_slice(b"\r\n");
    }

    fn gathered(&mut self) -> Option<Output> {
        if self.replies.is_empty() {
            return None;
        }
        Some(Output::Send(std::mem::replace(&mut self.replies, std::mem::take(&mut self.spare))))
    }

    /// Says a last reply and closes.
    fn leave(&mut self, reply: &str) {
        self.say(reply);
        self.close();
    }

    fn close(&mut self) {
        if matches!(self.state, State::Closed) {
            return;
        }
        self.end_transaction();
        let last = self.gathered();
        self.outputs.extend(last);
        self.outputs.push_back(Output::Close);
        self.state = State::Closed;
        self.asked = None;
        self.input.clear();
    }

    /// Forgets a transaction that does not come to its end, and tells the driver.
    fn end_transaction(&mut self) {
        if matches!(self.state, State::Mail { .. }) {
            self.outputs.push_back(Output::Reset);
            self.become_ready();
        }
    }

    fn become_ready(&mut self) {
        self.state = State::Ready;
        self.offer.smtputf8_transaction = false;
    }
}

// RFC 5321 §4.5.3.1.4: a command has 512 octets; an envelope that comes in one segment has some.
const COMMAND_OCTETS: usize = 1024;
// The beginning of a command; the rest of it is read in a piece of its own.
const RESTING_OCTETS: usize = 64;
// A TLS record, and more content than a segment brings.
const CONTENT_OCTETS: usize = 16 * 1024;
// A client that sends without reading gets no more memory than this.
const GATHERED_REPLIES: usize = 16 * 1024;
