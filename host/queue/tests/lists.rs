//! A list finds what its filter means, wherever the messages lie: in the log, in `deferred/`, or changed since they were
//! moved there.

mod support;

use std::sync::Arc;
use std::time::Duration;

use message::Id;
use queue::disk::SimulatedDisk;
use queue::{Filter, Message, Outcome, Queue};

use support::*;

/// Messages that differ in everything a filter can ask for.
async fn receive(queue: &Queue, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let to = format!("To{}@host{}.test", number % 7, number % 5);
        let sender = match number % 4 {
            0 => String::new(),
            n => format!("Sender{n}@example{}.com", number % 3),
        };
        let mut accept = accept(&sender, vec![recipient(&to, None)], HEAD);
        accept.tags.insert(format!("tag{}", number % 6));
        accept.user = (number % 9 == 0).then(|| "Alice".to_owned());
        send_accept(queue, number, accept, b"x").await.expect("accepted");
    }
}

/// Everything is tried once, and moved out of the log.
async fn move_out(queue: &Queue) {
    while let Some(delivery) = next_within(queue, SECOND / 10).await {
        let outcome =
            || Outcome::Deferred { reply: reply(451), peer: None, retry_in: Some(9000 * SECOND) };
        let outcomes = delivery.recipients.iter().map(|index| (*index, outcome())).collect();
        delivery.finish(outcomes).await.expect("recorded");
    }
    tokio::time::sleep(600 * SECOND).await;
}

/// Every filter finds what a look at each message finds.
async fn check_all(queue: &Queue, clock: &TestClock, expected: usize) {
    let all: Vec<Id> = queue.list(Filter::default()).await.iter().map(|one| one.id).collect();
    assert_eq!(all.len(), expected);
    assert!(all.is_sorted(), "oldest first");
    let mut messages: Vec<Message> = Vec::new();
    for id in all {
        messages.push(queue.show(id).await.expect("it is there").message);
    }
    let text = |text: &str| Some(text.to_owned());
    let all = Filter::default;
    let filters = [
        (Filter { sender: text("sender2@EXAMPLE1.com"), ..all() }, true),
        (Filter { sender: text("@example2.com"), ..all() }, true),
        (Filter { sender: text("<>"), ..all() }, true),
        (Filter { sender: text("nobody@example.com"), ..all() }, false),
        (Filter { recipient: text("to3@host2.test"), ..all() }, true),
        (Filter { domain: text("HOST4.test"), ..all() }, true),
        (Filter { destination: text("mx:host1.test"), ..all() }, true),
        (Filter { tag: text("tag4"), ..all() }, true),
        (Filter { user: text("ALICE"), ..all() }, true),
        (Filter { last: text("as the test"), ..all() }, true),
        (Filter { held: Some(true), ..all() }, true),
        (Filter { held: Some(false), ..all() }, true),
        (Filter { hold: text("look"), ..all() }, true),
        (Filter { hold: text("other"), ..all() }, false),
        (Filter { held: Some(true), domain: text("host4.test"), ..all() }, true),
        (Filter { tag: text("tag4"), sender: text("@example1.com"), ..all() }, true),
        (Filter { older: Some(Duration::from_secs(300)), ..all() }, true),
        (Filter { older: Some(Duration::from_hours(300)), ..all() }, false),
        (Filter { limit: Some(10), ..all() }, true),
        (Filter { limit: Some(10), domain: text("host4.test"), ..all() }, true),
        (Filter { limit: Some(0), ..all() }, false),
    ];
    for (filter, some) in filters {
        let now = queue::Clock::now(clock);
        let matching = messages.iter().filter(|message| filter.matches(message, now));
        let limit = filter.limit.unwrap_or(usize::MAX);
        let expected: Vec<Id> = matching.map(|message| message.id).take(limit).collect();
        let found: Vec<Id> = queue.list(filter.clone()).await.iter().map(|one| one.id).collect();
        assert_eq!(found, expected, "{filter:?}");
        assert_eq!(!found.is_empty(), some, "{filter:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_filter_finds_what_a_look_at_each_message_finds() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    queue.set_router(Arc::new(TestRouter::default()));
    receive(&queue, 0..200).await;
    move_out(&queue).await;
    queue
        .hold(Filter { domain: Some("host4.test".to_owned()), ..Filter::default() }, "look")
        .await
        .expect("held");
    check_all(&queue, &clock, 200).await;
    // What was changed is moved out, too; then some of it changes again, and more comes.
    tokio::time::sleep(600 * SECOND).await;
    let some = Filter { tag: Some("tag1".to_owned()), ..Filter::default() };
    queue.release(some).await.expect("released");
    receive(&queue, 200..300).await;
    check_all(&queue, &clock, 300).await;
    queue.shutdown().await;
    let (queue, _) = open(&disk, &clock).await;
    check_all(&queue, &clock, 300).await;
    queue.shutdown().await;
}
