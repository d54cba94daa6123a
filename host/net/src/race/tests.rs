use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn families_take_turns() {
    fn check(given: &str, expected: &str) {
        let list = |text: &str| text.split_whitespace().map(ip).collect::<Vec<_>>();
        assert_eq!(interleave(list(given)), list(expected), "{given}");
    }
    check("", "");
    check("192.0.2.1", "192.0.2.1");
    check("2001:db8::1 2001:db8::2 192.0.2.1", "2001:db8::1 192.0.2.1 2001:db8::2");
    check("192.0.2.1 192.0.2.2 2001:db8::1", "192.0.2.1 2001:db8::1 192.0.2.2");
    check("2001:db8::1 192.0.2.1 192.0.2.2", "2001:db8::1 192.0.2.1 192.0.2.2");
}

/// A listener whose queue is full: the system answers no further SYN, as in a black hole.
struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    async fn at(address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let socket =
            if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(Ok(stream)) =
            timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            queued.push(stream);
        }
        Self { address, _listener: listener, _queued: queued }
    }
}

async fn host_at(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    host_at("127.0.0.1:0").await.1
}

fn patient() -> Dialing {
    Dialing::new(Duration::from_secs(60))
}

#[tokio::test]
async fn a_black_hole_of_one_family_costs_a_head_start() {
    let hole = BlackHole::at("[::1]:0").await;
    let (_listener, host) = host_at("127.0.0.1:0").await;
    let started = Instant::now();
    let connected = connect(&[hole.address, host], &patient()).await.unwrap();
    assert_eq!(connected.address, host);
    assert_eq!(connected.passed, [hole.address]);
    let took = started.elapsed();
    assert!(took >= HEAD_START, "{took:?}");
    println!("answered by the other family after {took:?}");
    assert!(took < patient().limit / 2, "{took:?}");
}

#[tokio::test]
async fn an_address_that_fails_at_once_costs_no_head_start() {
    let (_listener, host) = host_at("127.0.0.1:0").await;
    let dialing = Dialing { head_start: Duration::from_secs(3600), ..patient() };
    let nobody = nobody().await;
    let connected = connect(&[nobody, host], &dialing).await.unwrap();
    assert_eq!((connected.address, connected.passed), (host, vec![nobody]));
}

#[tokio::test]
async fn the_first_address_is_used_when_it_answers() {
    let (listener, host) = host_at("127.0.0.1:0").await;
    let (other, second) = host_at("127.0.0.2:0").await;
    let dialing = Dialing { head_start: Duration::from_secs(3600), ..patient() };
    let connected = connect(&[host, second], &dialing).await.unwrap();
    assert_eq!(connected.address, host);
    assert_eq!(connected.passed, []);
    drop(connected.stream);
    assert!(listener.accept().await.is_ok());
    let called = timeout(Duration::from_millis(50), other.accept()).await;
    assert!(called.is_err(), "the second address was called");
}

#[tokio::test]
async fn every_failure_is_told() {
    let hole = BlackHole::at("127.0.0.1:0").await;
    let nobody = nobody().await;
    let dialing = Dialing::new(Duration::from_millis(100));
    let unreachable = connect(&[hole.address, nobody], &dialing).await.unwrap_err();
    let failed: Vec<SocketAddr> = unreachable.failures.iter().map(|failure| failure.0).collect();
    assert_eq!(failed, [hole.address, nobody]);
    let words = unreachable.to_string();
    assert!(words.contains("no answer in 0.1 s") && words.contains("refused"), "{words}");
}

#[tokio::test]
async fn connections_come_from_the_address_that_was_asked_for() {
    let (listener, host) = host_at("127.0.0.1:0").await;
    let mut dialing = patient();
    assert!(dialing.source.add(ip("127.0.0.77")));
    assert!(!dialing.source.add(ip("127.0.0.78")), "one of a family");
    let six = "[::1]:9".parse().unwrap();
    let connected = connect(&[six, host], &dialing).await.unwrap();
    assert_eq!(connected.passed, [], "the other family is not called");
    assert_eq!(listener.accept().await.unwrap().1.ip(), ip("127.0.0.77"));
    let unreachable = connect(&[six], &dialing).await.unwrap_err();
    assert!(unreachable.to_string().contains("none of its addresses"), "{unreachable}");
    dialing.source.v4 = Some([192, 0, 2, 1].into());
    let unreachable = connect(&[host], &dialing).await.unwrap_err();
    assert!(unreachable.to_string().contains("cannot send from 192.0.2.1"), "{unreachable}");
}
