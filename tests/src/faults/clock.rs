//! A clock that is set while mail waits: nothing bounces, and nobody is called more often.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::cuts::{NextHost, drain};
use super::ledger::{Ledger, STAYING};
use super::load::one;
use super::subject::{OurServer, Subject};
use super::{Arguments, say};
use crate::client::Client;

/// `faults clock --years N`: forwards and backwards, in the running server and over a restart.
pub fn command(arguments: &mut Arguments) -> Result<bool, String> {
    let years: u32 = arguments.number("years", 10)?;
    std::mem::take(arguments).finish()?;
    let next = NextHost::start();
    let folder = tempfile::Builder::new().prefix("clock-").tempdir().map_err(|e| e.to_string())?;
    let file = folder.path().join("clock");
    set(&file, "+0");
    let mut server = OurServer::start(folder, next.sink.port());
    // libfaketime reads the file at each look at the clock; what measures time that passes stays as it is.
    let library = library().ok_or("libfaketime is not installed")?;
    let variables = [
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    let mut wrapper = vec!["env"];
    wrapper.extend(variables.iter().map(String::as_str));
    server.server().wrap(&wrapper);
    server.server().restart();
    let ledger = Ledger::new(STAYING, 8000);
    let mut client = Client::connect(("127.0.0.1", server.port())).map_err(|e| e.to_string())?;
    client.hello("client.example").map_err(|e| e.to_string())?;
    for _ in 0..10 {
        one(&mut client, &ledger, ledger.begin()).map_err(|e| e.to_string())?;
    }
    let usual = attempts(&next);
    let mut storm = false;
    for (what, offset, restart) in [
        ("forwards", format!("+{years}y"), false),
        ("over a restart", format!("+{years}y"), true),
        ("backwards", format!("-{years}y"), false),
        ("over a restart", format!("-{years}y"), true),
        ("as it was", "+0".to_owned(), false),
    ] {
        set(&file, &offset);
        if restart {
            server.server().restart();
        }
        let count = attempts(&next);
        // A restart tries once what was waiting, and a jump may bring forward what was due.
        storm |= count > 2 * usual + 2 * ledger.acknowledged();
        let year = year_in(&server.server().log());
        say(&format!(
            "{offset} {what}: {count} attempts in {WATCH:?} ({usual} before); log of {year}"
        ));
    }
    let bounced = next.sink.lines().iter().filter(|line| line.contains("MAIL FROM:<>")).count();
    drain(&mut server, &next, &ledger);
    let tally = ledger.close();
    say(&format!(
        "{}: clock ±{years} years: {bounced} bounces, storm: {storm}; {tally}",
        server.name()
    ));
    Ok(bounced == 0 && !storm && tally.is_clean() && tally.acknowledged == 10)
}

/// How many recipients were tried within a while.
fn attempts(next: &NextHost) -> usize {
    let count = || next.sink.lines().iter().filter(|line| line.starts_with("RCPT")).count();
    let before = count();
    std::thread::sleep(WATCH);
    count() - before
}

fn set(file: &Path, offset: &str) {
    let aside = file.with_extension("new");
    fs::write(&aside, offset).expect("our own file");
    fs::rename(&aside, file).expect("our own file");
}

/// The year that the server wrote last.
fn year_in(log: &str) -> String {
    let line = log.lines().rev().find(|line| line.contains(" INFO ")).unwrap_or_default();
    line.get(..4).unwrap_or_default().to_owned()
}

fn library() -> Option<std::path::PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];
    let paths = folders.map(|folder| Path::new(folder).join("faketime/libfaketimeMT.so.1"));
    paths.into_iter().find(|path| path.is_file())
}

const WATCH: Duration = Duration::from_secs(6);
