//! How hard a host is called: concurrency, rates, transactions; and replies one by one.

use std::time::Duration;

use queue::{RecipientState, ScheduleConfig};

use super::{
    CONTENT, Letter, World, eventually,
    fake::{FakeHost, Script},
    zone_of,
};
use crate::{Config, RouteRule, clock};

fn unchanged(_: &mut Config) {}

#[tokio::test]
async fn concurrency_begins_low_and_grows_with_success() {
    let script = Script { slow: Duration::from_millis(30), ..Script::default() };
    let host = FakeHost::new(script).await;
    let world =
        World::new(&zone_of("example.org", &[host.address]), host.address.port(), |config| {
            config.limits.connections_per_host = 5;
        })
        .await;
    for _ in 0..4 {
        world.send(Letter::to(&["b@example.org"])).await;
    }
    world.empty().await;
    let early = host.together();
    assert!(early <= 3, "{early} connections for four messages");
    for _ in 0..80 {
        world.send(Letter::to(&["b@example.org"])).await;
    }
    world.empty().await;
    assert_eq!(host.together(), 5);
    assert_eq!(host.contents().len(), 84);
    assert_eq!(world.delivery.destinations()[0].concurrency, 5);
}

#[tokio::test]
async fn a_host_that_takes_three_connections_gets_all_its_mail() {
    let script = Script { slow: Duration::from_millis(20), most: Some(3), ..Script::default() };
    let host = FakeHost::new(script).await;
    let world =
        World::new(&zone_of("example.org", &[host.address]), host.address.port(), unchanged).await;
    for _ in 0..60 {
        world.send(Letter::to(&["b@example.org"])).await;
    }
    // Who was refused waited for one of the connections that stand.
    eventually("all messages are there", async || host.contents().len() == 60).await;
    // One call too many for each time that the limit was tried out, and not more.
    let calls = host.count("(connected)");
    assert!(calls <= 20, "{calls} calls for 60 messages");
    let state = &world.delivery.destinations()[0];
    assert!(state.concurrency <= 4, "{state:?}");
    assert_eq!(state.down_until, None);
}

#[tokio::test]
async fn a_rate_is_kept_for_each_host() {
    let host = FakeHost::new(Script::default()).await;
    let zone = zone_of("example.org", &[host.address]) + "example.com MX 10 mx0.example.org\n";
    let world = World::new(&zone, host.address.port(), |config| {
        let rate = Some("2/d".parse().unwrap());
        config.routes = vec![RouteRule { rate, ..RouteRule::new("*".parse().unwrap(), None) }];
    })
    .await;
    world.send(Letter::to(&["b@example.org"])).await;
    world.empty().await;
    let later = world.send(Letter::to(&["b@example.com"])).await;
    eventually("the second message is to come again half a day later", async || {
        let Some(detail) = world.queue.show(later).await else { return false };
        let recipient = &detail.message.recipients[0];
        let wait = recipient.due.duration_since(clock::now()).unwrap_or_default();
        recipient.attempts == 0 && wait > Duration::from_hours(11)
    })
    .await;
    assert_eq!(host.contents().len(), 1);
}

#[tokio::test]
async fn greylisting_is_answered_by_an_early_retry() {
    let host = FakeHost::new(Script {
        replies: &[
            ("RCPT TO:<grey", "451 4.7.1 Greylisting in action, please come back in 00:02:00"),
            ("RCPT TO:<full", "452 4.2.2 Mailbox full"),
        ],
        ..Script::default()
    })
    .await;
    let schedule = ScheduleConfig { first: Duration::from_hours(1), ..ScheduleConfig::default() };
    let world = World::with_schedule(
        &zone_of("example.org", &[host.address]),
        host.address.port(),
        schedule,
    )
    .await;
    let id = world.send(Letter::to(&["grey@example.org", "full@example.org"])).await;
    let deferred = |reply| (RecipientState::Pending, reply);
    world.becomes(id, &[deferred("451 4.7.1 Grey"), deferred("452 4.2.2 Mail")]).await;
    let recipients = world.queue.show(id).await.unwrap().message.recipients;
    let wait = |index: usize| recipients[index].wait.as_secs();
    assert_eq!(wait(0), 125);
    assert!(wait(1) > 3000, "{}", wait(1));
}

#[tokio::test]
async fn each_recipient_of_a_transaction_gets_its_own_reply() {
    let host = FakeHost::new(Script {
        extensions: &["PIPELINING", "CHUNKING"],
        replies: &[("RCPT TO:<later", "450 4.2.1 later"), ("RCPT TO:<never", "550 5.1.1 never")],
        ..Script::default()
    })
    .await;
    let world =
        World::new(&zone_of("example.org", &[host.address]), host.address.port(), unchanged).await;
    let to = ["b@example.org", "later@example.org", "never@example.org", "c@example.org"];
    let id = world.send(Letter { reverse_path: "", ..Letter::to(&to) }).await;
    let taken = (RecipientState::Relayed { dsn: false }, "250 2.0.0 taken");
    let expected = [
        taken.clone(),
        (RecipientState::Pending, "450 4.2.1 later"),
        (RecipientState::Failed, "550 5.1.1 never"),
        taken,
    ];
    world.becomes(id, &expected).await;
    // All of it in one transaction: four commands leave in one write, then one BDAT.
    assert_eq!((host.count("MAIL"), host.count("RCPT"), host.count("BDAT")), (1, 4, 1));
    assert_eq!(host.contents(), [CONTENT]);
}

#[tokio::test]
async fn a_connection_is_not_used_for_ever() {
    let host = FakeHost::new(Script::default()).await;
    let world =
        World::new(&zone_of("example.org", &[host.address]), host.address.port(), |config| {
            config.limits.connection_age = Duration::from_millis(100);
            config.limits.idle_connection = Duration::from_secs(60);
        })
        .await;
    for number in 1..=2 {
        world.send(Letter::to(&["b@example.org"])).await;
        world.empty().await;
        eventually("the connection is closed", async || host.count("QUIT") == number).await;
    }
}

#[tokio::test]
async fn many_recipients_and_domains_share_few_transactions() {
    let host = FakeHost::new(Script { extensions: &["PIPELINING"], ..Script::default() }).await;
    let zone = zone_of("example.org", &[host.address]) + "example.com MX 10 mx0.example.org\n";
    let world = World::new(&zone, host.address.port(), |config| {
        config.limits.connections_per_host = 1;
    })
    .await;
    let to: Vec<String> = (0..250).map(|number| format!("{number}@example.org")).collect();
    let mut to: Vec<&str> = to.iter().map(String::as_str).collect();
    to.push("b@example.com");
    world.send(Letter::to(&to)).await;
    world.empty().await;
    // RFC 5321 §4.5.3.1.8: a hundred recipients in a transaction are always taken; the other domain goes with the last.
    assert_eq!((host.count("RCPT"), host.count("MAIL"), host.count("(connected)")), (251, 3, 1));
}

#[tokio::test]
async fn a_421_to_a_connection_that_served_before_says_nothing_of_the_host() {
    let host = FakeHost::new(Script {
        replies: &[("MAIL FROM:<last", "421 4.7.0 Enough messages on this connection")],
        ..Script::default()
    })
    .await;
    let zone = zone_of("example.org", &[host.address]);
    let world = World::new(&zone, host.address.port(), unchanged).await;
    world.send(Letter::to(&["b@example.org"])).await;
    world.empty().await;
    let last = Letter { reverse_path: "last@example.net", ..Letter::to(&["b@example.org"]) };
    let id = world.send(last).await;
    // On the connection that was kept, and on a new one; that one is the host's own word.
    world.is_deferred(id, "421 4.7.0 Enough").await;
    assert_eq!((host.count("(connected)"), host.count("MAIL FROM:<last")), (2, 2));
    assert_eq!(world.delivery.destinations()[0].failures, 1);
}
