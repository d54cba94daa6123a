//! Which records a domain needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::Kind;

use crate::config::{Address, Config, Role};

/// Records that belong together.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) records: Vec<Wanted>,
}

/// A record that should be there.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// As zone files have it.
    pub(super) content: String,
    pub(super) need: Need,
}

/// How much it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// This and no other.
    Exact,
    /// One of this kind; what it says is the administrator's choice.
    Some,
    /// It is good to have.
    Optional,
}

impl Wanted {
    fn new(name: impl Into<String>, kind: Kind, content: impl Into<String>, need: Need) -> Self {
        Self { name: name.into(), kind, content: content.into(), need }
    }

    pub(super) fn line(&self) -> String {
        match self.kind {
            Kind::Txt => format!("{}. TXT \"{}\"", self.name, self.content),
            kind => format!("{}. {} {}", self.name, kind.as_str(), self.content),
        }
    }

    /// Whether a record that is there has to do with this one. Of texts those that begin with the same version are.
    pub(super) fn concerns(&self, text: &str) -> bool {
        let version = |text: &str| {
            let end = text.find([';', ' ']).unwrap_or(text.len());
            text[..end].trim().to_ascii_lowercase()
        };
        self.kind != Kind::Txt || version(text) == version(&self.content)
    }

    /// Whether a record that is there is this one.
    pub(super) fn is_met_by(&self, text: &str) -> bool {
        let squeezed = |text: &str| -> String {
            let words: Vec<&str> = text.split_whitespace().collect();
            words.join(" ").trim_end_matches(';').to_ascii_lowercase()
        };
        match self.kind {
            // Any preference will do.
            Kind::Mx => text.rsplit(' ').next() == self.content.rsplit(' ').next(),
            _ => squeezed(text) == squeezed(&self.content),
        }
    }
}

/// All of them but the keys of our signature.
pub(super) fn records(config: &Config, domain: &str, addresses: &[IpAddr]) -> Vec<Section> {
    let host = config.hostname.as_str();
    vec![
        Section {
            title: "the server: name to address, and back (RFC 5321 §4.1.4; many refuse mail without the way back)",
            records: addresses.iter().flat_map(|address| server(host, *address)).collect(),
        },
        Section {
            title: "MX: where mail for the domain goes (RFC 5321 §5.1)",
            records: vec![Wanted::new(domain, Kind::Mx, format!("10 {host}."), Need::Exact)],
        },
        Section { title: "SPF: who sends for the domain (RFC 7208)", records: spf(host, domain) },
        Section {
            title: "DMARC: what others do with mail that only pretends to be from the domain (RFC 9989); p=reject when all is well",
            records: vec![Wanted::new(
                format!("_dmarc.{domain}"),
                Kind::Txt,
                format!("v=DMARC1; p=quarantine; rua=mailto:postmaster@{domain}"),
                Need::Some,
            )],
        },
        Section {
            title: "SRV: where mail programs of users find the server (RFC 6186, RFC 8314 §5.1)",
            records: submission(config, domain),
        },
        Section {
            title: "TLS reports: others tell what fails (RFC 8460)",
            records: vec![Wanted::new(
                format!("_smtp._tls.{domain}"),
                Kind::Txt,
                format!("v=TLSRPTv1; rua=mailto:postmaster@{domain}"),
                Need::Optional,
            )],
        },
    ]
}

fn server(host: &str, address: IpAddr) -> Vec<Wanted> {
    let kind = if address.is_ipv4() { Kind::A } else { Kind::Aaaa };
    let forth = Wanted::new(host, kind, address.to_string(), Need::Exact);
    // RFC 6761 §6.3: names of loopback addresses are nobody's to give. (Who tries things out has such an address.)
    let back = (!address.is_loopback())
        .then(|| Wanted::new(reverse_name(address), Kind::Ptr, format!("{host}."), Need::Exact));
    std::iter::once(forth).chain(back).collect()
}

fn spf(host: &str, domain: &str) -> Vec<Wanted> {
    let mut records = vec![Wanted::new(domain, Kind::Txt, "v=spf1 mx -all", Need::Some)];
    if host != domain {
        // RFC 7208 §2.3: notifications have the null reverse-path, and SPF looks at the name in HELO.
        records.push(Wanted::new(host, Kind::Txt, "v=spf1 a -all", Need::Some));
    }
    records
}

/// For each listener of users one; without one "." says so (RFC 6186 §3.4).
fn submission(config: &Config, domain: &str) -> Vec<Wanted> {
    let services = [("_submissions", Role::Submissions), ("_submission", Role::Submission)];
    let records = services.iter().map(|(service, role)| {
        let port = config.listeners.iter().find_map(|listener| match listener.address {
            Address::Tcp(address) if listener.role == *role => Some(address.port()),
            _ => None,
        });
        let name = format!("{service}._tcp.{domain}");
        match port {
            Some(port) => Wanted::new(
                name,
                Kind::Srv,
                format!("0 1 {port} {}.", config.hostname),
                Need::Exact,
            ),
            None => Wanted::new(name, Kind::Srv, "0 0 0 .", Need::Optional),
        }
    });
    records.collect()
}

/// RFC 1035 §3.5, RFC 3596 §2.5
fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => reverse_four(address),
        IpAddr::V6(address) => reverse_six(address),
    }
}

fn reverse_four(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa")
}

fn reverse_six(address: Ipv6Addr) -> String {
    let octets = address.octets();
    let nibbles = octets.iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
    let labels: Vec<String> = nibbles.map(|nibble| format!("{nibble:x}")).collect();
    format!("{}.ip6.arpa", labels.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_name_that_leads_back() {
        let check = |address: &str, expected: &str| {
            assert_eq!(reverse_name(address.parse().unwrap()), expected);
        };
        check("192.0.2.7", "7.2.0.192.in-addr.arpa");
        check(
            "2001:db8::1",
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
        );
    }

    #[test]
    fn a_record_is_recognised_however_it_is_written() {
        let check = |kind: Kind, content: &str, found: &str, concerns: bool, met: bool| {
            let wanted = Wanted::new("example.org", kind, content, Need::Exact);
            assert_eq!(
                (wanted.concerns(found), wanted.is_met_by(found)),
                (concerns, met),
                "{found}"
            );
        };
        check(Kind::Mx, "10 mx.example.org.", "20 mx.example.org.", true, true);
        check(Kind::Mx, "10 mx.example.org.", "10 other.example.org.", true, false);
        check(Kind::Txt, "v=spf1 mx -all", "V=spf1  MX -all", true, true);
        check(Kind::Txt, "v=spf1 mx -all", "v=spf1 a ~all", true, false);
        check(Kind::Txt, "v=spf1 mx -all", "site-verification=abc", false, false);
        check(Kind::Txt, "v=DMARC1; p=none", "v=DMARC1;p=reject", true, false);
        check(Kind::Txt, "v=DMARC1; p=none", "v=DMARC1; p=none;", true, true);
        check(Kind::Srv, "0 1 465 mx.example.org.", "0 1 465 mx.example.org.", true, true);
    }
}
