//! Macro strings (RFC 7208 §7): what a record says about the client's name, address and sender.

use std::fmt::Write;
use std::net::IpAddr;

/// A macro string in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MacroString {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Macro(Macro),
}

/// `"%{" macro-letter transformers *delimiter "}"`
#[derive(Clone, Debug, PartialEq, Eq)]
struct Macro {
    /// In lower case.
    letter: u8,
    /// Written as a capital: the value is URL-escaped.
    escaped: bool,
    /// How many labels from the right remain; all of them without it.
    labels: Option<usize>,
    reversed: bool,
    delimiters: String,
}

/// What the macros stand for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    pub(super) client: IpAddr,
    pub(super) local_part: &'a str,
    /// The domain of the sender, which stays the same in included records.
    pub(super) sender_domain: &'a str,
    /// The domain whose record is evaluated.
    pub(super) domain: &'a str,
    pub(super) helo: &'a str,
    pub(super) receiver: &'a str,
    /// Seconds since 1970.
    pub(super) timestamp: u64,
    /// The validated name of the client, where a macro asks for it.
    pub(super) validated: &'a str,
}

impl MacroString {
    /// Any macro string of a record: visible characters.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::read(text, |c| matches!(c, '\x21'..='\x7e'), "slodiphv")
    }

    /// The text behind `exp=`: words with spaces, and three more macros (RFC 7208 §6.2, §7.2).
    pub(super) fn parse_explanation(text: &str) -> Option<Self> {
        Self::read(text, |c| matches!(c, '\x20'..='\x7e'), "slodiphvcrt")
    }

    /// `domain-spec = macro-string domain-end`, where `domain-end = ( "." toplabel [ "." ] ) / macro-expand`.
    pub(super) fn parse_domain(text: &str) -> Option<Self> {
        let parsed = Self::parse(text)?;
        let ends_well = match parsed.pieces.last()? {
            Piece::Macro(_) => true,
            // A text that ends in "%%", "%_" or "%-" ends in a macro-expand as well.
            Piece::Text(_) if ["%%", "%_", "%-"].iter().any(|end| text.ends_with(end)) => true,
            Piece::Text(_) => {
                let (front, label) = text.strip_suffix('.').unwrap_or(text).rsplit_once('.')?;
                is_toplabel(label) && (!front.is_empty() || text.starts_with('.'))
            }
        };
        ends_well.then_some(parsed)
    }

    fn read(text: &str, literal: fn(char) -> bool, letters: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut run = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if first != '%' {
                if !literal(first) {
                    return None;
                }
                run.push(first);
                rest = &rest[first.len_utf8()..];
                continue;
            }
            match rest.as_bytes().get(1)? {
                b'%' => run.push('%'),
                b'_' => run.push(' '),
                b'-' => run.push_str("%20"),
                b'{' => {
                    let end = rest.find('}')?;
                    if !run.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut run)));
                    }
                    pieces.push(Piece::Macro(Macro::parse(&rest[2..end], letters)?));
                    rest = &rest[end + 1..];
                    continue;
                }
                _ => return None,
            }
            rest = &rest[2..];
        }
        if !run.is_empty() {
            pieces.push(Piece::Text(run));
        }
        Some(Self { pieces })
    }

    /// Whether the validated name of the client is asked for, which costs lookups.
    pub(super) fn wants_validated(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Macro(one) if one.letter == b'p'))
    }

    /// The text with its macros expanded.
    pub(super) fn expand(&self, values: &Values<'_>) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Macro(one) => out.push_str(&one.expand(values)),
            }
        }
        out
    }

    /// As a name to look up. RFC 7208 §7.3: of a name over 253 octets labels are removed from the left.
    pub(super) fn expand_domain(&self, values: &Values<'_>) -> String {
        let expanded = self.expand(values);
        let mut name = expanded.strip_suffix('.').unwrap_or(&expanded);
        while name.len() > LONGEST_NAME {
            match name.split_once('.') {
                Some((_, rest)) => name = rest,
                None => break,
            }
        }
        name.to_owned()
    }
}

impl Macro {
    /// `macro-letter transformers *delimiter`, where `transformers = *DIGIT [ "r" ]`
    fn parse(text: &str, letters: &str) -> Option<Self> {
        let first = text.chars().next()?;
        let letter = first.to_ascii_lowercase();
        if !letters.contains(letter) {
            return None;
        }
        let rest = &text[1..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = rest.split_at(digits);
        let labels = match number {
            "" => None,
            // RFC 7208 §7.1: the number must be nonzero.
            _ => {
                Some(number.parse().unwrap_or(usize::MAX)).filter(|labels| *labels > 0).map(Some)?
            }
        };
        let (reversed, delimiters) = match rest.strip_prefix(['r', 'R']) {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        if !delimiters.chars().all(|c| DELIMITERS.contains(c)) {
            return None;
        }
        let delimiters = if delimiters.is_empty() { "." } else { delimiters }.to_owned();
        let escaped = first.is_ascii_uppercase();
        Some(Self { letter: u8::try_from(letter).ok()?, escaped, labels, reversed, delimiters })
    }

    fn expand(&self, values: &Values<'_>) -> String {
        let value = values.of(self.letter);
        let mut labels: Vec<&str> = value.split(|c| self.delimiters.contains(c)).collect();
        if self.reversed {
            labels.reverse();
        }
        let skip = self.labels.map_or(0, |keep| labels.len().saturating_sub(keep));
        let joined = labels[skip..].join(".");
        if self.escaped { escape(&joined) } else { joined }
    }
}

impl Values<'_> {
    /// RFC 7208 §7.2.
    fn of(&self, letter: u8) -> String {
        match letter {
            b's' => format!("{}@{}", self.local_part, self.sender_domain),
            b'l' => self.local_part.to_owned(),
            b'o' => self.sender_domain.to_owned(),
            b'd' => self.domain.to_owned(),
            b'i' => dotted(self.client),
            b'p' => self.validated.to_owned(),
            b'v' => if self.client.is_ipv4() { "in-addr" } else { "ip6" }.to_owned(),
            b'h' => self.helo.to_owned(),
            b'c' => self.client.to_string(),
            b'r' => self.receiver.to_owned(),
            b't' => self.timestamp.to_string(),
            _ => String::new(),
        }
    }
}

/// RFC 7208 §7.3: an IPv6 address has a dot after each nibble. In capitals, as explanations show it; the DNS does not mind.
fn dotted(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let nibbles: Vec<String> = address
                .octets()
                .iter()
                .flat_map(|octet| [octet >> 4, octet & 15])
                .map(|nibble| format!("{nibble:X}"))
                .collect();
            nibbles.join(".")
        }
    }
}

/// RFC 7208 §7.3 with RFC 3986 §2.3: all but unreserved characters.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            out.push(char::from(octet));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{octet:02X}");
        }
    }
    out
}

/// `toplabel`: letters, digits and hyphens, not digits alone, no hyphen at either end.
fn is_toplabel(label: &str) -> bool {
    !label.is_empty()
        && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
        && !label.bytes().all(|octet| octet.is_ascii_digit())
        && !label.starts_with('-')
        && !label.ends_with('-')
}

const DELIMITERS: &str = ".-+,/_=";

/// RFC 1035 §2.3.4 without the length octets of the first label and the root.
const LONGEST_NAME: usize = 253;
