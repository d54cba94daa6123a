//! Who may send where: never an open relay.

use crate::world::{World, id_in, plain};

async fn check(client: &mut crate::world::Client, recipient: &str, expected: &str) {
    client.say("MAIL FROM:<carol@example.net>", "250").await;
    client.say(&format!("RCPT TO:{recipient}"), expected).await;
    client.say("RSET", "250").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_cannot_relay() {
    let world = World::start().await;
    let mut client = world.client("mx").await;
    client.say("EHLO client.example.net", "250").await;
    check(&mut client, "<alice@example.test>", "250").await;
    check(&mut client, "<Alice+list@EXAMPLE.TEST>", "250").await;
    check(&mut client, "<info@example.test>", "250").await;
    check(&mut client, "<postmaster>", "250").await;
    check(&mut client, "<nobody@example.test>", "550 5.1.1").await;
    check(&mut client, "<eve@example.net>", "550 5.7.1").await;
    check(&mut client, "<eve@[127.0.0.1]>", "550 5.7.1").await;
    // RFC 5321 appendix C: a source route is stripped, and what remains is looked at.
    check(&mut client, "<@example.test:eve@example.net>", "550 5.7.1").await;
    check(&mut client, "<@relay.example.net:alice@example.test>", "250").await;
    check(&mut client, "<eve%example.net@example.test>", "550 5.1.1").await;
    check(&mut client, "<\"eve@example.net\"@example.test>", "550 5.1.1").await;
    check(&mut client, "<example.net!eve@example.test>", "550 5.1.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_carries_the_id_of_its_transaction() {
    let world = World::start().await;
    let mut client = world.client("mx").await;
    client.begin().await;
    let first = client.say("RCPT TO:<eve@example.net>", "550 5.7.1 Relaying denied (").await;
    let second = client.say("RCPT TO:<nobody@example.test>", "550 5.1.1 No such user here (").await;
    assert_eq!(id_in(&first), id_in(&second));
    client.say("DATA", "354").await;
    let reply = client.say("Subject: hello\r\n\r\ntext\r\n.", "250").await;
    assert_eq!(id_in(&first), id_in(&reply), "the id of the transaction is the id in the queue");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_relay_from_may_relay() {
    let world =
        World::start_with(|config| config.directory.relay_from = "127.0.0.0/8".parse().unwrap())
            .await;
    let mut client = world.client("mx").await;
    client.say("EHLO client.example.net", "250").await;
    check(&mut client, "<eve@example.net>", "250").await;
    check(&mut client, "<nobody@example.test>", "550 5.1.1").await;
    // LMTP is no way to relay, wherever it comes from.
    let mut client = world.client("lmtp").await;
    client.say("LHLO client.example.net", "250").await;
    check(&mut client, "<eve@example.net>", "550 5.7.1").await;
    let mut client = world.unix_client().await;
    client.say("LHLO client.example.net", "250").await;
    check(&mut client, "<eve@example.net>", "550 5.7.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn auth_is_not_offered_to_strangers_servers() {
    let world = World::start().await;
    let mut client = world.client("mx").await;
    client.start_tls_after_ehlo().await;
    let offer = client.say("EHLO client.example.net", "250").await;
    assert!(!offer.contains("AUTH"), "{offer}");
    client.say(&format!("AUTH PLAIN {}", plain("alice@example.test", "correct horse")), "50").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starttls_forgets_everything_and_what_was_injected() {
    let world = World::start().await;
    let mut client = world.client("mx").await;
    client.say("EHLO client.example.net", "250").await;
    client.say("MAIL FROM:<carol@example.net>", "250").await;
    // RFC 3207 §4.2: what comes behind STARTTLS in clear is not obeyed.
    client.send("STARTTLS\r\nNOOP\r\nQUIT\r\n").await;
    client.expect("220").await;
    client.handshake().await;
    client.say("RCPT TO:<alice@example.test>", "503").await;
    client.deliver("Subject: hello\r\n\r\ntext").await;
    let (_, content) = world.message().await;
    assert!(content.contains("with ESMTPS "), "{content}");
}
