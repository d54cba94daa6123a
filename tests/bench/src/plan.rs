//! The one command: installs, measures, prints and draws.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::Arguments;
use crate::extra;
use crate::growth::{self, Growth};
use crate::paper;
use crate::peer::{Peer, Subject, Workshop};
use crate::plot::{Line, draw};
use crate::report;
use crate::suite::{Cell, Pace, Run, Runs, Suite};

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wishes {
    quick: bool,
    peers: Vec<Peer>,
    rounds: Option<usize>,
    cells_only: bool,
    out: PathBuf,
}

impl From<Arguments> for Wishes {
    fn from(from: Arguments) -> Self {
        let all = if from.peers.is_empty() { Peer::ALL.to_vec() } else { from.peers };
        let (quick, rounds) = (from.quick, from.rounds);
        Self { quick, peers: all, rounds, cells_only: from.cells_only, out: from.out }
    }
}

/// Everything.
pub(crate) fn run(workshop: &Workshop, wishes: &Wishes) -> Result<()> {
    let began = Instant::now();
    let mut peers = Vec::new();
    for peer in &wishes.peers {
        match peer.install(workshop) {
            Ok(()) => peers.push(*peer),
            Err(error) => eprintln!("left out: {error:#}"),
        }
    }
    let pace = Pace {
        warm_up: Duration::from_millis(if wishes.quick { 500 } else { 1_200 }),
        window: Duration::from_millis(if wishes.quick { 1_200 } else { 2_500 }),
        rounds: wishes.rounds.unwrap_or(3),
    };
    anyhow::ensure!(!peers.is_empty(), "nothing to measure");
    let runs_folder = workshop.folder.join(format!("runs-{}", std::process::id()));
    let mut suite = Suite::new(workshop, runs_folder.clone(), pace);
    let facts = extra::machine(workshop, &peers);
    let (cells, subjects) = (cells(wishes.quick), subjects(&peers));
    // The short form compares policies in its first cell only.
    let (first, few) = (cells[0], few(&subjects));
    let runs = suite.run(&cells, |cell| {
        if wishes.quick && *cell != first { few.clone() } else { subjects.clone() }
    });
    let mut page = head(wishes, &facts, pace);
    page += &report::tables(&cells, &subjects, &runs);
    fs::create_dir_all(&wishes.out)?;
    if !wishes.cells_only {
        page += &others(&mut suite, &peers, wishes.quick);
        if peers.contains(&Peer::Gatepost) {
            let grown = growth::all(&mut suite, wishes.quick);
            page += &report::growths(&grown);
            growth_plots(&wishes.out, &grown).map_err(|error| anyhow!("plots: {error}"))?;
            page += &paper::page(&cells, &runs, &wishes.out)
                .map_err(|error| anyhow!("scale on paper: {error}"))?;
        }
    }
    page += &format!("\nTaken in {} minutes.\n", began.elapsed().as_secs().div_ceil(60));
    plots(&wishes.out, &cells, &subjects, &runs).map_err(|error| anyhow!("plots: {error}"))?;
    println!("{page}");
    fs::write(wishes.out.join("RESULTS.md"), page)?;
    // Only now: mass deletion makes the next files slow (see README.md).
    fs::remove_dir_all(runs_folder)?;
    Ok(())
}

fn cells(quick: bool) -> Vec<Cell> {
    let mut cells = vec![
        Cell::kept(1024, 20),
        Cell::each(1024, 20),
        Cell::kept(1024, 1),
        Cell::kept(1024, 100),
        Cell::kept(10_240, 20),
        Cell::kept(102_400, 20),
    ];
    if !quick {
        cells.extend([
            Cell::pipelined(1024, 20),
            Cell::kept(1024, 5),
            Cell::kept(10_240, 100),
            Cell::kept(102_400, 1),
            Cell::each(1024, 1),
            Cell::each(1024, 100),
        ]);
    }
    cells
}

/// Each peer without policies, and with four where it has any.
fn subjects(peers: &[Peer]) -> Vec<Subject> {
    let policies = |peer: &Peer| match peer {
        Peer::Gatepost | Peer::Haraka | Peer::Exim => vec![0, 4],
        Peer::Postfix => vec![0, 1, 4],
        Peer::OpenSmtpd | Peer::Null => vec![0],
    };
    let all = peers
        .iter()
        .flat_map(|peer| policies(peer).into_iter().map(|policies| Subject::new(*peer, policies)));
    all.collect()
}

/// Those without policies, and ours with four.
fn few(subjects: &[Subject]) -> Vec<Subject> {
    let wanted = |subject: &&Subject| subject.policies == 0 || subject.peer == Peer::Gatepost;
    subjects.iter().filter(wanted).cloned().collect()
}

/// What comes after the cells. A part that fails says so and stops nothing.
fn others(suite: &mut Suite<'_>, peers: &[Peer], quick: bool) -> String {
    let keep = |what: &str, error: anyhow::Error| eprintln!("{what}: {error:#}");
    let mut relayed = Vec::new();
    for peer in peers.iter().filter(|peer| **peer != Peer::Null && **peer != Peer::OpenSmtpd) {
        eprintln!("relay: {}", peer.name());
        match extra::relay(suite, *peer, suite.pace.window) {
            Ok(one) => relayed.push((*peer, one)),
            Err(error) => keep(peer.name(), error),
        }
    }
    let mut page = report::relays(&relayed);
    let mut sources = Vec::new();
    for peer in peers {
        let subject = Subject::new(*peer, 0);
        eprintln!("smtp-source: {}", subject.name());
        match extra::smtp_source(suite, &subject, if quick { 3_000 } else { 10_000 }) {
            Ok(rate) => sources.push((subject, rate)),
            Err(error) => keep("smtp-source", error),
        }
    }
    page += &report::sources(&sources);
    let mut idle = Vec::new();
    let mut starts = Vec::new();
    let mut open = Vec::new();
    for subject in peers.iter().map(|peer| Subject::new(*peer, policies_at_rest(*peer))) {
        if subject.peer == Peer::Null {
            continue;
        }
        eprintln!("idle sessions and starts: {}", subject.name());
        // A process for each session: thousands would tell nothing new.
        let forks = matches!(subject.peer, Peer::Postfix | Peer::Exim);
        let ours = subject.peer == Peer::Gatepost;
        let counts: &[usize] = if forks || (quick && !ours) { &[1_000] } else { &[1_000, 10_000] };
        match extra::idle(suite, &subject, counts) {
            Ok(one) => idle.push((subject.clone(), one)),
            Err(error) => keep("idle", error),
        }
        match extra::start_up(suite, &subject, 5) {
            Ok(one) => starts.push((subject.clone(), one)),
            Err(error) => keep("start", error),
        }
        if !quick {
            match extra::open_load(suite, &subject, &RATES) {
                Ok(runs) => open.push((subject.clone(), runs)),
                Err(error) => keep("open load", error),
            }
        }
    }
    page += &report::idles(&idle);
    page += &report::starts(&starts);
    if !quick {
        page += &report::open_loads(&open);
    }
    page
}

/// Idle sessions are counted with what a server of this kind would have.
fn policies_at_rest(peer: Peer) -> usize {
    if peer == Peer::Gatepost { 4 } else { 0 }
}

fn head(wishes: &Wishes, facts: &[(String, String)], pace: Pace) -> String {
    let form = if wishes.quick { " -- --quick" } else { "" };
    let mut page = format!(
        "# Results\n\n`cargo run --release -p bench{form}`, medians of {} interleaved rounds of {:?} after {:?} of warm-up, \
         all on one machine at once with the load generator. Figures move with the machine: compare only within this page.\n\n\
         | | |\n|---|---|\n",
        pace.rounds, pace.window, pace.warm_up
    );
    for (name, value) in facts {
        page += &format!("| {name} | {value} |\n");
    }
    page
}

fn growth_plots(out: &Path, grown: &[Growth]) -> Result<(), Box<dyn std::error::Error>> {
    let lines = grown.iter().map(|growth| Line {
        name: growth.name.to_owned(),
        // A logarithm has no zero.
        points: (growth.steps.iter())
            .map(|step| (step.size.max(1) as f64, step.run.cpu.as_secs_f64() * 1e6))
            .collect(),
    });
    draw(
        &out.join("growth.svg"),
        "CPU time of a message by what grows",
        ("how many", "microseconds of CPU a message"),
        &lines.collect::<Vec<_>>(),
    )
}

type Of = fn(&Run) -> f64;

fn plots(
    out: &Path,
    cells: &[Cell],
    subjects: &[Subject],
    runs: &Runs,
) -> Result<(), Box<dyn std::error::Error>> {
    let lines = |pick: fn(&Cell) -> bool, across: fn(&Cell) -> usize, up: Of| -> Vec<Line> {
        let of = |subject: &Subject| {
            let mut points: Vec<(f64, f64)> = cells
                .iter()
                .filter(|cell| pick(cell))
                .filter_map(|cell| {
                    let run = report::median(runs.get(&(*cell, subject.clone()))?)?;
                    Some((across(cell) as f64, up(&run)))
                })
                .collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Line { name: subject.name(), points }
        };
        subjects.iter().map(of).filter(|line| !line.points.is_empty()).collect()
    };
    let by_sessions: fn(&Cell) -> bool =
        |cell| !cell.each && !cell.pipelining && cell.octets == 1024;
    let by_size: fn(&Cell) -> bool = |cell| !cell.each && !cell.pipelining && cell.sessions == 20;
    let p99: Of = |run| run.p99.as_secs_f64() * 1e3;
    let sessions = ("sessions", "accepted/s");
    draw(
        &out.join("sessions.svg"),
        "Throughput by sessions, 1 KB, many messages each",
        sessions,
        &lines(by_sessions, |cell| cell.sessions, |run| run.rate),
    )?;
    draw(
        &out.join("size.svg"),
        "Throughput by size, 20 sessions",
        ("octets of a message", "accepted/s"),
        &lines(by_size, |cell| cell.octets, |run| run.rate),
    )?;
    draw(
        &out.join("latency.svg"),
        "99th percentile of a transaction by sessions, 1 KB",
        ("sessions", "ms"),
        &lines(by_sessions, |cell| cell.sessions, p99),
    )
}

/// Messages a second of the open load.
const RATES: [f64; 6] = [250.0, 500.0, 1_000.0, 2_000.0, 4_000.0, 8_000.0];
