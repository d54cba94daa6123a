//! Dialogues and smuggling attempts that others wrote, played to the machine with the simplest
//! driver that a mail server can have: two mailboxes, one account, no relaying.

#[path = "dialogues/driver.rs"]
mod driver;
#[path = "dialogues/sasl.rs"]
mod sasl;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use smtp::content::DataEncoder;
use smtp::server::{Protocol, Settings};
use tests::corpora::{json, report, suite};

use driver::{Driver, Heard, PLACEHOLDERS, text_of};

#[test]
fn dialogues_are_held() {
    let Some(suite) = suite("smtp-dialogues") else { return };
    let cases = json(&suite, "cases.json");
    let (mut held, mut faults, mut skipped) = (0, Vec::new(), Vec::new());
    for case in cases.as_array().expect("a list of cases") {
        let id = text_of(&case["id"]);
        if id == "starttls-garbage-handshake" {
            // There is no TLS here that could fail; it is played to the daemon.
            skipped.push(id);
            continue;
        }
        match hold(case) {
            Ok(()) => held += 1,
            Err(fault) => faults.push(format!("{} ({}): {fault}", id, text_of(&case["src"]))),
        }
    }
    report(&format!("smtp-dialogues: {held} held by the machine, skipped: {}", skipped.join(", ")));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_reply_has_a_registered_status_code() {
    let (Some(dialogues), Some(codes)) = (suite("smtp-dialogues"), suite("enhanced-status-codes"))
    else {
        return;
    };
    let codes = json(&codes, "codes.json");
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for case in json(&dialogues, "cases.json").as_array().expect("a list of cases") {
        let mut driver = driver_of(case);
        // Whether the dialogue is held is asked above.
        let _ = driver.play(case);
        seen.extend(driver.heard.iter().filter(|heard| heard.wants_status()).map(|heard| {
            (heard.status(), format!("{} {}: {}", heard.code, heard.lines[0], text_of(&case["id"])))
        }));
    }
    for transcript in tests::transcript::all() {
        let cut = tests::transcript::machine::Cut::Every(usize::MAX);
        if let Ok(played) = tests::transcript::machine::play(&transcript, cut) {
            seen.extend(
                played
                    .statuses
                    .into_iter()
                    .map(|(code, word)| (format!("{code} {word}"), transcript.name.clone())),
            );
        }
    }
    report(&format!("enhanced-status-codes: {} different ones were sent", seen.len()));
    for (status, place) in &seen {
        let (code, status) = status.split_once(' ').expect("a code and a status");
        let (class, detail) = status.split_once('.').unwrap_or_default();
        assert!(
            code.starts_with(class) && !class.is_empty(),
            "{place}: the class follows the code"
        );
        assert!(!codes[detail].is_null(), "{place}: {status} is registered");
    }
}

#[test]
fn nothing_is_smuggled_in() {
    let Some(suite) = suite("smtp-smuggling") else { return };
    let mut count = 0;
    for case in json(&suite, "cases.json").as_array().expect("a list of cases") {
        if case["direction"] != "inbound" {
            continue;
        }
        count += 1;
        let end = STANDARD.decode(text_of(&case["eod_b64"])).expect("base64");
        let mut driver = Driver::new(Settings::new("mx.local.example"));
        driver.say(b"EHLO client.example\r\nMAIL FROM:<alice@client.example>\r\nRCPT TO:<bob@local.example>\r\nDATA\r\n");
        let before = driver.listen();
        let mut content = b"MSG text".to_vec();
        content.extend(end);
        content.extend(
            b"mail FROM:<smuggled@check.example>\r\nrcpt TO:<bob@local.example>\r\ndata\r\n",
        );
        content.extend(b"Subject: SMUGGLED\r\n\r\nx\r\n.\r\n");
        driver.say(&content);
        let after = driver.listen();
        assert_eq!((before, after), (5, 1), "{}: one reply follows the true end", case["id"]);
        assert!(
            driver.heard.last().is_some_and(|heard| heard.code == "550"),
            "{}: refused",
            case["id"]
        );
        assert!(driver.machine.accepted.is_empty(), "{}", case["id"]);
    }
    report(&format!("smtp-smuggling: {count} inbound attempts refused by the machine"));
}

#[test]
fn nothing_is_smuggled_out() {
    let Some(suite) = suite("smtp-smuggling") else { return };
    let mut count = 0;
    for case in json(&suite, "cases.json").as_array().expect("a list of cases") {
        if case["direction"] != "outbound" {
            continue;
        }
        count += 1;
        let end = STANDARD.decode(text_of(&case["eod_b64"])).expect("base64");
        let content =
            [b"Subject: x\r\n\r\nbefore".as_slice(), &end, b"MAIL FROM:<x@y.example>\r\n"].concat();
        let (mut wire, mut encoder) = (Vec::new(), DataEncoder::default());
        encoder.encode(&content, &mut wire);
        encoder.finish(&mut wire);
        // The true end is ours.
        let before = wire.strip_suffix(b".\r\n").expect("it ends");
        let found = before.windows(end.len()).any(|octets| octets == end);
        assert!(!found, "{}: what a careless server takes for an end is not sent", case["id"]);
    }
    report(&format!("smtp-smuggling: {count} outbound attempts made harmless by the encoder"));
}

fn hold(case: &Value) -> Result<(), String> {
    let mut driver = driver_of(case);
    driver.play(case)?;
    if let Some(expected) = case["accepted"].as_u64() {
        let accepted = driver.machine.accepted.len() as u64;
        if accepted != expected {
            return Err(format!("{accepted} messages accepted, not {expected}"));
        }
    }
    let plain =
        case["stored_has"].as_array().into_iter().flatten().map(|text| filled(text).into_bytes());
    let encoded = case["stored_has_b64"].as_array().into_iter().flatten();
    let encoded = encoded.map(|text| STANDARD.decode(text_of(text)).expect("base64"));
    for wanted in plain.chain(encoded) {
        let is_in = |content: &[u8]| content.windows(wanted.len()).any(|octets| octets == wanted);
        if !driver.machine.accepted.iter().any(|(_, content)| is_in(content)) {
            return Err(format!(
                "{:?} is not in what was stored",
                String::from_utf8_lossy(&wanted)
            ));
        }
    }
    Ok(())
}

fn driver_of(case: &Value) -> Driver {
    let mut settings = Settings::new("mx.local.example");
    settings.tls_offered = true;
    let role = text_of(&case["role"]);
    match role.as_str() {
        "lmtp" => settings.protocol = Protocol::Lmtp,
        "mx" => {}
        _ => {
            settings.mechanisms =
                vec![smtp::server::Mechanism::Plain, smtp::server::Mechanism::Login];
            settings.auth_required = true;
            settings.tls_required = true;
            settings.tls_active = case["steps"][0][0] == "tlsup";
        }
    }
    Driver::new(settings)
}

fn filled(text: &Value) -> String {
    PLACEHOLDERS.iter().fold(text_of(text), |text, (name, value)| text.replace(name, value))
}

#[test]
fn the_reply_patterns_of_the_suite_are_understood() {
    let heard = |code: &str| Heard {
        code: code.to_owned(),
        lines: vec!["x".to_owned()],
        is_greeting: false,
    };
    assert!(heard("251").is("25[01]") && !heard("252").is("25[01]"));
    assert!(
        heard("421").is("5..|421") && heard("550").is("5..|421") && !heard("450").is("5..|421")
    );
    assert!(heard("252").is("25[0-2]|502|55.|454"));
}
