//! The names to ask a list for (RFC 5782).

use std::net::IpAddr;

/// RFC 5782 §2.1 and §2.4: the octets of an IPv4 address, or the nibbles of an IPv6 address, from
/// the last to the first, before the zone.
pub(crate) fn of_address(address: IpAddr, zone: &str) -> String {
    use std::fmt::Write as _;
    let mut name = String::with_capacity(64 + zone.len());
    let written = match address.to_canonical() {
        IpAddr::V4(address) => {
            address.octets().iter().rev().try_for_each(|octet| write!(name, "{octet}."))
        }
        IpAddr::V6(address) => address
            .octets()
            .iter()
            .rev()
            .try_for_each(|octet| write!(name, "{:x}.{:x}.", octet & 15, octet >> 4)),
    };
    written.expect("writing to a string never fails");
    name + zone
}

/// RFC 5782 §3: a domain before the zone. None for what is no domain name of the public DNS:
/// address literals, bare host names, addresses, names too long to ask for.
pub(crate) fn of_domain(domain: &str, zone: &str) -> Option<String> {
    let domain = domain.trim_end_matches('.').to_ascii_lowercase();
    // Lists of domains count every address as listed, to show such mistakes.
    let numeric = domain
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|octet| octet.is_ascii_digit()));
    let public = domain.contains('.') && is_name(&domain) && !numeric;
    // RFC 1035 §2.3.4: 255 octets on the wire are 253 in text.
    (public && domain.len() + 1 + zone.len() <= 253).then(|| [&domain, ".", zone].concat())
}

/// RFC 1035 §2.3.1, with the underscore that is found in practice.
pub(crate) fn is_name(name: &str) -> bool {
    name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_')
    })
}

#[cfg(test)]
mod tests {
    use super::{of_address, of_domain};

    #[test]
    fn addresses_are_asked_for_backwards() {
        check("192.0.2.99", "99.2.0.192.zone.example");
        check("::ffff:192.0.2.99", "99.2.0.192.zone.example");
        // RFC 5782 §2.4: its own example.
        check(
            "2001:db8:1:2:3:4:567:89ab",
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.zone.example",
        );

        fn check(address: &str, expected: &str) {
            assert_eq!(of_address(address.parse().unwrap(), "zone.example"), expected);
        }
    }

    #[test]
    fn only_public_names_are_asked_for() {
        check("Mail.Example.NET", Some("mail.example.net.zone.example"));
        check("mail.example.net.", Some("mail.example.net.zone.example"));
        check("xn--bcher-kva.example", Some("xn--bcher-kva.example.zone.example"));
        check("localhost", None);
        check("[192.0.2.1]", None);
        check("192.0.2.1", None);
        check("bücher.example", None);
        check("a..b", None);
        check("", None);
        check(&"long.".repeat(50), None);

        fn check(domain: &str, expected: Option<&str>) {
            assert_eq!(of_domain(domain, "zone.example").as_deref(), expected, "{domain}");
        }
    }
}
