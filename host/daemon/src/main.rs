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
