//! Users: added, changed and removed in the running server; SCRAM by clients of others; Dovecot's users; and
//! whose addresses a user may send as.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tests::dovecot::Dovecot;
use tests::process::{Finished, finish};
use tests::server::program;
use tests::sink::{Behaviour, Sink};
use tests::{Client, Foreign, Gatepost, Setup, eventually};

const ALICE: &str = "alice@example.test";

fn submission() -> Setup {
    Setup::new().listener("submission", "submission").with("[relay]\nfrom = []")
}

/// `gatepost user …` with a password on standard input.
fn user(server: &Gatepost, arguments: &[&str], password: &str) -> Finished {
    let mut command = Command::new(program());
    command.arg("user").args(arguments).args(["--config", "gatepost.toml"]);
    let mut child = command
        .current_dir(server.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    Finished { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// A session in TLS, and what AUTH PLAIN was answered in it.
fn login(server: &Gatepost, name: &str, password: &str) -> (Client, u16) {
    let mut client = server.connect("submission");
    client.hello("client.example").unwrap();
    client.secure("client.example").unwrap();
    let response = STANDARD.encode(format!("\0{name}\0{password}"));
    let code = client.command(&format!("AUTH PLAIN {response}")).unwrap().code;
    (client, code)
}

#[test]
fn users_come_and_go_in_the_running_server() {
    let server = submission().start();
    assert_eq!(login(&server, ALICE, "first").1, 502, "nobody can log in yet");
    user(&server, &["add", ALICE, "--may-send-as", "@example.org"], "first").expect_success("add");
    eventually("a user who can log in", || (login(&server, ALICE, "first").1 == 235).then_some(()));
    let listed = user(&server, &["list"], "").expect_success("list").stdout;
    assert!(listed.contains(ALICE) && listed.contains("SCRAM"), "{listed}");
    let twice = user(&server, &["add", ALICE], "other");
    assert!(!twice.status.success() && twice.stderr.contains("passwd"), "{}", twice.stderr);

    user(&server, &["passwd", ALICE], "second").expect_success("passwd");
    eventually("the new password", || (login(&server, ALICE, "second").1 == 235).then_some(()));
    assert_eq!(login(&server, ALICE, "first").1, 535);

    user(&server, &["remove", ALICE], "").expect_success("remove");
    eventually("a user who is gone", || (login(&server, ALICE, "second").1 != 235).then_some(()));
    let missing = user(&server, &["passwd", ALICE], "x");
    assert!(!missing.status.success() && missing.stderr.contains(ALICE), "{}", missing.stderr);
}

#[test]
fn a_hash_of_another_server_is_taken_over() {
    let server = submission().start();
    let hash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    user(&server, &["add", ALICE, "--hash", hash], "").expect_success("add");
    eventually("the user", || (login(&server, ALICE, "U*U").1 == 235).then_some(()));
    let wrong = user(&server, &["add", "bob@example.test", "--hash", "secret"], "");
    assert!(!wrong.status.success() && wrong.stderr.contains("argon2"), "{}", wrong.stderr);
}

#[test]
fn a_user_sends_as_itself_its_aliases_and_what_it_was_given() {
    let setup = submission().without("domain").with(
        "[[domain]]
         name = \"example.test\"
         users = [\"alice\", \"bob\"]
         aliases = { sales = [\"alice@example.test\"] }
         subaddress = \"+\"
         deliver = \"maildir:var/mail/{domain}/{user}\"",
    );
    let server = setup.start();
    user(&server, &["add", ALICE, "--may-send-as", "@example.org"], "secret").expect_success("add");
    eventually("the user", || (login(&server, ALICE, "secret").1 == 235).then_some(()));
    let send = |envelope: &str, header: &str| -> String {
        let (mut client, _) = login(&server, ALICE, "secret");
        let content = format!("{header}\r\nSubject: x\r\n\r\ntext\r\n");
        let reply = client.transaction(envelope, &["bob@example.test"], content.as_bytes());
        reply.unwrap().to_string()
    };
    let check = |envelope: &str, header: &str, expected: &str| {
        let told = send(envelope, header);
        assert!(told.starts_with(expected), "{envelope} {header}: {told}");
    };
    check(ALICE, "From: Alice <alice@example.test>", "250");
    check("alice+news@example.test", "From: sales@example.test", "250");
    check("press@example.org", "From: press@example.org", "250");
    check("bob@example.test", "From: alice@example.test", "550 5.7.1");
    check(ALICE, "From: bob@example.test", "550 5.7.1");
    check(ALICE, "From: alice@example.test\r\nFrom: bob@example.test", "554 5.6.0");
    check("", "From: alice@example.test", "250");
    assert_eq!(server.wait_mailbox("bob", 4).len(), 4);
}

#[test]
fn wrong_passwords_close_the_door_before_the_right_one() {
    let setup = submission().with("[logins]\nfailures-per-address = 3");
    let server = setup.start();
    user(&server, &["add", ALICE], "secret").expect_success("add");
    eventually("the user", || (login(&server, ALICE, "secret").1 == 235).then_some(()));
    for _ in 0..3 {
        assert_eq!(login(&server, ALICE, "guess").1, 535);
    }
    assert_eq!(login(&server, ALICE, "secret").1, 454, "not looked at any more");
}

#[test]
fn msmtp_logs_in_by_scram() {
    let Some(msmtp) = Foreign::need("msmtp by SCRAM", "msmtp") else { return };
    let server = submission().start();
    user(&server, &["add", ALICE], "correct horse").expect_success("add");
    eventually("the user", || (login(&server, ALICE, "correct horse").1 == 235).then_some(()));
    let send = |password: &str| {
        let file = server.folder().join("msmtprc");
        let port = server.port("submission");
        let settings = format!(
            "account default\nhost 127.0.0.1\nport {port}\nfrom {ALICE}\nauth scram-sha-256\nuser {ALICE}\n\
             password \"{password}\"\ntls on\ntls_starttls on\ntls_certcheck off\ndomain client.example\n"
        );
        fs::write(&file, settings).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let message = server.folder().join("message");
        fs::write(&message, "From: alice@example.test\nSubject: scram\n\ntext\n").unwrap();
        let mut command = Command::new(&msmtp.path);
        command.arg("--file").arg(&file).arg("bob@example.test");
        finish(command.stdin(fs::File::open(&message).unwrap()))
    };
    let sent = send("correct horse");
    assert!(sent.status.success(), "{}\n{}", sent.stderr, server.log());
    assert_eq!(server.wait_mailbox("bob", 1).len(), 1);
    let log = server.log();
    assert!(log.contains("SCRAM-SHA-256"), "{log}");
    assert!(!send("wrong horse").status.success());
}

/// GNU SASL binds SCRAM to the connection by tls-exporter (RFC 9266); both sides show that they know the password.
#[test]
fn gsasl_logs_in_bound_to_the_connection() {
    let Some(gsasl) = Foreign::need("gsasl by SCRAM-SHA-256-PLUS", "gsasl") else { return };
    let server = submission().start();
    user(&server, &["add", ALICE], "correct horse").expect_success("add");
    eventually("the user", || (login(&server, ALICE, "correct horse").1 == 235).then_some(()));
    let log_in = |mechanism: &str, password: &str| {
        let mut command = Command::new(&gsasl.path);
        command.args(["--smtp", "--service=smtp", "--hostname=localhost", "--authorization-id="]);
        command.arg(format!("--connect=localhost:{}", server.port("submission")));
        command.arg(format!("--authentication-id={ALICE}"));
        command.arg(format!("--mechanism={mechanism}")).arg(format!("--password={password}"));
        command.arg("--x509-ca-file=var/tls/cert.pem").current_dir(server.folder());
        finish(command.stdin(Stdio::null()))
    };
    for mechanism in ["SCRAM-SHA-256-PLUS", "PLAIN", "LOGIN"] {
        log_in(mechanism, "correct horse").expect_success(mechanism);
        let wrong = log_in(mechanism, "wrong horse");
        assert!(!wrong.status.success() && wrong.stdout.contains("535 5.7.8"), "{}", wrong.stdout);
    }
    let bound = "logged in identity=\"alice@example.test\" mechanism=\"SCRAM-SHA-256-PLUS\"";
    server.wait_log(bound, 0);
}

#[test]
fn dovecots_users_log_in_here() {
    if !Foreign::need_root("users of Dovecot") {
        return;
    }
    let Some(found) = Foreign::need("users of Dovecot", "dovecot") else { return };
    let dovecot = Dovecot::start(&found);
    let socket = dovecot.auth_socket();
    let server = submission().with(&format!("[logins]\ndovecot = {socket:?}")).start();
    // Its passdb knows everybody, with one password.
    assert_eq!(login(&server, "bob@example.test", "secret").1, 235);
    assert_eq!(login(&server, "bob@example.test", "wrong").1, 535);
    user(&server, &["add", ALICE], "own").expect_success("add");
    eventually("a user of our own", || (login(&server, ALICE, "own").1 == 235).then_some(()));
    assert_eq!(login(&server, ALICE, "secret").1, 535, "our own users are ours alone");
}

#[test]
fn domains_and_routes_change_in_the_running_server() {
    let sink = Sink::start(Behaviour::default());
    let mut server = Setup::new().start();
    let rcpt = |server: &Gatepost, to: &str| {
        let mut client = server.session();
        client
            .transaction("sender@client.example", &[to], b"Subject: x\r\n\r\ntext\r\n")
            .unwrap()
            .code
    };
    assert_eq!(rcpt(&server, "ann@second.test"), 550, "not our domain");
    let before = server.log().matches("a new plugin set is live").count();
    let more = format!(
        "[[domain]]\nname = \"second.test\"\nusers = [\"ann\"]\naliases = {{ far = [\"x@far.test\"] }}\n\
         deliver = \"maildir:var/mail/{{domain}}/{{user}}\"\n\
         [[route]]\nto = \"far.test\"\nvia = \"smtp:[127.0.0.1]:{}\"",
        sink.port()
    );
    let setup = server.setup().clone().with(&more);
    server.reconfigure(setup);
    server.wait_log("a new plugin set is live", before);
    assert_eq!(rcpt(&server, "ann@second.test"), 250);
    assert_eq!(rcpt(&server, "far@second.test"), 250);
    let folder = server.folder().join("var/mail/second.test/ann/new");
    eventually("the mail of the new domain", || {
        fs::read_dir(&folder).ok().and_then(|mut files| files.next()).map(drop)
    });
    assert_eq!(sink.wait(1)[0].rcpt, ["RCPT TO:<x@far.test>"]);
    assert_eq!(rcpt(&server, "alice@example.test"), 250, "the first domain is still ours");
}
