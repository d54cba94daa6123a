//! A table of addresses before the DNS, like `/etc/hosts` but of the server's own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Answer, Dns, DnsError, Kind, Record, canonical};

/// Names whose addresses the configuration states. For these no server is asked about A and AAAA; all other types
/// of the name come from the DNS as before.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    table: BTreeMap<String, Vec<IpAddr>>,
}

impl Hosts {
    /// Adds addresses to a name. An empty list says that the name has none.
    pub fn insert(&mut self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        self.table.entry(canonical(name)).or_default().extend(addresses);
    }

    /// Whether no name is in the table.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    fn answer(&self, name: &str, kind: Kind) -> Option<Answer> {
        if !matches!(kind, Kind::A | Kind::Aaaa) {
            return None;
        }
        let records =
            self.table.get(&canonical(name))?.iter().filter(|address| Kind::of(**address) == kind);
        let records = records.map(|address| match address {
            IpAddr::V4(address) => Record::A(*address),
            IpAddr::V6(address) => Record::Aaaa(*address),
        });
        Some(Answer { records: records.collect(), nxdomain: false, ttl: UNTIL_RELOADED })
    }
}

impl<N: AsRef<str>, A: IntoIterator<Item = IpAddr>> FromIterator<(N, A)> for Hosts {
    fn from_iter<T: IntoIterator<Item = (N, A)>>(entries: T) -> Self {
        let mut hosts = Self::default();
        for (name, addresses) in entries {
            hosts.insert(name.as_ref(), addresses);
        }
        hosts
    }
}

/// The table, and the DNS behind it.
pub(super) struct Override {
    hosts: Hosts,
    dns: Arc<dyn Dns>,
}

impl Override {
    pub(super) fn new(hosts: Hosts, dns: Arc<dyn Dns>) -> Self {
        Self { hosts, dns }
    }
}

impl Dns for Override {
    fn lookup(&self, name: &str, kind: Kind) -> BoxFuture<'_, Result<Answer, DnsError>> {
        match self.hosts.answer(name, kind) {
            Some(answer) => async move { Ok(answer) }.boxed(),
            None => self.dns.lookup(name, kind),
        }
    }
}

/// The table does not age; who caches the answer asks again after an hour.
const UNTIL_RELOADED: Duration = Duration::from_secs(3600);
