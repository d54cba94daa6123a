//! `smtp-smuggling`: sequences that some servers take for the end of data (SEC Consult, 2023).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tests::corpora::{json, report, suite};
use tests::maildir::trace;
use tests::sink::{Behaviour, Sink};
use tests::{Client, Gatepost, Reply, Setup, eventually};

fn cases(direction: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let cases = json(&suite("smtp-smuggling")?, "cases.json");
    let of_direction =
        cases.as_array().unwrap().iter().filter(|case| case["direction"] == direction);
    let read = |case: &Value| {
        let end = STANDARD.decode(case["eod_b64"].as_str().unwrap()).unwrap();
        (case["eod"].as_str().unwrap().to_owned(), end)
    };
    Some(of_direction.map(read).collect())
}

fn assert_done(server: &Gatepost) {
    eventually("an empty queue", || {
        server.queue(&["list"]).as_array().is_some_and(Vec::is_empty).then_some(())
    });
}

#[test]
fn nothing_is_smuggled_in() {
    let Some(cases) = cases("inbound") else { return };
    let mut setup = Setup::new();
    for number in 0..cases.len() {
        setup = setup.user(&format!("c{number}"));
    }
    let server = setup.start();
    for (number, (end, octets)) in cases.iter().enumerate() {
        let recipient = format!("c{number}@example.test");
        let mut client = server.session();
        for line in ["MAIL FROM:<a@client.example>".to_owned(), format!("RCPT TO:<{recipient}>")] {
            assert_eq!(client.command(&line).unwrap().code, 250);
        }
        assert_eq!(client.command("DATA").unwrap().code, 354);
        let mut wire = b"From: <a@client.example>\r\nSubject: CHECK\r\n\r\nTESTING".to_vec();
        wire.extend_from_slice(octets);
        let rest = format!(
            "mail FROM:<smuggled@check.example>\r\nrcpt TO:<{recipient}>\r\ndata\r\n\
             From: <smuggled@check.example>\r\nSubject: SMUGGLED\r\n\r\nx\r\n.\r\nQUIT\r\n"
        );
        wire.extend_from_slice(rest.as_bytes());
        // A server that hangs up in the middle is safe, too.
        let _ = client.send(&wire);
        let codes: Vec<u16> = replies(&mut client).iter().map(|reply| reply.code).collect();
        let safe = match codes.as_slice() {
            [] | [421] => true,
            [end] => *end >= 400,
            [_, quit] => *quit == 221 || *quit == 421,
            _ => false,
        };
        assert!(safe, "{end}: {codes:?}");
    }
    assert_done(&server);
    for (number, (end, _)) in cases.iter().enumerate() {
        let stored = server.mailbox(&format!("c{number}"));
        assert!(stored.len() <= 1, "{end}: {} messages", stored.len());
        for message in stored {
            assert!(!trace(&message).contains("smuggled@"), "{end}: {}", trace(&message));
        }
    }
    report(&format!("smtp-smuggling: {} inbound cases held", cases.len()));
}

/// All replies until the server closes, which it does after QUIT.
fn replies(client: &mut Client) -> Vec<Reply> {
    std::iter::from_fn(|| client.reply().ok()).collect()
}

#[test]
fn nothing_is_smuggled_out() {
    let Some(cases) = cases("outbound") else { return };
    let plain = ["PIPELINING", "8BITMIME", "SIZE"].map(str::to_owned).to_vec();
    let mut chunking = plain.clone();
    chunking.push("CHUNKING".to_owned());
    for extensions in [plain, chunking] {
        let sink = Sink::start(Behaviour { extensions, ..Behaviour::default() });
        let server = Setup::new()
            .with("[relay]\nfrom = [\"127.0.0.0/8\"]")
            .with(&format!("[[route]]\nto = \"*\"\nvia = \"smtp:[127.0.0.1]:{}\"", sink.port()))
            .start();
        let mut accepted = 0;
        for (_, octets) in &cases {
            for way in ["DATA", "BDAT", "BINARYMIME"] {
                accepted += usize::from(submit(&server, way, octets));
            }
        }
        // One that is in order, so that the sink has surely seen the others before.
        assert!(submit(&server, "DATA", b"\r\n..\r\n"));
        sink.wait(1);
        assert_done(&server);
        let taken = sink.taken();
        assert!(taken.len() <= accepted + 1, "{} of {accepted}", taken.len());
        for message in &taken {
            assert!(message.mail.contains("alice@example.test") || message.mail.contains("<>"));
            assert!(only_crlf(&message.wire), "{}", String::from_utf8_lossy(&message.wire));
        }
        assert!(!sink.lines().iter().any(|line| line.contains("smuggled@")), "{:?}", sink.lines());
        report(&format!(
            "smtp-smuggling: {} outbound cases in 3 ways held, {accepted} of them taken in",
            cases.len()
        ));
    }
}

/// Gives a message with the sequence in its body; true if it was accepted.
fn submit(server: &Gatepost, way: &str, octets: &[u8]) -> bool {
    let mut content = b"From: <a@example.test>\r\nSubject: OUT\r\n\r\nbefore".to_vec();
    content.extend_from_slice(octets);
    content.extend_from_slice(
        b"MAIL FROM:<smuggled@check.example>\r\nRCPT TO:<x@target.test>\r\nDATA\r\nSubject: S\r\n\r\nafter\r\n",
    );
    let mut client = server.session();
    let body = if way == "BINARYMIME" { " BODY=BINARYMIME" } else { "" };
    assert_eq!(client.command(&format!("MAIL FROM:<alice@example.test>{body}")).unwrap().code, 250);
    assert_eq!(client.command("RCPT TO:<x@target.test>").unwrap().code, 250);
    if way == "DATA" {
        assert_eq!(client.command("DATA").unwrap().code, 354);
        content.extend_from_slice(b".\r\n");
        // It may hang up at the first malformed line.
        let _ = client.send(&content);
    } else {
        let mut wire = format!("BDAT {} LAST\r\n", content.len()).into_bytes();
        wire.extend_from_slice(&content);
        let _ = client.send(&wire);
    }
    client.reply().is_ok_and(|reply| reply.code == 250)
}

/// RFC 5321 §2.3.8: CR and LF only together.
fn only_crlf(wire: &[u8]) -> bool {
    wire.iter().enumerate().all(|(index, octet)| match octet {
        b'\r' => wire.get(index + 1) == Some(&b'\n'),
        b'\n' => index > 0 && wire[index - 1] == b'\r',
        _ => true,
    })
}
