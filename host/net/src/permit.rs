//! How many connections there may be: in total, from one address and from one network.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections. Clones share the counts.
#[derive(Clone, Debug)]
pub struct Permits {
    counts: Arc<Mutex<Counts>>,
    total: usize,
    per_address: usize,
    per_network: usize,
}

/// The right to one connection; it is given back by dropping it.
#[derive(Debug)]
#[must_use = "a dropped permit is given back at once"]
pub struct Permit {
    counts: Arc<Mutex<Counts>>,
    address: IpAddr,
    network: IpAddr,
}

/// Which limit stands against a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The server has as many connections as it may have.
    #[error("too many connections")]
    Total,
    /// This address has as many connections as it may have.
    #[error("too many connections from one address")]
    Address,
    /// This network has as many connections as it may have.
    #[error("too many connections from one network")]
    Network,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    /// Those with at least one connection, so that neither is ever larger than `total`.
    addresses: HashMap<IpAddr, usize>,
    networks: HashMap<IpAddr, usize>,
}

impl Permits {
    /// At most `total` at a time, and of them `per_address` from one IPv4 address or IPv6 /64.
    pub fn new(total: usize, per_address: usize) -> Self {
        Self { counts: Arc::default(), total, per_address, per_network: usize::MAX }
    }

    /// And at most so many from one IPv4 /24 or IPv6 /48.
    #[must_use]
    pub fn with_per_network(mut self, per_network: usize) -> Self {
        self.per_network = per_network;
        self
    }

    /// Takes a permit for a connection from this address.
    pub fn acquire(&self, address: IpAddr) -> Result<Permit, Refused> {
        let (address, network) = (prefix(address, 32, 64), prefix(address, 24, 48));
        let mut counts = lock(&self.counts);
        if counts.total >= self.total {
            return Err(Refused::Total);
        }
        if counts.addresses.get(&address).copied().unwrap_or(0) >= self.per_address {
            return Err(Refused::Address);
        }
        if counts.networks.get(&network).copied().unwrap_or(0) >= self.per_network {
            return Err(Refused::Network);
        }
        counts.total += 1;
        *counts.addresses.entry(address).or_default() += 1;
        *counts.networks.entry(network).or_default() += 1;
        Ok(Permit { counts: Arc::clone(&self.counts), address, network })
    }

    /// Permits that are out.
    pub fn in_use(&self) -> usize {
        lock(&self.counts).total
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.total = counts.total.saturating_sub(1);
        give_back(&mut counts.addresses, self.address);
        give_back(&mut counts.networks, self.network);
    }
}

fn give_back(counts: &mut HashMap<IpAddr, usize>, key: IpAddr) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// The first bits of an address. A host with IPv6 has a whole /64 to itself (RFC 4291 §2.5.4, RFC 6177 §2), so its
/// interface identifier tells nothing.
fn prefix(address: IpAddr, four: u32, six: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let rest = 128 - six;
            IpAddr::from((u128::from(address) >> rest << rest).to_be_bytes())
        }
        IpAddr::V4(address) => {
            let rest = 32 - four;
            IpAddr::from((u32::from(address) >> rest << rest).to_be_bytes())
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_bounded_in_total_and_per_address() {
        let permits = Permits::new(4, 2);
        let mut held = Vec::new();
        let mut check = |address: &str, expected: Result<(), Refused>| {
            let permit = permits.acquire(address.parse().unwrap());
            assert_eq!(
                permit.as_ref().map(|_| ()).map_err(|refused| *refused),
                expected,
                "{address}"
            );
            held.extend(permit);
        };
        check("192.0.2.1", Ok(()));
        check("::ffff:192.0.2.1", Ok(())); // the same host
        check("192.0.2.1", Err(Refused::Address));
        check("2001:db8:0:1::1", Ok(()));
        check("2001:db8:0:1:ffff::2", Ok(())); // the same /64
        check("2001:db8:0:2::1", Err(Refused::Total));
    }

    #[test]
    fn a_network_has_only_so_many() {
        let permits = Permits::new(100, 2).with_per_network(3);
        let mut held = Vec::new();
        let mut check = |address: &str, expected: Option<Refused>| {
            let permit = permits.acquire(address.parse().unwrap());
            assert_eq!(permit.as_ref().err().copied(), expected, "{address}");
            held.extend(permit);
        };
        check("192.0.2.1", None);
        check("192.0.2.1", None);
        check("192.0.2.1", Some(Refused::Address));
        check("192.0.2.2", None);
        check("192.0.2.3", Some(Refused::Network));
        check("192.0.3.1", None);
        check("2001:db8:0:1::1", None);
        check("2001:db8:0:2::1", None);
        check("2001:db8:0:3::1", None);
        check("2001:db8:0:4::1", Some(Refused::Network)); // the same /48
        check("2001:db8:1:1::1", None);
    }

    #[test]
    fn a_dropped_permit_is_free_again() {
        let permits = Permits::new(1, 1);
        let address = "192.0.2.1".parse().unwrap();
        for _ in 0..3 {
            let permit = permits.acquire(address).unwrap();
            assert_eq!(permits.acquire(address).unwrap_err(), Refused::Total);
            drop(permit);
            assert_eq!(permits.in_use(), 0);
            assert!(lock(&permits.counts).addresses.is_empty());
            assert!(lock(&permits.counts).networks.is_empty());
        }
    }
}
