//! One function for each section of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use inbound::{LoginLimits, Secret, SendAs};
use ipnet::IpNet;
use policy::trace::JournalConfig;
use smtp::sasl::ScramVerifier;
use smtp::{Domain, Route};

use super::addresses::{domain, door, list, srs};
use super::authentication::{DkimKey, authentication, dkim, dmarc_reports};
use super::reader::Reader;
use super::value::{ByteSize, Text};
use super::{
    Address, Admin, Config, Delivery, Dns, Limits, Listener, LocalDomain, Log, Login, Logins,
    Queue, Role, RouteRule, Table, TableKind, Tls, Trace, User, plugins,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// The whole file. `None` if something that has no default is missing; the faults say what.
pub(super) fn read(root: &Reader<'_>, file: &Path) -> Option<Config> {
    let hostname = root.require::<Text<Domain>>("hostname");
    let data = root.get_or("data", PathBuf::from("var"));
    let listeners: Vec<Listener> =
        root.tables("listener").into_iter().filter_map(listener).collect();
    let tables: Vec<Table> = root.tables("table").into_iter().filter_map(table).collect();
    let credentials = credentials(root);
    let domains: Vec<LocalDomain> = root.tables("domain").into_iter().filter_map(domain).collect();
    let keys: Vec<DkimKey> = root.tables("dkim").into_iter().filter_map(dkim).collect();
    let name = hostname.as_ref().map_or_else(String::new, |name| name.0.to_string());
    let dmarc_reports = dmarc_reports(root.table("dmarc-reports"), &name, &keys);
    let config = Config {
        file: file.to_owned(),
        hostname: name,
        log: log(root.table("log")),
        tls: tls(root.table("tls")),
        limits: limits(root.table("limits")),
        door: door(root.table("door")),
        lists: root.tables("list").into_iter().filter_map(list).collect(),
        srs: srs(root, &domains, &data),
        domains,
        users: root.tables("user").into_iter().filter_map(user).collect(),
        logins: logins(root.table("logins"), &data),
        authentication: authentication(root.table("authentication"), &keys),
        dkim: keys,
        dmarc_reports,
        relay_from: relay(root.table("relay")),
        routes: root
            .tables("route")
            .into_iter()
            .filter_map(|rule| route(rule, &credentials))
            .collect(),
        dns: dns(root.table("dns")),
        queue: queue(root.table("queue")),
        delivery: delivery(root.table("delivery")),
        plugins: root
            .tables("plugin")
            .into_iter()
            .filter_map(|entry| plugins::plugin(entry, &tables))
            .collect(),
        policy: plugins::room(root.table("policy")),
        trace: trace(root.table("trace")),
        admin: admin(root.table("admin"), &data),
        listeners,
        tables,
        credentials,
        data,
    };
    unique(root, "listener", config.listeners.iter().map(|listener| listener.name.as_str()));
    unique(root, "plugin", config.plugins.iter().map(|plugin| plugin.name.as_str()));
    unique(root, "table", config.tables.iter().map(|table| table.name.as_str()));
    unique(root, "domain", config.domains.iter().map(|domain| domain.name.as_str()));
    unique(root, "user", config.users.iter().map(|user| user.name.as_str()));
    same_ways(root, &config.routes);
    root.report_unknown();
    Some(config)
}

fn log(section: Option<Reader<'_>>) -> Log {
    let mut log = Log { level: "info".to_owned(), json: false };
    let Some(section) = section else { return log };
    log.level = section.get_or("level", log.level);
    log.json = section.choice("format", &[("text", false), ("json", true)], false);
    section.finish();
    log
}

fn listener(section: Reader<'_>) -> Option<Listener> {
    let name = section.require::<String>("name");
    let roles = [
        ("mx", Role::Mx),
        ("submission", Role::Submission),
        ("submissions", Role::Submissions),
        ("lmtp", Role::Lmtp),
    ];
    if section.get::<String>("role").is_none() {
        section.fault_here("the key \"role\" is missing: mx, submission, submissions or lmtp");
    }
    let role = section.choice("role", &roles, Role::Mx);
    let address = section.require::<String>("address").and_then(|text| address(&section, &text));
    if let (Some(Address::Unix(_)), false) = (&address, role == Role::Lmtp) {
        section
            .fault("address", "only a listener of the role \"lmtp\" can listen on a Unix socket");
    }
    let proxy_from = networks(&section, "proxy-from");
    section.finish();
    let (name, address) = (name?, address?);
    Some(Listener { name, role, address, proxy_from })
}

fn address(section: &Reader<'_>, text: &str) -> Option<Address> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Some(Address::Unix(path.into()));
    }
    let parsed = text.parse::<SocketAddr>();
    if parsed.is_err() {
        let message = format!(
            "\"{text}\" is neither an address with a port, as in \"127.0.0.1:25\", nor \"unix:PATH\""
        );
        section.fault("address", message);
    }
    parsed.ok().map(Address::Tcp)
}

fn tls(section: Option<Reader<'_>>) -> Tls {
    let Some(section) = section else { return Tls::SelfSigned };
    let files = section.tables("certificates").into_iter().filter_map(|entry| {
        let pair = (entry.require::<PathBuf>("file"), entry.require::<PathBuf>("key"));
        entry.finish();
        pair.0.zip(pair.1)
    });
    let files: Vec<_> = files.collect();
    let self_signed = section.get_or("self-signed", files.is_empty());
    match (self_signed, files.is_empty()) {
        (true, false) => section.fault("self-signed", "either this or certificates, not both"),
        (false, true) => section.fault_here("give certificates, or say self-signed = true"),
        (true, true) | (false, false) => {}
    }
    section.finish();
    if files.is_empty() { Tls::SelfSigned } else { Tls::Files(files) }
}

fn limits(section: Option<Reader<'_>>) -> Limits {
    let mut limits = Limits {
        connections: 2_000,
        connections_per_address: 50,
        connections_per_network: None,
        message: 50 << 20,
        recipients: 1_000,
        header: 256 << 10,
        errors: 20,
        commands: 1_000,
        command_timeout: 5 * MINUTE,
        drain: 30 * SECOND,
        memory: None,
    };
    let Some(section) = section else { return limits };
    limits.connections = section.get_or("connections", limits.connections);
    limits.connections_per_address =
        section.get_or("connections-per-address", limits.connections_per_address);
    limits.connections_per_network = section.get("connections-per-network");
    limits.message = section.get_or("message", ByteSize(limits.message)).0;
    limits.recipients = section.get_or("recipients", limits.recipients);
    limits.header = section.get_or("header", ByteSize(limits.header)).0;
    limits.errors = section.get_or("errors", limits.errors);
    limits.commands = section.get_or("commands", limits.commands);
    limits.command_timeout = section.get_or("command-timeout", limits.command_timeout);
    limits.drain = section.get_or("drain", limits.drain);
    limits.memory = section.get::<ByteSize>("memory").map(|size| size.0);
    if limits.memory.is_some_and(|octets| octets < 16 << 20) {
        section.fault("memory", "with less than 16 MiB no mail would ever be taken");
    }
    if limits.recipients == 0 {
        section.fault("recipients", "a message has at least one recipient");
    }
    if limits.message < 65_536 {
        // RFC 5321 §4.5.3.1.7: 64K octets are the least that a server must take.
        section.fault("message", "RFC 5321 §4.5.3.1.7 asks for 64 KiB at least");
    }
    section.finish();
    limits
}

fn user(section: Reader<'_>) -> Option<User> {
    let (name, password) = (section.require("name"), section.require::<Text<Secret>>("password"));
    let scram = section.get::<Text<ScramVerifier>>("scram").map(|verifier| verifier.0);
    let may_send_as = section.get_or("may-send-as", Vec::<Text<SendAs>>::new());
    section.finish();
    let may_send_as = may_send_as.into_iter().map(|pattern| pattern.0).collect();
    Some(User { name: name?, password: password?.0, scram, may_send_as })
}

/// The users' file holds nothing but users.
pub(super) fn users(root: &Reader<'_>) -> Vec<User> {
    let users = root.tables("user").into_iter().filter_map(user).collect();
    root.report_unknown();
    users
}

fn logins(section: Option<Reader<'_>>, data: &Path) -> Logins {
    let mut logins =
        Logins { file: data.join("users.toml"), dovecot: None, limits: LoginLimits::default() };
    let Some(section) = section else { return logins };
    logins.file = section.get_or("file", logins.file);
    logins.dovecot = section.get("dovecot");
    let limits = &mut logins.limits;
    limits.per_address = section.get_or("failures-per-address", limits.per_address);
    limits.per_network = section.get_or("failures-per-network", limits.per_network);
    limits.per_user = section.get_or("failures-per-user", limits.per_user);
    limits.period = section.get_or("failure-period", limits.period);
    for (key, count) in [
        ("failures-per-address", limits.per_address),
        ("failures-per-network", limits.per_network),
        ("failures-per-user", limits.per_user),
    ] {
        if count == 0 {
            section.fault(key, "without a failure allowed nobody can log in");
        }
    }
    section.finish();
    logins
}

fn relay(section: Option<Reader<'_>>) -> Vec<IpNet> {
    let Some(section) = section else { return Vec::new() };
    let from = networks(&section, "from");
    if from.iter().any(|net| net.prefix_len() == 0) {
        section.fault("from", "a network that holds everybody makes an open relay");
    }
    section.finish();
    from
}

fn route(section: Reader<'_>, credentials: &BTreeMap<String, Login>) -> Option<RouteRule> {
    let to = section.require::<String>("to");
    if let Some(text) = &to {
        let domain = text.strip_prefix('.').unwrap_or(text);
        if domain != "*" && domain.parse::<Domain>().is_err() {
            section.fault(
                "to",
                format!("\"{text}\" is neither a domain, nor \".parent.domain\", nor \"*\""),
            );
        }
    }
    let via = section.get::<Text<Route>>("via").map(|route| route.0);
    if let Some(Route::Host { credentials: Some(name), .. }) = &via
        && !credentials.contains_key(name)
    {
        section.fault("via", format!("there is no [credentials.{name}]"));
    }
    let mut source = net::Source::default();
    for Text(address) in section.get_or("source", Vec::<Text<IpAddr>>::new()) {
        if !source.add(address) {
            section.fault("source", "one address of each family is enough: IPv4, IPv6 or both");
        }
    }
    let rate = section.get::<Text<delivery::Rate>>("rate").map(|rate| rate.0);
    section.finish();
    Some(RouteRule { to: to?.to_ascii_lowercase(), via, source, rate })
}

/// One host is called in one way: routes with the same next hop may not differ.
fn same_ways(root: &Reader<'_>, routes: &[RouteRule]) {
    for (index, rule) in routes.iter().enumerate() {
        let same = routes[..index].iter().find(|other| rule.via.is_some() && other.via == rule.via);
        if same.is_some_and(|other| (other.source, other.rate) != (rule.source, rule.rate)) {
            root.fault(
                "route",
                format!(
                    "\"{}\": another route has the same via with another source or rate",
                    rule.to
                ),
            );
        }
    }
}

fn credentials(root: &Reader<'_>) -> BTreeMap<String, Login> {
    let logins = root.named_tables("credentials").into_iter().filter_map(|(name, section)| {
        let user = section.require::<String>("user");
        let file = section.get::<PathBuf>("password-file");
        let password = match (section.get::<String>("password"), &file) {
            (Some(_), Some(_)) => {
                section.fault("password", "either this or password-file, not both");
                None
            }
            (Some(password), None) => Some(password),
            (None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(text) => Some(text.trim_end().to_owned()),
                Err(error) => {
                    section
                        .fault("password-file", format!("can't read {}: {error}", path.display()));
                    None
                }
            },
            (None, None) => {
                section.fault_here("give password or password-file");
                None
            }
        };
        section.finish();
        Some((name, Login { user: user?, password: password? }))
    });
    logins.collect()
}

fn dns(section: Option<Reader<'_>>) -> Dns {
    let mut dns = Dns { servers: Vec::new(), timeout: 5 * SECOND, hosts: BTreeMap::new() };
    let Some(section) = section else { return dns };
    dns.servers = section.get_or("servers", Vec::new());
    dns.timeout = section.get_or("timeout", dns.timeout);
    let hosts: Vec<(String, Vec<Text<IpAddr>>)> = section.map("hosts");
    let plain = hosts
        .into_iter()
        .map(|(name, all)| (name, all.into_iter().map(|address| address.0).collect()));
    dns.hosts = plain.collect();
    section.finish();
    dns
}

fn queue(section: Option<Reader<'_>>) -> Queue {
    let limits = queue::Limits::default();
    let mut queue = Queue {
        first_retry: 5 * MINUTE,
        retry_factor: 2.0,
        longest_retry: 4 * HOUR,
        expire: 5 * DAY,
        delay_notice: 4 * HOUR,
        schedules: Vec::new(),
        max_messages: limits.messages,
        max_octets: limits.octets,
        max_messages_per_sender: limits.sender_messages,
        max_octets_per_sender: limits.sender_octets,
        free_space: limits.free_octets,
        free_inodes: limits.free_inodes,
        hold: false,
    };
    let Some(section) = section else { return queue };
    let general = schedule(&section, &schedule_of(&queue));
    queue.first_retry = general.first;
    queue.retry_factor = general.factor;
    queue.longest_retry = general.longest;
    queue.expire = general.max_age;
    queue.delay_notice = general.delay_notice_after.unwrap_or(queue.delay_notice);
    queue.schedules =
        section.tables("schedule").into_iter().filter_map(|one| domains(one, &general)).collect();
    queue.hold = section.get_or("hold", queue.hold);
    queue.max_messages = section.get_or("max-messages", queue.max_messages);
    queue.max_octets = section.get_or("max-octets", ByteSize(queue.max_octets)).0;
    queue.max_messages_per_sender =
        section.get_or("max-messages-per-sender", queue.max_messages_per_sender);
    queue.max_octets_per_sender =
        section.get_or("max-octets-per-sender", ByteSize(queue.max_octets_per_sender)).0;
    queue.free_space = section.get_or("free-space", ByteSize(queue.free_space)).0;
    queue.free_inodes = section.get_or("free-inodes", queue.free_inodes);
    if queue.max_messages == 0 || queue.max_messages_per_sender == 0 {
        section.fault_here("a queue that may hold nothing takes no mail");
    }
    section.finish();
    queue
}

/// The schedule that a section describes, as the queue wants it.
pub(crate) fn schedule_of(queue: &Queue) -> queue::ScheduleConfig {
    queue::ScheduleConfig {
        first: queue.first_retry,
        factor: queue.retry_factor,
        longest: queue.longest_retry,
        max_age: queue.expire,
        delay_notice_after: Some(queue.delay_notice),
        ..queue::ScheduleConfig::default()
    }
}

/// `[[queue.schedule]]`: what is absent is as in `[queue]`.
fn domains(
    section: Reader<'_>,
    general: &queue::ScheduleConfig,
) -> Option<(String, queue::ScheduleConfig)> {
    let to = section.require::<String>("to");
    let schedule = schedule(&section, general);
    section.finish();
    Some((to?.to_ascii_lowercase(), schedule))
}

/// The five keys of a schedule.
fn schedule(section: &Reader<'_>, general: &queue::ScheduleConfig) -> queue::ScheduleConfig {
    let first = section.get_or("first-retry", general.first);
    let schedule = queue::ScheduleConfig {
        first,
        factor: section.get_or("retry-factor", general.factor),
        longest: section.get_or("longest-retry", general.longest.max(first)),
        max_age: section.get_or("expire", general.max_age),
        delay_notice_after: section.get("delay-notice").or(general.delay_notice_after),
        ..general.clone()
    };
    if schedule.factor < 1.0 {
        section.fault(
            "retry-factor",
            "below 1 the waits would shrink until every attempt follows the last at once",
        );
    }
    if first.is_zero() {
        section.fault("first-retry", "without a wait the queue would try without end");
    }
    if schedule.longest < first {
        section.fault("longest-retry", "this is shorter than first-retry");
    }
    schedule
}

fn delivery(section: Option<Reader<'_>>) -> Delivery {
    let mut delivery = Delivery {
        port: 25,
        connections_per_destination: 10,
        messages_per_connection: 100,
        idle_connection: 5 * SECOND,
    };
    let Some(section) = section else { return delivery };
    delivery.port = section.get_or("port", delivery.port);
    delivery.connections_per_destination =
        section.get_or("connections-per-destination", delivery.connections_per_destination);
    delivery.messages_per_connection =
        section.get_or("messages-per-connection", delivery.messages_per_connection);
    delivery.idle_connection = section.get_or("idle-connection", delivery.idle_connection);
    if delivery.connections_per_destination == 0 {
        section.fault("connections-per-destination", "without a connection nothing is delivered");
    }
    if delivery.messages_per_connection == 0 {
        section.fault("messages-per-connection", "without a message a connection is of no use");
    }
    section.finish();
    delivery
}

fn table(section: Reader<'_>) -> Option<Table> {
    let kinds = [
        ("exact", TableKind::Exact),
        ("cidr", TableKind::Cidr),
        ("address", TableKind::Address),
        ("domain", TableKind::Domain),
    ];
    let (name, file) = (section.require("name"), section.require::<PathBuf>("file"));
    let kind = section.choice("kind", &kinds, TableKind::Exact);
    if let Some(path) = file.as_ref().filter(|path| !path.is_file()) {
        section.fault("file", format!("there is no file {}", path.display()));
    }
    section.finish();
    Some(Table { name: name?, file: file?, kind })
}

fn trace(section: Option<Reader<'_>>) -> Trace {
    let default = JournalConfig::new("");
    let mut trace = Trace { keep: default.keep, size: default.keep_octets };
    let Some(section) = section else { return trace };
    trace.keep = section.get_or("keep", trace.keep);
    if trace.keep < HOUR {
        section.fault(
            "keep",
            "an hour at least: a refusal is asked about when its sender has read it",
        );
    }
    trace.size = section.get_or("size", ByteSize(trace.size)).0;
    if trace.size < JournalConfig::SMALLEST {
        let least = JournalConfig::SMALLEST >> 20;
        section.fault("size", format!("{least} MiB at least: a busy hour has to fit in"));
    }
    section.finish();
    trace
}

fn admin(section: Option<Reader<'_>>, data: &Path) -> Admin {
    let socket = data.join("admin.sock");
    let Some(section) = section else { return Admin { socket, http: None } };
    let admin = Admin { socket: section.get_or("socket", socket), http: section.get("http") };
    section.finish();
    admin
}

pub(super) fn networks(section: &Reader<'_>, key: &'static str) -> Vec<IpNet> {
    let texts: Vec<String> = section.get_or(key, Vec::new());
    let parsed = texts.iter().filter_map(|text| {
        let single = text.parse::<IpAddr>().map(IpNet::from).ok();
        let network = single.or_else(|| text.parse().ok());
        if network.is_none() {
            section.fault(
                key,
                format!("\"{text}\" is not a network, as in \"192.0.2.0/24\" or \"2001:db8::/32\""),
            );
        }
        network
    });
    parsed.collect()
}

fn unique<'a>(root: &Reader<'_>, key: &'static str, names: impl Iterator<Item = &'a str>) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            root.fault(key, format!("the name \"{name}\" stands twice"));
        }
    }
}
