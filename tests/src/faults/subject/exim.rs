//! Exim from its Debian package. It queues all mail; runs of the queue deliver it.

use std::fs;

use super::foreign::{Ground, Recipe, add_users, folder_of, package, version, word, words};

/// How it is run.
pub fn recipe(ground: &Ground<'_>) -> Recipe {
    let program = package("exim4-daemon-light").join("usr/sbin/exim4");
    let user = add_users(ground.work, &["Debian-exim"]);
    let (spool, log) = (ground.disk.join("spool"), ground.work.join("log"));
    folder_of(&spool, user);
    folder_of(&log, user);
    let conf = ground.work.join("exim.conf");
    let text = format!(
        "primary_hostname = exim.test
exim_path = {program}
exim_user = {user}
exim_group = {user}
spool_directory = {spool}
log_file_path = {log}/%slog
pid_file_path = {log}/exim.pid
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
smtp_accept_max = 100
smtp_accept_max_per_connection = 0
keep_environment =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
queue_only = true
deliver_drop_privilege = true
acl_smtp_rcpt = takes
acl_smtp_data = takes
begin acl
takes:
  accept
begin routers
all:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = out
begin transports
out:
  driver = smtp
  port = {next}
  allow_localhost = true
  hosts_avoid_tls = *
begin retry
* * F,5d,1s
",
        program = program.display(),
        spool = spool.display(),
        log = log.display(),
        port = ground.port,
        next = ground.next,
    );
    fs::write(&conf, text).expect("exim.conf");
    let (program, conf) = (word(&program), word(&conf));
    Recipe {
        name: version("exim4-daemon-light"),
        run: words(&[&program, "-C", &conf, "-bdf"]),
        hurry: words(&[&program, "-C", &conf, "-qff"]),
        is_message: |path| path.to_string_lossy().ends_with("-H"),
        queue: spool.join("input"),
        environment: Vec::new(),
    }
}
