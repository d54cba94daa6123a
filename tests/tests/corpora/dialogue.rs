//! `smtp-dialogues`, and `enhanced-status-codes` for every reply that is seen on the way. How a case is
//! written stands in the README of the suite.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tests::corpora::{json, report, suite};
use tests::maildir::{contains, id, with_crlf};
use tests::{Client, Gatepost, Reply, Setup, eventually};

/// How long a reply may take. The suite says 5 s; a busy machine gets more.
const PATIENCE: Duration = Duration::from_secs(30);

const USER: &str = "auth@local.example";
const PASSWORD: &str = "pass";

/// Cases that we answer otherwise than the suite wants: id and the reason, with its section.
const DEVIATIONS: [(&str, &str); 0] = [];

#[test]
fn all_dialogues_are_held() {
    let Some(folder) = suite("smtp-dialogues") else { return };
    let cases = json(&folder, "cases.json");
    let cases: Vec<&Value> = cases.as_array().unwrap().iter().collect();
    let server = server(cases.len());
    let advertised: BTreeMap<&str, BTreeSet<String>> = ["mx", "submission", "submissions", "lmtp"]
        .map(|role| (role, advertised(&server, role)))
        .into();

    let (next, failures, seen) =
        (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let number =
                        cases.iter().position(|other| std::ptr::eq(*other, *case)).unwrap();
                    let missing = missing(case, &advertised);
                    let mut replies = Vec::new();
                    let result = match missing {
                        Some(word) => Err(format!("{word} is not offered")),
                        None => play(&server, case, number, &mut replies),
                    };
                    if let Err(why) = result {
                        failures.lock().unwrap().push((name(case), why));
                    }
                    seen.lock().unwrap().insert(name(case), replies);
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.extend(check_stored(&server, &cases));
    failures.extend(check_codes(&seen.into_inner().unwrap()));
    for (id, reason) in DEVIATIONS {
        assert!(failures.iter().any(|(failed, _)| failed == id), "{id} passes: no deviation");
        report(&format!("smtp-dialogues: deviation {id}: {reason}"));
        failures.retain(|(failed, _)| failed != id);
    }
    report(&format!(
        "smtp-dialogues: {} of {} cases held",
        cases.len() - failures.len(),
        cases.len()
    ));
    assert!(failures.is_empty(), "{failures:#?}");
}

fn name(case: &Value) -> String {
    case["id"].as_str().unwrap().to_owned()
}

/// Every case has mailboxes of its own: `c17` and `d17`.
fn server(cases: usize) -> Gatepost {
    let users: Vec<String> = (0..cases).flat_map(|n| [format!("c{n}"), format!("d{n}")]).collect();
    let hash = Gatepost::hash(PASSWORD);
    let domain = format!(
        "hostname = \"mx.local.example\"
         [[domain]]
         name = \"local.example\"
         users = {users:?}
         deliver = \"maildir:var/mail/{{domain}}/{{user}}\"
         [[user]]
         name = \"{USER}\"
         password = \"{hash}\""
    );
    Setup::new()
        .without("domain")
        .with(&domain)
        .listener("submission", "submission")
        .listener("submissions", "submissions")
        .listener("lmtp", "lmtp")
        .start()
}

fn advertised(server: &Gatepost, role: &str) -> BTreeSet<String> {
    let mut client = server.connect(role);
    if role == "submissions" {
        client.start_tls().unwrap();
    }
    client.reply().unwrap();
    let greet = if role == "lmtp" { "LHLO" } else { "EHLO" };
    let mut replies = vec![client.command(&format!("{greet} client.example")).unwrap()];
    if role == "submission" {
        replies.push(client.secure("client.example").unwrap());
    }
    replies.iter().flat_map(keywords).collect()
}

fn keywords(reply: &Reply) -> Vec<String> {
    let word = |line: &String| line.get(4..)?.split([' ', '=']).next().map(str::to_ascii_uppercase);
    reply.lines.iter().filter_map(word).collect()
}

fn missing(case: &Value, advertised: &BTreeMap<&str, BTreeSet<String>>) -> Option<String> {
    let offered = &advertised[case["role"].as_str().unwrap()];
    let needs = case["needs"].as_array().unwrap().iter().filter_map(Value::as_str);
    needs.map(str::to_owned).find(|need| !offered.contains(need))
}

/// A reply, and if it came after EHLO or LHLO and was no reply to a greeting, so that it carries an
/// enhanced status code (RFC 2034 §3).
type Seen = Vec<(Reply, bool)>;

fn play(server: &Gatepost, case: &Value, number: usize, seen: &mut Seen) -> Result<(), String> {
    let role = case["role"].as_str().unwrap();
    let mut player = Player {
        client: Some(server.connect(role)),
        role: role.to_owned(),
        number,
        code: 0,
        greeting: true,
        extended: false,
        seen,
    };
    for (index, step) in case["steps"].as_array().unwrap().iter().enumerate() {
        match player.step(step.as_array().unwrap()) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(why) => return Err(format!("step {} {step}: {why}", index + 1)),
        }
    }
    Ok(())
}

struct Player<'a> {
    client: Option<Client>,
    role: String,
    number: usize,
    code: u16,
    /// The last line sent was a greeting, so its reply has no enhanced code.
    greeting: bool,
    extended: bool,
    seen: &'a mut Seen,
}

impl Player<'_> {
    /// False if the rest of the case does not apply.
    fn step(&mut self, step: &[Value]) -> Result<bool, String> {
        let text = |index: usize| step.get(index).and_then(Value::as_str).unwrap_or_default();
        match text(0) {
            "s" => self.send(self.filled(text(1)).as_bytes()),
            "b64" => self.send(&STANDARD.decode(text(1)).map_err(|error| error.to_string())?),
            "rep" => {
                let count =
                    usize::try_from(step[2].as_u64().unwrap_or_default()).unwrap_or_default();
                self.send(self.filled(text(1)).repeat(count).as_bytes());
            }
            "bdat" => {
                let chunk = self.filled(text(1));
                let last = if step[2].as_bool() == Some(true) { " LAST" } else { "" };
                self.send(format!("BDAT {}{last}\r\n{chunk}", chunk.len()).as_bytes());
            }
            "r" => self.read(text(1), step.get(2).and_then(Value::as_str))?,
            "tls" => self.tls()?,
            "tls?" if self.code == 220 => self.tls()?,
            "tls?" => return Ok(false),
            "tlsup" => self.tls_up()?,
            "silent" => self.silent(step[1].as_f64().unwrap_or(1.0))?,
            "eof" => {
                if !self.client().closed_within(PATIENCE) {
                    return Err("the connection is still open".to_owned());
                }
            }
            "close" => self.client = None,
            other => return Err(format!("unknown step {other}")),
        }
        Ok(true)
    }

    fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("no step follows `close`")
    }

    fn send(&mut self, octets: &[u8]) {
        let verb = String::from_utf8_lossy(&octets[..octets.len().min(4)]).to_ascii_uppercase();
        self.greeting = ["EHLO", "LHLO", "HELO"].contains(&verb.as_str());
        if verb == "EHLO" || verb == "LHLO" {
            self.extended = true;
        }
        // A server that has hung up is found out by the next read.
        let _ = self.client().send(octets);
    }

    fn read(&mut self, pattern: &str, absent: Option<&str>) -> Result<(), String> {
        self.client().set_patience(PATIENCE).map_err(|error| error.to_string())?;
        let reply = self.client().reply().map_err(|error: io::Error| error.to_string())?;
        self.code = reply.code;
        self.seen.push((reply.clone(), self.extended && !self.greeting));
        if !fits(pattern, &format!("{:03}", reply.code)) {
            return Err(format!("got {reply}"));
        }
        let forbidden = absent.and_then(|absent| absent.strip_prefix('!'));
        if forbidden.is_some_and(|word| reply.lines.iter().any(|line| line.contains(word))) {
            return Err(format!("offered: {reply}"));
        }
        Ok(())
    }

    fn tls(&mut self) -> Result<(), String> {
        self.extended = false;
        self.client().start_tls().map_err(|error| format!("TLS: {error}"))
    }

    fn tls_up(&mut self) -> Result<(), String> {
        if self.role == "submissions" {
            self.tls()?;
            return self.client().reply().map(drop).map_err(|error| error.to_string());
        }
        let up = self.client().hello("client.example").and_then(|_| {
            let reply = self.client().command("STARTTLS")?;
            if reply.code == 220 { Ok(()) } else { Err(io::Error::other(reply.to_string())) }
        });
        up.map_err(|error| error.to_string())?;
        self.tls()
    }

    fn silent(&mut self, seconds: f64) -> Result<(), String> {
        self.client().set_patience(Duration::from_secs_f64(seconds)).map_err(|e| e.to_string())?;
        match self.client().read_some() {
            Ok(octets) if !octets.is_empty() => {
                Err(format!("unexpected {}", String::from_utf8_lossy(&octets)))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn filled(&self, text: &str) -> String {
        let plain = |identity: &str, password: &str| {
            STANDARD.encode(format!("{identity}\0{USER}\0{password}"))
        };
        let replace = [
            ("{FROM}", "sender@client.example".to_owned()),
            ("{RCPT}", format!("c{}@local.example", self.number)),
            ("{RCPT2}", format!("d{}@local.example", self.number)),
            ("{BADRCPT}", "nobody-here@local.example".to_owned()),
            ("{REMOTE}", "someone@remote.example".to_owned()),
            ("{LOCALDOMAIN}", "local.example".to_owned()),
            ("{ID}", format!("m{}", self.number)),
            ("{AUTHFROM}", USER.to_owned()),
            ("{AUTHPLAIN}", plain("", PASSWORD)),
            ("{BADPLAIN}", plain("", "wrong")),
            ("{AUTHPLAIN_AUTHZ_OTHER}", plain("other@local.example", PASSWORD)),
            ("{AUTHUSER64}", STANDARD.encode(USER)),
            ("{AUTHPASS64}", STANDARD.encode(PASSWORD)),
        ];
        replace.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }
}

/// What must be in the mailboxes when all is delivered.
fn check_stored(server: &Gatepost, cases: &[&Value]) -> Vec<(String, String)> {
    eventually("an empty queue", || {
        server.queue(&["list"]).as_array().is_some_and(Vec::is_empty).then_some(())
    });
    let mut failures = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let folder = server.folder().join("var/mail/local.example");
        let stored: Vec<Vec<u8>> = ["c", "d"]
            .iter()
            .flat_map(|letter| tests::maildir::messages(&folder.join(format!("{letter}{number}"))))
            .map(|message| with_crlf(&message))
            .collect();
        let ids: BTreeSet<Option<String>> = stored.iter().map(|message| id(message)).collect();
        let expected = case.get("accepted").and_then(Value::as_u64);
        if expected.is_some_and(|expected| expected != ids.len() as u64) {
            failures.push((name(case), format!("{} messages are stored", ids.len())));
        }
        let texts = case["stored_has"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let raw = case["stored_has_b64"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let needles = texts
            .map(|text| text.as_bytes().to_vec())
            .chain(raw.filter_map(|text| STANDARD.decode(text).ok()));
        for needle in needles {
            if !stored.iter().any(|message| contains(message, &needle)) {
                let needle = String::from_utf8_lossy(&needle).into_owned();
                failures.push((name(case), format!("{needle:?} is not in what is stored")));
            }
        }
    }
    failures
}

/// RFC 2034 §3–4: the class agrees with the reply's first digit, on each line alike; and the registry
/// knows the code.
fn check_codes(seen: &BTreeMap<String, Seen>) -> Vec<(String, String)> {
    let Some(folder) = suite("enhanced-status-codes") else { return Vec::new() };
    let codes = json(&folder, "codes.json");
    let (mut failures, mut count) = (Vec::new(), 0);
    for (case, replies) in seen {
        // RFC 2034 §4: 2yz, 4yz and 5yz; 220 is a greeting or the reply to STARTTLS.
        let coded = replies
            .iter()
            .filter(|(reply, coded)| *coded && reply.code / 100 != 3 && reply.code != 220);
        for (reply, _) in coded {
            count += 1;
            if let Err(why) = check_code(reply, &codes) {
                failures.push((case.clone(), format!("{why}: {reply}")));
            }
        }
    }
    report(&format!(
        "enhanced-status-codes: {count} replies, {} codes known",
        codes.as_object().unwrap().len()
    ));
    failures
}

fn check_code(reply: &Reply, codes: &Value) -> Result<(), &'static str> {
    let code =
        |line: &String| line.get(4..).and_then(|text| text.split(' ').next()).map(str::to_owned);
    let first = reply.lines.first().and_then(code).ok_or("no text")?;
    let (class, rest) = first.split_once('.').ok_or("no enhanced status code")?;
    if class != (reply.code / 100).to_string() {
        return Err("the class is not the reply's");
    }
    if codes.get(rest).is_none() {
        return Err("not in the registry");
    }
    if reply.lines.iter().any(|line| code(line).as_ref() != Some(&first)) {
        return Err("not the same code on every line");
    }
    Ok(())
}

/// The suite's patterns for codes: alternatives of digits, `.` and `[…]`.
fn fits(pattern: &str, code: &str) -> bool {
    pattern.split('|').any(|one| {
        let mut pattern = one.chars();
        let each = code.chars().all(|digit| match pattern.next() {
            Some('.') => true,
            Some('[') => {
                let set: String = pattern.by_ref().take_while(|&c| c != ']').collect();
                set.split_once('-').map_or(set.contains(digit), |(low, high)| {
                    low <= digit.to_string().as_str() && digit.to_string().as_str() <= high
                })
            }
            other => other == Some(digit),
        });
        each && pattern.next().is_none()
    })
}

#[test]
fn patterns_are_read() {
    let check = |pattern: &str, code: &str, expected: bool| {
        assert_eq!(fits(pattern, code), expected, "{pattern} {code}");
    };
    check("250", "250", true);
    check("250", "251", false);
    check("25[01]", "251", true);
    check("25[0-2]", "252", true);
    check("25[0-2]", "253", false);
    check("5..|421", "421", true);
    check("5..|421", "550", true);
    check("50[024]|2..", "504", true);
}
