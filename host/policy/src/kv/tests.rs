use std::sync::Mutex;

use super::*;

struct StillClock(Mutex<SystemTime>);

impl Clock for StillClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

struct World {
    _directory: tempfile::TempDir,
    clock: Arc<StillClock>,
    store: Arc<Store>,
}

fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let clock =
        Arc::new(StillClock(Mutex::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000))));
    let limits = KvLimits { map_octets: 64 << 20, namespaces: 8 };
    let store = Store::open(directory.path(), &limits, clock.clone()).unwrap();
    World { _directory: directory, clock, store }
}

impl World {
    fn namespace(&self, name: &str) -> Namespace {
        self.store.namespace(name, Quota { keys: 10, octets: 1 << 20 }).unwrap()
    }

    fn pass(&self, seconds: u64) {
        *self.clock.0.lock().unwrap() += Duration::from_secs(seconds);
    }
}

fn set(value: &str, ttl: Option<u32>) -> Change {
    Change::Set { value: value.into(), ttl }
}

#[tokio::test]
async fn what_was_set_is_read_by_its_own_plugin_only() {
    let world = world();
    let (mine, other) = (world.namespace("mine"), world.namespace("other"));
    mine.change("k".into(), set("v", None)).await.unwrap();
    assert_eq!(mine.get("k").unwrap().as_deref(), Some(b"v".as_slice()));
    assert_eq!(other.get("k").unwrap(), None);
    assert_eq!(mine.change("k".into(), Change::Delete).await, Ok(Changed::Yes(true)));
    assert_eq!(mine.change("k".into(), Change::Delete).await, Ok(Changed::Yes(false)));
    assert_eq!(mine.get("k").unwrap(), None);
}

#[tokio::test]
async fn an_expired_value_is_absent_for_every_operation() {
    let world = world();
    let kv = world.namespace("mine");
    kv.change("k".into(), set("5", Some(10))).await.unwrap();
    world.pass(9);
    assert!(kv.get("k").unwrap().is_some());
    world.pass(1);
    assert_eq!(kv.get("k").unwrap(), None);
    let increment = Change::Increment { delta: 2, ttl: None };
    assert_eq!(kv.change("k".into(), increment).await, Ok(Changed::Sum(2)));
}

#[tokio::test]
async fn a_counter_keeps_the_time_to_live_it_began_with() {
    let world = world();
    let kv = world.namespace("mine");
    let increment = || Change::Increment { delta: 1, ttl: Some(10) };
    assert_eq!(kv.change("k".into(), increment()).await, Ok(Changed::Sum(1)));
    world.pass(6);
    assert_eq!(kv.change("k".into(), increment()).await, Ok(Changed::Sum(2)));
    assert_eq!(kv.get("k").unwrap().as_deref(), Some(b"2".as_slice()));
    world.pass(6);
    assert_eq!(kv.change("k".into(), increment()).await, Ok(Changed::Sum(1)));
}

#[tokio::test]
async fn a_hundred_concurrent_increments_lose_none() {
    let world = world();
    let kv = world.namespace("mine");
    let all = (0..100).map(|_| kv.change("k".into(), Change::Increment { delta: 1, ttl: None }));
    futures_util::future::join_all(all).await;
    assert_eq!(kv.get("k").unwrap().as_deref(), Some(b"100".as_slice()));
}

#[tokio::test]
async fn compare_and_set_sets_only_what_was_expected() {
    let world = world();
    let kv = world.namespace("mine");
    let cas = |expected: Option<&str>, value: &str| Change::CompareAndSet {
        expected: expected.map(Into::into),
        value: value.into(),
        ttl: None,
    };
    assert_eq!(kv.change("k".into(), cas(Some("a"), "b")).await, Ok(Changed::Yes(false)));
    assert_eq!(kv.change("k".into(), cas(None, "a")).await, Ok(Changed::Yes(true)));
    assert_eq!(kv.change("k".into(), cas(None, "c")).await, Ok(Changed::Yes(false)));
    assert_eq!(kv.change("k".into(), cas(Some("a"), "b")).await, Ok(Changed::Yes(true)));
    assert_eq!(kv.get("k").unwrap().as_deref(), Some(b"b".as_slice()));
}

#[tokio::test]
async fn quotas_and_sizes_are_kept() {
    let world = world();
    let kv = world.namespace("mine");
    for key in 0..10 {
        kv.change(key.to_string(), set("v", None)).await.unwrap();
    }
    assert!(matches!(kv.change("10".into(), set("v", None)).await, Err(KvError::Quota(_))));
    assert_eq!(kv.change("9".into(), set("other", None)).await, Ok(Changed::Yes(true)));
    let large = Change::Set { value: vec![0; MAX_VALUE_OCTETS + 1], ttl: None };
    assert!(matches!(kv.change("9".into(), large).await, Err(KvError::Invalid(_))));
    assert!(matches!(kv.get(""), Err(KvError::Invalid(_))));
    assert!(matches!(kv.get(&"x".repeat(501)), Err(KvError::Invalid(_))));
    let text = Change::Increment { delta: 1, ttl: None };
    assert!(matches!(kv.change("9".into(), text).await, Err(KvError::Invalid(_))));
}

#[tokio::test]
async fn values_are_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let limits = KvLimits { map_octets: 64 << 20, namespaces: 8 };
    let open =
        || Store::open(directory.path(), &limits, Arc::new(crate::host::SystemClock)).unwrap();
    {
        let kv = open().namespace("mine", Quota { keys: 10, octets: 1 << 20 }).unwrap();
        kv.change("k".into(), set("v", None)).await.unwrap();
    }
    let kv = open().namespace("mine", Quota { keys: 10, octets: 1 << 20 }).unwrap();
    assert_eq!(kv.get("k").unwrap().as_deref(), Some(b"v".as_slice()));
}

#[tokio::test]
async fn a_sweep_removes_what_expired_and_nothing_else() {
    let world = world();
    let kv = world.namespace("mine");
    kv.change("a".into(), set("v", Some(1))).await.unwrap();
    kv.change("b".into(), set("v", None)).await.unwrap();
    world.pass(2);
    let mut from = Vec::new();
    sweep(&kv.store.env, kv.database, &mut from, seconds(world.clock.now())).unwrap();
    let transaction = kv.store.env.read_txn().unwrap();
    assert_eq!(kv.database.len(&transaction).unwrap(), 1);
}
