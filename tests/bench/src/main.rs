//! `cargo run --release -p bench -- --quick`: the server beside its peers, measured in one run.
//!
//! `README.md` beside this file says what is done and how to read it.

#![expect(clippy::print_stdout, reason = "this is a program that measures and prints")]

mod account;
mod extra;
mod growth;
mod load;
mod paper;
mod peer;
mod plan;
mod plot;
mod report;
mod sink;
mod suite;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::load::{Connection, Load, Window};
use crate::peer::{Peer, Workshop};

#[derive(Debug, Parser)]
#[command(about = "Gatepost beside its peers: throughput, latency, CPU and memory, in one run")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Minutes instead of most of an hour.
    #[arg(long)]
    quick: bool,
    /// Only these, as in `--peers gatepost,postfix`.
    #[arg(long, value_delimiter = ',', value_parser = peer)]
    peers: Vec<Peer>,
    /// Rounds of each subject in each cell.
    #[arg(long)]
    rounds: Option<usize>,
    /// Only the cells of the targets, and none of what follows them.
    #[arg(long)]
    cells_only: bool,
    /// Where tables and plots are put; the repository's RESULTS.md is written when it is `tests/bench`.
    #[arg(long, default_value = "target/bench/results")]
    out: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sends to one server and prints what it met.
    Load(LoadArguments),
    /// Takes everything and keeps nothing.
    Sink {
        #[arg(long)]
        address: SocketAddr,
    },
}

#[derive(Debug, clap::Args)]
struct LoadArguments {
    /// Where the server listens.
    server: SocketAddr,
    /// Sessions at once.
    #[arg(long, default_value_t = 20)]
    sessions: usize,
    /// Octets of content.
    #[arg(long, default_value_t = 1024)]
    octets: usize,
    /// Recipients of each message.
    #[arg(long, default_value_t = 1)]
    recipients: usize,
    /// One message over each connection.
    #[arg(long)]
    each: bool,
    /// MAIL, RCPT and DATA in one segment.
    #[arg(long)]
    pipelining: bool,
    /// Messages a second, whether the server keeps up or not.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds that count.
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Seconds before them.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Ten thousand sessions are as many files.
    let open = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit { current: open.maximum, maximum: open.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most)?;
    match arguments.command {
        Some(Command::Load(arguments)) => load(&arguments),
        Some(Command::Sink { address }) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            Ok(runtime.block_on(sink::serve(address, sink::Arrived::default()))?)
        }
        None => plan::run(&workshop()?, &plan::Wishes::from(arguments)),
    }
}

fn load(arguments: &LoadArguments) -> Result<()> {
    let load = Load {
        server: arguments.server,
        sessions: arguments.sessions,
        octets: arguments.octets,
        recipients: arguments.recipients,
        connection: if arguments.each { Connection::Each } else { Connection::Kept },
        pipelining: arguments.pipelining,
        rate: arguments.rate,
    };
    let from = Instant::now() + Duration::from_secs_f64(arguments.warm_up);
    let window = Window { from, until: from + Duration::from_secs_f64(arguments.seconds) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let met = runtime.block_on(load.run(window));
    println!(
        "{:.0}/s, {} accepted, {} failed; p50 {:?}, p99 {:?}, longest {:?}",
        met.accepted as f64 / arguments.seconds,
        met.accepted,
        met.failed,
        met.percentile(50.0),
        met.percentile(99.0),
        Duration::from_micros(met.latency.max()),
    );
    Ok(())
}

fn workshop() -> Result<Workshop> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let target = std::path::absolute(target)?;
    let gatepost =
        std::env::var_os("GATEPOST").map_or_else(|| target.join("release/gatepost"), PathBuf::from);
    let gatepost = std::path::absolute(gatepost)?;
    Ok(Workshop { folder: target.join("bench"), gatepost, bench: std::env::current_exe()?, root })
}

fn peer(name: &str) -> Result<Peer, String> {
    let found = Peer::ALL.into_iter().find(|peer| {
        let first = peer.name().split(' ').next().unwrap_or_default();
        first.eq_ignore_ascii_case(name)
    });
    found.ok_or_else(|| "gatepost, postfix, exim, opensmtpd, haraka or null".to_owned())
}
