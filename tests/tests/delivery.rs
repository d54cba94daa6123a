//! What becomes of a message that is not taken at once: retries, reports, the smarthost, the limits.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use tests::dns::{Dns, Zone};
use tests::maildir::{contains, header, trace};
use tests::sink::{Behaviour, Sink};
use tests::{Foreign, Gatepost, Reply, Setup, eventually, letter};

const SENDER: &str = "bob@example.test";
const REMOTE: &str = "someone@target.test";

/// Every client of this machine may send anywhere; all that isn't local goes to `sink`.
fn through(sink: &Sink, suffix: &str) -> Setup {
    Setup::new()
        .with("[relay]\nfrom = [\"127.0.0.0/8\"]")
        .with(&format!("[[route]]\nto = \"*\"\nvia = \"smtp:[127.0.0.1]:{}{suffix}\"", sink.port()))
}

fn sink(behaviour: Behaviour) -> Sink {
    Sink::start(behaviour)
}

fn answering(script: impl Fn(&str, usize) -> Option<String> + Send + Sync + 'static) -> Behaviour {
    Behaviour { script: Arc::new(script), ..Behaviour::default() }
}

fn rcpt(line: &str) -> bool {
    line.starts_with("RCPT")
}

#[track_caller]
fn give(server: &Gatepost, mail: &str, rcpt: &str, content: &[u8]) -> Reply {
    let mut client = server.session();
    for line in [format!("MAIL FROM:{mail}"), format!("RCPT TO:{rcpt}")] {
        let reply = client.command(&line).unwrap();
        assert_eq!(reply.code, 250, "{line}: {reply}");
    }
    assert_eq!(client.command("DATA").unwrap().code, 354);
    client.send(&tests::client::stuffed(content)).unwrap();
    let reply = client.reply().unwrap();
    assert_eq!(reply.code, 250, "{reply}");
    reply
}

fn send(server: &Gatepost, subject: &str) {
    give(server, &format!("<{SENDER}>"), &format!("<{REMOTE}>"), &letter::plain(subject));
}

fn assert_done(server: &Gatepost) {
    eventually("an empty queue", || {
        server.queue(&["list"]).as_array().is_some_and(Vec::is_empty).then_some(())
    });
}

/// The report that bob gets.
#[track_caller]
fn report(server: &Gatepost) -> String {
    let stored = server.wait_mailbox("bob", 1);
    assert_is_report(&stored[0]);
    String::from_utf8_lossy(&stored[0]).into_owned()
}

#[track_caller]
fn assert_is_report(message: &[u8]) {
    // RFC 5321 §4.5.5: the reverse-path of a notification is null, so that it is never bounced.
    assert!(trace(message).starts_with("Return-Path: <>"), "{}", trace(message));
    let kind = header(message, "Content-Type");
    // RFC 3464 §2: multipart/report; report-type=delivery-status.
    assert!(
        kind[0].starts_with("multipart/report") && kind[0].contains("delivery-status"),
        "{kind:?}"
    );
    for (name, value) in [("To", SENDER), ("From", "@mx.example.test"), ("MIME-Version", "1.0")] {
        let values = header(message, name);
        assert!(values.len() == 1 && values[0].contains(value), "{name}: {values:?}");
    }
    for name in ["Subject", "Date", "Message-ID"] {
        assert_eq!(header(message, name).len(), 1, "{name}");
    }
    // RFC 3834 §5: made by a program.
    assert!(header(message, "Auto-Submitted")[0].starts_with("auto-"));
}

#[track_caller]
fn assert_has(report: &str, parts: &[&str]) {
    for part in parts {
        assert!(report.contains(part), "no {part:?} in\n{report}");
    }
}

#[test]
fn a_temporary_refusal_is_tried_again_until_it_is_taken() {
    let sink = sink(answering(|line, before| {
        (rcpt(line) && before < 2).then(|| "450 4.2.1 Not yet".to_owned())
    }));
    let server = through(&sink, "").start();
    send(&server, "retry");
    assert_eq!(sink.wait(1)[0].content, sink.taken()[0].content);
    assert!(sink.lines().iter().filter(|line| rcpt(line)).count() >= 3);
    assert_done(&server);
    assert!(server.mailbox("bob").is_empty(), "nobody is told of what was delivered in time");
}

#[test]
fn a_host_that_is_not_there_is_tried_again() {
    let port = tests::free_port();
    let server = Setup::new()
        .with("[relay]\nfrom = [\"127.0.0.0/8\"]")
        .with(&format!("[[route]]\nto = \"*\"\nvia = \"smtp:[127.0.0.1]:{port}\""))
        .start();
    send(&server, "later");
    eventually("an attempt", || server.log().contains("deferred").then_some(()));
    let sink = Sink::start_at(&format!("127.0.0.1:{port}"), Behaviour::default());
    sink.wait(1);
    assert_done(&server);
}

#[test]
fn a_permanent_refusal_is_reported_to_the_sender() {
    let sink = sink(answering(|line, _| rcpt(line).then(|| "550 5.1.1 No such person".to_owned())));
    let server = through(&sink, "").start();
    give(
        &server,
        &format!("<{SENDER}> RET=HDRS ENVID=QQ314159"),
        &format!("<{REMOTE}> NOTIFY=FAILURE ORCPT=rfc822;first+2Bone@origin.test"),
        &letter::plain("refused"),
    );
    let report = report(&server);
    assert_has(
        &report,
        &[
            "Reporting-MTA: dns; mx.example.test",
            "Original-Envelope-Id: QQ314159",
            "Original-Recipient: rfc822; first+one@origin.test",
            &format!("Final-Recipient: rfc822; {REMOTE}"),
            "Action: failed",
            "Status: 5.1.1",
            "Diagnostic-Code: smtp; 550 5.1.1 No such person",
            "Subject: refused",
        ],
    );
    // RFC 3461 §4.3: RET=HDRS wants the header of the message and nothing else.
    assert!(!report.contains("A first line."), "{report}");
    assert_done(&server);
    assert_eq!(server.mailbox("bob").len(), 1);
}

#[test]
fn one_bad_recipient_does_not_keep_the_others_from_their_mail() {
    let sink = sink(answering(|line, _| {
        line.contains("bad@").then(|| "550 5.1.1 No such person".to_owned())
    }));
    let server = through(&sink, "").start();
    let mut client = server.session();
    let to = ["good@target.test", "bad@target.test", "well@target.test"];
    let reply = client.transaction(SENDER, &to, &letter::plain("mixed")).unwrap();
    assert_eq!(reply.code, 250, "{reply}");
    let taken = sink.wait(1);
    assert_eq!(taken[0].rcpt.len(), 2, "{:?}", taken[0].rcpt);
    let report = report(&server);
    assert_has(&report, &["Final-Recipient: rfc822; bad@target.test"]);
    assert!(!report.contains("Final-Recipient: rfc822; good@target.test"));
    assert_done(&server);
    assert_eq!(sink.taken().len(), 1);
}

#[test]
fn what_was_deferred_too_long_is_reported_as_delayed_and_then_as_failed() {
    let sink = sink(answering(|line, _| rcpt(line).then(|| "450 4.2.2 Full".to_owned())));
    let server = through(&sink, "")
        .with("[queue]\nfirst-retry = \"1s\"\nlongest-retry = \"1s\"\ndelay-notice = \"2s\"\nexpire = \"8s\"")
        .start();
    let notify = format!("<{REMOTE}> NOTIFY=DELAY,FAILURE");
    give(&server, &format!("<{SENDER}> RET=FULL"), &notify, &letter::plain("slow"));
    let stored = server.wait_mailbox("bob", 2);
    let reports: Vec<String> =
        stored.iter().map(|one| String::from_utf8_lossy(one).into_owned()).collect();
    stored.iter().for_each(|one| assert_is_report(one));
    let one_with = |part: &str| reports.iter().find(|report| report.contains(part));
    let delayed = one_with("Action: delayed").expect("a report of the delay");
    assert_has(delayed, &["Status: 4.2.2", "Will-Retry-Until: "]);
    let failed = one_with("Action: failed").expect("a report of the failure");
    // RFC 3463 §3.5: X.4.7, delivery time expired.
    let diagnostic = "Diagnostic-Code: smtp; 450 4.2.2 Full";
    assert_has(failed, &["Status: 4.4.7", diagnostic, "Subject: slow"]);
    assert_done(&server);
    assert_eq!(server.mailbox("bob").len(), 2);
}

#[test]
fn success_is_reported_to_those_who_asked_and_never_to_others() {
    let server = Setup::new().with("[relay]\nfrom = [\"127.0.0.0/8\"]").start();
    let mail = format!("<{SENDER}> ENVID=abc");
    give(&server, &mail, "<alice@example.test>", &letter::plain("quiet"));
    give(&server, &mail, "<alice@example.test> NOTIFY=SUCCESS", &letter::plain("asked"));
    let report = report(&server);
    assert_has(&report, &["Action: delivered", "Status: 2.", "Subject: asked"]);
    assert_done(&server);
    assert_eq!(server.mailbox("bob").len(), 1);
    assert_eq!(server.mailbox("alice").len(), 2);
}

#[test]
fn nobody_is_told_of_the_failure_of_a_notification_or_against_his_will() {
    let sink = sink(answering(|line, _| rcpt(line).then(|| "550 5.1.1 No such person".to_owned())));
    let server = through(&sink, "").start();
    // RFC 5321 §4.5.5: no bounce of a bounce.
    give(&server, "<>", &format!("<{REMOTE}>"), &letter::plain("null"));
    let never = format!("<{REMOTE}> NOTIFY=NEVER");
    give(&server, &format!("<{SENDER}>"), &never, &letter::plain("never"));
    eventually("both attempts", || {
        (sink.lines().iter().filter(|line| rcpt(line)).count() >= 2).then_some(())
    });
    assert_done(&server);
    for user in ["alice", "bob", "postmaster"] {
        assert!(server.mailbox(user).is_empty(), "{user}");
    }
}

#[test]
fn a_null_mx_and_an_absent_domain_fail_at_once() {
    let Some(dnsmasq) = Foreign::need("null MX", "dnsmasq") else { return };
    let folder = tempfile::tempdir().unwrap();
    let dns = Dns::start(&dnsmasq, &Zone::default().null_mx("null.test"), folder.path());
    let setup = Setup::new()
        .with("[relay]\nfrom = [\"127.0.0.0/8\"]")
        .with(&format!("[dns]\nservers = [\"{}\"]", dns.address()));
    for (domain, status) in [("null.test", "Status: 5.1.10"), ("absent.test", "Status: 5.1.2")] {
        let server = setup.clone().with_new_port().start();
        give(&server, &format!("<{SENDER}>"), &format!("<x@{domain}>"), &letter::plain("dns"));
        // RFC 7505 §3: mail for a domain with a null MX fails permanently, with 5.1.10.
        assert_has(&report(&server), &[status, "Action: failed"]);
        assert_done(&server);
    }
}

#[test]
fn a_domain_without_mx_is_reached_by_its_address() {
    let Some(dnsmasq) = Foreign::need("implicit MX", "dnsmasq") else { return };
    let folder = tempfile::tempdir().unwrap();
    let zone = Zone::default().host("target.test", "127.0.0.1");
    let dns = Dns::start(&dnsmasq, &zone, folder.path());
    let sink = sink(Behaviour::default());
    let server = Setup::new()
        .with("[relay]\nfrom = [\"127.0.0.0/8\"]")
        .with(&format!(
            "[delivery]\nport = {}\n[dns]\nservers = [\"{}\"]",
            sink.port(),
            dns.address()
        ))
        .start();
    send(&server, "implicit");
    assert_eq!(sink.wait(1).len(), 1);
}

#[test]
fn tls_is_used_where_it_is_offered() {
    let sink = sink(Behaviour { tls: Some("sink.test".to_owned()), ..Behaviour::default() });
    let server = through(&sink, "").start();
    send(&server, "tls");
    assert!(sink.wait(1)[0].tls);
}

#[test]
fn the_smarthost_gets_our_name_and_password_over_tls_only() {
    let login = Some(("bob".to_owned(), "secret".to_owned()));
    let tls = Some("localhost".to_owned());
    let credentials = "[credentials.upstream]\nuser = \"bob\"\npassword = \"secret\"";
    let upstream = sink(Behaviour { tls, login: login.clone(), ..Behaviour::default() });
    let server = through(&upstream, ";tls=require;auth=upstream").with(credentials).start();
    send(&server, "smarthost");
    let taken = upstream.wait(1);
    assert_eq!((taken[0].tls, taken[0].user.as_deref()), (true, Some("bob")));
    drop(server);

    let bare = sink(Behaviour { login, ..Behaviour::default() });
    let server = through(&bare, ";tls=require;auth=upstream").with(credentials).start();
    send(&server, "bare");
    eventually("an attempt", || server.log().contains("deferred").then_some(()));
    assert!(bare.taken().is_empty());
    assert!(!bare.lines().iter().any(|line| line.starts_with("AUTH")), "{:?}", bare.lines());
}

#[test]
fn a_certificate_that_must_be_verified_and_cannot_keeps_the_mail_here() {
    let sink = sink(Behaviour { tls: Some("sink.test".to_owned()), ..Behaviour::default() });
    let server = through(&sink, ";tls=verify").start();
    send(&server, "verify");
    eventually("an attempt", || server.log().contains("deferred").then_some(()));
    assert!(sink.taken().is_empty());
}

#[test]
fn what_the_next_host_cannot_take_is_returned_and_never_sent() {
    let check = |extensions: &[&str], mail: &str, content: &[u8], status: &str| {
        let extensions = extensions.iter().map(|word| (*word).to_owned()).collect();
        let sink = sink(Behaviour { extensions, ..Behaviour::default() });
        let server = through(&sink, "").start();
        give(&server, mail, &format!("<{REMOTE}>"), content);
        assert_has(&report(&server), &["Action: failed", status]);
        assert!(sink.taken().is_empty(), "{mail}");
    };
    let bob = format!("<{SENDER}>");
    // RFC 1870 §6.1: larger than the server takes.
    check(&["SIZE 1000"], &bob, &letter::large("large", 5000), "Status: 5.3.4");
    // RFC 6152 §3: 8-bit content goes to no server that doesn't offer 8BITMIME.
    check(&["SIZE"], &format!("{bob} BODY=8BITMIME"), &letter::eight_bit("eight"), "Status: 5.6.");
}

#[test]
fn one_connection_carries_many_messages_and_few_are_open_at_once() {
    let slow = |line: &str, _| {
        if line == "." {
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    };
    let sink = sink(answering(slow));
    let limits = "[delivery]\nconnections-per-destination = 2\nmessages-per-connection = 100";
    let server = through(&sink, "").with(limits).start();
    let mut client = server.session();
    for number in 0..40 {
        let content = letter::plain(&format!("n{number}"));
        assert_eq!(client.transaction(SENDER, &[REMOTE], &content).unwrap().code, 250);
    }
    sink.wait(40);
    assert!(sink.most_connections() <= 2, "{} at once", sink.most_connections());
    assert!(sink.connections() < 40, "{} connections for 40 messages", sink.connections());
    assert_done(&server);
}

#[test]
fn the_queue_is_seen_and_changed_while_the_server_runs() {
    let sink = sink(answering(|line, before| {
        (rcpt(line) && before < 1).then(|| "450 4.2.1 Not yet".to_owned())
    }));
    let slow = "[queue]\nfirst-retry = \"1h\"\nlongest-retry = \"1h\"";
    let server = through(&sink, "").with(slow).start();
    send(&server, "seen");
    eventually("an attempt", || server.log().contains("deferred").then_some(()));
    let list = eventually("the message in the list", || {
        Some(server.queue(&["list"])).filter(|list| list.as_array().is_some_and(|l| l.len() == 1))
    });
    let id = list[0]["id"].as_str().expect("an id").to_owned();
    let shown = server.queue(&["show", &id]).to_string();
    assert_has(&shown, &[&id, REMOTE, "450"]);
    server.queue(&["hold", &id]);
    server.queue(&["release", &id]);
    server.queue(&["retry", &id]);
    sink.wait(1);
    assert_done(&server);
}

#[test]
fn what_is_removed_from_the_queue_is_gone() {
    let sink = sink(answering(|line, _| rcpt(line).then(|| "450 4.2.1 Not yet".to_owned())));
    let server = through(&sink, "").start();
    send(&server, "removed");
    eventually("an attempt", || server.log().contains("deferred").then_some(()));
    let id = server.queue(&["list"])[0]["id"].as_str().expect("an id").to_owned();
    server.queue(&["remove", &id]);
    assert_done(&server);
    assert!(sink.taken().is_empty());
}

#[test]
fn a_message_that_was_refused_is_explained_by_its_id() {
    let server = Setup::new().start();
    let mut client = server.session();
    client.command("MAIL FROM:<stranger@client.example>").unwrap();
    let reply = client.command("RCPT TO:<someone@target.test>").unwrap();
    assert!((550..=554).contains(&reply.code), "{reply}");
    let text = reply.to_string();
    let id = text.rsplit_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).expect("an id");
    client.command("QUIT").unwrap();
    eventually("an explanation", || {
        let told = server.command(&["why", id, "--config", "gatepost.toml"]);
        contains(told.stdout.as_bytes(), b"someone@target.test").then_some(())
    });
}
