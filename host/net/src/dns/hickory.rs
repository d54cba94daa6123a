//! The real resolver: a caching stub on hickory, towards the servers of the system or of the configuration.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
    ServerOrderingStrategy,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Refusal, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::{Answer, Dns, DnsError, Kind, Record, ResolverOptions, canonical};

pub(super) struct Hickory {
    resolver: TokioResolver,
    timeout: Duration,
}

impl Hickory {
    pub(super) fn system(options: &ResolverOptions) -> Result<Self, DnsError> {
        let (config, _) = hickory_resolver::system_conf::read_system_conf()
            .map_err(|error| DnsError::Invalid(format!("/etc/resolv.conf: {error}")))?;
        // The search list stays behind: a mail domain is always absolute.
        let (_, _, servers) = config.into_parts();
        Self::new(servers, options)
    }

    pub(super) fn with_servers(
        servers: &[SocketAddr],
        options: &ResolverOptions,
    ) -> Result<Self, DnsError> {
        let servers = servers.iter().map(|server| {
            let connections =
                [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        Self::new(servers.collect(), options)
    }

    fn new(servers: Vec<NameServerConfig>, options: &ResolverOptions) -> Result<Self, DnsError> {
        if servers.is_empty() {
            return Err(DnsError::Invalid("no DNS server is configured".to_owned()));
        }
        let config = ResolverConfig::from_name_servers(servers);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        set_up(builder.options_mut(), options);
        let resolver = builder.build().map_err(|error| DnsError::Invalid(error.to_string()))?;
        Ok(Self { resolver, timeout: options.timeout })
    }

    async fn ask(&self, name: Name, kind: Kind) -> Result<Answer, DnsError> {
        let lookup = self.resolver.lookup(name, record_type(kind));
        match tokio::time::timeout(self.timeout, lookup).await {
            Ok(Ok(lookup)) => Ok(answer(&lookup, kind)),
            Ok(Err(error)) => no_answer(error),
            Err(_) => Err(DnsError::Timeout),
        }
    }
}

impl Dns for Hickory {
    fn lookup(&self, name: &str, kind: Kind) -> BoxFuture<'_, Result<Answer, DnsError>> {
        match absolute(name) {
            Ok(name) => self.ask(name, kind).boxed(),
            Err(error) => async move { Err(error) }.boxed(),
        }
    }
}

fn set_up(opts: &mut ResolverOpts, options: &ResolverOptions) {
    opts.timeout = options.attempt;
    opts.attempts = ATTEMPTS;
    opts.cache_size = options.cache;
    opts.positive_max_ttl = Some(LONGEST_POSITIVE);
    opts.negative_max_ttl = Some(LONGEST_NEGATIVE);
    opts.max_active_requests = MOST_ACTIVE;
    // RFC 6891: without EDNS a long TXT answer costs a second question over TCP.
    opts.edns0 = true;
    // The file /etc/hosts speaks of this machine, not of mail; `Hosts` is the table for that.
    opts.use_hosts_file = ResolveHosts::Never;
    opts.server_ordering_strategy = ServerOrderingStrategy::QueryStatistics;
}

/// The name as an absolute one, so that no search list applies.
fn absolute(name: &str) -> Result<Name, DnsError> {
    // IDNA is only for names that need it: it refuses underscores, which `_dmarc` and `_domainkey` have.
    let parsed = if name.is_ascii() { Name::from_ascii(name) } else { Name::from_utf8(name) };
    let mut name = parsed.map_err(|error| DnsError::Invalid(format!("{name:?}: {error}")))?;
    name.set_fqdn(true);
    Ok(name)
}

fn answer(lookup: &Lookup, kind: Kind) -> Answer {
    let mut ttl = u32::MAX;
    let mut records = Vec::new();
    for found in lookup.answers() {
        // Aliases stand in the same answer and bound its life as well.
        ttl = ttl.min(found.ttl);
        records.extend(record(&found.data).filter(|_| found.record_type() == record_type(kind)));
    }
    let ttl = if lookup.answers().is_empty() { 0 } else { ttl };
    Answer { records, nxdomain: false, ttl: Duration::from_secs(ttl.into()) }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the types that nobody here asks for are many, and grow"
)]
fn record(data: &RData) -> Option<Record> {
    let record = match data {
        RData::A(address) => Record::A(address.0),
        RData::AAAA(address) => Record::Aaaa(address.0),
        RData::MX(mx) => Record::Mx { preference: mx.preference, exchange: text(&mx.exchange) },
        RData::TXT(txt) => Record::Txt(txt.txt_data.concat()),
        RData::PTR(name) => Record::Name(text(name)),
        RData::NS(name) => Record::Name(text(name)),
        RData::CNAME(name) => Record::Name(text(name)),
        RData::SRV(srv) => Record::Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: text(&srv.target),
        },
        _ => return None,
    };
    Some(record)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library may fail in new ways")]
fn no_answer(error: NetError) -> Result<Answer, DnsError> {
    match error {
        NetError::Dns(Refusal::NoRecordsFound(nothing)) => Ok(Answer {
            records: Vec::new(),
            nxdomain: nothing.response_code == ResponseCode::NXDomain,
            ttl: Duration::from_secs(nothing.negative_ttl.unwrap_or(0).into()),
        }),
        NetError::Timeout => Err(DnsError::Timeout),
        other => Err(DnsError::Servfail(other.to_string())),
    }
}

fn text(name: &Name) -> String {
    canonical(&name.to_ascii())
}

fn record_type(kind: Kind) -> RecordType {
    match kind {
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
        Kind::Mx => RecordType::MX,
        Kind::Txt => RecordType::TXT,
        Kind::Ptr => RecordType::PTR,
        Kind::Ns => RecordType::NS,
        Kind::Srv => RecordType::SRV,
        Kind::Cname => RecordType::CNAME,
    }
}

/// Retries after the first query, each to the server that answers best.
const ATTEMPTS: usize = 2;

/// Queries under way over one connection; more get an error at once. A busy server asks several for each session.
const MOST_ACTIVE: usize = 1024;

/// A day: a record that was changed in error is not kept longer than an operator can wait.
const LONGEST_POSITIVE: Duration = Duration::from_secs(24 * 3600);

/// RFC 2308 §5: one to three hours work well; the lower, as the missing name is often one that was just made.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
