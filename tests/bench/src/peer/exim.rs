//! Exim, unpacked beside Postfix. Policies are conditions of its ACLs: a set of names in a file, and a header field.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::install::{debian, run, unpacked, user};
use super::{Place, Workshop};

const PACKAGES: [&str; 3] = ["exim4-daemon-light", "exim4-base", "exim4-config"];

pub(super) fn install(workshop: &Workshop) -> Result<()> {
    debian(&["libgnutls-dane0", "libidn12", "libidn2-0", "libnsl2", "libpcre2-8-0"])?;
    user("Debian-exim")?;
    unpacked(workshop, "exim", &PACKAGES).map(drop)
}

pub(super) fn script(place: &Place<'_>) -> Result<String> {
    let tree = place.workshop.folder.join("peers/exim/tree");
    let folder = place.folder.display();
    fs::create_dir_all(place.folder.join("spool"))?;
    run("chown", &["-R", "Debian-exim:Debian-exim", &format!("{folder}/spool")], Path::new("/"))?;
    fs::write(place.folder.join("names"), names())?;
    let program = tree.join("usr/sbin/exim4");
    let (connect, mail, rcpt, data) = acls(place);
    let text = format!(
        "exim_path = {}
primary_hostname = exim.bench.test
spool_directory = {folder}/spool
log_file_path = syslog
keep_environment =
local_interfaces = {}
daemon_smtp_ports = {}
tls_advertise_hosts =
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 1200
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 200
{}
acl_smtp_connect = connect
acl_smtp_mail = mail
acl_smtp_rcpt = rcpt
acl_smtp_data = data

begin acl
connect:
{connect}  accept
mail:
{mail}  accept
rcpt:
{rcpt}  accept
data:
{data}  accept

begin routers
next:
  driver = manualroute
  transport = next
  route_list = * {}
  self = send

begin transports
next:
  driver = smtp
  port = {}
",
        program.display(),
        place.address.ip(),
        place.address.port(),
        if place.subject.relay.is_none() { "queue_only = true" } else { "" },
        place.subject.relay.map_or("127.0.0.1".to_owned(), |relay| relay.ip().to_string()),
        place.subject.relay.map_or(25, |relay| relay.port()),
    );
    let file = place.folder.join("exim.conf");
    fs::write(&file, text)?;
    Ok(format!("exec {} -C {} -bdf -q30m", program.display(), file.display()))
}

/// The lines of the policies for connect, MAIL, RCPT and DATA.
fn acls(place: &Place<'_>) -> (String, String, String, String) {
    let set = place.folder.join("names").display().to_string();
    let mut acls: [String; 4] = Default::default();
    for n in 0..place.subject.policies {
        let deny = |key: &str| {
            format!("  deny condition = ${{lookup{{{key}}}lsearch{{{set}}}{{1}}{{0}}}}\n")
        };
        acls[0] += &deny("$sender_host_address");
        acls[1] += &deny("$sender_address_domain");
        acls[2] += &deny("$domain");
        let _ = writeln!(acls[3], "  warn add_header = X-Policy-{n}: seen");
    }
    let [connect, mail, rcpt, data] = acls;
    (connect, mail, rcpt, data)
}

/// A hundred names that nobody has.
pub(super) fn names() -> String {
    (0..100).map(|n| format!("listed{n}.bench.test: 1\n")).collect()
}
