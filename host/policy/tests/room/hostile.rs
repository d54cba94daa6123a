//! Whatever a component does: the client gets the configured answer in time, nothing of the call takes effect, the session
//! goes on, and the next session notices nothing. The lines are threats of the sandbox's model: W1 loops, W2 bulk
//! instructions, W3 bombs, W4 stacks, W5 floods, W6 sizes, W7 logs, W8 stores, W9 handles, W14 forgery, W15 halves.

use std::time::{Duration, Instant};

use policy::{AttemptResult, Login, Notice, PluginConfig, Queued, Session, Stage, Verdict};
use smtp::Reply;

use crate::support::{
    World, addressed, addresses, agreeable, content, granted, minimal, minimal_with, passing,
    plugin, recipient, session, transaction, written,
};

/// Acts that must fail, and a word of why. One line each: threat, act, word.
const FAILING: &[(&str, &str, &str)] = &[
    ("W1", "spin", "execution time used up"),
    ("W1", "spin-with-calls", "used up"),
    ("W1", "sleep", "no answer within"),
    ("W2", "fill", "execution time used up"),
    ("W3", "memory-bomb", "trap"),
    ("W3", "table-of-boxes", "trap"),
    ("W4", "recurse", "trap"),
    ("W5", "flood", "used up"),
    ("W5", "flood-log", "used up"),
    ("W5", "flood-config", "used up"),
    ("W5", "flood-kv", "used up"),
    ("W5", "flood-dns", "used up"),
    ("W5", "flood-notes", "used up"),
    ("W5", "flood-recipients", "used up"),
    ("W5", "flood-print", "used up"),
    ("W6", "giant-value", "fuel"),
    ("W6", "giant-list", "fuel"),
    ("W6", "many-empties", "fuel"),
    ("W6", "giant-name", "fuel"),
    ("W6", "giant-query", "fuel"),
    ("W6", "giant-reason", "fuel"),
    ("W9", "forge-transaction", "handle"),
    ("W9", "forge-session", "handle"),
    ("W9", "forge-content", "handle"),
    ("W9", "confuse-handles", "handle"),
    ("W9", "drop-twice", "handle"),
    ("W9", "use-after-drop", "handle"),
    ("W14", "reply-crlf", "illegal answer reject"),
    ("W14", "reply-nul", "illegal answer reject"),
    ("W14", "reply-positive", "illegal answer reject"),
    ("W14", "reply-class", "illegal answer reject"),
    ("W14", "reply-long", "illegal answer reject"),
    ("W14", "reply-lines", "illegal answer reject"),
    ("W15", "edit-all-then-panic", "trap"),
    ("W15", "edit-all-then-spin", "execution time used up"),
    ("W21", "panic", "trap"),
    ("W21", "forge-panic", "trap"),
    ("W21", "exit", ""),
];

/// Little time, so that the table is quick; enough for a debug build on a busy machine to reach the other limits.
fn hurried(act: &str) -> PluginConfig {
    let mut config = granted("guest", &[("rcpt", act)]);
    config.limits.cpu =
        Duration::from_millis(if act.contains("spin") || act == "fill" { 50 } else { 5000 });
    config.limits.wall = Duration::from_millis(if act == "sleep" { 200 } else { 30_000 });
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_act_is_contained() {
    let world = World::new();
    let clean = world.chain(vec![plugin("clean", &[])]).await;
    let before = resident();
    for (threat, act, word) in FAILING {
        let mut hostile = world.session(hurried(act)).await;
        let mut transaction = transaction();
        assert_eq!(hostile.mail(&mut transaction).await.verdict, Verdict::Pass, "{act}");
        let begun = Instant::now();
        let ruling = hostile.rcpt(&mut transaction, recipient("bob@example.org")).await;
        let took = begun.elapsed();
        assert!(
            matches!(&ruling.verdict, Verdict::Refuse(reply) if reply.code() == 451),
            "{act}: {ruling:?}"
        );
        let error = transaction.trace[1].error.clone().unwrap_or_default();
        assert!(error.contains(word), "{act}: {error}");
        assert!(error.len() <= 500 && !error.chars().any(char::is_control), "{act}: {error:?}");
        assert!(addresses(&transaction).is_empty() && transaction.edits.is_empty(), "{act}");
        assert!(transaction.notes.is_empty(), "{act}");
        assert_eq!(transaction.reverse_path.to_string(), "alice@example.com", "{act}");
        assert_eq!(
            hostile.mail(&mut transaction).await.verdict,
            Verdict::Pass,
            "{act}: it goes on"
        );
        // The next session, before another plugin of the same host.
        let mut next = session(clean.clone(), 9);
        assert_eq!(next.helo("h", true).await.verdict, Verdict::Pass, "{act}: the next session");
        eprintln!("{threat:<4}{act:<22}{took:>12.1?}  {}", &error[..error.len().min(70)]);
    }
    let grown = resident().saturating_sub(before) >> 20;
    eprintln!("{} acts; the resident memory grew by {grown} MiB", FAILING.len());
    // The pool keeps half a mebibyte for each of its slots, and the allocator has its own mind.
    assert!(grown < 200, "{grown} MiB did not come back");
}

/// Octets of memory that this process has in use.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Asks everything that a plugin can be asked: a whole session, then its message in the queue. Gives the stages, in order,
/// each with what failed there.
async fn whole_life(chain: std::sync::Arc<policy::Chain>) -> Vec<(&'static str, Option<String>)> {
    let mut session = session(chain.clone(), 1);
    let mut transaction = addressed();
    session.connect().await;
    session.helo("h", true).await;
    let (mechanism, authorization) = ("PLAIN".into(), String::new());
    session.auth(Login { mechanism, identity: "bob".into(), authorization, password: None }).await;
    session.mail(&mut transaction).await;
    session.rcpt(&mut transaction, recipient("ann@example.org")).await;
    assert_eq!(session.data(&mut transaction, content()).await.verdict, Verdict::Pass);
    session.disconnect("quit").await;

    let mut queued = Queued::new(chain, addressed());
    let mut trace = queued.route(0).await.1;
    trace.extend(queued.deliver(0, content()).await.1);
    let failed = Reply::new(550, "5.1.1 unknown");
    let along = "mx:example.org".parse().unwrap();
    trace.extend(queued.outcome(0, &along, AttemptResult::Failed(failed.clone())).await.1);
    let to = "alice@example.com".into();
    let notice = Notice { kind: "failure", to, recipients: vec![(0, "failed", Some(failed))] };
    trace.extend(queued.notice(notice).await.1);

    let all = session.trace().iter().chain(&transaction.trace).chain(&trace);
    all.map(|entry| (entry.stage.name(), entry.error.clone())).collect()
}

/// W1, W16, W21: an end without an answer at one stage, the last of a session among them, is that stage alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_or_a_loop_at_any_stage_is_that_stage_alone() {
    const STAGES: [&str; 11] = [
        "connect",
        "helo",
        "auth",
        "disconnect",
        "mail",
        "rcpt",
        "data",
        "route",
        "deliver",
        "outcome",
        "dsn",
    ];
    let world = World::new();
    for (act, word) in [("panic", "trap"), ("spin", "execution time used up")] {
        for stage in STAGES {
            let mut config = passing(plugin("guest", &[(stage, act)]));
            if act == "spin" {
                (config.limits.cpu, config.limits.cpu_data) = (SPINNING, SPINNING);
            }
            let stages = whole_life(world.chain(vec![config]).await).await;
            let asked: Vec<&str> = stages.iter().map(|(stage, _)| *stage).collect();
            assert_eq!(asked, STAGES, "{act} at {stage}");
            for (at, error) in stages {
                let error = error.unwrap_or_default();
                // A call that only answers may be cut off on a machine that gives it no time, but not by a trap of its own.
                assert!(at == stage || !error.contains("trap"), "{act} at {stage}: {at}: {error}");
                assert!(at != stage || error.contains(word), "{act} at {stage}: {error}");
            }
        }
        let mut config = plugin("guest", &[("configure", act)]);
        config.limits.cpu = SPINNING;
        let faults = world.faults(vec![config]).await;
        assert!(faults[0].message.contains(word), "{}", faults[0].message);
        eprintln!("{act} at {} stages and at configure", STAGES.len());
    }
}

/// Long enough for a debug build to get to the loop, and short enough for a dozen of them.
const SPINNING: Duration = Duration::from_millis(200);

/// W3, W5, W6: what a plugin can only do to content. Nothing of it takes effect.
#[tokio::test(flavor = "multi_thread")]
async fn content_is_not_flooded() {
    const ACTS: &[(&str, &str)] =
        &[("flood-fields", "used up"), ("flood-body", "used up"), ("giant-body", "fuel")];
    let world = World::new();
    for (act, word) in ACTS {
        let mut config = passing(granted("guest", &[("data", act)]));
        config.limits.cpu_data = Duration::from_secs(60);
        (config.limits.wall, config.limits.host_calls) = (Duration::from_secs(120), 1000);
        let mut session = world.session(config).await;
        let mut transaction = addressed();
        session.data(&mut transaction, content()).await;
        let error = transaction.trace[0].error.clone().unwrap_or_default();
        assert!(error.contains(word), "{act}: {error}");
        assert!(transaction.edits.is_empty(), "{act}");
        eprintln!("{act:<22}{}", &error[..error.len().min(70)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_arguments_are_errors_and_no_panics() {
    let world = World::new();
    for stage in ["helo", "mail", "rcpt", "data"] {
        let mut config = passing(granted("guest", &[(stage, "odd-arguments")]));
        config.grants.edit.insert(policy::EditGrant::TraceFields);
        let mut session = world.session(config).await;
        let mut transaction = addressed();
        session.helo("h", true).await;
        session.mail(&mut transaction).await;
        session.rcpt(&mut transaction, recipient("ann@example.org")).await;
        session.data(&mut transaction, content()).await;
        for entry in session.trace().iter().chain(&transaction.trace) {
            assert_eq!(entry.error, None, "{stage}: {entry:?}");
            if entry.stage.name() == stage {
                let errors: usize = entry.reason.as_deref().unwrap().parse().unwrap();
                assert!(errors > 60, "{stage}: only {errors} errors");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_for_people_carries_no_controls() {
    let world = World::new();
    let acts = [("helo", "forge-reason"), ("connect", "forge-log")];
    let mut session = world.session(plugin("guest", &acts)).await;
    session.connect().await;
    session.helo("h", true).await;
    let reason = session.trace()[1].reason.clone().unwrap();
    assert!(reason.starts_with("fine  2026-01-01 ERROR forged"), "{reason:?}");
    assert!(!reason.chars().any(char::is_control), "{reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_has_its_quota_and_is_nobody_elses() {
    let world = World::new();
    let mut greedy = passing(granted("greedy", &[("helo", "flood-kv")]));
    greedy.limits.kv_keys = 100;
    let counting = granted("calm", &[("helo", "count")]);
    let mut session = world.session(greedy).await;
    session.helo("h", true).await;
    for expected in ["1", "2"] {
        let mut session = world.session(counting.clone()).await;
        session.helo("h", true).await;
        assert_eq!(session.trace()[0].reason.as_deref(), Some(expected));
    }
}

/// Components that lie about their own values, or are more than they may be: refused when they are loaded.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_components_do_not_load() {
    let result = |body: &str| {
        agreeable("").replace("(result i32) i32.const 16", &format!("(result i32) {body}"))
    };
    // The result of `configure` at 16: a case, then three strings as pointer and length.
    let string = |pointer: u32, length: u32| {
        result(&format!(
            "(i32.store (i32.const 20) (i32.const {pointer})) (i32.store (i32.const 24) (i32.const {length})) i32.const 16"
        ))
    };
    let many = |what: &str, count: usize| agreeable(&what.repeat(count));
    let table = [
        ("start-loops", agreeable("(func $s (loop (br 0))) (start $s)"), "execution time used up"),
        ("start-traps", agreeable("(func $s unreachable) (start $s)"), "trap"),
        ("configure-loops", result("(loop (br 0)) i32.const 16"), "execution time used up"),
        (
            "configure-recurses",
            result("(call $r) i32.const 16").replace("(memory", "(func $r call $r) (memory"),
            "exhausted",
        ),
        ("pointer-beyond-memory", string(0x7fff_0000, 10), "out of bounds"),
        ("length-beyond-memory", string(16, 0x7fff_ffff), "out of bounds"),
        ("length-all-ones", string(16, u32::MAX), "out of bounds"),
        ("result-misaligned", result("i32.const 17"), "aligned"),
        ("result-beyond-memory", result("i32.const 65532"), "out of bounds"),
        (
            "no-such-case",
            result("(i32.store (i32.const 16) (i32.const 77)) i32.const 16"),
            "discriminant",
        ),
        (
            "not-utf-8",
            result(
                "(i32.store (i32.const 64) (i32.const -1)) (i32.store (i32.const 20) (i32.const 64)) (i32.store (i32.const 24) (i32.const 4)) i32.const 16",
            ),
            "utf",
        ),
        ("memory-of-4-gib", agreeable("").replace("\"memory\") 1", "\"memory\") 65536"), "memory"),
        (
            "memory-over-its-limit",
            agreeable("").replace("\"memory\") 1", "\"memory\") 1024"),
            "memory",
        ),
        ("table-too-large", agreeable("(table 50000 funcref)"), "table"),
        ("tables-too-many", many("(table 1 funcref)", 50), "table"),
        (
            "memory-bomb-at-start",
            agreeable(
                "(func $s (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable) (start $s)",
            ),
            "trap",
        ),
        (
            "table-bomb-at-start",
            agreeable(
                "(table $t 1 funcref) (func $s (loop (br_if 0 (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable) (start $s)",
            ),
            "trap",
        ),
        (
            "division-at-start",
            agreeable("(func $s (drop (i32.div_s (i32.const 1) (i32.const 0)))) (start $s)"),
            "trap",
        ),
    ];
    let table = table.map(|(name, core, word)| (name, minimal(&core, ""), word));
    let table: Vec<_> = table.into_iter().chain(bombs_of_the_component()).collect();
    let world = World::new();
    for (name, component, word) in &table {
        let mut config = written(name, component.clone());
        config.limits.cpu = Duration::from_millis(50);
        let begun = Instant::now();
        let faults = world.faults(vec![config]).await;
        let said = faults[0].message.to_lowercase();
        assert!(said.contains(word), "{name}: {said}");
        eprintln!("{name:<24}{:>10.1?}  {said}", begun.elapsed());
    }
    eprintln!("{} components", table.len());
}

/// What the core module alone can't do: W3 with instances, W9 with handles of a resource of its own.
fn bombs_of_the_component() -> [(&'static str, Vec<u8>, &'static str); 2] {
    let instances = "(core instance (instantiate $empty))".repeat(200);
    let leak = agreeable(
        r#"(import "own" "new" (func $new (param i32) (result i32)))
           (func $s (loop (drop (call $new (i32.const 7))) (br 0))) (start $s)"#,
    );
    // An import stands before everything else of a module.
    let at = leak.find("(import").unwrap_or_default();
    let end = at + leak[at..].find("\n").unwrap_or_default();
    let leak = format!("{} {}{}", &leak[at..end], &leak[..at], &leak[end..]);
    let resource = r#"(type $own (resource (rep i32)))
        (core func $new (canon resource.new $own))
        (core instance $handles (export "new" (func $new)))"#;
    [
        (
            "instances-too-many",
            minimal(&agreeable(""), &format!("(core module $empty) {instances}")),
            "core module instances",
        ),
        (
            "handles-leaked-at-start",
            minimal_with(&leak, resource, r#"(with "own" (instance $handles))"#),
            "handle",
        ),
    ]
}

/// W1: 64 sessions compute for ever; other sessions, before the same plugin and before another one, are answered as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loopers_cost_other_sessions_little() {
    let world = World::with(|config| config.slots = 128);
    let mut spin = passing(plugin("spin", &[("helo", "spin")]));
    // The default of a server.
    spin.limits.cpu = Duration::from_millis(50);
    let looping = world.chain(vec![spin]).await;
    let calm = world.chain(vec![plugin("calm", &[])]).await;
    let quiet = latencies(&calm, 500, Stage::Helo).await;
    let loopers: Vec<_> = (0..64)
        .map(|port| {
            let looping = looping.clone();
            tokio::spawn(async move {
                loop {
                    let mut session: Session = session(looping.clone(), port);
                    session.helo("h", true).await;
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let others = latencies(&calm, 500, Stage::Helo).await;
    let same = latencies(&looping, 500, Stage::Connect).await;
    loopers.iter().for_each(tokio::task::JoinHandle::abort);
    let at = |times: &[Duration], share: usize| times[times.len() * share / 100];
    eprintln!("a session of one question       p50       p99");
    for (name, times) in
        [("alone", &quiet), ("beside 64 loopers", &others), ("of the same plugin", &same)]
    {
        eprintln!("{name:<24}{:>12.2?}{:>10.2?}", at(times, 50), at(times, 99));
        // On a machine of its own the rise is below 5 ms at the 99th percentile; other tests run here, too.
        assert!(at(times, 50) < at(&quiet, 50) + Duration::from_millis(100), "{name}");
    }
}

async fn latencies(
    chain: &std::sync::Arc<policy::Chain>,
    sessions: usize,
    stage: Stage,
) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..sessions {
        let begun = Instant::now();
        let mut session = session(chain.clone(), 7);
        let ruling = if stage == Stage::Connect {
            session.connect().await
        } else {
            session.helo("h", true).await
        };
        assert_eq!(ruling.verdict, Verdict::Pass);
        times.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    times.sort();
    times
}

/// W23: a plugin whose calls all wait cannot take what others need.
#[tokio::test(flavor = "multi_thread")]
async fn one_plugin_does_not_take_all_instances() {
    let world = World::with(|config| config.slots = 8);
    let mut waiting = passing(plugin("waiting", &[("helo", "sleep")]));
    waiting.limits.wall = Duration::from_secs(600);
    let chain = world.chain(vec![waiting]).await;
    let calm = world.chain(vec![plugin("calm", &[])]).await;
    let waiters: Vec<_> = (0..20)
        .map(|port| {
            let mut session = session(chain.clone(), port);
            tokio::spawn(async move { drop(session.helo("h", true).await) })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for port in 100..120 {
        let mut session = session(calm.clone(), port);
        session.helo("h", true).await;
        assert_eq!(session.trace()[0].error, None);
    }
    waiters.iter().for_each(tokio::task::JoinHandle::abort);
}

/// W16: a hundred calls that hang hold up neither the next set of plugins nor the end of the host.
#[tokio::test(flavor = "multi_thread")]
async fn hung_calls_hold_up_neither_a_swap_nor_the_end() {
    let world = World::with(|config| config.slots = 200);
    let hang = |name: &str, act: &str| {
        let mut config = passing(plugin(name, &[("helo", act), ("disconnect", act)]));
        config.limits.cpu = Duration::from_secs(3600);
        config.limits.wall = Duration::from_secs(3600);
        config
    };
    let chain = world.chain(vec![hang("a", "sleep"), hang("b", "spin")]).await;
    let spinning = world.chain(vec![hang("b", "spin")]).await;
    let hung: Vec<_> = (0..100)
        .map(|port| {
            let chain = if port % 2 == 0 { &chain } else { &spinning };
            let mut session = session(chain.clone(), port);
            tokio::spawn(async move {
                session.helo("h", true).await;
                session.disconnect("shutdown").await;
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    let next = world.chain(vec![plugin("calm", &[])]).await;
    let swapped = begun.elapsed();
    let mut session = session(next.clone(), 999);
    assert_eq!(session.helo("h", true).await.verdict, Verdict::Pass);
    let begun = Instant::now();
    hung.iter().for_each(tokio::task::JoinHandle::abort);
    for task in hung {
        // Each is cut off where it waits, with all that it held.
        assert!(task.await.is_err_and(|error| error.is_cancelled()));
    }
    let cut = begun.elapsed();
    // All places are free again: as many sessions get an instance each.
    let mut open: Vec<Session> =
        (0..140).map(|port| crate::support::session(next.clone(), port)).collect();
    for session in &mut open {
        session.helo("h", true).await;
        assert_eq!(session.trace()[0].error, None);
    }
    drop((open, session, world));
    eprintln!(
        "beside 100 hung calls a set was live in {swapped:.1?}; they were cut off in {cut:.1?}"
    );
    assert!(swapped < Duration::from_secs(60) && cut < Duration::from_secs(60));
}

/// W10: what one session's instance left in its memory is found by none of those that come after it.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_instances_find_no_secret() {
    let world = World::with(|config| config.slots = 8);
    let paint = world.chain(vec![plugin("paint", &[("helo", "paint")])]).await;
    let search = world.chain(vec![plugin("search", &[("helo", "search")])]).await;
    for round in 0..sweep(10_000) {
        if round % 20 == 0 {
            let mut session = session(paint.clone(), 1);
            session.helo("h", true).await;
            assert_eq!(session.trace()[0].reason.as_deref(), Some("painted"));
        }
        let mut session = session(search.clone(), 2);
        session.helo("h", true).await;
        assert_eq!(session.trace()[0].reason.as_deref(), Some("0 of it"), "round {round}");
    }
    eprintln!("{} instances looked for a secret and found none", sweep(10_000));
}

/// W15: a call that ends in the middle of its edits leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_traps_in_the_middle_of_edits_change_nothing() {
    let world = World::new();
    let config = passing(granted("other", &[("data", "edit-all-then-panic")]));
    let mut session = world.session(config).await;
    for _ in 0..sweep(10_000) {
        let mut transaction = addressed();
        assert_eq!(session.data(&mut transaction, content()).await.verdict, Verdict::Pass);
        assert_eq!(addresses(&transaction), ["bob@example.org"]);
        assert!(transaction.edits.is_empty() && transaction.notes.is_empty());
        assert_eq!(transaction.reverse_path.to_string(), "alice@example.com");
        assert!(transaction.trace[0].edits.is_empty() && transaction.trace[0].error.is_some());
    }
    eprintln!("{} traps in the middle of edits, 0 edits of them in force", sweep(10_000));
}

/// A fifth of it, so that every run of all tests may afford it; GATEPOST_SWEEP=full runs all.
fn sweep(full: usize) -> usize {
    match std::env::var("GATEPOST_SWEEP") {
        Ok(text) if text == "full" => full,
        _ => full / 5,
    }
}
