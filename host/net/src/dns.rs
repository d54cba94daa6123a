//! The questions that mail asks of the DNS, over a trait, so that a test can be the whole DNS.
//!
//! [`Resolver`] is what other rooms hold: it follows RFC 5321 §5.1 and RFC 7505 for mail exchangers and verifies
//! reverse names. What answers its queries is a [`Dns`]: hickory towards real servers, [`Zone`] in tests.

mod hickory;
mod hosts;
mod zone;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, select};
use smtp::Domain;

pub use hosts::Hosts;
pub use zone::{Zone, ZoneError};

/// Something that answers DNS queries.
pub trait Dns: Send + Sync + 'static {
    /// Looks one type of one name up. The name is taken as absolute, with or without the final dot.
    fn lookup(&self, name: &str, kind: Kind) -> BoxFuture<'_, Result<Answer, DnsError>>;
}

/// A record type that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// IPv4 address (RFC 1035 §3.4.1).
    A,
    /// IPv6 address (RFC 3596 §2.1).
    Aaaa,
    /// Mail exchanger (RFC 1035 §3.3.9).
    Mx,
    /// Text (RFC 1035 §3.3.14).
    Txt,
    /// Pointer, for reverse names (RFC 1035 §3.3.12).
    Ptr,
    /// Name server (RFC 1035 §3.3.11).
    Ns,
    /// Service location (RFC 2782).
    Srv,
    /// Alias (RFC 1035 §3.3.1).
    Cname,
}

/// What the DNS said. A name or a type that does not exist is an answer too: one without records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The records of the type asked for, aliases followed.
    pub records: Vec<Record>,
    /// The name itself does not exist (RFC 1035 §4.1.1, RCODE 3).
    pub nxdomain: bool,
    /// How long the answer holds.
    pub ttl: Duration,
}

/// The data of one record. Names are in lower case and without the final dot; the root is ".".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// IPv4 address.
    A(Ipv4Addr),
    /// IPv6 address.
    Aaaa(Ipv6Addr),
    /// Mail exchanger.
    Mx {
        /// The lower, the sooner it is tried.
        preference: u16,
        /// Name of the host; "." in a null MX (RFC 7505).
        exchange: String,
    },
    /// Text; the strings of one record joined without a gap, as RFC 7208 §3.3 wants them.
    Txt(Vec<u8>),
    /// The name that a PTR, NS or CNAME record holds.
    Name(String),
    /// Service location.
    Srv {
        /// The lower, the sooner it is tried.
        priority: u16,
        /// Share among targets of the same priority.
        weight: u16,
        /// Port of the service.
        port: u16,
        /// Name of the host; "." where the service is not available.
        target: String,
    },
}

/// Why there is no answer. All of these may be different the next time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// No server answered in time.
    #[error("no DNS server answered in time")]
    Timeout,
    /// The servers could not answer: SERVFAIL, REFUSED, unreachable.
    #[error("the DNS server failed: {0}")]
    Servfail(String),
    /// The query could not be asked: not a domain name, or no usable configuration. Asking again does not help.
    #[error("not a DNS query: {0}")]
    Invalid(String),
}

/// Where mail for a domain goes (RFC 5321 §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MxAnswer {
    /// Mail exchangers with their preference, the most preferred first. Exchangers of the same preference stand
    /// as the server gave them: see [`MxAnswer::spread`].
    Hosts(Vec<(u16, String)>),
    /// There is no MX record: the domain itself is the host, with preference 0.
    Implicit,
    /// The domain says that it takes no mail (RFC 7505).
    Null,
    /// The domain does not exist.
    NoSuchDomain,
}

/// Limits of a [`Resolver`].
#[derive(Clone, Debug)]
pub struct ResolverOptions {
    /// For one lookup with all its retries. A peer waits for us meanwhile, with five minutes of patience
    /// (RFC 5321 §4.5.3.2.2) and several lookups to one command.
    pub timeout: Duration,
    /// For one query to one server (RFC 1035 §7.2 suggests 2–5 s).
    pub attempt: Duration,
    /// Answers kept, positive and negative. One takes about 500 octets.
    pub cache: u64,
}

/// The resolver of a server. Cheap to clone; all clones share one cache.
#[derive(Clone)]
pub struct Resolver {
    dns: Arc<dyn Dns>,
}

impl Resolver {
    /// Asks the servers of `/etc/resolv.conf`, without its search list.
    pub fn system(options: &ResolverOptions) -> Result<Self, DnsError> {
        Ok(Self::new(hickory::Hickory::system(options)?))
    }

    /// Asks these servers, over UDP and, for long answers, TCP.
    pub fn with_servers(
        servers: &[SocketAddr],
        options: &ResolverOptions,
    ) -> Result<Self, DnsError> {
        Ok(Self::new(hickory::Hickory::with_servers(servers, options)?))
    }

    /// A DNS world from a literal.
    pub fn zone(zone: Zone) -> Self {
        Self::new(zone)
    }

    /// Anything that answers queries.
    pub fn new(dns: impl Dns) -> Self {
        Self { dns: Arc::new(dns) }
    }

    /// Puts a table of addresses before this resolver.
    #[must_use]
    pub fn with_hosts(self, hosts: Hosts) -> Self {
        if hosts.is_empty() { self } else { Self::new(hosts::Override::new(hosts, self.dns)) }
    }

    /// Looks one type of one name up. The name may have U-labels, and is taken as absolute.
    pub async fn lookup(&self, name: &str, kind: Kind) -> Result<Answer, DnsError> {
        self.dns.lookup(name, kind).await
    }

    /// The mail exchangers of a domain (RFC 5321 §5.1).
    pub async fn mx(&self, domain: &Domain) -> Result<MxAnswer, DnsError> {
        let answer = self.lookup(&domain.to_ascii(), Kind::Mx).await?;
        Ok(MxAnswer::from(answer))
    }

    /// All addresses of a host, those of IPv6 first. No address at all is `Ok` with an empty list. If only one of
    /// the two types could be had, or came in time, its addresses are the answer.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let (six, four) = self.both_families(host).await;
        let (mut found, mut failed) = (Vec::new(), None);
        for answer in [six, four] {
            match answer {
                Ok(answer) => found.extend(answer.records.iter().filter_map(Record::address)),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    /// What the DNS says of the addresses of both families; `Err` of IPv6 where nobody waited for it any more.
    async fn both_families(&self, host: &str) -> (Looked, Looked) {
        let (dns, name) = (Arc::clone(&self.dns), host.to_owned());
        // On its own, so that an answer that comes too late for this call is known to the next.
        let six = tokio::spawn(async move { dns.lookup(&name, Kind::Aaaa).await });
        let mut six = six.map(|ended| ended.unwrap_or(Err(DnsError::Timeout)));
        let four = pin!(self.lookup(host, Kind::A));
        match select(&mut six, four).await {
            // Deviation from RFC 8305 §3: here IPv4 is waited for, although IPv6 could be called at once. It is what
            // mail falls back on, and a list that lacks it costs an attempt where IPv6 leads nowhere.
            Either::Left((six, four)) => (six, four.await),
            Either::Right((four, six)) => {
                let has_some = four.as_ref().is_ok_and(|answer| !answer.records.is_empty());
                // RFC 8305 §3: addresses of IPv4 that come first wait for those of IPv6, but not long.
                let patience = if has_some { RESOLUTION_DELAY } else { Duration::MAX };
                let six = tokio::time::timeout(patience, six).await;
                (six.unwrap_or(Err(DnsError::Timeout)), four)
            }
        }
    }

    /// The names of an address that lead back to it: its PTR names, each confirmed by an address lookup
    /// (RFC 8601 §3, "iprev"). None is `Ok` with an empty list.
    pub async fn names_of(&self, address: IpAddr) -> Result<Vec<String>, DnsError> {
        let address = address.to_canonical();
        let answer = self.lookup(&reverse_name(address), Kind::Ptr).await?;
        let (mut confirmed, mut failed) = (Vec::new(), None);
        for name in answer.records.iter().filter_map(Record::name).take(MOST_REVERSE_NAMES) {
            match self.lookup(name, Kind::of(address)).await {
                Ok(answer)
                    if answer.records.iter().any(|record| record.address() == Some(address)) =>
                {
                    confirmed.push(name.to_owned());
                }
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            // Nobody is called nameless because a server was down.
            Some(error) if confirmed.is_empty() => Err(error),
            _ => Ok(confirmed),
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(15), attempt: Duration::from_secs(5), cache: 16_384 }
    }
}

impl MxAnswer {
    /// Puts exchangers of the same preference into an order that `seed` decides: the sender must spread its load
    /// over them (RFC 5321 §5.1). The same seed gives the same order.
    pub fn spread(&mut self, seed: u64) {
        let Self::Hosts(hosts) = self else { return };
        let mut state = seed;
        // Fisher–Yates within each run of equal preference.
        for group in hosts.chunk_by_mut(|a, b| a.0 == b.0) {
            for last in (1..group.len()).rev() {
                state = split_mix(state);
                let other = usize::try_from(state % (last as u64 + 1)).unwrap_or(0);
                group.swap(last, other);
            }
        }
    }
}

impl From<Answer> for MxAnswer {
    fn from(answer: Answer) -> Self {
        if answer.nxdomain {
            return Self::NoSuchDomain;
        }
        let mut hosts: Vec<(u16, String)> = Vec::new();
        for record in answer.records {
            if let Record::Mx { preference, exchange } = record {
                hosts.push((preference, exchange));
            }
        }
        if hosts.is_empty() {
            // RFC 5321 §5.1: an empty list of MXs means an implicit MX that points to the domain itself.
            return Self::Implicit;
        }
        // RFC 7505 §3: a null MX stands alone. Beside others it says nothing, and "." is no host.
        hosts.retain(|(_, exchange)| exchange != ".");
        if hosts.is_empty() {
            return Self::Null;
        }
        hosts.sort_by_key(|(preference, _)| *preference);
        Self::Hosts(hosts)
    }
}

impl Record {
    /// The address, if this is an A or AAAA record.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::A(address) => Some((*address).into()),
            Self::Aaaa(address) => Some((*address).into()),
            Self::Mx { .. } | Self::Txt(_) | Self::Name(_) | Self::Srv { .. } => None,
        }
    }

    /// The name, if this is a PTR, NS or CNAME record.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::A(_) | Self::Aaaa(_) | Self::Mx { .. } | Self::Txt(_) | Self::Srv { .. } => None,
        }
    }
}

/// Presentation form (RFC 1035 §5.1), but text without quotes, octets that are not UTF-8 replaced.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(address) => write!(f, "{address}"),
            Self::Aaaa(address) => write!(f, "{address}"),
            Self::Mx { preference, exchange } => write!(f, "{preference} {exchange}"),
            Self::Txt(text) => f.write_str(&String::from_utf8_lossy(text)),
            Self::Name(name) => f.write_str(name),
            Self::Srv { priority, weight, port, target } => {
                write!(f, "{priority} {weight} {port} {target}")
            }
        }
    }
}

impl Kind {
    /// The type that holds an address of this family.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::A,
            IpAddr::V6(_) => Self::Aaaa,
        }
    }

    /// The mnemonic of the type, in upper case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Mx => "MX",
            Self::Txt => "TXT",
            Self::Ptr => "PTR",
            Self::Ns => "NS",
            Self::Srv => "SRV",
            Self::Cname => "CNAME",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = DnsError;

    fn from_str(text: &str) -> Result<Self, DnsError> {
        const ALL: [Kind; 8] =
            [Kind::A, Kind::Aaaa, Kind::Mx, Kind::Txt, Kind::Ptr, Kind::Ns, Kind::Srv, Kind::Cname];
        ALL.into_iter()
            .find(|kind| kind.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| DnsError::Invalid(format!("unknown record type {text:?}")))
    }
}

/// The name under which an address has its PTR records (RFC 1035 §3.5, RFC 3596 §2.5), without a final dot.
pub(crate) fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let mut name = String::with_capacity(72);
            for octet in address.octets().iter().rev() {
                name.push_str(&format!("{:x}.{:x}.", octet & 15, octet >> 4));
            }
            name + "ip6.arpa"
        }
    }
}

/// One form for every name: lower case, no final dot; the root is ".".
fn canonical(name: &str) -> String {
    match name.strip_suffix('.') {
        Some("") => ".".to_owned(),
        Some(rest) => rest.to_ascii_lowercase(),
        None => name.to_ascii_lowercase(),
    }
}

/// One step of SplitMix64: enough to spread load, not for secrets.
fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// PTR names that are looked at. RFC 7208 §4.6.4 sets ten for the same work.
const MOST_REVERSE_NAMES: usize = 10;

/// RFC 8305 §3: recommended.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

type Looked = Result<Answer, DnsError>;

#[cfg(test)]
mod tests;
