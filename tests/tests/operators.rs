//! `gatepost queue` against the running server: what operators see, hold back, change and end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::sink::{Behaviour, Sink};
use tests::{Gatepost, Setup, eventually, letter};

const SENDER: &str = "bob@example.test";

/// Every client of this machine may send anywhere; mail for a domain goes to its port.
fn routes(to: &[(&str, u16)]) -> Setup {
    let setup = Setup::new().with("[relay]\nfrom = [\"127.0.0.0/8\"]");
    to.iter().fold(setup, |setup, (domain, port)| {
        setup.with(&format!("[[route]]\nto = \"{domain}\"\nvia = \"smtp:[127.0.0.1]:{port}\""))
    })
}

fn send(server: &Gatepost, from: &str, to: &str) {
    let reply = server.session().transaction(from, &[to], &letter::plain(to)).unwrap();
    assert_eq!(reply.code, 250, "{reply}");
}

fn ids(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

fn wait_empty(server: &Gatepost) {
    eventually("an empty queue", || ids(&server.queue(&["list"])).is_empty().then_some(()));
}

#[test]
fn a_suspended_destination_waits_over_a_restart_until_it_is_resumed() {
    let (kept, free) = (Sink::start(Behaviour::default()), Sink::start(Behaviour::default()));
    let mut server = routes(&[("kept.test", kept.port()), ("free.test", free.port())]).start();
    server.queue(&["suspend", "--destination", "kept.test", "--reason", "they asked for it"]);
    for number in 0..3 {
        send(&server, SENDER, &format!("u{number}@kept.test"));
        send(&server, SENDER, &format!("u{number}@free.test"));
    }
    free.wait(3);
    let waiting = |server: &Gatepost| {
        eventually("three that wait", || {
            let suspended = server.queue(&["suspended"]);
            (suspended[0]["waiting"] == 3).then_some(suspended)
        })
    };
    assert_eq!(waiting(&server)[0]["reason"], "they asked for it");
    server.restart();
    assert_eq!(waiting(&server)[0]["what"]["destination"], "kept.test");
    assert_eq!(kept.connections(), 0);
    let shown = server.command(&["queue", "destinations", "--config", "gatepost.toml"]);
    assert!(shown.stdout.contains("kept.test  (suspended)"), "{}", shown.stdout);
    server.queue(&["resume", "--destination", "kept.test"]);
    kept.wait(3);
    wait_empty(&server);
    let again = server.command(&[
        "queue",
        "resume",
        "--destination",
        "kept.test",
        "--config",
        "gatepost.toml",
    ]);
    assert!(
        !again.status.success() && again.stderr.contains("is not suspended"),
        "{}",
        again.stderr
    );
}

#[test]
fn a_dry_run_changes_nothing_and_a_bounce_tells_the_sender() {
    let busy = Behaviour {
        script: Arc::new(|line, _| {
            line.starts_with("RCPT").then(|| "450 4.2.1 Not yet".to_owned())
        }),
        ..Behaviour::default()
    };
    let sink = Sink::start(busy);
    let server = routes(&[("busy.test", sink.port())])
        .with("[queue]\nfirst-retry = \"1h\"\nlongest-retry = \"1h\"")
        .start();
    for (from, to) in [(SENDER, "one"), (SENDER, "two"), ("carol@other.test", "three")] {
        send(&server, from, &format!("{to}@busy.test"));
    }
    let destination = eventually("what the destination said", || {
        let all = server.queue(&["destinations"]);
        let one = all.as_array()?.iter().find(|one| !one["last"].is_null())?.clone();
        (one["messages"] == 3).then_some(one)
    });
    assert!(destination["last"]["reply"].to_string().contains("Not yet"), "{destination}");
    assert!(destination["name"].as_str().unwrap().starts_with("smtp:"), "{destination}");

    let address = format!("127.0.0.1:{}", sink.port());
    assert_eq!(destination["hosts"][0]["addresses"], serde_json::json!([address]));
    assert!(destination["connections"].is_u64(), "{destination}");

    let which = ["--sender", SENDER, "--domain", "busy.test", "--last", "not yet"];
    let with = |command: &[&str]| -> Value {
        server.queue(&command.iter().chain(&which).copied().collect::<Vec<_>>())
    };
    assert_eq!(with(&["change", "--add-tag", "stuck", "--set-priority", "-3"])["changed"], 2);
    let listed = server.queue(&["list", "--tag", "stuck"]);
    assert_eq!((ids(&listed).len(), &listed[0]["priority"]), (2, &Value::from(-3)));
    let dry = with(&["bounce", "--dry-run"]);
    assert_eq!(
        (&dry["would-be-bounced"], &dry["ids"]),
        (&Value::from(2), &Value::from(ids(&listed)))
    );
    assert_eq!(ids(&server.queue(&["list"])).len(), 3, "a dry run changes nothing");

    let reply = "550 5.7.1 This was never going to work";
    let bounced = server.queue(&["bounce", "--reply", reply, "--tag", "stuck"]);
    assert_eq!(bounced["bounced"], 2);
    for report in server.wait_mailbox("bob", 2) {
        let text = String::from_utf8_lossy(&report).into_owned();
        assert!(text.contains("This was never going to work"), "{text}");
    }
    assert_eq!(ids(&server.queue(&["list"])).len(), 1, "the other sender's stays");
    let nothing = server.command(&["queue", "remove", "--config", "gatepost.toml"]);
    assert!(
        !nothing.status.success() && nothing.stderr.contains("say which"),
        "{}",
        nothing.stderr
    );
    assert_eq!(server.queue(&["remove", "--all"])["removed"], 1);
    wait_empty(&server);
}

#[test]
fn what_is_held_by_a_name_is_found_by_it_and_released() {
    let server = Setup::new().start();
    server.queue(&["suspend", "--sender", "@client.test"]);
    for user in ["alice", "bob"] {
        send(&server, "a@client.test", &format!("{user}@example.test"));
    }
    assert_eq!(server.queue(&["hold", "--name", "virus", "--to", "alice@example.test"])["held"], 1);
    assert_eq!(server.queue(&["hold", "--name", "spam", "--to", "bob@example.test"])["held"], 1);
    server.queue(&["resume", "--sender", "@client.test"]);
    assert_eq!(ids(&server.queue(&["list", "--held"])).len(), 2);
    let listed = server.queue(&["list", "--quarantine", "virus"]);
    assert_eq!(listed[0]["recipients"], serde_json::json!(["alice@example.test"]));
    let id = ids(&listed)[0].clone();
    assert_eq!(server.queue(&["release", "--quarantine", "spam"])["released"], 1);
    server.wait_mailbox("bob", 1);
    assert!(server.mailbox("alice").is_empty());
    assert_eq!(server.queue(&["release", "--id", &id])["released"], 1);
    server.wait_mailbox("alice", 1);
    wait_empty(&server);
}

/// `GATEPOST_DEAD=100000` for the long form.
#[test]
fn a_destination_that_answers_nothing_delays_no_other() {
    let dead: usize = std::env::var("GATEPOST_DEAD").map_or(300, |text| text.parse().unwrap());
    // It takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let alive = Sink::start(Behaviour::default());
    let server = routes(&[("dead.test", port), ("alive.test", alive.port())])
        .with("[limits]\nconnections-per-address = 100")
        .start();
    let alone = latencies(&server, &alive, "alone");
    std::thread::scope(|scope| {
        for part in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.session();
                for number in (part..dead).step_by(8) {
                    let to = format!("u{number}@dead.test");
                    let reply = client.transaction(SENDER, &[&to], &letter::plain("dead")).unwrap();
                    assert_eq!(reply.code, 250, "{reply}");
                }
            });
        }
    });
    eventually("attempts at the dead one", || {
        let all = server.queue(&["destinations"]);
        all.as_array()?.iter().any(|one| one["in_hand"].as_u64() > Some(0)).then_some(())
    });
    let beside = latencies(&server, &alive, "beside");
    println!("from 250 to the next host, alone: {alone:?}");
    println!("beside {dead} messages to a destination that answers nothing: {beside:?}");
    // They would wait half a minute and more for one attempt at the dead one.
    assert!(beside.values().all(|time| *time < Duration::from_secs(10)), "{beside:?}");
    assert_eq!(server.queue(&["remove", "--domain", "dead.test"])["removed"], dead);
}

/// Sends a hundred messages and takes the time from the 250 to the arrival of each.
fn latencies(server: &Gatepost, sink: &Sink, name: &str) -> BTreeMap<&'static str, Duration> {
    let before = sink.taken().len();
    let mut client = server.session();
    let mut accepted = BTreeMap::new();
    for number in 0..100 {
        let to = format!("{name}-{number}@alive.test");
        let reply =
            client.transaction("carol@other.test", &[&to], &letter::plain("alive")).unwrap();
        assert_eq!(reply.code, 250, "{reply}");
        accepted.insert(to, Instant::now());
        std::thread::sleep(Duration::from_millis(5));
    }
    let taken = sink.wait(before + 100);
    let mut times: Vec<Duration> = taken[before..]
        .iter()
        .map(|one| {
            let to = one.rcpt[0].split(['<', '>']).nth(1).unwrap();
            one.time.saturating_duration_since(accepted[to])
        })
        .collect();
    times.sort_unstable();
    [("p50", times[49]), ("p99", times[98]), ("longest", times[99])].into()
}
