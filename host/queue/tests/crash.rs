//! Every operation of the disk is stopped, torn, cut short, or refused, once; then the spool is recovered and compared with
//! a ledger.
//!
//! Loads differ by their seed: small and large messages, outcomes of every kind, notices, moves out of the log, operators, a
//! restart. At each point several crashes are tried, which differ in what reached the disk of what was not flushed; in the
//! last of them the recovery itself is stopped, too.
//!
//! The short form takes a few points of each; with `POINTS=all` in the environment every one of three loads, and each is
//! named before it is tried. A failure prints fault, operation and seed.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail, and says what it did"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use message::{Body, Id, Octets};
use queue::disk::{Fault, SimulatedDisk};
use queue::{Config, Filter, Limits, Outcome, Queue, RecipientState};
use tokio::time::timeout;

use support::*;

/// What the world outside was promised, and what it saw.
#[derive(Default)]
struct Ledger {
    /// Content of every message that was tried.
    tried: BTreeMap<Id, Vec<u8>>,
    accepted: BTreeSet<Id>,
    refused: BTreeSet<Id>,
    /// Recipients whose delivery was recorded: never again.
    recorded: BTreeSet<(Id, usize)>,
    /// How often each recipient got the message.
    copies: BTreeMap<(Id, usize), u32>,
    /// Outcomes that were not recorded.
    unrecorded: BTreeSet<(Id, usize)>,
    /// Recipients that a report was accepted for.
    told: BTreeSet<(Id, usize)>,
    /// What each report tells, accepted or not.
    reports: BTreeMap<Id, Vec<(Id, usize)>>,
    /// Deliveries whose outcome was not recorded.
    unrecorded_deliveries: usize,
    /// When it stops, nothing is delivered any more.
    machine: Option<SimulatedDisk>,
}

type Shared = Arc<Mutex<Ledger>>;

/// With an odd seed, the index is read while the queue runs.
fn small(seed: u64) -> Config {
    let limits = Limits {
        index_at_once_octets: if seed % 2 == 0 { u64::MAX } else { 0 },
        segment_octets: 64 << 10,
        reserve_octets: 8 << 10,
        large_octets: 4 << 10,
        ..Limits::small()
    };
    Config { limits, ..Config::new("unused") }
}

/// A number below `bound` that depends on nothing but the seed and what it is for.
fn pick(seed: u64, what: &str, bound: u64) -> u64 {
    let mut number = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    for octet in what.bytes() {
        number = (number ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3);
        number ^= number >> 29;
    }
    (number >> 7) % bound
}

/// Receives messages 0 to 11, three at a time.
async fn receive(queue: &Queue, ledger: &Shared, seed: u64) {
    for group in 0..4u32 {
        let sends = (0..3).map(|n| receive_one(queue, ledger, seed, group * 3 + n));
        futures_util::future::join_all(sends).await;
    }
}

async fn receive_one(queue: &Queue, ledger: &Shared, seed: u64, number: u32) {
    let length = match pick(seed, &format!("length {number}"), 4) {
        0 => 20_000,
        1 => 3000,
        _ => 100,
    };
    let body: Vec<u8> =
        (0..length).map(|n: u32| b'a' + u8::try_from((n + number) % 26).unwrap()).collect();
    let addresses = ["a@one.test", "b@one.test", "c@two.test"];
    let recipients = &addresses[..1 + (number as usize) % 3];
    let recipients = recipients.iter().map(|address| recipient(address, None)).collect();
    let mut accept = accept("s@example.com", recipients, HEAD);
    let mut expected = [HEAD.as_bytes(), &body].concat();
    if u64::from(number) == pick(seed, "replaced", 12) {
        accept.body = Body::Replaced(vec![b'R'; 10_000].into());
        expected = [HEAD.as_bytes(), &vec![b'R'; 10_000][..]].concat();
    }
    ledger.lock().unwrap().tried.insert(id(number), expected);
    let result = timeout(PATIENCE, send_accept(queue, number, accept, &body)).await;
    let mut ledger = ledger.lock().unwrap();
    match result {
        Ok(Ok(receipt)) => drop(ledger.accepted.insert(receipt.id())),
        Ok(Err(_)) => drop(ledger.refused.insert(id(number))),
        Err(_) => {}
    }
}

/// Works off what is due: by number of message and attempt it is delivered, deferred or refused.
async fn deliver(queue: &Queue, ledger: &Shared, seed: u64, most: usize) {
    for _ in 0..most {
        let Some(delivery) = next_within(queue, Duration::from_secs(1)).await else { return };
        // A machine that stopped delivers nothing, whatever the load would do next.
        let machine = ledger.lock().unwrap().machine.clone();
        if machine.is_some_and(|machine| machine.is_stopped()) {
            return;
        }
        let id = delivery.message.id;
        {
            let ledger = ledger.lock().unwrap();
            if let (Ok(content), Some(expected)) = (delivery.content(), ledger.tried.get(&id)) {
                let found = content.read(0, usize::MAX);
                assert!(found.is_err() || found.unwrap() == *expected, "content of {id} differs");
            }
        }
        let mut outcomes = Vec::new();
        for &index in &delivery.recipients {
            let attempts = delivery.message.recipients[index].attempts;
            let choice = pick(seed, &format!("{id} {index} {attempts}"), 3);
            let outcome = match (choice, attempts) {
                // A report that fails is gone without a word; then nobody could tell it from a lost one.
                (0, 0..2) if !delivery.message.reverse_path.is_null() => {
                    Outcome::Failed { reply: reply(550), peer: None, quiet: false }
                }
                (1, 0..2) => Outcome::Deferred { reply: reply(451), peer: None, retry_in: None },
                _ => Outcome::Delivered { reply: reply(250), peer: None },
            };
            if matches!(outcome, Outcome::Delivered { .. }) {
                let mut ledger = ledger.lock().unwrap();
                assert!(!ledger.recorded.contains(&(id, index)), "{id} {index} delivered again");
                *ledger.copies.entry((id, index)).or_default() += 1;
            }
            outcomes.push((index, outcome));
        }
        let delivered: Vec<usize> = outcomes
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Outcome::Delivered { .. }))
            .map(|(index, _)| *index)
            .collect();
        let recorded = matches!(timeout(PATIENCE, delivery.finish(outcomes)).await, Ok(Ok(())));
        let mut ledger = ledger.lock().unwrap();
        let stopped = ledger.machine.as_ref().is_some_and(SimulatedDisk::is_stopped);
        ledger.unrecorded_deliveries += usize::from(!recorded);
        for index in delivered {
            if recorded {
                ledger.recorded.insert((id, index));
            } else {
                ledger.unrecorded.insert((id, index));
            }
        }
        if stopped {
            return;
        }
    }
}

/// Reports what is to be reported: of each recipient once.
async fn report(queue: &Queue, ledger: &Shared, first: u32) {
    let mut number = first;
    while let Ok(Some(notice)) = timeout(Duration::from_secs(1), queue.next_notice()).await {
        let of = notice.message.id;
        let tells: Vec<_> = notice.recipients.iter().map(|one| (of, one.index)).collect();
        for one in &tells {
            assert!(!ledger.lock().unwrap().told.contains(one), "{one:?} is told again");
        }
        ledger.lock().unwrap().reports.insert(id(number), tells.clone());
        let mut accept = accept("", vec![recipient("s@sink.test", None)], HEAD);
        accept.notice_of = Some(of);
        ledger.lock().unwrap().tried.insert(id(number), [HEAD.as_bytes(), b"report"].concat());
        match timeout(PATIENCE, send_accept(queue, number, accept, b"report")).await {
            Ok(Ok(receipt)) => {
                ledger.lock().unwrap().accepted.insert(receipt.id());
                ledger.lock().unwrap().told.extend(tells);
                let _ = timeout(PATIENCE, notice.done(&receipt)).await;
            }
            Ok(Err(_)) => drop(ledger.lock().unwrap().refused.insert(id(number))),
            Err(_) => {}
        }
        number += 1;
    }
}

/// The whole load. Ends early when the disk stops.
async fn load(disk: &SimulatedDisk, clock: &Arc<TestClock>, ledger: &Shared, seed: u64) {
    for round in 0..2u32 {
        let Ok((queue, _)) = try_open(small(seed), disk, clock).await else { return };
        queue.set_router(Arc::new(TestRouter::default()));
        if round == 0 {
            receive(&queue, ledger, seed).await;
            deliver(&queue, ledger, seed, 10).await;
        }
        report(&queue, ledger, 100 + round * 50).await;
        deliver(&queue, ledger, seed, 10).await;
        // Survivors are moved out of the log.
        tokio::time::sleep(Duration::from_secs(200)).await;
        let held = id(u32::try_from(pick(seed, "held", 12)).unwrap());
        let _ = timeout(PATIENCE, queue.hold(Filter::id(held), "look")).await;
        deliver(&queue, ledger, seed, 10).await;
        tokio::time::sleep(Duration::from_secs(300)).await;
        deliver(&queue, ledger, seed, 30).await;
        let _ = timeout(PATIENCE, queue.shutdown()).await;
        if disk.is_stopped() {
            return;
        }
        drop(queue);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Opens what the crash left and compares it with the ledger; then works everything off.
async fn check(disk: &SimulatedDisk, clock: &Arc<TestClock>, ledger: &Shared, run: Run) {
    let told = ledger.lock().unwrap().told.clone();
    compare(disk, clock, ledger, run).await;
    ledger.lock().unwrap().told = told;
    assert_eq!(disk.misused(), 0, "a file was used after its flush had failed");
}

/// Recovers, but stops in the middle of it.
async fn recover_in_part(disk: &SimulatedDisk, clock: &Arc<TestClock>, run: Run) {
    disk.set_fault(1 + run.at % 30, Fault::Stop);
    if let Ok((queue, _)) = try_open(small(run.seed), disk, clock).await {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let _ = timeout(PATIENCE, queue.shutdown()).await;
    }
}

async fn compare(disk: &SimulatedDisk, clock: &Arc<TestClock>, ledger: &Shared, run: Run) {
    let (queue, _) = open_with(small(run.seed), disk, clock).await;
    let strict = matches!(run.fault, Some(Fault::Refuse | Fault::Short));
    compare_what_is_there(&queue, ledger, strict).await;
    compare_what_was_accepted(&queue, ledger).await;
    let again = work_off(&queue, ledger, run.seed).await;
    let unrecorded = ledger.lock().unwrap().unrecorded.clone();
    let before: Vec<_> = ledger.lock().unwrap().copies.keys().copied().collect();
    for who in before.iter().filter(|who| again.lock().unwrap().copies.contains_key(who)) {
        assert!(unrecorded.contains(who), "{who:?} got it again, though that was recorded");
    }
    queue.shutdown().await;
}

/// Nothing is there that was never sent, or in other octets; `strict`: or that was refused.
async fn compare_what_is_there(queue: &Queue, ledger: &Shared, strict: bool) {
    for summary in queue.list(Filter::default()).await {
        // A report that nobody got a receipt for may be there all the same: then it tells.
        // What recovery put together may be the end of it: then it is gone in a moment.
        let Some(detail) = queue.show(summary.id).await else { continue };
        if detail.message.notice_of.is_some() {
            let tells = ledger.lock().unwrap().reports.get(&summary.id).cloned();
            ledger.lock().unwrap().told.extend(tells.unwrap_or_default());
        }
        let expected = ledger.lock().unwrap().tried.get(&summary.id).cloned();
        let expected = expected.unwrap_or_else(|| panic!("{} was never sent", summary.id));
        let refused = ledger.lock().unwrap().refused.contains(&summary.id);
        assert!(!(strict && refused), "{} was refused and is there", summary.id);
        let Ok(content) = queue.content(summary.id).await else { continue };
        let content = content.read(0, usize::MAX).expect("it can be read");
        assert_eq!(content, expected, "{}", summary.id);
    }
}

/// What was accepted is there, or somebody got it, or somebody was told.
async fn compare_what_was_accepted(queue: &Queue, ledger: &Shared) {
    let accepted: Vec<Id> = ledger.lock().unwrap().accepted.iter().copied().collect();
    for id in accepted {
        let detail = queue.show(id).await;
        let ledger = ledger.lock().unwrap();
        let copies = |index| ledger.copies.contains_key(&(id, index));
        let Some(detail) = detail else {
            let told = ledger.told.iter().any(|(of, _)| *of == id);
            assert!(copies(0) || copies(1) || copies(2) || told, "{id} is lost");
            continue;
        };
        for recipient in &detail.message.recipients {
            let recorded = ledger.recorded.contains(&(id, recipient.index));
            let waits = recipient.state == RecipientState::Pending;
            assert!(!(recorded && waits), "{id} would be delivered again");
            let told = ledger.told.contains(&(id, recipient.index));
            let told_or_owed = recipient.owed.is_some() || told;
            let failed = recipient.state == RecipientState::Failed;
            assert!(!failed || told_or_owed, "{id} failed silently");
        }
    }
}

/// Delivers and tells everything; gives the books of that.
async fn work_off(queue: &Queue, ledger: &Shared, seed: u64) -> Shared {
    let again: Shared = Arc::new(Mutex::new(Ledger::default()));
    {
        let before = ledger.lock().unwrap();
        let mut again = again.lock().unwrap();
        again.tried.clone_from(&before.tried);
        again.recorded.clone_from(&before.recorded);
        again.told.clone_from(&before.told);
    }
    queue.set_router(Arc::new(TestRouter::default()));
    queue.release(Filter::default()).await.expect("the disk works");
    for _ in 0..6 {
        deliver(queue, &again, seed, 100).await;
        let first = 1000 + u32::try_from(again.lock().unwrap().tried.len()).unwrap();
        report(queue, &again, first).await;
        tokio::time::sleep(Duration::from_secs(1200)).await;
    }
    deliver(queue, &again, seed, 100).await;
    let left = queue.list(Filter::default()).await;
    assert!(left.is_empty(), "everything ends: {left:?}");
    again
}

/// One run of a load.
#[derive(Clone, Copy, Debug)]
struct Run {
    seed: u64,
    /// The operation that fails.
    at: u64,
    fault: Option<Fault>,
    /// Variants of what is left.
    crashes: u64,
}

/// One run with a fault; gives how many operations it had.
fn play(run: Run) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        // One blocking thread: operations come in the same order every time.
        .max_blocking_threads(1)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
        let ledger = Shared::default();
        ledger.lock().unwrap().machine = Some(disk.clone());
        if let Some(fault) = run.fault {
            disk.set_fault(run.at, fault);
        }
        load(&disk, &clock, &ledger, run.seed).await;
        assert_eq!(disk.misused(), 0, "a file was used after its flush had failed");
        let unrecorded = ledger.lock().unwrap().unrecorded_deliveries;
        // One when the machine stops; one more when a disk dies, because two flushes must fail before that is believed.
        let most = match run.fault {
            None | Some(Fault::Full) => 0,
            Some(Fault::RefuseAll) => 2,
            Some(Fault::Stop | Fault::Tear | Fault::Refuse | Fault::Short) => 1,
        };
        assert!(unrecorded <= most, "{unrecorded} outcomes were not recorded");
        let operations = disk.operations();
        disk.heal();
        for variant in 0..run.crashes {
            // Variant 0 keeps nothing that was not flushed.
            let seed = if variant == 0 { 0 } else { run.at * 1000 + variant };
            let mut left = disk.crash(seed);
            if variant > 2 {
                recover_in_part(&left, &clock, run).await;
                left.heal();
                left = left.crash(seed + 1);
            }
            check(&left, &clock, &ledger, run).await;
        }
        operations
    })
}

/// Tries a fault at every operation, or at some of them.
fn sweep(fault: Fault, step: usize, crashes: u64) {
    let all = std::env::var_os("POINTS").is_some();
    let (seeds, step) = if all { (1..=3, 1) } else { (1..=2, step) };
    for seed in seeds {
        let operations = play(Run { seed, at: 0, fault: None, crashes: 1 });
        let mut points = 0;
        for at in (1..=operations).skip(usize::try_from(seed).unwrap() % step).step_by(step) {
            if all {
                eprintln!("{fault:?} {at} seed {seed}");
            }
            let run = Run { seed, at, fault: Some(fault), crashes };
            if let Err(panic) = std::panic::catch_unwind(|| play(run)) {
                eprintln!("{run:?} of {operations} operations");
                std::panic::resume_unwind(panic);
            }
            points += crashes;
        }
        println!(
            "{fault:?}: {points} crash points over {operations} operations of the load with seed {seed}, none bad"
        );
    }
}

#[test]
fn without_a_crash_nothing_is_lost() {
    for seed in 1..=6 {
        play(Run { seed, at: 0, fault: None, crashes: 3 });
    }
}

#[test]
fn a_machine_that_stops_anywhere_loses_nothing() {
    sweep(Fault::Stop, 17, 4);
}

#[test]
fn a_write_that_is_torn_anywhere_loses_nothing() {
    sweep(Fault::Tear, 23, 2);
}

#[test]
fn an_operation_that_is_refused_anywhere_loses_nothing() {
    sweep(Fault::Refuse, 17, 1);
}

#[test]
fn a_write_that_is_cut_short_anywhere_loses_nothing() {
    sweep(Fault::Short, 19, 1);
}

#[test]
fn a_disk_that_dies_anywhere_loses_nothing() {
    sweep(Fault::RefuseAll, 37, 1);
}

#[test]
fn a_disk_that_is_full_from_anywhere_on_loses_nothing() {
    sweep(Fault::Full, 37, 1);
}

const PATIENCE: Duration = Duration::from_secs(100);
