//! Postfix with a queue of its own. Policies are milters on UNIX sockets, written in C with Postfix's own partner, libmilter.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::install::{debian, run};
use super::{Place, Workshop};

pub(super) fn install(workshop: &Workshop) -> Result<()> {
    debian(&["postfix", "libmilter-dev", "gcc", "libc6-dev"])?;
    let milter = workshop.folder.join("peers/milter");
    fs::create_dir_all(workshop.folder.join("peers"))?;
    let source = workshop.root.join("tests/bench/peers/milter.c");
    let (source, milter) = (source.display().to_string(), milter.display().to_string());
    run("cc", &["-O2", "-o", &milter, &source, "-lmilter", "-lpthread"], Path::new("/")).map(drop)
}

pub(super) fn script(place: &Place<'_>) -> Result<String> {
    let folder = place.folder.display();
    for name in ["conf", "queue", "data"] {
        fs::create_dir_all(place.folder.join(name))?;
    }
    run("chown", &["postfix", &format!("{folder}/data")], Path::new("/"))?;
    fs::write(place.folder.join("conf/main.cf"), main_cf(place))?;
    let master = MASTER.replace("ADDRESS", &place.address.to_string());
    fs::write(place.folder.join("conf/master.cf"), master)?;
    run("postfix", &["-c", &format!("{folder}/conf"), "check"], Path::new("/"))?;
    let mut script = String::new();
    let milter = place.workshop.folder.join("peers/milter");
    for n in 0..place.subject.policies {
        write!(script, "{} {folder}/milter{n} & ", milter.display())?;
    }
    let daemons = run("postconf", &["-d", "-h", "daemon_directory"], Path::new("/"))?;
    write!(script, "MAIL_CONFIG={folder}/conf exec {}/master -d", daemons.trim())?;
    Ok(script)
}

fn main_cf(place: &Place<'_>) -> String {
    let folder = place.folder.display();
    let mut text = format!(
        "compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
myhostname = postfix.bench.test
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
default_process_limit = 1200
in_flow_delay = 0
smtpd_client_connection_count_limit = 0
"
    );
    match place.subject.relay {
        Some(relay) => {
            let (host, port) = (relay.ip(), relay.port());
            text += &format!(
                "default_transport = smtp:[{host}]:{port}\nsmtp_destination_concurrency_limit = 20\n\
                 default_destination_concurrency_limit = 20\ninitial_destination_concurrency = 20\n"
            );
        }
        None => text += "smtpd_client_restrictions = static:HOLD\n",
    }
    if place.subject.policies > 0 {
        let sockets = (0..place.subject.policies).map(|n| format!("unix:{folder}/milter{n}"));
        let sockets: Vec<String> = sockets.collect();
        text += &format!("smtpd_milters = {}\n", sockets.join(", "));
    }
    text
}

const MASTER: &str = "ADDRESS inet n - n - - smtpd
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
tlsmgr unix - - n 1000? 1 tlsmgr
verify unix - - n - 1 verify
";
