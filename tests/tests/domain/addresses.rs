//! Aliases, lists, catch-alls and details, from files that change while the server runs.

use std::fs;

use tests::maildir::header;
use tests::sink::{Behaviour, Sink};
use tests::{Gatepost, Setup, eventually, letter};

use crate::{add_user, send};

fn write(server: &Gatepost, name: &str, text: &str) {
    let before = server.log().matches("a new plugin set is live").count();
    fs::write(server.folder().join(name), text).unwrap();
    server.wait_log("a new plugin set is live", before);
}

/// A server in whose folder these files are before it starts.
fn start_with(setup: Setup, files: &[(&str, &str)]) -> Gatepost {
    let folder = tempfile::Builder::new().prefix("gatepost-").tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    Gatepost::start_in(folder, setup, &[])
}

fn domain(sink: &Sink, more: &str) -> Setup {
    Setup::new().without("domain").with(&format!(
        "[[domain]]\nname = \"example.test\"\nusers = [\"alice\", \"bob\"]\nsubaddress = \"+\"\n\
         deliver = \"maildir:var/mail/{{domain}}/{{user}}\"\n{more}\n\
         [[route]]\nto = \"*\"\nvia = \"smtp:[127.0.0.1]:{}\"",
        sink.port()
    ))
}

#[test]
fn aliases_in_a_file_change_in_the_running_server() {
    let sink = Sink::start(Behaviour::default());
    let setup = domain(&sink, "alias-file = \"aliases\"");
    let server = start_with(setup, &[("aliases", "info: alice, bob\nboss: info # nested\n")]);
    let to = |address: &str| send(&server, "carol@example.net", address, &letter::plain("x"));
    assert!(to("INFO@example.test").starts_with("250"));
    assert!(to("boss+urgent@example.test").starts_with("250"));
    server.wait_mailbox("alice", 2);
    server.wait_mailbox("bob", 2);
    assert!(to("sales@example.test").starts_with("550 5.1.1"));
    write(&server, "aliases", "sales: alice\n");
    assert!(to("sales@example.test").starts_with("250"));
    assert!(to("info@example.test").starts_with("550 5.1.1"), "it is gone");
    server.wait_mailbox("alice", 3);
    // A file with a fault changes nothing.
    fs::write(server.folder().join("aliases"), "sales alice\n").unwrap();
    server.wait_log("aliases:1: write this as", 0);
    assert!(to("sales@example.test").starts_with("250"));
    server.wait_mailbox("alice", 4);
}

#[test]
fn a_list_sends_from_its_owner_to_its_members() {
    let behaviour = Behaviour {
        script: std::sync::Arc::new(|line, _| {
            line.starts_with("RCPT TO:<gone@far.test>").then(|| "550 5.1.1 Gone".to_owned())
        }),
        ..Behaviour::default()
    };
    let sink = Sink::start(behaviour);
    let list = "[[list]]\naddress = \"team@example.test\"\nowner = \"alice@example.test\"\nmember-file = \"team\"";
    let setup = domain(&sink, list);
    let server = start_with(setup, &[("team", "bob\ndave@far.test\n")]);
    let content = letter::plain("list");
    assert!(send(&server, "carol@example.net", "team@example.test", &content).starts_with("250"));
    let here = server.wait_mailbox("bob", 1).remove(0);
    assert!(
        here.starts_with(b"Return-Path: <alice@example.test>"),
        "{}",
        String::from_utf8_lossy(&here)
    );
    assert_eq!(header(&here, "List-Id"), ["<team.example.test>"]);
    let there = sink.wait(1).remove(0);
    assert!(there.mail.starts_with("MAIL FROM:<alice@example.test>"), "{}", there.mail);
    assert_eq!(there.rcpt, ["RCPT TO:<dave@far.test>"]);
    // Who wrote hears nothing of members who are gone; the owner does.
    write(&server, "team", "gone@far.test\n");
    assert!(send(&server, "carol@example.net", "Team@example.test", &content).starts_with("250"));
    let report = server.wait_mailbox("alice", 1).remove(0);
    assert!(String::from_utf8_lossy(&report).contains("550 5.1.1 Gone"));
    assert_eq!(sink.taken().len(), 1, "nothing went to the one who wrote");
    // A list that is its own member ends.
    write(&server, "team", "team@example.test\nbob\n");
    assert!(send(&server, "carol@example.net", "team@example.test", &content).starts_with("250"));
    server.wait_mailbox("bob", 2);
    eventually("an empty queue", || server.queue(&["list"]).as_array()?.is_empty().then_some(()));
    let told = server.wait_mailbox("alice", 2);
    assert!(told.iter().any(|one| String::from_utf8_lossy(one).contains("5.4.6")));
}

#[test]
fn one_who_can_log_in_has_a_mailbox_at_once() {
    let sink = Sink::start(Behaviour::default());
    let setup = domain(&sink, "logins-have-mailboxes = true\ncatch-all = \"bob@example.test\"");
    let server = setup.start();
    let to = |address: &str| send(&server, "carol@example.net", address, &letter::plain("x"));
    assert!(to("ann@example.test").starts_with("250"));
    server.wait_mailbox("bob", 1);
    add_user(&server, "ann@example.test", "secret");
    server.wait_log("a new plugin set is live", 0);
    assert!(to("Ann+list@example.test").starts_with("250"));
    server.wait_mailbox("ann", 1);
    assert_eq!(server.mailbox("bob").len(), 1);
}

#[test]
fn an_alias_of_itself_is_told_to_the_sender() {
    let sink = Sink::start(Behaviour::default());
    let server = start_with(
        domain(&sink, "alias-file = \"aliases\""),
        &[("aliases", "a: b\nb: a\nempty:\n")],
    );
    for (count, alias) in ["a@example.test", "empty@example.test"].iter().enumerate() {
        assert!(send(&server, "carol@example.net", alias, &letter::plain("x")).starts_with("250"));
        let report = sink.wait(count + 1).remove(count);
        let text = String::from_utf8_lossy(&report.content).into_owned();
        assert!(text.contains("5.4.6") || text.contains("5.2.4"), "{alias}: {text}");
    }
}

#[test]
fn plugins_look_recipients_and_routes_up_in_tables_that_change() {
    let sink = Sink::start(Behaviour::default());
    let elsewhere = Sink::start(Behaviour::default());
    let setup = domain(
        &sink,
        "[[table]]\nname = \"people\"\nfile = \"people\"\nkind = \"address\"\n\
         [[table]]\nname = \"roads\"\nfile = \"roads\"\nkind = \"address\"\n\
         [[plugin]]\nname = \"rewrite\"\ncomponent = \"bundled:rewrite\"\n\
         grants = { edit = [\"recipients\", \"route\"], lookup = [\"people\", \"roads\"] }\n\
         [plugin.config]\nrecipient-table = \"people\"\nroute-table = \"roads\"",
    );
    let road = format!("dave@far.test smtp:[127.0.0.1]:{}\n", elsewhere.port());
    let people = "hello@example.test alice@example.test\nout@example.test dave@far.test\n";
    let server = start_with(setup, &[("people", people), ("roads", &road)]);
    let to = |address: &str| send(&server, "carol@example.net", address, &letter::plain("x"));
    assert!(to("hello@example.test").starts_with("250"), "known to the table alone");
    server.wait_mailbox("alice", 1);
    assert!(to("out@example.test").starts_with("250"));
    let there = elsewhere.wait(1).remove(0);
    assert_eq!(there.rcpt, ["RCPT TO:<dave@far.test>"]);
    assert!(there.mail.contains("SRS0="), "a plugin forwards as an alias does: {}", there.mail);
    write(&server, "people", "hello@example.test bob@example.test\n");
    assert!(to("hello@example.test").starts_with("250"));
    server.wait_mailbox("bob", 1);
    assert!(to("out@example.test").starts_with("550 5.1.1"));
}
