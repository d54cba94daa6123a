//! Plays a conversation to a server over TCP, ours or another's.

use std::net::ToSocketAddrs;
use std::time::Duration;

use super::{Event, Expected, Kind, Setting, Transcript};
use crate::client::{Client, Reply};

/// What a conversation calls by example names, and the server by others.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Texts of the file and what stands for them, in order: `("bob@example.org",
    /// "alice@example.test")`. The server's own name is best replaced by `*`.
    pub names: Vec<(String, String)>,
    /// Compare codes alone: another server says the same in other words.
    pub codes_only: bool,
}

/// What became of all conversations.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Files of those that were held.
    pub held: Vec<String>,
    /// Files of those that do not suit the server.
    pub skipped: Vec<String>,
    /// What went wrong, with file and line.
    pub faults: Vec<String>,
}

/// Plays every conversation of the project that suits a server set up in these ways, one after the
/// other, each on a connection of its own.
///
/// To the daemon: `play_all("127.0.0.1:2525", &[Setting::StartTls], &subject)`.
pub fn play_all(address: &str, server: &[Setting], subject: &Subject) -> Outcome {
    let mut outcome = Outcome::default();
    for transcript in super::all() {
        if !transcript.suits(server) {
            outcome.skipped.push(transcript.name);
            continue;
        }
        match play(&transcript, address, subject) {
            Ok(()) => outcome.held.push(transcript.name),
            Err(fault) => outcome.faults.push(fault),
        }
    }
    outcome
}

/// Plays the conversation; says what went wrong.
///
/// Only a conversation that [`Transcript::suits`] the server can be played. What is seen at the
/// machine alone (accepted messages, content) is passed over.
pub fn play(
    transcript: &Transcript,
    address: impl ToSocketAddrs,
    subject: &Subject,
) -> Result<(), String> {
    let client =
        Client::connect(address).map_err(|error| format!("{}: {error}", transcript.name))?;
    let mut player = Player { client, pending: Vec::new(), subject };
    for step in &transcript.steps {
        let told = match &step.kind {
            Kind::Client(octets) => {
                player.pending.extend(subject.translate(octets));
                Ok(())
            }
            Kind::Server(expected) => player.hear(expected),
            Kind::Event(event) => player.happen(event),
            Kind::Policy(_) => Err("policy is not ours to write".to_owned()),
        };
        told.map_err(|fault| format!("{}:{}: {fault}", transcript.name, step.line))?;
    }
    Ok(())
}

impl Subject {
    fn translate(&self, octets: &[u8]) -> Vec<u8> {
        match str::from_utf8(octets) {
            Ok(text) => self.translate_text(text).into_bytes(),
            Err(_) => octets.to_vec(),
        }
    }

    fn translate_text(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    fn translate_expected(&self, expected: &Expected) -> Expected {
        if self.codes_only {
            return Expected {
                code: expected.code.clone(),
                first: "*".to_owned(),
                ..Expected::default()
            };
        }
        Expected {
            code: expected.code.clone(),
            first: self.translate_text(&expected.first),
            with: expected.with.iter().map(|line| self.translate_text(line)).collect(),
            without: expected.without.iter().map(|line| self.translate_text(line)).collect(),
        }
    }
}

struct Player<'a> {
    client: Client,
    pending: Vec<u8>,
    subject: &'a Subject,
}

impl Player<'_> {
    fn send(&mut self) -> Result<(), String> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            Ok(())
        } else {
            self.client.send(&pending).map_err(|error| error.to_string())
        }
    }

    fn hear(&mut self, expected: &Expected) -> Result<(), String> {
        self.send()?;
        let expected = self.subject.translate_expected(expected);
        let Reply { code, lines } =
            self.client.reply().map_err(|error| format!("{expected:?}: {error}"))?;
        let texts: Vec<String> =
            lines.iter().map(|line| line.get(4..).unwrap_or_default().to_owned()).collect();
        expected.compare(&code.to_string(), &texts).map_or(Ok(()), Err)
    }

    fn happen(&mut self, event: &Event) -> Result<(), String> {
        self.send()?;
        match event {
            Event::Handshake => self.client.start_tls().map_err(|error| error.to_string()),
            Event::Eof => self.client.finish().map_err(|error| error.to_string()),
            Event::Closed if self.client.closed_within(Duration::from_secs(10)) => Ok(()),
            Event::Closed => Err("the connection is still open".to_owned()),
            Event::Timeout | Event::Shutdown => Err("only the machine can do it".to_owned()),
            Event::Accepted(_) | Event::Content(_) | Event::Resets(_) => Ok(()),
        }
    }
}
