//! A plugin that keeps failing is not asked any more; what stands in its place, and how it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use policy::{Clock, Fallback, OnError, PluginConfig, Session, Verdict};

use crate::support::{World, plugin, session};

/// Goes on when it is told to.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

fn world() -> (World, Hand) {
    let hand = Hand::default();
    let clock = Arc::new(hand.clone());
    (World::with(|config| config.clock = clock), hand)
}

fn breaking(act: &str) -> PluginConfig {
    let mut config = plugin("guest", &[("helo", act)]);
    config.on_error = OnError::Pass;
    config.breaker.failures = 3;
    config
}

/// What the plugin said to this name, or why it did not.
async fn ask(world: &World, name: &str) -> (Verdict, String, String) {
    let mut session: Session = session(world.host.current(), 1);
    let verdict = session.helo(name, true).await.verdict;
    let entry = &session.trace()[0];
    (verdict, entry.error.clone().unwrap_or_default(), entry.verdict.to_string())
}

fn is_open(world: &World) -> bool {
    world.host.current().breakers().next().unwrap().open
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_keeps_failing_is_not_asked_until_probes_go_well() {
    let (world, hand) = world();
    world.chain(vec![breaking("panic-if-bad")]).await;
    assert_eq!(ask(&world, "good").await, (Verdict::Pass, String::new(), "next".into()));
    for _ in 0..3 {
        assert!(ask(&world, "bad").await.1.contains("trap"));
    }
    assert!(is_open(&world));
    let (verdict, error, _) = ask(&world, "good").await;
    assert_eq!(verdict, Verdict::Pass, "what on-error says");
    assert!(error.contains("circuit breaker"), "{error}");
    hand.pass(30);
    assert!(ask(&world, "bad").await.1.contains("trap"), "a probe");
    assert!(ask(&world, "good").await.1.contains("circuit breaker"), "which failed");
    hand.pass(60);
    for _ in 0..3 {
        assert_eq!(ask(&world, "good").await.1, "");
    }
    assert!(!is_open(&world));
    let state = world.host.current().breakers().next().unwrap();
    assert_eq!(state.trips, 1);
    assert!(state.last_failure.unwrap().contains("trap"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_closes_it_and_a_reload_of_the_same_does_not() {
    let (world, _hand) = world();
    let bad = breaking("panic");
    world.chain(vec![bad.clone()]).await;
    for _ in 0..3 {
        ask(&world, "any").await;
    }
    assert!(is_open(&world));
    world.chain(vec![bad.clone()]).await;
    assert!(is_open(&world), "nothing was changed");
    world.chain(vec![breaking("accept")]).await;
    assert!(!is_open(&world));
    assert_eq!(ask(&world, "any").await.2, "accept");
    let mut less = bad;
    less.limits.host_calls = 77;
    world.chain(vec![less]).await;
    assert!(!is_open(&world), "other limits are a change, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_previous_version_answers_in_the_meantime() {
    let (world, hand) = world();
    world.chain(vec![breaking("reject")]).await;
    assert_eq!(ask(&world, "any").await.2, "reject");
    let mut broken = breaking("panic");
    broken.breaker.fallback = Fallback::Previous;
    world.chain(vec![broken.clone()]).await;
    for _ in 0..3 {
        assert_eq!(ask(&world, "any").await.0, Verdict::Pass);
    }
    let (verdict, error, said) = ask(&world, "any").await;
    assert!(matches!(verdict, Verdict::Refuse(reply) if reply.code() == 550), "{error}");
    assert_eq!(said, "reject");
    // Another broken version falls back on the one that worked, not on the one that did not.
    broken.config["tag"] = "another".into();
    world.chain(vec![broken]).await;
    for _ in 0..3 {
        ask(&world, "any").await;
    }
    assert_eq!(ask(&world, "any").await.2, "reject");
    hand.pass(30);
    assert!(ask(&world, "any").await.1.contains("trap"), "probes go to the new one");
    assert_eq!(ask(&world, "any").await.2, "reject");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_is_not_the_plugins_fault() {
    let world = World::with(|config| {
        config.slots = 2;
        config.slot_wait = Duration::from_millis(1);
    });
    let chain = world.chain(vec![breaking("")]).await;
    let mut open: Vec<Session> = (1..=2).map(|port| session(chain.clone(), port)).collect();
    for session in &mut open {
        session.helo("h", true).await;
    }
    for _ in 0..10 {
        assert!(ask(&world, "any").await.1.contains("no room"));
    }
    assert!(!is_open(&world));
}
