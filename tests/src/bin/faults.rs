//! Puts the server through faults: `cargo run --bin faults -- cuts --fs ext4 --cuts 1000`.
//!
//! See `tests/README.md` for all of its commands. It runs itself again in a mount and process namespace of its own, so
//! that nothing it mounts or starts outlives it; it wants root for that.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use tests::faults::cuts::{self, NextHost, Plan};
use tests::faults::image::{self, Image, Kind};
use tests::faults::subject::{OtherServer, OurServer, Subject};
use tests::faults::{Arguments, bits, calls, clock, full, kills, say, states};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.split_first() {
        Some((command, rest)) => Arguments::read(rest).and_then(|mut arguments| {
            if std::env::var_os(INSIDE).is_none() {
                return Err(enter_namespace(&words));
            }
            perform(command, &mut arguments)
        }),
        None => Err(USAGE.to_owned()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            say(&what);
            ExitCode::from(2)
        }
    }
}

/// Only returns if it fails.
fn enter_namespace(words: &[String]) -> String {
    let this = match std::env::current_exe() {
        Ok(this) => this,
        Err(error) => return error.to_string(),
    };
    let error = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .arg(this)
        .args(words)
        .env(INSIDE, "1")
        .exec();
    format!("unshare: {error}")
}

fn perform(command: &str, arguments: &mut Arguments) -> Result<bool, String> {
    match command {
        "cuts" => power_cuts(arguments),
        "states" => states::command(arguments),
        "kills" => kills::command(arguments),
        "flushes" => calls::flushes(arguments),
        "calls" => calls::every_call(arguments),
        "full" => full::command(arguments),
        "bits" => bits::command(arguments),
        "clock" => clock::command(arguments),
        _ => Err(format!("{command}: no such command\n{USAGE}")),
    }
}

fn power_cuts(arguments: &mut Arguments) -> Result<bool, String> {
    let kind = Kind::parse(&arguments.word("fs", "ext4"))?;
    let subject = arguments.word("subject", "gatepost");
    let plan = Plan {
        cuts: arguments.number("cuts", 20)?,
        together: arguments.number("together", 10)?,
        starting: arguments.number("starting", 7)?,
        seed: arguments.number("seed", 1)?,
    };
    std::mem::take(arguments).finish()?;
    let folder = image::folder();
    let work = tempfile::Builder::new().prefix("cuts-").tempdir().map_err(|e| e.to_string())?;
    let file = folder.path().join("image");
    let mut image = Image::make(kind, &file, 2 << 30, &[], &work.path().join("var"));
    let next = NextHost::start();
    let port = next.sink.port();
    let mut server: Box<dyn Subject> = if subject == "gatepost" {
        Box::new(OurServer::start(work, port))
    } else {
        let mut other = OtherServer::prepare(&subject, work.path(), image.path(), port)?;
        other.begin();
        other.wait_ready();
        Box::new(other)
    };
    let tally = cuts::run(&plan, &mut *server, &mut image, &next, &mut say);
    server.kill();
    image.unmount();
    let (name, fs) = (server.name(), kind.name());
    say(&format!("{name}: {} power cuts on {fs} (seed {}): {tally}", plan.cuts, plan.seed));
    Ok(tally.is_clean())
}

const INSIDE: &str = "FAULTS_INSIDE";

const USAGE: &str = "faults COMMAND [--option value]…; see tests/README.md";
