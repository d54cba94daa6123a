//! Mailboxes and paths (RFC 5321 §4.1.2, RFC 6531 §3.3). Parsed once; after that an invalid address
//! cannot exist.
//!
//! The angle brackets and source routes around a path belong to the commands, see
//! [`crate::command`].

mod domain;
mod literal;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

pub use domain::Domain;
pub use literal::AddressLiteral;

use crate::text::serde_as_text;

/// What is before the last `@` of a mailbox: the text that is meant, without quotes and escapes.
///
/// Its case is kept and compared (RFC 5321 §2.4). It may hold UTF-8 (RFC 6531 §3.3), and never a
/// control character.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalPart(String);

impl LocalPart {
    /// Takes the text that is meant: `a b` and not `"a b"`.
    pub fn new(text: impl Into<String>) -> Result<Self, AddressError> {
        let text = text.into();
        if text.len() > MAXIMUM_LOCAL_PART {
            return Err(AddressError::LocalPartTooLong);
        }
        let is_plain = text.bytes().all(|octet| matches!(octet, b' '..=b'~'));
        if !is_plain && text.chars().any(is_forbidden) {
            return Err(AddressError::LocalPart);
        }
        Ok(Self(text))
    }

    /// The text that is meant, without quotes and escapes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a server without SMTPUTF8 can take it.
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }

    /// Takes it as written in a mailbox.
    ///
    /// ```text
    /// Local-part     = Dot-string / Quoted-string
    /// Dot-string     = Atom *("." Atom)
    /// Quoted-string  = DQUOTE *QcontentSMTP DQUOTE
    /// QcontentSMTP   = qtextSMTP / quoted-pairSMTP
    /// quoted-pairSMTP = %d92 %d32-126
    /// qtextSMTP      = %d32-33 / %d35-91 / %d93-126 / UTF8-non-ascii
    /// ```
    fn parse(written: &str) -> Result<Self, AddressError> {
        let Some(quoted) = written.strip_prefix('"') else {
            return if is_dot_string(written) {
                Self::new(written)
            } else {
                Err(AddressError::LocalPart)
            };
        };
        let mut text = String::with_capacity(quoted.len());
        let mut characters = quoted.chars();
        loop {
            match characters.next() {
                Some('"') => break,
                Some('\\') => match characters.next() {
                    Some(escaped @ ' '..='~') => text.push(escaped),
                    _ => return Err(AddressError::LocalPart),
                },
                Some(character) => text.push(character),
                None => return Err(AddressError::LocalPart),
            }
        }
        // Nothing follows the closing quote: `"a"b` is neither of the two forms.
        if characters.next().is_some() { Err(AddressError::LocalPart) } else { Self::new(text) }
    }
}

impl fmt::Display for LocalPart {
    // RFC 5321 §4.1.2: the simpler form is sent whenever it says the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.0) {
            return f.write_str(&self.0);
        }
        f.write_str("\"")?;
        for character in self.0.chars() {
            if matches!(character, '"' | '\\') {
                f.write_str("\\")?;
            }
            fmt::Write::write_char(f, character)?;
        }
        f.write_str("\"")
    }
}

impl FromStr for LocalPart {
    type Err = AddressError;
    fn from_str(written: &str) -> Result<Self, AddressError> {
        Self::parse(written)
    }
}

/// Where a mailbox lives: a domain, or an address in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A name in DNS.
    Domain(Domain),
    /// `[192.0.2.1]`: a host without a name (RFC 5321 §4.1.3).
    Literal(AddressLiteral),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::Literal(literal) => literal.fmt(f),
        }
    }
}

impl FromStr for Host {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.starts_with('[') {
            text.parse().map(Self::Literal)
        } else {
            text.parse().map(Self::Domain)
        }
    }
}

/// `local-part@domain` or `local-part@[literal]` (RFC 5321 §4.1.2).
///
/// Equal when the local parts are equal octet for octet and the domains without regard to case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mailbox {
    local_part: LocalPart,
    host: Host,
}

impl Mailbox {
    /// Puts a mailbox together.
    pub fn new(local_part: LocalPart, host: Host) -> Self {
        Self { local_part, host }
    }

    /// Takes the written form, without angle brackets.
    ///
    /// ```text
    /// Mailbox = Local-part "@" ( Domain / address-literal )
    /// ```
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let at = if text.starts_with('"') { after_quotes(text) } else { text.find('@') };
        let (written, host) = at
            .and_then(|at| Some((&text[..at], text[at..].strip_prefix('@')?)))
            .ok_or(AddressError::NoHost)?;
        Ok(Self { local_part: LocalPart::parse(written)?, host: host.parse()? })
    }

    /// What is before the `@`.
    pub fn local_part(&self) -> &LocalPart {
        &self.local_part
    }

    /// What is behind the `@`.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The domain, unless the host is an address literal.
    pub fn domain(&self) -> Option<&Domain> {
        match &self.host {
            Host::Domain(domain) => Some(domain),
            Host::Literal(_) => None,
        }
    }

    /// Whether it can only be named to a server that offers SMTPUTF8 (RFC 6531 §3.3).
    ///
    /// A domain of U-labels alone can be written in A-labels, but then it is another text: whoever
    /// sends decides.
    pub fn needs_smtputf8(&self) -> bool {
        !self.local_part.is_ascii() || self.domain().is_some_and(|domain| !domain.is_ascii())
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.local_part.fmt(f)?;
        f.write_str("@")?;
        self.host.fmt(f)
    }
}

impl FromStr for Mailbox {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

/// Who gets the bounce: the argument of `MAIL FROM` (RFC 5321 §4.1.1.2). As text: without angle
/// brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: nobody. Used by notifications, so that they never bounce (RFC 5321 §4.5.5). As text:
    /// empty.
    Null,
    /// An ordinary sender.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// The mailbox, if there is one.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }

    /// Whether nobody is to be told.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Mailbox(mailbox) => mailbox.fmt(f),
        }
    }
}

impl FromStr for ReversePath {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() { Ok(Self::Null) } else { Mailbox::parse(text).map(Self::Mailbox) }
    }
}

/// Where a message goes: the argument of `RCPT TO` (RFC 5321 §4.1.1.3). As text: without angle
/// brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ForwardPath {
    /// `<Postmaster>` without a domain: whoever answers for this server (RFC 5321 §4.5.1).
    Postmaster,
    /// An ordinary recipient.
    Mailbox(Mailbox),
}

impl ForwardPath {
    /// The mailbox, unless it is the postmaster without a domain.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Postmaster => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postmaster => f.write_str("postmaster"),
            Self::Mailbox(mailbox) => mailbox.fmt(f),
        }
    }
}

impl FromStr for ForwardPath {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        // RFC 5321 §4.5.1: the local part "postmaster" has no case.
        if text.eq_ignore_ascii_case("postmaster") {
            return Ok(Self::Postmaster);
        }
        Mailbox::parse(text).map(Self::Mailbox)
    }
}

serde_as_text!(LocalPart, Host, Mailbox, ReversePath, ForwardPath);

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@`, or nothing where it should be.
    #[error("no @ with a domain behind it")]
    NoHost,
    /// Neither a dot-string nor a quoted string (RFC 5321 §4.1.2).
    #[error("the local part is malformed")]
    LocalPart,
    /// More than 255 octets.
    #[error("the local part is too long")]
    LocalPartTooLong,
    /// Not letters, digits and hyphens between dots, or too long (RFC 5321 §4.1.2).
    #[error("the domain is malformed")]
    Domain,
    /// A label is no A-label and no U-label (RFC 5890 §2.3.2.1).
    #[error("the domain is no valid internationalised name")]
    Idna,
    /// Not an address in brackets (RFC 5321 §4.1.3).
    #[error("the address literal is malformed")]
    Literal,
}

/// Where the closing quote of a quoted string ends.
fn after_quotes(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (index, octet) in text.bytes().enumerate().skip(1) {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(index + 1),
            _ => {}
        }
    }
    None
}

fn is_dot_string(text: &str) -> bool {
    let mut after_dot = true;
    for octet in text.bytes() {
        match octet {
            b'.' if after_dot => return false,
            b'.' => after_dot = true,
            octet if is_atext(octet) => after_dot = false,
            _ => return false,
        }
    }
    !after_dot
}

/// RFC 5322 §3.2.3 `atext`, extended by RFC 6531 §3.3; of a character beyond ASCII each octet.
fn is_atext(octet: u8) -> bool {
    matches!(
        octet,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'/'
            | b'=' | b'?' | b'^'..=b'`' | b'{'..=b'~' | 0x80..
    )
}

// RFC 5198 §2: no C0 or C1 control characters, no line or paragraph separator. They would break
// lines in logs and in trace fields.
fn is_forbidden(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

// Deviation from RFC 5321 §4.5.3.1.1: we take 255 octets, because addresses of VERP and SRS are
// longer than 64 and §4.5.3.1 asks for as few limits as can be. What we send was given to us by
// others.
const MAXIMUM_LOCAL_PART: usize = 255;
