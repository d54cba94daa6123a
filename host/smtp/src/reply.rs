//! Replies (RFC 5321 §4.2) and enhanced status codes (RFC 2034, RFC 3463), written and read.

mod parser;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use parser::{ReplyError, ReplyParser};

use crate::text::serde_as_text;

/// What happened, in three numbers (RFC 3463 §2): `5.7.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedStatus {
    /// 2 success, 4 persistent transient failure, 5 permanent failure.
    pub class: u8,
    /// What it is about: 1 address, 2 mailbox, 3 system, 4 network, 5 protocol, 6 content, 7
    /// policy.
    pub subject: u16,
    /// The registered detail.
    pub detail: u16,
}

impl EnhancedStatus {
    /// Puts a status code together.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl FromStr for EnhancedStatus {
    type Err = ReplyError;

    /// ```text
    /// status-code = class "." subject "." detail
    /// class       = "2" / "4" / "5"
    /// subject     = 1*3digit
    /// detail      = 1*3digit
    /// ```
    fn from_str(text: &str) -> Result<Self, ReplyError> {
        let mut numbers = text.split('.');
        let mut next = || {
            numbers.next().filter(|digits| is_number(digits)).and_then(|digits| digits.parse().ok())
        };
        let (class, subject, detail) = (next(), next(), next());
        match (class, subject, detail, numbers.next()) {
            (Some(class @ (2 | 4 | 5)), Some(subject), Some(detail), None) => {
                Ok(Self { class: class as u8, subject, detail })
            }
            _ => Err(ReplyError::EnhancedStatus),
        }
    }
}

serde_as_text!(EnhancedStatus);

/// What a server says to a command: a code, perhaps an enhanced status code, and one or more lines
/// of text.
///
/// It can always be written: a control character in the text became `?` when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reply {
    code: u16,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    enhanced: Option<EnhancedStatus>,
    lines: Vec<String>,
}

impl Reply {
    /// A reply of our own. The text may begin with an enhanced status code, and has a line for each
    /// `\n`.
    ///
    /// A code outside 200–599 becomes 451. The class of the status code always follows the first
    /// digit of the code (RFC 2034 §4). Text longer than 20 lines or lines longer than 480 octets
    /// are cut (RFC 5321 §4.5.3.1.5).
    pub fn new(code: u16, text: impl AsRef<str>) -> Self {
        let code = if (200..=599).contains(&code) { code } else { 451 };
        let (enhanced, text) = split_enhanced(code, text.as_ref());
        let mut lines: Vec<String> =
            text.split('\n').take(MAXIMUM_OWN_LINES).map(printable).collect();
        if lines.len() > 1 && lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        Self { code, enhanced, lines }
    }

    /// The same reply with this enhanced status code, if it has none and its class can have one.
    #[must_use]
    pub fn or_enhanced(mut self, subject: u16, detail: u16) -> Self {
        if let (None, Some(class)) = (self.enhanced, class_of(self.code)) {
            self.enhanced = Some(EnhancedStatus { class, subject, detail });
        }
        self
    }

    /// The three digits.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status code, if the reply has one.
    pub fn enhanced(&self) -> Option<EnhancedStatus> {
        self.enhanced
    }

    /// The lines of text, without codes. At least one, perhaps empty.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The lines of text, joined by spaces.
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// 2yz and 3yz: done, or go on.
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// 4yz: try again later.
    pub fn is_temporary(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// 5yz: do not try again.
    pub fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// Writes it as it goes over the wire.
    ///
    /// ```text
    /// Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF
    /// ```
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_with(self.enhanced, out);
    }

    /// Writes it with the enhanced status code `class.subject.detail`, if it has none and its class can have one.
    pub(crate) fn write_or_enhanced(&self, subject: u16, detail: u16, out: &mut Vec<u8>) {
        let usual = class_of(self.code).map(|class| EnhancedStatus { class, subject, detail });
        self.write_with(self.enhanced.or(usual), out);
    }

    fn write_with(&self, enhanced: Option<EnhancedStatus>, out: &mut Vec<u8>) {
        for (index, line) in self.lines.iter().enumerate() {
            push_number(out, self.code);
            out.push(if index + 1 == self.lines.len() { b' ' } else { b'-' });
            // RFC 2034 §4: the status code stands on every line.
            if let Some(EnhancedStatus { class, subject, detail }) = enhanced {
                for (number, end) in [(class.into(), b'.'), (subject, b'.'), (detail, b' ')] {
                    push_number(out, number);
                    out.push(end);
                }
            }
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }

    /// A reply that was received: codes were checked, text is taken as it came.
    fn received(code: u16, texts: &[String]) -> Self {
        let mut enhanced = None;
        let lines = texts
            .iter()
            .map(|text| {
                let (status, text) = split_enhanced(code, text);
                enhanced = enhanced.or(status);
                printable(text)
            })
            .collect();
        Self { code, enhanced, lines }
    }
}

impl fmt::Display for Reply {
    /// On one line: `550 5.7.1 No such user here`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = self.enhanced {
            write!(f, " {status}")?;
        }
        for line in &self.lines {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

impl FromStr for Reply {
    type Err = ReplyError;

    /// Reads what `Display` writes; a line for each `\n`.
    fn from_str(text: &str) -> Result<Self, ReplyError> {
        let (code, rest) = text.split_at_checked(3).ok_or(ReplyError::Code)?;
        let code: u16 = code.parse().map_err(|_| ReplyError::Code)?;
        if !(200..=599).contains(&code) || !(rest.is_empty() || rest.starts_with(' ')) {
            return Err(ReplyError::Code);
        }
        Ok(Self::new(code, rest.strip_prefix(' ').unwrap_or(rest)))
    }
}

/// Takes the enhanced status code from the beginning of the text.
fn split_enhanced(code: u16, text: &str) -> (Option<EnhancedStatus>, &str) {
    let Some(class) = class_of(code) else { return (None, text) };
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word.parse::<EnhancedStatus>() {
        // RFC 2034 §4: the class is the first digit of the code.
        Ok(status) => (Some(EnhancedStatus { class, ..status }), rest),
        Err(_) => (None, text),
    }
}

/// RFC 2034 §4: replies 2yz, 4yz and 5yz have a status code, 3yz has none.
fn class_of(code: u16) -> Option<u8> {
    match code / 100 {
        2 => Some(2),
        4 => Some(4),
        5 => Some(5),
        _ => None,
    }
}

fn is_number(digits: &str) -> bool {
    (1..=3).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit())
}

fn push_number(out: &mut Vec<u8>, number: u16) {
    let digits = [10_000, 1000, 100, 10, 1].map(|unit| b'0' + (number / unit % 10) as u8);
    let zeros = digits.iter().take(digits.len() - 1).take_while(|digit| **digit == b'0').count();
    out.extend_from_slice(&digits[zeros..]);
}

/// RFC 5321 §4.2: HT and printable characters; UTF-8 as in RFC 6531 §3.5.
fn printable(text: &str) -> String {
    let mut line = text.strip_suffix('\r').unwrap_or(text);
    if line.len() > MAXIMUM_OWN_LINE {
        line = &line[..line.floor_char_boundary(MAXIMUM_OWN_LINE)];
    }
    if line.bytes().all(|octet| matches!(octet, b'\t' | b' '..=b'~')) {
        return line.to_owned();
    }
    line.chars()
        .map(|character| if character.is_control() && character != '\t' { '?' } else { character })
        .collect()
}

// RFC 5321 §4.5.3.1.5: 512 octets with codes and CRLF. What others send may be longer, and is cut
// here as well.
const MAXIMUM_OWN_LINE: usize = 480;
// More says nobody; a plugin that sends a page is cut.
const MAXIMUM_OWN_LINES: usize = 20;
