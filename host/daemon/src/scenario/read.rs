//! From the text of a scenario to what is played, or every fault at once.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use policy::authentication::{
    Arc as ArcFound, ArcResult, Dkim, DkimResult, Dmarc, DmarcPolicy, DmarcResult, Results, Spf,
    SpfResult,
};
use policy::seam::Fault as HostFault;
use policy::{Stage, TableKind, TlsInfo};
use serde_json::Value as Json;
use smtp::Domain;
use toml::de::DeValue;

use super::expect::{self, AFTER, BEFORE};
use super::{
    Attempt, End, FoundWords, Given, GivenTable, HttpResponse, HttpRule, Kept, Login, PluginTable,
    Scenario, Step, To, Visit,
};
use crate::config::plugins::{grants, plugin_limits};
use crate::config::reader::{Fault, Node, Reader, Source};
use crate::config::value::{Text, Value, to_json};
use crate::config::{self, table};

/// Reads a scenario, and the one it is based on.
///
/// # Errors
/// All faults, with file, line and key.
pub(crate) fn load(file: &Path) -> Result<Scenario, Vec<Fault>> {
    let text = read(file)?;
    let source = Source::new(file, &text);
    let own = table(&source, &text);
    let root = Reader::root(&source, own.get_ref());
    let folder = file.parent().unwrap_or(Path::new(""));
    let Some(base) = root.get::<String>("base") else {
        let scenario = scenario(file, &Pair { own: &root, base: None });
        root.finish();
        return done(scenario, vec![source.into_faults()]);
    };
    let base = folder.join(base);
    let base_text = read(&base)?;
    let base_source = Source::new(&base, &base_text);
    let base_table = table(&base_source, &base_text);
    let base_root = Reader::root(&base_source, base_table.get_ref());
    let scenario = scenario(file, &Pair { own: &root, base: Some(&base_root) });
    root.finish();
    base_root.finish();
    done(scenario, vec![source.into_faults(), base_source.into_faults()])
}

fn done(scenario: Scenario, faults: Vec<Vec<Fault>>) -> Result<Scenario, Vec<Fault>> {
    let faults: Vec<Fault> = faults.into_iter().flatten().collect();
    if faults.is_empty() { Ok(scenario) } else { Err(faults) }
}

fn read(file: &Path) -> Result<String, Vec<Fault>> {
    std::fs::read_to_string(file).map_err(|error| {
        let message = format!("can't read this file: {error}");
        vec![Fault { file: file.to_owned(), line: 1, key: String::new(), message }]
    })
}

/// A scenario, and the one whose keys stand where it has none.
struct Pair<'r, 'a> {
    own: &'r Reader<'a>,
    base: Option<&'r Reader<'a>>,
}

impl<'r, 'a> Pair<'r, 'a> {
    fn of(&self, key: &'static str) -> &'r Reader<'a> {
        let in_base = self.base.filter(|base| base.has(key));
        match in_base {
            Some(base) if !self.own.has(key) => base,
            _ => self.own,
        }
    }
}

fn scenario(file: &Path, pair: &Pair<'_, '_>) -> Scenario {
    let folder = file.parent().unwrap_or(Path::new(""));
    let domains: Vec<Text<Domain>> = pair.of("local-domains").get_or("local-domains", Vec::new());
    let clock = pair
        .of("clock")
        .get_or("clock", Moment(SystemTime::UNIX_EPOCH + Duration::from_secs(START)))
        .0;
    let given = Given {
        dns: dns(pair.of("dns")),
        kv: kept(pair.of("kv")),
        tables: tables(pair.of("table"), folder),
        http: pair
            .of("http")
            .tables("http")
            .into_iter()
            .filter_map(|rule| http(rule, folder))
            .collect(),
    };
    let plugin = plugin(pair.of("plugin").table("plugin"), &given.tables);
    let first = match pair.of("session").table("session") {
        Some(session) => {
            let visit = visit(&session, Visit::default(), folder);
            session.finish();
            visit
        }
        None => Visit::default(),
    };
    let steps = pair.of("step").tables("step");
    Scenario {
        file: file.to_owned(),
        description: pair.of("description").get("description"),
        clock,
        local_domains: domains.into_iter().map(|domain| domain.0).collect(),
        plugin,
        given,
        steps: steps.into_iter().map(|section| step(section, &first, folder)).collect(),
    }
}

fn dns(root: &Reader<'_>) -> Option<String> {
    let lines: String = root.get("dns")?;
    if let Err(error) = lines.parse::<net::Zone>() {
        root.fault("dns", error.to_string());
    }
    Some(lines)
}

fn kept(root: &Reader<'_>) -> Vec<(String, Kept)> {
    let entry = |(key, node): (String, Node<'_>)| {
        let kept = match node {
            Node::Plain(value) => Kept { value: plain_text(value).into_bytes(), ttl: None },
            Node::Table(section) => {
                let value = section.require::<String>("value").unwrap_or_default().into_bytes();
                let kept = Kept { value, ttl: section.get("ttl") };
                section.finish();
                kept
            }
            Node::List(_) => {
                root.fault(
                    "kv",
                    format!("{key}: write a text, or {{ value = \"…\", ttl = \"1h\" }}"),
                );
                return None;
            }
        };
        Some((key, kept))
    };
    root.named_nodes("kv").into_iter().filter_map(entry).collect()
}

fn tables(root: &Reader<'_>, folder: &Path) -> Vec<GivenTable> {
    let kinds = [
        ("exact", TableKind::Exact),
        ("cidr", TableKind::Cidr),
        ("address", TableKind::Address),
        ("domain", TableKind::Domain),
    ];
    let one = |(name, section): (String, Reader<'_>)| {
        let kind = section.choice("kind", &kinds, TableKind::Exact);
        let mut text = match section.get::<String>("file") {
            Some(file) => text_of(&section, "file", &folder.join(file)),
            None => String::new(),
        };
        for (key, value) in section.map::<String>("entries") {
            text.push_str(&format!("{key} {value}\n"));
        }
        if let Err(faults) = policy::Table::parse(kind, &text) {
            faults
                .iter()
                .for_each(|(line, fault)| section.fault_here(&format!("entry {line}: {fault}")));
        }
        section.finish();
        GivenTable { name, kind, text }
    };
    root.named_tables("table").into_iter().map(one).collect()
}

fn http(rule: Reader<'_>, folder: &Path) -> Option<HttpRule> {
    let url = rule.require::<String>("url");
    let body = match rule.get::<String>("answer-file") {
        Some(file) => octets_of(&rule, "answer-file", &folder.join(file)),
        None => rule.get_or("answer", String::new()).into_bytes(),
    };
    let response =
        HttpResponse { status: rule.get_or("status", 200), headers: rule.map("headers"), body };
    let answer = match rule.get::<String>("fault").as_deref() {
        None => Ok(response),
        Some("timeout") => Err(HostFault::Timeout),
        Some("unavailable") => Err(HostFault::Unavailable("connection refused".into())),
        Some(_) => {
            rule.fault("fault", "a fault is \"timeout\" or \"unavailable\"");
            return None;
        }
    };
    let (method, header, body) = (rule.get("method"), rule.map("header"), rule.get("body"));
    rule.finish();
    Some(HttpRule { method, url: url?, header, body, answer })
}

fn plugin(section: Option<Reader<'_>>, tables: &[GivenTable]) -> PluginTable {
    let tables: Vec<config::Table> = tables
        .iter()
        .map(|table| config::Table {
            name: table.name.clone(),
            file: table.name.clone().into(),
            kind: config::TableKind::Exact,
        })
        .collect();
    let empty = Json::Object(serde_json::Map::new());
    let Some(section) = section else {
        let (grants, limits) = (grants(None, &tables), plugin_limits(None));
        return PluginTable { config: empty, on_error: policy::OnError::Defer, grants, limits };
    };
    let choices = [
        ("defer", policy::OnError::Defer),
        ("pass", policy::OnError::Pass),
        ("reject", policy::OnError::Reject),
    ];
    let plugin = PluginTable {
        config: section.get_or("config", empty),
        on_error: section.choice("on-error", &choices, policy::OnError::Defer),
        grants: grants(section.table("grants"), &tables),
        limits: plugin_limits(section.table("limits")),
    };
    section.finish();
    plugin
}

/// The keys of a session, over what is there already.
fn visit(section: &Reader<'_>, from: Visit, folder: &Path) -> Visit {
    let mut visit = from;
    let texts: [(&'static str, &mut String); 3] =
        [("listener", &mut visit.listener), ("helo", &mut visit.helo), ("from", &mut visit.from)];
    for (key, place) in texts {
        if let Some(text) = section.get(key) {
            *place = text;
        }
    }
    if let Some(Endpoint(address)) = section.get("client") {
        visit.client = address;
    }
    if let Some(Endpoint(address)) = section.get("server") {
        visit.server = address;
    }
    visit.client_name = section.get("client-name").or(visit.client_name);
    visit.extended = section.get_or("extended", visit.extended);
    visit.mail_parameters = section.get("mail-parameters").or(visit.mail_parameters);
    visit.user = section.get("user").or(visit.user);
    match section.node("tls") {
        None => {}
        Some(Node::Plain(value)) if value.as_bool() == Some(false) => visit.tls = None,
        Some(Node::Plain(value)) if value.as_bool() == Some(true) => visit.tls = Some(usual_tls()),
        Some(Node::Table(table)) => visit.tls = Some(tls(table)),
        Some(_) => section.fault("tls", "write true, or { version = \"TLSv1.3\", cipher = \"…\" }"),
    }
    if let Some(table) = section.table("auth") {
        visit.auth = Some(login(table));
    }
    if let Some(to) = section.node("to") {
        visit.to = recipients(section, to);
    }
    if let Some(file) = section.get::<String>("message-file") {
        visit.message = Some(octets_of(section, "message-file", &folder.join(file)));
    }
    if let Some(text) = section.get::<String>("message") {
        visit.message = Some(text.into_bytes());
    }
    visit.end = section.choice("end", &[("quit", End::Quit), ("lost", End::Lost)], visit.end);
    if let Some(table) = section.table("authentication") {
        visit.results = Some(results(table));
    }
    visit
}

/// What most clients agree on.
pub(crate) fn usual_tls() -> TlsInfo {
    TlsInfo {
        version: "TLSv1.3".into(),
        cipher: "TLS_AES_256_GCM_SHA384".into(),
        server_name: None,
    }
}

fn tls(section: Reader<'_>) -> TlsInfo {
    let usual = usual_tls();
    let tls = TlsInfo {
        version: section.get_or("version", usual.version),
        cipher: section.get_or("cipher", usual.cipher),
        server_name: section.get("server-name"),
    };
    section.finish();
    tls
}

fn login(section: Reader<'_>) -> Login {
    let mechanisms = [("PLAIN", "PLAIN"), ("LOGIN", "LOGIN")];
    let login = Login {
        mechanism: section.choice("mechanism", &mechanisms, "PLAIN").to_owned(),
        identity: section.require("identity").unwrap_or_default(),
        password: section.get_or("password", String::new()),
    };
    section.finish();
    login
}

fn recipients(section: &Reader<'_>, node: Node<'_>) -> Vec<To> {
    let one = |node| match node {
        Node::Plain(value) => To { address: plain_text(value), parameters: String::new() },
        Node::Table(table) => {
            let to = To {
                address: table.require("address").unwrap_or_default(),
                parameters: table.get_or("parameters", String::new()),
            };
            table.finish();
            to
        }
        Node::List(_) => {
            section
                .fault("to", "a recipient is a text, or { address = \"…\", parameters = \"…\" }");
            To { address: String::new(), parameters: String::new() }
        }
    };
    match node {
        Node::List(items) => items.into_iter().map(one).collect(),
        other => vec![one(other)],
    }
}

fn step(section: Reader<'_>, first: &Visit, folder: &Path) -> Step {
    let stops = [Stage::Connect, Stage::Helo, Stage::Auth, Stage::Mail, Stage::Rcpt]
        .map(|stage| (stage.name(), Some(stage)));
    let step = Step {
        name: section.get("name"),
        fresh: section.get_or("fresh", false),
        same_session: section.get_or("same-session", false),
        after: section.get_or("after", Duration::ZERO),
        visit: visit(&section, first.clone(), folder),
        stop_after: section.choice("stop-after", &stops, None),
        expected: section.table("expect").map(|table| expect::read(table, BEFORE)),
        attempts: section.tables("attempt").into_iter().map(attempt).collect(),
    };
    section.finish();
    step
}

fn attempt(section: Reader<'_>) -> Attempt {
    let results = ["delivered", "relayed", "deferred", "failed", "expired"];
    let dsn =
        [("failure", Some("failure")), ("delay", Some("delay")), ("success", Some("success"))];
    let route = section.get::<Text<smtp::Route>>("route").map(|route| route.0.to_string());
    let attempt = Attempt {
        after: section.get_or("after", Duration::ZERO),
        recipient: section.get("recipient"),
        deliver: section.get_or("deliver", false),
        route,
        result: section
            .choice("result", &results.map(|name| (name, Some(name))), None)
            .map(str::to_owned),
        reply: section.get("reply"),
        dsn: section.choice("dsn", &dsn, None),
        expected: section.table("expect").map(|table| expect::read(table, AFTER)),
    };
    section.finish();
    attempt
}

/// `authentication`: words of RFC 8601, short or with all that belongs to them.
fn results(section: Reader<'_>) -> FoundWords {
    let spf = many(&section, "spf").into_iter().map(|one| Spf {
        outcome: word(&section, "spf", &one, SPF).unwrap_or(SpfResult::None),
        identity: text(&one, "identity").unwrap_or_else(|| "mailfrom".into()),
        domain: text(&one, "domain").unwrap_or_default(),
        explanation: text(&one, "explanation"),
    });
    let dkim = many(&section, "dkim").into_iter().map(|one| Dkim {
        outcome: word(&section, "dkim", &one, DKIM).unwrap_or(DkimResult::None),
        domain: text(&one, "domain").unwrap_or_default(),
        selector: text(&one, "selector").unwrap_or_else(|| "s1".into()),
        identity: text(&one, "identity"),
        algorithm: text(&one, "algorithm").unwrap_or_else(|| "rsa-sha256".into()),
        is_partial: one["is-partial"] == true,
        reason: text(&one, "reason"),
    });
    let dmarc = many(&section, "dmarc").into_iter().next().map(|one| {
        let outcome = word(&section, "dmarc", &one, DMARC).unwrap_or(DmarcResult::None);
        let policy = DMARC_POLICY.iter().find(|(name, _)| one["policy"] == *name);
        let passed = outcome == DmarcResult::Pass;
        Dmarc {
            outcome,
            domain: text(&one, "domain").unwrap_or_default(),
            policy: policy.map(|(_, policy)| *policy),
            is_spf_aligned: one["is-spf-aligned"].as_bool().unwrap_or(passed),
            is_dkim_aligned: one["is-dkim-aligned"].as_bool().unwrap_or(false),
        }
    });
    let arc = many(&section, "arc").into_iter().next().map(|one| ArcFound {
        outcome: word(&section, "arc", &one, ARC).unwrap_or(ArcResult::None),
        instances: one["instances"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        sealer: text(&one, "sealer"),
    });
    let results = Results { spf: spf.collect(), dkim: dkim.collect(), dmarc, arc };
    section.finish();
    FoundWords(results)
}

/// One finding or several, each a word or a table.
fn many(section: &Reader<'_>, key: &'static str) -> Vec<Json> {
    let long = |value: Json| match value {
        Json::String(word) => serde_json::json!({ "outcome": word }),
        other => other,
    };
    match section.get::<Json>(key) {
        None => Vec::new(),
        Some(Json::Array(items)) => items.into_iter().map(long).collect(),
        Some(one) => vec![long(one)],
    }
}

fn word<T: Copy>(
    section: &Reader<'_>,
    key: &'static str,
    finding: &Json,
    words: &[(&str, T)],
) -> Option<T> {
    let found = words.iter().find(|(name, _)| finding["outcome"] == *name);
    if found.is_none() {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        section.fault(key, format!("an outcome is one of {}", names.join(", ")));
    }
    found.map(|(_, value)| *value)
}

fn text(finding: &Json, key: &str) -> Option<String> {
    finding[key].as_str().map(str::to_owned)
}

fn plain_text(value: &DeValue<'_>) -> String {
    match to_json(value) {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

fn octets_of(section: &Reader<'_>, key: &'static str, path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| {
        section.fault(key, format!("can't read {}: {error}", path.display()));
        Vec::new()
    })
}

fn text_of(section: &Reader<'_>, key: &'static str, path: &Path) -> String {
    String::from_utf8_lossy(&octets_of(section, key, path)).into_owned()
}

/// An end of a connection: an address, with or without a port.
struct Endpoint(SocketAddr);

impl Value for Endpoint {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        endpoint(&String::read(value)?).map(Self)
    }
}

/// `192.0.2.1`, `2001:db8::1`, `192.0.2.1:25`, `[2001:db8::1]:25`.
pub(crate) fn endpoint(text: &str) -> Result<SocketAddr, String> {
    let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, ANY_PORT)).ok();
    alone.or_else(|| text.parse().ok()).ok_or_else(|| {
        format!("\"{text}\" is no address, as in \"192.0.2.1\" or \"[2001:db8::1]:4000\"")
    })
}

/// A point in time: RFC 3339, in UTC.
struct Moment(SystemTime);

impl Value for Moment {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        moment(&plain_text(value)).map(Self)
    }
}

/// `2026-11-22T05:00:00Z`.
pub(crate) fn moment(text: &str) -> Result<SystemTime, String> {
    let fault = || format!("\"{text}\" is no time, as in \"2026-11-22T05:00:00Z\"");
    let numbers: Vec<u64> = text
        .trim_end_matches('Z')
        .split(['-', 'T', ':', ' '])
        .map(|number| number.parse().map_err(|_| fault()))
        .collect::<Result<_, _>>()?;
    let [year, month, day, hour, minute, second] = numbers[..] else { return Err(fault()) };
    if !(1970..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return Err(fault());
    }
    // Days since the 1st of March of the year 0, so that the leap day is the last of its year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - DAYS_TO_1970;
    Ok(SystemTime::UNIX_EPOCH
        + Duration::from_secs(((days * 24 + hour) * 60 + minute) * 60 + second))
}

/// Days from the 1st of March of the year 0 to the 1st of January of 1970.
const DAYS_TO_1970: u64 = 719_468;
/// 2026-11-22T05:00:00Z.
const START: u64 = 1_795_323_600;
/// Of a client that does not say.
const ANY_PORT: u16 = 40_000;

const SPF: &[(&str, SpfResult)] = &[
    ("none", SpfResult::None),
    ("neutral", SpfResult::Neutral),
    ("pass", SpfResult::Pass),
    ("fail", SpfResult::Fail),
    ("softfail", SpfResult::SoftFail),
    ("temperror", SpfResult::TempError),
    ("permerror", SpfResult::PermError),
];
const DKIM: &[(&str, DkimResult)] = &[
    ("none", DkimResult::None),
    ("pass", DkimResult::Pass),
    ("fail", DkimResult::Fail),
    ("policy", DkimResult::Policy),
    ("neutral", DkimResult::Neutral),
    ("temperror", DkimResult::TempError),
    ("permerror", DkimResult::PermError),
];
const DMARC: &[(&str, DmarcResult)] = &[
    ("none", DmarcResult::None),
    ("pass", DmarcResult::Pass),
    ("fail", DmarcResult::Fail),
    ("temperror", DmarcResult::TempError),
    ("permerror", DmarcResult::PermError),
];
const DMARC_POLICY: &[(&str, DmarcPolicy)] = &[
    ("none", DmarcPolicy::None),
    ("quarantine", DmarcPolicy::Quarantine),
    ("reject", DmarcPolicy::Reject),
];
const ARC: &[(&str, ArcResult)] =
    &[("none", ArcResult::None), ("pass", ArcResult::Pass), ("fail", ArcResult::Fail)];
