//! The client of a scenario: one command at a time, with what was decided between it and its reply.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use inbound::{Ended, Event};
use policy::{Stage, TraceEntry};
use smtp::content::DataEncoder;
use smtp::{Reply, ReplyParser};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{End, Visit};

/// One thing that the client did, and what came of it.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) kind: Kind,
    /// The command without its line end; for content a summary of it.
    pub(crate) said: String,
    /// What plugins and rules answered, in order.
    pub(crate) decided: Vec<TraceEntry>,
    /// The replies; over LMTP content has several. None if the connection was closed.
    pub(crate) replies: Vec<Reply>,
}

/// What the client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Connect,
    Helo,
    Auth,
    Mail,
    Rcpt,
    Data,
    Content,
    Reset,
    Quit,
    /// The connection ended.
    Disconnect,
}

/// A session under way.
pub(crate) struct Conversation {
    visit: inbound::Visit,
    received: BytesMut,
    /// The server closed the connection.
    pub(crate) is_over: bool,
    in_transaction: bool,
}

/// All of one step.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    pub(crate) exchanges: Vec<Exchange>,
    /// The transaction of the step, if MAIL began one.
    pub(crate) ended: Option<Ended>,
    /// Who logged in by AUTH.
    pub(crate) login: Option<String>,
    /// Under which name the queue holds the message.
    pub(crate) hold: Option<String>,
    /// The server closed the connection and the client had not said QUIT.
    pub(crate) was_closed: bool,
}

impl Conversation {
    pub(crate) fn new(visit: inbound::Visit) -> Self {
        Self { visit, received: BytesMut::new(), is_over: false, in_transaction: false }
    }

    /// The greeting; none if the server closed the connection.
    pub(crate) async fn greet(&mut self, talk: &mut Talk) -> bool {
        let connect = self.receive(Kind::Connect, String::new(), 1, talk).await;
        connect.is_some_and(|reply| reply.is_positive())
    }

    /// HELO and AUTH.
    pub(crate) async fn introduce(
        &mut self,
        visit: &Visit,
        stop: Option<Stage>,
        talk: &mut Talk,
    ) -> bool {
        let lmtp = visit.listener == "lmtp";
        let word = if lmtp {
            "LHLO"
        } else if visit.extended {
            "EHLO"
        } else {
            "HELO"
        };
        if !self.say(Kind::Helo, &format!("{word} {}", visit.helo), talk).await {
            return false;
        }
        let Some(login) = visit.auth.as_ref().filter(|_| stop != Some(Stage::Helo)) else {
            return true;
        };
        let secret = |text: &str| STANDARD.encode(text);
        if login.mechanism == "LOGIN" {
            let lines = ["AUTH LOGIN".to_owned(), secret(&login.identity), secret(&login.password)];
            for line in &lines {
                if !self.say(Kind::Auth, line, talk).await {
                    return false;
                }
            }
            return true;
        }
        let plain = secret(&format!("\0{}\0{}", login.identity, login.password));
        self.say(Kind::Auth, &format!("AUTH PLAIN {plain}"), talk).await
    }

    /// MAIL, RCPT and the content; as far as the scenario goes, and the server lets it.
    pub(crate) async fn hand_over(&mut self, visit: &Visit, stop: Option<Stage>, talk: &mut Talk) {
        let content = visit.content();
        let mail = format!("MAIL FROM:<{}>{}", visit.from, parameters(visit, &content));
        if !self.say(Kind::Mail, &mail, talk).await || stop == Some(Stage::Mail) {
            return;
        }
        self.in_transaction = true;
        let mut accepted = 0;
        for to in &visit.to {
            let space = if to.parameters.is_empty() { "" } else { " " };
            let rcpt = format!("RCPT TO:<{}>{space}{}", to.address, to.parameters);
            accepted += usize::from(self.say(Kind::Rcpt, &rcpt, talk).await);
            if self.is_over {
                return;
            }
        }
        if accepted == 0 || stop == Some(Stage::Rcpt) || !self.say(Kind::Data, "DATA", talk).await {
            return;
        }
        let mut octets = Vec::with_capacity(content.len() + 1024);
        let mut encoder = DataEncoder::default();
        encoder.encode(&content, &mut octets);
        encoder.finish(&mut octets);
        // A server that closed the connection says no more, and that is seen next.
        let _ = self.visit.stream.write_all(&octets).await;
        let replies = if visit.listener == "lmtp" { accepted } else { 1 };
        self.receive(
            Kind::Content,
            format!("({} octets of content)", content.len()),
            replies,
            talk,
        )
        .await;
        self.in_transaction = false;
    }

    /// Ends the transaction, if one is open, and keeps the session.
    pub(crate) async fn reset(&mut self, talk: &mut Talk) {
        if self.in_transaction && !self.is_over {
            self.say(Kind::Reset, "RSET", talk).await;
            self.in_transaction = false;
        }
    }

    /// Ends the session.
    pub(crate) async fn leave(mut self, end: End, talk: &mut Talk) {
        talk.was_closed |= self.is_over;
        if end == End::Quit && !self.is_over {
            self.say(Kind::Quit, "QUIT", talk).await;
        }
        let inbound::Visit { stream, mut events, session } = self.visit;
        drop(stream);
        // A panic in it was told already, by its last reply.
        let _ = session.await;
        let mut decided = Vec::new();
        while let Ok(event) = events.try_recv() {
            take(event, &mut decided, talk);
        }
        let how = if end == End::Quit { "" } else { "(the connection is lost)" };
        talk.exchanges.push(Exchange {
            kind: Kind::Disconnect,
            said: how.to_owned(),
            decided,
            replies: Vec::new(),
        });
    }

    async fn say(&mut self, kind: Kind, line: &str, talk: &mut Talk) -> bool {
        let _ = self.visit.stream.write_all(format!("{line}\r\n").as_bytes()).await;
        let reply = self.receive(kind, line.to_owned(), 1, talk).await;
        reply.is_some_and(|reply| reply.is_positive())
    }

    /// Reads so many replies, and notes what was decided before them. Answers with the last one.
    async fn receive(
        &mut self,
        kind: Kind,
        said: String,
        many: usize,
        talk: &mut Talk,
    ) -> Option<Reply> {
        let mut replies = Vec::new();
        while replies.len() < many {
            match self.reply().await {
                Some(reply) => replies.push(reply),
                None => break,
            }
        }
        let closes = replies.last().is_none_or(|reply| reply.code() == 421);
        if closes || (kind == Kind::Connect && !replies.iter().any(Reply::is_positive)) {
            self.is_over = true;
        }
        let mut decided = Vec::new();
        while let Ok(event) = self.visit.events.try_recv() {
            take(event, &mut decided, talk);
        }
        if decided.last().is_some_and(|entry| entry.verdict == "disconnect") {
            self.is_over = true;
        }
        let last = replies.last().cloned();
        talk.exchanges.push(Exchange { kind, said, decided, replies });
        last
    }

    async fn reply(&mut self) -> Option<Reply> {
        let mut parser = ReplyParser::default();
        loop {
            match parser.feed(&mut self.received) {
                Ok(Some(reply)) => return Some(reply),
                Ok(None) => {}
                Err(_) => return None,
            }
            match self.visit.stream.read_buf(&mut self.received).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

fn take(event: Event, decided: &mut Vec<TraceEntry>, talk: &mut Talk) {
    match event {
        Event::Decided(entry) => decided.push(entry),
        Event::LoggedIn(identity) => talk.login = Some(identity),
        Event::Ended(ended) => talk.ended = Some(*ended),
    }
}

/// What the scenario says, or else what the content demands.
fn parameters(visit: &Visit, content: &[u8]) -> String {
    if let Some(parameters) = &visit.mail_parameters {
        return if parameters.is_empty() { String::new() } else { format!(" {parameters}") };
    }
    if !visit.extended {
        return String::new();
    }
    let mut parameters = String::new();
    if !content.is_ascii() {
        parameters.push_str(" BODY=8BITMIME");
    }
    if !visit.from.is_ascii() || visit.to.iter().any(|to| !to.address.is_ascii()) {
        parameters.push_str(" SMTPUTF8");
    }
    parameters
}
