//! The program under test: built once, started with a configuration in a folder of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::Client;
use crate::maildir;
use crate::place::{PATIENCE, eventually, root, within};
use crate::process::{Finished, Process, finish};
use crate::setup::Setup;

/// A running `gatepost`. Dropping it kills it and removes its folder.
pub struct Gatepost {
    // Before the folder: fields are dropped in order.
    process: Process,
    folder: TempDir,
    setup: Setup,
    wrapper: Vec<String>,
}

impl Gatepost {
    /// Starts with `setup` in a new folder and waits for the ready line.
    pub fn start(setup: Setup) -> Self {
        let folder = tempfile::Builder::new().prefix("gatepost-").tempdir().expect("a folder");
        Self::start_in(folder, setup, &[])
    }

    /// Starts in a folder that is there already; `wrapper` is a command that runs it (`unshare …`).
    pub fn start_in(folder: TempDir, setup: Setup, wrapper: &[String]) -> Self {
        setup.write(&folder.path().join("gatepost.toml"));
        let process = spawn(folder.path(), wrapper);
        let mut server = Self { process, folder, setup, wrapper: wrapper.to_owned() };
        server.wait_ready();
        server
    }

    /// Where a listener listens.
    pub fn address(&self, listener: &str) -> (&'static str, u16) {
        ("127.0.0.1", self.setup.port(listener))
    }

    /// The port of a listener.
    pub fn port(&self, listener: &str) -> u16 {
        self.setup.port(listener)
    }

    /// A connection to a listener; the greeting is not read yet.
    pub fn connect(&self, listener: &str) -> Client {
        let address = self.address(listener);
        Client::connect(address).unwrap_or_else(|error| panic!("{address:?}: {error}"))
    }

    /// A session with the `mx` listener that has greeted and said EHLO.
    pub fn session(&self) -> Client {
        let mut client = self.connect("mx");
        client.hello("client.example").expect("EHLO is answered");
        client
    }

    /// The folder it works in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The messages in the Maildir of a user of `example.test`, as they are stored.
    pub fn mailbox(&self, user: &str) -> Vec<Vec<u8>> {
        maildir::messages(&self.maildir(user))
    }

    /// The Maildir of a user of `example.test`.
    pub fn maildir(&self, user: &str) -> PathBuf {
        self.folder().join("var/mail/example.test").join(user)
    }

    /// Waits until a mailbox holds at least `count` messages, and gives them.
    pub fn wait_mailbox(&self, user: &str, count: usize) -> Vec<Vec<u8>> {
        eventually(&format!("{count} messages of {user}"), || {
            Some(self.mailbox(user)).filter(|messages| messages.len() >= count)
        })
    }

    /// What it printed on standard output and error.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until its log holds `text` more than `before` times.
    pub fn wait_log(&self, text: &str, before: usize) {
        eventually(&format!("{text:?} in the log"), || {
            (self.log().matches(text).count() > before).then_some(())
        });
    }

    /// The configuration it runs with.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Writes another configuration and tells it (SIGHUP).
    pub fn reconfigure(&mut self, setup: Setup) {
        setup.write(&self.folder().join("gatepost.toml"));
        self.setup = setup;
        self.hang_up();
    }

    /// SIGHUP: read plugins, tables and certificates again.
    pub fn hang_up(&self) {
        self.process.signal(Signal::HUP);
    }

    /// SIGTERM: finish what is under way, then end.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits until it has ended.
    pub fn wait_end(&mut self) -> ExitStatus {
        self.process.wait(PATIENCE)
    }

    /// SIGKILL, at once, as a crash of the process would be.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts again in the same folder.
    pub fn restart(&mut self) {
        self.begin();
        self.wait_ready();
    }

    /// Starts again in the same folder, and doesn't wait until it is ready.
    pub fn begin(&mut self) {
        self.process.kill();
        self.wait_for_spool();
        // The old log has a ready line, too.
        let _ = std::fs::rename(self.folder().join("log"), self.folder().join("log.old"));
        self.process = spawn(self.folder.path(), &self.wrapper);
    }

    /// What ran behind a wrapper, or is being traced, may hold its lock for a moment longer than its parent lives.
    fn wait_for_spool(&self) {
        let Ok(lock) = std::fs::File::open(self.folder().join("var/queue/lock")) else { return };
        eventually("the spool of a server that was killed", || lock.try_lock().ok());
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// True once it has said that it is ready.
    pub fn is_ready(&self) -> bool {
        self.log().contains(READY)
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Lets `wrapper` run it from the next start on.
    pub fn wrap(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
    }

    /// Forgets the largest resident set so far, so that the start of the server, which compiles
    /// plugins, hides nothing (`clear_refs` of proc(5)).
    pub fn forget_peak_memory(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").unwrap();
    }

    /// The largest resident set so far, in octets (`VmHWM` of /proc).
    pub fn peak_memory(&self) -> u64 {
        self.status_octets("VmHWM:")
    }

    /// The resident set now, in octets (`VmRSS` of /proc).
    pub fn memory(&self) -> u64 {
        self.status_octets("VmRSS:")
    }

    /// Processor time that it has used so far, to a hundredth of a second.
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()));
        let stat = stat.expect("Linux has /proc");
        // proc(5): behind the name, which may hold anything, utime and stime are the 12th and 13th word.
        let (_, words) = stat.rsplit_once(')').expect("a name");
        let ticks =
            words.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<u64>().ok());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// File descriptors that it has open.
    pub fn open_files(&self) -> usize {
        let path = format!("/proc/{}/fd", self.process.id());
        std::fs::read_dir(path).expect("Linux has /proc").count()
    }

    /// Runs `gatepost` with `arguments` beside the server, in its folder.
    pub fn command(&self, arguments: &[&str]) -> Finished {
        finish(Command::new(program()).args(arguments).current_dir(self.folder()))
    }

    /// `gatepost queue … --json`, read.
    pub fn queue(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = vec!["queue"];
        all.extend(arguments);
        all.extend(["--json", "--config", "gatepost.toml"]);
        let finished = self.command(&all).expect_success("gatepost queue");
        serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", finished.stdout))
    }

    /// The hash of a password, as `gatepost user hash` writes it.
    pub fn hash(password: &str) -> String {
        let mut command = Command::new(program());
        command.args(["user", "hash"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("gatepost starts");
        let line = format!("{password}\n");
        child.stdin.take().expect("it is piped").write_all(line.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let hash = text.split_whitespace().find(|word| word.starts_with("$argon2"));
        hash.unwrap_or_else(|| panic!("no hash in {text:?}")).to_owned()
    }

    fn status_octets(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).expect("Linux has /proc");
        let line = status.lines().find(|line| line.starts_with(field)).expect("a line of status");
        let kib = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
        kib.expect("a number of KiB") * 1024
    }

    /// Waits for its ready line.
    pub fn wait_ready(&mut self) {
        let process = &mut self.process;
        // The first start compiles the plugins, and an unoptimised build takes its time for it.
        within(2 * PATIENCE, "the ready line of gatepost", || {
            let log = process.log();
            if log.contains(READY) {
                return Some(());
            }
            if let Some(status) = process.ended() {
                panic!("gatepost ended before it was ready: {status}\n{}", process.log());
            }
            None
        });
    }
}

const READY: &str = "gatepost: ready";

fn spawn(folder: &Path, wrapper: &[String]) -> Process {
    let mut words = wrapper.to_owned();
    words.push(program().to_string_lossy().into_owned());
    words.extend(["run", "--config", "gatepost.toml"].map(str::to_owned));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir(folder).env_remove("RUST_LOG");
    Process::start("gatepost", &mut command, &folder.join("log"))
}

/// The program: the environment's `GATEPOST`, or the one that cargo builds beside this test. It is
/// built here if a source is newer, so that one test file can be run alone.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(path) = std::env::var_os("GATEPOST") {
            return std::fs::canonicalize(path).expect("GATEPOST names the program");
        }
        let this = std::env::current_exe().expect("a test knows where it is");
        let folder = this.parent().expect("target/PROFILE/deps/test or target/PROFILE/faults");
        let folder = folder.parent().filter(|_| folder.ends_with("deps")).unwrap_or(folder);
        let program = folder.join("gatepost");
        let built = std::fs::metadata(&program).and_then(|data| data.modified()).ok();
        if built.is_none_or(|built| newest_source() > built) {
            build(folder);
        }
        program
    })
}

fn build(folder: &Path) {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // With the tests and without `--package`, so that no dependency is built with other features once more.
    command.args(["build", "--tests", "--bin", "gatepost"]).current_dir(root());
    if folder.ends_with("release") {
        command.arg("--release");
    }
    finish(&mut command).expect_success("building gatepost");
}

/// When the youngest source was changed.
fn newest_source() -> SystemTime {
    let mut newest = SystemTime::UNIX_EPOCH;
    let mut folders: Vec<PathBuf> =
        ["host", "plugins", "wit", "config"].iter().map(|name| root().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if !path.ends_with("target") && !path.ends_with("tests") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs" || e == "wit" || e == "toml") {
                newest = newest.max(entry.metadata().and_then(|m| m.modified()).unwrap_or(newest));
            }
        }
    }
    newest
}

/// Long enough for a server to do what it was told by a signal, if a test has nothing else to watch.
pub const A_MOMENT: Duration = Duration::from_millis(200);
