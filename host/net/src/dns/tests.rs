use super::*;

const WORLD: &str = r#"
    example.net         MX     20 b.example.net
    example.net         MX     10 a.example.net.
    example.net         MX     20 C.Example.NET
    example.net         TXT    "v=spf1 " "-all"     # two strings, one record
    a.example.net       A      192.0.2.1
    a.example.net       AAAA   2001:db8::1
    alias.example       CNAME  example.net
    null.example        MX     0 .
    odd.example         MX     0 .
    odd.example         MX     10 mx.odd.example
    web.example         A      192.0.2.80
    half.example        AAAA   TIMEOUT
    half.example        A      192.0.2.2
    none.example        AAAA   TIMEOUT
    none.example        A      SERVFAIL
    empty.example       EMPTY
    broken.example      MX     SERVFAIL
    silent.example      TIMEOUT
    loop.example        CNAME  loop.example
    _sip._tcp.example   SRV    1 2 5060 sip.example
    1.2.0.192.in-addr.arpa  PTR  a.example.net
    1.2.0.192.in-addr.arpa  PTR  liar.example
    1.2.0.192.in-addr.arpa  PTR  silent.example
    2.2.0.192.in-addr.arpa  PTR  silent.example
    3.2.0.192.in-addr.arpa  PTR  web.example
    1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR a.example.net
"#;

fn resolver() -> Resolver {
    Resolver::zone(WORLD.parse().unwrap())
}

#[tokio::test]
async fn mail_exchangers_follow_rfc_5321_and_rfc_7505() {
    let resolver = resolver();
    let check = async |domain: &str, expected: Result<MxAnswer, DnsError>| {
        assert_eq!(resolver.mx(&domain.parse().unwrap()).await, expected, "{domain}");
    };
    let hosts = |names: &[(u16, &str)]| {
        Ok(MxAnswer::Hosts(
            names.iter().map(|(preference, name)| (*preference, (*name).to_owned())).collect(),
        ))
    };
    let net = [(10, "a.example.net"), (20, "b.example.net"), (20, "c.example.net")];
    check("example.net", hosts(&net)).await;
    check("alias.example", hosts(&net)).await; // RFC 5321 §5.1: the alias's target is processed
    check("web.example", Ok(MxAnswer::Implicit)).await;
    check("empty.example", Ok(MxAnswer::Implicit)).await;
    check("in-addr.arpa", Ok(MxAnswer::Implicit)).await; // RFC 8020: it has names below it
    check("null.example", Ok(MxAnswer::Null)).await;
    check("odd.example", hosts(&[(10, "mx.odd.example")])).await; // RFC 7505 §3: it must be alone
    check("nowhere.example", Ok(MxAnswer::NoSuchDomain)).await;
    check("broken.example", Err(DnsError::Servfail("SERVFAIL".to_owned()))).await;
    check("silent.example", Err(DnsError::Timeout)).await;
    check("loop.example", Err(DnsError::Servfail("too many aliases".to_owned()))).await;
}

#[tokio::test]
async fn a_host_has_the_addresses_that_could_be_had() {
    let resolver = resolver();
    let check = async |host: &str, expected: Result<&[&str], ()>| {
        let found = resolver.addresses(host).await;
        let found = found.map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(
            found.map_err(|_| ()),
            expected.map(|list| list.iter().map(ToString::to_string).collect()),
            "{host}"
        );
    };
    check("A.example.net.", Ok(&["2001:db8::1", "192.0.2.1"])).await;
    check("half.example", Ok(&["192.0.2.2"])).await;
    check("none.example", Err(())).await;
    check("nowhere.example", Ok(&[])).await;
    check("192.0.2.9", Ok(&["192.0.2.9"])).await;
}

/// A name server that takes its time, in milliseconds of virtual time, for each family.
struct Slow {
    six: u64,
    four: u64,
    asked: Arc<std::sync::atomic::AtomicUsize>,
    zone: Zone,
}

impl Dns for Slow {
    fn lookup(&self, name: &str, kind: Kind) -> BoxFuture<'_, Result<Answer, DnsError>> {
        let wait = if kind == Kind::Aaaa { self.six } else { self.four };
        let name = name.to_owned();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            self.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            self.zone.lookup(&name, kind).await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn ipv4_waits_for_ipv6_as_long_as_rfc_8305_says() {
    let check = async |host: &str, (six, four): (u64, u64), expected: &[&str], took: u64| {
        let asked = Arc::default();
        let zone = WORLD.parse().unwrap();
        let resolver = Resolver::new(Slow { six, four, asked: Arc::clone(&asked), zone });
        let began = tokio::time::Instant::now();
        let found = resolver.addresses(host).await.unwrap();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        let case = format!("{host} {six} {four}");
        assert_eq!(
            (found, began.elapsed().as_millis()),
            (expected.iter().map(ToString::to_string).collect(), took.into()),
            "{case}"
        );
        // What came too late is asked to its end: it is in the cache for the next call.
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 2, "{case}");
    };
    let both = ["2001:db8::1", "192.0.2.1"];
    check("a.example.net", (10, 10), &both, 10).await;
    check("a.example.net", (55, 10), &both, 55).await;
    check("a.example.net", (9000, 10), &["192.0.2.1"], 60).await;
    check("a.example.net", (10, 300), &both, 300).await; // what mail falls back on
    check("web.example", (100, 10), &["192.0.2.80"], 60).await;
    check("empty.example", (100, 10), &[], 100).await; // no address of IPv4: nothing to go on with
}

#[tokio::test]
async fn a_reverse_name_counts_if_it_leads_back() {
    let resolver = resolver();
    let check = async |address: &str, expected: Result<&[&str], DnsError>| {
        let found = resolver.names_of(address.parse().unwrap()).await;
        assert_eq!(
            found,
            expected.map(|names| names.iter().map(ToString::to_string).collect()),
            "{address}"
        );
    };
    check("192.0.2.1", Ok(&["a.example.net"])).await;
    check("::ffff:192.0.2.1", Ok(&["a.example.net"])).await;
    check("2001:db8::1", Ok(&["a.example.net"])).await;
    check("192.0.2.2", Err(DnsError::Timeout)).await; // a server that is down makes nobody a liar
    check("192.0.2.3", Ok(&[])).await;
    check("192.0.2.4", Ok(&[])).await;
}

#[tokio::test]
async fn the_table_of_hosts_answers_for_addresses_only() {
    let zone: Zone = WORLD.parse().unwrap();
    let hosts = Hosts::from_iter([("A.Example.net.", ["127.0.0.1".parse().unwrap()])]);
    let resolver = Resolver::zone(zone.clone()).with_hosts(hosts);
    assert_eq!(
        resolver.addresses("a.example.net").await.unwrap(),
        ["127.0.0.1".parse::<IpAddr>().unwrap()]
    );
    assert!(zone.queries().is_empty());
    assert!(resolver.lookup("a.example.net", Kind::Txt).await.unwrap().records.is_empty());
    assert_eq!(zone.queries(), [("a.example.net".to_owned(), Kind::Txt)]);
}

#[tokio::test]
async fn records_have_their_presentation_form() {
    let resolver = resolver();
    let check = async |name: &str, kind: &str, expected: &[&str]| {
        let answer = resolver.lookup(name, kind.parse().unwrap()).await.unwrap();
        let found: Vec<_> = answer.records.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{name} {kind}");
    };
    check("example.net", "txt", &["v=spf1 -all"]).await;
    check("example.net", "MX", &["20 b.example.net", "10 a.example.net", "20 c.example.net"]).await;
    check("_sip._tcp.example", "SRV", &["1 2 5060 sip.example"]).await;
    check("alias.example", "CNAME", &["example.net"]).await;
    check("null.example", "MX", &["0 ."]).await;
    assert!("AXFR".parse::<Kind>().is_err());
}

#[test]
fn a_zone_says_where_its_fault_is() {
    let check = |literal: &str, line: usize| {
        assert_eq!(literal.parse::<Zone>().unwrap_err().line, line, "{literal}");
    };
    check("example.net A", 1);
    check("\nexample.net A 192.0.2", 2);
    check("example.net MX mx.example.net", 1);
    check("example.net HINFO x", 1);
    check("example.net", 1);
}

#[test]
fn equal_preferences_are_spread_and_others_stay() {
    let host = |preference: u16, name: &str| (preference, name.to_owned());
    let hosts = vec![host(5, "a"), host(10, "b"), host(10, "c"), host(10, "d"), host(20, "e")];
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..600 {
        let mut answer = MxAnswer::Hosts(hosts.clone());
        answer.spread(seed);
        let MxAnswer::Hosts(spread) = answer else { panic!("still hosts") };
        assert_eq!(
            spread.iter().map(|(preference, _)| *preference).collect::<Vec<_>>(),
            [5, 10, 10, 10, 20]
        );
        *seen.entry(spread[1].1.clone()).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 3);
    assert!(seen.values().all(|times| (120..280).contains(times)), "{seen:?}");
}

#[test]
fn reverse_names_are_those_of_the_rfcs() {
    let check = |address: &str, expected: &str| {
        assert_eq!(reverse_name(address.parse().unwrap()), expected)
    };
    check("192.0.2.1", "1.2.0.192.in-addr.arpa");
    // RFC 3596 §2.5
    check(
        "4321:0:1:2:3:4:567:89ab",
        "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa",
    );
}
