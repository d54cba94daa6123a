//! How to reach a forward-path. One textual form, in configurations, plugins, the queue and logs:
//! `mx:example.net`, `smtp:mail.example.net:25;tls=require;auth=NAME`, `smtps:…:465`,
//! `lmtp:/run/dovecot/lmtp`, `lmtp:127.0.0.1:24`, `maildir:var/mail/example.test/alice`, `list:team@example.test`.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::address::{AddressLiteral, Domain, Host, Mailbox};
use crate::text::serde_as_text;

/// Where a recipient's copy goes next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Route {
    /// To the hosts that DNS names for the domain (RFC 5321 §5.1). `mx:example.net`
    Mx(Domain),
    /// To this host, without asking for MX records. `smtp:HOST[:PORT]`, `smtps:HOST[:PORT]`
    Host {
        /// A name or an address literal.
        host: Host,
        /// 25 if not said, 465 for `smtps`.
        port: u16,
        /// How much TLS there must be. `;tls=…`
        tls: TlsDemand,
        /// The name of the credentials to log in with, as the configuration calls them.
        /// `;auth=NAME`
        credentials: Option<String>,
    },
    /// To an LMTP server (RFC 2033). `lmtp:/SOCKET`, `lmtp:HOST[:PORT]`
    Lmtp(LmtpAddress),
    /// Into a Maildir on this machine. `maildir:PATH`
    Maildir(PathBuf),
    /// To the members of the list here that has this address (RFC 5321 §3.9.2). `list:ADDRESS`
    List(Mailbox),
}

impl Route {
    /// The way that needs no configuration: MX of the domain, or the host behind the address
    /// literal at port 25.
    pub fn direct(host: &Host) -> Self {
        match host {
            Host::Domain(domain) => Self::Mx(domain.clone()),
            Host::Literal(_) => Self::Host {
                host: host.clone(),
                port: SMTP_PORT,
                tls: TlsDemand::Opportunistic,
                credentials: None,
            },
        }
    }

    /// The key under which deliveries share connections and limits.
    pub fn destination(&self) -> String {
        self.to_string()
    }
}

/// How much TLS a host must speak.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum TlsDemand {
    /// STARTTLS if it is offered, without looking at the certificate; else in the clear (RFC 7435).
    #[default]
    Opportunistic,
    /// STARTTLS or nothing; any certificate. `;tls=require`
    Require,
    /// STARTTLS or nothing; the certificate must be valid for the host. `;tls=verify`
    Verify,
    /// TLS from the first octet, certificate verified (RFC 8314 §3.3). Scheme `smtps`
    Implicit,
}

/// Where an LMTP server listens. LMTP never runs at port 25 (RFC 2033 §5).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LmtpAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port; 24 if not said.
    Tcp {
        /// A name or an address literal.
        host: Host,
        /// The port.
        port: u16,
    },
}

impl fmt::Display for LmtpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for LmtpAddress {
    type Err = RouteError;
    fn from_str(text: &str) -> Result<Self, RouteError> {
        if text.starts_with('/') || text.starts_with("./") {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        let (host, port) = host_and_port(text, LMTP_PORT)?;
        Ok(Self::Tcp { host, port })
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mx(domain) => write!(f, "mx:{domain}"),
            Self::Lmtp(address) => write!(f, "lmtp:{address}"),
            Self::Maildir(path) => write!(f, "maildir:{}", path.display()),
            Self::List(address) => write!(f, "list:{address}"),
            Self::Host { host, port, tls, credentials } => {
                let (scheme, demand) = match tls {
                    TlsDemand::Opportunistic => ("smtp", ""),
                    TlsDemand::Require => ("smtp", ";tls=require"),
                    TlsDemand::Verify => ("smtp", ";tls=verify"),
                    TlsDemand::Implicit => ("smtps", ""),
                };
                write!(f, "{scheme}:{host}:{port}{demand}")?;
                credentials.iter().try_for_each(|name| write!(f, ";auth={name}"))
            }
        }
    }
}

impl FromStr for Route {
    type Err = RouteError;
    fn from_str(text: &str) -> Result<Self, RouteError> {
        let (scheme, rest) = text.split_once(':').ok_or(RouteError::Scheme)?;
        match scheme {
            "mx" => rest.parse().map(Self::Mx).map_err(|_| RouteError::Host),
            "smtp" => host_route(rest, SMTP_PORT, TlsDemand::Opportunistic),
            "smtps" => host_route(rest, SMTPS_PORT, TlsDemand::Implicit),
            "lmtp" => rest.parse().map(Self::Lmtp),
            "maildir" if rest.is_empty() => Err(RouteError::Path),
            "maildir" => Ok(Self::Maildir(PathBuf::from(rest))),
            "list" => Mailbox::parse(rest).map(Self::List).map_err(|_| RouteError::Address),
            _ => Err(RouteError::Scheme),
        }
    }
}

serde_as_text!(Route, LmtpAddress);

/// Why a text is no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Not `mx:`, `smtp:`, `smtps:`, `lmtp:`, `maildir:` or `list:`.
    #[error("a route begins with mx:, smtp:, smtps:, lmtp:, maildir: or list:")]
    Scheme,
    /// No domain and no address literal.
    #[error("the route needs a domain, or an address in brackets")]
    Host,
    /// No number in 1–65535.
    #[error("the port of the route is no number in 1–65535")]
    Port,
    /// Behind `;` is neither `tls=require`, `tls=verify` nor `auth=NAME`.
    #[error("behind the host can be ;tls=require or ;tls=verify, and ;auth=NAME")]
    Suffix,
    /// `maildir:` without a path.
    #[error("maildir: needs a path")]
    Path,
    /// `list:` without an address.
    #[error("list: needs the address of a list")]
    Address,
}

fn host_route(text: &str, default_port: u16, default_tls: TlsDemand) -> Result<Route, RouteError> {
    let mut parts = text.split(';');
    let (host, port) = host_and_port(parts.next().unwrap_or_default(), default_port)?;
    let (mut tls, mut credentials) = (default_tls, None);
    for suffix in parts {
        match suffix.split_once('=') {
            Some(("tls", "opportunistic")) if default_tls == TlsDemand::Opportunistic => {
                tls = default_tls
            }
            Some(("tls", "require")) if default_tls == TlsDemand::Opportunistic => {
                tls = TlsDemand::Require
            }
            Some(("tls", "verify")) if default_tls == TlsDemand::Opportunistic => {
                tls = TlsDemand::Verify
            }
            Some(("auth", name)) if !name.is_empty() => credentials = Some(name.to_owned()),
            _ => return Err(RouteError::Suffix),
        }
    }
    Ok(Route::Host { host, port, tls, credentials })
}

/// `HOST`, `HOST:PORT`; an address may do without brackets where that is clear, as in
/// `127.0.0.1:24`.
fn host_and_port(text: &str, default_port: u16) -> Result<(Host, u16), RouteError> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().ok().filter(|port| *port != 0).ok_or(RouteError::Port)?)
        }
        _ => (text, default_port),
    };
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok((Host::Literal(AddressLiteral::V4(address)), port));
    }
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(Ok(address)) = inner.map(str::parse::<Ipv6Addr>) {
        return Ok((Host::Literal(AddressLiteral::V6(address)), port));
    }
    Ok((host.parse().map_err(|_| RouteError::Host)?, port))
}

const SMTP_PORT: u16 = 25;
// RFC 8314 §7.3
const SMTPS_PORT: u16 = 465;
// Assigned to "any private mail system"; what Dovecot and others use in their examples.
const LMTP_PORT: u16 = 24;
