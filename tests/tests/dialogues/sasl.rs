//! The SASL vectors of RFCs, played to the machine as AUTH commands. Mechanisms that are not offered have to be refused
//! as unknown, and stand here by name with the reason.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use smtp::Reply;
use smtp::sasl::{Credentials, Mechanism, Proof, ScramVerifier};
use smtp::server::{Answer, Question, Settings};
use tests::corpora::{json, report, suite};
use tests::machine::{Machine, pass};

use crate::driver::text_of;

/// Mechanisms of the suite that are not offered, and why.
const NOT_OFFERED: &[(&str, &str)] = &[
    (
        "CRAM-MD5",
        "the server would have to keep the password itself; RFC 7677 §1 has what came after it",
    ),
    ("SCRAM-SHA-1", "RFC 7677 §1: SCRAM-SHA-256 is to be used instead"),
    (
        "OAUTHBEARER",
        "there is no issuer of tokens here; RFC 4954 §4: the choice of mechanisms is local",
    ),
    ("XOAUTH2", "as OAUTHBEARER; and no RFC has it"),
];

#[test]
fn sasl_vectors_are_held() {
    let Some(suite) = suite("sasl") else { return };
    let (mut held, mut refused, mut faults) = (0, Vec::new(), Vec::new());
    let cases = json(&suite, "cases.json");
    for case in cases.as_array().expect("a list of cases") {
        let name = text_of(&case["mech"]);
        let reason = NOT_OFFERED.iter().find(|(other, _)| *other == name);
        let result = match name.as_str() {
            "PLAIN" => plain(case),
            "LOGIN" => login(case),
            "SCRAM-SHA-256" => scram(case),
            _ => unknown(&name),
        };
        match (result, reason) {
            (Ok(()), None) => held += 1,
            (Ok(()), Some((name, reason))) => refused.push(format!("{name} ({reason})")),
            (Err(fault), _) => faults.push(format!("{case}: {fault}")),
        }
    }
    report(&format!(
        "sasl: {held} held, {} refused with 504 as mechanisms that are not offered: {}",
        refused.len(),
        refused.join("; ")
    ));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!((held, refused.len()), (8, 5), "the whole suite");
}

/// A session in TLS that has said EHLO.
struct Session {
    machine: Machine,
    case: Value,
    asked: Vec<Credentials>,
}

impl Session {
    fn new(case: &Value) -> Self {
        let mut settings = Settings::new("mx.example.test");
        settings.tls_active = true;
        settings.mechanisms = Mechanism::ALL.to_vec();
        let mut session =
            Self { machine: Machine::new(settings), case: case.clone(), asked: Vec::new() };
        session.run(b"");
        session.say("EHLO client.example");
        session
    }

    /// A line, and the last line that it is answered with.
    fn say(&mut self, line: &str) -> String {
        self.machine.sent.clear();
        self.run(format!("{line}\r\n").as_bytes());
        let text = String::from_utf8_lossy(&self.machine.sent).into_owned();
        text.lines().last().unwrap_or_default().to_owned()
    }

    fn run(&mut self, octets: &[u8]) {
        let Self { machine, case, asked } = self;
        machine.feed(octets, &mut |_, question| decide(case, asked, question));
    }
}

fn decide(case: &Value, asked: &mut Vec<Credentials>, question: &Question) -> Answer {
    let refuse = || Answer::Refuse(Reply::new(535, "5.7.8 Authentication credentials invalid"));
    match question {
        Question::Auth(credentials) => {
            asked.push(credentials.clone());
            let Credentials { authorization, identity, proof, .. } = credentials;
            let known = case["authcid"].as_str().or(case["user"].as_str()).unwrap_or("tim");
            let password = case["password"].as_str().unwrap_or("secret");
            let is_right = match proof {
                Proof::Password(said) => said == password,
                Proof::Shown => true,
                Proof::Wrong => false,
            };
            // Nobody may act for another here.
            let is_own = authorization.is_empty() || authorization == identity;
            if identity == known && is_right && is_own { Answer::Proceed } else { refuse() }
        }
        Question::Verifier { .. } => {
            let first = text_of(&case["server_first"]);
            let value = |name: &str| {
                first.split(',').find_map(|part| part.strip_prefix(name)).unwrap_or_default()
            };
            let client = text_of(&case["client_first"]);
            let client = client.split("r=").nth(1).unwrap_or_default();
            let salt = STANDARD.decode(value("s=")).expect("a salt");
            let iterations = value("i=").parse().expect("a number");
            let verifier = ScramVerifier::derive(&text_of(&case["password"]), &salt, iterations);
            Answer::Verifier {
                verifier: Box::new(verifier.expect("a password")),
                nonce: value("r=").strip_prefix(client).expect("the client's nonce").to_owned(),
            }
        }
        other => pass(other),
    }
}

fn expect(heard: &str, code: &str) -> Result<(), String> {
    if heard.starts_with(code) { Ok(()) } else { Err(format!("{code} expected: {heard}")) }
}

fn plain(case: &Value) -> Result<(), String> {
    let message = text_of(&case["client_b64"]);
    let expected = match (&case["ok"], case["authzid"].as_str()) {
        (Value::Bool(true), _) => "235 2.7.0",
        // Kurt may not act as Ursel.
        (Value::String(_), _) => "535 5.7.8",
        _ => "501 5.5.2",
    };
    // RFC 4954 §4: with an initial response, and without.
    expect(&Session::new(case).say(&format!("AUTH PLAIN {message}")), expected)?;
    let mut session = Session::new(case);
    expect(&session.say("AUTH PLAIN"), "334 ")?;
    expect(&session.say(&message), expected)?;
    if let (Some(authcid), Some(asked)) = (case["authcid"].as_str(), session.asked.first()) {
        let said = (asked.identity.as_str(), asked.authorization.as_str());
        if said != (authcid, case["authzid"].as_str().unwrap_or_default()) {
            return Err(format!("understood as {said:?}"));
        }
    }
    Ok(())
}

fn login(case: &Value) -> Result<(), String> {
    let mut session = Session::new(case);
    let mut heard = session.say("AUTH LOGIN");
    let texts = |key: &str| -> Vec<String> {
        case[key].as_array().map(|all| all.iter().map(text_of).collect()).unwrap_or_default()
    };
    for (prompt, answer) in texts("prompts_b64").iter().zip(texts("client_b64")) {
        expect(&heard, &format!("334 {prompt}"))?;
        heard = session.say(&answer);
    }
    expect(&heard, "235 2.7.0")
}

fn scram(case: &Value) -> Result<(), String> {
    let encoded = |key: &str| STANDARD.encode(text_of(&case[key]));
    let mut session = Session::new(case);
    let heard = session.say(&format!("AUTH SCRAM-SHA-256 {}", encoded("client_first")));
    expect(&heard, &format!("334 {}", encoded("server_first")))?;
    expect(&session.say(&encoded("client_final")), &format!("334 {}", encoded("server_final")))?;
    expect(&session.say(""), "235 2.7.0")
}

fn unknown(name: &str) -> Result<(), String> {
    expect(&Session::new(&Value::Null).say(&format!("AUTH {name} AA==")), "504 5.5.4")
}
