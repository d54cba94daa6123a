//! Whose mail is believed, what is written about it, and what is signed.

use std::sync::Arc;

use auth::arc::Sealing;
use auth::dkim::{Algorithm, PrivateKey, Signer};
use auth::{DkimResult, Options, Verifier};
use inbound::{Authentication, Config, Networks, Quarantine};
use message::{Header, Octets};
use net::{Resolver, Zone};

use crate::world::{World, plain};

const ZONE: &str = r#"
    1.0.0.127.in-addr.arpa   PTR  client.example.net
    client.example.net       A    127.0.0.1
    example.net              TXT  "v=spf1 ip4:127.0.0.1 -all"
    victim.example           TXT  "v=spf1 -all"
    _dmarc.victim.example    TXT  "v=DMARC1; p=reject"
    _dmarc.careful.example   TXT  "v=DMARC1; p=quarantine"
"#;

/// Clients of the tests are on this machine.
fn verify_everybody(config: &mut Config) {
    config.authentication.except_from = Networks::default();
}

async fn world(zone: &str, change: impl FnOnce(&mut Config)) -> World {
    World::start_in(zone.parse().unwrap(), |config| {
        verify_everybody(config);
        change(config);
    })
    .await
}

async fn send(world: &World, header: &str) -> String {
    let mut client = world.client("mx").await;
    client.begin().await;
    client.say("DATA", "354").await;
    client.send(format!("{header}\r\n\r\ntext\r\n.\r\n")).await;
    client.reply().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_is_written_and_what_was_forged_is_gone() {
    let world = world(ZONE, |_| ()).await;
    let reply = send(
        &world,
        "Authentication-Results: MX.example.test; dmarc=pass header.from=victim.example\r\n\
         Authentication-Results: other.example; spf=pass\r\nFrom: carol@example.net",
    )
    .await;
    assert!(reply.starts_with("250"), "{reply}");
    let (_, content) = world.message().await;
    let header = Header::parse(content.into_bytes());
    let fields: Vec<String> =
        header.get_all("Authentication-Results").map(|field| field.value()).collect();
    assert_eq!(fields.len(), 2, "{fields:?}");
    let found = auth::results::Results::parse(&fields[0]).unwrap();
    assert_eq!(found.authserv_id, "mx.example.test");
    let methods: Vec<String> =
        found.methods.iter().map(|one| format!("{}={}", one.method, one.result)).collect();
    assert_eq!(methods, ["iprev=pass", "spf=none", "spf=pass", "dkim=none", "dmarc=none"]);
    assert!(fields[1].starts_with("other.example"), "{fields:?}");
    // What follows our own Received field is ours too.
    assert!(header.fields().next().unwrap().is("Received"));
    let entries = world.journal_of(&reply).await;
    let told =
        entries[0].stages.iter().find(|stage| stage.rule.as_deref() == Some("authentication"));
    assert!(told.unwrap().reason.as_deref().unwrap().contains("spf=pass"), "{entries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_of_authors_are_obeyed() {
    let world = world(ZONE, |_| ()).await;
    for author in ["a@victim.example", "a@sub.victim.example", "b@example.net, a@victim.example"] {
        let reply = send(&world, &format!("From: {author}")).await;
        assert!(reply.starts_with("550 5.7.26"), "{author}: {reply}");
        assert!(reply.contains("victim.example"), "{reply}");
    }
    assert!(world.messages().await.is_empty());
    let reply = send(&world, "From: a@careful.example").await;
    assert!(reply.starts_with("250"), "{reply}");
    let (detail, _) = world.message().await;
    assert_eq!(detail.message.hold.as_deref(), Some("dmarc"));
}

#[tokio::test(flavor = "multi_thread")]
async fn obedience_can_be_turned_off() {
    let lax = |config: &mut Config| config.authentication.trust.enforce = false;
    let marked = |config: &mut Config| config.authentication.quarantine = Quarantine::Mark;
    let off = |config: &mut Config| config.authentication.verify = false;
    for (change, author, mark) in [
        (&lax as &dyn Fn(&mut Config), "a@victim.example", Some("dmarc=fail (p=reject)")),
        (&marked, "a@careful.example", Some("dmarc=fail (p=quarantine)")),
        (&off, "a@victim.example", None),
    ] {
        let world = world(ZONE, change).await;
        let reply = send(&world, &format!("From: {author}")).await;
        assert!(reply.starts_with("250"), "{reply}");
        let (detail, content) = world.message().await;
        assert_eq!(detail.message.hold, None);
        let header = Header::parse(content.into_bytes());
        let results = header.get("Authentication-Results").map(|field| field.value());
        assert_eq!(results.is_some(), mark.is_some());
        assert!(mark.is_none_or(|mark| results.as_ref().unwrap().contains(mark)), "{results:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_send_is_signed_with_all_keys_of_its_author() {
    let keys = [Algorithm::RsaSha256, Algorithm::Ed25519Sha256]
        .map(|algorithm| Arc::new(PrivateKey::generate(algorithm).unwrap()));
    let zone = Zone::default();
    for (selector, key) in ["s1", "s2"].iter().zip(&keys) {
        let record =
            format!("{selector}._domainkey.example.test TXT \"{}\"", key.record().unwrap());
        zone.extend(&record).unwrap();
    }
    let signer = |domain, selector, key: &Arc<PrivateKey>| {
        Arc::new(Signer::new(domain, selector, Arc::clone(key)).unwrap())
    };
    let signers = vec![
        signer("example.test", "s1", &keys[0]),
        signer("example.test", "s2", &keys[1]),
        signer("other.test", "s1", &keys[0]),
    ];
    let world = World::start_with(|config| {
        config.authentication = Authentication { signers, ..Authentication::default() };
    })
    .await;
    let mut client = world.client("submission").await;
    client.start_tls_after_ehlo().await;
    client.say("EHLO client.example.net", "250").await;
    client
        .say(&format!("AUTH PLAIN {}", plain("alice@example.test", "correct horse")), "235")
        .await;
    let fields = "Subject: hello\r\nBcc: eve@example.net";
    for (author, signatures) in
        [("alice@example.test", 2), ("alice@example.test, alice@example.test", 0)]
    {
        client.say("MAIL FROM:<alice@example.test>", "250").await;
        client.say("RCPT TO:<eve@example.net>", "250").await;
        client.say("DATA", "354").await;
        client.say(&format!("From: {author}\r\n{fields}\r\n\r\ntext \r\n\r\n\r\n."), "250").await;
        let (_, content) = world.messages().await.pop().unwrap();
        let header = Header::parse(content.clone());
        let content: Arc<dyn Octets> = Arc::new(bytes::Bytes::from(content));
        let verifier = Verifier::new(Resolver::zone(zone.clone()), Options::default());
        let found = verifier.dkim(&header, &content, std::time::UNIX_EPOCH).await;
        assert_eq!(found.len(), signatures, "{author}");
        assert!(found.iter().all(|one| one.result == DkimResult::Pass), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_through_is_sealed_with_what_was_found() {
    let key = Arc::new(PrivateKey::generate(Algorithm::Ed25519Sha256).unwrap());
    let record = format!("s1._domainkey.example.test TXT \"{}\"", key.record().unwrap());
    let sealing = Sealing::new("example.test", "s1", key).unwrap();
    let world = world(ZONE, |config| config.authentication.sealing = Some(Arc::new(sealing))).await;
    let reply = send(&world, "From: carol@example.net\r\nSubject: hello").await;
    assert!(reply.starts_with("250"), "{reply}");
    let (_, content) = world.message().await;
    let header = Header::parse(content.clone().into_bytes());
    let content: Arc<dyn Octets> = Arc::new(bytes::Bytes::from(content));
    let zone: Zone = ZONE.parse().unwrap();
    zone.extend(&record).unwrap();
    let verifier = Verifier::new(Resolver::zone(zone), Options::default());
    let reverse_path = "carol@example.net".parse().unwrap();
    let facts = auth::Facts {
        client: "192.0.2.1".parse().unwrap(),
        helo: "mx.example.test",
        reverse_path: &reverse_path,
        receiver: "next.example",
        now: std::time::UNIX_EPOCH,
    };
    let found = verifier.verify(&facts, &header, &content).await;
    assert_eq!(found.arc.result, auth::ArcResult::Pass, "{:?}", found.arc);
    assert_eq!(found.arc.sealers[0].domain, "example.test");
    assert!(found.arc.sealers[0].results.contains("spf=pass"), "{:?}", found.arc);
}
