//! A Dovecot of the test's own: LMTP in, IMAP out.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::client::Client;
use crate::foreign::Foreign;
use crate::place::{eventually, free_port};
use crate::postfix::open_to_all;
use crate::process::{Process, run};

/// A running Dovecot: every user exists, and every password is `secret`.
pub struct Dovecot {
    // Before the folder: fields are dropped in order.
    _process: Process,
    folder: TempDir,
    lmtp: u16,
    imap: u16,
}

impl Dovecot {
    /// Starts one on free ports of 127.0.0.1.
    pub fn start(dovecot: &Foreign) -> Self {
        let folder = tempfile::Builder::new().prefix("dovecot-").tempdir().expect("a folder");
        let here = folder.path();
        open_to_all(here);
        fs::create_dir(here.join("mail")).expect("a folder in our own");
        let number = |option: &str| {
            let answer = run(Path::new("id"), [option, "mail"]).expect_success("id mail");
            answer.stdout.trim().parse().expect("a number")
        };
        chown(here.join("mail"), Some(number("-u")), Some(number("-g"))).expect("root may");
        let (lmtp, imap) = (free_port(), free_port());
        fs::write(here.join("dovecot.conf"), configuration(here, lmtp, imap)).expect("its file");
        let mut command = Command::new(&dovecot.path);
        command.arg("-F").arg("-c").arg(here.join("dovecot.conf"));
        let mut process = Process::start("dovecot", &mut command, &here.join("out"));
        eventually("Dovecot", || {
            assert!(process.ended().is_none(), "Dovecot ended: {}", process.log());
            Client::connect(("127.0.0.1", lmtp)).and_then(|mut client| client.reply()).ok()
        });
        Self { _process: process, folder, lmtp, imap }
    }

    /// The port of LMTP.
    pub fn lmtp_port(&self) -> u16 {
        self.lmtp
    }

    /// The socket of LMTP.
    pub fn lmtp_socket(&self) -> PathBuf {
        self.folder.path().join("run/lmtp")
    }

    /// The socket of its authentication, for clients.
    pub fn auth_socket(&self) -> PathBuf {
        self.folder.path().join("run/auth-client")
    }

    /// The port of IMAP.
    pub fn imap_port(&self) -> u16 {
        self.imap
    }
}

fn configuration(here: &Path, lmtp: u16, imap: u16) -> String {
    let here = here.display();
    format!(
        "base_dir = {here}/run
state_dir = {here}/state
log_path = {here}/log
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{here}/mail/%n
first_valid_uid = 1
first_valid_gid = 1
auth_username_format = %n
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid=mail gid=mail home={here}/mail/%n
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
  unix_listener lmtp {{
    mode = 0666
  }}
}}
"
    )
}
