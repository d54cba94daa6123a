use std::net::TcpListener;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Names of hosts that the configuration grants, and where they lead.
const WORLD: &str = "\
loopback.example A 127.0.0.1\nloop-high.example A 127.255.255.254\nloop6.example AAAA ::1\n\
private10.example A 10.0.0.1\nprivate172.example A 172.16.0.1\nprivate172-end.example A 172.31.255.255\n\
private192.example A 192.168.1.1\nlink.example A 169.254.169.254\nlink6.example AAAA fe80::1\n\
shared.example A 100.64.0.1\nunspecified.example A 0.0.0.0\nthis.example A 0.1.2.3\n\
unspecified6.example AAAA ::\nbroadcast.example A 255.255.255.255\nmulticast.example A 224.0.0.1\n\
multicast6.example AAAA ff02::1\nreserved.example A 240.0.0.1\ndoc1.example A 192.0.2.1\n\
doc2.example A 198.51.100.1\ndoc3.example A 203.0.113.1\nbench.example A 198.18.0.1\n\
unique.example AAAA fd00::1\nunique-c.example AAAA fc00::1\nsite.example AAAA fec0::1\n\
doc6.example AAAA 2001:db8::1\ndoc6-new.example AAAA 3fff::1\nmapped.example AAAA ::ffff:127.0.0.1\n\
mapped10.example AAAA ::ffff:10.0.0.1\ncompat.example AAAA ::127.0.0.1\nnat64.example AAAA 64:ff9b::7f00:1\n\
nat64-local.example AAAA 64:ff9b:1::1\nsixtofour.example AAAA 2002:7f00:1::1\n\
sixtofour10.example AAAA 2002:a00:1::1\nteredo.example AAAA 2001::1\nbench6.example AAAA 2001:2::1\n\
orchid.example AAAA 2001:10::1\ndiscard.example AAAA 100::1\nas112.example A 192.31.196.1\n\
protocol.example A 192.0.0.1\nrelay6to4.example A 192.88.99.1\n";

struct Scene {
    listener: TcpListener,
    port: u16,
    resolver: Resolver,
}

impl Scene {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port, resolver: Resolver::zone(WORLD.parse().unwrap()) }
    }

    fn rules(&self, granted: &[String], networks: &[&str]) -> Rules {
        Rules {
            granted: granted.iter().map(|host| host.parse().unwrap()).collect(),
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            most_octets: 1000,
            longest: Duration::from_secs(10),
        }
    }

    async fn send(&self, rules: &Rules, url: &str) -> Result<Answer, Fault> {
        Client::default().send(&self.resolver, rules, request(url)).await
    }

    /// A connection lies in the backlog as soon as the other side is connected: this needs no patience.
    fn connections(&self) -> usize {
        std::iter::from_fn(|| self.listener.accept().ok()).count()
    }
}

fn request(url: &str) -> Request {
    Request {
        method: "GET".into(),
        url: url.into(),
        headers: Vec::new(),
        body: Bytes::new(),
        content: None,
        timeout: None,
    }
}

#[tokio::test]
async fn sixty_bad_targets_and_not_one_connection() {
    let scene = Scene::new();
    let port = scene.port;
    // Every name is granted: what stops these is the address behind it.
    let names: Vec<&str> = WORLD.lines().filter_map(|line| line.split(' ').next()).collect();
    let granted: Vec<String> = names.iter().map(|name| format!("http://{name}:{port}")).collect();
    let mut targets: Vec<String> = granted.iter().map(|url| format!("{url}/")).collect();
    // None of these is granted, or even a URL.
    let others = [
        "http://127.0.0.1:PORT/",
        "http://[::1]:PORT/",
        "http://localhost:PORT/",
        "http://0:PORT/",
        "http://127.1:PORT/",
        "http://0x7f.1:PORT/",
        "http://2130706433:PORT/",
        "http://017700000001:PORT/",
        "http://[::ffff:127.0.0.1]:PORT/",
        "http://[::ffff:7f00:1]:PORT/",
        "http://0.0.0.0:PORT/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]:PORT/",
        "http://10.0.0.1:PORT/",
        "http://loopback.example:PORT@127.0.0.1:PORT/",
        "http://user:password@loopback.example:PORT/",
        "https://loopback.example:PORT/",
        "http://loopback.example/",
        "http://other.example:PORT/",
        "ftp://loopback.example:PORT/",
        "file:///etc/passwd",
        "//127.0.0.1:PORT/",
        "127.0.0.1:PORT",
        "",
        "http://",
        "http://:PORT/",
        "http://loopback.example:0/",
        "http://loopback.example:65536/",
        "http://loopback.example\r\nHost: x/",
        "http://loop%62ack.example:PORT/",
        "unix:/run/admin.sock",
        "http://[::1%25lo]:PORT/",
        "http://loopback.example:PORT.127.0.0.1/",
    ];
    targets.extend(others.iter().map(|target| target.replace("PORT", &port.to_string())));
    assert!(targets.len() >= 60, "{}", targets.len());
    let rules = scene.rules(&granted, &[]);
    for target in &targets {
        let answer = scene.send(&rules, target).await;
        assert!(
            matches!(answer, Err(Fault::Denied(_) | Fault::Invalid(_))),
            "{target}: {answer:?}"
        );
    }
    assert_eq!(scene.connections(), 0);
    eprintln!("{} bad targets, 0 connections", targets.len());
}

#[tokio::test]
async fn public_addresses_are_no_bad_targets() {
    for (address, public) in [
        ("8.8.8.8", true),
        ("100.63.255.255", true),
        ("100.128.0.0", true),
        ("172.15.255.255", true),
        ("172.32.0.0", true),
        ("223.255.255.255", true),
        ("2001:4860:4860::8888", true),
        ("2606:4700::1", true),
        ("::ffff:8.8.8.8", true),
        ("64:ff9b::808:808", true),
        ("2002:808:808::1", true),
        ("2001:1ff:ffff::1", false),
        ("2001:200::1", true),
    ] {
        assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
    }
}

/// Answers one request with what it got.
async fn echo(listener: TcpListener, answer: &'static str) -> String {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut got = Vec::new();
    let mut piece = [0; 1000];
    while !String::from_utf8_lossy(&got).ends_with("end") {
        let octets = stream.read(&mut piece).await.unwrap();
        if octets == 0 {
            break;
        }
        got.extend_from_slice(&piece[..octets]);
        if got.starts_with(b"GET") && got.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(got).unwrap()
}

#[tokio::test]
async fn a_network_that_is_granted_is_reached() {
    let scene = Scene::new();
    let host = format!("http://loopback.example:{}", scene.port);
    let rules = scene.rules(std::slice::from_ref(&host), &["127.0.0.0/8"]);
    let Scene { listener, resolver, .. } = scene;
    let server = tokio::spawn(echo(
        listener,
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nfine\n",
    ));
    let mut request = request(&format!("{host}/path?q=1"));
    request.method = "POST".into();
    request.headers = vec![("X-Own".into(), "1".into())];
    request.body = Bytes::from_static(b"first ");
    request.content = Some(Arc::new(Bytes::from_static(b"the end")));
    let answer = Client::default().send(&resolver, &rules, request).await.unwrap();
    let Answer::Response { status, headers, body } = answer else { panic!("{answer:?}") };
    assert_eq!((status, body.as_slice()), (200, b"fine\n".as_slice()));
    assert!(headers.contains(&("x-a".into(), "b".into())), "{headers:?}");
    let got = server.await.unwrap();
    assert!(got.starts_with("POST /path?q=1 HTTP/1.1\r\n"), "{got}");
    assert!(got.contains("x-own: 1\r\n") && got.contains("content-length: 13\r\n"), "{got}");
    assert!(got.ends_with("\r\n\r\nfirst the end"), "{got}");
}

#[tokio::test]
async fn an_address_that_is_named_is_granted_and_redirects_are_not_followed() {
    let scene = Scene::new();
    let host = format!("http://127.0.0.1:{}", scene.port);
    let rules = scene.rules(std::slice::from_ref(&host), &[]);
    let Scene { listener, resolver, .. } = scene;
    let server = tokio::spawn(echo(
        listener,
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    ));
    let answer = Client::default().send(&resolver, &rules, request(&host)).await.unwrap();
    assert!(matches!(answer, Answer::Response { status: 302, .. }), "{answer:?}");
    server.await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_a_quota() {
    let scene = Scene::new();
    let host = format!("http://127.0.0.1:{}", scene.port);
    let rules = scene.rules(std::slice::from_ref(&host), &[]);
    let Scene { listener, resolver, .. } = scene;
    let long: &'static str =
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n{}", "x".repeat(2000)).leak();
    let server = tokio::spawn(echo(listener, long));
    let answer = Client::default().send(&resolver, &rules, request(&host)).await;
    assert!(matches!(answer, Err(Fault::Quota(_))), "{answer:?}");
    server.await.unwrap();
}

#[tokio::test]
async fn what_is_the_hosts_a_plugin_does_not_say() {
    let scene = Scene::new();
    let host = format!("http://127.0.0.1:{}", scene.port);
    let rules = scene.rules(std::slice::from_ref(&host), &[]);
    for (name, value) in [
        ("Host", "other"),
        ("content-length", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "x"),
        ("X\r\nY", "z"),
        ("X", "a\r\nY: b"),
        ("", "x"),
    ] {
        let mut request = request(&host);
        request.headers = vec![(name.into(), value.into())];
        let answer = Client::default().send(&scene.resolver, &rules, request).await;
        assert!(matches!(answer, Err(Fault::Invalid(_))), "{name}: {answer:?}");
    }
    let mut connect = request(&host);
    connect.method = "CONNECT".into();
    let answer = Client::default().send(&scene.resolver, &rules, connect).await;
    assert!(matches!(answer, Err(Fault::Invalid(_))), "{answer:?}");
    assert_eq!(scene.connections(), 0);
}
