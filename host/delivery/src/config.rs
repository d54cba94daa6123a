//! What the daemon tells this room.

use std::{collections::BTreeMap, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use net::Source;
use smtp::{
    Domain, Host, LocalDomains, Route,
    client::{ClientCredentials, Timeouts},
};

use crate::rate::Rate;

/// How mail is delivered.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our own name: said in EHLO, written into reports, and recognised in MX records.
    pub hostname: String,
    /// Port of the hosts that MX records name. 25, but for tests.
    pub port: u16,
    /// Where mail for others goes, first match first; MX where nothing matches.
    pub routes: Vec<RouteRule>,
    /// Which domains end here.
    pub local: Arc<LocalDomains>,
    /// Rewrites the reverse-path of what is forwarded; `None`: it stays.
    pub forwarder: Option<Arc<auth::srs::Forwarder>>,
    /// What routes name by `auth=`.
    pub credentials: BTreeMap<String, ClientCredentials>,
    /// Addresses we listen on ourselves: an MX record that leads to one of them is a loop (RFC 5321
    /// §5.1).
    pub listeners: Vec<SocketAddr>,
    /// What is too much.
    pub limits: Limits,
    /// How long replies are waited for.
    pub timeouts: Timeouts,
    /// When a recipient that met greylisting is tried again, if the host names no time. Common
    /// implementations let a message pass after 5 minutes (RFC 6647 §4.2 speaks of one minute and
    /// more).
    pub greylist_retry: Duration,
}

impl Config {
    /// No routes, no local domains: everything goes by MX.
    #[must_use]
    pub fn new(hostname: &str) -> Self {
        Self {
            hostname: hostname.to_owned(),
            port: 25,
            routes: Vec::new(),
            local: Arc::new(LocalDomains::new(Vec::new())),
            forwarder: None,
            credentials: BTreeMap::new(),
            listeners: Vec::new(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            greylist_retry: Duration::from_mins(5),
        }
    }

    /// The route that the rules give for a host, if one matches.
    pub(crate) fn route_for(&self, host: &Host) -> Option<Route> {
        let rule = self.routes.iter().find(|rule| rule.to.matches(host))?;
        rule.via.clone()
    }

    /// How mail goes that way: as the first rule says that names this route, or that names none and
    /// is about this host. A route alone decides, so that a plugin that chooses one gets what
    /// belongs to it, and all mail in one connection has one source.
    pub(crate) fn way(&self, route: &Route) -> Way {
        let host = match route {
            Route::Mx(domain) => Some(Host::Domain(domain.clone())),
            Route::Host { host, .. } => Some(host.clone()),
            Route::Lmtp(_) | Route::Maildir(_) | Route::List(_) => None,
        };
        let fits = |rule: &&RouteRule| match &rule.via {
            Some(via) => via == route,
            None => host.as_ref().is_some_and(|host| rule.to.matches(host)),
        };
        let rule = self.routes.iter().find(fits);
        rule.map(|rule| Way { source: rule.source, rate: rule.rate }).unwrap_or_default()
    }
}

/// How mail goes along a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// From which of our addresses.
    pub(crate) source: Source,
    /// How much of it.
    pub(crate) rate: Option<Rate>,
}

/// One line of the routing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRule {
    /// Which mail.
    pub to: RouteTarget,
    /// Where to. `None`: by MX, although a later rule would match.
    pub via: Option<Route>,
    /// Which of our addresses its connections come from.
    pub source: Source,
    /// Messages per time to each host on this way.
    pub rate: Option<Rate>,
}

impl RouteRule {
    /// A rule that says where mail goes, and leaves the rest to the system.
    #[must_use]
    pub fn new(to: RouteTarget, via: Option<Route>) -> Self {
        Self { to, via, source: Source::default(), rate: None }
    }
}

/// Which domains a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// This domain only: `example.org`.
    Domain(Domain),
    /// Every domain below this one: `.example.org` or `*.example.org`.
    Below(Domain),
    /// Everything, address literals too: `*`.
    Any,
}

impl RouteTarget {
    fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Domain(wanted), Host::Domain(domain)) => wanted.to_ascii() == domain.to_ascii(),
            (Self::Below(parent), Host::Domain(domain)) => domain
                .to_ascii()
                .strip_suffix(parent.to_ascii().as_ref())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            (Self::Domain(_) | Self::Below(_), Host::Literal(_)) => false,
        }
    }
}

impl FromStr for RouteTarget {
    type Err = smtp::AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.").or_else(|| text.strip_prefix('.')) {
            Some(parent) => parent.parse().map(Self::Below),
            None => text.parse().map(Self::Domain),
        }
    }
}

/// Bounds of the room.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Attempts at once. Each holds one connection and a buffer of 64 KiB.
    pub attempts: usize,
    /// Connections to one host at once at most, idle ones included: it begins with two and earns
    /// the others. RFC 5321 §4.5.4.1 warns of overloading a host.
    pub connections_per_host: usize,
    /// Messages over one connection; then a new one is made, so that load spreads over the
    /// addresses of a host.
    pub messages_per_connection: u32,
    /// An idle connection is kept for the next message so long. RFC 5321 §4.5.3.2 lets a host wait
    /// 5 minutes, but it is its connection too.
    pub idle_connection: Duration,
    /// A connection is used for so long. Postfix has the same: hosts close long sessions, and
    /// addresses and certificates change.
    pub connection_age: Duration,
    /// A host that gives no session is left alone for so long, then twice as long…
    pub down_first: Duration,
    /// …up to this (RFC 5321 §4.5.4.1: a list of hosts that cannot be reached). No longer than the
    /// first retry, so that a message that was put off is really tried the next time.
    pub down_longest: Duration,
    /// To wait for a free connection to a host; then the message goes back to the queue.
    pub wait_for_connection: Duration,
    /// To connect to one address. A SYN is repeated after 1, 3, 7 and 15 s.
    pub connect: Duration,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// Hosts of a domain that are tried in one attempt. RFC 5321 §5.1 asks for two at least and
    /// allows a limit.
    pub hosts: usize,
    /// Addresses of a host that are tried in one attempt, for the same reason.
    pub addresses: usize,
    /// Octets of a message that are returned with a report if RET=FULL; a larger one is returned as
    /// header section (RFC 3461 §4.3 allows it).
    pub returned: u64,
    /// Octets of header section that are returned otherwise.
    pub returned_header: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempts: 500,
            connections_per_host: 10,
            messages_per_connection: 100,
            idle_connection: Duration::from_secs(5),
            connection_age: Duration::from_mins(5),
            down_first: Duration::from_mins(1),
            down_longest: Duration::from_mins(5),
            wait_for_connection: Duration::from_secs(30),
            connect: Duration::from_secs(30),
            handshake: Duration::from_secs(30),
            hosts: 10,
            addresses: 8,
            returned: 1024 * 1024,
            returned_header: 256 * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_match_a_domain_or_what_is_below_it() {
        fn check(rule: &str, host: &str, expected: bool) {
            let target: RouteTarget = rule.parse().unwrap();
            assert_eq!(target.matches(&host.parse().unwrap()), expected, "{rule} {host}");
        }
        check("example.org", "example.org", true);
        check("example.org", "EXAMPLE.ORG", true);
        check("example.org", "a.example.org", false);
        check(".example.org", "a.example.org", true);
        check("*.example.org", "a.b.example.org", true);
        check("*.example.org", "example.org", false);
        check("*.example.org", "badexample.org", false);
        check("*", "example.net", true);
        check("*", "[192.0.2.1]", true);
        check("example.org", "[192.0.2.1]", false);
        check("bücher.example", "xn--bcher-kva.example", true);
    }

    #[test]
    fn a_route_has_the_way_of_the_first_rule_about_it() {
        let rule = |to: &str, via: Option<&str>, rate: &str| RouteRule {
            rate: Some(rate.parse().unwrap()),
            ..RouteRule::new(to.parse().unwrap(), via.map(|via| via.parse().unwrap()))
        };
        let config = Config {
            routes: vec![
                rule("a.example", Some("smtp:hub.example:25"), "1/s"),
                rule(".b.example", None, "2/s"),
                rule("*", None, "3/s"),
            ],
            ..Config::new("me.example")
        };
        let check = |route: &str, expected: &str| {
            let rate = config.way(&route.parse().unwrap()).rate;
            assert_eq!(rate, expected.parse().ok(), "{route}");
        };
        check("smtp:hub.example:25", "1/s");
        check("mx:x.b.example", "2/s");
        check("mx:a.example", "3/s");
        check("smtp:[192.0.2.1]:25", "3/s");
        check("lmtp:/run/lmtp", "");
        check("maildir:mail", "");
    }
}
