//! `kill -9` under load: nothing acknowledged is lost, and only what was in flight comes twice.
//!
//! In flight at a kill is, from outside: the last message of each connection to the next host, for no other is ended on
//! it before its outcome is on disk; and what one process may write into mailboxes at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::cuts::NextHost;
use super::ledger::{Ledger, PASSING, Place, Tally};
use super::load::{Over, one, send};
use super::random::Random;
use super::subject::{OurServer, Subject};
use super::{Arguments, say};
use crate::client::Client;
use crate::place::within;

/// What the rounds showed.
#[derive(Debug, Default)]
struct Doubles {
    /// Messages that came twice though they weren't the last of their connection.
    beyond: usize,
    /// The most that one kill repeated, at the next host and in mailboxes.
    most_there: usize,
    most_here: usize,
}

/// `faults kills --rounds N --seed N`.
pub fn command(arguments: &mut Arguments) -> Result<bool, String> {
    let rounds: u32 = arguments.number("rounds", 20)?;
    let seed = arguments.number("seed", 1)?;
    std::mem::take(arguments).finish()?;
    let next = NextHost::start();
    let folder = tempfile::Builder::new().prefix("kills-").tempdir().map_err(|e| e.to_string())?;
    let mut server = OurServer::start(folder, next.sink.port());
    let ledger = Ledger::new(PASSING, 100_000);
    let mut random = Random::new(seed);
    let (mut tally, mut doubles, mut starts) = (Tally::default(), Doubles::default(), Vec::new());
    for round in 1..=rounds {
        load_and_kill(&mut server, &ledger, &mut random);
        starts.push(start(&mut server, &ledger));
        if round % TOGETHER == 0 || round == rounds {
            empty(&mut server, &next, &ledger, &mut doubles);
            tally = ledger.close();
            say(&format!("{round} kills: {tally}"));
        }
    }
    starts.sort();
    let (median, worst) = (starts[starts.len() / 2], starts[starts.len() - 1]);
    say(&format!(
        "{}: {rounds} kills (seed {seed}): {tally}; twice by one kill: at most {} at the next host, {} in a mailbox; \
         {} that were not in flight; first 250 after the start: median {median:?}, slowest {worst:?}",
        server.name(),
        doubles.most_there,
        doubles.most_here,
        doubles.beyond
    ));
    Ok(tally.is_clean() && doubles.beyond == 0 && doubles.most_here <= MAILBOX_AT_ONCE)
}

fn load_and_kill(server: &mut OurServer, ledger: &Ledger, random: &mut Random) {
    let enough = ledger.acknowledged() + 20;
    let (port, over) = (server.port(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _end = Over(&over);
        for _ in 0..8 {
            scope.spawn(|| send(port, ledger, &over));
        }
        within(PATIENCE, "acknowledged mail", || (ledger.acknowledged() >= enough).then_some(()));
        std::thread::sleep(Duration::from_millis(random.below(200)));
        server.kill();
        over.store(true, Ordering::SeqCst);
    });
}

/// Starts it; gives the time from then to the first 250.
fn start(server: &mut OurServer, ledger: &Ledger) -> Duration {
    let before = Instant::now();
    server.begin();
    let port = server.port();
    within(PATIENCE, "a first 250", || {
        let mut client = Client::connect(("127.0.0.1", port)).ok()?;
        client.hello("client.example").ok()?;
        (one(&mut client, ledger, ledger.begin()).ok()? == 250).then_some(())
    });
    before.elapsed()
}

fn empty(server: &mut OurServer, next: &NextHost, ledger: &Ledger, doubles: &mut Doubles) {
    within(PATIENCE, "an empty queue", || (server.queued() == 0).then_some(()));
    let taken = next.sink.take();
    let last: HashMap<_, usize> =
        taken.iter().enumerate().map(|(index, one)| (one.connection, index)).collect();
    let mut copies: BTreeMap<u32, Vec<bool>> = BTreeMap::new();
    for (index, one) in taken.iter().enumerate() {
        if let Some(number) = ledger.arrive(Place::There, &one.content) {
            copies.entry(number).or_default().push(last[&one.connection] == index);
        }
    }
    let mut there = 0;
    for in_flight in copies.values() {
        there += in_flight.len() - 1;
        // All but the last copy were cut off by a kill.
        doubles.beyond += in_flight[..in_flight.len() - 1].iter().filter(|&&fine| !fine).count();
    }
    doubles.most_there = doubles.most_there.max(there);
    let mut by_process: HashMap<String, usize> = HashMap::new();
    let mut first: HashMap<u32, String> = HashMap::new();
    for (process, message) in server.mailbox_by_process() {
        let Some(number) = ledger.arrive(Place::Here, &message) else { continue };
        if let Some(process) = first.insert(number, process) {
            *by_process.entry(process).or_default() += 1;
        }
    }
    doubles.most_here = doubles.most_here.max(by_process.into_values().max().unwrap_or(0));
}

/// The books are closed after so many kills.
const TOGETHER: u32 = 5;

/// Our server writes so many files into mailboxes at once (`delivery::maildir`).
const MAILBOX_AT_ONCE: usize = 32;

const PATIENCE: Duration = Duration::from_secs(180);
