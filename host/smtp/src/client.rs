//! The sender's machine, for SMTP (RFC 5321) and LMTP (RFC 2033).
//!
//! It owns what is said and how the replies are attributed. Which host is called, how TLS is made
//! and where the content lies is the driver's matter: it reads into [`Client::input`], calls
//! `handle_*` and carries out what [`Client::poll_output`] gives.
//!
//! Every reply is attributed to the command that asked for it, in order. A reply that nothing asked
//! for, or one of a kind that its command cannot have, means that the two sides are out of step:
//! then nothing more is believed, the connection is closed, and what was not decided yet is tried
//! again later.

mod opening;
mod parameters;
mod settings;
mod survey;
mod transaction;

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::BytesMut;

use self::{opening::Opening, transaction::Progress};
pub use self::{
    settings::{ClientCredentials, Dialect, Limits, Settings, Timeouts, TlsUse},
    survey::{ContentTraits, Survey},
    transaction::{Fate, Transaction},
};
use crate::{
    extension::Extensions,
    reply::{Reply, ReplyParser},
};

/// What the driver is to do next, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Write these octets.
    Send(Vec<u8>),
    /// Make TLS on the connection, then call [`Client::handle_tls_established`].
    StartTls,
    /// The session is open: [`Client::begin`] or [`Client::quit`] may be called.
    Ready,
    /// Give up to `length` octets of the content from `offset` on to [`Client::handle_content`].
    Content {
        /// Position in the content of the transaction.
        offset: u64,
        /// As many octets at most.
        length: usize,
    },
    /// The transaction is over: one fate for each of its recipients, in their order.
    Ended(Vec<Fate>),
    /// The session could not be opened. Nothing was tried for any recipient.
    Failed(Failure),
    /// Close the connection.
    Close,
}

/// Why a session could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where it happened.
    pub step: Step,
    /// The words of the peer, or ours where `by_peer` is false.
    pub reply: Reply,
    /// The reply came over the wire.
    pub by_peer: bool,
}

/// A step of a session, named in failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Waiting for the greeting.
    Greeting,
    /// EHLO, HELO or LHLO.
    Hello,
    /// STARTTLS and the handshake.
    Tls,
    /// AUTH.
    Auth,
    /// MAIL and RCPT.
    Envelope,
    /// DATA or BDAT, and the content.
    Content,
    /// After the end of data: whether the peer took the message is not known.
    End,
    /// Between transactions.
    Idle,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "waiting for the greeting",
            Self::Hello => "saying hello",
            Self::Tls => "starting TLS",
            Self::Auth => "logging in",
            Self::Envelope => "sending the envelope",
            Self::Content => "sending the content",
            Self::End => "waiting for the reply to the content",
            Self::Idle => "idle",
        })
    }
}

/// The machine of one connection.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    input: BytesMut,
    parser: ReplyParser,
    /// Octets of input that were seen already and stay for the next call.
    left_over: usize,
    /// Octets since the last whole reply.
    heard: usize,
    /// Whole replies so far.
    replies: u64,
    outputs: VecDeque<Output>,
    /// Commands and content that wait for the next [`Output::Send`].
    sending: Vec<u8>,
    /// What was asked and not answered yet, oldest first.
    awaited: VecDeque<Awaited>,
    state: State,
    extensions: Extensions,
    tls_active: bool,
    authenticated: bool,
    /// Transactions begun in this session.
    transactions: u64,
    /// The last transaction did not end with a reply to its content.
    reset_needed: bool,
}

/// A command whose reply is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Auth,
    Reset,
    Mail,
    /// RCPT of the recipient with this index.
    Rcpt(usize),
    Data,
    /// A BDAT that is not the last.
    Chunk,
    /// The content, for all recipients that were accepted.
    End,
    /// LMTP: the content, for the recipient with this index.
    EndFor(usize),
    Quit,
}

/// Where the session is.
#[derive(Debug)]
enum State {
    /// Greeting, EHLO, STARTTLS, AUTH.
    Opening(Opening),
    /// The driver makes TLS.
    Handshake,
    Ready,
    Transaction(Box<Progress>),
    Quitting,
    Closed,
}

impl Client {
    /// A machine for a connection that was just made; it waits for the greeting.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let tls_active = settings.tls == TlsUse::Active;
        Self {
            settings,
            input: BytesMut::new(),
            parser: ReplyParser::default(),
            left_over: 0,
            heard: 0,
            replies: 0,
            outputs: VecDeque::new(),
            sending: Vec::new(),
            awaited: VecDeque::from([Awaited::Greeting]),
            state: State::Opening(Opening::default()),
            extensions: Extensions::default(),
            tls_active,
            authenticated: false,
            transactions: 0,
            reset_needed: false,
        }
    }

    /// Where the driver reads to, before it calls [`Client::handle_input`].
    pub const fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Takes the replies that are complete in the input.
    pub fn handle_input(&mut self) {
        self.heard += self.input.len().saturating_sub(self.left_over);
        self.take_replies();
        self.left_over = self.input.len();
        if self.heard > MAXIMUM_REPLY {
            self.lose("421 4.5.0 The peer's reply has no end");
        }
    }

    fn take_replies(&mut self) {
        loop {
            if matches!(self.state, State::Handshake | State::Closed) {
                // RFC 3207 §4.2: what came in the clear behind the 220 is forgotten.
                self.input.clear();
                self.heard = 0;
                return;
            }
            match self.parser.feed(&mut self.input) {
                Ok(Some(reply)) => {
                    self.replies += 1;
                    self.heard = self.input.len();
                    self.handle_reply(reply);
                }
                Ok(None) => return,
                Err(error) => {
                    let step = self.step();
                    return self.lose(&format!(
                        "421 4.5.0 The peer's reply makes no sense while {step}: {error}"
                    ));
                }
            }
        }
    }

    /// The peer closed the connection, or it broke.
    pub fn handle_eof(&mut self) {
        let step = self.step();
        self.lose(&format!("421 4.4.2 The connection was lost while {step}"));
    }

    /// [`Client::timeout`] passed without a word of the peer.
    pub fn handle_timeout(&mut self) {
        let step = self.step();
        self.lose(&format!("421 4.4.2 Timed out while {step}"));
    }

    /// TLS is made: the session begins anew.
    pub fn handle_tls_established(&mut self) {
        // RFC 3207 §4.2: everything learnt before is discarded, above all the list of extensions.
        self.input.clear();
        (self.left_over, self.heard) = (0, 0);
        self.parser = ReplyParser::default();
        self.extensions = Extensions::default();
        self.tls_active = true;
        self.state = State::Opening(Opening::default());
        self.say_hello();
    }

    /// Says good-bye; [`Output::Close`] follows the reply. Only between transactions.
    pub fn quit(&mut self) {
        if matches!(self.state, State::Closed | State::Quitting) {
            return;
        }
        self.state = State::Quitting;
        self.command("QUIT", Awaited::Quit);
    }

    /// The next thing to do. `None`: read, for [`Client::timeout`] at most.
    pub fn poll_output(&mut self) -> Option<Output> {
        if !self.sending.is_empty() {
            return Some(Output::Send(std::mem::take(&mut self.sending)));
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        self.wanted_content()
    }

    /// How long the driver waits for input, or for a write to pass (RFC 5321 §4.5.3.2).
    #[must_use]
    pub fn timeout(&self) -> Duration {
        let timeouts = &self.settings.timeouts;
        if self.is_writing_content() {
            return timeouts.block;
        }
        match self.awaited.front() {
            Some(Awaited::Greeting) => timeouts.greeting,
            Some(Awaited::Data) => timeouts.data,
            Some(Awaited::End | Awaited::EndFor(_) | Awaited::Chunk) => timeouts.end,
            Some(Awaited::Quit) => timeouts.quit,
            Some(
                Awaited::Ehlo
                | Awaited::Helo
                | Awaited::StartTls
                | Awaited::Auth
                | Awaited::Reset
                | Awaited::Mail
                | Awaited::Rcpt(_),
            ) => timeouts.command,
            None => timeouts.block,
        }
    }

    /// Whole replies so far. [`Client::timeout`] runs from the last of them: single octets do not
    /// extend it.
    #[must_use]
    pub const fn replies(&self) -> u64 {
        self.replies
    }

    /// What the peer offers, as of its last EHLO.
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// True if the session can take one more transaction now.
    #[must_use]
    pub fn can_begin(&self) -> bool {
        // RFC 9422 §4.1: MAILMAX bounds the transactions of a session.
        let most = self.extensions.limits.and_then(|limits| limits.transactions);
        matches!(self.state, State::Ready) && most.is_none_or(|most| self.transactions < most)
    }

    /// False when nothing more can be said on this connection.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed)
    }

    /// Where the session is, in words for operators.
    #[must_use]
    pub fn step(&self) -> Step {
        match (&self.state, self.awaited.front()) {
            (_, Some(Awaited::Greeting)) => Step::Greeting,
            (_, Some(Awaited::StartTls)) | (State::Handshake, _) => Step::Tls,
            (_, Some(Awaited::Auth)) => Step::Auth,
            (State::Opening(_), _) => Step::Hello,
            (State::Transaction(progress), _) => progress.step(),
            (State::Ready | State::Quitting | State::Closed, _) => Step::Idle,
        }
    }

    /// The whole of reply attribution: each reply belongs to the oldest command that waits for one.
    fn handle_reply(&mut self, reply: Reply) {
        let Some(awaited) = self.awaited.pop_front() else { return self.unasked(&reply) };
        if awaited == Awaited::Quit {
            return self.close();
        }
        // RFC 5321 §3.8: 421 may answer any command, and the peer closes after it.
        if reply.code() == 421 {
            self.awaited.push_front(awaited);
            return self.lose_by(reply, true);
        }
        match awaited {
            Awaited::Greeting
            | Awaited::Ehlo
            | Awaited::Helo
            | Awaited::StartTls
            | Awaited::Auth => {
                self.handle_opening(awaited, reply);
            }
            Awaited::Reset
            | Awaited::Mail
            | Awaited::Rcpt(_)
            | Awaited::Data
            | Awaited::Chunk
            | Awaited::End
            | Awaited::EndFor(_) => self.handle_transaction(awaited, reply),
            Awaited::Quit => self.close(),
        }
    }

    /// A reply that no command asked for. A refusal may come while the content is still on its way;
    /// anything else shows that we are out of step, and then a later 250 could belong to anything.
    fn unasked(&mut self, reply: &Reply) {
        if reply.code() == 421 || (!reply.is_positive() && self.step() == Step::Content) {
            return self.lose_by(reply.clone(), true);
        }
        self.out_of_step(reply);
    }

    /// The peer's replies cannot be attributed any more.
    fn out_of_step(&mut self, reply: &Reply) {
        let step = self.step();
        let code = reply.code();
        self.lose(&format!("421 4.5.0 The peer's reply {code} does not fit while {step}"));
    }

    /// True if octets of a reply have arrived that nothing has asked for.
    const fn has_unread(&self) -> bool {
        self.heard > 0
    }

    /// Gives up the connection with words of our own.
    fn lose(&mut self, words: &str) {
        let (code, text) = words.split_once(' ').expect("our own words begin with a code");
        self.lose_by(
            Reply::new(code.parse().expect("our own words begin with a code"), text),
            false,
        );
    }

    /// Gives up the connection: what is undecided stays undecided.
    fn lose_by(&mut self, reply: Reply, by_peer: bool) {
        let step = self.step();
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Opening(_) | State::Handshake => {
                self.outputs.push_back(Output::Failed(Failure { step, reply, by_peer }))
            }
            State::Transaction(progress) => {
                self.outputs.push_back(Output::Ended(progress.lost(&reply, by_peer)))
            }
            State::Closed => return,
            State::Ready | State::Quitting => {}
        }
        self.close();
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.awaited.clear();
        self.sending.clear();
        self.outputs.push_back(Output::Close);
    }

    /// Gathers one command line; commands that may be pipelined leave in one write.
    fn command(&mut self, line: &str, awaited: Awaited) {
        // RFC 5321 §2.3.8: what we say is one line. The types of the arguments see to it; this is
        // the last door.
        let line = line.replace(['\r', '\n', '\0'], "?");
        self.sending.extend_from_slice(line.as_bytes());
        self.sending.extend_from_slice(b"\r\n");
        self.awaited.push_back(awaited);
    }
}

// Lines and their number are bounded by the parser; this bounds their product, and what is skipped
// of a line too long.
const MAXIMUM_REPLY: usize = 64 * 1024;
