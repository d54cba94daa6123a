//! Conversations in clear, from the greeting to a message in the queue.

use crate::world::{World, id_in};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_in_the_queue_when_the_final_dot_is_answered() {
    let world = World::start().await;
    let mut client = world.client("mx").await;
    let reply = client.deliver("Subject: hello\r\n\r\n..dots\r\n").await;
    let (detail, content) = world.message().await;
    assert_eq!(detail.message.id, id_in(&reply));
    assert_eq!(detail.message.reverse_path.to_string(), "carol@example.net");
    assert_eq!(detail.message.recipients[0].path.to_string(), "alice@example.test");
    assert_eq!(detail.message.origin, "mx");
    assert!(content.ends_with("Subject: hello\r\n\r\n.dots\r\n\r\n"), "{content}");
    client.say("QUIT", "221").await;
    client.expect_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_received_field_tells_how_the_message_came() {
    let world = World::start().await;
    let mut client = world.client("mx").await;
    let reply = client.deliver("Subject: hello\r\n\r\ntext").await;
    let (_, content) = world.message().await;
    let field = content.split("Subject:").next().unwrap().replace("\r\n", "");
    assert!(field.starts_with("Received: from client.example.net"), "{field}");
    for part in [
        "[127.0.0.1]",
        "by mx.example.test",
        "with ESMTP ",
        &id_in(&reply).to_string(),
        "for <alice@example.test>",
    ] {
        assert!(field.contains(part), "{part} in {field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_recipients_stay_secret_from_each_other() {
    let world = World::start().await;
    let mut client = world.client("mx").await;
    client.begin().await;
    client.say("RCPT TO:<bob@example.test>", "250").await;
    client.say("DATA", "354").await;
    client.say("Subject: hello\r\n\r\ntext\r\n.", "250").await;
    let (detail, content) = world.message().await;
    assert_eq!(detail.message.recipients.len(), 2);
    assert!(!content.contains(" for "), "{content}"); // RFC 5321 §7.2
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_session_may_come_in_one_packet() {
    let world = World::start().await;
    let mut client = world.client("mx").await;
    client.say("EHLO client.example.net", "250").await;
    client
        .send(
            "MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nRCPT TO:<nobody@example.test>\r\nDATA\r\n",
        )
        .await;
    for beginning in ["250 2.1.0", "250 2.1.5", "550 5.1.1", "354"] {
        client.expect(beginning).await;
    }
    client.send("Subject: one\r\n\r\none\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nBDAT 19 LAST\r\nSubject: two\r\n\r\ntwoQUIT\r\n").await;
    for beginning in ["250 2.0.0", "250 2.1.0", "250 2.1.5", "250 2.0.0", "221"] {
        client.expect(beginning).await;
    }
    assert_eq!(world.messages().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn helo_brings_a_message_as_well() {
    let world = World::start().await;
    let mut client = world.client("mx").await;
    client.say("HELO client.example.net", "250").await;
    client.say("MAIL FROM:<carol@example.net>", "250").await;
    client.say("RCPT TO:<postmaster>", "250").await;
    client.say("DATA", "354").await;
    client.say("text without a header\r\n.", "250").await;
    let (_, content) = world.message().await;
    assert!(content.contains("with SMTP "), "{content}");
    assert!(content.ends_with("\r\ntext without a header\r\n"), "{content}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_leaves_nothing() {
    let world = World::start().await;
    let mut client = world.client("mx").await;
    client.begin().await;
    client.say("DATA", "354").await;
    client.send("Subject: half\r\n\r\nThis is only ha").await;
    client.hang_up();
    let mut client = world.client("mx").await;
    client.begin().await;
    client.send("BDAT 10\r\nSubject: x").await;
    client.expect("250").await;
    client.hang_up();
    let mut client = world.client("mx").await;
    client.deliver("Subject: whole\r\n\r\ntext").await;
    let (_, content) = world.message().await;
    assert!(content.contains("Subject: whole"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rset_forgets_the_transaction_and_its_content() {
    let world = World::start().await;
    let mut client = world.client("mx").await;
    client.begin().await;
    client.send("BDAT 5\r\nabcde").await;
    client.expect("250").await;
    client.say("RSET", "250").await;
    client.say("BDAT 0 LAST", "503").await;
    client.deliver("Subject: after\r\n\r\ntext").await;
    let (_, content) = world.message().await;
    assert!(!content.contains("abcde"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_tells_what_became_of_each_transaction() {
    let world = World::start().await;
    let mut client = world.client("mx").await;
    client.say("EHLO client.example.net", "250").await;
    client.say("MAIL FROM:<carol@example.net>", "250").await;
    let refused = client.say("RCPT TO:<eve@example.net>", "550 5.7.1").await;
    client.say("RSET", "250").await;
    let entries = world.journal_of(&refused).await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].fate, "rejected");
    assert_eq!(entries[0].stages[0].rule.as_deref(), Some("relay"));
    assert_eq!(entries[0].recipients, ["eve@example.net"]);
    assert_eq!(entries[0].helo.as_deref(), Some("client.example.net"));

    let accepted = client.deliver("Subject: hello\r\n\r\ntext").await;
    let entries = world.journal_of(&accepted).await;
    assert_eq!(entries[0].fate, "received");
    assert_eq!(entries[0].reverse_path.as_deref(), Some("carol@example.net"));
}
