//! Mail that comes from outside and goes outside again: reverse-paths that lead back through us, and circles.

use std::fs;

use tests::maildir::header;
use tests::sink::{Behaviour, Sink};
use tests::{Gatepost, Setup, eventually, letter};

use crate::send;

const CAROL: &str = "carol@example.net";

/// `far@example.test` is somebody else's mailbox.
fn forwarding(sink: &Sink) -> Setup {
    Setup::new().without("domain").with(&format!(
        "[[domain]]\nname = \"example.test\"\nusers = [\"alice\", \"bob\"]\n\
         aliases = {{ far = [\"dave@far.test\"], mixed = [\"alice@example.test\", \"dave@far.test\"] }}\n\
         deliver = \"maildir:var/mail/{{domain}}/{{user}}\"\n\
         [[route]]\nto = \"*\"\nvia = \"smtp:[127.0.0.1]:{}\"",
        sink.port()
    ))
}

/// The reverse-path in a line of MAIL.
fn reverse_path(line: &str) -> String {
    let path = line.strip_prefix("MAIL FROM:<").and_then(|rest| rest.split('>').next());
    path.unwrap_or_else(|| panic!("no reverse-path in {line}")).to_owned()
}

/// Forwards one message, and gives the reverse-path that the sink was told.
fn forwarded(server: &Gatepost, sink: &Sink, sender: &str, to: &str) -> String {
    let before = sink.taken().len();
    assert!(send(server, sender, to, &letter::plain("forward")).starts_with("250"));
    reverse_path(&sink.wait(before + 1)[before].mail)
}

#[test]
fn what_is_forwarded_comes_from_us_and_reports_find_the_sender() {
    let sink = Sink::start(Behaviour::default());
    let server = forwarding(&sink).start();
    let path = forwarded(&server, &sink, CAROL, "far@example.test");
    assert!(
        path.starts_with("SRS0=") && path.ends_with("=example.net=carol@example.test"),
        "{path}"
    );
    assert_eq!(sink.taken()[0].rcpt, ["RCPT TO:<dave@far.test>"]);
    let content = String::from_utf8_lossy(&sink.taken()[0].content).into_owned();
    assert_eq!(header(content.as_bytes(), "Delivered-To"), ["far@example.test"]);

    // A report of the other side.
    let report = b"From: mailer-daemon@far.test\r\nSubject: failed\r\n\r\nsorry\r\n";
    assert!(send(&server, "", &path, report).starts_with("250"));
    assert_eq!(sink.wait(2)[1].rcpt, ["RCPT TO:<carol@example.net>"]);
    assert_eq!(reverse_path(&sink.taken()[1].mail), "");
    // The case of local parts is lost here and there.
    assert!(send(&server, "", &path.to_lowercase(), report).starts_with("250"));
    assert_eq!(sink.wait(3)[2].rcpt, ["RCPT TO:<carol@example.net>"]);
    // It is no way to relay.
    assert!(send(&server, "eve@client.example", &path, report).starts_with("550 5.7.1"));
    let forged = path.replacen("SRS0=", "SRS0=x", 1);
    assert!(send(&server, "", &forged, report).starts_with("550 5.1.1"), "{forged}");
    let elsewhere = path.replace("=carol@", "=eve@");
    assert!(send(&server, "", &elsewhere, report).starts_with("550 5.1.1"), "{elsewhere}");
    // Another forwarder's address is wrapped once more, and both ways are kept.
    let twice =
        forwarded(&server, &sink, "SRS0=HHHH=TT=example.com=eve@example.net", "far@example.test");
    assert!(twice.starts_with("SRS1=") && twice.contains("=example.net=="), "{twice}");
    assert!(send(&server, "", &twice, report).starts_with("250"));
    assert_eq!(sink.wait(5)[4].rcpt, ["RCPT TO:<SRS0=HHHH=TT=example.com=eve@example.net>"]);
    // Our own users, and nobody, stay who they are.
    assert_eq!(
        forwarded(&server, &sink, "bob@example.test", "far@example.test"),
        "bob@example.test"
    );
    assert_eq!(forwarded(&server, &sink, "", "far@example.test"), "");
}

#[test]
fn our_own_report_goes_to_the_sender_and_not_around() {
    let behaviour = Behaviour {
        script: std::sync::Arc::new(|line, _| {
            line.starts_with("RCPT TO:<dave@far.test>").then(|| "550 5.1.1 No such user".to_owned())
        }),
        ..Behaviour::default()
    };
    let sink = Sink::start(behaviour);
    let server = forwarding(&sink).start();
    assert!(send(&server, CAROL, "mixed@example.test", &letter::plain("mixed")).starts_with("250"));
    // The member here has the message as it was sent.
    let here = server.wait_mailbox("alice", 1);
    assert!(here[0].starts_with(b"Return-Path: <carol@example.net>"));
    let report = sink.wait(1).remove(0);
    assert_eq!(
        (reverse_path(&report.mail).as_str(), report.rcpt),
        ("", vec!["RCPT TO:<carol@example.net>".to_owned()])
    );
    let text = String::from_utf8_lossy(&report.content).into_owned();
    assert!(text.contains("mixed@example.test"), "{text}");
    // RFC 3464 §2.3.2: whom the sender named; where it led is not told.
    assert!(
        text.contains("Original-Recipient: rfc822;mixed@example.test")
            || text.contains("Final-Recipient: rfc822"),
        "{text}"
    );
}

#[test]
fn secrets_are_replaced_in_the_running_server() {
    let sink = Sink::start(Behaviour::default());
    let server = forwarding(&sink).start();
    let file = server.folder().join("var/srs-secrets");
    let old = fs::read_to_string(&file).unwrap();
    assert!(old.starts_with('#') && old.lines().any(|line| line.len() == 64), "{old}");
    let first = forwarded(&server, &sink, CAROL, "far@example.test");
    let rewrite = |text: &str| {
        let before = server.log().matches("a new plugin set is live").count();
        fs::write(&file, text).unwrap();
        server.wait_log("a new plugin set is live", before);
    };
    let report = b"Subject: failed\r\n\r\nsorry\r\n";
    rewrite(&format!("a new secret\n{old}"));
    let second = forwarded(&server, &sink, CAROL, "far@example.test");
    assert_ne!(first, second, "the new one signs");
    for path in [&first, &second] {
        assert!(send(&server, "", path, report).starts_with("250"), "{path}: both are believed");
    }
    rewrite("a new secret\n");
    assert!(send(&server, "", &first, report).starts_with("550 5.1.1"), "the old one is out");
    assert!(send(&server, "", &second, report).starts_with("250"));
}

#[test]
fn rewriting_can_be_switched_off() {
    let sink = Sink::start(Behaviour::default());
    let server = forwarding(&sink).with("[srs]\nrewrite = false").start();
    assert_eq!(forwarded(&server, &sink, CAROL, "far@example.test"), CAROL);
    assert!(!server.folder().join("var/srs-secrets").exists());
}

#[test]
fn a_mark_tells_that_a_message_was_here_before() {
    let sink = Sink::start(Behaviour::default());
    let server = forwarding(&sink).start();
    let mut content = b"Delivered-To: FAR@example.test\r\n".to_vec();
    content.extend(letter::plain("again"));
    let told = send(&server, CAROL, "far@example.test", &content);
    assert!(
        told.starts_with("554 5.4.6 Mail loop: this message has been at far@example.test"),
        "{told}"
    );
    // RFC 5321 §6.3: a hundred hops are a loop as well.
    let mut hops = b"Received: from a by b; Fri, 20 Nov 2026 10:00:00 +0000\r\n".repeat(101);
    hops.extend(letter::plain("hops"));
    assert!(send(&server, CAROL, "alice@example.test", &hops).starts_with("554 5.4.6"));
    assert!(sink.taken().is_empty());
}

#[test]
fn two_servers_that_forward_to_each_other_end_the_circle_and_tell_the_sender() {
    let sink = Sink::start(Behaviour::default());
    let one = Setup::new();
    let two = Setup::new();
    let settings = |own: &str, other: &str, port: u16| {
        format!(
            "hostname = \"mx.{own}\"\n[[domain]]\nname = \"{own}\"\nusers = [\"alice\"]\n\
             aliases = {{ x = [\"x@{other}\"] }}\ndeliver = \"maildir:var/mail/{{domain}}/{{user}}\"\n\
             [[route]]\nto = \"{other}\"\nvia = \"smtp:[127.0.0.1]:{port}\"\n\
             [[route]]\nto = \"*\"\nvia = \"smtp:[127.0.0.1]:{}\"",
            sink.port()
        )
    };
    let (first, second) = (one.port("mx"), two.port("mx"));
    let one = one.without("domain").with(&settings("one.test", "two.test", second)).start();
    let two = two.without("domain").with(&settings("two.test", "one.test", first)).start();
    assert!(send(&one, CAROL, "x@one.test", &letter::plain("circle")).starts_with("250"));
    let report = sink.wait(1).remove(0);
    assert_eq!(report.rcpt, ["RCPT TO:<carol@example.net>"], "\n{}\n{}", one.log(), two.log());
    let text = String::from_utf8_lossy(&report.content).into_owned();
    assert!(text.contains("5.4.6"), "{text}");
    for server in [&one, &two] {
        eventually("an empty queue", || {
            server.queue(&["list"]).as_array()?.is_empty().then_some(())
        });
    }
    assert_eq!(sink.taken().len(), 1);
}
