//! Types for the configuration of a plugin, to be used with [`Host::config`](crate::Host::config).
//!
//! ```
//! use std::time::Duration;
//!
//! use gatepost_plugin::{config::{Addresses, Networks}, test::World};
//! use serde_json::json;
//!
//! #[derive(serde::Deserialize)]
//! #[serde(rename_all = "kebab-case", deny_unknown_fields)]
//! struct Config {
//!     #[serde(with = "gatepost_plugin::config::duration")]
//!     delay: Duration,
//!     #[serde(default)]
//!     exempt_clients: Networks,
//!     #[serde(default)]
//!     exempt_senders: Addresses,
//! }
//!
//! let world = World::new().config(json!({
//!     "delay": "5m",
//!     "exempt-clients": ["192.0.2.0/24", "2001:db8::1"],
//!     "exempt-senders": ["bob@example.org", "example.net", ".example.com"],
//! }));
//! let config: Config = world.host().config()?;
//! assert_eq!(config.delay, Duration::from_secs(300));
//! assert!(config.exempt_clients.contains([192, 0, 2, 9].into()));
//! assert!(config.exempt_senders.matches("carol@www.example.com"));
//! # Ok::<(), gatepost_plugin::Error>(())
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::{
    Deserialize, DeserializeOwned, Deserializer, Error as _, IntoDeserializer, SeqAccess, Visitor,
};

use crate::Error;
pub use crate::glob::{Captures, Glob};
use crate::tree::Node;

/// A set of networks: CIDR notation, or single addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// True if one of the networks holds the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Adds an address or a network; false if the text is neither.
    pub fn add(&mut self, text: &str) -> bool {
        let network = network(text);
        self.0.extend(network);
        network.is_some()
    }

    /// Networks that never belong to a stranger on the Internet: loopback, link-local and private
    /// use (RFC 1122, 1918, 3927, 4193, 4291).
    pub fn private() -> Self {
        Self(PRIVATE.iter().filter_map(|text| network(text)).collect())
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut networks = Self::default();
        for text in Vec::<String>::deserialize(deserializer)? {
            if !networks.add(&text) {
                return Err(D::Error::custom(
                    ["`", &text, "` is neither an address nor a network like 192.0.2.0/24"]
                        .concat(),
                ));
            }
        }
        Ok(networks)
    }
}

/// The network that holds an address, with so many leading bits: `192.0.2.0/24`.
///
/// ```
/// use gatepost_plugin::config::network_of;
///
/// assert_eq!(network_of([192, 0, 2, 77].into(), 24, 64), "192.0.2.0/24");
/// assert_eq!(network_of("2001:db8::1:2".parse()?, 24, 64), "2001:db8::/64");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
pub fn network_of(address: IpAddr, ipv4_bits: u8, ipv6_bits: u8) -> String {
    let address = address.to_canonical();
    let bits = if address.is_ipv4() { ipv4_bits.min(32) } else { ipv6_bits.min(128) };
    IpNet::new(address, bits).expect("the prefix is no longer than the address").trunc().to_string()
}

/// A set of mail addresses: `user@domain`, `domain` or `@domain` for all its users, `.domain` for
/// all users of the domain and of every domain below it, `user@` for this user anywhere. Case does
/// not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses(Vec<String>);

impl Addresses {
    /// True if one of the entries means this address.
    pub fn matches(&self, address: &str) -> bool {
        let address = address.to_ascii_lowercase();
        let (local_part, domain) = split(&address);
        self.0.iter().any(|entry| match entry.strip_suffix('@') {
            Some(user) => user == local_part,
            None if entry.contains('@') && !entry.starts_with('@') => *entry == address,
            None => domain_matches(entry, domain),
        })
    }

    /// True if one of the entries means this domain.
    pub fn matches_domain(&self, domain: &str) -> bool {
        let domain = domain.to_ascii_lowercase();
        self.0.iter().any(|entry| domain_matches(entry, &domain))
    }

    /// Adds an entry; false if the text is none.
    pub fn add(&mut self, text: &str) -> bool {
        let plausible =
            !text.trim_matches(['@', '.']).is_empty() && !text.contains([' ', '*', ',']);
        if plausible {
            self.0.push(text.to_ascii_lowercase());
        }
        plausible
    }

    /// True if there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut addresses = Self::default();
        for text in Vec::<String>::deserialize(deserializer)? {
            if !addresses.add(&text) {
                return Err(D::Error::custom(
                    ["`", &text, "` is no address: write user@domain, domain, .domain or user@"]
                        .concat(),
                ));
            }
        }
        Ok(addresses)
    }
}

/// The local part and the domain of an address; without `@` (as in `postmaster`) the domain is empty.
///
/// ```
/// assert_eq!(gatepost_plugin::config::split("\"a@b\"@example.org"), ("\"a@b\"", "example.org"));
/// ```
pub fn split(address: &str) -> (&str, &str) {
    address.rsplit_once('@').unwrap_or((address, ""))
}

fn domain_matches(entry: &str, domain: &str) -> bool {
    let entry = entry.strip_prefix('@').unwrap_or(entry);
    match entry.strip_prefix('.') {
        Some(parent) => {
            domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
        }
        None => domain == entry,
    }
}

fn network(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical())))
}

/// Serde for a list that may be written as its only element: `"a"` for `["a"]`. For
/// `#[serde(deserialize_with = "gatepost_plugin::config::one_or_more")]`.
pub fn one_or_more<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_any(OneOrMore(PhantomData))
}

struct OneOrMore<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMore<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        T::deserialize(text.into_deserializer()).map(|one| vec![one])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = list.next_element()? {
            all.push(one);
        }
        Ok(all)
    }
}

/// Serde for a [`Duration`](std::time::Duration): a number with a unit (`90s`, `5m`, `4h`, `36d`,
/// `2w`), several of them (`1h30m`), or a plain number of seconds.
pub mod duration {
    use std::fmt;
    use std::time::Duration;

    use serde::de::{Deserializer, Error, Visitor};

    /// Reads a duration: for `#[serde(with = "gatepost_plugin::config::duration")]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(Text)
    }

    struct Text;

    impl Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration like \"90s\", \"5m\", \"4h\" or \"36d\"")
        }

        fn visit_u64<E: Error>(self, seconds: u64) -> Result<Duration, E> {
            Ok(Duration::from_secs(seconds))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            super::parse_duration(text)
                .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
        }
    }
}

/// Serde for a number of octets: a number with a unit (`64 KiB`, `10MiB`, `1 MB`), or a plain number.
pub mod size {
    use std::fmt;

    use serde::de::{Deserializer, Error, Visitor};

    /// Reads a size: for `#[serde(with = "gatepost_plugin::config::size")]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(Text)
    }

    struct Text;

    impl Visitor<'_> for Text {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size like \"64 KiB\" or \"10 MiB\"")
        }

        fn visit_u64<E: Error>(self, octets: u64) -> Result<u64, E> {
            Ok(octets)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            super::parse_size(text)
                .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
        }
    }
}

/// Octets as people write them: `10 MiB`, `64KiB`, `1 MB`, `512`; none for anything else.
///
/// ```
/// assert_eq!(gatepost_plugin::config::parse_size("10 MiB"), Some(10 << 20));
/// ```
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text.get(..digits)?.parse().ok()?;
    let unit = match text.get(digits..)?.trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// A duration as people write it: `90s`, `5m`, `1h30m`; none for anything else, a bare number too.
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(gatepost_plugin::config::parse_duration("1h30m"), Some(Duration::from_secs(5_400)));
/// ```
pub fn parse_duration(text: &str) -> Option<std::time::Duration> {
    let mut rest = text.trim();
    let mut seconds = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let unit = match rest.as_bytes().get(digits)? {
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(unit)?)?;
        rest = rest.get(digits + 1..)?.trim_start();
    }
    (!text.trim().is_empty()).then(|| std::time::Duration::from_secs(seconds))
}

/// Reads the table; the error begins with the path of the key at fault.
pub(crate) fn read<T: DeserializeOwned>(json: &str) -> Result<T, Error> {
    let node = Node::parse(json).ok_or("the host's JSON cannot be read")?;
    T::deserialize(&node).map_err(|fault| Error::new(fault.tell()))
}

const PRIVATE: [&str; 8] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Addresses, Networks, parse_duration, parse_size, read};

    #[test]
    fn durations_have_units() {
        check("5m", Some(300));
        check("1h30m", Some(5_400));
        check("1h 30m", Some(5_400));
        check("36d", Some(3_110_400));
        check("2w", Some(1_209_600));
        check("0s", Some(0));
        check("5", None);
        check("", None);
        check("5 m", None);
        check("-5m", None);
        check("5min", None);
        check("99999999999999999999s", None);

        fn check(text: &str, seconds: Option<u64>) {
            assert_eq!(parse_duration(text), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn sizes_have_units() {
        check("512", Some(512));
        check("64 KiB", Some(65_536));
        check("10MiB", Some(10 << 20));
        check("1 MB", Some(1_000_000));
        check("1 GiB", Some(1 << 30));
        check("1 mib", None);
        check("", None);
        check("-1", None);
        check("99999999999 GiB", None);

        fn check(text: &str, octets: Option<u64>) {
            assert_eq!(parse_size(text), octets, "{text:?}");
        }
    }

    #[test]
    fn an_entry_means_an_address_a_domain_or_all_below_it() {
        check("bob@example.org", "Bob@EXAMPLE.org", true);
        check("bob@example.org", "rob@example.org", false);
        check("example.org", "bob@example.org", true);
        check("@example.org", "bob@example.org", true);
        check("example.org", "bob@www.example.org", false);
        check(".example.org", "bob@www.example.org", true);
        check(".example.org", "bob@example.org", true);
        check(".example.org", "bob@badexample.org", false);
        check("abuse@", "abuse@example.net", true);
        check("abuse@", "abuser@example.net", false);
        check("example.org", "postmaster", false);

        fn check(entry: &str, address: &str, expected: bool) {
            let set: Addresses = read(&format!("[\"{entry}\"]")).unwrap();
            assert_eq!(set.matches(address), expected, "{entry} {address}");
        }
    }

    #[test]
    fn networks_hold_addresses_of_their_family_and_mapped_ones() {
        check("192.0.2.0/24", "192.0.2.255", true);
        check("192.0.2.0/24", "::ffff:192.0.2.1", true);
        check("192.0.2.0/24", "192.0.3.1", false);
        check("192.0.2.1", "192.0.2.1", true);
        check("2001:db8::/32", "2001:db8:1::1", true);
        check("2001:db8::/32", "192.0.2.1", false);

        fn check(network: &str, address: &str, expected: bool) {
            let set: Networks = read(&format!("[\"{network}\"]")).unwrap();
            assert_eq!(set.contains(address.parse().unwrap()), expected, "{network} {address}");
        }
    }

    #[test]
    fn a_list_of_one_may_be_written_without_brackets() {
        #[derive(Debug, serde::Deserialize)]
        struct Lists {
            #[serde(deserialize_with = "super::one_or_more")]
            names: Vec<String>,
        }

        let names = |json| read::<Lists>(json).map(|lists| lists.names.join("+"));
        assert_eq!(names(r#"{"names":"a"}"#).unwrap(), "a");
        assert_eq!(names(r#"{"names":["a","b"]}"#).unwrap(), "a+b");
        let error = names(r#"{"names":1}"#).unwrap_err().to_string();
        assert_eq!(error, "`names`: invalid type: integer `1`, expected a text or a list of texts");
    }

    #[test]
    fn a_fault_names_its_key() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only the errors are looked at")]
        struct Outer {
            inner: Vec<Inner>,
        }
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only the errors are looked at")]
        struct Inner {
            #[serde(default)]
            networks: Networks,
            #[serde(with = "super::duration")]
            delay: Duration,
        }

        check(
            r#"{"inner":[{"delay":"5x"}]}"#,
            "`inner[0].delay`: invalid value: string \"5x\", expected a duration like",
        );
        check(r#"{"inner":[{"delay":"5m"},{}]}"#, "`inner[1]`: missing field `delay`");
        check(
            r#"{"inner":[{"deley":"5m"}]}"#,
            "`inner[0].deley`: unknown field `deley`, expected `networks` or `delay`",
        );
        check(
            r#"{"inner":[{"networks":["10.0.0.0/33"]}]}"#,
            "`inner[0].networks`: `10.0.0.0/33` is neither an address",
        );
        check("{}", "missing field `inner`");

        fn check(json: &str, expected: &str) {
            let error = read::<Outer>(json).unwrap_err().to_string();
            assert!(error.starts_with(expected) && !error.contains("column"), "{error}");
        }
    }
}
