//! A Dovecot of the test's own: LMTP in, IMAP and POP3 out.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use tempfile::TempDir;

use crate::client::Client;
use crate::foreign::Foreign;
use crate::place::{eventually, free_port};
use crate::postfix::open_to_all;
use crate::process::{Process, run};
use crate::python::python;

/// A running Dovecot: every user exists, every password is `secret`, and every mailbox holds [`QUOTA`].
pub struct Dovecot {
    // Before the folder: fields are dropped in order.
    _process: Process,
    folder: TempDir,
    lmtp: u16,
    imap: u16,
    pop3: u16,
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
        let (lmtp, imap, pop3) = (free_port(), free_port(), free_port());
        fs::write(here.join("dovecot.conf"), configuration(here, lmtp, imap, pop3))
            .expect("its file");
        let mut command = Command::new(&dovecot.path);
        command.arg("-F").arg("-c").arg(here.join("dovecot.conf"));
        let mut process = Process::start("dovecot", &mut command, &here.join("out"));
        eventually("Dovecot", || {
            assert!(process.ended().is_none(), "Dovecot ended: {}", process.log());
            Client::connect(("127.0.0.1", lmtp)).and_then(|mut client| client.reply()).ok()
        });
        Self { _process: process, folder, lmtp, imap, pop3 }
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

    /// The folder with a Maildir for each user.
    pub fn mail(&self) -> PathBuf {
        self.folder.path().join("mail")
    }

    /// Gives what somebody else delivered to the user that Dovecot reads as.
    pub fn own(&self) {
        let folder = self.mail().display().to_string();
        run(Path::new("chown"), ["-R", "mail:mail", &folder]).expect_success("chown");
    }

    /// The messages in a folder of a user, as IMAP shows them.
    pub fn imap(&self, user: &str, folder: &str) -> Vec<Vec<u8>> {
        self.fetch(IMAP, &[&self.imap.to_string(), user, folder])
    }

    /// The messages of a user, as POP3 gives them.
    pub fn pop3(&self, user: &str) -> Vec<Vec<u8>> {
        self.fetch(POP3, &[&self.pop3.to_string(), user])
    }

    /// KiB used and KiB in all, as Dovecot counts the mailbox of a user (RFC 9208).
    pub fn quota(&self, user: &str) -> (u64, u64) {
        let finished = python(USAGE, &[&self.imap.to_string(), user], self.folder.path());
        let text = finished.expect_success("imaplib").stdout;
        let mut numbers = text.split_whitespace().map(|word| word.parse().expect("a number"));
        (numbers.next().expect("used"), numbers.next().expect("in all"))
    }

    fn fetch(&self, script: &str, arguments: &[&str]) -> Vec<Vec<u8>> {
        let finished = python(script, arguments, self.folder.path()).expect_success("python");
        finished.stdout.lines().map(|line| STANDARD.decode(line).expect("base64")).collect()
    }

    /// The port of IMAP.
    pub fn imap_port(&self) -> u16 {
        self.imap
    }
}

/// Octets that a mailbox of this Dovecot holds.
pub const QUOTA: u64 = 1024 * 1024;

const IMAP: &str = r"
import base64, imaplib, sys
client = imaplib.IMAP4('127.0.0.1', int(sys.argv[1]))
client.login(sys.argv[2], 'secret')
client.select(sys.argv[3], readonly=True)
for number in client.search(None, 'ALL')[1][0].split():
    print(base64.b64encode(client.fetch(number, '(BODY.PEEK[])')[1][0][1]).decode())
";

const POP3: &str = r"
import base64, poplib, sys
client = poplib.POP3('127.0.0.1', int(sys.argv[1]))
client.user(sys.argv[2])
client.pass_('secret')
for number in range(1, client.stat()[0] + 1):
    lines = client.retr(number)[1]
    print(base64.b64encode(b''.join(line + b'\r\n' for line in lines)).decode())
";

const USAGE: &str = r"
import imaplib, re, sys
client = imaplib.IMAP4('127.0.0.1', int(sys.argv[1]))
client.login(sys.argv[2], 'secret')
found = re.search(rb'STORAGE (\d+) (\d+)', client.getquotaroot('INBOX')[1][1][0])
print(int(found.group(1)), int(found.group(2)))
";

fn configuration(here: &Path, lmtp: u16, imap: u16, pop3: u16) -> String {
    let here = here.display();
    format!(
        "base_dir = {here}/run
state_dir = {here}/state
log_path = {here}/log
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{here}/mail/%n
first_valid_uid = 1
first_valid_gid = 1
auth_username_format = %n
mail_plugins = quota
protocol imap {{
  mail_plugins = quota imap_quota
}}
plugin {{
  quota = maildir:User quota
  quota_rule = *:bytes={QUOTA}
  quota_grace = 0%%
}}
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
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
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
