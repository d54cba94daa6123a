//! First step of an attempt: route → hosts to try, in order.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    path::PathBuf,
};

use futures_util::future::join_all;
use net::{MxAnswer, Source};
use smtp::{AddressLiteral, Domain, Host, Reply, Route, TlsDemand, client::Dialect};

use crate::{Config, House, clock, dial::Endpoint, lmtp};

/// A host that may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its name: for logs, reports and the certificate.
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) dialect: Dialect,
    pub(crate) tls: TlsDemand,
    /// The name of the credentials to log in with.
    pub(crate) credentials: Option<String>,
    /// Which of our addresses it is called from.
    pub(crate) source: Source,
    /// As the MX record has it: hosts of the same preference may stand in for each other.
    pub(crate) preference: u16,
}

/// Where a host can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

impl Target {
    /// Sessions with the same key, at an address of this host, are as good as each other.
    pub(crate) fn key(&self) -> String {
        // Without a proof of identity it does not matter by which name a host was called.
        let name = match self.tls {
            TlsDemand::Opportunistic | TlsDemand::Require => "",
            TlsDemand::Verify | TlsDemand::Implicit => &self.name,
        };
        let credentials = self.credentials.as_deref().unwrap_or_default();
        format!("{:?} {name} {:?} {credentials} {:?}", self.dialect, self.tls, self.source)
    }

    /// True if a connection to this endpoint is one to this host.
    pub(crate) fn has(&self, endpoint: &Endpoint) -> bool {
        match (&self.place, endpoint) {
            (Place::Tcp(addresses), Endpoint::Tcp(address)) => addresses.contains(address),
            (Place::Unix(_), Endpoint::Unix) => true,
            (Place::Tcp(_), Endpoint::Unix) | (Place::Unix(_), Endpoint::Tcp(_)) => false,
        }
    }

    /// The same host under what policy demands of TLS, if that is more than the route does. What never leaves this
    /// machine needs none.
    pub(crate) fn with(self, demand: TlsDemand) -> Self {
        match self.place {
            Place::Tcp(_) => Self { tls: self.tls.max(demand), ..self },
            Place::Unix(_) => self,
        }
    }

    /// Whether delivery there is final.
    pub(crate) fn is_final(&self) -> bool {
        self.dialect == Dialect::Lmtp
    }
}

/// Hosts for a route, best first. The error is what every recipient gets: 4yz now, 5yz for good.
pub(crate) async fn resolve(house: &House, route: &Route) -> Result<Vec<Target>, Reply> {
    let source = house.routing().way(route).source;
    let targets = targets(house, route).await?;
    Ok(targets.into_iter().map(|target| Target { source, ..target }).collect())
}

async fn targets(house: &House, route: &Route) -> Result<Vec<Target>, Reply> {
    match route {
        Route::Mx(domain) => mail_exchangers(house, domain).await,
        Route::Host { host, port, tls, credentials } => {
            let target = fixed_host(house, host, *port, Dialect::Smtp).await?;
            Ok(vec![Target { tls: *tls, credentials: credentials.clone(), ..target }])
        }
        Route::Lmtp(address) => lmtp::resolve(house, address).await.map(|target| vec![target]),
        // Mailboxes and lists have no host; the worker does not come here with one.
        Route::Maildir(_) | Route::List(_) => Ok(Vec::new()),
    }
}

/// A host that the configuration or an address literal names.
pub(crate) async fn fixed_host(
    house: &House,
    host: &Host,
    port: u16,
    dialect: Dialect,
) -> Result<Target, Reply> {
    let addresses = match host {
        Host::Literal(AddressLiteral::V4(address)) => vec![IpAddr::V4(*address)],
        Host::Literal(AddressLiteral::V6(address)) => vec![IpAddr::V6(*address)],
        Host::Literal(AddressLiteral::General { .. }) => {
            return Err(Reply::new(
                550,
                "5.1.2 Nobody knows how to reach an address literal of this kind",
            ));
        }
        Host::Domain(domain) => {
            house.rooms.resolver.addresses(&domain.to_ascii()).await.map_err(|error| {
                Reply::new(451, format!("4.4.3 No answer from DNS about {domain}: {error}"))
            })?
        }
    };
    if addresses.is_empty() {
        // A name in the configuration is more likely to be repaired than its mail is to be wrong.
        return Err(Reply::new(451, format!("4.4.4 The host {host} has no address")));
    }
    let addresses: Vec<SocketAddr> = sockets(&house.config, addresses, port);
    if addresses.iter().any(|address| is_ourselves(&house.config, *address)) {
        return Err(loops_back(&host.to_string()));
    }
    let name = match host {
        Host::Domain(domain) => domain.to_ascii().into_owned(),
        Host::Literal(_) => addresses[0].ip().to_string(),
    };
    Ok(Target {
        name,
        place: Place::Tcp(addresses),
        dialect,
        tls: TlsDemand::Opportunistic,
        credentials: None,
        source: Source::default(),
        preference: 0,
    })
}

/// RFC 5321 §5.1.
async fn mail_exchangers(house: &House, domain: &Domain) -> Result<Vec<Target>, Reply> {
    let answer = house.rooms.resolver.mx(domain).await;
    let mut answer = answer.map_err(|error| {
        Reply::new(451, format!("4.4.3 No answer from DNS about {domain}: {error}"))
    })?;
    // RFC 5321 §5.1: the load is spread over hosts of the same preference.
    answer.spread(clock::random());
    let (hosts, is_implicit) = match answer {
        MxAnswer::Hosts(hosts) => (hosts, false),
        MxAnswer::Implicit => (vec![(0, domain.to_ascii().into_owned())], true),
        // RFC 7505 §4.
        MxAnswer::Null => {
            return Err(Reply::new(556, format!("5.1.10 The domain {domain} takes no mail")));
        }
        MxAnswer::NoSuchDomain => {
            return Err(Reply::new(550, format!("5.1.2 There is no domain {domain}")));
        }
    };
    let resolved = addresses_of(house, hosts).await;
    let before_us = cut_at_ourselves(house, domain, resolved)?;
    usable(domain, before_us, is_implicit)
}

/// A host of a domain and what DNS said about its addresses.
struct Exchanger {
    preference: u16,
    name: String,
    addresses: Result<Vec<SocketAddr>, net::DnsError>,
}

async fn addresses_of(house: &House, hosts: Vec<(u16, String)>) -> Vec<Exchanger> {
    let lookups =
        hosts.into_iter().take(house.config.limits.hosts).map(async |(preference, name)| {
            let addresses = house.rooms.resolver.addresses(&name).await;
            let addresses = addresses.map(|found| sockets(&house.config, found, house.config.port));
            Exchanger { preference, name, addresses }
        });
    join_all(lookups).await
}

/// RFC 5321 §5.1: if we are one of the hosts, only hosts that are preferred to us may be tried;
/// mail never goes in a circle.
fn cut_at_ourselves(
    house: &House,
    domain: &Domain,
    hosts: Vec<Exchanger>,
) -> Result<Vec<Exchanger>, Reply> {
    let ours = hosts.iter().find(|host| {
        let by_address =
            host.addresses.iter().flatten().any(|address| is_ourselves(&house.config, *address));
        by_address || host.name.eq_ignore_ascii_case(&house.config.hostname)
    });
    let Some(preference) = ours.map(|host| host.preference) else { return Ok(hosts) };
    let before: Vec<Exchanger> =
        hosts.into_iter().filter(|host| host.preference < preference).collect();
    if before.is_empty() { Err(loops_back(domain.as_str())) } else { Ok(before) }
}

/// Hosts that have an address; without any, whether that may change.
fn usable(domain: &Domain, hosts: Vec<Exchanger>, is_implicit: bool) -> Result<Vec<Target>, Reply> {
    let mut unknown = None;
    let mut targets = Vec::new();
    for host in hosts {
        match host.addresses {
            Ok(addresses) if addresses.is_empty() => {}
            Ok(addresses) => targets.push(Target {
                name: host.name,
                place: Place::Tcp(addresses),
                dialect: Dialect::Smtp,
                tls: TlsDemand::Opportunistic,
                credentials: None,
                source: Source::default(),
                preference: host.preference,
            }),
            Err(error) => {
                unknown = Some(format!("4.4.3 No answer from DNS about {}: {error}", host.name))
            }
        }
    }
    match unknown {
        _ if !targets.is_empty() => Ok(targets),
        Some(error) => Err(Reply::new(451, error)),
        None if is_implicit => {
            Err(Reply::new(550, format!("5.1.2 The domain {domain} has no MX and no address")))
        }
        // RFC 5321 §5.1: MX records that lead to no usable host are an error, and the domain itself
        // is not tried.
        None => Err(Reply::new(550, format!("5.4.4 No MX host of {domain} has an address"))),
    }
}

/// Addresses to call, in order (RFC 8305 §4).
fn sockets(config: &Config, addresses: Vec<IpAddr>, port: u16) -> Vec<SocketAddr> {
    let addresses = net::interleave(addresses).into_iter().take(config.limits.addresses);
    addresses.map(|address| SocketAddr::new(address, port)).collect()
}

fn loops_back(name: &str) -> Reply {
    Reply::new(550, format!("5.4.6 Mail for {name} would come back to this host"))
}

/// True if one of our listeners answers there.
fn is_ourselves(config: &Config, address: SocketAddr) -> bool {
    config.listeners.iter().any(|listener| {
        let same_port = listener.port() == address.port();
        same_port
            && (listener.ip() == address.ip()
                || (listener.ip().is_unspecified() && is_local(address.ip())))
    })
}

/// True if the address belongs to this machine: then the system would talk to it from that same
/// address. No packet is sent.
fn is_local(address: IpAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let probe = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((address, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    address.is_loopback() || probe().is_ok_and(|ours| ours == address)
}
