//! Programs that others wrote send to us. What is stored is what they were given, octet for octet, but
//! for the trace fields at the top.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::client::stuffed;
use tests::dns::{Dns, Zone};
use tests::maildir::{trace, with_crlf, without_trace};
use tests::postfix::Postfix;
use tests::process::{Finished, finish, run};
use tests::python::python;
use tests::{Foreign, Gatepost, Setup, eventually, letter};

const FROM: &str = "sender@client.example";
const TO: &str = "alice@example.test";

/// A server, a message in a file, and a program that is to bring one to the other.
fn send(program: &str, message: &[u8], send: impl Fn(&Foreign, u16, &Path) -> Finished) {
    let Some(foreign) = Foreign::need(program, program) else { return };
    let server = Setup::new().start();
    let file = server.folder().join("message");
    fs::write(&file, message).unwrap();
    send(&foreign, server.port("mx"), &file).expect_success(program);
    assert_arrived(&server, message);
}

fn assert_arrived(server: &Gatepost, message: &[u8]) {
    let stored = server.wait_mailbox("alice", 1);
    assert_eq!(stored.len(), 1, "one message was sent");
    assert_same(&stored[0], message);
}

#[track_caller]
fn assert_same(stored: &[u8], sent: &[u8]) {
    let (stored, sent) = (with_crlf(without_trace(stored)), with_crlf(sent));
    assert!(
        stored == sent,
        "--- sent\n{}\n--- stored\n{}",
        String::from_utf8_lossy(&sent[..sent.len().min(4000)]),
        String::from_utf8_lossy(&stored[..stored.len().min(4000)])
    );
}

fn swaks(swaks: &Foreign, port: u16, file: &Path, more: &[&str]) -> Finished {
    let mut command = Command::new(&swaks.path);
    command.args(["--server", &format!("127.0.0.1:{port}"), "--from", FROM, "--to", TO]);
    // By itself, swaks ends every message with one more line; told not to touch the content, it
    // wants it dot-stuffed and marked at its end, and adds the last CRLF.
    let mut wire = stuffed(&fs::read(file).unwrap());
    wire.truncate(wire.len() - 2);
    fs::write(file, wire).unwrap();
    command.args(["--helo", "client.example", "--timeout", "60", "--no-data-fixup", "--data"]);
    finish(command.arg(format!("@{}", file.display())).args(more))
}

#[test]
fn swaks_sends() {
    send("swaks", &letter::plain("swaks"), |it, port, file| swaks(it, port, file, &[]));
}

#[test]
fn swaks_sends_pipelined_over_starttls() {
    send("swaks", &letter::plain("swaks-tls"), |it, port, file| {
        swaks(it, port, file, &["--tls", "--pipeline"])
    });
}

fn curl(curl: &Foreign, port: u16, file: &Path, more: &[&str]) -> Finished {
    let mut command = Command::new(&curl.path);
    command.args(["--silent", "--show-error", "--max-time", "60", "--mail-from", FROM]);
    command.args(["--mail-rcpt", TO, "--upload-file"]).arg(file).args(more);
    finish(command.arg(format!("smtp://127.0.0.1:{port}/client.example")))
}

#[test]
fn curl_sends() {
    send("curl", &letter::eight_bit("curl"), |it, port, file| curl(it, port, file, &[]));
}

#[test]
fn curl_sends_a_large_message_over_starttls() {
    send("curl", &letter::large("curl-tls", 3_000_000), |it, port, file| {
        curl(it, port, file, &["--ssl-reqd", "--insecure"])
    });
}

fn msmtp(msmtp: &Foreign, port: u16, file: &Path, more: &[&str]) -> Finished {
    let mut command = Command::new(&msmtp.path);
    command.args(["--host=127.0.0.1", &format!("--port={port}"), "--timeout=60"]);
    command.args([&format!("--from={FROM}"), "--domain=client.example"]).args(more).arg(TO);
    // msmtp wants lines that end as a mail reader on Unix writes them.
    let text: Vec<u8> = fs::read(file).unwrap().into_iter().filter(|&c| c != b'\r').collect();
    fs::write(file, text).unwrap();
    finish(command.stdin(Stdio::from(fs::File::open(file).unwrap())))
}

#[test]
fn msmtp_sends() {
    send("msmtp", &letter::eight_bit("msmtp"), |it, port, file| {
        msmtp(it, port, file, &["--tls=off"])
    });
}

#[test]
fn msmtp_sends_over_starttls() {
    send("msmtp", &letter::plain("msmtp-tls"), |it, port, file| {
        msmtp(it, port, file, &["--tls=on", "--tls-starttls=on", "--tls-certcheck=off"])
    });
}

const SMTPLIB: &str = r"
import smtplib, ssl, sys
port, file, way, sender, recipient = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5]
context = ssl._create_unverified_context()
if way == 'implicit':
    client = smtplib.SMTP_SSL('127.0.0.1', port, 'client.example', timeout=60, context=context)
else:
    client = smtplib.SMTP('127.0.0.1', port, 'client.example', timeout=60)
client.ehlo()
if way == 'starttls':
    client.starttls(context=context)
if len(sys.argv) > 6:
    client.login(sys.argv[6], sys.argv[7])
client.sendmail(sender, [recipient], open(file, 'rb').read(), mail_options=['BODY=8BITMIME'])
client.quit()
";

fn smtplib(port: u16, file: &Path, way: &str, more: &[&str]) -> Finished {
    let (port, path) = (port.to_string(), file.to_string_lossy());
    let mut arguments = vec![port.as_str(), &path, way, FROM, TO];
    arguments.extend(more);
    python(SMTPLIB, &arguments, file.parent().unwrap())
}

#[test]
fn smtplib_sends() {
    send("python3", &letter::eight_bit("smtplib"), |_, port, file| {
        smtplib(port, file, "plain", &[])
    });
}

#[test]
fn smtplib_sends_over_starttls() {
    send("python3", &letter::eight_bit("smtplib-tls"), |_, port, file| {
        smtplib(port, file, "starttls", &[])
    });
}

/// A server for submission where alice may log in with the password «secret».
fn submission(role: &str) -> Gatepost {
    let hash = Gatepost::hash("secret");
    Setup::new()
        .with(&format!("[[user]]\nname = \"alice@example.test\"\npassword = \"{hash}\"\nmay-send-as = [\"@client.example\"]"))
        .listener(role, role)
        .start()
}

#[test]
fn smtplib_submits_after_login_over_starttls_and_over_implicit_tls() {
    if Foreign::need("smtplib submission", "python3").is_none() {
        return;
    }
    for (role, way) in [("submission", "starttls"), ("submissions", "implicit")] {
        let server = submission(role);
        let (file, message) = (server.folder().join("message"), letter::eight_bit(way));
        fs::write(&file, &message).unwrap();
        let port = server.port(role).to_string();
        let path = file.to_string_lossy();
        let arguments = [&port, &*path, way, TO, TO, TO, "secret"];
        python(SMTPLIB, &arguments, server.folder()).expect_success("smtplib");
        let stored = server.wait_mailbox("alice", 1);
        assert_same(&stored[0], &message);
        // RFC 3848: the protocol says that the client was authenticated, and that TLS was used.
        assert!(trace(&stored[0]).contains("with ESMTPSA"), "{}", trace(&stored[0]));
    }
}

#[test]
fn postfix_finds_us_through_an_mx_record() {
    let name = "Postfix as sender";
    let Some(programs) = Foreign::need_all(name, &["dnsmasq", "postfix", "postconf"]) else {
        return;
    };
    if !Foreign::need_root(name) {
        return;
    }
    // Port 25 and port 53 of addresses that only this test process uses.
    let [.., high, low] = std::process::id().to_be_bytes();
    let ours = format!("127.{}.{low}.25", 64 + high % 64);
    let nameserver = format!("127.{}.{low}.53", 64 + high % 64);
    let server = Setup::new().without("listener").listener_at("mx", "mx", &format!("{ours}:25"));
    let server = server.start();
    let zone =
        Zone::default().mx("example.test", 10, "mx.example.test").host("mx.example.test", &ours);
    let _dns = Dns::start_at(&programs[0], &zone, &nameserver, 53, server.folder());
    let address = format!("127.0.0.1:{}", tests::free_port());
    let postfix = Postfix::start(&address, "", Some(&nameserver));

    let message = letter::eight_bit("postfix");
    let mut client = tests::Client::connect(&address).unwrap();
    client.hello("client.example").unwrap();
    let reply = client.transaction(FROM, &[TO], &message).unwrap();
    assert_eq!(reply.code, 250, "{reply}");
    let relayed = format!("relay=mx.example.test[{ours}]:25");
    eventually("Postfix saying that it was sent", || {
        postfix
            .log()
            .lines()
            .any(|l| l.contains(&relayed) && l.contains("status=sent"))
            .then_some(())
    });
    assert_arrived(&server, &message);
    let stored = server.mailbox("alice");
    // Two servers took it, the last on top; Postfix took our STARTTLS offer.
    assert_eq!(trace(&stored[0]).matches("Received: ").count(), 2, "{}", trace(&stored[0]));
    assert!(trace(&stored[0]).contains("with ESMTPS"), "{}", trace(&stored[0]));
}

#[test]
fn postfix_smtp_source_sends_in_parallel() {
    let Some(source) = Foreign::need("smtp-source", "smtp-source") else { return };
    let server = Setup::new().start();
    let address = format!("127.0.0.1:{}", server.port("mx"));
    let arguments = ["-s", "10", "-m", "200", "-l", "5000", "-f", FROM, "-t", TO, &address];
    run(&source.path, arguments).expect_success("smtp-source");
    assert_eq!(server.wait_mailbox("alice", 200).len(), 200);
}
