//! The hosts of URIs in the text of a message.

use gatepost_plugin::{Content, Error};

use crate::config::Config;

/// Whom to ask about: each host, and the domain that somebody registered for it. In order, without repetitions.
pub(crate) fn of_content(content: &Content, config: &Config) -> Result<Vec<String>, Error> {
    let mut hosts = Vec::new();
    let mut left = MOST_OCTETS;
    for part in content.parts()? {
        if !matches!(part.content_type.as_str(), "text/plain" | "text/html") || left == 0 {
            continue;
        }
        let text = content.read_part(part.index, 0, left)?;
        left = left.saturating_sub(u32::try_from(text.len()).unwrap_or(u32::MAX));
        for host in hosts_in(&String::from_utf8_lossy(&text)) {
            if hosts.len() < config.most_uris
                && !hosts.contains(&host)
                && !config.exempt_uris.matches_domain(&host)
            {
                hosts.push(host);
            }
        }
    }
    let mut asked = Vec::new();
    for host in hosts {
        let domain = registered(&host).to_owned();
        for name in [host, domain] {
            if !asked.contains(&name) {
                asked.push(name);
            }
        }
    }
    Ok(asked)
}

/// RFC 3986 §3.2: what stands between `//` and the next `/`, `?`, `#` or the end of the URI, without the user and
/// the port. Programs that show mail also make links of what begins with `www.`
fn hosts_in(text: &str) -> Vec<String> {
    let lower = text.to_ascii_lowercase();
    let mut hosts = Vec::new();
    for (at, found) in lower.match_indices("://") {
        let scheme = lower.get(..at).unwrap_or("");
        if ["http", "https", "ftp"].iter().any(|known| scheme.ends_with(known)) {
            hosts.extend(host(lower.get(at + found.len()..).unwrap_or("")));
        }
    }
    for (at, _) in lower.match_indices("www.") {
        let before = lower.get(..at).and_then(|before| before.chars().next_back());
        if before.is_none_or(|letter| !letter.is_alphanumeric() && !"/.@-_".contains(letter)) {
            hosts.extend(host(lower.get(at..).unwrap_or("")));
        }
    }
    hosts
}

/// The host at the beginning of an authority, in lower case.
fn host(rest: &str) -> Option<String> {
    let ends = |c: char| c.is_whitespace() || "/?#\"'<>\\`{}|^,;()".contains(c);
    let authority = rest.split(ends).next()?;
    let (_, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if let Some((address, _)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        return Some(address.to_owned());
    }
    let host = decoded(host.split(':').next()?);
    let host = host.trim_matches('.');
    // RFC 1035 §2.3.4.
    (host.contains('.') && host.len() <= 253).then(|| host.to_owned())
}

/// RFC 3986 §2.1: `%2e` is a point, and whoever writes it so has a reason.
fn decoded(host: &str) -> String {
    let octets = host.as_bytes();
    let mut decoded = Vec::with_capacity(octets.len());
    let mut at = 0;
    while let Some(octet) = octets.get(at) {
        let pair = host.get(at + 1..at + 3).filter(|_| *octet == b'%');
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(value) => {
                decoded.push(value.to_ascii_lowercase());
                at += 3;
            }
            None => {
                decoded.push(*octet);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The domain that somebody registered: two labels, or three below the ones that countries have for kinds of owners.
/// (The Public Suffix List would be exact, and three times as large as this plugin.)
fn registered(host: &str) -> &str {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return host;
    }
    let mut labels = host.rsplit('.');
    let (top, second) = (labels.next().unwrap_or(""), labels.next().unwrap_or(""));
    let third = labels.next();
    let length = match third {
        Some(third) if top.len() == 2 && KINDS.contains(&second) => {
            third.len() + second.len() + top.len() + 2
        }
        _ => second.len() + top.len() + 1,
    };
    host.get(host.len().saturating_sub(length)..).unwrap_or(host)
}

const KINDS: [&str; 18] = [
    "ac", "co", "com", "edu", "go", "gob", "gov", "gv", "ltd", "me", "mil", "ne", "net", "nom",
    "or", "org", "plc", "sch",
];
/// A link below the first 256 KiB of text is not what a reader clicks on first.
const MOST_OCTETS: u32 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::{hosts_in, registered};

    #[test]
    fn hosts_are_found_in_texts() {
        check("see https://Evil.Example/path", &["evil.example"]);
        check(
            "<a href=\"http://a.example:8080/x\">http://b.example</a>",
            &["a.example", "b.example"],
        );
        check("http://bank.example@evil.example/login", &["evil.example"]);
        check("http://bank.example:80@evil.example", &["evil.example"]);
        check("http://evil%2Eexample/", &["evil.example"]);
        check("http://192.0.2.7/x, http://[2001:db8::7]/", &["192.0.2.7", "2001:db8::7"]);
        check("go to www.evil.example. Now", &["www.evil.example"]);
        check("http://www.evil.example", &["www.evil.example"]);
        check("awww.evil.example bob@www.x.example", &[]);
        check("(https://evil.example)", &["evil.example"]);
        check("ftp://f.example xhttp://g.example", &["f.example", "g.example"]);
        check("mailto:bob@example.org gopher://g.example http://localhost http://", &[]);
        check("http://%zz.example", &["%zz.example"]);

        fn check(text: &str, expected: &[&str]) {
            assert_eq!(hosts_in(text), expected, "{text}");
        }
    }

    #[test]
    fn a_domain_is_what_somebody_registered() {
        check("evil.example", "evil.example");
        check("a.b.evil.example", "evil.example");
        check("www.evil.co.uk", "evil.co.uk");
        check("evil.co.uk", "evil.co.uk");
        check("www.evil.com", "evil.com");
        check("com.evil.info", "evil.info");
        check("192.0.2.7", "192.0.2.7");
        check("2001:db8::7", "2001:db8::7");

        fn check(host: &str, expected: &str) {
            assert_eq!(registered(host), expected);
        }
    }
}
