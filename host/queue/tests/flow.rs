//! A message's way through the queue.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use message::{Body, Octets};
use queue::disk::SimulatedDisk;
use queue::{
    Clock, Config, Delivery, Filter, NoticeKind, Outcome, Priority, RecipientState, Routing,
};

use support::*;

fn delivered() -> Outcome {
    Outcome::Delivered { reply: reply(250), peer: Some("mx.example.net".to_owned()) }
}

fn deferred() -> Outcome {
    Outcome::Deferred { reply: reply(451), peer: None, retry_in: None }
}

fn failed() -> Outcome {
    Outcome::Failed { reply: reply(550), peer: None, quiet: false }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_delivered_and_gone() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, recovery) = open(&disk, &clock).await;
    assert_eq!(recovery.messages, 0);
    queue.set_router(Arc::new(TestRouter::default()));
    let receipt =
        send(&queue, 1, &["a@one.test", "b@one.test", "c@two.test"], b"hello").await.unwrap();
    assert_eq!(receipt.id(), id(1));
    for _ in 0..2 {
        let delivery = next_within(&queue, SECOND).await.expect("a delivery");
        assert_eq!(content_of(&delivery), format!("{HEAD}hello").as_bytes());
        let two = delivery.route.destination() == "mx:two.test";
        assert_eq!(delivery.recipients, if two { vec![2] } else { vec![0, 1] });
        let outcomes = delivery.recipients.iter().map(|index| (*index, delivered())).collect();
        delivery.finish(outcomes).await.unwrap();
    }
    assert!(queue.list(Filter::default()).await.is_empty());
    queue.shutdown().await;
    let (queue, recovery) = open(&disk, &clock).await;
    assert_eq!((recovery.messages, recovery.corrupt), (0, 0));
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_deferred_comes_back_when_due_also_after_a_restart() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    queue.set_router(Arc::new(TestRouter::default()));
    send(&queue, 1, &["a@one.test", "b@two.test"], b"hello").await.unwrap();
    for _ in 0..2 {
        let delivery = next_within(&queue, SECOND).await.expect("a delivery");
        let index = delivery.recipients[0];
        let outcome = if index == 0 { deferred() } else { delivered() };
        delivery.finish(vec![(index, outcome)]).await.unwrap();
    }
    let listed = queue.list(Filter::default()).await;
    assert_eq!(listed[0].recipients, ["a@one.test"]);
    assert_eq!((listed[0].attempts, listed[0].destination.as_deref()), (1, Some("mx:one.test")));
    assert!(next_within(&queue, Duration::from_secs(260)).await.is_none(), "too early");
    queue.shutdown().await;
    let (queue, recovery) = open(&disk, &clock).await;
    assert_eq!(recovery.messages, 1);
    queue.set_router(Arc::new(TestRouter::default()));
    let delivery = next_within(&queue, Duration::from_secs(80)).await.expect("it is due");
    assert_eq!(delivery.message.recipients[0].attempts, 1);
    assert_eq!(delivery.message.recipients[1].state, RecipientState::Delivered);
    assert_eq!(content_of(&delivery), format!("{HEAD}hello").as_bytes());
    delivery.finish(vec![(0, delivered())]).await.unwrap();
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_stays_moves_to_a_readable_file_and_its_segment_is_used_again() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    queue.set_router(Arc::new(TestRouter::default()));
    send(&queue, 1, &["a@one.test"], b"hello").await.unwrap();
    next_within(&queue, SECOND).await.unwrap().finish(vec![(0, deferred())]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(200)).await;
    let files = disk.files();
    let eml = files.iter().find(|(name, _)| name.ends_with(".eml")).expect("a readable file");
    assert_eq!(disk.octets(&eml.0).unwrap(), format!("{HEAD}hello").as_bytes());
    assert_eq!(files.iter().filter(|(name, _)| name.ends_with(".seg")).count(), 1, "{files:?}");
    assert_eq!(files.iter().filter(|(name, _)| name.contains("spare")).count(), 3, "{files:?}");
    let delivery = next_within(&queue, Duration::from_secs(200)).await.expect("it is due");
    assert_eq!(content_of(&delivery), format!("{HEAD}hello").as_bytes());
    delivery.finish(vec![(0, delivered())]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let files = disk.files();
    assert!(!files.iter().any(|(name, _)| name.starts_with("deferred/")), "{files:?}");
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn large_and_replaced_content_is_kept_octet_for_octet() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    let large: Vec<u8> = (0..300_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let recipients = || vec![recipient("a@one.test", None)];
    // 1: large; 2: large, without its first octets; 3: small, replaced by large; 4: large, replaced by small.
    send(&queue, 1, &["a@one.test"], &large).await.unwrap();
    let with = |body| {
        let mut a = accept("s@example.com", recipients(), HEAD);
        a.body = body;
        a
    };
    send_accept(&queue, 2, with(Body::Received { offset: 1000 }), &large).await.unwrap();
    send_accept(&queue, 3, with(Body::Replaced(large.clone().into())), b"small").await.unwrap();
    send_accept(&queue, 4, with(Body::Replaced(Bytes::from_static(b"small"))), &large)
        .await
        .unwrap();
    let expected = [&large[..], &large[1000..], &large[..], b"small"];
    let files: Vec<_> =
        disk.files().into_iter().filter(|(name, _)| name.starts_with("large/")).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    tokio::time::sleep(Duration::from_secs(300)).await;
    queue.shutdown().await;
    let (queue, _) = open(&disk, &clock).await;
    for (number, body) in (1..).zip(expected) {
        let content = queue.content(id(number)).await.unwrap();
        assert_eq!(content.len(), (HEAD.len() + body.len()) as u64);
        assert_eq!(
            content.read(0, usize::MAX).unwrap(),
            [HEAD.as_bytes(), body].concat(),
            "{number}"
        );
    }
    assert_eq!(queue.remove(Filter::default()).await.unwrap(), 4);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let files = disk.files();
    assert!(
        !files.iter().any(|(name, _)| name.starts_with("large/") || name.starts_with("deferred/")),
        "{files:?}"
    );
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_draft_leaves_nothing() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    let mut draft = queue.draft(id(1)).unwrap();
    draft.write(Bytes::from(vec![b'x'; 200_000])).await.unwrap();
    assert_eq!(draft.octets().len(), 200_000);
    drop(draft);
    assert!(!disk.files().iter().any(|(name, _)| name.starts_with("large/")));
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_dropped_comes_back_soon() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    queue.set_router(Arc::new(TestRouter::default()));
    send(&queue, 1, &["a@one.test"], b"hello").await.unwrap();
    drop(next_within(&queue, SECOND).await.expect("a delivery"));
    let again = next_within(&queue, Duration::from_secs(31)).await.expect("it comes back");
    assert_eq!(again.message.recipients[0].attempts, 0, "nothing was tried");
    // Nobody waits any more when it comes back: nothing is lost by that either.
    drop(again);
    assert!(next_within(&queue, Duration::from_secs(31)).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_once_over_restarts() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    queue.set_router(Arc::new(TestRouter::default()));
    let recipients = vec![
        recipient("a@one.test", None),
        recipient("b@one.test", Some("NEVER")),
        recipient("c@one.test", Some("FAILURE")),
        recipient("d@one.test", Some("SUCCESS")),
    ];
    send_accept(&queue, 1, accept("s@example.com", recipients, HEAD), b"x").await.unwrap();
    let delivery = next_within(&queue, SECOND).await.unwrap();
    delivery.finish((0..4).map(|index| (index, failed())).collect()).await.unwrap();
    let notice = queue.next_notice().await.unwrap();
    assert_eq!(notice.kind, NoticeKind::Failure);
    let told: Vec<_> = notice.recipients.iter().map(|recipient| recipient.index).collect();
    assert_eq!(told, [0, 2]);
    drop(notice);
    queue.shutdown().await;

    let (queue, recovery) = open(&disk, &clock).await;
    assert_eq!(recovery.messages, 1, "what must be told keeps the message");
    let notice = queue.next_notice().await.unwrap();
    let mut report = accept("<>", vec![recipient("s@example.com", None)], HEAD);
    report.notice_of = Some(notice.message.id);
    send_accept(&queue, 2, report, b"a report").await.unwrap();
    // The report is committed: that counts, even if the notice is lost now.
    drop(notice);
    queue.shutdown().await;

    let (queue, recovery) = open(&disk, &clock).await;
    assert_eq!(recovery.messages, 1, "only the report");
    assert!(tokio::time::timeout(Duration::from_secs(100), queue.next_notice()).await.is_err());
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_is_given_back_comes_again_after_a_pause() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    queue.set_router(Arc::new(TestRouter::default()));
    send(&queue, 1, &["a@one.test"], b"hello").await.unwrap();
    let delivery = next_within(&queue, SECOND).await.expect("a delivery");
    delivery.finish(vec![(0, failed())]).await.unwrap();
    // A disk that is full refuses every report: whoever makes them must not be kept busy with it.
    let mut notices = 0;
    let until = tokio::time::Instant::now() + Duration::from_secs(300);
    while let Ok(notice) = tokio::time::timeout_at(until, queue.next_notice()).await {
        drop(notice.expect("the queue runs"));
        notices += 1;
        assert!(notices <= 11, "one in thirty seconds");
    }
    assert!(notices >= 9, "{notices}");
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_report_that_fails_is_told_to_nobody() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    queue.set_router(Arc::new(TestRouter::default()));
    let recipients = vec![recipient("a@one.test", Some("SUCCESS,FAILURE,DELAY"))];
    send_accept(&queue, 1, accept("<>", recipients, HEAD), b"x").await.unwrap();
    next_within(&queue, SECOND).await.unwrap().finish(vec![(0, failed())]).await.unwrap();
    assert!(queue.list(Filter::default()).await.is_empty());
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_told_once_and_the_end_comes_after_five_days() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    queue.set_router(Arc::new(TestRouter::default()));
    send(&queue, 1, &["a@one.test"], b"x").await.unwrap();
    let began = tokio::time::Instant::now();
    let teller = tokio::spawn({
        let queue = queue.clone();
        async move {
            let mut told = Vec::new();
            while let Some(notice) = queue.next_notice().await {
                told.push((notice.kind, began.elapsed().as_secs() / 3600));
                notice.dropped().await.unwrap();
                if told.len() == 2 {
                    break;
                }
            }
            told
        }
    });
    let mut attempts = 0;
    while let Some(delivery) = next_within(&queue, Duration::from_secs(24 * 3600)).await {
        attempts += 1;
        delivery.finish(vec![(0, deferred())]).await.unwrap();
    }
    let told = teller.await.unwrap();
    assert_eq!(told[0].0, NoticeKind::Delay);
    assert!((4..=7).contains(&told[0].1), "{told:?}");
    assert_eq!(told[1].0, NoticeKind::Failure);
    assert!((119..=124).contains(&told[1].1), "{told:?}");
    assert!((30..60).contains(&attempts), "{attempts}");
    assert!(queue.list(Filter::default()).await.is_empty());
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_bounces_nothing_and_stops_nothing() {
    let ten_years = Duration::from_secs(10 * 365 * 24 * 3600);
    for jump in [1, -1] {
        let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
        let (queue, _) = open(&disk, &clock).await;
        queue.set_router(Arc::new(TestRouter::default()));
        send(&queue, 1, &["a@one.test"], b"x").await.unwrap();
        next_within(&queue, SECOND).await.unwrap().finish(vec![(0, deferred())]).await.unwrap();
        let turn = || if jump == 1 { clock.forward(ten_years) } else { clock.back(ten_years) };
        turn();
        assert!(next_within(&queue, Duration::from_secs(260)).await.is_none(), "no storm");
        let delivery = next_within(&queue, Duration::from_secs(80)).await.expect("on time");
        delivery.finish(vec![(0, deferred())]).await.unwrap();
        queue.shutdown().await;
        turn();
        let (queue, _) = open(&disk, &clock).await;
        queue.set_router(Arc::new(TestRouter::default()));
        let delivery =
            next_within(&queue, Duration::from_secs(600)).await.expect("within its interval");
        delivery.finish(vec![(0, deferred())]).await.unwrap();
        let listed = queue.list(Filter::default()).await;
        assert_eq!(listed[0].attempts, 3, "and it waits on");
        queue.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn routers_may_hold_defer_fail_discard_and_expand() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    let mut router = TestRouter::default();
    router.0.insert("hold", Routing::Hold("look".to_owned()));
    router.0.insert("defer", Routing::Defer { for_: Duration::from_secs(60), reply: reply(450) });
    router.0.insert("fail", Routing::Fail(reply(550)));
    router.0.insert("discard", Routing::Discard);
    let members = ["m@one.test", "n@two.test"].map(|address| address.parse().unwrap());
    router.0.insert("list", Routing::Expand(members.to_vec()));
    router.0.insert("loop", Routing::Expand(vec!["x@loop.test".parse().unwrap()]));
    queue.set_router(Arc::new(router));
    let recipients = [
        "a@hold.test",
        "b@defer.test",
        "c@fail.test",
        "d@discard.test",
        "e@list.test",
        "f@loop.test",
    ];
    let recipients =
        recipients.iter().map(|address| recipient(address, Some("SUCCESS,FAILURE"))).collect();
    send_accept(&queue, 1, accept("s@example.com", recipients, HEAD), b"x").await.unwrap();
    for _ in 0..2 {
        let delivery = next_within(&queue, SECOND).await.expect("a member's delivery");
        let index = delivery.recipients[0];
        let member = &delivery.message.recipients[index];
        assert_eq!(member.original.to_string(), "e@list.test");
        assert_eq!(member.parameters.notify.unwrap().to_string(), "FAILURE", "RFC 3461 §5.2.7.3");
        delivery.finish(vec![(index, delivered())]).await.unwrap();
    }
    let detail = queue.show(id(1)).await.unwrap();
    let states: Vec<_> = detail.message.recipients.iter().map(|r| r.state.clone()).collect();
    use RecipientState::{Delivered, Discarded, Expanded, Failed, Held, Pending};
    let first = [
        Held("look".to_owned()),
        Pending,
        Failed,
        Discarded,
        Expanded,
        Expanded,
        Delivered,
        Delivered,
    ];
    assert_eq!(states[..8], first);
    let last = states.len() - 1;
    assert_eq!((last, &states[last]), (17, &Failed), "a circle of aliases ends");
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let notice = queue.next_notice().await.unwrap();
        kinds.push((notice.kind, notice.recipients.iter().map(|r| r.index).collect::<Vec<_>>()));
        notice.dropped().await.unwrap();
    }
    kinds.sort();
    assert_eq!(kinds, [(NoticeKind::Failure, vec![2, last]), (NoticeKind::Success, vec![4])]);
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn members_of_an_alias_of_an_alias_are_seen_by_their_deliveries() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    let to = |addresses: &[&str]| {
        Routing::Expand(addresses.iter().map(|address| address.parse().unwrap()).collect())
    };
    let mut router = TestRouter::default();
    router.0.insert("outer", to(&["a@one.test", "b@two.test", "x@inner.test"]));
    router.0.insert("inner", to(&["c@three.test", "d@four.test"]));
    queue.set_router(Arc::new(router));
    // Workers wait already, so that the first deliveries are out before the inner alias is known.
    let workers: Vec<_> = (0..5)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { next_within(&queue, Duration::from_secs(9)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    send(&queue, 1, &["z@zero.test", "l@outer.test"], b"x").await.unwrap();
    let mut paths = Vec::new();
    for worker in workers {
        let delivery = worker.await.unwrap().expect("a delivery");
        let index = delivery.recipients[0];
        paths.push(delivery.message.recipients[index].path.to_string());
        delivery.finish(vec![(index, delivered())]).await.unwrap();
    }
    paths.sort();
    assert_eq!(paths, ["a@one.test", "b@two.test", "c@three.test", "d@four.test", "z@zero.test"]);
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_holds_everything_delivers_what_is_released() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let config = Config { hold: Some("configuration".to_owned()), ..config() };
    let (queue, _) = open_with(config, &disk, &clock).await;
    queue.set_router(Arc::new(TestRouter::default()));
    for number in 0..2 {
        send(&queue, number, &["u@one.test"], b"x").await.unwrap();
    }
    assert!(next_within(&queue, SECOND).await.is_none());
    assert_eq!(queue.release(Filter::id(id(1))).await.unwrap(), 1);
    let delivery = next_within(&queue, SECOND).await.expect("the one that was released");
    assert_eq!(delivery.message.id, id(1));
    delivery.finish(vec![(0, delivered())]).await.unwrap();
    assert!(next_within(&queue, SECOND).await.is_none());
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn operators_hold_release_retry_and_remove() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    for number in 0..20 {
        let domain = if number % 2 == 0 { "even.test" } else { "odd.test" };
        send(&queue, number, &[&format!("u{number}@{domain}")], b"x").await.unwrap();
    }
    let even = || Filter { domain: Some("EVEN.test".to_owned()), ..Filter::default() };
    assert_eq!(queue.hold(even(), "stop").await.unwrap(), 10);
    queue.set_router(Arc::new(TestRouter::default()));
    for _ in 0..10 {
        let delivery = next_within(&queue, SECOND).await.expect("an odd one");
        assert_eq!(delivery.route.destination(), "mx:odd.test");
        delivery.finish(vec![(0, deferred())]).await.unwrap();
    }
    assert!(next_within(&queue, SECOND).await.is_none());
    let check = async |filter: Filter, expected: usize| {
        assert_eq!(queue.list(filter.clone()).await.len(), expected, "{filter:?}");
    };
    check(Filter { held: Some(true), ..Filter::default() }, 10).await;
    check(Filter { held: Some(false), ..Filter::default() }, 10).await;
    check(Filter { destination: Some("mx:odd.test".to_owned()), ..Filter::default() }, 10).await;
    check(Filter { sender: Some("@EXAMPLE.com".to_owned()), ..Filter::default() }, 20).await;
    check(Filter { sender: Some("<>".to_owned()), ..Filter::default() }, 0).await;
    check(Filter { recipient: Some("u3@odd.test".to_owned()), ..Filter::default() }, 1).await;
    check(Filter { limit: Some(3), ..Filter::default() }, 3).await;
    check(Filter { older: Some(Duration::from_secs(3600)), ..Filter::default() }, 0).await;
    assert_eq!(queue.remove(Filter::id(id(0))).await.unwrap(), 1);
    assert_eq!(queue.retry(Filter::id(id(1))).await.unwrap(), 1);
    let delivery = next_within(&queue, SECOND).await.expect("the one that was asked for");
    assert_eq!(delivery.message.id, id(1));
    delivery.finish(vec![(0, delivered())]).await.unwrap();
    queue.shutdown().await;

    let (queue, recovery) = open(&disk, &clock).await;
    assert_eq!((recovery.messages, recovery.held), (18, 9));
    queue.set_router(Arc::new(TestRouter::default()));
    assert_eq!(queue.release(Filter { held: Some(true), ..Filter::default() }).await.unwrap(), 9);
    for _ in 0..9 {
        let delivery = next_within(&queue, SECOND).await.expect("an even one");
        assert_eq!(delivery.route.destination(), "mx:even.test");
        delivery.finish(vec![(0, delivered())]).await.unwrap();
    }
    queue.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn two_servers_cannot_share_a_spool_and_shutdown_frees_it() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    let error = try_open(config(), &disk, &clock).await.map(drop).unwrap_err();
    assert!(matches!(error, queue::Error::Locked { .. }), "{error}");
    queue.shutdown().await;
    assert!(queue.next().await.is_none());
    assert!(matches!(send(&queue, 1, &["a@one.test"], b"x").await, Err(queue::Error::Closed)));
    open(&disk, &clock).await;
}

#[tokio::test(start_paused = true)]
async fn what_policy_asks_for_stays_with_the_message_over_restarts() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::new());
    let (queue, _) = open(&disk, &clock).await;
    let mut accept = accept("sender@example.com", vec![recipient("a@one.example", None)], HEAD);
    accept.user = Some("alice".to_owned());
    accept.tags = ["bulk", "list-7"].map(str::to_owned).into();
    accept.priority = Priority::new(-4);
    accept.not_before = Some(clock.now() + 3600 * SECOND);
    accept.lifetime = Some(7200 * SECOND);
    send_accept(&queue, 1, accept, b"body").await.expect("accepted");
    queue.set_router(Arc::new(TestRouter::default()));
    assert!(next_within(&queue, 3500 * SECOND).await.is_none(), "it is not time yet");
    queue.shutdown().await;

    let (queue, _) = open(&disk, &clock).await;
    queue.set_router(Arc::new(TestRouter::default()));
    let delivery = next_within(&queue, 101 * SECOND).await.expect("it is time");
    let message = &delivery.message;
    assert_eq!(message.user.as_deref(), Some("alice"));
    assert!(message.tags.contains("bulk") && message.tags.contains("list-7"));
    assert_eq!(message.priority.value(), -4);
    assert_eq!(message.lifetime, Some(7200 * SECOND));
    let later = |delivery: &Delivery| vec![(delivery.recipients[0], deferred())];
    let outcome = later(&delivery);
    delivery.finish(outcome).await.expect("recorded");

    // The hour before the first attempt does not count; two hours after it the message is given up.
    let began = clock.now();
    while let Some(delivery) = next_within(&queue, 7200 * SECOND).await {
        let outcome = later(&delivery);
        delivery.finish(outcome).await.expect("recorded");
    }
    let notice = queue.next_notice().await.expect("a notice");
    assert_eq!(notice.recipients[0].state, RecipientState::Expired);
    let waited = notice.recipients[0].last_attempt.expect("an attempt").duration_since(began);
    let waited = waited.expect("time goes on").as_secs();
    assert!((7000..8000).contains(&waited), "{waited} s");
}
