//! Our own server.

use tempfile::TempDir;

use super::{Subject, empty_maildir};
use crate::faults::ledger::{ALL, Mix};
use crate::process::run;
use crate::server::{Gatepost, program};
use crate::setup::Setup;

/// Gatepost with its data, mailboxes included, in the folder `var` of its own, which may be a file system of its own.
pub struct OurServer {
    server: Gatepost,
}

impl OurServer {
    /// Starts it in `folder` and waits until it is ready. `port` is where the next host of all others listens.
    pub fn start(folder: TempDir, port: u16) -> Self {
        Self { server: Gatepost::start_in(folder, setup(port), &[]) }
    }

    /// The server itself.
    pub fn server(&mut self) -> &mut Gatepost {
        &mut self.server
    }

    /// Takes what it delivered into mailboxes, in order, with the process that did it.
    pub fn mailbox_by_process(&self) -> Vec<(String, Vec<u8>)> {
        let named = empty_maildir(&self.server.maildir("alice"));
        // SECONDS.M…P<process>Q…
        let process = |name: &str| {
            let from = name.split_once('P').map(|(_, rest)| rest);
            from.and_then(|rest| rest.split('Q').next()).unwrap_or_default().to_owned()
        };
        named.into_iter().map(|(name, message)| (process(&name), message)).collect()
    }
}

/// The configuration: `example.test` in Maildirs, everything else to that port of this machine.
pub fn setup(port: u16) -> Setup {
    Setup::new()
        .with("[relay]\nfrom = [\"127.0.0.0/8\"]")
        .with(&format!("[[route]]\nto = \"*\"\nvia = \"smtp:[127.0.0.1]:{port}\""))
}

/// The version, as `gatepost --version` says it.
pub fn version() -> String {
    run(program(), ["--version"]).stdout.trim().to_owned()
}

impl Subject for OurServer {
    fn name(&self) -> String {
        version()
    }

    fn mix(&self) -> Mix {
        ALL
    }

    fn port(&self) -> u16 {
        self.server.port("mx")
    }

    fn begin(&mut self) {
        self.server.begin();
    }

    fn wait_ready(&mut self) {
        self.server.wait_ready();
    }

    fn kill(&mut self) {
        self.server.kill();
    }

    fn hurry(&mut self) {
        // Its longest interval is two seconds here.
    }

    fn queued(&mut self) -> usize {
        self.server.queue(&["list"]).as_array().map_or(usize::MAX, Vec::len)
    }

    fn mailbox(&mut self) -> Vec<Vec<u8>> {
        self.mailbox_by_process().into_iter().map(|(_, message)| message).collect()
    }
}
