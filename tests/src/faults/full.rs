//! A full file system, in octets and in inodes: refusals for now, deliveries go on, and an end by itself.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::cuts::{NextHost, drain};
use super::image::{self, Image, Kind};
use super::ledger::{ALL, Ledger, STAYING};
use super::load::send;
use super::subject::{OurServer, Subject};
use super::{Arguments, say};
use crate::client::{Client, Reply};
use crate::place::within;
use crate::process::run;

/// `faults full --what octets|inodes`.
pub fn command(arguments: &mut Arguments) -> Result<bool, String> {
    let what = arguments.word("what", "octets");
    std::mem::take(arguments).finish()?;
    // Our server keeps 256 MiB and 1,000 inodes free, and allocates 192 MiB in advance.
    let options: &[&str] = if what == "inodes" { &["-N", "2000"] } else { &[] };
    let folder = image::folder();
    let work = tempfile::Builder::new().prefix("full-").tempdir().map_err(|e| e.to_string())?;
    let file = folder.path().join("image");
    let mut image = Image::make(Kind::Ext4, &file, 1000 << 20, options, &work.path().join("var"));
    let next = NextHost::start();
    let mut server = OurServer::start(work, next.sink.port());
    let ledger = Ledger::new(STAYING, 100_000);
    let (port, over) = (server.port(), AtomicBool::new(false));
    let enough = || (ledger.acknowledged() >= 50).then_some(());
    std::thread::scope(|scope| {
        scope.spawn(|| send(port, &ledger, &over));
        within(PATIENCE, "acknowledged mail", enough);
        over.store(true, Ordering::SeqCst);
    });
    let ballast = image.path().join("ballast");
    fill(&ballast, &what);
    let refusal = within(PATIENCE, "a refusal", || refused(port));
    say(&format!("full: {refusal}"));
    // Everything that was accepted leaves while nothing is free.
    let waiting = server.queued();
    drain(&mut server, &next, &ledger);
    let tally = ledger.close();
    say(&format!("delivered while full: {waiting} in the queue, then 0; {tally}"));
    let still = refused(port).is_some();
    fs::remove_dir_all(&ballast).map_err(|error| error.to_string())?;
    let since = Instant::now();
    within(PATIENCE, "mail to be accepted again", || refused(port).is_none().then_some(()));
    let back = since.elapsed();
    let after = Ledger::new(ALL, 100_000);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| send(port, &after, &over));
        within(PATIENCE, "mail", || (after.acknowledged() >= 20).then_some(()));
        over.store(true, Ordering::SeqCst);
    });
    drain(&mut server, &next, &after);
    let later = after.close();
    server.kill();
    image.unmount();
    let right = refusal.code == 452 && refusal.lines[0].contains("4.3.1");
    say(&format!(
        "{}: no {what}: {refusal}; {} accepted before, {} lost; accepting again {back:?} after there was room; {later}",
        server.name(),
        tally.acknowledged,
        tally.lost
    ));
    Ok(right && still && tally.is_clean() && tally.acknowledged >= 50 && later.is_clean())
}

/// Leaves nothing free.
fn fill(ballast: &Path, what: &str) {
    fs::create_dir(ballast).expect("a folder");
    if what == "inodes" {
        let mut number = 0;
        while File::create(ballast.join(number.to_string())).is_ok() {
            number += 1;
        }
        return;
    }
    for (number, size) in ["64M", "1M", "64K", "4K"].iter().enumerate() {
        let mut file = 0;
        loop {
            let path = ballast.join(format!("{number}-{file}"));
            let made =
                run(Path::new("/usr/bin/fallocate"), [Path::new("-l"), Path::new(size), &path]);
            if !made.status.success() {
                break;
            }
            file += 1;
        }
    }
}

/// What a message is refused with; nothing if it could be sent.
fn refused(port: u16) -> Option<Reply> {
    let mut client = Client::connect(("127.0.0.1", port)).ok()?;
    client.hello("client.example").ok()?;
    let reply = client.command("MAIL FROM:<sender@client.example>").ok()?;
    (!reply.is_positive()).then_some(reply)
}

const PATIENCE: Duration = Duration::from_secs(120);
