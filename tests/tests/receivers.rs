//! We deliver to servers that others wrote. What arrives is what a client gave us, octet for octet, but
//! for the trace fields at the top.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::chown;

use tests::dns::{Dns, Zone};
use tests::dovecot::Dovecot;
use tests::maildir::{trace, with_crlf, without_trace};
use tests::postfix::{Postfix, open_to_all};
use tests::process::{Process, run};
use tests::sink::{Behaviour, Sink};
use tests::{Foreign, Gatepost, Setup, eventually, free_port, letter};

/// A setup that may send anywhere for clients of this machine.
fn relay() -> Setup {
    Setup::new().with("[relay]\nfrom = [\"127.0.0.0/8\"]")
}

#[track_caller]
fn give(server: &Gatepost, to: &str, message: &[u8]) {
    let mut client = server.session();
    let reply = client.transaction("sender@client.example", &[to], message).unwrap();
    assert_eq!(reply.code, 250, "{reply}");
}

#[track_caller]
fn assert_same(stored: &[u8], sent: &[u8]) {
    let stored = with_crlf(without_trace(stored));
    assert!(
        stored == sent,
        "--- sent\n{}\n--- stored\n{}",
        String::from_utf8_lossy(&sent[..sent.len().min(4000)]),
        String::from_utf8_lossy(&stored[..stored.len().min(4000)])
    );
}

/// Waits until the server's queue is empty: what was delivered is also done.
fn assert_done(server: &Gatepost) {
    eventually("an empty queue", || {
        server.queue(&["list"]).as_array().is_some_and(Vec::is_empty).then_some(())
    });
}

#[test]
fn a_sink_gets_every_octet() {
    let sink = Sink::start(Behaviour::default());
    let route = format!("[[route]]\nto = \"*\"\nvia = \"smtp:[127.0.0.1]:{}\"", sink.port());
    let server = relay().with(&route).start();
    for message in [letter::plain("a"), letter::eight_bit("b"), letter::large("c", 2_000_000)] {
        let before = sink.taken().len();
        give(&server, "someone@target.test", &message);
        assert_same(&sink.wait(before + 1)[before].content, &message);
    }
    assert_done(&server);
}

#[test]
fn smtp_sink_takes_our_mail() {
    let name = "smtp-sink";
    let Some(program) = Foreign::need(name, name) else { return };
    if !Foreign::need_root(name) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dumps = folder.path().join("dumps");
    fs::create_dir(&dumps).unwrap();
    open_to_all(folder.path());
    let postfix: u32 =
        run("id".as_ref(), ["-u", "postfix"]).expect_success("id").stdout.trim().parse().unwrap();
    chown(&dumps, Some(postfix), None).unwrap();
    let port = free_port();
    let mut command = std::process::Command::new(&program.path);
    command.args(["-u", "postfix", "-R"]).arg(&dumps).args(["-d", "%M."]);
    command.args([&format!("127.0.0.1:{port}"), "100"]);
    let _sink = Process::start("smtp-sink", &mut command, &folder.path().join("log"));
    eventually("smtp-sink", || tests::Client::connect(("127.0.0.1", port)).ok());

    let route = format!("[[route]]\nto = \"*\"\nvia = \"smtp:[127.0.0.1]:{port}\"");
    let server = relay().with(&route).start();
    let message = letter::plain("smtp-sink");
    give(&server, "someone@target.test", &message);
    let dump = eventually("a dump of smtp-sink", || {
        let files = fs::read_dir(&dumps).unwrap().flatten();
        let texts = files.filter_map(|entry| fs::read(entry.path()).ok());
        texts.into_iter().find(|text| text.ends_with(b"\n\n") && text.len() >= message.len())
    });
    // Before the content it writes X-… fields and its own Received; behind it an empty line.
    let text = with_crlf(&dump[..dump.len() - 1]);
    let start = text.windows(6).position(|window| window == b"From: ").unwrap();
    assert_same(&text[start..], &message);
    assert_done(&server);
}

#[test]
fn postfix_takes_our_mail_through_an_mx_record() {
    let name = "Postfix as receiver";
    let Some(programs) = Foreign::need_all(name, &["dnsmasq", "postfix", "postconf"]) else {
        return;
    };
    if !Foreign::need_root(name) {
        return;
    }
    let port = free_port();
    let postfix = Postfix::start(&format!("127.0.0.1:{port}"), "", None);
    let folder = tempfile::tempdir().unwrap();
    // The better host is not there: RFC 5321 §5.1 wants the next one to be tried.
    let zone = Zone::default()
        .mx("target.test", 10, "away.target.test")
        .mx("target.test", 20, "mx.target.test")
        .host("away.target.test", "127.0.0.2")
        .host("mx.target.test", "127.0.0.1");
    let dns = Dns::start(&programs[0], &zone, folder.path());
    let server = relay()
        .with(&format!("[dns]\nservers = [\"{}\"]\n[delivery]\nport = {port}", dns.address()))
        .start();
    for (count, message) in
        [letter::eight_bit("one"), letter::large("two", 500_000)].iter().enumerate()
    {
        give(&server, "someone@target.test", message);
        let stored = eventually("Postfix's mailbox", || {
            Some(postfix.stored()).filter(|stored| stored.len() > count)
        });
        let found = stored.iter().any(|one| with_crlf(without_trace(one)) == *message);
        if !found {
            assert_same(&stored[count], message);
        }
        assert_eq!(trace(&stored[0]).matches("Received: ").count(), 2, "{}", trace(&stored[0]));
    }
    assert_done(&server);
}

#[test]
fn dovecot_takes_our_mail_by_lmtp_and_shows_it_by_imap_and_pop3() {
    let name = "Dovecot";
    let Some(programs) = Foreign::need_all(name, &["dovecot", "python3"]) else { return };
    if !Foreign::need_root(name) {
        return;
    }
    let dovecot = Dovecot::start(&programs[0]);
    let routes = [
        format!("lmtp:127.0.0.1:{}", dovecot.lmtp_port()),
        format!("lmtp:{}", dovecot.lmtp_socket().display()),
    ];
    for (user, route) in ["alice", "bob"].iter().zip(routes) {
        let server = Setup::new()
            .without("domain")
            .with(&format!(
                "[[domain]]\nname = \"example.test\"\nusers = [\"alice\", \"bob\"]\ndeliver = \"{route}\""
            ))
            .start();
        let message = letter::eight_bit(user);
        give(&server, &format!("{user}@example.test"), &message);
        let shown = eventually("a message over IMAP", || {
            Some(dovecot.imap(user, "INBOX")).filter(|shown| !shown.is_empty())
        });
        assert_eq!(shown.len(), 1, "{route}");
        assert_same(&shown[0], &message);
        assert_same(&dovecot.pop3(user)[0], &message);
        assert_done(&server);
    }
}

#[test]
fn one_message_for_two_lmtp_recipients_is_one_transaction() {
    let name = "Dovecot, two recipients";
    let Some(programs) = Foreign::need_all(name, &["dovecot", "python3"]) else { return };
    if !Foreign::need_root(name) {
        return;
    }
    let dovecot = Dovecot::start(&programs[0]);
    let server = Setup::new()
        .without("domain")
        .with(&format!(
            "[[domain]]\nname = \"example.test\"\nusers = [\"alice\", \"bob\"]\ndeliver = \"lmtp:127.0.0.1:{}\"",
            dovecot.lmtp_port()
        ))
        .start();
    let message = letter::plain("both");
    let mut client = server.session();
    let both = ["alice@example.test", "bob@example.test"];
    assert_eq!(client.transaction("sender@client.example", &both, &message).unwrap().code, 250);
    for user in ["alice", "bob"] {
        let shown = eventually("a message over IMAP", || {
            Some(dovecot.imap(user, "INBOX")).filter(|shown| !shown.is_empty())
        });
        assert_same(&shown[0], &message);
    }
    assert_done(&server);
}

#[test]
fn a_maildir_gets_every_octet() {
    let server = Setup::new().start();
    let messages = [
        letter::plain("a"),
        letter::eight_bit("b"),
        letter::large("c", 2_000_000),
        b"\r\n".to_vec(),
    ];
    for (count, message) in messages.iter().enumerate() {
        give(&server, "alice@example.test", message);
        let stored = server.wait_mailbox("alice", count + 1);
        assert!(
            stored.iter().any(|one| with_crlf(without_trace(one)) == *message),
            "message {count} is among the stored ones"
        );
        // RFC 5321 §4.4: the final delivery puts the Return-Path on top.
        for one in &stored {
            assert!(one.starts_with(b"Return-Path: <sender@client.example>"), "{}", trace(one));
        }
    }
    assert!(fs::read_dir(server.maildir("alice").join("tmp")).unwrap().next().is_none());
    assert_done(&server);
}
