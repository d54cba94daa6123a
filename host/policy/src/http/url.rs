//! The URLs that plugins give, and the hosts that the configuration grants.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use hyper::Uri;

use crate::seam::Fault;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) is_tls: bool,
    /// In lower case; IPv6 in brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) target: String,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let invalid = |what: &str| Fault::Invalid(format!("{text:?}: {what}"));
        if text.len() > MAX_OCTETS {
            return Err(Fault::Invalid(format!("a URL has at most {MAX_OCTETS} octets")));
        }
        let uri: Uri = text.parse().map_err(|_| invalid("this is no URL"))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(invalid("a URL begins with https: or http:")),
        };
        let authority = uri.authority().ok_or_else(|| invalid("a URL names a host"))?;
        // RFC 9110 §4.2.4: userinfo is deprecated, and serves to deceive.
        if authority.as_str().contains('@') {
            return Err(invalid("no user before the host"));
        }
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
        if host.is_empty() {
            return Err(invalid("a URL names a host"));
        }
        let port = match authority.port() {
            None => default_port(is_tls),
            Some(port) => port
                .as_str()
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| invalid("the port"))?,
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let url = Self { is_tls, host, port, target };
        // "127.1", "0x7f.1", "2130706433": what some resolvers take for an address is a trick, not a name.
        let last = url.host.rsplit('.').next().unwrap_or_default();
        let numeric = last.starts_with("0x") || last.bytes().all(|octet| octet.is_ascii_digit());
        if url.address().is_none() && (numeric || url.host.starts_with('[')) {
            return Err(invalid("the host is no name, and no address in its usual form"));
        }
        Ok(url)
    }

    /// The host, if it is an address.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self.host.strip_prefix('[') {
            Some(rest) => {
                rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address))
            }
            None => self.host.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4),
        }
    }

    /// The host, and the port where it is not the usual one.
    pub(crate) fn authority(&self) -> String {
        if self.port == default_port(self.is_tls) {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A host that a plugin may ask over HTTP: `scan.example.net` (https, port 443), `https://api.example.net:8443`,
/// `http://127.0.0.1:11333`. An address that is named here is granted by that, whatever network it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpHost {
    is_tls: bool,
    host: String,
    port: u16,
}

impl HttpHost {
    pub(crate) fn admits(&self, url: &Url) -> bool {
        (self.is_tls, self.port) == (url.is_tls, url.port)
            && match (self.address(), url.address()) {
                (Some(granted), Some(asked)) => granted.to_canonical() == asked.to_canonical(),
                (None, None) => self.host == url.host,
                _ => false,
            }
    }

    fn address(&self) -> Option<IpAddr> {
        self.host.trim_matches(['[', ']']).parse().ok()
    }
}

impl FromStr for HttpHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url = Url::parse(&whole).map_err(|_| {
            format!("{text:?} is no host: \"scan.example.net\" or \"http://192.0.2.1:11333\"")
        })?;
        if url.target != "/" {
            return Err(format!("{text:?}: a host is granted whole, without a path"));
        }
        Ok(Self { is_tls: url.is_tls, host: url.host, port: url.port })
    }
}

impl fmt::Display for HttpHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

fn default_port(is_tls: bool) -> u16 {
    if is_tls { 443 } else { 80 }
}

const MAX_OCTETS: usize = 8192;
