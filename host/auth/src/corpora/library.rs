//! The suites as mail-auth alone meets them, asked through a DNS server on loopback as it wants to be. It shows what our
//! layer is for; the counts stand in this room's README.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use mail_auth::common::headers::Writable;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::dkim::{Canonicalization, Signature};
use mail_auth::dmarc::Dmarc;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use mail_auth::hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use mail_auth::hickory_resolver::proto::rr::rdata::{A, AAAA, MX, PTR, TXT};
use mail_auth::hickory_resolver::proto::rr::{Name, RData, Record as DnsRecord, RecordType};
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{
    AuthenticatedMessage, DkimOutput, DkimResult, DmarcResult, MessageAuthenticator, SpfOutput,
    SpfResult,
};
use message::Header;
use net::{Kind, Record};
use serde_json::Value;
use tokio::net::UdpSocket;

use super::{World, json, list, runtime, suite, text};

/// A suite, what mail-auth alone meets of it, and what it has.
type Count = (&'static str, usize, usize);

#[test]
fn mail_auth_alone_is_counted() {
    let counts: Vec<Count> = [spf(), dkim(), canonical_forms(), arc(), dmarc(), records()]
        .into_iter()
        .flatten()
        .collect();
    for (name, met, all) in &counts {
        println!("corpora: mail-auth alone: {name}: {met} of {all}");
    }
    // A version that meets more makes a part of ours superfluous: then look at the table in README.md.
    assert_eq!(counts, if counts.is_empty() { Vec::new() } else { KNOWN.to_vec() });
}

/// What mail-auth 0.13.3 meets.
const KNOWN: [Count; 10] = [
    ("spf-openspf", 139, 203),
    ("spf-openspf (pyspf)", 12, 16),
    ("dkim-dkimpy", 10, 11),
    ("dkim-mail-auth", 5, 6),
    ("dkim-chasquid", 9, 11),
    ("dkim-matrix", 344, 344),
    ("dkim-canonicalisation", 37, 44),
    ("arc-valimail (validation)", 158, 171),
    ("dmarc-rfc9989", 27, 30),
    ("dmarc-records", 18, 41),
];

fn spf() -> Vec<Count> {
    let Some(folder) = suite("spf-openspf") else { return Vec::new() };
    let count = |name, file: &str| {
        let (mut met, mut all) = (0, 0);
        for scenario in list(&json(&folder.join(file))) {
            let world = super::spf::world(&scenario["zone"]);
            for case in super::spf::scenario_tests(&scenario["tests"]) {
                all += 1;
                let found = runtime().block_on(check_host(&world, case));
                met += usize::from(super::spf::conforms(&found, case));
            }
        }
        (name, met, all)
    };
    vec![
        count("spf-openspf", "cases-rfc7208.json"),
        count("spf-openspf (pyspf)", "cases-pyspf.json"),
    ]
}

async fn check_host(world: &World, case: &Value) -> crate::spf::Answer {
    let (helo, sender) = (text(case, "helo"), text(case, "mailfrom"));
    let client = text(case, "ip").parse::<IpAddr>().unwrap().to_canonical();
    let parameters = match sender {
        "" => SpfParameters::verify_ehlo(client, helo, "receiver.example"),
        _ => SpfParameters::verify_mail_from(client, helo, "receiver.example", sender),
    };
    let found = serve(world.clone()).await.verify_spf(parameters).await;
    let result = match found.result() {
        SpfResult::Pass => crate::SpfResult::Pass,
        SpfResult::Fail => crate::SpfResult::Fail,
        SpfResult::SoftFail => crate::SpfResult::SoftFail,
        SpfResult::Neutral => crate::SpfResult::Neutral,
        SpfResult::TempError => crate::SpfResult::TempError,
        SpfResult::PermError => crate::SpfResult::PermError,
        SpfResult::None => crate::SpfResult::None,
    };
    let explanation = found.explanation().map(str::to_owned);
    crate::spf::Answer { result, explanation, problem: None }
}

fn dkim() -> Vec<Count> {
    let mut counts = Vec::new();
    for name in ["dkim-dkimpy", "dkim-mail-auth", "dkim-chasquid", "dkim-matrix"] {
        let Some(folder) = suite(name) else { continue };
        let cases = json(&folder.join("cases.json"));
        let met = list(&cases).iter().filter(|case| is_verified(&folder, case)).count();
        counts.push((name, met, list(&cases).len()));
    }
    counts
}

fn is_verified(folder: &Path, case: &Value) -> bool {
    let content = fs::read(folder.join(text(case, "file"))).unwrap();
    let content = if text(case, "eol") == "lf" { message::with_crlf(&content) } else { content };
    let dns = match case["dns"].as_str() {
        Some(file) => json(&folder.join(file)),
        None => case["dns"].clone(),
    };
    let found: Vec<&str> = runtime().block_on(async {
        let library = serve(World::of_keys(&dns)).await;
        let Some(message) = AuthenticatedMessage::parse(&content) else { return Vec::new() };
        let found = library.verify_dkim(&message).await;
        found.iter().map(|one| word(one.result())).collect()
    });
    super::dkim::conforms(folder, case, &found)
}

/// As the suites put results into classes.
fn word(result: &DkimResult) -> &'static str {
    match result {
        DkimResult::Pass => "pass",
        DkimResult::Fail(_) => "fail",
        // What it calls neutral is mostly a body that was changed, or a signature that has expired.
        DkimResult::Neutral(mail_auth::Error::Dkim(
            mail_auth::dkim::DkimError::FailedBodyHashMatch,
        )) => "fail",
        DkimResult::Neutral(_) | DkimResult::PermError(_) => "permerror",
        DkimResult::TempError(_) => "temperror",
        DkimResult::None => "none",
    }
}

fn canonical_forms() -> Vec<Count> {
    let Some(folder) = suite("dkim-canonicalisation") else { return Vec::new() };
    let (mut met, mut all) = (0, 0);
    let forms = [(Canonicalization::Simple, "simple"), (Canonicalization::Relaxed, "relaxed")];
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(number) = name.strip_prefix("email.") else { continue };
        let content = message::with_crlf(&fs::read(folder.join(&name)).unwrap());
        for (form, word) in forms {
            let expected = fs::read(folder.join(format!("{word}.expected.{number}"))).unwrap();
            let (header, body) = canonical(form, &content);
            all += 1;
            let found = [header, b"\r\n".to_vec(), body].concat();
            met += usize::from(found == message::with_crlf(&expected));
        }
    }
    let example = json(&folder.join("rfc6376.json"));
    for (form, word) in forms {
        let (header, body) = canonical(form, text(&example, "input").as_bytes());
        let wanted = |part: &str| text(&example, &format!("{word}_{part}")).as_bytes().to_vec();
        all += 1;
        met += usize::from((header, body) == (wanted("header"), wanted("body")));
    }
    vec![("dkim-canonicalisation", met, all)]
}

fn canonical(form: Canonicalization, content: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let parsed = Header::parse(content.to_vec());
    let (mut header, mut body) = (Vec::new(), Vec::new());
    let fields = parsed.fields().filter_map(|field| {
        let colon = field.raw().iter().position(|octet| *octet == b':')?;
        Some((&field.raw()[..colon], &field.raw()[colon + 1..]))
    });
    form.canonicalize_headers(fields, &mut header);
    let offset = usize::try_from(parsed.body_offset()).unwrap();
    form.canonical_body(&content[offset..], 0).write(&mut body);
    (header, body)
}

fn arc() -> Vec<Count> {
    let Some(folder) = suite("arc-valimail") else { return Vec::new() };
    let (mut met, mut all) = (0, 0);
    for scenario in list(&json(&folder.join("validation.json"))) {
        for case in list(&scenario["tests"]) {
            let content = message::with_crlf(text(case, "message").as_bytes());
            let found = runtime().block_on(async {
                let library = serve(World::of_keys(&scenario["dns"])).await;
                let Some(message) = AuthenticatedMessage::parse(&content) else { return "none" };
                match library.verify_arc(&message).await.result() {
                    DkimResult::Pass => "pass",
                    DkimResult::None => "none",
                    _ => "fail",
                }
            });
            let wanted = text(case, "cv").to_ascii_lowercase();
            all += 1;
            met += usize::from(wanted.is_empty() || wanted == found);
        }
    }
    vec![("arc-valimail (validation)", met, all)]
}

fn dmarc() -> Vec<Count> {
    let Some(folder) = suite("dmarc-rfc9989") else { return Vec::new() };
    let cases = json(&folder.join("cases.json"));
    let met = list(&cases).iter().filter(|case| runtime().block_on(is_decided(case))).count();
    vec![("dmarc-rfc9989", met, list(&cases).len())]
}

/// Of what the suite asks it tells result and policy; the other facts are not held against it.
async fn is_decided(case: &Value) -> bool {
    let library = serve(super::dmarc::world(&case["zone"])).await;
    let input = &case["input"];
    let content = format!("From: {}\r\n\r\n", text(input, "headerFrom"));
    let message = AuthenticatedMessage::parse(content.as_bytes()).unwrap();
    let signatures: Vec<Signature> = list(&input["dkimDomains"])
        .iter()
        .map(|one| Signature { d: text(one, "domain").to_owned(), ..Signature::default() })
        .collect();
    let dkim: Vec<DkimOutput<'_>> =
        signatures.iter().map(|one| DkimOutput::pass().with_signature(one)).collect();
    let sender = list(&input["spfDomains"]).last().map_or("", |one| text(one, "domain"));
    let result = if sender.is_empty() { SpfResult::None } else { SpfResult::Pass };
    let spf = SpfOutput::new(sender.to_owned()).with_result(result);
    let found = library.verify_dmarc(DmarcParameters::new(&message, &dkim, sender, &spf)).await;
    let result = match found.result() {
        DmarcResult::Pass => "pass",
        DmarcResult::Fail(_) => "fail",
        DmarcResult::TempError(_) => "temperror",
        DmarcResult::PermError(_) => "permerror",
        DmarcResult::None => "none",
    };
    list(&case["expect"]).iter().all(|wanted| match text(wanted, "field") {
        "result" => wanted["value"] == result,
        "policy" => wanted["value"] == found.policy().to_string(),
        _ => true,
    })
}

fn records() -> Vec<Count> {
    let Some(folder) = suite("dmarc-records") else { return Vec::new() };
    let cases = json(&folder.join("records.json"));
    let is_met =
        |case: &&Value| case["valid"] == Dmarc::parse(text(case, "record").as_bytes()).is_ok();
    vec![("dmarc-records", list(&cases).iter().filter(is_met).count(), list(&cases).len())]
}

/// A server for this world on loopback, and the library asking it. The server lives as long as the runtime.
async fn serve(world: World) -> MessageAuthenticator {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut server = NameServerConfig::udp(IpAddr::from(Ipv4Addr::LOCALHOST));
    server.connections[0].port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut question = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut question).await {
            let Ok(question) = Message::from_vec(&question[..length]) else { continue };
            let reply = reply(&world, &question).to_vec().unwrap();
            socket.send_to(&reply, peer).await.unwrap();
        }
    });
    let mut options = ResolverOpts::default();
    options.timeout = Duration::from_secs(2);
    options.attempts = 1;
    let config = ResolverConfig::from_name_servers(vec![server]);
    MessageAuthenticator::new(config, options).unwrap()
}

fn reply(world: &World, question: &Message) -> Message {
    let mut reply = Message::response(question.metadata.id, OpCode::Query);
    reply.metadata.recursion_available = true;
    reply.metadata.recursion_desired = true;
    let Some(query) = question.queries.first() else { return reply };
    reply.add_query(query.clone());
    let kind = match query.query_type() {
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::MX => Kind::Mx,
        RecordType::TXT => Kind::Txt,
        RecordType::PTR => Kind::Ptr,
        _ => return reply,
    };
    // Any octets may stand in a name; ours are text.
    let name: Vec<String> =
        query.name().iter().map(|label| String::from_utf8_lossy(label).into_owned()).collect();
    match world.answer(&name.join("."), kind) {
        Ok(answer) => {
            if answer.nxdomain {
                reply.metadata.response_code = ResponseCode::NXDomain;
            }
            let data = answer.records.iter().filter_map(data);
            reply.add_answers(
                data.map(|data| DnsRecord::from_rdata(query.name().clone(), 60, data)),
            );
        }
        Err(_) => reply.metadata.response_code = ResponseCode::ServFail,
    }
    reply
}

fn data(record: &Record) -> Option<RData> {
    let name = |name: &str| Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).ok();
    Some(match record {
        Record::A(address) => RData::A(A(*address)),
        Record::Aaaa(address) => RData::AAAA(AAAA(*address)),
        Record::Mx { preference, exchange } => RData::MX(MX::new(*preference, name(exchange)?)),
        Record::Txt(text) => RData::TXT(TXT::from_bytes(text.chunks(255).collect())),
        Record::Name(target) => RData::PTR(PTR(name(target)?)),
        _ => return None,
    })
}
