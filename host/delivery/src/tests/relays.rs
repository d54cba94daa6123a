//! Mail for others: MX, fallback, replies, reuse, TLS, credentials.

use std::net::SocketAddr;

use net::tls::{ServerTls, self_signed};
use queue::RecipientState;
use smtp::client::ClientCredentials;

use super::{
    CONTENT, Letter, SLOW, World, eight_bit,
    fake::{FakeHost, Script},
    zone_of,
};
use crate::{Config, RouteRule, RouteTarget};

const PIPELINING: &[&str] = &["PIPELINING", "SIZE 1000000", "8BITMIME"];

fn unchanged(_: &mut Config) {}

async fn second(first: &FakeHost, script: Script) -> FakeHost {
    FakeHost::at(SocketAddr::new([127, 0, 0, 2].into(), first.address.port()), script).await
}

fn wire() -> String {
    CONTENT.replace(".dot", "..dot")
}

#[tokio::test]
async fn mail_goes_to_the_preferred_mx_octet_for_octet() {
    let first = FakeHost::new(Script { extensions: PIPELINING, ..Script::default() }).await;
    let other = second(&first, Script::default()).await;
    let zone = zone_of("example.org", &[first.address, other.address]);
    let world = World::new(&zone, first.address.port(), unchanged).await;
    world.send(Letter::to(&["b@example.org", "c@example.org"])).await;
    world.empty().await;
    assert_eq!(first.contents(), [wire()]);
    assert_eq!(
        first.lines()[..6],
        [
            "(connected)",
            "EHLO me.example",
            "MAIL FROM:<a@example.net> SIZE=47",
            "RCPT TO:<b@example.org>",
            "RCPT TO:<c@example.org>",
            "DATA"
        ]
    );
    assert!(other.lines().is_empty());
}

#[tokio::test]
async fn the_next_mx_is_tried_when_one_refuses_the_session() {
    for greeting in ["421 4.3.2 later", "451 4.3.2 later", "554 5.7.1 never"] {
        let first = FakeHost::new(Script { greeting: Some(greeting), ..Script::default() }).await;
        let other = second(&first, Script::default()).await;
        let zone = zone_of("example.org", &[first.address, other.address]);
        let world = World::new(&zone, first.address.port(), unchanged).await;
        world.send(Letter::to(&["b@example.org"])).await;
        world.empty().await;
        assert_eq!(first.count("(connected)"), 1, "{greeting}");
        assert_eq!(other.contents(), [wire()], "{greeting}");
    }
}

#[tokio::test]
async fn the_next_mx_is_tried_when_one_does_not_listen() {
    let first = FakeHost::new(Script::default()).await;
    let nobody = SocketAddr::new([127, 0, 0, 3].into(), first.address.port());
    let world = World::new(
        &zone_of("example.org", &[nobody, first.address]),
        first.address.port(),
        unchanged,
    )
    .await;
    world.send(Letter::to(&["b@example.org"])).await;
    world.empty().await;
    assert_eq!(first.contents(), [wire()]);
}

#[tokio::test]
async fn the_next_mx_is_tried_when_one_closes_before_the_content() {
    let first = FakeHost::new(Script { replies: &[("RCPT", "close")], ..Script::default() }).await;
    let other = second(&first, Script::default()).await;
    let zone = zone_of("example.org", &[first.address, other.address]);
    let world = World::new(&zone, first.address.port(), unchanged).await;
    world.send(Letter::to(&["b@example.org"])).await;
    world.empty().await;
    assert_eq!(other.contents(), [wire()]);
}

#[tokio::test]
async fn no_other_mx_is_tried_when_the_reply_to_the_content_is_missing() {
    let first = FakeHost::new(Script { ends: &["close"], ..Script::default() }).await;
    let other = second(&first, Script::default()).await;
    let zone = zone_of("example.org", &[first.address, other.address]);
    let world = World::new(&zone, first.address.port(), unchanged).await;
    let id = world.send(Letter::to(&["b@example.org"])).await;
    world.is_deferred(id, "421 4.4.2 The connection was lost").await;
    assert!(other.lines().is_empty());
}

#[tokio::test]
async fn replies_count_for_each_recipient() {
    let host = FakeHost::new(Script {
        extensions: PIPELINING,
        replies: &[("RCPT TO:<later", "450 4.2.0 later"), ("RCPT TO:<full", "452 4.5.3 too many")],
        ..Script::default()
    })
    .await;
    let world =
        World::new(&zone_of("example.org", &[host.address]), host.address.port(), unchanged).await;
    let id =
        world.send(Letter::to(&["b@example.org", "later@example.org", "full@example.org"])).await;
    world
        .becomes(
            id,
            &[
                (RecipientState::Relayed { dsn: false }, "250 2.0.0 taken"),
                (RecipientState::Pending, "450 4.2.0 later"),
                // Put off to a transaction of its own, where nobody else was accepted before it.
                (RecipientState::Pending, "452 4.5.3 too many"),
            ],
        )
        .await;
    assert_eq!(host.contents(), [wire()]);
    assert_eq!(host.count("MAIL"), 2);
}

#[tokio::test]
async fn connections_are_used_again() {
    let host =
        FakeHost::new(Script { extensions: &["PIPELINING", "CHUNKING"], ..Script::default() })
            .await;
    let zone = zone_of("example.org", &[host.address]) + "example.com MX 10 mx0.example.org\n";
    let world = World::new(&zone, host.address.port(), |config| {
        config.limits.connections_per_host = 1;
        config.limits.messages_per_connection = 3;
    })
    .await;
    for number in 0..6 {
        world
            .send(Letter::to(&[if number % 2 == 0 { "b@example.org" } else { "c@example.com" }]))
            .await;
    }
    world.empty().await;
    assert_eq!(host.contents(), vec![CONTENT; 6]);
    assert_eq!(host.count("(connected)"), 2);
}

#[tokio::test]
async fn a_kept_connection_that_broke_is_replaced() {
    let host =
        FakeHost::new(Script { replies: &[("MAIL FROM:<break", "close")], ..Script::default() })
            .await;
    let world =
        World::new(&zone_of("example.org", &[host.address]), host.address.port(), unchanged).await;
    world.send(Letter::to(&["b@example.org"])).await;
    world.empty().await;
    let id = world
        .send(Letter { reverse_path: "break@example.net", ..Letter::to(&["b@example.org"]) })
        .await;
    world.is_deferred(id, "421 4.4.2").await;
    assert_eq!(host.count("(connected)"), 2); // the kept one, and a new one
}

#[tokio::test]
async fn domains_without_a_way_fail_or_wait() {
    let zone = "null.example      MX 0 .
                lost.example      MX 10 nowhere.example
                text.example      TXT x
                circle.example    MX 5 mx.circle.example
                mx.circle.example A 127.0.0.9
                name.example      MX 5 me.example
                late.example      MX 5 down.example
                late.example      MX 9 me.example
                down.example      A 127.0.0.8
                me.example        A 127.0.0.9
                nowhere.example   TXT x";
    let world =
        World::new(zone, 2, |config| config.listeners = vec!["127.0.0.9:2".parse().unwrap()]).await;
    for (recipient, reply) in [
        ("b@null.example", "556 5.1.10"),
        ("b@none.example", "550 5.1.2"),
        ("b@lost.example", "550 5.4.4"),
        ("b@text.example", "550 5.1.2"),
        ("b@circle.example", "550 5.4.6"),
        ("b@name.example", "550 5.4.6"),
        ("b@slow.example", "451 4.4.3"),
        ("b@late.example", "451 4.4.1"),
        ("b@[x:y]", "550 5.1.2"),
        ("b@[127.0.0.9]", "550 5.4.6"),
        ("b@[127.0.0.8]", "451 4.4.1"),
    ] {
        let id = world.send(Letter { reverse_path: "", ..Letter::to(&[recipient, SLOW]) }).await;
        let state =
            if reply.starts_with('4') { RecipientState::Pending } else { RecipientState::Failed };
        world.becomes(id, &[(state, reply)]).await;
    }
}

#[tokio::test]
async fn a_domain_without_mx_is_its_own_host() {
    let host = FakeHost::new(Script::default()).await;
    let world = World::new("example.org A 127.0.0.1", host.address.port(), unchanged).await;
    world.send(Letter::to(&["b@example.org"])).await;
    world.send(Letter::to(&["b@[127.0.0.1]"])).await;
    world.empty().await;
    assert_eq!(host.contents().len(), 2);
}

#[tokio::test]
async fn eight_bits_do_not_go_to_a_host_of_seven() {
    let host = FakeHost::new(Script::default()).await;
    let world =
        World::new(&zone_of("example.org", &[host.address]), host.address.port(), unchanged).await;
    let letter = Letter {
        reverse_path: "",
        parameters: eight_bit(),
        content: "Subject: x\r\n\r\né\r\n".into(),
        ..Letter::to(&["b@example.org", SLOW])
    };
    let id = world.send(letter).await;
    world.becomes(id, &[(RecipientState::Failed, "554 5.6.3")]).await;
}

fn certificate() -> (tempfile::TempDir, ServerTls) {
    let directory = tempfile::tempdir().unwrap();
    let files = self_signed(directory.path(), &["mx0.example.org".to_owned()]).unwrap();
    let tls = ServerTls::from_files(vec![files]).unwrap();
    (directory, tls)
}

#[tokio::test]
async fn tls_is_used_where_it_is_offered() {
    let (_directory, tls) = certificate();
    let script =
        Script { extensions: &["STARTTLS", "PIPELINING"], tls: Some(tls), ..Script::default() };
    let host = FakeHost::new(script).await;
    let world =
        World::new(&zone_of("example.org", &[host.address]), host.address.port(), unchanged).await;
    world.send(Letter::to(&["b@example.org"])).await;
    world.empty().await;
    assert_eq!(host.contents(), [wire()]);
    assert_eq!(host.lines()[1..5], ["EHLO me.example", "STARTTLS", "(tls)", "EHLO me.example"]);
}

fn via(config: &mut Config, route: String) {
    config.routes = vec![RouteRule::new(RouteTarget::Any, Some(route.parse().unwrap()))];
}

#[tokio::test]
async fn a_failed_handshake_matters_only_where_tls_is_required() {
    let script = Script { extensions: &["STARTTLS"], bad_tls: true, ..Script::default() };
    let host = FakeHost::new(script).await;
    let port = host.address.port();
    let world =
        World::new("", port, |config| via(config, format!("smtp:[127.0.0.1]:{port}"))).await;
    world.send(Letter::to(&["b@example.org"])).await;
    world.empty().await;
    assert_eq!(host.contents(), [wire()]);
    assert_eq!(host.count("(connected)"), 2);
    let world =
        World::new("", port, |config| via(config, format!("smtp:[127.0.0.1]:{port};tls=require")))
            .await;
    let id = world.send(Letter::to(&["b@example.org"])).await;
    world.is_deferred(id, "451 4.7.5").await;
    let plain = FakeHost::new(Script::default()).await;
    let port = plain.address.port();
    let world =
        World::new("", port, |config| via(config, format!("smtp:[127.0.0.1]:{port};tls=require")))
            .await;
    let id = world.send(Letter::to(&["b@example.org"])).await;
    world.is_deferred(id, "451 4.7.10").await;
}

#[tokio::test]
async fn an_unknown_certificate_is_refused_only_where_it_is_verified() {
    let (_directory, tls) = certificate();
    let script = Script { extensions: &["STARTTLS"], tls: Some(tls), ..Script::default() };
    let host = FakeHost::new(script).await;
    let port = host.address.port();
    let world =
        World::new("", port, |config| via(config, format!("smtp:[127.0.0.1]:{port};tls=verify")))
            .await;
    let id = world.send(Letter::to(&["b@example.org"])).await;
    world.is_deferred(id, "451 4.7.5").await;
    let world =
        World::new("", port, |config| via(config, format!("smtp:[127.0.0.1]:{port};tls=require")))
            .await;
    world.send(Letter::to(&["b@example.org"])).await;
    world.empty().await;
    assert_eq!(host.contents(), [wire()]);
}

#[tokio::test]
async fn a_smarthost_gets_the_credentials_in_tls() {
    let (_directory, tls) = certificate();
    let script = Script {
        extensions: &["STARTTLS", "AUTH PLAIN"],
        tls: Some(tls),
        replies: &[("AUTH PLAIN AGJvYgBzZWNyZXQ=", "235 2.7.0 welcome"), ("AUTH", "535 5.7.8 no")],
        ..Script::default()
    };
    let host = FakeHost::new(script).await;
    let port = host.address.port();
    let credentials =
        |password: &str| ClientCredentials { user: "bob".into(), password: password.into() };
    let change = |config: &mut Config| {
        via(config, format!("smtp:[127.0.0.1]:{port};tls=require;auth=good"));
        config.routes[0].to = "*.good.example".parse().unwrap();
        for name in ["bad", "absent"] {
            let route = format!("smtp:[127.0.0.1]:{port};tls=require;auth={name}");
            let to = format!("{name}.example").parse().unwrap();
            config.routes.push(RouteRule::new(to, Some(route.parse().unwrap())));
        }
        config.credentials.insert("good".into(), credentials("secret"));
        config.credentials.insert("bad".into(), credentials("wrong"));
    };
    let world = World::new("", port, change).await;
    world.send(Letter::to(&["b@very.good.example"])).await;
    world.empty().await;
    assert_eq!(host.contents(), [wire()]);
    let id = world.send(Letter::to(&["b@bad.example"])).await;
    world.is_deferred(id, "454 4.7.8").await;
    let id = world.send(Letter::to(&["b@absent.example"])).await;
    world.is_deferred(id, "451 4.3.5").await;
}

#[tokio::test]
async fn a_long_content_is_streamed_and_a_refusal_in_its_middle_is_heard() {
    let host = FakeHost::new(Script { extensions: PIPELINING, ..Script::default() }).await;
    let world =
        World::new(&zone_of("example.org", &[host.address]), host.address.port(), unchanged).await;
    let body = ".a line of the content that is long enough\r\n".repeat(20_000);
    let content = format!("Subject: long\r\n\r\n{body}");
    world.send(Letter { content: content.clone(), ..Letter::to(&["b@example.org"]) }).await;
    world.empty().await;
    assert_eq!(host.contents()[0], content.replace("\r\n.", "\r\n.."));
    let id = world
        .send(Letter {
            reverse_path: "",
            content: content.repeat(2),
            ..Letter::to(&["b@example.org", SLOW])
        })
        .await;
    world.becomes(id, &[(RecipientState::Failed, "552 5.3.4")]).await;
}

#[tokio::test]
async fn work_under_way_is_finished_when_the_room_stops() {
    let host = FakeHost::new(Script::default()).await;
    let world =
        World::new(&zone_of("example.org", &[host.address]), host.address.port(), unchanged).await;
    world.send(Letter::to(&["b@example.org"])).await;
    super::eventually("the host is called", async || !host.lines().is_empty()).await;
    world.delivery.stop(std::time::Duration::from_secs(30)).await;
    assert_eq!(host.contents(), [wire()]);
    assert!(world.queue.list(queue::Filter::default()).await.is_empty());
}

#[tokio::test]
async fn recipients_of_domains_with_the_same_hosts_share_a_transaction() {
    let host = FakeHost::new(Script { extensions: PIPELINING, ..Script::default() }).await;
    let zone = "one.example   MX 10 mx.shared.example
                two.example   MX 5  mx.shared.example
                other.example MX 10 mx.other.example
                mx.shared.example A 127.0.0.1
                mx.other.example  A 127.0.0.1";
    let world = World::new(zone, host.address.port(), unchanged).await;
    let to = ["a@one.example", "b@two.example", "c@other.example", SLOW];
    let id = world.send(Letter::to(&to)).await;
    let sent = (RecipientState::Relayed { dsn: false }, "250");
    world.becomes(id, &[sent.clone(), sent.clone(), sent]).await;
    // One copy for the two, one for the domain whose hosts have other names.
    assert_eq!(host.contents().len(), 2);
    let lines = host.lines();
    let first = lines.iter().position(|line| line == "RCPT TO:<a@one.example>").unwrap();
    assert_eq!(lines[first + 1], "RCPT TO:<b@two.example>");
    // Each keeps the name of its own destination.
    let detail = world.queue.show(id).await.unwrap();
    let names: Vec<_> = detail.message.recipients.iter().map(|r| r.destination.clone()).collect();
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(
        names[..3],
        [named("mx:one.example"), named("mx:two.example"), named("mx:other.example")]
    );
}
