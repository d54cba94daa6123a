//! How much a mailbox holds, and that others can read what we put into it.

use std::fs;

use tests::dovecot::{Dovecot, QUOTA};
use tests::maildir::{with_crlf, without_trace};
use tests::plugins::guest;
use tests::sink::{Behaviour, Sink};
use tests::{Foreign, Setup, eventually, letter};

use crate::send;

const CAROL: &str = "carol@example.net";

fn small(sink: &Sink, more: &str) -> Setup {
    Setup::new().without("domain").with(&format!(
        "[[domain]]\nname = \"example.test\"\nusers = [\"alice\", \"bob\"]\n\
         deliver = \"maildir:var/mail/{{domain}}/{{user}}\"\nquota = \"10 KiB\"\nquotas = {{ bob = \"1 MiB\" }}\n{more}\n\
         [[route]]\nto = \"*\"\nvia = \"smtp:[127.0.0.1]:{}\"",
        sink.port()
    ))
}

#[test]
fn a_full_mailbox_is_told_at_rcpt() {
    let sink = Sink::start(Behaviour::default());
    let server = small(&sink, "").start();
    let rcpt = |parameters: &str, to: &str| {
        let mut client = server.session();
        client.command(&format!("MAIL FROM:<{CAROL}>{parameters}")).unwrap();
        client.command(&format!("RCPT TO:<{to}>")).unwrap().to_string()
    };
    let alice = "alice@example.test";
    assert!(rcpt(" SIZE=20000", alice).starts_with("552 5.2.2 The message is larger"));
    assert!(rcpt(" SIZE=20000", "bob@example.test").starts_with("250"), "bob has more");
    assert!(rcpt(" SIZE=2000", alice).starts_with("250"));
    assert!(send(&server, CAROL, alice, &letter::large("one", 6000)).starts_with("250"));
    server.wait_mailbox("alice", 1);
    assert!(rcpt(" SIZE=6000", alice).starts_with("452 4.2.2 The mailbox is full"));
    assert!(rcpt(" SIZE=1000", alice).starts_with("250"), "a small one fits");
    let kept = fs::read_to_string(server.maildir("alice").join("maildirsize")).unwrap();
    assert!(kept.starts_with("10240S\n"), "{kept}");
    // Its owner deletes: there is room again.
    for entry in fs::read_dir(server.maildir("alice").join("new")).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    fs::remove_file(server.maildir("alice").join("maildirsize")).unwrap();
    assert!(rcpt(" SIZE=6000", alice).starts_with("250"));
}

#[test]
fn over_lmtp_each_hears_of_its_own_mailbox() {
    let sink = Sink::start(Behaviour::default());
    let server = small(&sink, "").listener("lmtp", "lmtp").start();
    let both = ["alice@example.test", "bob@example.test"];
    // The replies to RCPT, and to the end of data those of who was taken there.
    let handed = |parameters: &str, octets: usize| -> Vec<String> {
        let mut client = server.connect("lmtp");
        client.reply().unwrap();
        client.command("LHLO client.example").unwrap();
        client.command(&format!("MAIL FROM:<{CAROL}>{parameters}")).unwrap();
        let rcpt = both.map(|to| client.command(&format!("RCPT TO:<{to}>")).unwrap());
        assert_eq!(client.command("DATA").unwrap().code, 354);
        client.send(&tests::client::stuffed(&letter::large("lmtp", octets))).unwrap();
        let mut told: Vec<String> = rcpt.iter().map(ToString::to_string).collect();
        let taken = rcpt.iter().filter(|reply| reply.is_positive());
        told.extend(taken.map(|_| client.reply().unwrap().to_string()));
        told
    };
    let check = |told: &[String], expected: &[&str]| {
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told}: {expected}");
        }
    };
    check(&handed("", 20_000), &["250", "250", "552 5.2.2 The message is larger", "250 2.0.0"]);
    check(&handed("", 6000), &["250", "250", "250 2.0.0", "250 2.0.0"]);
    server.wait_mailbox("alice", 1);
    check(&handed("", 6000), &["250", "250", "452 4.2.2 The mailbox is full", "250 2.0.0"]);
    check(&handed(" SIZE=6000", 6000), &["452 4.2.2", "250", "250 2.0.0"]);
    assert_eq!(server.wait_mailbox("bob", 4).len(), 4);
    assert_eq!(server.mailbox("alice").len(), 1);
    assert!(sink.taken().is_empty(), "the client tells whom it wants");
}

#[test]
fn what_did_not_say_its_size_is_told_in_a_report() {
    let sink = Sink::start(Behaviour::default());
    let server = small(&sink, "when-full = \"refuse\"").start();
    let alice = "alice@example.test";
    assert!(send(&server, CAROL, alice, &letter::large("too large", 20_000)).starts_with("250"));
    let report = sink.wait(1).remove(0);
    assert_eq!(report.rcpt, ["RCPT TO:<carol@example.net>"]);
    let text = String::from_utf8_lossy(&report.content).into_owned();
    assert!(text.contains("552 5.2.2 The message is larger"), "{text}");
    for (count, subject) in ["one", "two"].iter().enumerate() {
        assert!(send(&server, CAROL, alice, &letter::large(subject, 6000)).starts_with("250"));
        if count == 0 {
            server.wait_mailbox("alice", 1);
        }
    }
    let text = String::from_utf8_lossy(&sink.wait(2)[1].content).into_owned();
    assert!(text.contains("552 5.2.2 The mailbox is full"), "{text}");
    assert_eq!(server.mailbox("alice").len(), 1);
}

#[test]
fn what_waits_for_room_is_delivered_when_there_is_some() {
    let sink = Sink::start(Behaviour::default());
    let server = small(&sink, "").start();
    let alice = "alice@example.test";
    for subject in ["one", "two"] {
        assert!(send(&server, CAROL, alice, &letter::large(subject, 6000)).starts_with("250"));
    }
    server.wait_mailbox("alice", 1);
    server.wait_log("452 4.2.2", 0);
    for entry in fs::read_dir(server.maildir("alice").join("new")).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    fs::remove_file(server.maildir("alice").join("maildirsize")).unwrap();
    server.wait_mailbox("alice", 1);
}

fn dovecot(name: &str) -> Option<Dovecot> {
    let programs = Foreign::need_all(name, &["dovecot", "python3"])?;
    Foreign::need_root(name).then(|| Dovecot::start(&programs[0]))
}

#[test]
fn dovecot_shows_our_maildirs_by_imap_and_pop3_and_counts_them_alike() {
    let Some(dovecot) = dovecot("Dovecot over our Maildirs") else { return };
    let server = Setup::new()
        .without("domain")
        .with(&format!(
            "[[domain]]\nname = \"example.test\"\nusers = [\"alice\"]\nquota = {QUOTA}\n\
             deliver = \"maildir:{}/{{user}}\"",
            dovecot.mail().display()
        ))
        .start();
    let messages = [letter::eight_bit("one"), letter::large("two", 300_000)];
    let new = dovecot.mail().join("alice/new");
    for (count, message) in messages.iter().enumerate() {
        assert!(send(&server, CAROL, "alice@example.test", message).starts_with("250"));
        eventually("a message in the Maildir", || {
            (fs::read_dir(&new).ok()?.count() > count).then_some(())
        });
    }
    dovecot.own();
    let stored = |shown: Vec<Vec<u8>>| -> Vec<Vec<u8>> {
        shown.iter().map(|one| with_crlf(without_trace(one))).collect()
    };
    assert_eq!(stored(dovecot.imap("alice", "INBOX")), messages);
    assert_eq!(stored(dovecot.pop3("alice")), messages);
    let octets: u64 = fs::read_to_string(dovecot.mail().join("alice/maildirsize"))
        .unwrap()
        .lines()
        .skip(1)
        .map(|line| line.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    let (used, all) = dovecot.quota("alice");
    assert_eq!((used, all), (octets.div_ceil(1024), QUOTA / 1024));
}

#[test]
fn dovecot_shows_a_folder_that_a_plugin_chose() {
    let Some(dovecot) = dovecot("Dovecot over a folder of ours") else { return };
    let component = guest();
    let server = Setup::new()
        .without("domain")
        .with(&format!(
            "[[domain]]\nname = \"example.test\"\nusers = [\"alice\"]\ndeliver = \"maildir:{}/{{user}}\"\n\
             [[plugin]]\nname = \"guest\"\ncomponent = {component:?}\n[plugin.config.act]\ndeliver = \"file\"",
            dovecot.mail().display()
        ))
        .start();
    let message = letter::plain("filed");
    assert!(send(&server, CAROL, "alice@example.test", &message).starts_with("250"));
    // `Lists/wasm`, as the plugin says it.
    let folder = dovecot.mail().join("alice/.Lists.wasm/new");
    eventually("a message in the folder", || fs::read_dir(&folder).ok()?.next().map(drop));
    dovecot.own();
    let shown = dovecot.imap("alice", "Lists.wasm");
    assert_eq!(with_crlf(without_trace(&shown[0])), message);
    assert!(dovecot.imap("alice", "INBOX").is_empty());
}

#[test]
fn dovecots_quota_is_told_for_the_one_whom_it_concerns() {
    let Some(dovecot) = dovecot("quota of Dovecot") else { return };
    let sink = Sink::start(Behaviour::default());
    let routes = [
        format!("lmtp:127.0.0.1:{}", dovecot.lmtp_port()),
        format!("lmtp:{}", dovecot.lmtp_socket().display()),
    ];
    // Half of a mailbox and more.
    let large = usize::try_from(QUOTA).unwrap() * 6 / 10;
    for ((full, other), route) in [("alice", "bob"), ("dan", "erin")].iter().zip(routes) {
        let server = Setup::new()
            .without("domain")
            .with(&format!(
                "[[domain]]\nname = \"example.test\"\nusers = [\"{full}\", \"{other}\"]\ndeliver = \"{route}\"\n\
                 [[route]]\nto = \"*\"\nvia = \"smtp:[127.0.0.1]:{}\"",
                sink.port()
            ))
            .start();
        let (full_one, other_one) =
            (format!("{full}@example.test"), format!("{other}@example.test"));
        assert!(send(&server, CAROL, &full_one, &letter::large("one", large)).starts_with("250"));
        eventually("the first message", || (dovecot.imap(full, "INBOX").len() == 1).then_some(()));
        let before = sink.taken().len();
        let both = [full_one.as_str(), other_one.as_str()];
        let two = letter::large("two", large);
        assert_eq!(server.session().transaction(CAROL, &both, &two).unwrap().code, 250);
        // One hears of it, the other has it.
        eventually("the second message", || {
            (dovecot.imap(other, "INBOX").len() == 1).then_some(())
        });
        let report = sink.wait(before + 1).remove(before);
        let text = String::from_utf8_lossy(&report.content).into_owned();
        assert!(text.contains("552 5.2.2") && text.contains(&full_one), "{text}");
        assert!(!text.contains(&format!("Final-Recipient: rfc822;{other_one}")), "{text}");
        assert_eq!(dovecot.imap(full, "INBOX").len(), 1);
    }
}
