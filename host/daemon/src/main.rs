//! `gatepost`: the command line.

mod admin;
mod bundled;
mod command;
mod config;
mod house;
mod log;
mod metrics;
mod scenario;
mod wiring;

use std::process::ExitCode;

use clap::Parser;
use tikv_jemallocator::Jemalloc;

/// Messages and sessions are many small pieces, which one thread makes and another gives back.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let line = command::Line::parse();
    match line.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The one place that writes to the terminal about a command that failed.
            say_error(&format!("gatepost: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn say_error(text: &str) {
    use std::io::Write as _;
    // A closed stderr is nobody's loss.
    let _ = writeln!(std::io::stderr(), "{text}");
}
