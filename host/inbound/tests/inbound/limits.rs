//! What a client may hold of us, and for how long.

use std::time::Duration;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_only_so_many_sessions() {
    let world = World::start_with(|config| config.limits.sessions_per_address = 2).await;
    let first = world.client("mx").await;
    let _second = world.client("submission").await;
    let mut third = world.silent_client("mx").await;
    third.expect("421 4.7.0").await;
    third.expect_end().await;
    // A place is free again when a session has ended; the server needs a moment to see it.
    first.hang_up();
    loop {
        if world.silent_client("mx").await.reply().await.starts_with("220") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_has_only_so_many_sessions() {
    let world = World::start_with(|config| config.limits.sessions = 1).await;
    let _first = world.client("mx").await;
    let mut second = world.silent_client("mx").await;
    second.expect("421 4.3.2").await;
    second.expect_end().await;
    // Where TLS comes first there is nothing to say.
    world.silent_client("submissions").await.expect_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_is_told_and_closed() {
    let world = World::start_with(|config| {
        config.listeners[0].limits.command_timeout = Duration::from_millis(50);
    })
    .await;
    let mut client = world.client("mx").await;
    client.expect("421 4.4.2").await;
    client.expect_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_octet_by_octet_does_not_hold_a_session() {
    let world = World::start_with(|config| {
        config.listeners[0].limits.command_timeout = Duration::from_millis(300);
    })
    .await;
    let mut client = world.client("mx").await;
    for _ in 0..100 {
        client.try_send("N").await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.expect("421 4.4.2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_has_a_minimum_rate() {
    let world = World::start_with(|config| {
        config.limits.content_grace = Duration::from_millis(200);
        config.limits.content_rate = 1_000_000;
    })
    .await;
    let mut client = world.client("mx").await;
    client.begin().await;
    client.say("DATA", "354").await;
    for _ in 0..50 {
        client.try_send("a line now and then\r\n").await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.expect("421 4.4.2").await;
    assert!(world.messages().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_errors_end_a_session() {
    let world = World::start().await;
    let mut client = world.client("mx").await;
    for _ in 0..30 {
        client.try_send("nonsense\r\n").await;
    }
    loop {
        let reply = client.reply().await;
        if reply.starts_with("421") {
            break;
        }
        assert!(reply.starts_with("500"), "{reply:?}");
    }
    client.expect_end().await;
}
