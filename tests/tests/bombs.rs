//! Components that keep a compiler from its end: the server refuses them, says why, and mail notices nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::time::{Duration, Instant};

use tests::{Gatepost, Setup, bombs};

/// One session from connection to QUIT, without a message: what a compiler would hold up.
fn dialogue(server: &Gatepost) -> Duration {
    let begun = Instant::now();
    let mut client = server.session();
    for command in ["MAIL FROM:<a@client.example>", "RCPT TO:<alice@example.test>", "RSET"] {
        assert_eq!(client.command(command).unwrap().code, 250);
    }
    assert_eq!(client.command("QUIT").unwrap().code, 221);
    begun.elapsed()
}

struct Latency {
    median: Duration,
    p99: Duration,
    sessions: usize,
}

/// Sessions one after another until `over` says so, with pauses that leave the machine to others.
fn sessions(server: &Gatepost, mut over: impl FnMut(usize) -> bool) -> Latency {
    let mut took = Vec::new();
    while !over(took.len()) {
        took.push(dialogue(server));
        std::thread::sleep(Duration::from_millis(2));
    }
    took.sort();
    let at = |share: usize| took[(took.len() - 1) * share / 100];
    Latency { median: at(50), p99: at(99), sessions: took.len() }
}

#[test]
fn seven_compile_bombs_are_refused_and_mail_notices_nothing() {
    let base = Setup::new().with("[policy]\ncompile-cpu = \"3s\"\ncompile-memory = \"1 GiB\"");
    let mut server = base.clone().start();
    let quiet = sessions(&server, |done| done == 100);
    eprintln!("{:<20} {:>8} median {:?}, p99 {:?}", "quiet", "", quiet.median, quiet.p99);
    let before = server.memory();
    for bomb in bombs::all() {
        let file = server.folder().join(format!("{}.wasm", bomb.name));
        fs::write(&file, &bomb.wasm).unwrap();
        let seen = server.log().len();
        server.reconfigure(
            base.clone().with(&format!("[[plugin]]\nname = {:?}\ncomponent = {file:?}", bomb.name)),
        );
        let about = format!("{}: ", bomb.name);
        let deadline = Instant::now() + tests::place::PATIENCE;
        let mut said = None;
        let busy = sessions(&server, |done| {
            said =
                server.log()[seen..].lines().find(|line| line.contains(&about)).map(str::to_owned);
            (said.is_some() && done > 0) || Instant::now() > deadline
        });
        let said = said.unwrap_or_else(|| panic!("{}: no answer", bomb.name));
        assert!(said.contains("compiling it takes more than"), "{}: {said}", bomb.name);
        let why = said.split("compiling it takes ").nth(1).unwrap_or_default();
        eprintln!(
            "{:<20} {:>5} KB  median {:?}, p99 {:?} of {} sessions; {why}",
            bomb.name,
            bomb.wasm.len() / 1000,
            busy.median,
            busy.p99,
            busy.sessions
        );
        // Generous, since the machine may be busy with other tests: a compiler in the way costs seconds.
        let bound = quiet.median * 10 + Duration::from_millis(50);
        assert!(busy.median < bound, "{}: {:?} against {:?}", bomb.name, busy.median, quiet.median);
    }
    let grown = server.memory().saturating_sub(before) >> 20;
    eprintln!("the server's memory grew by {grown} MiB");
    assert!(grown < 64, "the server itself has compiled: {grown} MiB");
    // The set of the beginning is still the one in force.
    server.reconfigure(base);
    dialogue(&server);
}
