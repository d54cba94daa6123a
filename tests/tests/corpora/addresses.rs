//! `address-isemail` and `address-eai`: reverse-paths that others call right or wrong, given to MAIL.

use serde_json::Value;
use tests::corpora::{json, report, suite};
use tests::{Gatepost, Setup};

/// What we answer otherwise than a suite expects: its diagnosis or kind, and why.
const DEVIATIONS: [(&str, &str); 0] = [];

fn server() -> Gatepost {
    Setup::new().with("[limits]\nerrors = 100000\ncommands = 100000").start()
}

/// True if MAIL with this path is accepted; none if it can't be sent in one line.
fn accepted(server: &Gatepost, address: &str, parameters: &str) -> Option<bool> {
    if address.contains(['\r', '\n']) {
        return None;
    }
    let mut client = server.session();
    let reply = client.command(&format!("MAIL FROM:<{address}>{parameters}")).unwrap();
    assert!(reply.code == 250 || (500..=559).contains(&reply.code), "{address}: {reply}");
    Some(reply.code == 250)
}

fn conclude(suite: &str, ran: usize, mut wrong: Vec<(String, String)>) {
    for (diagnosis, reason) in DEVIATIONS {
        let before = wrong.len();
        wrong.retain(|(kind, _)| kind != diagnosis);
        if wrong.len() < before {
            report(&format!("{suite}: {} deviations, {diagnosis}: {reason}", before - wrong.len()));
        }
    }
    report(&format!("{suite}: {ran} cases ran"));
    assert!(wrong.is_empty(), "{} of {ran}: {wrong:#?}", wrong.len());
}

#[test]
fn address_isemail_agrees_about_envelope_addresses() {
    let Some(folder) = suite("address-isemail") else { return };
    let cases = json(&folder, "cases.json");
    let server = server();
    let (mut wrong, mut ran) = (Vec::new(), 0);
    for case in cases.as_array().unwrap() {
        let address = case["address"].as_str().unwrap();
        // Null: right in a header field and nowhere else.
        let expected = case["smtp_ok"].as_bool().unwrap_or(false);
        // RFC 5321 §4.5.5: the empty path is no address, and right.
        if address.is_empty() {
            continue;
        }
        let Some(accepted) = accepted(&server, address, "") else { continue };
        ran += 1;
        if accepted != expected {
            let diagnosis = case["diagnosis"].as_str().unwrap_or_default().to_owned();
            wrong.push((diagnosis, format!("{address:?}: accepted {accepted}")));
        }
    }
    conclude("address-isemail", ran, wrong);
}

#[test]
fn address_eai_agrees_about_envelope_addresses() {
    let Some(folder) = suite("address-eai") else { return };
    let cases = json(&folder, "cases.json");
    let server = server();
    let (mut wrong, mut ran) = (Vec::new(), 0);
    for case in cases.as_array().unwrap() {
        let address = case["input"].as_str().unwrap();
        // With a display name it is a header's address.
        if address.ends_with('>') || address.is_empty() {
            continue;
        }
        let expected = case["valid"].as_bool().unwrap();
        let Some(accepted) = accepted(&server, address, " SMTPUTF8") else { continue };
        ran += 1;
        if accepted != expected {
            let kind = case["kind"].as_str().unwrap_or_default().to_owned();
            let error = case.get("error").map(Value::to_string).unwrap_or_default();
            wrong.push((kind, format!("{address:?}: accepted {accepted} {error}")));
        }
    }
    conclude("address-eai", ran, wrong);
}
