//! The server stops, in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn idle_sessions_are_told_and_transactions_may_finish() {
    let world = World::start().await;
    let mut idle = world.client("mx").await;
    idle.say("EHLO client.example.net", "250").await;
    let mut busy = world.client("mx").await;
    busy.begin().await;
    busy.say("DATA", "354").await;

    let inbound = Arc::clone(&world.inbound);
    let draining = tokio::spawn(async move { inbound.drain(Duration::from_secs(600)).await });
    idle.expect("421 4.3.2").await;
    idle.expect_end().await;
    assert!(!draining.is_finished());
    busy.say("Subject: in time\r\n\r\ntext\r\n.", "250 2.0.0").await;
    busy.expect("421 4.3.2").await;
    busy.expect_end().await;
    draining.await.unwrap();
    let (_, content) = world.message().await;
    assert!(content.contains("in time"));
    assert!(TcpStream::connect(world.address("mx")).await.is_err(), "nothing is accepted any more");
    assert!(!world.folder.path().join("lmtp.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_ready_at_the_deadline_is_told_too() {
    let world = World::start().await;
    let mut slow = world.client("mx").await;
    slow.begin().await;
    slow.say("DATA", "354").await;
    slow.send("Subject: too late\r\n").await;
    world.inbound.drain(Duration::from_millis(50)).await;
    slow.expect("421").await;
    slow.expect_end().await;
    assert!(world.messages().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn run_returns_when_the_last_session_is_gone() {
    let world = World::start().await;
    let inbound = Arc::clone(&world.inbound);
    let running = tokio::spawn(async move { inbound.run().await });
    let _idle = world.client("mx").await;
    assert!(!running.is_finished());
    world.inbound.drain(Duration::from_secs(600)).await;
    running.await.unwrap();
}
