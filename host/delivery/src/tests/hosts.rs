//! Which host is called, at which address, from where; and what is known of hosts that are down.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use queue::RecipientState;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use super::{
    Letter, World, eventually,
    fake::{FakeHost, Script},
};
use crate::{Config, DestinationState, RouteRule};

fn unchanged(_: &mut Config) {}

/// A listener whose queue is full: the system answers no further SYN.
async fn black_hole(address: SocketAddr) -> (TcpListener, Vec<TcpStream>) {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.bind(address).unwrap();
    let listener = socket.listen(1).unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) =
        timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        queued.push(stream);
    }
    (listener, queued)
}

fn at(ip: &str, host: &FakeHost) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), host.address.port())
}

/// The one host that is known.
#[track_caller]
fn only(world: &World) -> DestinationState {
    let mut states = world.delivery.destinations();
    assert_eq!(states.len(), 1, "{states:#?}");
    states.swap_remove(0)
}

#[tokio::test]
async fn a_family_that_leads_nowhere_does_not_hold_mail_up() {
    let host = FakeHost::new(Script::default()).await;
    let _hole = black_hole(at("::1", &host)).await;
    let zone = "example.org     MX 10 mx.example.org
                mx.example.org  AAAA ::1
                mx.example.org  A 127.0.0.1";
    let world = World::new(zone, host.address.port(), |config| {
        config.limits.connect = Duration::from_secs(60);
        config.limits.idle_connection = Duration::ZERO;
    })
    .await;
    for name in ["first", "second"] {
        let started = Instant::now();
        world.send(Letter::to(&["b@example.org"])).await;
        world.empty().await;
        let took = started.elapsed();
        println!("the {name} message, with a black hole for IPv6: {took:?}");
        assert!(took < Duration::from_secs(30), "{took:?}");
    }
    assert_eq!(host.contents().len(), 2);
}

#[tokio::test]
async fn the_race_is_among_the_addresses_of_one_host_and_hosts_keep_their_order() {
    let worse = FakeHost::new(Script::default()).await;
    let better = FakeHost::at(at("127.0.0.2", &worse), Script::default()).await;
    let _hole = black_hole(at("::1", &worse)).await;
    let zone = "example.org       MX 10 better.example.org
                example.org       MX 20 worse.example.org
                better.example.org AAAA ::1
                better.example.org A 127.0.0.2
                worse.example.org A 127.0.0.1";
    let world = World::new(zone, worse.address.port(), unchanged).await;
    world.send(Letter::to(&["b@example.org"])).await;
    world.empty().await;
    assert_eq!(better.contents().len(), 1);
    assert!(worse.lines().is_empty());
}

#[tokio::test]
async fn a_host_that_is_down_is_left_alone_whatever_the_domain() {
    let host =
        FakeHost::new(Script { greeting: Some("421 4.3.2 Closed for today"), ..Script::default() })
            .await;
    let zone = "example.org MX 10 mx.example.org
                example.com MX 10 mail.example.com
                mx.example.org A 127.0.0.1
                mail.example.com A 127.0.0.1";
    let world = World::new(zone, host.address.port(), unchanged).await;
    let first = world.send(Letter::to(&["b@example.org"])).await;
    world.is_deferred(first, "421 4.3.2 Closed").await;
    let second = world.send(Letter::to(&["b@example.com"])).await;
    world.is_deferred(second, "451 4.3.2 mail.example.com gave no session").await;
    let detail = world.queue.show(second).await.unwrap();
    let reply = detail.message.recipients[0].last.clone().unwrap().to_string();
    assert!(reply.contains("left alone for") && reply.contains("Closed for today"), "{reply}");
    assert_eq!(host.count("(connected)"), 1);
    let state = only(&world);
    assert_eq!(state.hosts, ["mail.example.com", "mx.example.org"]);
    assert_eq!(state.addresses, [host.address.to_string()]);
    assert_eq!(state.routes, ["mx:example.com", "mx:example.org"]);
    assert_eq!((state.failures, state.concurrency, state.connections), (1, 1, 0));
    assert!(state.down_until.unwrap() > crate::clock::now());
    assert_eq!(state.last_reply.unwrap().code(), 421);
}

#[tokio::test]
async fn a_host_that_is_down_is_called_again_and_then_has_no_past() {
    let host = FakeHost::new(Script::default()).await;
    let down = at("127.0.0.5", &host);
    let zone = "example.org MX 10 mx.example.org\nmx.example.org A 127.0.0.5";
    let world = World::new(zone, down.port(), |config| {
        config.limits.down_first = Duration::from_millis(300);
        config.limits.down_longest = Duration::from_millis(600);
    })
    .await;
    let id = world.send(Letter::to(&["b@example.org"])).await;
    world.is_deferred(id, "451 4.4.1 No connection to mx.example.org: 127.0.0.5").await;
    assert_eq!(only(&world).failures, 1);
    let host = FakeHost::at(down, Script::default()).await;
    eventually("it may be called again", async || only(&world).down_until.is_none()).await;
    world.queue.retry(queue::Filter::default()).await.unwrap();
    world.empty().await;
    assert_eq!(host.contents().len(), 1);
    assert_eq!(only(&world).failures, 0);
}

#[tokio::test]
async fn another_mx_is_used_while_one_is_down() {
    let first = FakeHost::new(Script { greeting: Some("421 4.3.2 no"), ..Script::default() }).await;
    let other = FakeHost::at(at("127.0.0.2", &first), Script::default()).await;
    let zone = super::zone_of("example.org", &[first.address, other.address]);
    let world = World::new(&zone, first.address.port(), unchanged).await;
    for number in 1..=3 {
        world.send(Letter::to(&["b@example.org"])).await;
        world.empty().await;
        assert_eq!(other.contents().len(), number);
    }
    assert_eq!(first.count("(connected)"), 1);
}

#[tokio::test]
async fn a_refused_greeting_for_good_is_asked_again_for_the_next_message() {
    let host =
        FakeHost::new(Script { greeting: Some("554 5.7.1 Not you"), ..Script::default() }).await;
    let zone = super::zone_of("example.org", &[host.address]);
    let world = World::new(&zone, host.address.port(), unchanged).await;
    for number in 1..=2 {
        let to = ["b@example.org", super::SLOW];
        let id = world.send(Letter { reverse_path: "", ..Letter::to(&to) }).await;
        world.becomes(id, &[(RecipientState::Failed, "554 5.7.1 Not you")]).await;
        assert_eq!(host.count("(connected)"), number);
    }
}

#[tokio::test]
async fn a_route_has_its_source_address() {
    let host = FakeHost::new(Script::default()).await;
    let zone = super::zone_of("example.org", &[host.address])
        + &super::zone_of("example.com", &[host.address]);
    let world = World::new(&zone, host.address.port(), |config| {
        let mut rule = RouteRule::new("example.org".parse().unwrap(), None);
        rule.source.add("127.0.0.77".parse().unwrap());
        config.routes = vec![rule];
    })
    .await;
    for recipient in ["b@example.org", "b@example.com", "b@example.org"] {
        world.send(Letter::to(&[recipient])).await;
        world.empty().await;
    }
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    // The third message finds the connection of the first, and not that of the second.
    assert_eq!(host.callers(), [ip("127.0.0.77"), ip("127.0.0.1")]);
    assert_eq!(host.contents().len(), 3);
}
