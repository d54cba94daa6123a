//! LMTP (RFC 2033), over TCP and a Unix socket.

use crate::world::{Client, World};

async fn check(mut client: Client, world: &World) {
    client.say("EHLO client.example.net", "500").await; // RFC 2033 §4.1
    client.say("LHLO client.example.net", "250").await;
    client.say("MAIL FROM:<carol@example.net>", "250").await;
    client.say("RCPT TO:<alice@example.test>", "250").await;
    client.say("RCPT TO:<nobody@example.test>", "550 5.1.1").await;
    client.say("RCPT TO:<bob@example.test>", "250").await;
    client.say("DATA", "354").await;
    client.send("Subject: hello\r\n\r\ntext\r\n.\r\n").await;
    // RFC 2033 §4.2: one reply for each recipient that was accepted.
    client.expect("250 2.0.0").await;
    client.expect("250 2.0.0").await;
    client.say("NOOP", "250").await;
    let (detail, content) = world.message().await;
    assert_eq!(detail.message.recipients.len(), 2);
    assert!(content.contains("with LMTP "), "{content}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_gets_a_reply_over_tcp() {
    let world = World::start().await;
    check(world.client("lmtp").await, &world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_gets_a_reply_over_a_unix_socket() {
    let world = World::start().await;
    check(world.unix_client().await, &world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_gets_a_refusal_of_the_content() {
    let world = World::start().await;
    let mut client = world.client("lmtp").await;
    client.say("LHLO client.example.net", "250").await;
    client.say("MAIL FROM:<carol@example.net>", "250").await;
    client.say("RCPT TO:<alice@example.test>", "250").await;
    client.say("RCPT TO:<bob@example.test>", "250").await;
    client.say("DATA", "354").await;
    let hops = "Received: from a by b; Sat, 21 Nov 2026 12:00:00 +0000\r\n".repeat(101);
    client.send(format!("{hops}\r\ntext\r\n.\r\n")).await;
    client.expect("554 5.4.6").await;
    client.expect("554 5.4.6").await;
    client.say("QUIT", "221").await;
    assert!(world.messages().await.is_empty());
}
