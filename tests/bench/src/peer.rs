//! The servers that are measured: how each is installed, configured and started.

mod exim;
mod gatepost;
mod haraka;
mod install;
mod opensmtpd;
mod postfix;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::account::Group;

/// A program that takes mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// Ours.
    Gatepost,
    /// Debian's Postfix.
    Postfix,
    /// Debian's Exim, the light daemon.
    Exim,
    /// Debian's OpenSMTPD, which flushes nothing.
    OpenSmtpd,
    /// Haraka of npm.
    Haraka,
    /// Takes everything and keeps nothing: what load and machine allow.
    Null,
}

/// A server in one of its configurations.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Subject {
    /// The program.
    pub(crate) peer: Peer,
    /// Policies, each asked at all stages: plugins, milters, lines of an ACL.
    pub(crate) policies: usize,
    /// Where it relays everything; held in the queue when absent.
    pub(crate) relay: Option<SocketAddr>,
}

/// Where programs and files lie.
#[derive(Clone, Debug)]
pub(crate) struct Workshop {
    /// The top of the repository.
    pub(crate) root: PathBuf,
    /// Peers that were installed, and the folders of the runs.
    pub(crate) folder: PathBuf,
    /// Our program.
    pub(crate) gatepost: PathBuf,
    /// This program, which is the null server, too.
    pub(crate) bench: PathBuf,
}

/// One start of a server, with a folder of its own.
#[derive(Debug)]
pub(crate) struct Running {
    /// Its control group.
    pub(crate) group: Group,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// From the start of its process to its first 220.
    pub(crate) started_in: Duration,
    child: Child,
    folder: PathBuf,
}

/// What a peer gets to write its configuration.
struct Place<'a> {
    workshop: &'a Workshop,
    subject: &'a Subject,
    folder: &'a Path,
    address: SocketAddr,
}

impl Peer {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Gatepost, Self::Postfix, Self::Exim, Self::OpenSmtpd, Self::Haraka, Self::Null];

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gatepost => "Gatepost",
            Self::Postfix => "Postfix",
            Self::Exim => "Exim",
            Self::OpenSmtpd => "OpenSMTPD",
            Self::Haraka => "Haraka",
            Self::Null => "null server",
        }
    }

    /// What a 250 means there.
    pub(crate) fn durability(self) -> &'static str {
        match self {
            Self::Gatepost => "one flush of the log for all that wait",
            Self::Postfix => "one fsync for each message",
            Self::Exim => "three fsyncs for each message",
            Self::OpenSmtpd => "none: renames without a flush",
            Self::Haraka => "one fsync for each message, the directory is not flushed",
            Self::Null => "none: nothing is kept",
        }
    }

    /// What others call one policy there.
    pub(crate) fn policy(self) -> &'static str {
        match self {
            Self::Gatepost => "plugin",
            Self::Postfix => "milter",
            Self::Exim => "ACL",
            Self::OpenSmtpd => "filter",
            Self::Haraka => "plugin",
            Self::Null => "policy",
        }
    }

    /// Puts it where it can be started from. Does nothing when it is there already.
    pub(crate) fn install(self, workshop: &Workshop) -> Result<()> {
        match self {
            Self::Gatepost => gatepost::install(workshop),
            Self::Postfix => postfix::install(workshop),
            Self::Exim => exim::install(workshop),
            Self::OpenSmtpd => opensmtpd::install(workshop),
            Self::Haraka => haraka::install(workshop),
            Self::Null => Ok(()),
        }
        .with_context(|| format!("installing {}", self.name()))
    }

    /// Its version, in its own words.
    pub(crate) fn version(self, workshop: &Workshop) -> String {
        let version = match self {
            Self::Gatepost => gatepost::version(workshop),
            Self::Postfix => install::debian_version("postfix"),
            Self::Exim => install::unpacked_version(workshop, "exim"),
            Self::OpenSmtpd => install::unpacked_version(workshop, "opensmtpd"),
            Self::Haraka => haraka::version(workshop),
            Self::Null => Ok("of this benchmark".to_owned()),
        };
        version.unwrap_or_else(|error| format!("unknown: {error:#}"))
    }
}

impl Subject {
    /// Holds everything.
    pub(crate) fn new(peer: Peer, policies: usize) -> Self {
        Self { peer, policies, relay: None }
    }

    /// Sends everything on.
    pub(crate) fn relay(peer: Peer, to: SocketAddr) -> Self {
        Self { peer, policies: 0, relay: Some(to) }
    }

    /// Its name in tables.
    pub(crate) fn name(&self) -> String {
        match self.policies {
            0 => self.peer.name().to_owned(),
            1 => format!("{}, 1 {}", self.peer.name(), self.peer.policy()),
            n => format!("{}, {n} {}s", self.peer.name(), self.peer.policy()),
        }
    }

    /// Starts it in `folder`, which is made if absent, and waits for its greeting.
    pub(crate) fn start(&self, workshop: &Workshop, folder: &Path) -> Result<Running> {
        let what = || format!("starting {}", self.name());
        fs::create_dir_all(folder).with_context(what)?;
        // Others than root must be able to walk in.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).with_context(what)?;
        let address = free_address()?;
        let place = Place { workshop, subject: self, folder, address };
        let script = match self.peer {
            Peer::Gatepost => gatepost::script(&place),
            Peer::Postfix => postfix::script(&place),
            Peer::Exim => exim::script(&place),
            Peer::OpenSmtpd => opensmtpd::script(&place),
            Peer::Haraka => haraka::script(&place),
            Peer::Null => Ok(format!("exec {} sink --address {address}", workshop.bench.display())),
        };
        let group = Group::new(&folder.file_name().unwrap_or_default().to_string_lossy())?;
        let log = fs::File::create(folder.join("log"))?;
        let mut command = group.command(&script.with_context(what)?);
        command.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let began = Instant::now();
        let child = command.spawn().with_context(what)?;
        let mut running = Running {
            group,
            address,
            started_in: Duration::ZERO,
            child,
            folder: folder.to_owned(),
        };
        running.wait(began).with_context(what)?;
        Ok(running)
    }
}

impl Running {
    /// Waits for the first 220.
    fn wait(&mut self, began: Instant) -> Result<()> {
        while began.elapsed() < PATIENCE {
            if let Ok(stream) = TcpStream::connect(self.address) {
                stream.set_read_timeout(Some(Duration::from_secs(10)))?;
                let mut greeting = String::new();
                let read = BufReader::new(stream).read_line(&mut greeting);
                if read.is_ok() && greeting.starts_with("220") {
                    self.started_in = began.elapsed();
                    return Ok(());
                }
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        bail!("no greeting; it said: {}", self.log())
    }

    /// What it printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Ends it, and waits until it is gone.
    pub(crate) fn stop(mut self) {
        self.group.end();
        let _ = self.child.wait();
    }
}

/// An address that nobody listens to.
pub(crate) fn free_address() -> Result<SocketAddr> {
    // Below the ports that the kernel gives to clients, so that no session of ours takes it.
    for port in (20_000..30_000).step_by(7) {
        let port = port + (std::process::id() % 7) as u16;
        if let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", port)) {
            return Ok(listener.local_addr()?);
        }
    }
    bail!("no port is free")
}

/// A first start compiles plugins.
const PATIENCE: Duration = Duration::from_secs(180);
