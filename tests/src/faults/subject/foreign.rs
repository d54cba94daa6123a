//! Servers of others, put through the same faults: what each one needs to run from a folder of its own.
//!
//! Their packages exclude each other, so they are not installed but unpacked, into `target/subjects`. Their fixed paths
//! and users are laid over this machine's in our own mount namespace, and are gone with it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Subject;
use crate::client::Client;
use crate::faults::image::tool;
use crate::faults::ledger::{Mix, STAYING};
use crate::place::{free_port, root, within};
use crate::process::{Process, finish};

use super::{exim, haraka, opensmtpd, postfix};

/// How a server of others is run.
pub struct Recipe {
    /// What it is called, with its version.
    pub name: String,
    /// Starts it in the foreground.
    pub run: Vec<String>,
    /// Tries everything in the queue now; nothing if it does by itself.
    pub hurry: Vec<String>,
    /// Names of files that are messages of its queue.
    pub is_message: fn(&Path) -> bool,
    /// Where they are.
    pub queue: PathBuf,
    /// The environment's additions.
    pub environment: Vec<(String, String)>,
}

/// Where a server of others works.
pub struct Ground<'a> {
    /// A folder that survives everything: configuration, logs.
    pub work: &'a Path,
    /// A folder on the file system whose power is cut.
    pub disk: &'a Path,
    /// Where it is to listen, on 127.0.0.1.
    pub port: u16,
    /// Where the next host of all mail listens, on 127.0.0.1.
    pub next: u16,
}

/// A running server of others.
pub struct OtherServer {
    recipe: Recipe,
    process: Option<Process>,
    work: PathBuf,
    port: u16,
}

impl OtherServer {
    /// Prepares the server of that name. `work` stays; its queue will be on `disk`.
    pub fn prepare(name: &str, work: &Path, disk: &Path, next: u16) -> Result<Self, String> {
        let ground = Ground { work, disk, port: free_port(), next };
        open_to_all(work);
        open_to_all(disk);
        let recipe = match name {
            "postfix" => postfix::recipe(&ground),
            "exim" => exim::recipe(&ground),
            "opensmtpd" => opensmtpd::recipe(&ground),
            "haraka" => haraka::recipe(&ground),
            _ => return Err(format!("{name}: not gatepost, postfix, exim, opensmtpd or haraka")),
        };
        // What we made for it is not what is under test.
        tool("sync", &[Path::new("-f"), disk]).expect_success("sync");
        let port = ground.port;
        Ok(Self { recipe, process: None, work: work.to_owned(), port })
    }
}

impl Subject for OtherServer {
    fn name(&self) -> String {
        self.recipe.name.clone()
    }

    fn mix(&self) -> Mix {
        STAYING
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn begin(&mut self) {
        // A process namespace of its own: all its children end with it.
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).args(&self.recipe.run);
        command.envs(self.recipe.environment.iter().cloned()).current_dir(&self.work);
        self.process =
            Some(Process::start(&self.recipe.name, &mut command, &self.work.join("out")));
    }

    fn wait_ready(&mut self) {
        let process = self.process.as_mut().expect("it was started");
        within(std::time::Duration::from_secs(60), "a greeting", || {
            assert!(process.ended().is_none(), "{} ended: {}", self.recipe.name, process.log());
            let greeting =
                Client::connect(("127.0.0.1", self.port)).and_then(|mut client| client.reply());
            greeting.ok().filter(|greeting| greeting.code == 220)
        });
    }

    fn kill(&mut self) {
        self.process = None;
    }

    fn hurry(&mut self) {
        if let Some((program, arguments)) = self.recipe.hurry.split_first() {
            let mut command = Command::new(program);
            command.args(arguments).envs(self.recipe.environment.iter().cloned());
            // What it couldn't do it will be asked for again.
            finish(&mut command);
        }
    }

    fn queued(&mut self) -> usize {
        count(&self.recipe.queue, self.recipe.is_message)
    }

    fn mailbox(&mut self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

fn count(folder: &Path, is_message: fn(&Path) -> bool) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            let path = entry.path();
            if path.is_dir() { count(&path, is_message) } else { usize::from(is_message(&path)) }
        })
        .sum()
}

/// The folder of a Debian package, downloaded and unpacked once.
pub fn package(name: &str) -> PathBuf {
    let folder = root().join("target/subjects").join(name);
    if !folder.join("usr").is_dir() {
        fs::create_dir_all(&folder).expect("a folder under target");
        let mut download = Command::new("apt-get");
        finish(download.args(["download", name]).current_dir(&folder)).expect_success("download");
        let script = "dpkg -x ./*.deb . && rm ./*.deb";
        finish(Command::new("sh").args(["-c", script]).current_dir(&folder))
            .expect_success("dpkg -x");
    }
    folder
}

/// The version of a Debian package as this machine's list of packages has it.
pub fn version(package: &str) -> String {
    let shown = tool("apt-cache", &[Path::new("policy"), Path::new(package)]).stdout;
    let line = shown.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
    format!("{package} {}", line.unwrap_or("of unknown version"))
}

/// Lays users and groups with these names over those of the machine. Gives the first one's number.
pub fn add_users(work: &Path, names: &[&str]) -> u32 {
    for file in ["passwd", "group"] {
        let mut text = fs::read_to_string(Path::new("/etc").join(file)).expect("it is readable");
        for (number, name) in (FIRST_USER..).zip(names) {
            text += &match file {
                "passwd" => format!("{name}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n"),
                _ => format!("{name}:x:{number}:\n"),
            };
        }
        let ours = work.join(file);
        fs::write(&ours, text).expect("our own file");
        bind(&ours, &Path::new("/etc").join(file));
    }
    FIRST_USER
}

/// Lays a file or folder over another one.
pub fn bind(ours: &Path, over: &Path) {
    tool("mount", &[Path::new("--bind"), ours, over]).expect_success("mount --bind");
}

/// Lays an empty folder over `over`.
pub fn cover(over: &Path) {
    let tmpfs = [Path::new("-t"), Path::new("tmpfs"), Path::new("none"), over];
    tool("mount", &tmpfs).expect_success("mount -t tmpfs");
}

/// A folder that belongs to a user.
pub fn folder_of(path: &Path, user: u32) {
    fs::create_dir_all(path).expect("a folder of ours");
    chown(path, Some(user), Some(user)).expect("root may give away");
}

/// A path as a word of a command.
pub fn word(path: &Path) -> String {
    path.display().to_string()
}

/// Words of a command.
pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a folder of ours");
}

/// A number that no package takes.
const FIRST_USER: u32 = 61_700;
