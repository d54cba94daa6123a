//! From the checked configuration to what each room takes, and to what people read about it.

pub(crate) mod authentication;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use auth::srs::{Forwarder, Srs};
use inbound::{Directory, ListenerConfig, MailboxRefusal, Users};
use net::tls::{CertifiedFiles, self_signed};
use net::{Hosts, Resolver, ResolverOptions};
use policy::{BreakerState, DnsGrant, LoadError, PluginConfig, PluginInfo, TableSource};
use serde_json::{Value, json};
use smtp::client::ClientCredentials;
use smtp::{LocalDelivery, LocalDomain, LocalDomains, Route};

use crate::bundled;
use crate::config::{self, Address, Component, Config, OnError, Role, TableKind, Tls};

/// The domains whose mailboxes are here.
pub(crate) fn local_domains(config: &Config) -> Result<LocalDomains> {
    let domains = config.domains.iter().map(|domain| {
        Ok(LocalDomain {
            name: domain.name.clone(),
            users: domain.users.clone(),
            catch_all: domain.catch_all.clone(),
            aliases: domain.aliases.clone(),
            lists: domain.lists.clone(),
            quota: domain.quota.clone(),
            delivery: local_delivery(domain)?,
            subaddress: domain.subaddress,
        })
    });
    Ok(LocalDomains::new(domains.collect::<Result<_>>()?))
}

fn local_delivery(domain: &config::LocalDomain) -> Result<LocalDelivery> {
    if let Some(template) = domain.deliver.strip_prefix("maildir:") {
        return Ok(LocalDelivery::Maildir { template: template.to_owned() });
    }
    match domain.deliver.parse::<Route>() {
        Ok(Route::Lmtp(address)) => Ok(LocalDelivery::Lmtp(address)),
        Ok(_) | Err(_) => {
            bail!("[[domain]] {}: deliver is neither maildir: nor lmtp:", domain.name)
        }
    }
}

/// Where mail comes in.
pub(crate) fn inbound(config: &Config, local: Arc<LocalDomains>) -> Result<inbound::Config> {
    let mut limits = inbound::Limits {
        sessions: config.limits.connections,
        sessions_per_address: config.limits.connections_per_address,
        sessions_per_network: (config.limits.connections_per_network)
            .unwrap_or(config.limits.connections_per_address.saturating_mul(4)),
        door: config.door.clone(),
        ..inbound::Limits::default()
    };
    limits.logins = config.logins.limits.clone();
    limits.content.header_octets = usize::try_from(config.limits.header).unwrap_or(usize::MAX);
    Ok(inbound::Config {
        hostname: config.hostname.clone(),
        listeners: config.listeners.iter().map(|from| listener(from, &config.limits)).collect(),
        directory: directory(config, local)?,
        authentication: authentication::authentication(config)?,
        limits,
    })
}

/// Whom the entrance knows.
pub(crate) fn directory(config: &Config, local: Arc<LocalDomains>) -> Result<Directory> {
    let users = config.users.iter().map(|user| inbound::User {
        name: user.name.clone(),
        password: user.password.clone(),
        scram: user.scram.clone(),
        may_send_as: user.may_send_as.clone(),
    });
    let users = Users::new(users, config.logins.dovecot.clone(), login_secret(config)?);
    let relay_from = config.relay_from.iter().copied().collect();
    let has_quota = |domain: &config::LocalDomain| {
        domain.quota.octets.is_some() || !domain.quota.of_users.is_empty()
    };
    let mailbox_refusal: Option<MailboxRefusal> =
        config.domains.iter().any(has_quota).then_some(delivery::quota_refusal);
    let forwarder = forwarder(config)?;
    Ok(Directory { local, users: Arc::new(users), relay_from, forwarder, mailbox_refusal })
}

/// What rewrites the reverse-paths of forwarded mail, and restores them. The secret is made at the first start.
fn forwarder(config: &Config) -> Result<Option<Arc<Forwarder>>> {
    let Some(srs) = &config.srs else { return Ok(None) };
    let place = || format!("[srs] secrets: {}", srs.file.display());
    let text = match std::fs::read_to_string(&srs.file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret: String =
                Users::new_secret().iter().map(|octet| format!("{octet:02x}")).collect();
            let text = format!("{SRS_HEAD}{secret}\n");
            write_private(&srs.file, text.as_bytes()).with_context(place)?;
            text
        }
        Err(error) => return Err(error).with_context(place),
    };
    let lines = text.lines().map(str::trim);
    let secrets = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rules = Srs::new(secrets.map(str::to_owned).collect()).with_context(place)?;
    Ok(Some(Arc::new(Forwarder::new(rules, srs.domain.clone()))))
}

const SRS_HEAD: &str = "\
# Secrets of rewritten reverse-paths, one a line. The first signs, all are believed: to replace one, put a new line above
# it, and take the old one out after four weeks. A running server sees the change.
";

/// What SCRAM answers unknown users with: made at the first start, so that it stays the same.
fn login_secret(config: &Config) -> Result<[u8; 32]> {
    let path = config.folder("login-secret");
    match std::fs::read(&path) {
        Ok(octets) => octets.try_into().map_err(|_| {
            anyhow!("{} is not 32 octets long; remove it and it is made anew", path.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = Users::new_secret();
            write_private(&path, &secret)
                .with_context(|| format!("can't write {}", path.display()))?;
            Ok(secret)
        }
        Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
    }
}

/// Writes a file that only we can read, whole or not at all.
pub(crate) fn write_private(path: &Path, octets: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    // (A temporary file is made with the permissions 0600.)
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(octets)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn listener(from: &config::Listener, limits: &config::Limits) -> ListenerConfig {
    let role = match from.role {
        Role::Mx => inbound::Role::Mx,
        Role::Submission => inbound::Role::Submission,
        Role::Submissions => inbound::Role::Submissions,
        Role::Lmtp => inbound::Role::Lmtp,
    };
    let address = match &from.address {
        Address::Tcp(address) => inbound::Address::Tcp(*address),
        Address::Unix(path) => inbound::Address::Unix(path.clone()),
    };
    let mut listener = ListenerConfig::new(&from.name, role, address);
    listener.proxy_from = from.proxy_from.iter().copied().collect();
    listener.limits.message_octets = limits.message;
    listener.limits.recipients = limits.recipients;
    listener.limits.errors = limits.errors;
    listener.limits.junk_commands = limits.commands;
    listener.limits.command_timeout = limits.command_timeout;
    listener
}

/// Where mail goes.
pub(crate) fn delivery(config: &Config, local: Arc<LocalDomains>) -> Result<delivery::Config> {
    let mut delivery = delivery::Config::new(&config.hostname);
    delivery.forwarder = forwarder(config)?;
    delivery.port = config.delivery.port;
    delivery.local = local;
    let rules = config.routes.iter().filter_map(|rule| {
        let to = rule.to.parse().ok()?;
        Some(delivery::RouteRule {
            to,
            via: rule.via.clone(),
            source: rule.source,
            rate: rule.rate,
        })
    });
    delivery.routes = rules.collect();
    let logins = config.credentials.iter().map(|(name, login)| {
        let credentials =
            ClientCredentials { user: login.user.clone(), password: login.password.clone() };
        (name.clone(), credentials)
    });
    delivery.credentials = logins.collect();
    let listeners = config.listeners.iter().filter_map(|listener| match listener.address {
        Address::Tcp(address) => Some(address),
        Address::Unix(_) => None,
    });
    delivery.listeners = listeners.collect();
    delivery.limits.connections_per_host = config.delivery.connections_per_destination;
    delivery.limits.messages_per_connection = config.delivery.messages_per_connection;
    delivery.limits.idle_connection = config.delivery.idle_connection;
    // A message that was put off because its host was down is really tried the next time.
    let first_retry = config.queue.first_retry;
    delivery.limits.down_first = delivery.limits.down_first.min(first_retry / 5);
    delivery.limits.down_longest = delivery.limits.down_longest.min(first_retry);
    delivery.greylist_retry = delivery.greylist_retry.min(first_retry);
    Ok(delivery)
}

/// The resolver: servers, timeout, and the names whose addresses the configuration gives.
pub(crate) fn resolver(config: &Config) -> Result<Resolver> {
    let options = ResolverOptions { timeout: config.dns.timeout, ..ResolverOptions::default() };
    let resolver = if config.dns.servers.is_empty() {
        Resolver::system(&options).context("[dns]: can't use the resolvers of /etc/resolv.conf")?
    } else {
        Resolver::with_servers(&config.dns.servers, &options).context("[dns] servers")?
    };
    let mut hosts = Hosts::default();
    for (name, addresses) in &config.dns.hosts {
        hosts.insert(name, addresses.iter().copied());
    }
    Ok(resolver.with_hosts(hosts))
}

/// The certificate files; a first start without any makes one.
pub(crate) fn certificates(config: &Config) -> Result<Vec<CertifiedFiles>> {
    match &config.tls {
        Tls::Files(files) => Ok(files
            .iter()
            .map(|(certificate, key)| CertifiedFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                names: Vec::new(),
            })
            .collect()),
        Tls::SelfSigned => {
            let names = [config.hostname.clone(), "localhost".to_owned()];
            Ok(vec![
                self_signed(&config.folder("tls"), &names).context("can't make a certificate")?,
            ])
        }
    }
}

/// The queue's settings.
pub(crate) fn queue(config: &Config) -> queue::Config {
    let settings = &config.queue;
    let mut queue = queue::Config::new(config.folder("queue"));
    queue.schedule = config::schedule_of(settings);
    let schedules = settings
        .schedules
        .iter()
        .map(|(to, schedule)| queue::RouteSchedule { to: to.clone(), schedule: schedule.clone() });
    queue.schedules = schedules.collect();
    queue.limits.messages = settings.max_messages;
    queue.limits.octets = settings.max_octets;
    queue.limits.sender_messages = settings.max_messages_per_sender;
    queue.limits.sender_octets = settings.max_octets_per_sender;
    queue.limits.free_octets = settings.free_space;
    queue.limits.free_inodes = settings.free_inodes;
    queue.hold = settings.hold.then(|| "configuration".to_owned());
    queue.per_destination = config.delivery.connections_per_destination;
    queue.workers = delivery::Limits::default().attempts;
    queue
}

/// The tables that plugins may look up.
pub(crate) fn tables(config: &Config) -> Vec<TableSource> {
    let sources = config.tables.iter().map(|table| TableSource {
        name: table.name.clone(),
        path: table.file.clone(),
        kind: match table.kind {
            TableKind::Exact => policy::TableKind::Exact,
            TableKind::Cidr => policy::TableKind::Cidr,
            TableKind::Address => policy::TableKind::Address,
            TableKind::Domain => policy::TableKind::Domain,
        },
    });
    sources.collect()
}

/// The plugins, in the order in which they are asked.
pub(crate) fn plugins(config: &Config) -> Vec<PluginConfig> {
    config.plugins.iter().filter(|plugin| plugin.enabled).map(plugin).collect()
}

fn plugin(from: &config::Plugin) -> PluginConfig {
    let component = match &from.component {
        Component::File(path) => policy::Component::File(path.clone()),
        Component::Bundled(name) => {
            let octets = bundled::find(name).expect("the configuration was checked");
            let label = bundled::names().find(|bundled| bundled == name).expect("it was found");
            policy::Component::Bytes(octets, label)
        }
    };
    let mut plugin = PluginConfig::new(&from.name, component);
    plugin.sha256.clone_from(&from.sha256);
    plugin.on_error = match from.on_error {
        OnError::Defer => policy::OnError::Defer,
        OnError::Pass => policy::OnError::Pass,
        OnError::Reject => policy::OnError::Reject,
    };
    plugin.grants.clone_from(&from.grants);
    plugin.breaker = from.breaker;
    plugin.limits.clone_from(&from.limits);
    plugin.config.clone_from(&from.config);
    plugin
}

/// Why plugins do not go live, with their places in the configuration.
pub(crate) fn plugin_faults(config: &Config, errors: &[LoadError]) -> Vec<String> {
    let place = |error: &LoadError| {
        let found =
            config.plugins.iter().enumerate().find(|(_, plugin)| plugin.name == error.plugin);
        let (file, what) = (config.file.display(), &error.message);
        match found {
            Some((n, plugin)) => {
                format!("{file}:{}: plugin[{n}]: {}: {what}", plugin.line, plugin.name)
            }
            None => format!("{file}: {error}"),
        }
    };
    errors.iter().map(place).collect()
}

/// A loaded plugin, for the admin socket and the welcome.
pub(crate) fn describe(plugin: &PluginInfo, breaker: &BreakerState, instances: usize) -> Value {
    let stages: Vec<&str> = plugin.stages.iter().map(|stage| stage.name()).collect();
    json!({
        "name": &*plugin.name,
        "version": &*plugin.version,
        "description": plugin.description,
        "digest": &*plugin.digest,
        "stages": stages,
        "grants": grants(plugin),
        "imports": plugin.imports,
        "size": plugin.size,
        "instances": instances,
        "breaker": {
            "open": breaker.open,
            "trips": breaker.trips,
            "last-failure": breaker.last_failure,
        },
    })
}

/// The grants as words: `kv`, `dns`, `dns:DOMAIN`, `lookup:TABLE`, `http:HOST`, `edit:KIND`; with a minus what was taken away.
pub(crate) fn grants(plugin: &PluginInfo) -> Vec<String> {
    let grants = &plugin.grants;
    let mut words = Vec::new();
    let plain = [
        (!grants.log, "-log"),
        (!grants.clock, "-clock"),
        (!grants.random, "-random"),
        (grants.metrics, "metrics"),
        (grants.kv, "kv"),
        (grants.rate_limit, "rate-limit"),
        (grants.dns == DnsGrant::All, "dns"),
        (grants.submit, "submit"),
        (grants.delay, "delay"),
        (grants.auth, "auth"),
    ];
    words.extend(plain.into_iter().filter(|(has, _)| *has).map(|(_, word)| word.to_owned()));
    if let DnsGrant::Below(domains) = &grants.dns {
        words.extend(domains.iter().map(|domain| format!("dns:{domain}")));
    }
    words.extend(grants.http.iter().map(|host| format!("http:{host}")));
    words.extend(grants.http_networks.iter().map(|network| format!("http-networks:{network}")));
    words.extend(grants.lookup.iter().map(|table| format!("lookup:{table}")));
    words.extend(grants.edit.iter().map(|kind| format!("edit:{}", kind.name())));
    words
}

/// What the server listens on, one line each.
pub(crate) fn overview(config: &Config) -> Vec<String> {
    let listeners = config.listeners.iter().map(|listener| {
        let address = match &listener.address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path) => format!("unix:{}", path.display()),
        };
        format!("  {:<14}{address:<24}{}", listener.name, purpose(listener.role))
    });
    listeners.collect()
}

/// The first TCP listener of a role.
pub(crate) fn listener_of(config: &Config, role: Role) -> Option<SocketAddr> {
    config.listeners.iter().filter(|listener| listener.role == role).find_map(|listener| {
        match listener.address {
            Address::Tcp(address) => Some(address),
            Address::Unix(_) => None,
        }
    })
}

fn purpose(role: Role) -> &'static str {
    match role {
        Role::Mx => "mail from other servers for our domains",
        Role::Submission => "mail from our users, after STARTTLS and login",
        Role::Submissions => "mail from our users, TLS at once, after login",
        Role::Lmtp => "mail from other servers over LMTP",
    }
}
