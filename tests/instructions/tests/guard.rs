//! Nothing gets slower unseen: instructions of fixed scenarios, counted by valgrind, against those of `baseline.txt`.
//!
//! Instructions do not depend on how busy a machine is, only on compiler, profile and code, so a small tolerance holds.
//! Only release builds are compared: `cargo test --release -p instructions`. A change that is meant is written down with
//! `UPDATE=1 cargo test --release -p instructions`.

#![expect(clippy::print_stdout, reason = "the figures are of interest when nothing failed, too")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// By so much a scenario may take more than its baseline, in percent. Hash maps begin with another seed each time, and
/// buffers grow at other moments: scenarios of one thread were seen to move by less than one percent.
const TOLERANCE: f64 = 3.0;
/// Those of the queue, where tasks and a thread that flushes meet by chance.
const TOLERANCE_OF_QUEUE: f64 = 10.0;

const SCENARIOS: [&str; 8] = [
    "smtp-mailbox",
    "smtp-reply",
    "smtp-transaction-1k",
    "smtp-transaction-100k",
    "message-watch-10k",
    "message-received-and-compose",
    "queue-commit-one-by-one",
    "queue-commit-twenty-at-once",
];

#[test]
fn no_scenario_takes_more_instructions_than_its_baseline() -> Result<()> {
    if cfg!(debug_assertions) {
        println!("not looked at: a debug build says nothing about speed");
        return Ok(());
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.txt");
    let baseline = read(&file)?;
    let mut found = BTreeMap::new();
    let mut slower = Vec::new();
    for name in SCENARIOS {
        let count = instructions(name)?;
        let known = baseline.get(name).copied();
        let percent = known.map_or(0.0, |known| (count as f64 / known as f64 - 1.0) * 100.0);
        println!("{name:<32} {count:>9}  {percent:+.1} %");
        let tolerance = if name.starts_with("queue") { TOLERANCE_OF_QUEUE } else { TOLERANCE };
        if percent > tolerance {
            slower.push(format!(
                "{name}: {count} instructions, {percent:+.1} %, {tolerance} are allowed"
            ));
        }
        found.insert(name, count);
    }
    if std::env::var_os("UPDATE").is_some() {
        return write(&file, &found);
    }
    if baseline.is_empty() {
        println!("nothing to compare with: UPDATE=1 writes {}", file.display());
        return Ok(());
    }
    let unknown: Vec<_> = SCENARIOS.iter().filter(|name| !baseline.contains_key(**name)).collect();
    ensure!(unknown.is_empty(), "no baseline for {unknown:?}: UPDATE=1 writes it");
    ensure!(
        slower.is_empty(),
        "slower than baseline.txt:\n{}\nIf that is meant: UPDATE=1 cargo test --release -p instructions",
        slower.join("\n")
    );
    Ok(())
}

/// Of one repetition: of many less those of few, so that start and end do not count.
fn instructions(name: &str) -> Result<u64> {
    let (few, many) = if name.starts_with("queue") { (100, 500) } else { (20, 120) };
    Ok(counted(name, many)?.saturating_sub(counted(name, few)?) / (many - few))
}

fn counted(name: &str, count: u64) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    let out: PathBuf = folder.path().join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--error-exitcode=0"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .args([env!("CARGO_BIN_EXE_instructions"), name, &count.to_string()])
        .output()
        .context("valgrind, of Debian's package of that name")?;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&out)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")));
    match line.and_then(|number| number.split_whitespace().next()) {
        Some(number) => Ok(number.parse()?),
        None => bail!("callgrind says no total"),
    }
}

fn read(file: &Path) -> Result<BTreeMap<String, u64>> {
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        text => text?,
    };
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let (name, count) = line.split_once(' ').context("a name and a number")?;
            Ok((name.to_owned(), count.trim().parse()?))
        })
        .collect()
}

fn write(file: &Path, found: &BTreeMap<&str, u64>) -> Result<()> {
    let mut text = String::from(
        "# Instructions of one repetition, counted by callgrind in a release build on x86-64.\n\
         # Written by: UPDATE=1 cargo test --release -p instructions\n",
    );
    for (name, count) in found {
        writeln!(text, "{name} {count}")?;
    }
    Ok(std::fs::write(file, text)?)
}
