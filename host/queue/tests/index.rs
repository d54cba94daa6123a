//! The index of `deferred/`: what it knows, what happens when it is damaged or gone, and how it stays short.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use queue::disk::{Disk, SimulatedDisk};
use queue::{Config, Filter, Limits, Outcome, Queue};

use support::*;

/// `at_once`: the index is read before the queue opens.
fn with_index(at_once: bool) -> Config {
    let index_at_once_octets = if at_once { u64::MAX } else { 0 };
    let limits = Limits {
        index_at_once_octets,
        segment_octets: 64 << 10,
        reserve_octets: 8 << 10,
        ..Limits::small()
    };
    Config { limits, ..config() }
}

/// A disk with so many messages in `deferred/`; every tenth is held.
async fn settled(count: u32, clock: &Arc<TestClock>) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let (queue, _) = open_with(with_index(true), &disk, clock).await;
    for number in 0..count {
        let to = format!("user{number}@host{}.test", number % 7);
        send(&queue, number, &[&to], format!("body {number}").as_bytes()).await.unwrap();
        if number % 10 == 0 {
            queue.hold(Filter::id(id(number)), "tenth").await.unwrap();
        }
    }
    while records(&disk) < count as usize {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    queue.shutdown().await;
    disk
}

fn records(disk: &SimulatedDisk) -> usize {
    disk.files().iter().filter(|(name, _)| name.ends_with(".record")).count()
}

async fn count(queue: &Queue, filter: Filter) -> usize {
    queue.list(filter).await.len()
}

/// Delivers everything; gives the content by id.
async fn deliver_all(queue: &Queue) -> BTreeMap<message::Id, Vec<u8>> {
    queue.set_router(Arc::new(TestRouter::default()));
    // A search goes on beside.
    tokio::time::sleep(Duration::from_secs(20)).await;
    queue.release(Filter::default()).await.unwrap();
    let mut seen = BTreeMap::new();
    while let Some(delivery) = next_within(queue, Duration::from_secs(40)).await {
        let before = seen.insert(delivery.message.id, content_of(&delivery));
        assert!(before.is_none(), "{} twice", delivery.message.id);
        let outcome = Outcome::Delivered { reply: reply(250), peer: None };
        delivery.finish(vec![(0, outcome)]).await.unwrap();
    }
    seen
}

fn all(count: u32) -> BTreeMap<message::Id, Vec<u8>> {
    (0..count).map(|n| (id(n), format!("{HEAD}body {n}").into_bytes())).collect()
}

#[tokio::test(start_paused = true)]
async fn lists_and_deliveries_are_the_same_however_the_index_is_read() {
    let clock = TestClock::new();
    let disk = settled(100, &clock).await;
    for at_once in [true, false] {
        let disk = disk.crash(0);
        let (queue, recovery) = open_with(with_index(at_once), &disk, &clock).await;
        assert_eq!(recovery.complete, at_once);
        assert_eq!(recovery.messages, if at_once { 100 } else { 0 });
        send(&queue, 100, &["new@host1.test"], b"body 100").await.expect("accepted at once");
        assert_eq!(count(&queue, Filter::default()).await, 101);
        let domain = Filter { domain: Some("HOST1.test".to_owned()), ..Filter::default() };
        assert_eq!(count(&queue, domain.clone()).await, 16);
        assert_eq!(count(&queue, Filter { limit: Some(5), ..domain }).await, 5);
        let held = Filter { held: Some(true), ..Filter::default() };
        assert_eq!(count(&queue, held.clone()).await, 10);
        let sender = Filter { sender: Some("@Example.com".to_owned()), ..Filter::default() };
        assert_eq!(count(&queue, sender).await, 101);
        let one = Filter { recipient: Some("user30@host2.test".to_owned()), ..held };
        assert_eq!(queue.list(one).await[0].id, id(30));
        assert_eq!(deliver_all(&queue).await, all(101));
        // The files go, and what the index says of them.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(records(&disk), 0);
        queue.shutdown().await;
        let (queue, recovery) = open_with(with_index(true), &disk, &clock).await;
        assert_eq!((recovery.messages, recovery.corrupt), (0, 0));
        queue.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_index_the_directory_is_searched_while_mail_is_accepted() {
    let clock = TestClock::new();
    let disk = settled(60, &clock).await;
    disk.remove("deferred.index").unwrap();
    let (queue, recovery) = open_with(with_index(true), &disk, &clock).await;
    assert_eq!((recovery.messages, recovery.complete), (0, false));
    send(&queue, 60, &["new@host1.test"], b"body 60").await.expect("accepted at once");
    assert_eq!(deliver_all(&queue).await, all(61));
    queue.shutdown().await;
    let (queue, recovery) = open_with(with_index(true), &disk, &clock).await;
    assert_eq!((recovery.messages, recovery.complete), (0, true), "the new index is whole");
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_of_the_index_costs_no_message() {
    let clock = TestClock::new();
    let disk = settled(8, &clock).await;
    let octets = disk.octets("deferred.index").unwrap();
    let used = octets.iter().rposition(|octet| *octet != 0).unwrap();
    let mut found = 0;
    for bit in (0..used * 8).step_by(211) {
        let damaged = disk.crash(0);
        damaged.flip("deferred.index", bit);
        let (queue, recovery) = open_with(with_index(bit % 2 == 0), &damaged, &clock).await;
        found += usize::from(recovery.corrupt > 0 || !recovery.complete);
        assert_eq!(deliver_all(&queue).await, all(8), "bit {bit}");
        queue.shutdown().await;
        assert!(damaged.files().iter().any(|(name, _)| name.starts_with("corrupt/index-")));
        let (queue, recovery) = open_with(with_index(true), &damaged, &clock).await;
        assert_eq!((recovery.messages, recovery.corrupt), (0, 0), "bit {bit}: it was mended");
        queue.shutdown().await;
    }
    assert_eq!(found, (used * 8).div_ceil(211), "every one is seen");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_somebody_removed_costs_its_message_only() {
    let clock = TestClock::new();
    let disk = settled(8, &clock).await;
    let files = disk.files();
    let (gone, _) = files.iter().find(|(name, _)| name.ends_with(".eml")).unwrap();
    disk.remove(gone).unwrap();
    let (queue, _) = open_with(with_index(true), &disk, &clock).await;
    assert_eq!(deliver_all(&queue).await.len(), 7);
    assert!(queue.list(Filter::default()).await.is_empty(), "it does not stay for ever");
    assert!(disk.files().iter().any(|(name, _)| name.starts_with("corrupt/")));
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn finished_messages_with_several_lines_let_go_of_their_segment() {
    let clock = TestClock::new();
    let disk = settled(20, &clock).await;
    let (queue, _) = open_with(with_index(true), &disk, &clock).await;
    // Their new states are moved out of the log, too: a second line for each.
    queue.hold(Filter::default(), "again").await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    queue.remove(Filter::default()).await.unwrap();
    let disk = disk.crash(0);
    for at_once in [true, false] {
        let disk = disk.crash(0);
        let (queue, _) = open_with(with_index(at_once), &disk, &clock).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(records(&disk), 0);
        let segments = disk.files().iter().filter(|(name, _)| name.ends_with(".seg")).count();
        assert!(segments <= 1, "{segments} segments are held, index read at once: {at_once}");
        queue.shutdown().await;
    }
}
