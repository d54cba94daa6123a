//! Listeners behind a balancer.

use std::time::Duration;

use crate::world::World;

async fn world(networks: &str) -> World {
    World::start_with(|config| {
        for listener in &mut config.listeners {
            if listener.name != "lmtp-socket" {
                listener.proxy_from = networks.parse().unwrap();
            }
        }
        config.limits.proxy_header = Duration::from_secs(10);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_tells_who_the_client_is() {
    let world = world("127.0.0.1").await;
    for (header, client_address) in [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\n".as_slice(), "[192.0.2.1]"),
        (b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c\xc0\0\x02\x07\xc63d\x02\xdc\x04\0\x19", "[192.0.2.7]"),
        (b"\r\n\r\n\0\r\nQUIT\n \0\0\0", "[127.0.0.1]"),
        (b"PROXY UNKNOWN\r\n", "[127.0.0.1]"),
    ] {
        let mut client = world.silent_client("mx").await;
        client.send(header).await;
        client.expect("220 mx.example.test").await;
        client.deliver("Subject: hello\r\n\r\ntext").await;
        let (_, content) = world.messages().await.pop().unwrap();
        let content = String::from_utf8(content).unwrap();
        assert!(content.contains(client_address), "{client_address} in {content}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_may_follow_the_header_at_once() {
    let world = world("127.0.0.1").await;
    let mut client = world.silent_client("submissions").await;
    client.send("PROXY UNKNOWN\r\n").await;
    client.handshake().await;
    client.expect("220 mx.example.test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_header_gets_no_greeting() {
    let world = world("127.0.0.0/8").await;
    for header in [
        "EHLO client.example.net\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.2 56324 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\n",
    ] {
        let mut client = world.silent_client("mx").await;
        client.send(header).await;
        client.expect_end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_must_come_in_time() {
    let world = World::start_with(|config| {
        config.listeners[0].proxy_from = "127.0.0.1".parse().unwrap();
        config.limits.proxy_header = Duration::from_millis(50);
    })
    .await;
    let mut client = world.silent_client("mx").await;
    client.send("PROXY TCP4 192.0.2.1").await;
    client.expect_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_somebody_else_is_a_bad_command() {
    let world = world("192.0.2.0/24").await;
    let mut client = world.client("mx").await;
    client.say("PROXY TCP4 192.0.2.1 198.51.100.2 56324 25", "500").await;
    client.deliver("Subject: hello\r\n\r\ntext").await;
    let (_, content) = world.message().await;
    assert!(content.contains("[127.0.0.1]"), "{content}");
}

#[tokio::test(flavor = "multi_thread")]
async fn permits_count_the_client_and_not_the_balancer() {
    let world = World::start_with(|config| {
        config.listeners[0].proxy_from = "127.0.0.1".parse().unwrap();
        config.limits.sessions_per_address = 1;
    })
    .await;
    let header = |host: u8| format!("PROXY TCP4 192.0.2.{host} 198.51.100.2 56324 25\r\n");
    let mut clients = Vec::new();
    for (host, expected) in [(1, "220"), (2, "220"), (1, "421 4.7.0")] {
        let mut client = world.silent_client("mx").await;
        client.send(header(host)).await;
        client.expect(expected).await;
        clients.push(client);
    }
}
