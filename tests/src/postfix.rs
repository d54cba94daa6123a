//! A Postfix of the test's own: its own configuration, queue and ports, started and ended with the test.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::client::Client;
use crate::foreign::find;
use crate::maildir;
use crate::place::eventually;
use crate::process::{Process, run};

/// A running Postfix. It relays for 127.0.0.0/8 and keeps mail for `target.test` in Maildirs.
pub struct Postfix {
    // Before the folder: fields are dropped in order.
    process: Process,
    folder: TempDir,
    address: String,
}

impl Postfix {
    /// Starts one whose `smtpd` listens at `address`. `main` is put below the defaults of `main.cf`.
    /// With `nameserver`, it and its children see another `/etc/resolv.conf`.
    pub fn start(address: &str, main: &str, nameserver: Option<&str>) -> Self {
        let folder = tempfile::Builder::new().prefix("postfix-").tempdir().expect("a folder");
        let here = folder.path();
        open_to_all(here);
        for name in ["conf", "queue", "data", "mail"] {
            fs::create_dir(here.join(name)).expect("a folder in our own");
        }
        let (user, group) = owner();
        chown(here.join("data"), Some(user), Some(group)).expect("root may give away");
        chown(here.join("mail"), Some(user), Some(group)).expect("root may give away");
        fs::write(here.join("conf/main.cf"), main_cf(here, user, group) + main).expect("main.cf");
        fs::write(here.join("conf/master.cf"), master_cf(address)).expect("master.cf");
        let configuration = here.join("conf");
        run(&program("postfix"), [Path::new("-c"), &configuration, Path::new("check")])
            .expect_success("postfix check");

        let mut script = String::new();
        if let Some(nameserver) = nameserver {
            let resolv = here.join("resolv.conf");
            fs::write(&resolv, format!("nameserver {nameserver}\n")).expect("resolv.conf");
            open_to_all(&resolv);
            script = format!("mount --bind {} /etc/resolv.conf && ", resolv.display());
        }
        script += &format!("exec {}/master -d", daemons().display());
        let mut command = Command::new(program("unshare"));
        command.args(["--mount", "sh", "-c", &script]).env("MAIL_CONFIG", &configuration);
        let mut process = Process::start("postfix", &mut command, &here.join("out"));
        eventually("Postfix", || {
            assert!(process.ended().is_none(), "Postfix ended: {}", process.log());
            let greeting = Client::connect(address).and_then(|mut client| client.reply());
            greeting.ok().filter(|greeting| greeting.code == 220).map(drop)
        });
        Self { process, folder, address: address.to_owned() }
    }

    /// Where its `smtpd` listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Messages for anybody at `target.test`, as Postfix's `virtual` stored them: lines end in LF.
    pub fn stored(&self) -> Vec<Vec<u8>> {
        maildir::messages(&self.folder.path().join("mail/box"))
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("mail.log")).unwrap_or_default()
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the log of Postfix ---\n{}", self.log());
        }
    }
}

/// Lets other users read a file or walk through a folder.
pub fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own file");
}

fn program(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("{name} was here a moment ago"))
}

fn daemons() -> PathBuf {
    let answer = run(&program("postconf"), ["-d", "-h", "daemon_directory"]);
    PathBuf::from(answer.expect_success("postconf").stdout.trim())
}

/// The user and group of the package.
fn owner() -> (u32, u32) {
    let number = |option: &str| {
        let answer = run(Path::new("id"), [option, "postfix"]).expect_success("id postfix");
        answer.stdout.trim().parse().expect("a number")
    };
    (number("-u"), number("-g"))
}

fn main_cf(here: &Path, user: u32, group: u32) -> String {
    let here = here.display();
    format!(
        "compatibility_level = 3.6
queue_directory = {here}/queue
data_directory = {here}/data
maillog_file = {here}/mail.log
maillog_file_prefixes = {here}
myhostname = postfix.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtpd_tls_security_level = none
smtp_host_lookup = dns
smtp_tls_security_level = may
virtual_mailbox_domains = target.test
virtual_mailbox_base = {here}/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:{user}
virtual_gid_maps = static:{group}
virtual_minimum_uid = 1
minimal_backoff_time = 5s
queue_run_delay = 5s
"
    )
}

/// The services of a Postfix without chroot that listens on `address`.
pub(crate) fn master_cf(address: &str) -> String {
    format!(
        "{address} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
showq unix n - n - - showq
tlsmgr unix - - n 1000? 1 tlsmgr
verify unix - - n - 1 verify
virtual unix - n n - - virtual
flush unix n - n 1000? 0 flush
"
    )
}
