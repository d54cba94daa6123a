//! What is measured, and in which order: for each cell all subjects take turns, round by round, each time as a fresh
//! process in a fresh folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::load::{Connection, Load, Met, Window};
use crate::peer::{Subject, Workshop};

/// One way to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    /// One message over each connection, and not many.
    pub(crate) each: bool,
    /// Octets of content.
    pub(crate) octets: usize,
    /// Sessions at once.
    pub(crate) sessions: usize,
    /// MAIL, RCPT and DATA in one segment.
    pub(crate) pipelining: bool,
}

/// One run of one subject.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Messages accepted in a second.
    pub(crate) rate: f64,
    /// CPU time of the server for each of them.
    pub(crate) cpu: Duration,
    /// Half of the transactions took longer.
    pub(crate) median: Duration,
    /// One in a hundred took longer.
    pub(crate) p99: Duration,
    /// The longest.
    pub(crate) most: Duration,
    /// Refused messages and lost connections.
    pub(crate) failed: u64,
}

/// All runs of each subject in each cell.
pub(crate) type Runs = BTreeMap<(Cell, Subject), Vec<Run>>;

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Sent, but not counted.
    pub(crate) warm_up: Duration,
    /// Counted.
    pub(crate) window: Duration,
    /// Runs of each subject in each cell.
    pub(crate) rounds: usize,
}

/// Runs everything. Folders are removed at the very end by the caller: mass deletion before a run ruins it.
#[derive(Debug)]
pub(crate) struct Suite<'a> {
    /// Where programs are.
    pub(crate) workshop: &'a Workshop,
    /// Where each run gets a folder.
    pub(crate) folder: PathBuf,
    /// How long.
    pub(crate) pace: Pace,
    starts: u32,
    /// That of the last run.
    last: Option<PathBuf>,
}

impl<'a> Suite<'a> {
    /// Nothing is started yet.
    pub(crate) fn new(workshop: &'a Workshop, folder: PathBuf, pace: Pace) -> Self {
        Self { workshop, folder, pace, starts: 0, last: None }
    }

    /// A folder that nobody has used. The one before is not needed any more: its few large files go, which hold the most
    /// by far; its many small ones stay to the end, because mass deletion makes the next files slow.
    pub(crate) fn fresh(&mut self, subject: &Subject) -> PathBuf {
        if let Some(last) = self.last.take() {
            remove_large(&last);
        }
        self.starts += 1;
        let name: String = subject.name().chars().filter(char::is_ascii_alphanumeric).collect();
        let folder = self.folder.join(format!("{:03}-{name}", self.starts));
        self.last = Some(folder.clone());
        folder
    }

    /// All rounds of all cells, each with the subjects that `of` gives for it.
    pub(crate) fn run(&mut self, cells: &[Cell], of: impl Fn(&Cell) -> Vec<Subject>) -> Runs {
        let mut runs = Runs::new();
        for (number, cell) in cells.iter().enumerate() {
            let subjects = of(cell);
            for round in 0..self.pace.rounds {
                for turn in 0..subjects.len() {
                    // Another one is first in each round.
                    let subject = &subjects[(turn + round) % subjects.len()];
                    eprint!(
                        "{}/{} {cell}, round {}: {} … ",
                        number + 1,
                        cells.len(),
                        round + 1,
                        subject.name()
                    );
                    match self.run_once(*cell, subject) {
                        Ok(run) => {
                            eprintln!(
                                "{:.0}/s, {} µs CPU, p99 {:.1} ms, {} failed",
                                run.rate,
                                run.cpu.as_micros(),
                                run.p99.as_secs_f64() * 1e3,
                                run.failed
                            );
                            runs.entry((*cell, subject.clone())).or_default().push(run);
                        }
                        Err(error) => eprintln!("failed: {error:#}"),
                    }
                }
            }
        }
        runs
    }

    fn run_once(&mut self, cell: Cell, subject: &Subject) -> Result<Run> {
        let folder = self.fresh(subject);
        let server = subject.start(self.workshop, &folder)?;
        let load = Load {
            server: server.address,
            sessions: cell.sessions,
            octets: cell.octets,
            recipients: 1,
            connection: if cell.each { Connection::Each } else { Connection::Kept },
            pipelining: cell.pipelining,
            rate: None,
        };
        let (met, cpu) = measure(&load, self.pace, || server.group.cpu())?;
        server.stop();
        Ok(Run::new(&met, cpu, self.pace.window))
    }
}

/// Removes what is larger than [`LARGE`] below this folder. What can't be read or removed stays.
fn remove_large(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            remove_large(&entry.path());
        } else if metadata.len() > LARGE {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Segments of our log are; messages are not.
const LARGE: u64 = 1 << 20;

impl Run {
    /// From what sessions met, and the CPU time of the server meanwhile.
    pub(crate) fn new(met: &Met, cpu: Duration, window: Duration) -> Self {
        let accepted = u32::try_from(met.accepted).unwrap_or(u32::MAX);
        Self {
            rate: met.accepted as f64 / window.as_secs_f64(),
            cpu: cpu.checked_div(accepted).unwrap_or(Duration::ZERO),
            median: met.percentile(50.0),
            p99: met.percentile(99.0),
            most: Duration::from_micros(met.latency.max()),
            failed: met.failed,
        }
    }
}

/// Sends on one thread, and reads the server's CPU time at both edges of the window.
pub(crate) fn measure(
    load: &Load,
    pace: Pace,
    cpu: impl Fn() -> Result<Duration>,
) -> Result<(Met, Duration)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let from = Instant::now() + pace.warm_up;
    let window = Window { from, until: from + pace.window };
    let load = load.clone();
    let sending = std::thread::spawn(move || runtime.block_on(load.run(window)));
    std::thread::sleep(window.from.saturating_duration_since(Instant::now()));
    let before = cpu()?;
    std::thread::sleep(window.until.saturating_duration_since(Instant::now()));
    let after = cpu()?;
    let met = sending.join().ok().context("the load panicked")?;
    Ok((met, after.saturating_sub(before)))
}

impl Cell {
    /// Many messages a connection, one segment for each command.
    pub(crate) const fn kept(octets: usize, sessions: usize) -> Self {
        Self { each: false, octets, sessions, pipelining: false }
    }

    /// One message a connection.
    pub(crate) const fn each(octets: usize, sessions: usize) -> Self {
        Self { each: true, octets, sessions, pipelining: false }
    }

    /// Many messages a connection, the envelope in one segment.
    pub(crate) const fn pipelined(octets: usize, sessions: usize) -> Self {
        Self { each: false, octets, sessions, pipelining: true }
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let messages = match (self.each, self.pipelining) {
            (true, _) => "one message per connection",
            (false, true) => "many messages per connection, pipelined",
            (false, false) => "many messages per connection",
        };
        let plural = if self.sessions == 1 { "" } else { "s" };
        write!(f, "{} KB, {} session{plural}, {messages}", self.octets / 1024, self.sessions)
    }
}
