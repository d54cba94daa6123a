//! Behind the queue: what plugins say at `route` and `outcome` is carried out, and hosts are called as they like it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::plugins::signpost;
use tests::sink::{Behaviour, Sink};
use tests::{Gatepost, Setup, eventually, letter};

const SENDER: &str = "bob@example.test";

/// Takes everything but what is for recipients whose name is a refusal.
fn picky(line: &str, _: usize) -> Option<String> {
    let later = line.contains("<later-").then(|| "450 4.2.1 Not yet".to_owned());
    later.or_else(|| line.contains("<never-").then(|| "550 5.1.1 No such person".to_owned()))
}

/// A server with the plugin; what is not said goes to `sink`.
fn start(folder: &std::path::Path, sink: &Sink, rules: &str) -> Gatepost {
    let component = signpost(folder);
    Setup::new()
        .with("[relay]\nfrom = [\"127.0.0.0/8\"]")
        .with(&format!("[[route]]\nto = \"*\"\nvia = \"smtp:[127.0.0.1]:{}\"", sink.port()))
        .with(&format!(
            "[[plugin]]\nname = \"signpost\"\ncomponent = {component:?}\ngrants = {{ kv = true, edit = [\"route\", \"hold\", \"discard\"] }}\n\
             [plugin.config]\n{rules}"
        ))
        .start()
}

/// Sends one message for each recipient; gives their ids by recipient.
fn send(server: &Gatepost, recipients: &[&str]) -> BTreeMap<String, String> {
    let mut client = server.session();
    let mut send = |recipient: &&str| {
        let reply = client.transaction(SENDER, &[recipient], &letter::plain(recipient)).unwrap();
        assert_eq!(reply.code, 250, "{reply}");
        let text = reply.to_string();
        let id = text.rsplit(' ').next().unwrap().trim();
        ((*recipient).to_owned(), id.to_owned())
    };
    recipients.iter().map(&mut send).collect()
}

/// The only recipient of a message, as the queue shows it; null if the message is gone.
fn shown(server: &Gatepost, id: &str) -> Value {
    let there = server.queue(&["list"]);
    if !there.as_array().unwrap().iter().any(|message| message["id"] == id) {
        return Value::Null;
    }
    server.queue(&["show", id])["message"]["recipients"][0].clone()
}

/// Waits until the message looks so.
#[track_caller]
fn becomes(server: &Gatepost, id: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || Some(shown(server, id)).filter(&is_so))
}

/// `gatepost why` tells who decided what, and by which rule.
#[track_caller]
fn assert_explained(server: &Gatepost, id: &str, words: &[&str]) {
    eventually(&format!("{words:?} in the explanation of {id}"), || {
        let told = server.command(&["why", id, "--config", "gatepost.toml"]).stdout;
        words.iter().all(|word| told.contains(word)).then_some(())
    });
}

fn reports(server: &Gatepost) -> Vec<String> {
    let stored = server.mailbox("bob");
    stored.iter().map(|one| String::from_utf8_lossy(one).into_owned()).collect()
}

#[track_caller]
fn assert_reported(server: &Gatepost, recipient: &str, diagnostic: &str) {
    eventually(&format!("a report about {recipient}"), || {
        let told = reports(server);
        let about = |report: &&String| report.contains(&format!("rfc822; {recipient}"));
        told.iter().find(about).filter(|report| report.contains(diagnostic)).map(|_| ())
    });
}

#[test]
fn a_plugin_says_where_mail_goes_and_why_tells_it() {
    let (folder, usual, other) = (
        tempfile::tempdir().unwrap(),
        Sink::start(Behaviour::default()),
        Sink::start(Behaviour::default()),
    );
    let rules = format!(
        "\"route far\" = \"to smtp:[127.0.0.1]:{}\"\n\
         \"route kept\" = \"hold inspection\"\n\
         \"route slow\" = \"defer 3600\"\n\
         \"route bad\" = \"fail\"\n\
         \"route gone\" = \"discard\"\n",
        other.port()
    );
    let server = start(folder.path(), &usual, &rules);
    let to = [
        "near@target.test",
        "far@target.test",
        "kept@target.test",
        "slow@target.test",
        "bad@target.test",
        "gone@target.test",
    ];
    let ids = send(&server, &to);
    let id = |name: &str| ids[&format!("{name}@target.test")].as_str();

    assert!(usual.wait(1)[0].rcpt[0].contains("near@"));
    assert!(other.wait(1)[0].rcpt[0].contains("far@"));
    assert_explained(&server, id("far"), &["route", "signpost", "to smtp:[127.0.0.1]", "relayed"]);

    becomes(&server, id("kept"), "a message on hold", |it| it["state"]["held"] == "inspection");
    assert_explained(&server, id("kept"), &["signpost", "hold inspection", "held"]);

    let slow = becomes(&server, id("slow"), "a message that waits", |it| it["last"].is_object());
    assert_eq!(slow["last"]["lines"][0], "The signpost says so");
    assert!(slow["wait"].as_u64().unwrap() > 3_000_000, "{slow}");
    assert_explained(&server, id("slow"), &["signpost", "defer 3600", "deferred"]);

    assert_reported(&server, "bad@target.test", "550 5.7.1 The signpost says so");
    assert_explained(&server, id("bad"), &["signpost", "fail", "550 5.7.1"]);
    becomes(&server, id("gone"), "a message that is gone", Value::is_null);
    assert_explained(&server, id("gone"), &["signpost", "discard"]);

    assert_eq!((usual.taken().len(), other.taken().len()), (1, 1));
    assert_eq!(reports(&server).len(), 1, "only one failed");
    server.queue(&["release", id("kept")]);
    becomes(
        &server,
        id("kept"),
        "a message that is held again, since the plugin is asked again",
        |it| it["state"]["held"] == "inspection",
    );
}

#[test]
fn a_plugin_judges_what_came_of_an_attempt_and_why_tells_it() {
    let folder = tempfile::tempdir().unwrap();
    let usual = Sink::start(Behaviour { script: Arc::new(picky), ..Behaviour::default() });
    let other = Sink::start(Behaviour::default());
    let rules = format!(
        "\"outcome later-patient\" = \"retry 3600\"\n\
         \"outcome later-enough\" = \"fail\"\n\
         \"outcome never-kept\" = \"hold inspection\"\n\
         \"outcome never-quiet\" = \"quiet\"\n\
         \"outcome later-around\" = \"detour smtp:[127.0.0.1]:{}\"\n\
         \"outcome good\" = \"fail\"\n",
        other.port()
    );
    let server = start(folder.path(), &usual, &rules);
    let to = [
        "later-patient@target.test",
        "later-enough@target.test",
        "never-kept@target.test",
        "never-quiet@target.test",
        "later-around@target.test",
        "good@target.test",
        "never-told@target.test",
    ];
    let ids = send(&server, &to);
    let id = |name: &str| ids[&format!("{name}@target.test")].as_str();

    // Instead of the second that the configuration has as the first retry.
    let patient = becomes(&server, id("later-patient"), "a message that waits for an hour", |it| {
        it["wait"].as_u64().is_some_and(|wait| wait > 3_000_000)
    });
    assert_eq!(patient["last"]["lines"][0], "Not yet");
    assert_explained(&server, id("later-patient"), &["outcome", "signpost", "retry 3600"]);

    assert_reported(&server, "later-enough@target.test", "550 5.7.1 The signpost gave up");
    assert_explained(&server, id("later-enough"), &["signpost", "fail", "550 5.7.1"]);
    becomes(&server, id("never-kept"), "a message on hold", |it| {
        it["state"]["held"] == "inspection"
    });
    assert_explained(&server, id("never-kept"), &["signpost", "hold inspection", "held"]);

    assert_eq!(other.wait(1)[0].rcpt.len(), 1);
    assert_explained(
        &server,
        id("later-around"),
        &["signpost", "detour smtp", "450 4.2.1", "relayed"],
    );

    assert_reported(&server, "never-told@target.test", "550 5.1.1 No such person");
    for name in ["never-quiet", "good", "later-around", "never-told"] {
        becomes(&server, id(name), "a message that is done", Value::is_null);
    }
    assert_explained(&server, id("never-quiet"), &["signpost", "quiet", "bounced"]);
    let told = reports(&server);
    assert_eq!(told.len(), 2, "the quiet one and the good one are told to nobody: {told:?}");
}

/// Connections until the listener's queue is full: from then on the system answers no SYN.
fn fill(address: SocketAddr) -> Vec<TcpStream> {
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queued.push(stream);
    }
    queued
}

#[test]
fn a_family_that_leads_nowhere_does_not_hold_mail_up() {
    let sink = Sink::start(Behaviour::default());
    let hole = TcpListener::bind(("::1", sink.port())).unwrap();
    let _queued = fill(hole.local_addr().unwrap());
    let server = Setup::new()
        .with("[relay]\nfrom = [\"127.0.0.0/8\"]")
        .with(&format!("[[route]]\nto = \"*\"\nvia = \"smtp:mail.target.test:{}\"\nsource = [\"127.0.0.1\", \"::1\"]\nrate = \"1000/s\"", sink.port()))
        .with("[dns.hosts]\n\"mail.target.test\" = [\"::1\", \"127.0.0.1\"]")
        .start();
    let started = Instant::now();
    send(&server, &["someone@target.test"]);
    sink.wait(1);
    let took = started.elapsed();
    println!("with a black hole for IPv6 the message is there after {took:?}");
    // Waiting for the connection to fail takes 30 s.
    assert!(took < Duration::from_secs(20), "{took:?}");
}
