//! The header block, field by field, without a copy: each field is known by where it stands.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use mail_parser::HeaderValue;
use mail_parser::parsers::MessageStream;
use smtp::Mailbox;

use crate::decode;

/// The header of a message: its fields in order, octet for octet as they came, and the empty line behind them.
///
/// The header ends with the first empty line. A line that is neither a field nor the continuation of one ends it as
/// well and is the first of the body (as Postfix and Python's `email` have it), so that no text is taken for
/// fields because an empty line is missing.
#[derive(Clone, Debug, Default)]
pub struct Header {
    raw: Bytes,
    spans: Vec<Span>,
}

/// One field of a [`Header`].
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    raw: &'a [u8],
    name: &'a str,
    value: usize,
}

/// Where a field stands.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    name_end: usize,
    value: usize,
    end: usize,
}

impl Header {
    /// Reads the header at the start of a message, or a header alone.
    pub fn parse(content: impl Into<Bytes>) -> Self {
        let content = content.into();
        let mut scan = Scan::default();
        let end = scan.advance(&content).unwrap_or_else(|| scan.finish(&content));
        scan.into_header(content.slice(..end))
    }

    /// The whole block as it came, with the empty line that ends it if there is one.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Where the body begins.
    pub fn body_offset(&self) -> u64 {
        self.raw.len() as u64
    }

    /// All fields, from the top.
    pub fn fields(&self) -> impl DoubleEndedIterator<Item = Field<'_>> + ExactSizeIterator + Clone {
        self.spans.iter().map(|span| self.field(*span))
    }

    /// All fields of this name, from the top; the case of the name does not matter.
    pub fn get_all(&self, name: &str) -> impl Iterator<Item = Field<'_>> {
        self.fields().filter(move |field| field.is(name))
    }

    /// The first field of this name.
    pub fn get(&self, name: &str) -> Option<Field<'_>> {
        self.get_all(name).next()
    }

    /// How many hops the message has behind it: one Received field each (RFC 5321 §6.3).
    pub fn received_count(&self) -> usize {
        self.get_all("Received").count()
    }

    /// The empty line, or nothing where the header ended without.
    pub(crate) fn separator(&self) -> &[u8] {
        &self.raw[self.spans.last().map_or(0, |span| span.end)..]
    }

    fn field(&self, span: Span) -> Field<'_> {
        Field {
            raw: &self.raw[span.start..span.end],
            name: std::str::from_utf8(&self.raw[span.start..span.name_end]).unwrap_or_default(),
            value: span.value - span.start,
        }
    }
}

impl<'a> Field<'a> {
    /// The name as written.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Whether this is the field's name, in whatever case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The whole field with its folding and its last line end.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// All behind the colon, folding included, without the last line end.
    pub fn raw_value(&self) -> &'a [u8] {
        without_line_end(&self.raw[self.value..])
    }

    /// The value unfolded, with encoded words decoded (RFC 2047) and octets that are not UTF-8 replaced.
    pub fn value(&self) -> String {
        decode::value(self.raw_value())
    }
}

impl Field<'_> {
    /// The mailboxes of an address list (RFC 5322 §3.4), those of groups too. What is none, as a
    /// group's name or an address without a domain, stands there as `None`.
    ///
    /// Only for fields that a [`Watch`](crate::Watch) has let pass: it bounds the nesting of comments.
    pub fn mailboxes(&self) -> Vec<Option<Mailbox>> {
        // The parser wants the line end of the field.
        let value = [self.raw_value(), b"\r\n"].concat();
        // A value from the network must not end more than itself, whatever a parser we did not write
        // makes of it.
        let parsed =
            catch_unwind(AssertUnwindSafe(|| match MessageStream::new(&value).parse_address() {
                HeaderValue::Address(addresses) => addresses
                    .iter()
                    .map(|address| Mailbox::parse(address.address.as_deref()?).ok())
                    .collect(),
                _ => Vec::new(),
            }));
        parsed.unwrap_or_else(|_| vec![None])
    }
}

/// Finds the fields of a header that is still coming in.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    spans: Vec<Span>,
    /// Start of the first line that is not complete.
    line: usize,
    /// Up to here there is no line end in it.
    searched: usize,
}

impl Scan {
    /// Takes the lines that are complete in `buffer`, which begins with the header each time. Says where the
    /// header ends, once it does.
    pub(crate) fn advance(&mut self, buffer: &[u8]) -> Option<usize> {
        while let Some(length) = memchr::memchr(b'\n', &buffer[self.searched..]) {
            let end = self.searched + length + 1;
            self.searched = end;
            if let Some(header_end) = self.take_line(buffer, end) {
                return Some(header_end);
            }
        }
        self.searched = buffer.len();
        None
    }

    /// Takes what is left when nothing more comes, and says where the header ends.
    pub(crate) fn finish(&mut self, buffer: &[u8]) -> usize {
        if self.line == buffer.len() {
            return self.line;
        }
        self.take_line(buffer, buffer.len()).unwrap_or(buffer.len())
    }

    pub(crate) fn fields(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn into_header(self, raw: Bytes) -> Header {
        Header { raw, spans: self.spans }
    }

    fn take_line(&mut self, buffer: &[u8], end: usize) -> Option<usize> {
        let start = std::mem::replace(&mut self.line, end);
        match (LineKind::of(without_line_end(&buffer[start..end])), self.spans.last_mut()) {
            (LineKind::Field { name, value }, _) => {
                self.spans.push(Span { start, name_end: start + name, value: start + value, end });
                None
            }
            (LineKind::Continuation, Some(field)) => {
                field.end = end;
                None
            }
            (LineKind::Empty, _) => Some(end),
            (LineKind::Continuation, None) | (LineKind::Other, _) => Some(start),
        }
    }
}

/// What a line of a header is, seen alone and without its line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineKind {
    /// The end of the header.
    Empty,
    /// It belongs to the field above.
    Continuation,
    /// It begins a field: the end of its name, the start of its value.
    Field { name: usize, value: usize },
    /// It belongs to no header.
    Other,
}

impl LineKind {
    pub(crate) fn of(line: &[u8]) -> Self {
        match line.first() {
            None => return Self::Empty,
            Some(b' ' | b'\t') => return Self::Continuation,
            Some(_) => {}
        }
        // RFC 5322 §2.2: a name is printable US-ASCII without the colon.
        let name = line.iter().position(|octet| !is_name_octet(*octet)).unwrap_or(line.len());
        // RFC 5322 §4.5: in old messages white space may stand before the colon.
        let space = line[name..].iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
        match line.get(name + space) {
            Some(b':') if name > 0 => Self::Field { name, value: name + space + 1 },
            _ => Self::Other,
        }
    }
}

/// `ftext` of RFC 5322 §3.6.8.
pub(crate) fn is_name_octet(octet: u8) -> bool {
    matches!(octet, 33..=57 | 59..=126)
}

/// Fields that are no free text: parentheses are comments in them, and words are not encoded just anywhere.
pub(crate) fn has_grammar(name: &str) -> bool {
    const NAMES: [&str; 23] = [
        "Date",
        "From",
        "Sender",
        "Reply-To",
        "To",
        "Cc",
        "Bcc",
        "Message-ID",
        "In-Reply-To",
        "References",
        "Resent-Date",
        "Resent-From",
        "Resent-Sender",
        "Resent-To",
        "Resent-Cc",
        "Resent-Bcc",
        "Return-Path",
        "Received",
        "MIME-Version",
        "Content-Type",
        "Content-Transfer-Encoding",
        "Content-Disposition",
        "Content-ID",
    ];
    NAMES.iter().any(|other| other.eq_ignore_ascii_case(name))
}

pub(crate) fn without_line_end(line: &[u8]) -> &[u8] {
    match line {
        [rest @ .., b'\r', b'\n'] | [rest @ .., b'\n'] => rest,
        rest => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(content: &str) -> (Vec<(String, String)>, usize) {
        let header = Header::parse(content.as_bytes().to_vec());
        let fields =
            header.fields().map(|field| (field.name().to_owned(), field.value())).collect();
        (fields, header.raw().len())
    }

    #[test]
    fn a_header_ends_where_the_body_begins() {
        let check = |content: &str, expected: &[(&str, &str)], body: &str| {
            let (fields, end) = shown(content);
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect();
            assert_eq!((fields, &content[end..]), (expected, body), "{content:?}");
        };
        check("", &[], "");
        check("\r\nx", &[], "x");
        check("A: 1\r\nB: 2\r\n\r\nx", &[("A", "1"), ("B", "2")], "x");
        check("A: 1\nB: 2\n\nx", &[("A", "1"), ("B", "2")], "x");
        check("A: 1", &[("A", "1")], "");
        check("A: 1\r\n", &[("A", "1")], "");
        check("A: 1\r\n 2\r\n\t3\r\n\r\n", &[("A", "1 2\t3")], "");
        check("A: 1\r\n \r\n\r\nx", &[("A", "1")], "x"); // a line of white space continues (RFC 5322 §4.2)
        check("A:1\r\nB :2\r\nC:\r\n\r\n", &[("A", "1"), ("B", "2"), ("C", "")], ""); // §4.5
        check("A: 1\r\nno field\r\nB: 2\r\n", &[("A", "1")], "no field\r\nB: 2\r\n");
        check("Hello,\r\nworld: x\r\n", &[], "Hello,\r\nworld: x\r\n");
        check(" A: 1\r\n", &[], " A: 1\r\n");
        check(": 1\r\n", &[], ": 1\r\n");
        check("From a@b Sat\r\nA: 1\r\n", &[], "From a@b Sat\r\nA: 1\r\n");
        check("Ä: 1\r\n", &[], "Ä: 1\r\n");
    }

    #[test]
    fn fields_keep_their_octets() {
        let content = "Subject : =?utf-8?q?=C3=BC?=\r\n\tx\r\nsubject:y\r\n\r\n";
        let header = Header::parse(content.as_bytes().to_vec());
        let field = header.get("SUBJECT").unwrap();
        assert_eq!(field.raw(), b"Subject : =?utf-8?q?=C3=BC?=\r\n\tx\r\n");
        assert_eq!(field.raw_value(), b" =?utf-8?q?=C3=BC?=\r\n\tx");
        assert_eq!((field.name(), field.value()), ("Subject", "ü\tx".to_owned()));
        assert_eq!(header.get_all("Subject").count(), 2);
        assert_eq!((header.len(), header.body_offset()), (2, content.len() as u64));
        assert_eq!(header.separator(), b"\r\n");
    }

    #[test]
    fn a_header_in_pieces_is_the_same_header() {
        let content = b"A: 1\r\n b\r\nC: 2\r\n\r\nbody: x\r\n";
        for split in 0..content.len() {
            let mut scan = Scan::default();
            let end = scan.advance(&content[..split]).or_else(|| scan.advance(content));
            assert_eq!(end, Some(18), "{split}");
            assert_eq!(
                scan.into_header(Bytes::from_static(content).slice(..18)).len(),
                2,
                "{split}"
            );
        }
    }
}
