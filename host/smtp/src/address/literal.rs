//! Addresses in brackets (RFC 5321 §4.1.3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::AddressError;
use crate::text::serde_as_text;

/// A host named by its address: `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressLiteral {
    /// `[192.0.2.1]`
    V4(Ipv4Addr),
    /// `[IPv6:2001:db8::1]`
    V6(Ipv6Addr),
    /// `[tag:content]`: grammatical, but no tag besides `IPv6` was ever registered, so no route
    /// leads there.
    General {
        /// The registered name of the kind of address.
        tag: String,
        /// The address, as printable ASCII without brackets and backslash.
        content: String,
    },
}

impl AddressLiteral {
    /// The IP address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::V4(address) => Some(IpAddr::V4(*address)),
            Self::V6(address) => Some(IpAddr::V6(*address)),
            Self::General { .. } => None,
        }
    }
}

impl From<IpAddr> for AddressLiteral {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(address),
        }
    }
}

impl fmt::Display for AddressLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => write!(f, "[{address}]"),
            Self::V6(address) => write!(f, "[IPv6:{address}]"),
            Self::General { tag, content } => write!(f, "[{tag}:{content}]"),
        }
    }
}

impl FromStr for AddressLiteral {
    type Err = AddressError;

    /// ```text
    /// address-literal = "[" ( IPv4-address-literal / IPv6-address-literal / General-address-literal ) "]"
    /// IPv6-address-literal    = "IPv6:" IPv6-addr
    /// General-address-literal = Standardized-tag ":" 1*dcontent
    /// Standardized-tag        = Ldh-str
    /// dcontent                = %d33-90 / %d94-126
    /// ```
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let inner = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .ok_or(AddressError::Literal)?;
        if inner.len() > MAXIMUM_LITERAL {
            return Err(AddressError::Literal);
        }
        let Some((tag, content)) = inner.split_once(':') else {
            return inner.parse().map(Self::V4).map_err(|_| AddressError::Literal);
        };
        if tag.eq_ignore_ascii_case("IPv6") {
            return content.parse().map(Self::V6).map_err(|_| AddressError::Literal);
        }
        let is_tag = tag.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
            && tag.bytes().next_back().is_some_and(|octet| octet.is_ascii_alphanumeric());
        let is_content =
            !content.is_empty() && content.bytes().all(|octet| matches!(octet, 33..=90 | 94..=126));
        if !is_tag || !is_content {
            return Err(AddressError::Literal);
        }
        Ok(Self::General { tag: tag.to_owned(), content: content.to_owned() })
    }
}

serde_as_text!(AddressLiteral);

// RFC 5321 §4.5.3.1.2: as long as a domain.
const MAXIMUM_LITERAL: usize = 255;
