//! Content: large, chunked, malformed, smuggled.

use crate::world::{Client, World};

#[tokio::test(flavor = "multi_thread")]
async fn thirty_megabytes_arrive_octet_for_octet() {
    let world = World::start_with(|config| {
        config.listeners[0].limits.message_octets = 64 << 20;
    })
    .await;
    let mut client = world.client("mx").await;
    client.begin().await;
    client.say("DATA", "354").await;
    let line = "0123456789012345678901234567890123456789012345678901234567890123456789012345\r\n";
    let block = line.repeat(1024);
    client.send("Subject: large\r\n\r\n").await;
    for _ in 0..(30 << 20) / block.len() + 1 {
        client.send(&block).await;
    }
    client.say(".", "250 2.0.0").await;
    let messages = world.messages().await;
    let content = &messages[0].1;
    let start = content.windows(11).position(|window| window == b": large\r\n\r\n").unwrap() + 11;
    assert!(content.len() - start >= 30 << 20);
    assert!(content[start..].chunks(line.len()).all(|found| found == line.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_any_size_make_one_message() {
    let world = World::start().await;
    let mut client = world.client("mx").await;
    client.say("EHLO client.example.net", "250").await;
    client.say("MAIL FROM:<carol@example.net> BODY=BINARYMIME", "250").await;
    client.say("RCPT TO:<alice@example.test>", "250").await;
    for chunk in ["Sub", "ject: chunks\r\n\r", "\n\0a\nb\rc.\r\n", "", ".\r\n"] {
        client.send(format!("BDAT {}\r\n{chunk}", chunk.len())).await;
        client.expect("250").await;
    }
    client.say("BDAT 0 LAST", "250 2.0.0").await;
    let messages = world.messages().await;
    assert!(
        messages[0].1.ends_with(b"Subject: chunks\r\n\r\n\0a\nb\rc.\r\n.\r\n"),
        "{}",
        messages[0].1.escape_ascii()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit_is_refused_and_the_session_goes_on() {
    let world =
        World::start_with(|config| config.listeners[0].limits.message_octets = 10_000).await;
    let mut client = world.client("mx").await;
    client.say("EHLO client.example.net", "250").await;
    client.say("MAIL FROM:<> SIZE=10001", "552 5.3.4").await;
    client.begin().await;
    client.say("DATA", "354").await;
    client.send("hello, hello\r\n".repeat(2000)).await;
    client.say(".", "552 5.3.4").await;
    client.deliver("Subject: small\r\n\r\ntext").await;
    assert_eq!(world.messages().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_could_hurt_a_parser_is_refused_with_its_id() {
    let world = World::start().await;
    let check = async |client: &mut Client, content: String, expected: &str| {
        client.begin().await;
        client.say("DATA", "354").await;
        client.send(format!("{content}\r\n.\r\n")).await;
        let reply = client.expect(expected).await;
        let entries = world.journal_of(&reply).await;
        assert_eq!(entries[0].fate, "rejected");
        assert_eq!(entries[0].stages[0].rule.as_deref(), Some("content"));
    };
    let mut client = world.client("mx").await;
    let hop = "Received: from a by b; Sat, 21 Nov 2026 12:00:00 +0000\r\n";
    check(&mut client, hop.repeat(101) + "\r\ntext", "554 5.4.6").await;
    check(&mut client, "Content-Type: message/rfc822\r\n\r\n".repeat(200), "554 5.6.0").await;
    check(
        &mut client,
        format!(
            "Subject: x{}\r\n\r\ntext",
            "\r\n aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".repeat(10_000)
        ),
        "552 5.3.4",
    )
    .await;
    assert!(world.messages().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_crlf_dot_crlf_ends_a_message() {
    // SEC Consult 2023: each of these ended a message somewhere.
    let endings: [&[u8]; 15] = [
        b"\n.\n",
        b"\n.\r",
        b"\r.\n",
        b"\r.\r",
        b"\n.\r\n",
        b"\r.\r\n",
        b"\r\n.\n",
        b"\r\n.\r",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
        b"\r\r\n.\r\r\n",
        b"\n\n.\n\n",
        b"\r\n.\r\r\n",
        b"\r\r.\r\r",
        b"\r\n\x00.\x00\r\n",
    ];
    for ending in endings {
        let world = World::start().await;
        let mut client = world.client("mx").await;
        client.begin().await;
        client.say("DATA", "354").await;
        let smuggled = b"MAIL FROM:<smuggled@example.net>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n";
        client.send([b"Subject: outer\r\n\r\ntext".as_slice(), ending, smuggled].concat()).await;
        let reply = client.reply().await;
        client.say("NOOP", "250").await;
        let messages = world.messages().await;
        assert!(messages.len() <= 1, "{}: {reply}", ending.escape_ascii());
        let senders: Vec<String> =
            messages.iter().map(|(detail, _)| detail.message.reverse_path.to_string()).collect();
        assert!(
            senders.iter().all(|sender| sender == "carol@example.net"),
            "{}: {senders:?}",
            ending.escape_ascii()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_the_protocol_refuses_is_in_the_journal() {
    let world = World::start().await;
    let mut client = world.client("mx").await;
    client.begin().await;
    client.say("DATA", "354").await;
    client.send("Subject: bare\r\n\r\na\nb\r\n.\r\n").await;
    client.expect("550 5.6.0").await;
    client.begin().await;
    client.say("RSET", "250").await;
    let fates: Vec<String> = world
        .journal_about("carol@example.net")
        .await
        .iter()
        .map(|entry| entry.fate.to_string())
        .collect();
    assert_eq!(fates, ["rejected", "abandoned"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_recipients_are_taken_and_the_next_is_put_off() {
    let world =
        World::start_with(|config| config.directory.relay_from = "127.0.0.1".parse().unwrap())
            .await;
    let mut client = world.client("mx").await;
    client.say("EHLO client.example.net", "250").await;
    client.say("MAIL FROM:<carol@example.net>", "250").await;
    let commands: String =
        (0..1001).map(|index| format!("RCPT TO:<user{index}@example.net>\r\n")).collect();
    client.send(commands).await;
    for _ in 0..1000 {
        client.expect("250 2.1.5").await;
    }
    client.expect("452 4.5.3").await; // RFC 5321 §4.5.3.1.10
    client.say("DATA", "354").await;
    client.say("Subject: many\r\n\r\ntext\r\n.", "250").await;
    let (detail, _) = world.message().await;
    assert_eq!(detail.message.recipients.len(), 1000);
}
