//! Who is counted: by the hour at the door, and for failed logins.

use std::fmt;
use std::net::IpAddr;

/// One who is counted. Written and read as two words, so that counts outlive a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// An IPv4 address, an IPv6 /64.
    Address(IpAddr),
    /// An IPv4 /24, an IPv6 /48.
    Network(IpAddr),
    /// Names are of any length: their hash does. Whoever makes two of them that have the same gains nothing: they share
    /// one count.
    User(u64),
}

impl Who {
    pub(crate) fn address(ip: IpAddr) -> Self {
        Self::Address(prefix(ip, 32, 64))
    }

    pub(crate) fn network(ip: IpAddr) -> Self {
        Self::Network(prefix(ip, 24, 48))
    }

    pub(crate) fn user(name: &str) -> Self {
        // FNV-1a: it has to be the same after a restart and an update.
        Self::User(name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
            (hash ^ u64::from(octet.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    /// Reads the two words.
    pub(crate) fn parse(kind: &str, name: &str) -> Option<Self> {
        Some(match kind {
            "address" => Self::address(name.parse().ok()?),
            "network" => Self::network(name.parse().ok()?),
            "user" => Self::User(u64::from_str_radix(name, 16).ok()?),
            _ => return None,
        })
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => write!(f, "address {ip}"),
            Self::Network(ip) => write!(f, "network {ip}"),
            Self::User(hash) => write!(f, "user {hash:016x}"),
        }
    }
}

fn prefix(ip: IpAddr, four: u8, six: u8) -> IpAddr {
    let ip = ip.to_canonical();
    let length = if ip.is_ipv4() { four } else { six };
    ipnet::IpNet::new(ip, length).map_or(ip, |network| network.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_and_one_network_are_one() {
        let check = |one: &str, other: &str| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(Who::address(one), Who::address(other));
            assert_eq!(Who::network(one), Who::network(other));
        };
        check("2001:db8::1", "2001:db8::2");
        check("::ffff:192.0.2.1", "192.0.2.1");
        let network = |ip: &str| Who::network(ip.parse().unwrap());
        assert_eq!(network("192.0.2.1"), network("192.0.2.200"));
        assert_eq!(network("2001:db8:1:2::"), network("2001:db8:1:3::"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_eq!(Who::user("ALICE"), Who::user("alice"));
        assert_ne!(Who::user("alice"), Who::user("bob"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let six: IpAddr = "2001:db8::1".parse().unwrap();
        for who in [Who::address(six), Who::network([192, 0, 2, 1].into()), Who::user("é")] {
            let text = who.to_string();
            let (kind, name) = text.split_once(' ').unwrap();
            assert_eq!(Who::parse(kind, name), Some(who));
        }
        assert_eq!(Who::parse("address", "x"), None);
        assert_eq!(Who::parse("host", "192.0.2.1"), None);
    }
}
