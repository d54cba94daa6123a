//! Postfix as this machine has it installed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::foreign::{Ground, Recipe, folder_of, version, word, words};
use crate::foreign::find;
use crate::postfix::master_cf;
use crate::process::run;

/// How it is run.
pub fn recipe(ground: &Ground<'_>) -> Recipe {
    let (conf, queue) = (ground.work.join("conf"), ground.disk.join("queue"));
    fs::create_dir_all(&conf).expect("a folder of ours");
    fs::create_dir_all(&queue).expect("a folder of ours");
    let user = run(Path::new("/usr/bin/id"), ["-u", "postfix"]).expect_success("Postfix's user");
    let user = user.stdout.trim().parse().expect("a number");
    folder_of(&ground.work.join("data"), user);
    fs::write(conf.join("main.cf"), main_cf(ground, &queue)).expect("main.cf");
    fs::write(conf.join("master.cf"), master_cf(&format!("127.0.0.1:{}", ground.port)))
        .expect("master.cf");
    let postfix = find("postfix").expect("postfix is installed");
    run(&postfix, ["-c", &word(&conf), "check"]).expect_success("postfix check");
    let daemons = run(&find("postconf").expect("postconf"), ["-d", "-h", "daemon_directory"]);
    let daemons = daemons.stdout.trim().to_owned();
    Recipe {
        name: version("postfix"),
        run: words(&[&format!("{daemons}/master"), "-c", &word(&conf), "-d"]),
        hurry: words(&["postqueue", "-c", &word(&conf), "-f"]),
        is_message: |path| {
            // Whole messages are executable; others are still being received, or were when the power went.
            let mode = fs::metadata(path).map_or(0, |data| data.permissions().mode());
            mode & 0o100 != 0
                && ["incoming", "active", "deferred", "maildrop"]
                    .iter()
                    .any(|name| path.components().any(|part| part.as_os_str() == *name))
        },
        queue,
        environment: vec![("MAIL_CONFIG".to_owned(), word(&conf))],
    }
}

fn main_cf(ground: &Ground<'_>, queue: &Path) -> String {
    let (here, queue, next) = (ground.work.display(), queue.display(), ground.next);
    format!(
        "compatibility_level = 3.6
queue_directory = {queue}
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
smtp_tls_security_level = none
relayhost = [127.0.0.1]:{next}
minimal_backoff_time = 2s
maximal_backoff_time = 2s
queue_run_delay = 2s
"
    )
}
