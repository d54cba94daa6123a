//! The simplest driver that a mail server can have.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use smtp::server::{Answer, Credentials, Proof, Question, Settings};
use smtp::{LocalDelivery, LocalDomain, LocalDomains, Reply, Resolution};
use tests::machine::{Machine, pass};

/// What stands for the names in the cases.
pub(crate) const PLACEHOLDERS: [(&str, &str); 12] = [
    ("{FROM}", "alice@client.example"),
    ("{RCPT}", "bob@local.example"),
    ("{RCPT2}", "carol@local.example"),
    ("{BADRCPT}", "nobody@local.example"),
    ("{REMOTE}", "user@remote.example"),
    ("{LOCALDOMAIN}", "local.example"),
    ("{ID}", "4711"),
    ("{AUTHFROM}", "bob@local.example"),
    ("{AUTHPLAIN}", "AGJvYgBzZWNyZXQ="), // \0bob\0secret
    ("{BADPLAIN}", "AGJvYgB3cm9uZw=="),  // \0bob\0wrong
    ("{AUTHUSER64}", "Ym9i"),
    ("{AUTHPASS64}", "c2VjcmV0"),
];

/// A reply that came.
pub(crate) struct Heard {
    pub(crate) code: String,
    /// Without code and separator.
    pub(crate) lines: Vec<String>,
    /// The greeting, or the reply to EHLO or HELO.
    pub(crate) is_greeting: bool,
}

impl Heard {
    /// RFC 2034 §4: where a status code belongs.
    pub(crate) fn wants_status(&self) -> bool {
        !self.is_greeting && !self.code.starts_with('3')
    }

    /// The code and the first word.
    pub(crate) fn status(&self) -> String {
        format!("{} {}", self.code, self.lines[0].split(' ').next().unwrap_or_default())
    }

    /// `25[01]|5..`
    pub(crate) fn is(&self, pattern: &str) -> bool {
        pattern.split('|').any(|pattern| {
            let mut rest = pattern.chars();
            let fits = self.code.chars().all(|digit| match rest.next() {
                Some('.') => true,
                Some('[') => {
                    let class: Vec<char> =
                        rest.by_ref().take_while(|&letter| letter != ']').collect();
                    match class.as_slice() {
                        [from, '-', to] => (*from..=*to).contains(&digit),
                        _ => class.contains(&digit),
                    }
                }
                Some(letter) => letter == digit,
                None => false,
            });
            fits && rest.next().is_none()
        })
    }
}

pub(crate) struct Driver {
    pub(crate) machine: Machine,
    pub(crate) heard: Vec<Heard>,
    read: usize,
    house: LocalDomains,
}

impl Driver {
    pub(crate) fn new(settings: Settings) -> Self {
        let house = LocalDomains::new(vec![LocalDomain {
            name: "local.example".parse().expect("a domain"),
            users: ["bob", "carol"].map(str::to_owned).into(),
            catch_all: None,
            aliases: [].into(),
            lists: std::collections::BTreeMap::new(),
            quota: smtp::Quota::default(),
            delivery: LocalDelivery::Maildir { template: "{user}".to_owned() },
            subaddress: Some('+'),
        }]);
        let mut driver =
            Self { machine: Machine::new(settings), heard: Vec::new(), read: 0, house };
        driver.machine.run(&mut |machine, question| decide(&driver.house, machine, question));
        driver
    }

    pub(crate) fn say(&mut self, octets: &[u8]) {
        let house = &self.house;
        if self.machine.handshake {
            // This is no TLS.
            self.machine.handshake = false;
            self.machine.server.handle_eof();
        }
        // What a network would do to it.
        for piece in octets.chunks(1000) {
            self.machine.feed(piece, &mut |machine, question| decide(house, machine, question));
        }
    }

    /// Takes what was sent as replies, and says how many.
    pub(crate) fn listen(&mut self) -> usize {
        let mut count = 0;
        let mut lines = Vec::new();
        while let Some(end) = self.machine.sent.windows(2).position(|octets| octets == b"\r\n") {
            let line = self.machine.sent.split_to(end + 2);
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes()[3] != b'-' {
                let is_greeting = lines[0].starts_with("mx.local.example");
                self.heard.push(Heard {
                    code: line[..3].to_owned(),
                    lines: std::mem::take(&mut lines),
                    is_greeting,
                });
                count += 1;
            }
        }
        count
    }

    /// Plays the steps of a case; says what went wrong.
    pub(crate) fn play(&mut self, case: &Value) -> Result<(), String> {
        for step in case["steps"].as_array().expect("steps") {
            self.step(step).map_err(|fault| format!("{step}: {fault}"))?;
        }
        self.listen();
        Ok(())
    }

    fn step(&mut self, step: &Value) -> Result<(), String> {
        let text = || filled(&text_of(&step[1]));
        match text_of(&step[0]).as_str() {
            "s" => self.say(text().as_bytes()),
            "b64" => self.say(&STANDARD.decode(text_of(&step[1])).expect("base64")),
            "rep" => self
                .say(text().repeat(step[2].as_u64().map_or(0, |count| count as usize)).as_bytes()),
            "bdat" => {
                let chunk = text();
                let last = if step[2] == true { " LAST" } else { "" };
                self.say(format!("BDAT {}{last}\r\n{chunk}", chunk.len()).as_bytes());
            }
            "r" => return self.expect_reply(&text_of(&step[1]), step[2].as_str()),
            "tls" => self.machine.finish_handshake(),
            "tls?" if self.machine.handshake => self.machine.finish_handshake(),
            "tls?" => {}
            "tlsup" => return self.expect_reply("220", None),
            "silent" if self.machine.sent.is_empty() => {}
            "silent" => return Err("it speaks".to_owned()),
            "eof" if self.machine.closed => {}
            "eof" => return Err("it is still there".to_owned()),
            "close" => {
                self.machine.server.handle_eof();
                let house = &self.house;
                self.machine.run(&mut |machine, question| decide(house, machine, question));
            }
            other => panic!("unknown step {other}"),
        }
        Ok(())
    }

    fn expect_reply(&mut self, code: &str, text: Option<&str>) -> Result<(), String> {
        self.listen();
        let heard = self.heard.get(self.read).ok_or("nothing was heard")?;
        self.read += 1;
        let absent = text.and_then(|text| text.strip_prefix('!'));
        let has = |word: &str| heard.lines.iter().any(|line| line.contains(word));
        if heard.is(code) && !absent.is_some_and(has) {
            return Ok(());
        }
        Err(format!("heard {} {:?}", heard.code, heard.lines))
    }
}

fn decide(house: &LocalDomains, machine: &Machine, question: &Question) -> Answer {
    let refuse = |code: u16, text: &str| Answer::Refuse(Reply::new(code, text));
    match question {
        Question::Rcpt(recipient) => match house.resolve(&recipient.path) {
            Resolution::Local { .. } | Resolution::Expanded(_) => Answer::Proceed,
            Resolution::Unknown => refuse(550, "5.1.1 No such user here"),
            Resolution::Remote(_) if machine.server.settings().auth_required => Answer::Proceed,
            Resolution::Remote(_) => refuse(550, "5.7.1 Relaying denied"),
        },
        Question::Auth(Credentials { authorization, identity, proof, .. }) => {
            let is_known = identity == "bob" && *proof == Proof::Password("secret".to_owned());
            let is_own = authorization.is_empty() || authorization == identity;
            if is_known && is_own {
                Answer::Proceed
            } else {
                refuse(535, "5.7.8 Authentication credentials invalid")
            }
        }
        // RFC 5321 §6.3
        Question::Content
            if machine.content().windows(9).filter(|octets| octets == b"Received:").count()
                > 100 =>
        {
            refuse(554, "5.4.6 Routing loop detected")
        }
        Question::Connect
        | Question::Helo { .. }
        | Question::Verifier { .. }
        | Question::Mail { .. }
        | Question::Data
        | Question::Content => pass(question),
    }
}

fn filled(text: &str) -> String {
    let other = STANDARD.encode("carol\0bob\0secret");
    let text = text.replace("{AUTHPLAIN_AUTHZ_OTHER}", &other);
    PLACEHOLDERS.iter().fold(text, |text, (name, value)| text.replace(name, value))
}

pub(crate) fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
