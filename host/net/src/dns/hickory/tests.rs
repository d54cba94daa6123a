use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::{MxAnswer, Resolver};

/// A DNS server of this test, on a port of its own, that answers every query by this function; an empty answer is
/// none at all. It counts the queries over UDP.
struct Scripted {
    address: SocketAddr,
    queries: Arc<AtomicUsize>,
}

impl Scripted {
    async fn start(script: fn(&[u8], bool) -> Vec<u8>) -> Self {
        // The same port for both: one is chosen for TCP, and is free for UDP but for rare chance.
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (tcp, udp);
            }
        };
        let (address, queries) = (tcp.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&queries);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, client)) = udp.recv_from(&mut buffer).await {
                counter.fetch_add(1, Ordering::SeqCst);
                let answer = script(&buffer[..length], false);
                if !answer.is_empty() {
                    let _ = udp.send_to(&answer, client).await;
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let Ok(length) = stream.read_u16().await else { continue };
                let mut query = vec![0; length.into()];
                if stream.read_exact(&mut query).await.is_ok() {
                    let answer = script(&query, true);
                    let _ = stream.write_u16(answer.len().try_into().unwrap()).await;
                    let _ = stream.write_all(&answer).await;
                }
            }
        });
        Self { address, queries }
    }

    /// With more patience than the busiest machine needs.
    fn resolver(&self) -> Resolver {
        self.resolver_within(Duration::from_secs(60), Duration::from_secs(20))
    }

    fn resolver_within(&self, timeout: Duration, attempt: Duration) -> Resolver {
        let options = ResolverOptions { timeout, attempt, cache: 100 };
        Resolver::with_servers(&[self.address], &options).unwrap()
    }
}

/// A response to the query: its header with these flags, its question, and answer records for it.
fn response(query: &[u8], flags: [u8; 2], records: &[(u16, &[u8])]) -> Vec<u8> {
    let question_end = 12 + query[12..].iter().position(|octet| *octet == 0).unwrap() + 5;
    let mut out = query[..2].to_vec();
    out.extend_from_slice(&flags);
    out.extend_from_slice(&[0, 1, 0, records.len().try_into().unwrap(), 0, 0, 0, 0]);
    out.extend_from_slice(&query[12..question_end]);
    for (kind, data) in records {
        out.extend_from_slice(&[0xC0, 12]);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 1, 0, 0, 1, 0]);
        out.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        out.extend_from_slice(data);
    }
    out
}

/// The first label of the name asked for, and the type.
fn asked(query: &[u8]) -> (String, u16) {
    let length = usize::from(query[12]);
    let label = String::from_utf8_lossy(&query[13..13 + length]).to_ascii_lowercase();
    let end = 12 + query[12..].iter().position(|octet| *octet == 0).unwrap() + 1;
    (label, u16::from_be_bytes([query[end], query[end + 1]]))
}

const FINE: [u8; 2] = [0x81, 0x80];
const NXDOMAIN: [u8; 2] = [0x81, 0x83];
const SERVFAIL: [u8; 2] = [0x81, 0x82];
const REFUSED: [u8; 2] = [0x81, 0x85];
const TRUNCATED: [u8; 2] = [0x83, 0x80];

fn script(query: &[u8], tcp: bool) -> Vec<u8> {
    match (asked(query).0.as_str(), asked(query).1) {
        ("mail", 15) => response(
            query,
            FINE,
            &[(15, b"\0\x14\x01B\x07EXAMPLE\0"), (15, b"\0\x0a\x01a\x07example\0")],
        ),
        ("null", 15) => response(query, FINE, &[(15, b"\0\0\0")]),
        ("mail" | "mixed", 1) => response(query, FINE, &[(1, &[192, 0, 2, 1])]),
        ("mixed", 28) => response(query, SERVFAIL, &[]),
        ("text", 16) => response(query, FINE, &[(16, b"\x03v=s\x02pf"), (16, b"\x01\xff")]),
        ("long", 16) if tcp => response(
            query,
            FINE,
            &[(16, &[&[255][..], &[b'x'; 255], &[255], &[b'y'; 255]].concat())],
        ),
        ("long", _) => response(query, TRUNCATED, &[]),
        ("alias", _) => response(query, FINE, &[(5, b"\x06target\x07example\0")]),
        ("gone", _) => response(query, NXDOMAIN, &[]),
        ("broken", _) => response(query, SERVFAIL, &[]),
        ("closed", _) => response(query, REFUSED, &[]),
        ("silent", _) => Vec::new(),
        ("garbage", _) => vec![0xFF; 40],
        ("pointer", _) => {
            [&response(query, FINE, &[(15, b"\0\x0a\xC0\x0C\xC0")])[..], &[0xC0; 30]].concat()
        }
        _ => response(query, FINE, &[]),
    }
}

#[tokio::test]
async fn answers_of_a_server_are_what_they_say() {
    let server = Scripted::start(script).await;
    let resolver = server.resolver();
    let hosts = MxAnswer::Hosts(vec![(10, "a.example".to_owned()), (20, "b.example".to_owned())]);
    let mx = async |name: &str| resolver.mx(&name.parse().unwrap()).await;
    assert_eq!(mx("mail.test").await, Ok(hosts));
    assert_eq!(mx("null.test").await, Ok(MxAnswer::Null));
    assert_eq!(mx("empty.test").await, Ok(MxAnswer::Implicit));
    assert_eq!(mx("gone.test").await, Ok(MxAnswer::NoSuchDomain));
    assert!(matches!(mx("broken.test").await, Err(DnsError::Servfail(_))));
    assert!(matches!(mx("closed.test").await, Err(DnsError::Servfail(_))));
    let address = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(resolver.addresses("mail.test").await, Ok(vec![address]));
    assert_eq!(resolver.addresses("mixed.test.").await, Ok(vec![address]));
    let text = resolver.lookup("text.test", Kind::Txt).await.unwrap();
    assert_eq!(text.records, [Record::Txt(b"v=spf".to_vec()), Record::Txt(b"\xff".to_vec())]);
    assert_eq!(text.ttl, Duration::from_secs(256));
    let long = resolver.lookup("long.test", Kind::Txt).await.unwrap();
    assert!(
        matches!(&long.records[..], [Record::Txt(text)] if text.len() == 510),
        "TCP after a truncated answer"
    );
    let alias = resolver.lookup("alias.test", Kind::Cname).await.unwrap();
    assert_eq!(alias.records, [Record::Name("target.example".to_owned())]);
}

#[tokio::test]
async fn an_answer_is_asked_for_once() {
    let server = Scripted::start(script).await;
    let resolver = server.resolver();
    for name in ["mail.test", "MAIL.test.", "mail.test"] {
        assert_eq!(resolver.lookup(name, Kind::Mx).await.unwrap().records.len(), 2);
    }
    assert_eq!(server.queries.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn silence_and_garbage_end_in_time() {
    let server = Scripted::start(script).await;
    let resolver = server.resolver_within(Duration::from_millis(500), Duration::from_millis(200));
    for name in ["silent.test", "garbage.test", "pointer.test"] {
        assert!(resolver.lookup(name, Kind::Mx).await.is_err(), "{name}");
    }
    // Nobody listens there.
    let options = ResolverOptions { timeout: Duration::from_secs(2), ..ResolverOptions::default() };
    let nobody = Resolver::with_servers(&["127.0.0.1:1".parse().unwrap()], &options).unwrap();
    assert!(nobody.lookup("mail.test", Kind::Mx).await.is_err());
}

#[tokio::test]
async fn names_that_cannot_be_asked_are_refused() {
    let server = Scripted::start(script).await;
    let resolver = server.resolver();
    for name in ["a b.test", "a..test", &"x".repeat(64), &"x.".repeat(200), "\u{0}", "a\r\nb"] {
        assert!(
            matches!(resolver.lookup(name, Kind::A).await, Err(DnsError::Invalid(_))),
            "{name:?}"
        );
    }
    assert!(resolver.lookup("_dmarc.under_score.test", Kind::Txt).await.is_ok());
    assert!(resolver.lookup("bücher.test", Kind::A).await.is_ok());
    assert!(matches!(
        Resolver::with_servers(&[], &ResolverOptions::default()),
        Err(DnsError::Invalid(_))
    ));
}
