//! Our own server.

use std::path::Path;

use tempfile::TempDir;

use super::{Subject, empty_maildir};
use crate::faults::ledger::{ALL, Mix};
use crate::server::{Gatepost, program};
use crate::setup::Setup;
use crate::process::run;

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
        empty_maildir(Path::new(&self.server.maildir("alice")))
    }
}
