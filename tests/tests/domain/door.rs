//! What is held against abuse at the door.

use std::time::{Duration, Instant};

use tests::sink::{Behaviour, Sink};
use tests::{Client, Gatepost, Setup, eventually, letter};

use crate::{add_user, behind_a_balancer, from, login};

const ALICE: &str = "alice@example.test";

fn say(client: &mut Client, line: &str, expected: &str) {
    let told = client.command(line).unwrap().to_string();
    assert!(told.starts_with(expected), "{line}: {told}");
}

/// The classic ways to make a server relay that should not: none of them leaves the house.
const TRICKS: &[(&str, &str)] = &[
    ("<eve@far.test>", "550 5.7.1"),
    ("<\"eve@far.test\">", "501 5.1.3"),
    ("<\"eve@far.test\"@example.test>", "550 5.1.1"),
    ("<\"eve%far.test\"@example.test>", "550 5.1.1"),
    ("<\"eve\"@far.test>", "550 5.7.1"),
    ("<eve%far.test@example.test>", "550 5.1.1"),
    ("<eve%far.test%example.test@example.test>", "550 5.1.1"),
    ("<eve%far.test@[127.0.0.1]>", "550 5.7.1"),
    ("<eve%far.test>", "501 5.1.3"),
    ("<@example.test:eve@far.test>", "550 5.7.1"),
    ("<@example.test,@mx.example.test:eve@far.test>", "550 5.7.1"),
    ("<@[127.0.0.1]:eve@far.test>", "501 5.1.3"), // RFC 5321 §4.1.2: a route names domains
    ("<@far.test:alice@example.test>", "250 2.1.5"), // the route is stripped, and alice is ours
    ("<far.test!eve@example.test>", "550 5.1.1"),
    ("<far.test!eve>", "501 5.1.3"),
    ("<example.test!far.test!eve@mx.example.test>", "550 5.7.1"),
    ("<eve@far.test@example.test>", "501 5.1.3"),
    ("<eve@far.test@>", "501 5.1.3"),
    ("<eve@[127.0.0.1]>", "550 5.7.1"),
    ("<eve@[IPv6:::1]>", "550 5.7.1"),
    ("<eve@localhost>", "550 5.7.1"),
    ("<eve@example.test.far.test>", "550 5.7.1"),
    ("<eve@far.test.>", "5"),
    ("eve@far.test", "5"),
    ("<alice+eve%far.test@example.test>", "250 2.1.5"), // a detail, whatever it looks like
    ("<\"alice+@far.test\"@example.test>", "250 2.1.5"),
];

/// Reverse-paths that look as if the mail were our own.
const SENDERS: &[&str] = &[
    "<>",
    "<alice@example.test>",
    "<postmaster@mx.example.test>",
    "<eve@localhost>",
    "<eve@[127.0.0.1]>",
    "<@example.test:eve@client.example>",
    "<\"alice@example.test\"@client.example>",
];

#[test]
fn no_trick_makes_a_relay_of_it() {
    let sink = Sink::start(Behaviour::default());
    let server = Setup::new()
        .without("domain")
        .with(&format!(
            "[[domain]]\nname = \"example.test\"\nusers = [\"alice\", \"bob\"]\nsubaddress = \"+\"\n\
             deliver = \"maildir:var/mail/{{domain}}/{{user}}\"\n\
             [[route]]\nto = \"*\"\nvia = \"smtp:[127.0.0.1]:{}\"\n[limits]\nerrors = 1000",
            sink.port()
        ))
        .start();
    let mut accepted = 0;
    for sender in SENDERS {
        let mut client = server.session();
        for (path, expected) in TRICKS {
            say(&mut client, &format!("MAIL FROM:{sender}"), "250");
            say(&mut client, &format!("RCPT TO:{path}"), expected);
            if expected.starts_with("250") {
                say(&mut client, "DATA", "354");
                client.send(b"Subject: x\r\n\r\ntext\r\n.\r\n").unwrap();
                assert_eq!(client.reply().unwrap().code, 250);
                accepted += 1;
            } else {
                say(&mut client, "RSET", "250");
            }
        }
    }
    server.wait_mailbox("alice", accepted);
    eventually("an empty queue", || server.queue(&["list"]).as_array()?.is_empty().then_some(()));
    assert!(sink.taken().is_empty(), "nothing was relayed");
}

#[test]
fn a_catch_all_catches_tricks_too() {
    let sink = Sink::start(Behaviour::default());
    let server = Setup::new()
        .without("domain")
        .with(&format!(
            "[[domain]]\nname = \"example.test\"\nusers = [\"bob\"]\ncatch-all = \"bob@example.test\"\n\
             deliver = \"maildir:var/mail/{{domain}}/{{user}}\"\n\
             [[route]]\nto = \"*\"\nvia = \"smtp:[127.0.0.1]:{}\"",
            sink.port()
        ))
        .start();
    let paths =
        ["eve%far.test@example.test", "\"eve@far.test\"@example.test", "far.test!eve@example.test"];
    for path in paths {
        assert!(crate::send(&server, "", path, &letter::plain("x")).starts_with("250"));
    }
    assert_eq!(server.wait_mailbox("bob", 3).len(), 3);
    assert!(sink.taken().is_empty());
}

#[test]
fn who_speaks_before_the_greeting_is_sent_away() {
    let server = behind_a_balancer("mx").with("[door]\ngreeting-delay = \"500ms\"").start();
    let mut early = from(&server, "mx", "192.0.2.1");
    early.send(b"EHLO client.example\r\nMAIL FROM:<eve@client.example>\r\n").unwrap();
    assert!(early.reply().unwrap().to_string().starts_with("554 5.5.1"));
    assert!(early.closed_within(Duration::from_secs(20)));
    let begun = Instant::now();
    let mut patient = from(&server, "mx", "192.0.2.1");
    assert_eq!(patient.hello("client.example").unwrap().code, 250);
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[test]
fn errors_make_a_session_slow_and_junk_ends_it() {
    let server = behind_a_balancer("mx")
        .with("[door]\ngreeting-delay = \"0s\"\ntarpit-after = 3\ntarpit = \"400ms\"\n[limits]\nerrors = 6\ncommands = 4")
        .start();
    let mut client = from(&server, "mx", "192.0.2.1");
    client.hello("client.example").unwrap();
    say(&mut client, "MAIL FROM:<eve@client.example>", "250");
    for _ in 0..3 {
        say(&mut client, "RCPT TO:<nobody@example.test>", "550");
    }
    let begun = Instant::now();
    say(&mut client, "RCPT TO:<nobody@example.test>", "550");
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    for _ in 0..6 {
        say(&mut client, "NONSENSE", "500 5.5.");
    }
    say(&mut client, "NONSENSE", "421 4.7.0");
    assert!(client.closed_within(Duration::from_secs(20)));
    let mut client = from(&server, "mx", "192.0.2.1");
    client.hello("client.example").unwrap();
    let ended = (0..10).find(|_| client.command("NOOP").unwrap().code == 421);
    assert!(ended.is_some_and(|count| count >= 3), "{ended:?}");
    assert!(client.closed_within(Duration::from_secs(20)));
}

#[test]
fn strangers_send_only_so_much_in_an_hour() {
    let server = behind_a_balancer("mx")
        .with("[door]\ngreeting-delay = \"0s\"\nmessages-per-address = 2\nmessages-per-network = 3\nrecipients-per-address = 3")
        .start();
    let session = |address: &str| {
        let mut client = from(&server, "mx", address);
        client.hello("client.example").unwrap();
        client
    };
    let mail = |address: &str, expected: &str| {
        say(&mut session(address), "MAIL FROM:<eve@client.example>", expected);
    };
    mail("192.0.2.1", "250");
    mail("192.0.2.1", "250");
    mail("192.0.2.1", "450 4.7.1 Too many messages from your address");
    mail("192.0.2.2", "250");
    mail("192.0.2.2", "450 4.7.1 Too many messages from your network");
    let mut client = session("198.51.100.1");
    say(&mut client, "MAIL FROM:<eve@client.example>", "250");
    for _ in 0..3 {
        say(&mut client, "RCPT TO:<alice@example.test>", "250");
    }
    say(&mut client, "RCPT TO:<alice@example.test>", "450 4.7.1 Too many recipients");
}

#[test]
fn networks_have_only_so_many_sessions() {
    let server = behind_a_balancer("mx")
        .with("[door]\ngreeting-delay = \"0s\"\n[limits]\nconnections-per-address = 2\nconnections-per-network = 3")
        .start();
    let mut open = Vec::new();
    let mut connect = |address: &str, expected: &str| {
        let mut client = from(&server, "mx", address);
        let told = client.reply().unwrap().to_string();
        assert!(told.starts_with(expected), "{address}: {told}");
        open.push(client);
    };
    connect("192.0.2.1", "220");
    connect("192.0.2.1", "220");
    connect("192.0.2.1", "421 4.7.0 Too many connections from your address");
    connect("192.0.2.2", "220");
    connect("192.0.2.3", "421 4.7.0 Too many connections from your network");
    connect("198.51.100.1", "220");
}

fn with_alice(setup: Setup) -> Gatepost {
    let server = setup.start();
    add_user(&server, ALICE, "secret");
    server.wait_log("a new plugin set is live", 0);
    server
}

#[test]
fn a_user_sends_only_so_much_in_an_hour_and_in_so_many_sessions() {
    let server = with_alice(
        behind_a_balancer("submission")
            .with("[door]\nmessages-per-user = 2\nrecipients-per-user = 3\nsessions-per-user = 2"),
    );
    let enter = |address: &str| login(from(&server, "submission", address), ALICE, "secret");
    // From wherever it comes.
    let (mut one, told) = enter("192.0.2.1");
    assert!(told.starts_with("235"), "{told}");
    let (mut two, told) = enter("198.51.100.1");
    assert!(told.starts_with("235"), "{told}");
    let (_, told) = enter("203.0.113.1");
    assert!(told.starts_with("454 4.7.0 You are logged in too many times"), "{told}");
    say(&mut one, "MAIL FROM:<alice@example.test>", "250");
    say(&mut one, "RCPT TO:<bob@example.test>", "250");
    say(&mut one, "RCPT TO:<bob+1@example.test>", "550"); // it counts, too
    say(&mut two, "MAIL FROM:<alice@example.test>", "250");
    say(&mut two, "RCPT TO:<bob@example.test>", "250");
    say(&mut two, "RCPT TO:<bob@example.test>", "450 4.7.1 Too many recipients");
    say(&mut two, "RSET", "250");
    say(&mut two, "MAIL FROM:<alice@example.test>", "450 4.7.1 You have sent too many messages");
    drop(one);
    eventually("a place for another session", || {
        enter("203.0.113.1").1.starts_with("235").then_some(())
    });
}

#[test]
fn wrong_passwords_count_for_the_address_the_network_and_the_user() {
    let server = with_alice(behind_a_balancer("submission").with(
        "[logins]\nfailures-per-address = 2\nfailures-per-network = 3\nfailures-per-user = 5",
    ));
    let check = |address: &str, name: &str, password: &str, expected: &str| {
        let (_, told) = login(from(&server, "submission", address), name, password);
        assert!(told.starts_with(expected), "{address} {name} {password}: {told}");
    };
    // The address: two failures, whoever was tried, known or not.
    check("192.0.2.1", "nobody@example.test", "guess", "535 5.7.8");
    check("192.0.2.1", "other@example.test", "guess", "535 5.7.8");
    check("192.0.2.1", ALICE, "secret", "454 4.7.0 Too many failed logins");
    // Its network: a third.
    check("192.0.2.2", "more@example.test", "guess", "535 5.7.8");
    check("192.0.2.3", ALICE, "secret", "454 4.7.0 Too many failed logins");
    // The user, from five networks.
    for network in 1..=5 {
        check(&format!("10.0.{network}.1"), ALICE, "guess", "535 5.7.8");
    }
    check("203.0.113.1", ALICE, "secret", "454 4.7.0 Too many failed logins");
    // An unknown name is counted and told the same.
    for network in 1..=5 {
        check(&format!("10.1.{network}.1"), "ghost@example.test", "guess", "535 5.7.8");
    }
    check("203.0.113.1", "ghost@example.test", "guess", "454 4.7.0 Too many failed logins");
}

#[test]
fn a_restart_gives_nobody_a_fresh_hour() {
    let mut server = with_alice(
        behind_a_balancer("submission").listener_with("mx", "proxy-from = [\"127.0.0.1/32\"]").with(
            "[door]\ngreeting-delay = \"0s\"\nmessages-per-address = 2\nmessages-per-network = 3\n\
             messages-per-user = 2\n[logins]\nfailures-per-address = 2",
        ),
    );
    let mail = |server: &Gatepost, address: &str, expected: &str| {
        let mut client = from(server, "mx", address);
        client.hello("client.example").unwrap();
        say(&mut client, "MAIL FROM:<eve@client.example>", expected);
    };
    let write = |server: &Gatepost, expected: &str| {
        let (mut client, told) = login(from(server, "submission", "198.51.100.1"), ALICE, "secret");
        assert!(told.starts_with("235"), "{told}");
        say(&mut client, "MAIL FROM:<alice@example.test>", expected);
    };
    let guess = |server: &Gatepost, password: &str, expected: &str| {
        let (_, told) = login(from(server, "submission", "203.0.113.1"), ALICE, password);
        assert!(told.starts_with(expected), "{told}");
    };
    for address in ["192.0.2.1", "192.0.2.1", "192.0.2.2"] {
        mail(&server, address, "250");
    }
    for _ in 0..2 {
        write(&server, "250");
        guess(&server, "guess", "535");
    }
    let all_is_used_up = |server: &Gatepost| {
        mail(server, "192.0.2.1", "450 4.7.1 Too many messages from your address");
        mail(server, "192.0.2.3", "450 4.7.1 Too many messages from your network");
        write(server, "450 4.7.1 You have sent too many messages");
        guess(server, "secret", "454 4.7.0 Too many failed logins");
    };
    all_is_used_up(&server);

    // A stop in order writes everything.
    server.terminate();
    server.wait_end();
    server.restart();
    all_is_used_up(&server);

    // A crash loses a few seconds at most; a line that is spoiled costs that line.
    let file = server.folder().join("var/counts");
    for _ in 0..2 {
        mail(&server, "10.0.0.1", "250");
    }
    let kept = eventually("what was counted last", || {
        let text = std::fs::read_to_string(&file).ok()?;
        let is_it = |line: &str| line.starts_with("address 10.0.0.1 ") && line.ends_with(" 2 0");
        text.lines().any(is_it).then_some(text)
    });
    server.kill();
    std::fs::write(&file, format!("{kept}address 10.0.0.1\n")).unwrap();
    server.restart();
    server.wait_log("some counts cannot be read", 0);
    all_is_used_up(&server);
    mail(&server, "10.0.0.1", "450 4.7.1 Too many messages from your address");
    mail(&server, "10.0.1.1", "250");
}
