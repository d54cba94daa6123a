//! What operators see of the queue and do to it.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use queue::disk::SimulatedDisk;
use queue::{
    Action, Changes, Clock, Delivery, Error, Filter, NoticeKind, Outcome, Priority, Queue,
    RecipientState, Suspension,
};

use support::*;

fn deferred() -> Outcome {
    let peer = Some("mx.one.test [192.0.2.1]:25".to_owned());
    Outcome::Deferred { reply: reply(451), peer, retry_in: None }
}

fn delivered() -> Outcome {
    Outcome::Delivered { reply: reply(250), peer: None }
}

async fn finish(delivery: Delivery, outcome: Outcome) {
    let outcomes = delivery.recipients.iter().map(|index| (*index, outcome.clone())).collect();
    delivery.finish(outcomes).await.expect("recorded");
}

/// Takes what is due and delivers it; gives the recipients.
async fn deliver_due(queue: &Queue) -> Vec<String> {
    let mut delivered_to = Vec::new();
    while let Some(delivery) = next_within(queue, SECOND / 10).await {
        let paths = delivery.recipients.iter();
        delivered_to
            .extend(paths.map(|index| delivery.message.recipients[*index].path.to_string()));
        finish(delivery, delivered()).await;
    }
    delivered_to.sort();
    delivered_to
}

async fn tagged(queue: &Queue, number: u32, sender: &str, to: &[&str], tag: &str) {
    let recipients = to.iter().map(|address| recipient(address, None)).collect();
    let mut accept = accept(sender, recipients, HEAD);
    accept.tags.insert(tag.to_owned());
    send_accept(queue, number, accept, b"x").await.expect("accepted");
}

async fn three(queue: &Queue) {
    tagged(queue, 1, "a@one.test", &["x@one.test"], "news").await;
    tagged(queue, 2, "b@two.test", &["x@two.test"], "bulk").await;
    tagged(queue, 3, "a@one.test", &["y@one.test", "y@two.test"], "bulk").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_suspended_waits_over_restarts_and_goes_on_when_resumed() {
    let check = async |what: Suspension, go: &[&str], wait: &[&str]| {
        let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
        let (queue, _) = open(&disk, &clock).await;
        queue.suspend(what.clone(), Some("a test".to_owned())).await.expect("suspended");
        three(&queue).await;
        queue.set_router(Arc::new(TestRouter::default()));
        assert_eq!(deliver_due(&queue).await, go, "{what}");
        tokio::time::sleep(24 * 3600 * SECOND).await;
        assert_eq!(deliver_due(&queue).await, [""; 0], "{what}: a day later");
        queue.shutdown().await;

        let (queue, _) = open(&disk, &clock).await;
        queue.set_router(Arc::new(TestRouter::default()));
        assert_eq!(deliver_due(&queue).await, [""; 0], "{what}: after a restart");
        let suspended = queue.suspended().await;
        assert_eq!((suspended.len(), &suspended[0].what), (1, &what));
        assert_eq!(suspended[0].reason.as_deref(), Some("a test"));
        assert!(suspended[0].waiting > 0, "{what}: {suspended:?}");
        queue.resume(what.clone()).await.expect("resumed");
        assert_eq!(deliver_due(&queue).await, wait, "{what}: resumed");
        assert!(queue.list(Filter::default()).await.is_empty());
        let again = queue.resume(what).await;
        assert!(matches!(again, Err(Error::NotSuspended(_))), "{again:?}");
        queue.shutdown().await;
        let (queue, _) = open(&disk, &clock).await;
        assert!(queue.suspended().await.is_empty());
        queue.shutdown().await;
    };
    let (x1, x2, y1, y2) = ("x@one.test", "x@two.test", "y@one.test", "y@two.test");
    let destination = |name: &str| Suspension::Destination(name.to_owned());
    check(destination("one.test"), &[x2, y2], &[x1, y1]).await;
    check(destination("mx:one.test"), &[x2, y2], &[x1, y1]).await;
    check(Suspension::Sender("a@one.test".to_owned()), &[x2], &[x1, y1, y2]).await;
    check(Suspension::Sender("@one.test".to_owned()), &[x2], &[x1, y1, y2]).await;
    check(Suspension::Tag("bulk".to_owned()), &[x1], &[x2, y1, y2]).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_ready_when_it_is_suspended_is_taken_back() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    for number in 0..10 {
        send(&queue, number, &["a@one.test"], b"x").await.unwrap();
    }
    queue.set_router(Arc::new(TestRouter::default()));
    let first = next_within(&queue, SECOND).await.expect("a delivery");
    let what = Suspension::Destination("mx:one.test".to_owned());
    queue.suspend(what.clone(), None).await.unwrap();
    assert!(next_within(&queue, SECOND).await.is_none(), "nothing more is handed out");
    finish(first, delivered()).await;
    assert!(next_within(&queue, SECOND).await.is_none());
    assert_eq!(queue.list(Filter::default()).await.len(), 9, "what was in hand was finished");
    queue.resume(what).await.unwrap();
    assert_eq!(deliver_due(&queue).await.len(), 9);
}

#[tokio::test(start_paused = true)]
async fn time_in_suspension_expires_nothing() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    let what = Suspension::Destination("one.test".to_owned());
    queue.suspend(what.clone(), None).await.unwrap();
    send(&queue, 1, &["a@one.test"], b"x").await.unwrap();
    queue.set_router(Arc::new(TestRouter::default()));
    tokio::time::sleep(30 * 24 * 3600 * SECOND).await;
    queue.resume(what).await.unwrap();
    let delivery = next_within(&queue, SECOND).await.expect("a delivery");
    finish(delivery, deferred()).await;
    let waiting = queue.list(Filter::default()).await;
    assert_eq!(
        (waiting.len(), waiting[0].attempts),
        (1, 1),
        "a month later it has its first attempt"
    );
    assert!(clock.now() < waiting[0].due.expect("it waits"));
}

#[tokio::test(start_paused = true)]
async fn a_bounce_tells_the_sender_once_and_leaves_what_is_in_hand() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    tagged(&queue, 1, "a@one.test", &["x@one.test", "x@two.test"], "bulk").await;
    tagged(&queue, 2, "a@one.test", &["y@one.test"], "news").await;
    queue.set_router(Arc::new(TestRouter::default()));
    let in_hand = next_within(&queue, SECOND).await.expect("a delivery");
    let path = in_hand.message.recipients[in_hand.recipients[0]].path.to_string();
    let bulk = Filter { tag: Some("bulk".to_owned()), ..Filter::default() };
    let said = smtp::Reply::new(550, "5.7.1 Not from here");
    let bounce = Action::Bounce { reply: Some(said.clone()) };
    assert_eq!(queue.apply(bulk, bounce).await.unwrap(), 1);
    finish(in_hand, delivered()).await;
    let notice = queue.next_notice().await.expect("a notice");
    assert_eq!((notice.kind, notice.recipients.len()), (NoticeKind::Failure, 1));
    let told = &notice.recipients[0];
    assert_ne!(told.path.to_string(), path, "what was delivered is not bounced");
    assert_eq!((&told.state, told.last.as_ref()), (&RecipientState::Failed, Some(&said)));
    notice.dropped().await.unwrap();
    assert_eq!(deliver_due(&queue).await, ["y@one.test"], "the other one goes on");
    assert!(queue.list(Filter::default()).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_quarantine_is_listed_by_its_name_and_released() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    for (number, name) in [(1, "virus"), (2, "spam"), (3, "virus")] {
        let to = vec![recipient("a@one.test", None)];
        let mut accept = accept("a@one.test", to, HEAD);
        accept.hold = Some(name.to_owned());
        send_accept(&queue, number, accept, b"x").await.unwrap();
    }
    send(&queue, 4, &["b@one.test"], b"x").await.unwrap();
    queue.set_router(Arc::new(TestRouter::default()));
    assert_eq!(deliver_due(&queue).await, ["b@one.test"]);
    let held = |name: &str| Filter { hold: Some(name.to_owned()), ..Filter::default() };
    assert_eq!(queue.list(held("virus")).await.len(), 2);
    assert_eq!(queue.list(Filter { held: Some(true), ..Filter::default() }).await.len(), 3);
    let mut steps = Vec::new();
    let released =
        queue.apply_watched(held("spam"), Action::Release, |done, of| steps.push((done, of))).await;
    assert_eq!((released.unwrap(), steps), (1, vec![(0, 1), (1, 1)]));
    assert_eq!(deliver_due(&queue).await, ["a@one.test"]);
    assert_eq!(queue.list(held("virus")).await.len(), 2, "the others stay");
}

#[tokio::test(start_paused = true)]
async fn what_is_changed_counts_from_then_on() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    tagged(&queue, 1, "a@one.test", &["x@one.test"], "bulk").await;
    let changes = Changes {
        priority: Some(Priority::new(7)),
        add_tags: ["vip".to_owned()].into(),
        remove_tags: ["bulk".to_owned()].into(),
        lifetime: Some(Duration::from_secs(60)),
        delay: Some(Duration::from_secs(3600)),
        route: Some("smtp:relay.test:2525".parse().expect("a route")),
    };
    assert_eq!(queue.apply(Filter::id(id(1)), Action::Change(changes)).await.unwrap(), 1);
    queue.set_router(Arc::new(TestRouter::default()));
    assert!(next_within(&queue, 3500 * SECOND).await.is_none(), "it is not time yet");
    let delivery = next_within(&queue, 200 * SECOND).await.expect("it is time");
    let message = Arc::clone(&delivery.message);
    assert_eq!((message.priority.value(), message.lifetime), (7, Some(60 * SECOND)));
    assert_eq!(message.tags, ["vip".to_owned()].into());
    let hint = message.recipients[0].hint.as_ref().map(ToString::to_string);
    assert_eq!(hint.as_deref(), Some("smtp:relay.test:2525"));
    finish(delivery, deferred()).await;
    let delivery = next_within(&queue, 600 * SECOND).await.expect("the last attempt");
    finish(delivery, deferred()).await;
    let notice = queue.next_notice().await.expect("a notice");
    assert_eq!(notice.recipients[0].state, RecipientState::Expired);
}

#[tokio::test(start_paused = true)]
async fn destinations_show_what_waits_and_what_was_said_last() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    for number in 0..5 {
        send(&queue, number, &["a@one.test"], &[b'x'; 3000]).await.unwrap();
    }
    send(&queue, 9, &["a@two.test"], b"x").await.unwrap();
    queue.hold(Filter::id(id(9)), "test").await.unwrap();
    queue.set_router(Arc::new(TestRouter::default()));
    for _ in 0..5 {
        finish(next_within(&queue, SECOND).await.expect("a delivery"), deferred()).await;
    }
    let check = async |queue: &Queue| {
        let all = queue.destinations().await;
        let by_name: BTreeMap<_, _> = all.iter().map(|one| (one.name.as_str(), one)).collect();
        assert_eq!(by_name.keys().copied().collect::<Vec<_>>(), ["mx:one.test", "two.test"]);
        let one = by_name["mx:one.test"];
        assert_eq!((one.messages, one.held, one.in_hand, one.octets), (5, 0, 0, 15 << 10));
        let due = one.due.expect("they wait").duration_since(clock.now()).expect("later");
        assert!((200..400).contains(&due.as_secs()), "{due:?}");
        let last = one.last.as_ref().expect("it said something");
        assert_eq!((last.reply.code(), last.peer.is_some()), (451, true));
        assert_eq!(one.oldest, Some(id(0).time()));
    };
    check(&queue).await;
    queue.shutdown().await;
    let (queue, _) = open(&disk, &clock).await;
    check(&queue).await;
}
