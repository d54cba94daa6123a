//! What a rate does not tell: relaying, memory of idle sessions, the time to the first greeting, latency under a load
//! that does not wait.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::load::{Connection, Load, Session};
use crate::peer::{Subject, Workshop, free_address};
use crate::sink::{self, Arrived};
use crate::suite::{Pace, Run, Suite, measure};

/// What relaying some messages cost.
#[derive(Clone, Debug)]
pub(crate) struct Relayed {
    /// Messages a second, from the first MAIL to the last arrival.
    pub(crate) rate: f64,
    /// CPU time of the server for each.
    pub(crate) cpu: Duration,
    /// From the last 250 to the last arrival.
    pub(crate) drain: Duration,
    /// Messages that were accepted and had not arrived when patience ended.
    pub(crate) missing: u64,
}

/// Sends for a while through a server to a host that counts.
pub(crate) fn relay(
    suite: &mut Suite<'_>,
    peer: crate::peer::Peer,
    window: Duration,
) -> Result<Relayed> {
    let next = free_address()?;
    let arrived = Arrived::default();
    let counted = arrived.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| runtime.block_on(sink::serve(next, counted)))
    });
    // Before the server looks for a port of its own, or it takes this one.
    while std::net::TcpStream::connect(next).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let subject = Subject::relay(peer, next);
    let folder = suite.fresh(&subject);
    let server = subject.start(suite.workshop, &folder)?;
    let load = Load { server: server.address, ..LOAD };
    let pace = Pace { warm_up: Duration::ZERO, window, rounds: 1 };
    let (began, before) = (Instant::now(), server.group.cpu()?);
    let (met, _) = measure(&load, pace, || server.group.cpu())?;
    let last = Instant::now();
    // One message of each session may have been accepted after the window.
    let mut seen = (arrived.count(), Instant::now());
    while (seen.0 < met.accepted || seen.1.elapsed() < QUIET) && seen.1.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(2));
        if arrived.count() > seen.0 {
            seen = (arrived.count(), Instant::now());
        }
    }
    let cpu = server.group.cpu()?.saturating_sub(before);
    server.stop();
    let count = u32::try_from(seen.0).unwrap_or(u32::MAX);
    Ok(Relayed {
        rate: seen.0 as f64 / (seen.1 - began).as_secs_f64(),
        cpu: cpu.checked_div(count).unwrap_or_default(),
        drain: seen.1.saturating_duration_since(last),
        missing: met.accepted.saturating_sub(seen.0),
    })
}

/// The rate of Postfix's own load generator, messages a second by its wall time: the second opinion.
pub(crate) fn smtp_source(
    suite: &mut Suite<'_>,
    subject: &Subject,
    messages: usize,
) -> Result<f64> {
    let folder = suite.fresh(subject);
    let server = subject.start(suite.workshop, &folder)?;
    let began = Instant::now();
    let mut source = std::process::Command::new("timeout")
        .args(["40", "smtp-source", "-4", "-d", "-l", "1024", "-s", "20"])
        .args(["-m", &messages.to_string(), "-f", "sender@client.bench.test"])
        .args(["-t", "user0@dest.bench.test", &format!("inet:{}", server.address)])
        .stdout(std::process::Stdio::null())
        .spawn()
        .context("smtp-source, which comes with Postfix")?;
    let status = source.wait()?;
    let took = began.elapsed();
    server.stop();
    anyhow::ensure!(status.success(), "{}: not finished within 40 s", subject.name());
    Ok(messages as f64 / took.as_secs_f64())
}

/// Memory of one server without and with idle sessions.
#[derive(Clone, Debug)]
pub(crate) struct Idle {
    /// Octets before the first session.
    pub(crate) base: u64,
    /// Sessions that were open, and octets for each.
    pub(crate) sessions: Vec<(usize, f64)>,
}

/// Opens sessions, says EHLO on each, and leaves them alone.
pub(crate) fn idle(suite: &mut Suite<'_>, subject: &Subject, counts: &[usize]) -> Result<Idle> {
    let folder = suite.fresh(subject);
    let server = subject.start(suite.workshop, &folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::sleep(SETTLE);
    let base = server.group.memory();
    let mut open = Vec::new();
    let mut sessions = Vec::new();
    for count in counts {
        let opened = runtime.block_on(async {
            while open.len() < *count {
                open.push(Session::open(server.address).await?);
            }
            std::io::Result::Ok(())
        });
        if let Err(error) = opened {
            eprintln!("{}: {} sessions and no more: {error}", subject.name(), open.len());
            break;
        }
        std::thread::sleep(SETTLE);
        let now = server.group.memory();
        sessions.push((*count, (now as f64 - base as f64) / *count as f64));
    }
    drop(open);
    server.stop();
    Ok(Idle { base, sessions })
}

/// From start to first 220 when the server has run in this folder before; the median of some starts.
pub(crate) fn start_up(
    suite: &mut Suite<'_>,
    subject: &Subject,
    starts: usize,
) -> Result<Duration> {
    let folder = suite.fresh(subject);
    subject.start(suite.workshop, &folder)?.stop();
    let mut times = Vec::new();
    for _ in 0..starts {
        let server = subject.start(suite.workshop, &folder)?;
        times.push(server.started_in);
        server.stop();
    }
    times.sort();
    times.get(times.len() / 2).copied().context("no start")
}

/// Latency at fixed rates: messages come when they are due, whether the server keeps up or not.
pub(crate) fn open_load(
    suite: &mut Suite<'_>,
    subject: &Subject,
    rates: &[f64],
) -> Result<Vec<(f64, Run)>> {
    let mut found = Vec::new();
    for rate in rates {
        let folder = suite.fresh(subject);
        let server = subject.start(suite.workshop, &folder)?;
        let load = Load { server: server.address, sessions: 50, rate: Some(*rate), ..LOAD };
        let (met, cpu) = measure(&load, suite.pace, || server.group.cpu())?;
        server.stop();
        let run = Run::new(&met, cpu, suite.pace.window);
        eprintln!("{} at {rate}/s: {:.0}/s, p99 {:?}", subject.name(), run.rate, run.p99);
        let overloaded = run.rate < rate * 0.9;
        found.push((*rate, run));
        if overloaded {
            break;
        }
    }
    Ok(found)
}

/// What the machine and the programs are.
pub(crate) fn machine(workshop: &Workshop, peers: &[crate::peer::Peer]) -> Vec<(String, String)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.and_then(|line| {
            Some(line.split_once([':', '='])?.1.trim().trim_matches('"').to_owned())
        })
    };
    let mut facts = vec![
        ("processor".to_owned(), field(&read("/proc/cpuinfo"), "model name").unwrap_or_default()),
        (
            "processors".to_owned(),
            std::thread::available_parallelism().map_or(0, usize::from).to_string(),
        ),
        ("memory".to_owned(), field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default()),
        ("kernel".to_owned(), read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("system".to_owned(), field(&read("/etc/os-release"), "PRETTY_NAME").unwrap_or_default()),
        ("load before".to_owned(), read("/proc/loadavg").trim().to_owned()),
    ];
    for peer in peers {
        facts.push((
            peer.name().to_owned(),
            format!("{}; {}", peer.version(workshop), peer.durability()),
        ));
    }
    facts
}

pub(crate) const LOAD: Load = Load {
    server: std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0),
    sessions: 20,
    octets: 1024,
    recipients: 1,
    connection: Connection::Kept,
    pipelining: false,
    rate: None,
};

/// When nothing has arrived for so long, and everything accepted has, it is all.
const QUIET: Duration = Duration::from_millis(200);
/// For a message that is late.
const PATIENCE: Duration = Duration::from_secs(20);
/// Memory is looked at when nothing moves any more; ours gives plugins' memory back after a second.
const SETTLE: Duration = Duration::from_secs(3);
