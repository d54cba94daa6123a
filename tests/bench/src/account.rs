//! What a server costs: CPU time of all its processes, also of those that are gone, and the memory of those that live.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A control group around one server. Servers that fork a process for each connection are counted in full, as a walk
/// over `/proc` would not.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
    form: Form,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    /// `cpu.stat` of cgroup 2, which every group has.
    Unified,
    /// `cpuacct.usage` of cgroup 1.
    Accounting,
}

impl Group {
    /// Makes one. Wants root.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let places = [
            ("/sys/fs/cgroup", "cpu.stat", Form::Unified),
            ("/sys/fs/cgroup/unified", "cpu.stat", Form::Unified),
            ("/sys/fs/cgroup/cpuacct", "cpuacct.usage", Form::Accounting),
        ];
        for (place, file, form) in places {
            let path = Path::new(place).join(format!("bench-{}-{name}", std::process::id()));
            if fs::create_dir(&path).is_ok() {
                if path.join(file).exists() && path.join("cgroup.procs").exists() {
                    return Ok(Self { path, form });
                }
                let _ = fs::remove_dir(&path);
            }
        }
        bail!("no control group can be made below /sys/fs/cgroup; this command wants root")
    }

    /// A command that runs `script` of a shell inside the group.
    pub(crate) fn command(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        let join = format!("echo $$ > {}/cgroup.procs && {script}", self.path.display());
        command.args(["-c", &join]);
        command
    }

    /// User and system time of all processes that ever were in the group.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let read =
            |name: &str| fs::read_to_string(self.path.join(name)).context("the control group");
        let number = match self.form {
            Form::Accounting => read("cpuacct.usage")?.trim().parse().map(Duration::from_nanos),
            Form::Unified => {
                let all = read("cpu.stat")?;
                let line = all.lines().find_map(|line| line.strip_prefix("usage_usec "));
                line.context("cpu.stat has no usage_usec")?.parse().map(Duration::from_micros)
            }
        };
        number.context("a number in the control group")
    }

    fn processes(&self) -> Vec<i32> {
        let all = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        all.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Octets of memory of all processes; what several share is split among them (PSS).
    pub(crate) fn memory(&self) -> u64 {
        let of = |id| {
            let all = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
            let line = all.lines().find_map(|line| line.strip_prefix("Pss:")).map(str::trim);
            let kib = line.and_then(|line| line.strip_suffix(" kB")?.trim().parse::<u64>().ok());
            kib.unwrap_or_default() * 1024
        };
        self.processes().into_iter().map(of).sum()
    }

    /// Ends every process of the group: politely, then not.
    pub(crate) fn end(&self) {
        for signal in [Signal::TERM, Signal::KILL] {
            for id in self.processes().into_iter().filter_map(Pid::from_raw) {
                // It may be gone by itself.
                let _ = kill_process(id, signal);
            }
            for _ in 0..50 {
                if self.processes().is_empty() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir(&self.path);
    }
}
