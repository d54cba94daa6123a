//! Crash states of recorded block writes: what a disk may hold after a power cut that kept, dropped or tore any of the
//! writes since the last flush.
//!
//! A load runs once, on a file system over a [`Recorder`]; each acknowledgement is noted with the number of steps done by
//! then. Then states are made: everything up to a flush, and of what follows up to some moment a prefix, a choice, or a
//! choice with a torn write. On each the real server starts, and delivers all that it had acknowledged by that flush.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::blocks::{Recorder, Step};
use super::cuts::{NextHost, drain};
use super::image::{self, Image, Kind, tool};
use super::ledger::{Ledger, STAYING};
use super::load::one;
use super::random::Random;
use super::subject::{OurServer, Subject};
use super::{Arguments, say};
use crate::client::Client;

/// `faults states --fs ext4 --states N --seed N`.
pub fn command(arguments: &mut Arguments) -> Result<bool, String> {
    let kind = Kind::parse(&arguments.word("fs", "ext4"))?;
    let count: u32 = arguments.number("states", 20)?;
    let seed = arguments.number("seed", 1)?;
    std::mem::take(arguments).finish()?;
    let next = NextHost::start();
    let folder = image::folder();
    let work = tempfile::Builder::new().prefix("states-").tempdir().map_err(|e| e.to_string())?;
    let (base, live) = (folder.path().join("base"), folder.path().join("live"));
    let mount = work.path().join("var");
    let mut made = Image::make(kind, &base, 1 << 30, &[], &mount);
    let mut server = OurServer::start(work, next.sink.port());
    server.kill();
    made.unmount();
    tool("cp", &[Path::new("--sparse=always"), &base, &live]).expect_success("cp");

    let recorder = Recorder::mount(&live, &folder.path().join("recorded"));
    let mut recorded = Image::of(&folder.path().join("recorded"), &mount);
    recorded.mount();
    server.begin();
    server.wait_ready();
    let ledger = Ledger::new(STAYING, 100_000);
    let promises = Mutex::new(Vec::new());
    load(server.port(), &ledger, &recorder, &promises);
    server.kill();
    let steps = recorder.steps();
    recorded.unmount();
    drop(recorder);
    let promises = promises.into_inner().map_err(|error| error.to_string())?;
    say(&format!("{} messages acknowledged over {} block steps", promises.len(), steps.len()));

    let mut random = Random::new(seed);
    let (mut bad, mut checked, mut repaired) = (0, 0, 0);
    for number in 1..=count {
        let (end, what) = (random.below(steps.len() as u64 + 1), random.below(3));
        let end = usize::try_from(end).expect("small");
        tool("cp", &[Path::new("--sparse=always"), &base, &live]).expect_success("cp");
        replay(&steps[..end], &live, what, &mut random);
        let books = ledger.copy_of(|n| promises.iter().any(|&(one, by)| one == n && by <= end));
        checked += books.missing().len();
        let mut state = Image::of(&live, &mount);
        repaired += u32::from(state.mount_or_repair(kind));
        server.begin();
        server.wait_ready();
        drain(&mut server, &next, &books);
        let tally = books.close();
        server.kill();
        state.unmount();
        if !tally.is_clean() {
            bad += 1;
            say(&format!("state {number}: {end} steps, way {what}: {tally}"));
        }
        if number % 100 == 0 {
            say(&format!("{number} states, {bad} bad"));
        }
    }
    say(&format!(
        "{}: {count} crash states on {} (seed {seed}) of {} block steps: {bad} bad; {checked} promises checked; \
         {repaired} file systems had to be repaired before they could be mounted",
        server.name(),
        kind.name(),
        steps.len()
    ));
    Ok(bad == 0)
}

/// Some sessions send; each acknowledgement is noted with the steps that were done when it came.
fn load(port: u16, ledger: &Ledger, recorder: &Recorder, promises: &Mutex<Vec<(u32, usize)>>) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(("127.0.0.1", port)).expect("it listens");
                client.hello("client.example").expect("EHLO is answered");
                while !over.load(Ordering::SeqCst) {
                    let number = ledger.begin();
                    if one(&mut client, ledger, number).ok() == Some(250) {
                        let mut promises = promises.lock().expect("no holder panics");
                        promises.push((number, recorder.count()));
                        if promises.len() >= 40 {
                            over.store(true, Ordering::SeqCst);
                        }
                    }
                }
            });
        }
    });
}

/// Writes what a disk may hold after these steps: all up to the last flush, then 0: all, 1: some, 2: some, torn.
fn replay(steps: &[Step], image: &Path, what: u64, random: &mut Random) {
    let file = File::options().write(true).open(image).expect("the image");
    let flushed = steps.iter().rposition(|step| matches!(step, Step::Flush)).unwrap_or(0);
    for (index, step) in steps.iter().enumerate() {
        let Step::Write(offset, octets) = step else { continue };
        let sure = index < flushed || what == 0;
        if !sure && random.one_in(2) {
            continue;
        }
        let mut keep = octets.len();
        if !sure && what == 2 && random.one_in(2) {
            // Sectors are written whole.
            let sectors = octets.len() as u64 / 512;
            keep = usize::try_from(random.below(sectors + 1) * 512).expect("small");
        }
        file.write_all_at(&octets[..keep], *offset).expect("the image takes it");
    }
}
