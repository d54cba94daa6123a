//! What can be seen of the server: its first words, logs, metrics, and why a message fared as it did.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tests::maildir::{self, id};
use tests::process::finish;
use tests::server::program;
use tests::{Foreign, Gatepost, Setup, eventually, free_port, letter};

const FROM: &str = "sender@client.example";

fn give(server: &Gatepost, to: &str, subject: &str) {
    let reply = server.session().transaction(FROM, &[to], &letter::plain(subject)).unwrap();
    assert_eq!(reply.code, 250, "{reply}");
}

/// Starts the server in a namespace of its own, so that its fixed ports are free, with no configuration
/// at all; then types what it says one may type.
const FIRST_START: &str = r#"
set -e
ip link set lo up
"$1" > log 2>&1 &
server=$!
trap 'kill -9 $server' EXIT
for _ in $(seq 1200); do
    grep -q 'gatepost: ready' log && break
    kill -0 $server || { cat log; exit 1; }
    sleep 0.1
done
cat log
grep -A1 'printf ' log | sed 's/^  *//' > curl.sh
grep '^ *swaks ' log > swaks.sh
sh -e curl.sh
sh -e swaks.sh
for _ in $(seq 600); do
    [ "$(ls "$(grep -E '/new$' log | head -n 1 | tr -d ' ')" 2>/dev/null | wc -l)" = 2 ] && break
    sleep 0.1
done
"$1" queue list
kill -TERM $server
wait $server
trap - EXIT
"#;

#[test]
fn the_first_start_needs_no_configuration_and_says_how_to_send() {
    let name = "first start";
    if Foreign::need_all(name, &["curl", "swaks", "ip", "unshare"]).is_none()
        || !Foreign::need_root(name)
    {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", FIRST_START, "sh"]).arg(program());
    let said = finish(command.current_dir(folder.path())).expect_success(name).stdout;
    for word in [
        "127.0.0.1:2525",
        "127.0.0.1:2587",
        "127.0.0.1:2465",
        "greylist",
        "dnsbl",
        "rewrite",
        "sha256",
    ] {
        assert!(said.contains(word), "no {word} in\n{said}");
    }
    let stored = maildir::messages(&folder.path().join("var/mail/example.test/alice"));
    assert_eq!(stored.len(), 2, "{said}");
}

#[test]
fn metrics_and_health_are_served_over_http() {
    let port = free_port();
    let server = Setup::new().with(&format!("[admin]\nhttp = \"127.0.0.1:{port}\"")).start();
    give(&server, "alice@example.test", "metrics");
    server.wait_mailbox("alice", 1);
    assert!(get(port, "/healthz").starts_with("HTTP/1.1 200"));
    eventually("metrics of one delivery", || {
        let metrics = get(port, "/metrics");
        (metrics.starts_with("HTTP/1.1 200") && metrics.contains("gatepost_")).then_some(())
    });
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn each_fate_is_one_event_in_a_json_log() {
    let server = Setup::new().with("[log]\nformat = \"json\"").start();
    give(&server, "alice@example.test", "logged");
    let mut client = server.session();
    client.command(&format!("MAIL FROM:<{FROM}>")).unwrap();
    assert!(client.command("RCPT TO:<someone@target.test>").unwrap().code >= 500);
    let queued = id(&server.wait_mailbox("alice", 1)[0]).expect("an id in the trace");
    for fate in ["received", "delivered", "rejected"] {
        let event =
            eventually(fate, || mail_events(&server).into_iter().find(|e| fate_of(e) == fate));
        if fate != "rejected" {
            assert!(event.to_string().contains(&queued), "{event}");
        }
    }
    for fate in ["received", "delivered"] {
        let events = mail_events(&server);
        assert_eq!(events.iter().filter(|event| fate_of(event) == fate).count(), 1, "{fate}");
    }
}

fn mail_events(server: &Gatepost) -> Vec<Value> {
    let log = server.log();
    let values = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    values.filter(|value| value["target"] == "mail").collect()
}

fn fate_of(event: &Value) -> String {
    event["event"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn why_tells_what_each_plugin_decided_for_a_message() {
    let plugin = "[[plugin]]\nname = \"marks\"\ncomponent = \"bundled:rewrite\"\non-error = \"defer\"\n\
                  grants = { edit = [\"header\"] }\n[plugin.config]\n\
                  headers = [{ add = \"X-Mark\", value = \"$i\" }]";
    let server = Setup::new().with(plugin).start();
    give(&server, "alice@example.test", "why");
    let queued = id(&server.wait_mailbox("alice", 1)[0]).expect("an id in the trace");
    let told = eventually("the trace of a delivery", || {
        let told = server.command(&["why", &queued, "--config", "gatepost.toml"]).stdout;
        told.contains("delivered").then_some(told)
    });
    for word in ["alice@example.test", FROM, "marks", &queued] {
        assert!(told.contains(word), "no {word} in\n{told}");
    }
    let listed = server.command(&["plugin", "list", "--config", "gatepost.toml"]);
    assert!(listed.expect_success("plugin list").stdout.contains("marks"));
}

#[test]
fn mail_has_a_trace_without_plugins_and_how_long_it_is_kept_changes_without_a_restart() {
    let mut server = Setup::new().start();
    give(&server, "alice@example.test", "kept");
    let queued = id(&server.wait_mailbox("alice", 1)[0]).expect("an id in the trace");
    eventually("the trace of a message that no plugin saw", || {
        let told = server.command(&["why", &queued, "--config", "gatepost.toml"]).stdout;
        (told.contains("transaction") && told.contains("delivered")).then_some(())
    });
    let folder = server.folder().join("var/trace");
    let days_ago = |days: u64| {
        let path = folder.join(format!("trace-2020-01-{days:02}.jsonl"));
        let file = std::fs::File::create(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 3600)).unwrap();
        path
    };
    let (old, young) = (days_ago(5), days_ago(2));
    let setup = server.setup().clone().with("[trace]\nkeep = \"3d\"");
    server.reconfigure(setup);
    eventually("an end of what is older than three days", || (!old.exists()).then_some(()));
    assert!(young.exists());
    let told = server.command(&["why", &queued, "--config", "gatepost.toml"]);
    assert!(told.expect_success("why").stdout.contains("delivered"));
}

#[test]
fn help_is_given_for_every_command() {
    for arguments in [
        &["--help"][..],
        &["check", "--help"],
        &["queue", "--help"],
        &["plugin", "--help"],
        &["why", "--help"],
    ] {
        let help = finish(Command::new(program()).args(arguments)).expect_success("--help").stdout;
        assert!(help.contains("Usage: gatepost"), "{help}");
    }
}
