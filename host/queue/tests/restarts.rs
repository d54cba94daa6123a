//! A server that is killed again and again, under load: it never refuses mail because of that, and what it begins at each
//! start is given back.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use message::{Id, Octets};
use queue::disk::SimulatedDisk;
use queue::{Config, Filter, Limits, Queue};

use support::*;

/// Four segments of 64 KiB.
fn four_segments() -> Config {
    let limits = Limits {
        segment_octets: 64 << 10,
        reserve_octets: 8 << 10,
        segments: 4,
        ..Limits::small()
    };
    Config { limits, ..Config::new("unused") }
}

/// Lengths of the segments in use.
fn segments(disk: &SimulatedDisk) -> Vec<usize> {
    let files = disk.files().into_iter();
    files.filter(|(name, _)| name.ends_with(".seg")).map(|(_, octets)| octets).collect()
}

/// Accepts some messages, none of them refused.
async fn load(queue: &Queue, life: u32, accepted: &mut BTreeMap<Id, Vec<u8>>) {
    for number in life * 100..life * 100 + 10 {
        let body = format!("message {number}").repeat(20).into_bytes();
        let receipt = send(queue, number, &["a@one.test"], &body).await;
        let receipt = receipt.unwrap_or_else(|error| panic!("life {life} refused: {error}"));
        accepted.insert(receipt.id(), [HEAD.as_bytes(), &body].concat());
    }
}

async fn all_are_there(queue: &Queue, accepted: &BTreeMap<Id, Vec<u8>>) {
    assert_eq!(queue.list(Filter::default()).await.len(), accepted.len());
    for (id, expected) in accepted {
        let content = queue.content(*id).await.unwrap().read(0, usize::MAX).unwrap();
        assert_eq!(content, *expected, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_loop_of_kills_under_load_never_refuses_mail() {
    let clock = TestClock::new();
    let (mut disk, mut accepted) = (SimulatedDisk::new(), BTreeMap::new());
    let mut most = 0;
    for life in 0..200 {
        let (queue, _) = open_with(four_segments(), &disk, &clock).await;
        load(&queue, life, &mut accepted).await;
        most = most.max(segments(&disk).len());
        // Nothing that was not flushed is left.
        disk = disk.crash(0);
    }
    assert!(most > 4, "there were never more than {most} segments: the loop shows nothing");
    let (queue, _) = open_with(four_segments(), &disk, &clock).await;
    all_are_there(&queue, &accepted).await;
    // In peace, everything leaves the log.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(segments(&disk).len() <= 2, "{:?}", segments(&disk));
    all_are_there(&queue, &accepted).await;
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_nothing_is_added_to_takes_what_it_holds() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open_with(four_segments(), &disk, &clock).await;
    let mut accepted = BTreeMap::new();
    load(&queue, 0, &mut accepted).await;
    assert_eq!(segments(&disk), [64 << 10]);
    let disk = disk.crash(0);
    let (queue, _) = open_with(four_segments(), &disk, &clock).await;
    let short = segments(&disk)[0];
    assert!(short < 16 << 10, "{short}");
    // If a crash brings back what was cut off, nothing changes.
    let disk = disk.crash(0);
    assert_eq!(segments(&disk), [64 << 10]);
    drop(queue);
    let (queue, _) = open_with(four_segments(), &disk, &clock).await;
    assert_eq!(segments(&disk)[0], short);
    all_are_there(&queue, &accepted).await;
    queue.shutdown().await;
}
