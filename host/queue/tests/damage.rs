//! Damage, want of room, and crowds: one thing suffers, the rest goes on.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use message::Octets;
use queue::disk::{Fault, SimulatedDisk, Space};
use queue::{Config, Error, Filter, Limits, Outcome};

use support::*;

/// Flips one bit after the other in segments and readable files: one message is set aside at most, all others are there,
/// octet for octet, and nothing of a damaged one is delivered.
#[tokio::test(start_paused = true)]
async fn a_flipped_bit_costs_one_message_at_most() {
    for settled in [false, true] {
        let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
        let mut config = config();
        config.limits.segment_octets = 64 << 10;
        config.limits.reserve_octets = 4 << 10;
        let (queue, _) = open_with(config.clone(), &disk, &clock).await;
        for number in 0..8 {
            send(&queue, number, &["a@one.test"], format!("body {number}").as_bytes())
                .await
                .unwrap();
        }
        if settled {
            tokio::time::sleep(Duration::from_secs(300)).await;
        }
        queue.shutdown().await;
        let wanted = |name: &str| {
            if settled { name.starts_with("deferred/") } else { name.ends_with(".seg") }
        };
        let files: Vec<_> = disk.files().into_iter().filter(|(name, _)| wanted(name)).collect();
        assert!(!files.is_empty());
        let (mut flips, mut lost) = (0u32, 0u32);
        for (name, _) in &files {
            let len = disk
                .octets(name)
                .unwrap()
                .iter()
                .rposition(|octet| *octet != 0)
                .map_or(0, |last| last + 1);
            for bit in (0..len * 8).step_by(if settled { 53 } else { 37 }) {
                let damaged = disk.crash(0);
                damaged.flip(name, bit);
                let (queue, _) = open_with(config.clone(), &damaged, &clock).await;
                queue.set_router(Arc::new(TestRouter::default()));
                let mut seen = BTreeMap::new();
                while let Some(delivery) = next_within(&queue, Duration::from_secs(40)).await {
                    seen.insert(delivery.message.id, content_of(&delivery));
                    let outcome = Outcome::Delivered { reply: reply(250), peer: None };
                    delivery.finish(vec![(0, outcome)]).await.unwrap();
                }
                for (id, content) in &seen {
                    let number =
                        (0..8).find(|number| support::id(*number) == *id).expect("one of ours");
                    assert_eq!(
                        *content,
                        format!("{HEAD}body {number}").as_bytes(),
                        "{name} bit {bit}"
                    );
                }
                assert!(seen.len() >= 7, "{name} bit {bit}: {} are left", seen.len());
                if seen.len() == 7 {
                    lost += 1;
                    let aside =
                        damaged.files().iter().any(|(name, _)| name.starts_with("corrupt/"));
                    assert!(aside, "{name} bit {bit}: nothing was set aside");
                }
                flips += 1;
                queue.shutdown().await;
            }
        }
        println!(
            "{flips} bits flipped, settled {settled}: {lost} messages set aside, all others delivered"
        );
        assert!(lost > flips / 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_mail_and_delivers_what_it_has() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let mut config = config();
    (config.limits.free_octets, config.limits.free_inodes) = (1000, 10);
    let (queue, _) = open_with(config, &disk, &clock).await;
    send(&queue, 1, &["a@one.test"], b"x").await.unwrap();
    let refused = async |number| {
        let error = send(&queue, number, &["a@one.test"], b"x").await.unwrap_err();
        assert!(matches!(error, Error::Full { .. }), "{error}");
    };
    disk.set_space(Space { octets: 999, inodes: 1000 });
    refused(2).await;
    assert!(matches!(queue.draft(id(3)).map(drop), Err(Error::Full { .. })), "at MAIL already");
    // Above the mark, but not by half of it.
    disk.set_space(Space { octets: 1200, inodes: 1000 });
    tokio::time::sleep(Duration::from_secs(5)).await;
    refused(3).await;
    queue.set_router(Arc::new(TestRouter::default()));
    let delivery = next_within(&queue, SECOND).await.expect("deliveries go on");
    delivery.finish(vec![(0, Outcome::Delivered { reply: reply(250), peer: None })]).await.unwrap();
    disk.set_space(Space { octets: 5000, inodes: 1000 });
    tokio::time::sleep(Duration::from_secs(5)).await;
    send(&queue, 4, &["a@one.test"], b"x").await.expect("room again");
    disk.set_space(Space { octets: 5000, inodes: 9 });
    refused(5).await;
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_log_fills_to_452_and_every_outcome_still_fits() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let limits = Limits { segment_octets: 64 << 10, reserve_octets: 8 << 10, ..Limits::small() };
    let config = Config { limits, ..config() };
    let (queue, _) = open_with(config.clone(), &disk, &clock).await;
    disk.set_fault(disk.operations() + 1, Fault::Full);
    let mut accepted = 0;
    while send(&queue, accepted, &["a@one.test"], &[b'x'; 10_000]).await.is_ok() {
        accepted += 1;
    }
    assert!((5..30).contains(&accepted), "{accepted}");
    queue.set_router(Arc::new(TestRouter::default()));
    for _ in 0..accepted {
        let delivery = next_within(&queue, SECOND).await.expect("deliveries go on");
        delivery
            .finish(vec![(0, Outcome::Delivered { reply: reply(250), peer: None })])
            .await
            .unwrap();
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    send(&queue, 100, &["a@one.test"], &[b'x'; 10_000]).await.expect("its segments are used again");
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn two_failed_flushes_stop_everything_until_the_disk_is_well() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    queue.set_router(Arc::new(TestRouter::default()));
    send(&queue, 1, &["a@one.test"], b"x").await.unwrap();
    let delivery = next_within(&queue, SECOND).await.expect("a delivery");
    disk.set_fault(disk.operations() + 1, Fault::RefuseAll);
    let error = send(&queue, 2, &["a@one.test"], b"x").await.unwrap_err();
    assert!(matches!(error, Error::NotDurable(_)), "{error}");
    let delivered = Outcome::Delivered { reply: reply(250), peer: None };
    delivery.finish(vec![(0, delivered)]).await.unwrap_err();
    let error = send(&queue, 3, &["a@one.test"], b"x").await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
    assert!(next_within(&queue, Duration::from_secs(100)).await.is_none(), "nothing is handed out");
    disk.heal();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(queue.list(Filter::default()).await.is_empty(), "the outcome was written after all");
    send(&queue, 4, &["a@one.test"], b"x").await.expect("it works again");
    let delivery = next_within(&queue, SECOND).await.expect("a delivery");
    assert_eq!(delivery.message.id, id(4), "what was refused is not there");
    queue.remove(Filter::default()).await.unwrap();
    drop(delivery);
    queue.shutdown().await;
    let (queue, recovery) = open(&disk, &clock).await;
    assert_eq!(recovery.messages, 0);
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_destination_with_a_thousand_messages_delays_nobody() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let limits = Limits { segment_octets: 8 << 20, ..Limits::small() };
    let (queue, _) = open_with(Config { limits, active: 200, ..config() }, &disk, &clock).await;
    for number in 0..1000 {
        send(&queue, number, &["a@slow.test"], b"x").await.unwrap();
    }
    for number in 1000..1010 {
        send(&queue, number, &[&format!("a@other{number}.test")], b"x").await.unwrap();
    }
    queue.set_router(Arc::new(TestRouter::default()));
    let (mut slow, mut others) = (Vec::new(), 0);
    while let Some(delivery) = next_within(&queue, SECOND).await {
        if delivery.route.destination() == "mx:slow.test" {
            slow.push(delivery);
            assert!(slow.len() <= 2, "few at once for a destination that has not answered yet");
        } else {
            others += 1;
            delivery
                .finish(vec![(0, Outcome::Delivered { reply: reply(250), peer: None })])
                .await
                .unwrap();
        }
    }
    assert_eq!((slow.len(), others), (2, 10));
    assert_eq!(slow[0].content().unwrap().read(0, 9).unwrap(), &HEAD.as_bytes()[..9]);
    drop(slow);
}

#[tokio::test(start_paused = true)]
async fn the_condition_says_what_is_wrong_and_what_to_do() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    send(&queue, 1, &["a@one.test"], b"x").await.unwrap();
    // The receipt does not wait until the message is counted.
    while queue.condition().await.messages == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(queue.condition().await.is_well());
    disk.set_fault(disk.operations() + 1, Fault::RefuseAll);
    send(&queue, 2, &["a@one.test"], b"x").await.unwrap_err();
    let condition = queue.condition().await;
    assert!(condition.broken.is_some() && !condition.is_well(), "{condition:?}");
    let (fault, advice) = &condition.faults()[0];
    assert!(fault.starts_with("no mail is accepted or delivered: two flushes in a row failed"));
    assert!(advice.contains("the server goes on"), "{advice}");
    disk.heal();
    tokio::time::sleep(Duration::from_secs(5)).await;
    send(&queue, 3, &["a@one.test"], b"x").await.expect("it goes on by itself");
    assert!(queue.condition().await.is_well());
    // What a start sets aside is shown until somebody has looked at it.
    queue.shutdown().await;
    let left = disk.crash(0);
    let segments = left.files().into_iter().map(|(name, _)| name);
    let segment = segments.filter(|name| name.ends_with(".seg")).max().unwrap();
    left.flip(&segment, 300);
    let (queue, recovery) = open(&left, &clock).await;
    let condition = queue.condition().await;
    assert_eq!((recovery.corrupt, recovery.torn, condition.set_aside_count), (1, false, 1));
    assert!(condition.faults()[0].0.contains("1 file of what was damaged"), "{condition:?}");
}
