//! `proxy-protocol`: headers of HAProxy's PROXY protocol, version 1 and 2, and broken ones.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tests::corpora::{json, report, suite};
use tests::maildir::trace;
use tests::{Client, Setup, letter};

fn cases() -> Option<Vec<Value>> {
    let cases = json(&suite("proxy-protocol")?, "cases.json");
    cases.as_array().cloned()
}

fn octets(case: &Value) -> Vec<u8> {
    STANDARD.decode(case["bytes_b64"].as_str().unwrap()).unwrap()
}

#[test]
fn headers_are_taken_from_those_who_must_send_them() {
    let Some(cases) = cases() else { return };
    let mut setup = Setup::new().listener_with("mx", "proxy-from = [\"127.0.0.1/32\"]");
    for number in 0..cases.len() {
        setup = setup.user(&format!("c{number}"));
    }
    let server = setup.start();
    for (number, case) in cases.iter().enumerate() {
        let id = case["id"].as_str().unwrap();
        let mut client = server.connect("mx");
        // Every refusal is one of the header, not of what might still come.
        let _ = client.send(&octets(case));
        if case["valid"] == false {
            client.finish().unwrap();
            let reply = client.reply();
            assert!(reply.is_err(), "{id}: {reply:?}");
            continue;
        }
        let hello = client.hello("client.example").unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(hello.code, 250, "{id}: {hello}");
        let to = format!("c{number}@example.test");
        let reply =
            client.transaction("a@client.example", &[&to], &letter::plain("proxy")).unwrap();
        assert_eq!(reply.code, 250, "{id}: {reply}");
        let stored = server.wait_mailbox(&format!("c{number}"), 1);
        // RFC 5321 §4.4: the address in the trace is the client's.
        let expected = match case.get("src").and_then(Value::as_str) {
            Some(source) if source.starts_with('[') => source[1..].split(']').next().unwrap(),
            Some(source) => source.split(':').next().unwrap(),
            None => "",
        };
        assert!(trace(&stored[0]).contains(expected), "{id}: {}", trace(&stored[0]));
        if case["command"] == "LOCAL" || case["family"] == "unknown" {
            assert!(trace(&stored[0]).contains("127.0.0.1"), "{id}: {}", trace(&stored[0]));
        }
    }
    report(&format!("proxy-protocol: {} cases held", cases.len()));
}

#[test]
fn headers_of_others_are_not_taken() {
    let Some(cases) = cases() else { return };
    let setup = Setup::new().listener_with("mx", "proxy-from = [\"192.0.2.0/24\"]");
    let server = setup.listener("plain", "mx").start();
    for (case, listener) in cases.iter().zip(["mx", "plain"].iter().cycle()) {
        let mut client = server.connect(listener);
        assert_eq!(client.reply().unwrap().code, 220);
        let _ = client.send(&octets(case));
        // Refused as a command, or the end: never taken, never silent.
        client.finish().unwrap();
        assert!(first_is_no_success(&mut client), "{}", case["id"]);
    }
}

fn first_is_no_success(client: &mut Client) -> bool {
    client.set_patience(Duration::from_secs(30)).unwrap();
    client.reply().map_or(true, |reply| reply.code >= 400)
}
