//! Domain names as tags and addresses have them, in the one form in which they are compared and looked up.

use std::net::IpAddr;

use smtp::Domain;

/// The name in lower case and A-labels, without a final dot. `None` if it is no name of at least one label: labels have
/// letters, digits, hyphens and underscores (DKIM and DMARC publish under underscores), 63 octets each, 253 in all
/// (RFC 1035 §2.3.4).
pub(crate) fn canonical(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let name = if name.is_ascii() {
        name.to_ascii_lowercase()
    } else {
        // RFC 8616 §2: U-labels are looked up as A-labels.
        name.parse::<Domain>().ok()?.to_ascii().to_ascii_lowercase()
    };
    let valid = name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|octet| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
        });
    valid.then_some(name)
}

/// Whether `name` is `parent` or lies below it. Both are canonical.
pub(crate) fn is_within(name: &str, parent: &str) -> bool {
    name == parent || name.strip_suffix(parent).is_some_and(|front| front.ends_with('.'))
}

/// The name without its first label.
pub(crate) fn parent(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, parent)| parent)
}

/// The name under which an address has its PTR records (RFC 1035 §3.5, RFC 3596 §2.5).
pub(crate) fn reverse(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().rev();
            nibbles.map(|octet| format!("{:x}.{:x}.", octet & 15, octet >> 4)).collect::<String>()
                + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(canonical(name).as_deref(), expected, "{name}");
        };
        check("Example.ORG.", Some("example.org"));
        check("bücher.example", Some("xn--bcher-kva.example"));
        check("_dmarc.example", Some("_dmarc.example"));
        check("", None);
        check(".", None);
        check("a..b", None);
        check("legitimate.com(.attacker.com", None);
        check("legitimate.com'a.attack.com", None);
        check("nul\0.attack.com", None);
        check(&"a".repeat(64), None);
        check(&["abc"; 64].join("."), None);
    }

    #[test]
    fn a_name_lies_within_itself_and_its_parents_only() {
        assert!(is_within("a.example", "a.example"));
        assert!(is_within("b.a.example", "a.example"));
        assert!(!is_within("ba.example", "a.example"));
        assert!(!is_within("example", "a.example"));
    }
}
