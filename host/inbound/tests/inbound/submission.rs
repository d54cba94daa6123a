//! Mail of our own users (RFC 6409, RFC 8314).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::world::{Client, World, plain};

async fn logged_in(world: &World) -> Client {
    let mut client = world.client("submission").await;
    client.start_tls_after_ehlo().await;
    client.say("EHLO client.example.net", "250").await;
    client
        .say(&format!("AUTH PLAIN {}", plain("alice@example.test", "correct horse")), "235")
        .await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn starttls_and_auth_come_before_mail() {
    let world = World::start().await;
    let mut client = world.client("submission").await;
    let offer = client.say("EHLO client.example.net", "250").await;
    assert!(offer.contains("STARTTLS") && !offer.contains("AUTH"), "{offer}");
    client.say(&format!("AUTH PLAIN {}", plain("alice@example.test", "correct horse")), "5").await;
    client.say("MAIL FROM:<alice@example.test>", "530 5.7.0").await;
    client.start_tls().await;
    let offer = client.say("EHLO client.example.net", "250").await;
    assert!(
        offer.contains("AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN")
            && !offer.contains("STARTTLS"),
        "{offer}"
    );
    client.say("MAIL FROM:<alice@example.test>", "530 5.7.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_sends_everywhere_and_what_is_missing_is_added() {
    let world = World::start().await;
    let mut client = logged_in(&world).await;
    client.say("MAIL FROM:<alice@example.test>", "250").await;
    client.say("RCPT TO:<eve@example.net>", "250").await;
    client.say("DATA", "354").await;
    client
        .say(
            "From: alice@example.test\r\nBcc: eve@example.net\r\nSubject: hello\r\n\r\ntext\r\n.",
            "250",
        )
        .await;
    let (detail, content) = world.message().await;
    assert_eq!(detail.message.origin, "submission");
    assert!(content.contains("with ESMTPSA "), "{content}");
    let head = content.split("\r\n\r\n").next().unwrap();
    assert!(head.contains("\r\nDate: "), "{head}");
    assert!(head.contains("\r\nMessage-ID: <") && head.contains("@mx.example.test>"), "{head}");
    assert!(!head.contains("Bcc") && !head.contains("Return-Path"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_wrote_stays() {
    let world = World::start().await;
    let mut client = logged_in(&world).await;
    client.say("MAIL FROM:<alice@example.test>", "250").await;
    client.say("RCPT TO:<bob@example.test>", "250").await;
    client.say("DATA", "354").await;
    let content = "Date: Sat, 21 Nov 2026 12:00:00 +0100\r\nmessage-id: <1@client.example.net>\r\nSubject: hello\r\n\r\ntext\r\n";
    client.say(&format!("{content}."), "250").await;
    let (_, stored) = world.message().await;
    assert!(stored.ends_with(content), "{stored}");
    assert_eq!(
        stored.matches("Date: ").count()
            + stored.to_ascii_lowercase().matches("message-id: ").count(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn submissions_speaks_tls_from_the_first_octet_and_login_works() {
    let world = World::start().await;
    let mut client = world.silent_client("submissions").await;
    client.handshake().await;
    client.expect("220 mx.example.test").await;
    client.say("EHLO client.example.net", "250").await;
    client.say("AUTH LOGIN", "334").await;
    client.say("YWxpY2VAZXhhbXBsZS50ZXN0", "334").await; // alice@example.test
    client.say("Y29ycmVjdCBob3JzZQ==", "235").await; // correct horse
    client.say("MAIL FROM:<alice@example.test>", "250").await;
    client.say("RCPT TO:<eve@example.net>", "250").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_refused_and_after_three_the_session_ends() {
    let world = World::start().await;
    let mut client = world.client("submission").await;
    client.start_tls_after_ehlo().await;
    client.say("EHLO client.example.net", "250").await;
    client.say(&format!("AUTH PLAIN {}", plain("alice@example.test", "wrong")), "535 5.7.8").await;
    client
        .say(&format!("AUTH PLAIN {}", plain("nobody@example.test", "correct horse")), "535 5.7.8")
        .await;
    client.say("MAIL FROM:<alice@example.test>", "530").await;
    client.say(&format!("AUTH PLAIN {}", plain("alice@example.test", "still wrong")), "421").await;
    client.expect_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envelopes_of_users_are_fully_qualified() {
    let world = World::start().await;
    let mut client = logged_in(&world).await;
    client.say("MAIL FROM:<alice@laptop>", "554 5.1.8").await;
    client.say("MAIL FROM:<alice@example.test>", "250").await;
    client.say("RCPT TO:<eve@desk>", "554 5.1.2").await;
    client.say("RCPT TO:<eve@example.net>", "250").await;
}

/// RFC 5802 §3, the client's side. `bound` is what the client believes to be its connection.
async fn scram(client: &mut Client, password: &str, bound: &[u8], last_reply: &str) {
    let header = "p=tls-exporter,,";
    let bare = "n=alice@example.test,r=abc";
    let first = STANDARD.encode(format!("{header}{bare}"));
    let challenge = client.say(&format!("AUTH SCRAM-SHA-256-PLUS {first}"), "334 ").await;
    let challenge = STANDARD.decode(challenge.trim_end().trim_start_matches("334 ")).unwrap();
    let challenge = String::from_utf8(challenge).unwrap();
    let value = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
    let salt = STANDARD.decode(value("s=")).unwrap();
    let rounds = value("i=").parse().unwrap();
    let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), &salt, rounds);
    let mac = |key: &[u8], message: &[u8]| -> [u8; 32] {
        let mac = Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(message);
        mac.finalize().into_bytes().into()
    };
    let channel = STANDARD.encode([header.as_bytes(), bound].concat());
    let without_proof = format!("c={channel},r={}", value("r="));
    let messages = format!("{bare},{challenge},{without_proof}");
    let client_key = mac(&salted, b"Client Key");
    let signature = mac(&Sha256::digest(client_key), messages.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    let last = STANDARD.encode(format!("{without_proof},p={}", STANDARD.encode(proof)));
    if last_reply.starts_with('5') {
        client.say(&last, last_reply).await;
        return;
    }
    let server_signature = mac(&mac(&salted, b"Server Key"), messages.as_bytes());
    let expected = STANDARD.encode(format!("v={}", STANDARD.encode(server_signature)));
    client.say(&last, &format!("334 {expected}")).await;
    client.say("", last_reply).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scram_is_bound_to_the_connection() {
    let world = World::start().await;
    for (password, is_own, expected) in [
        ("correct horse", true, "235"),
        ("wrong horse", true, "535 5.7.8"),
        // Somebody in between passes the exchange on to another connection.
        ("correct horse", false, "535 5.7.8"),
    ] {
        let mut client = world.client("submission").await;
        client.start_tls_after_ehlo().await;
        client.say("EHLO client.example.net", "250").await;
        let own = client.exporter().unwrap();
        let bound = if is_own { own } else { vec![0; 32] };
        scram(&mut client, password, &bound, expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_user_can_not_be_told_from_a_wrong_password_by_scram() {
    let world = World::start().await;
    let mut client = world.client("submission").await;
    client.start_tls_after_ehlo().await;
    client.say("EHLO client.example.net", "250").await;
    let first = STANDARD.encode("n,,n=nobody@example.test,r=abc");
    client.say(&format!("AUTH SCRAM-SHA-256 {first}"), "334 ").await;
    let last = STANDARD.encode(format!("c=biws,r=abc,p={}", STANDARD.encode([0; 32])));
    client.say(&last, "501").await; // (the nonce is not the server's)
}
