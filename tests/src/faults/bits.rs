//! One flipped bit in what is used of a stopped server's spool: `gatepost queue fsck` names it, the server notices it, at
//! most one message is set aside, all others are delivered.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::cuts::{NextHost, drain};
use super::image::tool;
use super::ledger::{Ledger, STAYING};
use super::load::{Over, send};
use super::random::Random;
use super::subject::{OurServer, Subject};
use super::{Arguments, image, say};
use crate::place::within;

/// `faults bits --flips N --seed N`.
pub fn command(arguments: &mut Arguments) -> Result<bool, String> {
    let flips: u32 = arguments.number("flips", 20)?;
    let seed = arguments.number("seed", 1)?;
    std::mem::take(arguments).finish()?;
    let next = NextHost::start();
    let folder = image::folder();
    let mut server = OurServer::start(folder, next.sink.port());
    let spool = server.server().folder().join("var/queue");
    let saved = server.server().folder().join("saved");
    let ledger = Ledger::new(STAYING, 70_000);
    queue_some(&mut server, &ledger);
    tool("cp", &[Path::new("-a"), Path::new("--sparse=always"), &spool, &saved])
        .expect_success("cp");
    let mut random = Random::new(seed);
    let (mut set_aside, mut void, mut failed) = (0, 0, 0);
    let clean = fsck(&mut server);
    if !clean.is_empty() {
        return Err(format!("the spool was not clean before: {clean}"));
    }
    for flip in 1..=flips {
        fs::remove_dir_all(&spool).map_err(|error| error.to_string())?;
        tool("cp", &[Path::new("-a"), Path::new("--sparse=always"), &saved, &spool])
            .expect_success("cp");
        let place = flip_one(&spool, &mut random);
        let named = !fsck(&mut server).is_empty();
        server.begin();
        server.wait_ready();
        let books = ledger.copy();
        drain(&mut server, &next, &books);
        let tally = books.close();
        let damaged = fs::read_dir(spool.join("corrupt")).map_or(0, Iterator::count);
        set_aside += tally.lost;
        // A state in a file of its own is void once an attempt wrote a newer one into the log: the server does not read it,
        // and nothing is lost; fsck does.
        let is_void = damaged == 0 && tally.lost == 0 && place.contains(".record,");
        void += usize::from(is_void);
        if !named || tally.lost > 1 || tally.wrong > 0 || (damaged == 0 && !is_void) {
            failed += 1;
            let named = if named { "named" } else { "not named" };
            say(&format!(
                "flip {flip} at {place}: {named} by fsck; {tally}; {damaged} files in corrupt/"
            ));
        }
        if flip % 100 == 0 {
            say(&format!("{flip} flips, {failed} against the promise"));
        }
        server.kill();
    }
    say(&format!(
        "{}: {flips} flipped bits (seed {seed}) in a queue of {}: {set_aside} messages set aside, {void} flips in states \
         that newer ones had made void, {failed} not named by fsck, unnoticed, with wrong octets or with more than one \
         message gone",
        server.name(),
        ledger.acknowledged()
    ));
    Ok(failed == 0)
}

/// What a check without the server finds.
fn fsck(server: &mut OurServer) -> String {
    server.server().command(&["queue", "fsck", "--json", "--config", "gatepost.toml"]).stdout
}

/// Half of them in files of their own, half in the log.
fn queue_some(server: &mut OurServer, ledger: &Ledger) {
    for count in [20, 40] {
        let (port, over) = (server.port(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let _end = Over(&over);
            scope.spawn(|| send(port, ledger, &over));
            within(PATIENCE, "mail", || (ledger.acknowledged() >= count).then_some(()));
            over.store(true, Ordering::SeqCst);
        });
        if count == 20 {
            // What a restart finds in the log is old, and moved out. Until its segment is free the log
            // has it too, and a flip of the file costs nothing.
            let log = server.server().folder().join("var/queue/log");
            server.kill();
            let old = segments(&log);
            server.begin();
            server.wait_ready();
            within(PATIENCE, "an empty old segment", || {
                segments(&log).iter().all(|segment| !old.contains(segment)).then_some(())
            });
        }
    }
    server.server().terminate();
    server.server().wait_end();
}

/// Flips a bit of what is in use; says where.
fn flip_one(spool: &Path, random: &mut Random) -> String {
    let mut candidates = files(&spool.join("deferred"));
    candidates.extend(segments(&spool.join("log")));
    candidates.sort();
    loop {
        let path = random.choose(&candidates);
        let octets = fs::read(path).expect("our own file");
        // Behind the last record of a segment stand zeros that mean nothing.
        let Some(last) = octets.iter().rposition(|&octet| octet != 0) else { continue };
        let offset = random.below(last as u64 + 1);
        let bit = random.below(8);
        let index = usize::try_from(offset).expect("it was read into memory");
        let flipped = octets[index] ^ (1 << bit);
        let file = fs::File::options().write(true).open(path).expect("our own file");
        file.write_all_at(&[flipped], offset).expect("one octet");
        let name = path.strip_prefix(spool).unwrap_or(path).display();
        return format!("{name}, octet {offset}, bit {bit}");
    }
}

fn segments(log: &Path) -> Vec<PathBuf> {
    let mut found = files(log);
    found.retain(|path| path.extension().is_some_and(|it| it == "seg"));
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

const PATIENCE: Duration = Duration::from_secs(120);
