//! A driver for `smtp::server` without sockets: it answers as it is told, and keeps what was
//! accepted.

use bytes::BytesMut;
use smtp::sasl::ScramVerifier;
use smtp::server::{Answer, Output, Question, Server, Settings};
use smtp::{Envelope, Reply};

/// A server machine, and everything that came out of it.
pub struct Machine {
    /// The machine itself.
    pub server: Server,
    /// Octets that were put into it.
    pub fed: usize,
    /// What it sent and nobody has looked at yet.
    pub sent: BytesMut,
    /// Accepted messages.
    pub accepted: Vec<(Envelope, Vec<u8>)>,
    /// Transactions that ended without a message.
    pub resets: usize,
    /// It waits for a TLS handshake.
    pub handshake: bool,
    /// It has closed the connection.
    pub closed: bool,
    content: Vec<u8>,
}

impl Machine {
    /// A session that has not begun: call [`Machine::run`].
    pub fn new(settings: Settings) -> Self {
        Self {
            server: Server::new(settings),
            fed: 0,
            sent: BytesMut::new(),
            accepted: Vec::new(),
            resets: 0,
            handshake: false,
            closed: false,
            content: Vec::new(),
        }
    }

    /// Octets arrive. While TLS is awaited they are noise, and after the end nobody reads them.
    pub fn feed(&mut self, octets: &[u8], decide: &mut dyn FnMut(&Self, &Question) -> Answer) {
        if self.handshake || self.closed {
            return;
        }
        self.fed += octets.len();
        self.server.input().extend_from_slice(octets);
        self.server.handle_input();
        self.run(decide);
    }

    /// Does what the machine says until it says nothing more.
    pub fn run(&mut self, decide: &mut dyn FnMut(&Self, &Question) -> Answer) {
        while let Some(output) = self.server.poll_output() {
            assert!(!self.closed, "nothing comes after the end: {output:?}");
            match output {
                Output::Send(replies) => {
                    self.sent.extend_from_slice(&replies);
                    self.server.reuse(replies);
                }
                Output::Ask(question) => {
                    let answer = decide(self, &question);
                    self.keep(&question, &answer);
                    self.server.handle_answer(answer);
                }
                Output::Content(piece) => self.content.extend_from_slice(&piece),
                Output::Reset => {
                    self.content.clear();
                    self.resets += 1;
                }
                Output::StartTls => self.handshake = true,
                Output::Close => self.closed = true,
            }
        }
    }

    /// TLS is up.
    pub fn finish_handshake(&mut self) {
        assert!(self.handshake, "the server wants a handshake");
        self.handshake = false;
        self.server.handle_tls_established();
    }

    /// The content of the message that is coming in.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// How many octets the machine has used up. Only what stands before is known to it.
    pub fn consumed(&self) -> usize {
        self.fed - self.server.buffered()
    }

    fn keep(&mut self, question: &Question, answer: &Answer) {
        if *question != Question::Content {
            return;
        }
        let content = std::mem::take(&mut self.content);
        let accepts = |reply: &Reply| reply.is_positive();
        let accepted = match answer {
            Answer::Accepted(_) => true,
            Answer::Each(replies) => replies.iter().any(accepts),
            Answer::Proceed
            | Answer::Verifier { .. }
            | Answer::Refuse(_)
            | Answer::Disconnect(_)
            | Answer::Drop => false,
        };
        if let (true, Some(envelope)) = (accepted, self.server.envelope()) {
            self.accepted.push((envelope.clone(), content));
        }
    }
}

/// The answer of a policy that has nothing against anybody.
pub fn pass(question: &Question) -> Answer {
    match question {
        Question::Content => Answer::Accepted(Reply::new(250, "2.0.0 Ok")),
        // Every user is the same, and nobody knows its password.
        Question::Verifier { identity } => Answer::Verifier {
            verifier: Box::new(ScramVerifier::stand_in(b"", identity)),
            nonce: "nonce".to_owned(),
        },
        Question::Connect
        | Question::Helo { .. }
        | Question::Auth(_)
        | Question::Mail { .. }
        | Question::Rcpt(_)
        | Question::Data => Answer::Proceed,
    }
}
