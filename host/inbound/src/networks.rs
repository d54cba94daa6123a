//! Sets of networks: who may relay without a password, whose PROXY headers we believe.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// A set of IP networks, tested in the order they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// True when no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is the address in one of the networks? An IPv4 address that came in through an IPv6 socket
    /// (`::ffff:192.0.2.1`) is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// A text that is neither an address nor a network with a prefix length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("«{0}» is neither an IP address nor a network such as 192.0.2.0/24 or 2001:db8::/32")]
pub struct NetworkError(String);

impl FromStr for Networks {
    type Err = NetworkError;

    /// Networks apart by commas or spaces: `127.0.0.0/8, ::1`.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        text.split([',', ' '])
            .filter(|item| !item.is_empty())
            .map(parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

fn parse(item: &str) -> Result<IpNet, NetworkError> {
    item.parse::<IpNet>()
        .or_else(|_| item.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical())))
        .map_err(|_| NetworkError(item.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(networks: &str, address: &str, expected: bool) {
        let networks: Networks = networks.parse().expect("valid networks");
        assert_eq!(
            networks.contains(address.parse().unwrap()),
            expected,
            "{address} in {networks:?}"
        );
    }

    #[test]
    fn an_address_is_in_a_network_that_covers_it() {
        check("127.0.0.0/8", "127.0.0.1", true);
        check("127.0.0.0/8", "::ffff:127.0.0.1", true);
        check("127.0.0.0/8", "::1", false);
        check("127.0.0.0/8, ::1", "::1", true);
        check("192.0.2.1", "192.0.2.1", true);
        check("192.0.2.1", "192.0.2.2", false);
        check("::ffff:192.0.2.1", "192.0.2.1", true);
        check("2001:db8::/32", "2001:db8:1::5", true);
        check("", "192.0.2.1", false);
    }

    #[test]
    fn what_is_no_network_is_named() {
        for text in ["192.0.2.0/33", "example.org", "10.0.0.0/8;::1"] {
            let error = text.parse::<Networks>().expect_err(text);
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
