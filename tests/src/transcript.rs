//! Conversations in three voices, as they stand in `tests/transcripts/`: read here, played to the
//! machine by [`machine`], to any server over TCP by [`wire`].
//!
//! | line | means |
//! |---|---|
//! | `# text` | prose; the first line names the section that the conversation is about |
//! | `C: line` | the client sends it with CRLF; `\r \n \0 \xHH \\` are octets, `\{N*text}` is repeated, `\c` at the end leaves CRLF out |
//! | `P: answer` | how policy answers to what the client just said: a reply, `pass`, `drop`, `disconnect REPLY`, `each REPLY \| REPLY`; where it is missing policy passes |
//! | `S: 250 text` | the server replies with this code, and this text in the first line; `*` is any text |
//! | `S: 250-text` | one of the lines of the reply that is closed by the next `S:` with a space |
//! | `S: 250!text` | none of its lines is so |
//! | `@ …` | how the server is set up, or what happens besides: see [`Setting`] and [`Event`] |

pub mod machine;
pub mod wire;

use std::path::{Path, PathBuf};

use smtp::Reply;
use smtp::server::{Answer, Protocol, Settings};

/// One conversation.
pub struct Transcript {
    /// Its file, seen from `tests/transcripts`.
    pub name: String,
    /// The server it is held with, unless an ordinary one will do.
    pub settings: Vec<Setting>,
    /// What is said, in order.
    pub steps: Vec<Step>,
}

/// One line of a conversation, and its number.
pub struct Step {
    /// Where it stands in the file.
    pub line: usize,
    /// What it is.
    pub kind: Kind,
}

/// Whose line it is.
pub enum Kind {
    /// The client sends these octets.
    Client(Vec<u8>),
    /// Policy answers to what the client just said.
    Policy(Answer),
    /// The server replies.
    Server(Expected),
    /// Something else happens or is seen.
    Event(Event),
}

/// How a server differs from an ordinary MX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `@ lmtp`
    Lmtp,
    /// `@ starttls`: it is offered.
    StartTls,
    /// `@ tls required`
    TlsRequired,
    /// `@ auth PLAIN LOGIN`: offered, once TLS is up.
    Auth(Vec<String>),
    /// `@ auth in clear`
    AuthInClear,
    /// `@ auth required`
    AuthRequired,
    /// `@ limit NAME NUMBER`
    Limit(String, u64),
}

/// What happens besides talk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `@ handshake`: TLS comes up.
    Handshake,
    /// `@ eof`: the client closes.
    Eof,
    /// `@ timeout`: nothing came for too long.
    Timeout,
    /// `@ shutdown`: the house closes.
    Shutdown,
    /// `@ closed`: the server has closed the connection.
    Closed,
    /// `@ accepted NUMBER`: so many messages were accepted up to here.
    Accepted(usize),
    /// `@ content TEXT`: the last accepted message is this.
    Content(Vec<u8>),
    /// `@ reset NUMBER`: so many transactions ended without a message up to here.
    Resets(usize),
}

/// A reply to come.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Its code.
    pub code: String,
    /// The text of its first line, with enhanced status code.
    pub first: String,
    /// Lines that are in it.
    pub with: Vec<String>,
    /// Lines that are not.
    pub without: Vec<String>,
}

impl Transcript {
    /// Reads a file of the folder.
    pub fn read(folder: &Path, file: &Path) -> Self {
        let text = std::fs::read_to_string(file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let name = file.strip_prefix(folder).unwrap_or(file).display().to_string();
        Self::parse(&name, &text)
    }

    /// Reads the text of a conversation. What it does not understand is a fault of the file, and
    /// panics.
    pub fn parse(name: &str, text: &str) -> Self {
        let mut transcript =
            Self { name: name.to_owned(), settings: Vec::new(), steps: Vec::new() };
        let mut expected = Expected::default();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let fault = |what: &str| -> ! { panic!("{name}:{number}: {what}: {line}") };
            let (voice, words) = line.split_at_checked(2).unwrap_or((line, ""));
            let words = words.strip_prefix(' ').unwrap_or(words);
            let kind = match voice {
                "" | "# " | "#" => continue,
                "C:" => Kind::Client(client_octets(words)),
                "P:" => Kind::Policy(answer(words).unwrap_or_else(|| fault("no answer"))),
                "S:" => match server_line(words, &mut expected) {
                    Some(true) => Kind::Server(std::mem::take(&mut expected)),
                    Some(false) => continue,
                    None => fault("no reply"),
                },
                "@ " => match (event(words), setting(words)) {
                    (Some(event), _) => Kind::Event(event),
                    (None, Some(setting)) => {
                        transcript.settings.push(setting);
                        continue;
                    }
                    (None, None) => fault("unknown directive"),
                },
                _ => fault("no voice"),
            };
            transcript.steps.push(Step { line: number, kind });
        }
        transcript
    }

    /// Whether a server over TCP can hold it: one that is set up in these ways, and whose policy is
    /// not ours to write.
    pub fn suits(&self, server: &[Setting]) -> bool {
        let ours_alone = |step: &Step| match &step.kind {
            Kind::Policy(_) | Kind::Event(Event::Timeout | Event::Shutdown) => true,
            Kind::Event(_) | Kind::Client(_) | Kind::Server(_) => false,
        };
        self.settings.iter().all(|setting| server.contains(setting))
            && !self.steps.iter().any(ours_alone)
    }

    /// The settings of the machine for this conversation.
    pub fn server_settings(&self) -> Settings {
        let mut settings = Settings::new("mx.example.org");
        for setting in &self.settings {
            match setting {
                Setting::Lmtp => settings.protocol = Protocol::Lmtp,
                Setting::StartTls => settings.tls_offered = true,
                Setting::TlsRequired => settings.tls_required = true,
                Setting::Auth(names) => {
                    settings.mechanisms =
                        names.iter().map(|name| name.parse().expect("a mechanism")).collect();
                }
                Setting::AuthInClear => settings.auth_without_tls = true,
                Setting::AuthRequired => settings.auth_required = true,
                Setting::Limit(name, number) => limit(&mut settings.limits, name, *number),
            }
        }
        settings
    }
}

/// All conversations of the project, in order of their names.
pub fn all() -> Vec<Transcript> {
    let folder = crate::place::root().join("tests/transcripts");
    let mut files = Vec::new();
    collect(&folder, &mut files);
    files.sort();
    files.iter().map(|file| Transcript::read(&folder, file)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a folder can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "smtp") {
            files.push(path);
        }
    }
}

impl Expected {
    /// What is wrong with this reply, if anything. The lines are without the code and the
    /// separator.
    pub fn compare(&self, code: &str, lines: &[String]) -> Option<String> {
        let is = |pattern: &str, line: &String| matches(pattern, line);
        let first = lines.first().map(String::as_str).unwrap_or_default();
        let found = code == self.code
            && matches(&self.first, first)
            && self.with.iter().all(|pattern| lines.iter().any(|line| is(pattern, line)))
            && !self.without.iter().any(|pattern| lines.iter().any(|line| is(pattern, line)));
        (!found).then(|| format!("expected {self:?}, got {code} {lines:?}"))
    }
}

/// `*` is any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len())
                .any(|skip| rest.is_char_boundary(skip) && matches(after, &rest[skip..]))
        }),
    }
}

fn client_octets(words: &str) -> Vec<u8> {
    match words.strip_suffix("\\c") {
        Some(words) => unescape(words),
        None => [&unescape(words), b"\r\n".as_slice()].concat(),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        octets.extend_from_slice(plain.as_bytes());
        let (name, after) =
            escape.split_at_checked(1).expect("something stands behind a backslash");
        rest = after;
        match name {
            "r" => octets.push(b'\r'),
            "n" => octets.push(b'\n'),
            "0" => octets.push(0),
            "\\" => octets.push(b'\\'),
            "x" => {
                octets.push(u8::from_str_radix(&after[..2], 16).expect("two digits behind \\x"));
                rest = &after[2..];
            }
            "{" => {
                let (inner, after) = after.split_once('}').expect("} behind \\{");
                let (count, repeated) = inner.split_once('*').expect("\\{N*text}");
                octets
                    .extend(unescape(repeated).repeat(count.parse().expect("a number behind \\{")));
                rest = after;
            }
            other => panic!("unknown escape \\{other}"),
        }
    }
    octets.extend_from_slice(rest.as_bytes());
    octets
}

fn answer(words: &str) -> Option<Answer> {
    let reply = |text: &str| text.trim().parse::<Reply>().ok();
    match words.split_once(' ').unwrap_or((words, "")) {
        ("pass", "") => Some(Answer::Proceed),
        ("drop", "") => Some(Answer::Drop),
        ("disconnect", text) => reply(text).map(Answer::Disconnect),
        ("each", texts) => texts.split('|').map(reply).collect::<Option<_>>().map(Answer::Each),
        _ => reply(words).map(|reply| {
            if reply.is_positive() { Answer::Accepted(reply) } else { Answer::Refuse(reply) }
        }),
    }
}

/// Whether the line closes the reply.
fn server_line(words: &str, expected: &mut Expected) -> Option<bool> {
    let (code, rest) = words.split_at_checked(3)?;
    let (separator, text) = rest.split_at_checked(1).unwrap_or((" ", ""));
    match separator {
        "-" => expected.with.push(text.to_owned()),
        "!" => expected.without.push(text.to_owned()),
        " " => (expected.code, expected.first) = (code.to_owned(), text.to_owned()),
        _ => return None,
    }
    Some(separator == " ")
}

fn setting(words: &str) -> Option<Setting> {
    let all: Vec<&str> = words.split(' ').collect();
    match *all.as_slice() {
        ["lmtp"] => Some(Setting::Lmtp),
        ["starttls"] => Some(Setting::StartTls),
        ["tls", "required"] => Some(Setting::TlsRequired),
        ["auth", "in", "clear"] => Some(Setting::AuthInClear),
        ["auth", "required"] => Some(Setting::AuthRequired),
        ["auth", ..] => Some(Setting::Auth(all[1..].iter().map(|&name| name.to_owned()).collect())),
        ["limit", name, number] => Some(Setting::Limit(name.to_owned(), number.parse().ok()?)),
        _ => None,
    }
}

fn event(words: &str) -> Option<Event> {
    match words.split_once(' ').unwrap_or((words, "")) {
        ("handshake", "") => Some(Event::Handshake),
        ("eof", "") => Some(Event::Eof),
        ("timeout", "") => Some(Event::Timeout),
        ("shutdown", "") => Some(Event::Shutdown),
        ("closed", "") => Some(Event::Closed),
        ("accepted", number) => number.parse().ok().map(Event::Accepted),
        ("resets", number) => number.parse().ok().map(Event::Resets),
        ("content", text) => Some(Event::Content(unescape(text))),
        _ => None,
    }
}

fn limit(limits: &mut smtp::server::Limits, name: &str, number: u64) {
    let size = usize::try_from(number).expect("a limit fits");
    match name {
        "command-line" => limits.command_line = size,
        "commands" => limits.commands = number,
        "junk-commands" => limits.junk_commands = number,
        "errors" => limits.errors = number,
        "refused-recipients" => limits.refused_recipients = number,
        "failed-logins" => limits.failed_logins = number,
        "transactions" => limits.transactions = number,
        "recipients" => limits.recipients = size,
        "message-octets" => limits.message_octets = number,
        _ => panic!("no limit is called {name}"),
    }
}
