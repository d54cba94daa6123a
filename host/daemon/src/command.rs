//! The command line: what can be asked of the program.

mod check;
mod compile;
mod dkim;
mod dmarc;
mod dns;
mod plugin;
mod queue;
mod run;
mod send;
mod simulate;
mod user;
mod why;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};

pub(crate) use self::compile::compiler;
use crate::config::{Config, Fault};

/// The configuration that is used when none is named.
const DEFAULT: &str = "config/dev.toml";
/// A copy of it for folders that have none.
const EMBEDDED: &str = include_str!("../../../config/dev.toml");

/// A mail server whose policy is WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "gatepost", version, about, long_about = None)]
pub(crate) struct Line {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (what happens without a command, too)
    Run(At),
    /// Check a configuration and its plugins, and name every fault
    Check(At),
    /// Look at the queue and act on it
    Queue(queue::Queue),
    /// Hand a mail in: header and body from stdin, as to sendmail
    Send(send::Send),
    /// Look at the plugins
    Plugin(plugin::Plugin),
    /// Say what each stage and plugin decided for a message, and why
    Why(why::Why),
    /// Play a session that is made up, and show what every rule and plugin decides; nothing is queued
    Simulate(Box<simulate::Simulate>),
    /// Make keys for our signature, and show their DNS records
    Dkim(dkim::Dkim),
    /// Sum up DMARC reports of others, and show what we will report
    Dmarc(dmarc::Dmarc),
    /// Print the DNS records that a domain needs, beside what the DNS says now
    Dns(dns::Dns),
    /// Add, change, list and remove those who may log in
    User(user::User),
    /// Compile a component from stdin to stdout: what the server starts for each plugin it does not know yet
    #[command(hide = true)]
    Compile(compile::Compile),
}

/// Which configuration.
#[derive(Args, Clone, Debug)]
pub(crate) struct At {
    /// The configuration file; paths in it are relative to the working folder
    #[arg(long, value_name = "FILE", default_value = DEFAULT, global = true)]
    config: PathBuf,
}

impl Line {
    /// Does what was asked.
    pub(crate) fn run(self) -> Result<()> {
        match self.command.unwrap_or_else(|| Command::Run(At { config: DEFAULT.into() })) {
            Command::Run(at) => run::run(&at),
            Command::Check(at) => check::check(&at),
            Command::Queue(queue) => queue.run(),
            Command::Send(send) => send.run(),
            Command::Plugin(plugin) => plugin.run(),
            Command::Why(why) => why.run(),
            Command::Simulate(simulate) => simulate.run(),
            Command::Dkim(dkim) => dkim.run(),
            Command::Dmarc(dmarc) => dmarc.run(),
            Command::Dns(dns) => dns.run(),
            Command::User(user) => user.run(),
            Command::Compile(compile) => compile.run(),
        }
    }
}

impl At {
    /// Reads the configuration; all its faults are one error.
    fn load(&self) -> Result<Config> {
        let faults = match self.read() {
            Ok(config) => return Ok(config),
            Err(faults) => faults,
        };
        for fault in &faults {
            say_error(&format!("{fault}"));
        }
        bail!("{} in {}; nothing was changed", count(faults.len(), "fault"), self.config.display())
    }

    fn read(&self) -> Result<Config, Vec<Fault>> {
        let default = Path::new(DEFAULT);
        if self.config == default && !default.exists() {
            return Config::parse(default, EMBEDDED);
        }
        Config::load(&self.config)
    }
}

/// Writes a line for the one who ran the command. A closed pipe ends the program quietly, as it does for `cat`.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

pub(crate) fn say_error(line: &str) {
    // Who closed stderr does not want to know.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Where compiled plugins are kept for commands that touch no server: below the user's cache, if there is one.
fn cache() -> Option<PathBuf> {
    let of_user = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(of_user)?;
    let folder = base.join("gatepost");
    let made = std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .recursive(true)
        .create(&folder);
    made.is_ok().then_some(folder)
}

/// `1 fault`, `2 faults`.
pub(crate) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
