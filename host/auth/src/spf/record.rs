//! The text of an SPF record (RFC 7208 §4.5, §5, §6, §12).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::macros::MacroString;
use crate::outcome::SpfResult;

/// A record that can be interpreted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) directives: Vec<Directive>,
    pub(super) redirect: Option<MacroString>,
    pub(super) exp: Option<MacroString>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) qualifier: SpfResult,
    pub(super) mechanism: Mechanism,
}

/// A mechanism; without a target it means the domain itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    All,
    Include(MacroString),
    A(Option<MacroString>, Cidr),
    Mx(Option<MacroString>, Cidr),
    Ptr(Option<MacroString>),
    Ip4(Ipv4Addr, u8),
    Ip6(Ipv6Addr, u8),
    Exists(MacroString),
}

/// `dual-cidr-length`: bits of an address that must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    pub(super) four: u8,
    pub(super) six: u8,
}

/// Whether a TXT record is one of SPF (RFC 7208 §4.5): the version, and then a space or the end.
pub fn is_spf(text: &[u8]) -> bool {
    let version = text.get(..VERSION.len());
    version.is_some_and(|version| version.eq_ignore_ascii_case(VERSION.as_bytes()))
        && text.get(VERSION.len()).is_none_or(|octet| *octet == b' ')
}

impl Record {
    /// Reads a record. RFC 7208 §4.6: one fault anywhere in it makes all of it unusable.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii());
        let text = text.ok_or("the record has octets that are not US-ASCII")?;
        let mut record = Self { directives: Vec::new(), redirect: None, exp: None };
        for term in text.get(VERSION.len()..).unwrap_or_default().split(' ') {
            if term.is_empty() {
                continue;
            }
            let read = match modifier(term) {
                Some((name, value)) => record.add_modifier(name, value),
                None => directive(term).map(|directive| record.directives.push(directive)),
            };
            read.ok_or_else(|| format!("the term {term:?} cannot be interpreted"))?;
        }
        Ok(record)
    }

    fn add_modifier(&mut self, name: &str, value: &str) -> Option<()> {
        let place = match name.to_ascii_lowercase().as_str() {
            "redirect" => &mut self.redirect,
            "exp" => &mut self.exp,
            // RFC 7208 §6: unrecognized modifiers are ignored, if their syntax is right.
            _ => return MacroString::parse(value).map(|_| ()),
        };
        // RFC 7208 §6: these two must not appear twice.
        if place.is_some() {
            return None;
        }
        *place = Some(MacroString::parse_domain(value)?);
        Some(())
    }
}

/// `unknown-modifier = name "=" macro-string`; a mechanism has no `=` before its first `:` or `/`.
fn modifier(term: &str) -> Option<(&str, &str)> {
    let (name, value) = term.split_once('=')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    is_name.then_some((name, value))
}

/// `directive = [ qualifier ] mechanism`
fn directive(term: &str) -> Option<Directive> {
    let (qualifier, term) = match term.as_bytes().first()? {
        b'+' => (SpfResult::Pass, &term[1..]),
        b'-' => (SpfResult::Fail, &term[1..]),
        b'~' => (SpfResult::SoftFail, &term[1..]),
        b'?' => (SpfResult::Neutral, &term[1..]),
        _ => (SpfResult::Pass, term),
    };
    Some(Directive { qualifier, mechanism: mechanism(term)? })
}

fn mechanism(term: &str) -> Option<Mechanism> {
    let end = term.find([':', '/']).unwrap_or(term.len());
    let (name, rest) = term.split_at(end);
    let argument = rest.strip_prefix(':');
    Some(match name.to_ascii_lowercase().as_str() {
        "all" if rest.is_empty() => Mechanism::All,
        "include" => Mechanism::Include(MacroString::parse_domain(argument?)?),
        "exists" => Mechanism::Exists(MacroString::parse_domain(argument?)?),
        "ptr" if rest.is_empty() => Mechanism::Ptr(None),
        "ptr" => Mechanism::Ptr(Some(MacroString::parse_domain(argument?)?)),
        "a" => {
            let (target, cidr) = target_and_cidr(rest)?;
            Mechanism::A(target, cidr)
        }
        "mx" => {
            let (target, cidr) = target_and_cidr(rest)?;
            Mechanism::Mx(target, cidr)
        }
        "ip4" => {
            let (network, bits) = network(argument?, 32)?;
            Mechanism::Ip4(network.parse().ok()?, bits)
        }
        "ip6" => {
            let (network, bits) = network(argument?, 128)?;
            Mechanism::Ip6(network.parse().ok()?, bits)
        }
        _ => return None,
    })
}

/// `[ ":" domain-spec ] [ dual-cidr-length ]`. A domain may hold slashes, so the lengths are read from the end.
fn target_and_cidr(rest: &str) -> Option<(Option<MacroString>, Cidr)> {
    let (rest, six) = match rest.rsplit_once("//") {
        Some((front, digits)) if is_number(digits) => (front, bits(digits, 128)?),
        _ => (rest, 128),
    };
    let (rest, four) = match rest.rsplit_once('/') {
        Some((front, digits)) if is_number(digits) => (front, bits(digits, 32)?),
        _ => (rest, 32),
    };
    let target = match rest.strip_prefix(':') {
        Some(domain) => Some(MacroString::parse_domain(domain)?),
        None if rest.is_empty() => None,
        None => return None,
    };
    Some((target, Cidr { four, six }))
}

/// `ip4-network [ ip4-cidr-length ]`
fn network(argument: &str, most: u8) -> Option<(&str, u8)> {
    match argument.split_once('/') {
        None => Some((argument, most)),
        Some((network, digits)) => Some((network, bits(digits, most)?)),
    }
}

/// `"/" ("0" / %x31-39 0*1DIGIT)`: no leading zeros.
fn bits(digits: &str, most: u8) -> Option<u8> {
    let valid = is_number(digits) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|bits| valid && *bits <= most)
}

fn is_number(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit())
}

const VERSION: &str = "v=spf1";
