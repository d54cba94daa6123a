//! What an administrator does to a running server: other certificates, other plugins, the end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tests::maildir::header;
use tests::plugins::stamps;
use tests::{Gatepost, Setup, eventually, letter};

const FROM: &str = "sender@client.example";
const TO: &str = "alice@example.test";

/// A certificate and its key for `name` in `folder`; gives the certificate in DER.
fn certificate(folder: &Path, name: &str) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    made.cert.der().to_vec()
}

fn shown(server: &Gatepost) -> Vec<u8> {
    let mut client = server.session();
    assert_eq!(client.secure("client.example").unwrap().code, 250);
    client.certificate().unwrap()
}

#[test]
fn certificates_are_replaced_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = certificate(folder.path(), "mx.example.test");
    let setup = Setup::new()
        .without("tls")
        .with("[tls]\ncertificates = [{ file = \"cert.pem\", key = \"key.pem\" }]");
    let server = Gatepost::start_in(folder, setup, &[]);
    assert_eq!(shown(&server), first);
    let mut under_way = server.session();

    let second = certificate(server.folder(), "mx.example.test");
    server.hang_up();
    eventually("the new certificate", || (shown(&server) == second).then_some(()));
    // A session that began before goes on.
    assert_eq!(under_way.transaction(FROM, &[TO], &letter::plain("old")).unwrap().code, 250);

    // A certificate that can't be read changes nothing.
    let before = server.log().len();
    fs::write(server.folder().join("cert.pem"), "not a certificate").unwrap();
    server.hang_up();
    eventually("a complaint", || server.log()[before..].contains("cert.pem").then_some(()));
    assert_eq!(shown(&server), second);
}

#[test]
fn sessions_finish_after_sigterm_and_new_ones_are_refused() {
    let mut server = Setup::new().start();
    let mut client = server.session();
    client.command(&format!("MAIL FROM:<{FROM}>")).unwrap();
    client.command(&format!("RCPT TO:<{TO}>")).unwrap();
    assert_eq!(client.command("DATA").unwrap().code, 354);
    let mut idle = server.session();
    server.terminate();
    // RFC 5321 §3.8: a server that shuts down says 421.
    assert_eq!(idle.reply().unwrap().code, 421);
    let port = server.port("mx");
    eventually("nobody listening", || {
        let greeted = tests::Client::connect(("127.0.0.1", port)).and_then(|mut c| c.reply());
        greeted.map_or(true, |greeting| greeting.code == 421).then_some(())
    });
    client.send(&tests::client::stuffed(&letter::plain("drain"))).unwrap();
    assert_eq!(client.reply().unwrap().code, 250);
    assert!(server.wait_end().success());
    server.restart();
    server.wait_mailbox("alice", 1);
}

#[test]
fn a_session_that_does_not_end_is_ended_after_the_configured_time() {
    let mut server = Setup::new().with("[limits]\ndrain = \"1s\"").start();
    let mut client = server.session();
    client.command(&format!("MAIL FROM:<{FROM}>")).unwrap();
    client.command(&format!("RCPT TO:<{TO}>")).unwrap();
    assert_eq!(client.command("DATA").unwrap().code, 354);
    server.terminate();
    assert!(server.wait_end().success());
}

/// The sets of a setup: two stamps that must agree, from one component.
fn with_set(setup: &Setup, component: &Path, number: usize, more: &str) -> Setup {
    ["first", "second"].iter().fold(setup.clone(), |setup, name| {
        setup.with(&format!(
            "[[plugin]]\nname = \"{name}\"\ncomponent = {component:?}\n\
             grants = {{ edit = [\"header\"] }}\n{more}\n\
             [plugin.config]\nname = \"{name}\"\nset = {number}\n{}",
            if more.is_empty() { "" } else { "broken = true" }
        ))
    })
}

const SESSIONS: usize = 20;

/// In CI and everywhere; GATEPOST_SWAPS makes it longer.
fn swaps() -> usize {
    std::env::var("GATEPOST_SWAPS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

#[test]
fn plugins_are_swapped_under_load_and_each_message_is_judged_by_one_set() {
    let folder = tempfile::tempdir().unwrap();
    let components = stamps(folder.path());
    let base = Setup::new().user("probe");
    let mut server = with_set(&base, &components[0], 0, "").start();

    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let port = server.port("mx");
    let broken: Vec<usize> = std::thread::scope(|scope| {
        let senders: Vec<_> =
            (0..SESSIONS).map(|_| scope.spawn(|| load(port, &over, &sent))).collect();
        let broken = swap(&mut server, &base, &components, &over, port);
        over.store(true, Ordering::SeqCst);
        for sender in senders {
            if let Err(panic) = sender.join() {
                std::panic::resume_unwind(panic);
            }
        }
        broken
    });

    let sent = sent.load(Ordering::SeqCst);
    let stored = server.wait_mailbox("alice", sent);
    let mut used = std::collections::BTreeSet::new();
    for message in &stored {
        let set = judged_by(message);
        assert!(!broken.contains(&number(&set)), "the broken set {set} went live");
        used.insert(set);
    }
    eprintln!("{sent} messages in {SESSIONS} sessions at a time, judged by {} sets", used.len());
    assert!(used.len() > swaps() / 4, "{} of {} sets saw a message", used.len(), swaps());
}

/// Sessions of three messages each, without a pause, until it is over. Nothing may fail.
fn load(port: u16, over: &AtomicBool, sent: &AtomicUsize) {
    while !over.load(Ordering::SeqCst) {
        let mut client = tests::Client::connect(("127.0.0.1", port)).expect("a connection");
        assert_eq!(client.hello("client.example").expect("a greeting").code, 250);
        for _ in 0..3 {
            let reply = client.transaction(FROM, &[TO], &letter::plain("load")).expect("a reply");
            assert_eq!(reply.code, 250, "{reply}");
            sent.fetch_add(1, Ordering::SeqCst);
        }
        assert_eq!(client.command("QUIT").expect("a reply").code, 221);
    }
}

/// Swaps the set again and again, every tenth for a broken one; gives the numbers of these.
fn swap(
    server: &mut Gatepost,
    base: &Setup,
    components: &[std::path::PathBuf; 2],
    over: &AtomicBool,
    port: u16,
) -> Vec<usize> {
    let _ends = Ends(over);
    let mut broken = Vec::new();
    for number in 1..=swaps() {
        let component = &components[number % 2];
        if number % 10 == 0 {
            let garbage = server.folder().join("garbage.wasm");
            fs::write(&garbage, b"\0asm garbage").unwrap();
            let (component, more) = match number % 20 {
                0 => (&garbage, "# not a component"),
                _ => (component, "# refuses its configuration"),
            };
            broken.push(number);
            let before = server.log().matches("ERROR").count();
            server.reconfigure(with_set(base, component, number, more));
            eventually("a complaint about the broken set", || {
                (server.log().matches("ERROR").count() > before).then_some(())
            });
        } else {
            server.reconfigure(with_set(base, component, number, ""));
            eventually(&format!("set {number} in force"), || {
                (probe(port) == Some(number)).then_some(())
            });
        }
    }
    broken
}

/// Ends the load also when the swapping panics, so that the test ends.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Which set a session that begins now is asked by: the plugin refuses this recipient and says so.
fn probe(port: u16) -> Option<usize> {
    let mut client = tests::Client::connect(("127.0.0.1", port)).ok()?;
    client.hello("client.example").ok()?;
    client.command(&format!("MAIL FROM:<{FROM}>")).ok()?;
    let reply = client.command("RCPT TO:<probe@example.test>").ok()?.to_string();
    let set = reply.split_once("set ")?.1.split(' ').next()?.to_owned();
    Some(number(&set))
}

/// The set that judged a message: one and the same at every stage of both plugins.
#[track_caller]
fn judged_by(message: &[u8]) -> String {
    let stamps = header(message, "X-Stamp");
    assert_eq!(stamps.len(), 2, "{stamps:?}");
    let sets: std::collections::BTreeSet<&str> =
        stamps.iter().flat_map(|stamp| stamp.split(' ').skip(1)).collect();
    assert_eq!(sets.len(), 1, "{stamps:?}");
    sets.into_iter().next().unwrap().to_owned()
}

fn number(set: &str) -> usize {
    set.trim_end_matches(|c: char| c.is_ascii_alphabetic()).parse().unwrap()
}
