//! Hostile guests: whatever a plugin does, the session gets the configured answer and goes on.

use std::time::Duration;

use crate::support::{World, passing, plugin, session, transaction};
use policy::{OnError, Ruling, Session, TraceEntry, Verdict};

fn refused(ruling: &Ruling) -> String {
    match &ruling.verdict {
        Verdict::Refuse(reply) => reply.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_call_means_what_the_administrator_says() {
    let world = World::new();
    let mut config = plugin("guest", &[("helo", "panic"), ("connect", "panic")]);
    config.on_error = OnError::Reject;
    let mut rejecting = world.session(config.clone()).await;
    assert!(
        matches!(rejecting.connect().await.verdict, Verdict::Disconnect(reply) if reply.code() == 554)
    );
    assert!(refused(&rejecting.helo("h", true).await).starts_with("554 5.3.0"));
    config.on_error = OnError::Pass;
    let mut passing = world.session(config.clone()).await;
    assert_eq!(passing.connect().await.verdict, Verdict::Pass);
    assert_eq!(passing.helo("h", true).await.verdict, Verdict::Pass);
    assert!(passing.trace().iter().all(|entry| entry.error.is_some()));
    config.on_error = OnError::Defer;
    let mut deferring = world.session(config).await;
    assert!(
        matches!(deferring.connect().await.verdict, Verdict::Disconnect(reply) if reply.code() == 421)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_reaches_nothing_of_the_machine() {
    let world = World::new();
    let mut session = world.session(passing(plugin("guest", &[("helo", "files")]))).await;
    session.helo("h", true).await;
    let TraceEntry { reason, error, .. } = &session.trace()[0];
    // Whether the standard library answers by itself or asks us: no directory, no socket, no variable.
    assert!(
        error.is_some()
            || reason
                .as_deref()
                .is_some_and(|text| text.starts_with("Err(") && text.ends_with("false 0")),
        "{reason:?} {error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_sees_the_memory_of_another() {
    let world = World::with(|config| config.slots = 4);
    let chain = world.chain(vec![plugin("guest", &[("helo", "remember")])]).await;
    for port in 1..=300 {
        let mut session: Session = session(chain.clone(), port);
        session.helo("one", true).await;
        session.helo("two", true).await;
        let secret = format!("secret of {port}");
        assert_eq!(session.trace()[0].reason, Some(secret.clone()));
        assert_eq!(
            session.trace()[1].reason,
            Some(format!("{secret},{secret}")),
            "the instance is kept"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_works_longer_than_a_tick_is_answered() {
    let world = World::with(|config| config.tick = Duration::from_millis(1));
    let mut config = plugin("guest", &[("helo", "work")]);
    config.limits.host_calls = 10_000_000;
    let mut session = world.session(config).await;
    for _ in 0..3 {
        assert_eq!(session.helo("h", true).await.verdict, Verdict::Pass, "{:?}", session.trace());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_of_one_session_do_not_stop_the_others() {
    let world = World::new();
    let mut spin = plugin("spin", &[("helo", "spin")]);
    spin.limits.cpu = Duration::from_secs(3600);
    spin.limits.wall = Duration::from_secs(3600);
    let looping = world.chain(vec![spin]).await;
    let calm = world.chain(vec![plugin("calm", &[])]).await;
    let loopers: Vec<_> = (0..16)
        .map(|port| {
            let mut session = session(looping.clone(), port);
            tokio::spawn(async move { drop(session.helo("h", true).await) })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    for port in 100..110 {
        let mut session = session(calm.clone(), port);
        let answer = tokio::time::timeout(Duration::from_secs(30), session.helo("h", true)).await;
        assert_eq!(answer.expect("an answer in time").verdict, Verdict::Pass);
    }
    for looper in loopers {
        looper.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_is_a_failure_of_the_call_and_not_of_the_server() {
    let world = World::with(|config| {
        config.slots = 2;
        config.slot_wait = Duration::from_millis(50);
    });
    let chain = world.chain(vec![plugin("guest", &[])]).await;
    let mut open: Vec<Session> = (1..=2).map(|port| session(chain.clone(), port)).collect();
    for session in &mut open {
        assert_eq!(session.helo("h", true).await.verdict, Verdict::Pass);
    }
    let mut third = session(chain, 3);
    assert!(refused(&third.helo("h", true).await).starts_with("451"));
    open[0].release();
    assert_eq!(third.helo("h", true).await.verdict, Verdict::Pass);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_sessions_do_not_keep_others_from_being_judged() {
    let world = World::with(|config| {
        config.slots = 8;
        config.slot_wait = Duration::from_millis(50);
    });
    let chain = world.chain(vec![plugin("guest", &[])]).await;
    let mut open: Vec<Session> = (1..=100).map(|port| session(chain.clone(), port)).collect();
    for session in &mut open {
        assert_eq!(session.helo("h", true).await.verdict, Verdict::Pass, "{:?}", session.trace());
    }
    for session in &mut open {
        let mut transaction = transaction();
        assert_eq!(session.mail(&mut transaction).await.verdict, Verdict::Pass, "{transaction:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_log_lines_is_cut() {
    let world = World::new();
    let mut session = world.session(plugin("guest", &[("helo", "log-flood")])).await;
    assert_eq!(session.helo("h", true).await.verdict, Verdict::Pass);
}
