//! `strace`, which lets system calls of a running server fail.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::foreign::find;
use crate::place::within;
use crate::process::Process;

/// One that is attached to a process. Dropping it kills it, and the process goes on.
pub struct Strace {
    process: Process,
    log: PathBuf,
}

impl Strace {
    /// Attaches to `pid` and waits until it is. `options` say which calls are seen, and which fail.
    pub fn attach(pid: u32, folder: &Path, options: &[String]) -> Self {
        let (log, out) = (folder.join("strace.log"), folder.join("strace.out"));
        for old in [&log, &out] {
            // There may be none.
            let _ = std::fs::remove_file(old);
        }
        let mut command = Command::new(find("strace").expect("strace is installed"));
        command.arg("-f").arg("-y").arg("-o").arg(&log).args(options);
        command.args(["-p", &pid.to_string()]);
        let mut process = Process::start("strace", &mut command, &out);
        within(Duration::from_secs(60), "strace to be attached", || {
            // What it was to kill may have met its end already.
            let ended = process.ended().is_some();
            let attached = process.log().contains("attached");
            assert!(attached || !ended, "strace ended: {}", process.log());
            attached.then_some(())
        });
        Self { process, log }
    }

    /// Lets the process go on alone; gives what was seen.
    pub fn detach(mut self) -> Vec<Call> {
        self.process.signal(Signal::INT);
        self.process.wait(Duration::from_secs(60));
        calls(&std::fs::read_to_string(&self.log).unwrap_or_default())
    }
}

/// One call that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The thread.
    pub thread: u32,
    /// Its name.
    pub name: String,
    /// What was passed, with the paths of files.
    pub arguments: String,
    /// It was made to fail.
    pub injected: bool,
}

/// Reads a log, calls in the order in which they began.
pub fn calls(log: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut unfinished: BTreeMap<u32, usize> = BTreeMap::new();
    for line in log.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let (Ok(thread), rest) = (thread.parse(), rest.trim_start()) else { continue };
        let injected = rest.contains("(INJECTED)");
        if rest.starts_with("<... ") {
            if let Some(call) = unfinished.remove(&thread).and_then(|index| calls.get_mut(index)) {
                call.injected |= injected;
            }
        } else if let Some((name, arguments)) = rest.split_once('(') {
            if rest.ends_with("<unfinished ...>") {
                unfinished.insert(thread, calls.len());
            }
            let (name, arguments) = (name.to_owned(), arguments.to_owned());
            calls.push(Call { thread, name, arguments, injected });
        }
    }
    calls
}

/// Points at which a call can be made to fail: its name, and which one of its thread. `of_interest` chooses calls.
pub fn points(calls: &[Call], of_interest: impl Fn(&Call) -> bool) -> BTreeSet<(String, usize)> {
    let mut counts: BTreeMap<(u32, &str), usize> = BTreeMap::new();
    let mut points = BTreeSet::new();
    for call in calls {
        let count = counts.entry((call.thread, &call.name)).or_default();
        *count += 1;
        if of_interest(call) {
            points.insert((call.name.clone(), *count));
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_over_calls_that_others_interrupt() {
        let log = "7 fdatasync(12</q/1.seg> <unfinished ...>\n\
                   8 openat(AT_FDCWD</>, \"/q/x\", O_RDONLY) = 3</q/x>\n\
                   7 <... fdatasync resumed>) = -1 EIO (Input/output error) (INJECTED)\n\
                   7 fdatasync(13</q/2.seg>) = 0\n\
                   7 +++ exited with 0 +++\n";
        let calls = calls(log);
        let seen: Vec<(&str, bool)> =
            calls.iter().map(|call| (call.name.as_str(), call.injected)).collect();
        assert_eq!(seen, [("fdatasync", true), ("openat", false), ("fdatasync", false)]);
        let points = points(&calls, |call| call.arguments.contains("2.seg"));
        assert_eq!(points.into_iter().collect::<Vec<_>>(), [("fdatasync".to_owned(), 2)]);
    }
}
