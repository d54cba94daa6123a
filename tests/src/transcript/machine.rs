//! Plays a conversation to the machine, in pieces.

use std::ops::Range;

use smtp::server::{Answer, Question};

use super::{Event, Expected, Kind, Transcript};
use crate::machine::{Machine, pass};

/// How the octets of the client are cut.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// Pieces of this size.
    Every(usize),
    /// Once, behind so many octets of the whole conversation.
    Once(usize),
}

/// A conversation that was held as it is written.
pub struct Played {
    /// Octets that the client sent.
    pub octets: usize,
    /// The first word of each reply's text, with its code, where a status code belongs (RFC 2034
    /// §4).
    pub statuses: Vec<(String, String)>,
}

/// Plays the conversation, or says what went wrong.
pub fn play(transcript: &Transcript, cut: Cut) -> Result<Played, String> {
    let mut player = Player {
        machine: Machine::new(transcript.server_settings()),
        pending: Vec::new(),
        said: 0,
        answers: Vec::new(),
        statuses: Vec::new(),
        greeted: false,
        cut,
    };
    for step in &transcript.steps {
        let told = match &step.kind {
            Kind::Client(octets) => {
                player.pending.extend_from_slice(octets);
                Ok(())
            }
            Kind::Policy(answer) => {
                player.expect_question(answer.clone());
                Ok(())
            }
            Kind::Server(expected) => player.hear(expected),
            Kind::Event(event) => player.happen(event),
        };
        told.map_err(|fault| format!("{}:{}, {cut:?}: {fault}", transcript.name, step.line))?;
    }
    player
        .silence()
        .map_err(|fault| format!("{}: at the end, {cut:?}: {fault}", transcript.name))?;
    match player.answers.first() {
        Some((_, answer)) => {
            Err(format!("{}, {cut:?}: nobody asked for {answer:?}", transcript.name))
        }
        None => Ok(Played { octets: player.said, statuses: player.statuses }),
    }
}

struct Player {
    machine: Machine,
    /// What the client says and has not sent yet.
    pending: Vec<u8>,
    /// Octets that the client sent before.
    said: usize,
    /// The answers of policy, each to the question that the octets of this range raise.
    answers: Vec<(Range<usize>, Answer)>,
    statuses: Vec<(String, String)>,
    greeted: bool,
    cut: Cut,
}

impl Player {
    /// The answer belongs to the last line of the client, or to the connection if it has said
    /// nothing.
    fn expect_question(&mut self, answer: Answer) {
        let end = self.said + self.pending.len();
        let start = self.pending.len().checked_sub(2).map_or(0, |last| {
            let line = self.pending[..last].windows(2).rposition(|octets| octets == b"\r\n");
            self.said + line.map_or(0, |line| line + 2)
        });
        self.answers.push((start + usize::from(end > 0)..end + 1, answer));
    }

    /// Sends what is pending, cut as it is to be.
    fn send(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let start = self.said;
        self.said += pending.len();
        let cuts: Vec<usize> = match self.cut {
            Cut::Every(size) => (1..=pending.len() / size).map(|piece| piece * size).collect(),
            Cut::Once(at) => {
                at.checked_sub(start).into_iter().filter(|at| *at < pending.len()).collect()
            }
        };
        let mut rest = pending.as_slice();
        let mut done = 0;
        for cut in cuts {
            let (piece, after) = rest.split_at(cut - done);
            (rest, done) = (after, cut);
            self.feed(piece);
        }
        self.feed(rest);
    }

    fn feed(&mut self, piece: &[u8]) {
        let answers = &mut self.answers;
        self.machine
            .feed(piece, &mut |machine, question| decide(answers, machine.consumed(), question));
    }

    fn run(&mut self) {
        let answers = &mut self.answers;
        self.machine.run(&mut |machine, question| decide(answers, machine.consumed(), question));
    }

    /// The next reply, which must be there by now and be the expected one.
    fn hear(&mut self, expected: &Expected) -> Result<(), String> {
        self.run();
        self.send();
        let (code, lines) =
            self.reply().ok_or_else(|| format!("expected {expected:?}, got nothing"))?;
        let is_greeting =
            !std::mem::replace(&mut self.greeted, true) || lines[0].starts_with("mx.example.org");
        if !is_greeting && !code.starts_with('3') {
            let word = lines[0].split(' ').next().unwrap_or_default();
            self.statuses.push((code.clone(), word.to_owned()));
        }
        expected.compare(&code, &lines).map_or(Ok(()), Err)
    }

    /// One whole reply from what was sent.
    fn reply(&mut self) -> Option<(String, Vec<String>)> {
        let mut lines = Vec::new();
        loop {
            let end = self.machine.sent.windows(2).position(|octets| octets == b"\r\n")?;
            let line = self.machine.sent.split_to(end + 2);
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            let (code, rest) = line.split_at_checked(3).expect("a reply has a code");
            lines.push(rest.get(1..).unwrap_or_default().to_owned());
            if !rest.starts_with('-') {
                return Some((code.to_owned(), lines));
            }
        }
    }

    fn silence(&mut self) -> Result<(), String> {
        self.run();
        self.send();
        let sent = std::mem::take(&mut self.machine.sent);
        if sent.is_empty() {
            Ok(())
        } else {
            Err(format!("expected silence, got {:?}", String::from_utf8_lossy(&sent)))
        }
    }

    fn happen(&mut self, event: &Event) -> Result<(), String> {
        self.silence()?;
        match event {
            Event::Handshake => self.machine.finish_handshake(),
            Event::Eof => self.machine.server.handle_eof(),
            Event::Timeout => self.machine.server.handle_timeout(),
            Event::Shutdown => self.machine.server.handle_shutdown(),
            Event::Closed => return expect("closed", true, self.machine.closed),
            Event::Accepted(number) => {
                return expect("accepted", *number, self.machine.accepted.len());
            }
            Event::Resets(number) => return expect("resets", *number, self.machine.resets),
            Event::Content(content) => {
                let last = self.machine.accepted.last().map(|(_, content)| content.as_slice());
                return expect("content", Some(content.as_slice()), last);
            }
        }
        Ok(())
    }
}

fn decide(
    answers: &mut Vec<(Range<usize>, Answer)>,
    consumed: usize,
    question: &Question,
) -> Answer {
    match answers.iter().position(|(range, _)| range.contains(&consumed)) {
        Some(index) => answers.remove(index).1,
        None => pass(question),
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, found: T) -> Result<(), String> {
    if expected == found {
        Ok(())
    } else {
        Err(format!("{what}: expected {expected:?}, got {found:?}"))
    }
}
