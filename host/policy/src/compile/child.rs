//! The compiler in a process of its own.
//!
//! A component of a few hundred kilobytes can keep a compiler busy for minutes or make it ask for gigabytes, and the
//! compiler is by far the largest program that sees what a stranger wrote. So it runs in a child that has nothing: no
//! environment, no descriptor but its three pipes, no right to open a file or to start anything, and so much processor time
//! and memory and no more. What it made comes back through a pipe; what went wrong, too.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal};

use crate::imports::log::clean;

/// Who turns components into machine code.
#[derive(Clone, Debug, Default)]
pub enum Compiler {
    /// This process, without any limit: for tests, and for programs that load nothing but components of their own.
    #[default]
    Here,
    /// A child of this process. What a server wants.
    Child(CompilerChild),
}

/// How to start a compiler in a process of its own.
#[derive(Clone, Debug)]
pub struct CompilerChild {
    /// A program that calls [`serve_compiler`], as `/proc/self/exe`: this one, even if its file was replaced since.
    pub program: PathBuf,
    /// The arguments that make it do so. The limits follow them as two numbers: `--seconds N --octets N`.
    pub arguments: Vec<OsString>,
    /// What it may use up.
    pub limits: CompilerLimits,
}

/// What the compilation of one component may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompilerLimits {
    /// Processor time. Default 10 s: a plugin in Rust takes a tenth of a second, one with all of Python six.
    pub cpu: Duration,
    /// Address space in octets. Default 2 GiB: a component with all of Python needs half of it.
    pub memory: u64,
}

impl Default for CompilerLimits {
    fn default() -> Self {
        Self { cpu: Duration::from_secs(10), memory: 2 << 30 }
    }
}

impl CompilerChild {
    /// Compiles a component, or says why not. Waits for the child: not for a thread that others wait for.
    pub(super) fn compile(&self, wasm: &[u8]) -> Result<Vec<u8>, String> {
        let mut child = self.start().map_err(|error| {
            format!("cannot start the compiler {}: {error}", self.program.display())
        })?;
        let (mut stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (done, answer) = mpsc::channel();
        let (code, words) = std::thread::scope(|scope| {
            scope.spawn(move || {
                // One that ends before it has read everything says why on stderr.
                stdin.as_mut().map(|stdin| stdin.write_all(wasm))
            });
            scope.spawn(move || {
                // Nobody is left to listen if the child was given up.
                let _ = done.send(take(stdout, MAX_CODE_OCTETS));
            });
            let words = scope.spawn(move || take(stderr, MAX_WORDS_OCTETS));
            let code = answer.recv_timeout(self.limits.cpu.saturating_mul(PATIENCE));
            if code.is_err() {
                // It has ended already, or it ends now.
                let _ = child.kill();
            }
            (code, words.join().unwrap_or_default())
        });
        let status = child.wait().map_err(|error| format!("the compiler is lost: {error}"))?;
        match code {
            Ok(code) if status.success() => Ok(code),
            _ => Err(self.fault(status, &String::from_utf8_lossy(&words))),
        }
    }

    fn start(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .args(&self.arguments)
            .args(["--seconds", &self.limits.cpu.as_secs().max(1).to_string()])
            .args(["--octets", &self.limits.memory.to_string()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }

    /// Why there is no code, in words for an administrator.
    fn fault(&self, status: ExitStatus, words: &str) -> String {
        let CompilerLimits { cpu, memory } = self.limits;
        let signal = status.signal().and_then(Signal::from_named_raw);
        // An allocation that fails ends a program in Rust by SIGABRT, after a line about it.
        let starved = words.contains("memory allocation of") || words.contains("Cannot allocate");
        if starved {
            return format!("compiling it takes more than {} MiB of memory", memory >> 20);
        }
        match signal {
            Some(Signal::XCPU | Signal::KILL) => {
                format!("compiling it takes more than {cpu:?} of processor time")
            }
            Some(Signal::SEGV | Signal::BUS) => {
                "compiling it takes more stack than there is".into()
            }
            Some(signal) => format!("the compiler ended by signal {}", signal.as_raw()),
            None if words.trim().is_empty() => format!("the compiler ended: {status}"),
            None => clean(words.trim(), MAX_WORDS_OCTETS),
        }
    }
}

fn take(pipe: Option<impl Read>, octets: usize) -> Vec<u8> {
    let mut taken = Vec::new();
    if let Some(pipe) = pipe {
        // A pipe that breaks has given what it had; the status of the child tells the rest.
        let _ = pipe.take(octets as u64).read_to_end(&mut taken);
    }
    taken
}

/// The child's side: gives up all that this process may do, reads a component from stdin, and writes its machine code to
/// stdout. To be called first of all in a process that was started for it.
///
/// # Errors
/// What is wrong with the component, for stderr.
pub fn serve_compiler(limits: CompilerLimits) -> Result<(), String> {
    confine(limits).map_err(|error| format!("cannot confine the compiler: {error}"))?;
    let mut wasm = Vec::new();
    std::io::stdin()
        .lock()
        .take(super::MAX_COMPONENT_OCTETS as u64 + 1)
        .read_to_end(&mut wasm)
        .map_err(|error| format!("cannot read the component: {error}"))?;
    let engine = crate::engine::compiling().map_err(|error| error.to_string())?;
    let code = super::compile(&engine, &wasm)?;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&code).and_then(|()| stdout.flush()).map_err(|error| error.to_string())
}

/// From here on this process can compute, and use its three pipes.
fn confine(limits: CompilerLimits) -> std::io::Result<()> {
    // Whoever started the server may have left descriptors open: a child of ours has no use for them.
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The one of the folder that was just read is gone already.
        if std::fs::read_link(format!("/proc/self/fd/{descriptor}")).is_err() {
            continue;
        }
        #[expect(
            unsafe_code,
            reason = "nothing in this process has opened anything that it still uses"
        )]
        unsafe {
            rustix::io::close(descriptor);
        }
    }
    // When the machine runs short of memory, this is the process to end. Where it can't be said, the limit still holds.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // It ends with the server, and mail goes first.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::process::nice(NICE)?;
    let limit = |resource, amount: u64| {
        rustix::process::setrlimit(
            resource,
            Rlimit { current: Some(amount), maximum: Some(amount) },
        )
    };
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Nproc, 0)?;
    limit(Resource::Nofile, 3)?;
    limit(Resource::As, limits.memory)?;
    limit(Resource::Cpu, limits.cpu.as_secs().max(1))?;
    Ok(())
}

/// The child has so many times its processor time on the clock: others work, too.
const PATIENCE: u32 = 20;
/// Machine code has a few times the size of what it was made from.
const MAX_CODE_OCTETS: usize = 1 << 30;
const MAX_WORDS_OCTETS: usize = 2000;
/// A fifth of what a process of the same importance gets when both want everything.
const NICE: i32 = 7;
