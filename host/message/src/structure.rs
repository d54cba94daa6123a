//! The MIME structure of a message as it streams by: where its leaves lie and how deep they are.
//!
//! This walks instead of recursing, holds one line and the open boundaries, and looks at each octet a bounded
//! number of times. No other parser of ours sees a whole message, so what this walk bounds is bounded: a parser
//! that follows `message/rfc822` into itself can be made to exhaust its stack by one small mail.

use crate::content_type::ContentType;
use crate::header::{Header, LineKind, without_line_end};

/// Where a leaf lies in the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Start of its header block; for the top of a message, that of the message.
    pub(crate) header: u64,
    /// Start of its body.
    pub(crate) body: u64,
    /// End of its body, before the line end that belongs to the boundary (RFC 2046 §5.1.1).
    pub(crate) end: u64,
    /// How many multiparts and messages are around it.
    pub(crate) depth: usize,
}

/// Follows the structure of one message.
#[derive(Debug)]
pub(crate) struct Walk {
    /// Multiparts that are open, the outermost first.
    open: Vec<Multipart>,
    state: State,
    leaves: Vec<Leaf>,
    most_leaves: usize,
    deepest: usize,
    too_deep: bool,
    /// Octets seen.
    position: u64,
    /// Start of the line that is coming in, and what is kept of it.
    line_start: u64,
    line: Vec<u8>,
    /// Octets of the line end before `line_start`.
    line_end: u64,
    last: u8,
}

#[derive(Debug)]
struct Multipart {
    boundary: Vec<u8>,
    depth: usize,
    /// RFC 2046 §5.1.5: parts of a digest are messages by default.
    digest: bool,
}

#[derive(Debug)]
enum State {
    /// In the header block of a part or of a message within.
    Header(PartHeader),
    /// In the body of a leaf.
    Leaf(Leaf),
    /// Before the first part of a multipart or behind its last.
    Between,
}

/// What of a header block tells how to go on.
#[derive(Debug, Default)]
struct PartHeader {
    start: u64,
    depth: usize,
    /// Without a type of its own the part is a message.
    digest: bool,
    content_type: Vec<u8>,
    encoding: Vec<u8>,
    current: Option<Kept>,
}

#[derive(Clone, Copy, Debug)]
enum Kept {
    ContentType,
    Encoding,
}

impl Walk {
    /// Begins behind the header of a message.
    pub(crate) fn new(header: &Header, most_leaves: usize, deepest: usize) -> Self {
        let mut top = PartHeader::default();
        for (name, kept) in [(CONTENT_TYPE, Kept::ContentType), (ENCODING, Kept::Encoding)] {
            if let Some(field) = header.get(name) {
                top.keep(kept, field.raw_value());
            }
        }
        let position = header.body_offset();
        let mut walk = Self {
            open: Vec::new(),
            state: State::Between,
            leaves: Vec::new(),
            most_leaves,
            deepest,
            too_deep: false,
            position,
            line_start: position,
            line: Vec::new(),
            line_end: 0,
            last: 0,
        };
        walk.enter(&top, position);
        walk
    }

    /// Takes the next octets of the body.
    pub(crate) fn update(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            if self.too_deep || (self.open.is_empty() && !matches!(self.state, State::Header(_))) {
                // No boundary can come any more: the rest is one leaf.
                self.position += octets.len() as u64;
                return;
            }
            let (piece, rest) = match memchr::memchr(b'\n', octets) {
                Some(at) => octets.split_at(at + 1),
                None => (octets, &[][..]),
            };
            self.take_piece(piece);
            octets = rest;
        }
    }

    /// Ends the message, and says where its leaves are; `None` if it is nested too deep.
    pub(crate) fn finish(mut self) -> Option<Vec<Leaf>> {
        if !self.line.is_empty() {
            self.take_line();
        }
        let (position, line_end) = (self.position, 0);
        self.end_part(position, line_end);
        (!self.too_deep).then_some(self.leaves)
    }

    /// Whether more is around some part than may be.
    pub(crate) fn is_too_deep(&self) -> bool {
        self.too_deep
    }

    /// A piece of a line, with its line end if it is the last.
    fn take_piece(&mut self, piece: &[u8]) {
        // In bodies only lines with two hyphens matter; of the others not one octet is kept.
        let at_start = self.position == self.line_start;
        let in_header = matches!(self.state, State::Header(_));
        let matters = in_header || if at_start { piece[0] == b'-' } else { !self.line.is_empty() };
        if matters {
            let room = LONGEST_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        self.position += piece.len() as u64;
        let before = if piece.len() > 1 { piece[piece.len() - 2] } else { self.last };
        self.last = piece[piece.len() - 1];
        if self.last == b'\n' {
            if matters {
                self.take_line();
            }
            self.line.clear();
            self.line_start = self.position;
            self.line_end = if before == b'\r' { 2 } else { 1 };
        }
    }

    /// A whole line, from `line_start` to `position`.
    fn take_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        let length = without_line_end(&line).len();
        line.truncate(length);
        if let Some((level, last)) = self.boundary(&line) {
            self.end_part(self.line_start, self.line_end);
            self.open.truncate(level + 1);
            self.state = match (last, self.open.last()) {
                (false, Some(multipart)) => State::Header(PartHeader {
                    start: self.position,
                    depth: multipart.depth,
                    digest: multipart.digest,
                    ..PartHeader::default()
                }),
                _ => {
                    self.open.truncate(level);
                    State::Between
                }
            };
        } else if let State::Header(header) = &mut self.state {
            match LineKind::of(&line) {
                LineKind::Field { name, value } => header.begin(&line[..name], &line[value..]),
                LineKind::Continuation => header.go_on(&line),
                LineKind::Empty => self.end_header(self.position),
                LineKind::Other => self.end_header(self.line_start),
            }
        }
        line.clear();
        self.line = line;
    }

    /// Which open multipart the line is a boundary of, and whether it is the last (RFC 2046 §5.1.1).
    fn boundary(&self, line: &[u8]) -> Option<(usize, bool)> {
        // Transport may have padded the line.
        let rest = line.strip_prefix(b"--")?.trim_ascii_end();
        let last = rest.strip_suffix(b"--");
        self.open.iter().enumerate().rev().find_map(|(level, multipart)| {
            let boundary = &multipart.boundary[..];
            let is_last = last == Some(boundary);
            (is_last || rest == boundary).then_some((level, is_last && rest != boundary))
        })
    }

    fn end_header(&mut self, body: u64) {
        if let State::Header(header) = std::mem::replace(&mut self.state, State::Between) {
            self.enter(&header, body);
        }
    }

    /// Behind a header block: a multipart is opened, a message within begins, or a leaf does.
    fn enter(&mut self, header: &PartHeader, body: u64) {
        let depth = header.depth + 1;
        self.state = match header.kind() {
            Kind::Leaf => {
                State::Leaf(Leaf { header: header.start, body, end: body, depth: header.depth })
            }
            _ if depth > self.deepest => {
                self.too_deep = true;
                State::Between
            }
            Kind::Message => {
                State::Header(PartHeader { start: body, depth, ..PartHeader::default() })
            }
            Kind::Multipart { boundary, digest } => {
                self.open.push(Multipart { boundary, depth, digest });
                State::Between
            }
        };
    }

    /// The part that was under way ends here, with the line end before it taken off.
    fn end_part(&mut self, position: u64, line_end: u64) {
        let leaf = match std::mem::replace(&mut self.state, State::Between) {
            State::Leaf(leaf) => leaf,
            // A header block without an empty line: a part without a body.
            State::Header(header) if header.start < position => {
                Leaf { header: header.start, body: position, end: position, depth: header.depth }
            }
            State::Header(_) | State::Between => return,
        };
        if self.leaves.len() < self.most_leaves {
            let end = position.saturating_sub(line_end).max(leaf.body);
            self.leaves.push(Leaf { end, ..leaf });
        }
    }
}

enum Kind {
    Multipart { boundary: Vec<u8>, digest: bool },
    Message,
    Leaf,
}

impl PartHeader {
    fn begin(&mut self, name: &[u8], value: &[u8]) {
        self.current = None;
        // The first field of a name counts.
        if self.content_type.is_empty() && name.eq_ignore_ascii_case(CONTENT_TYPE.as_bytes()) {
            self.keep(Kept::ContentType, value);
        } else if self.encoding.is_empty() && name.eq_ignore_ascii_case(ENCODING.as_bytes()) {
            self.keep(Kept::Encoding, value);
        }
    }

    fn go_on(&mut self, line: &[u8]) {
        if let Some(kept) = self.current {
            self.keep(kept, line);
        }
    }

    fn keep(&mut self, kept: Kept, octets: &[u8]) {
        let value = match kept {
            Kept::ContentType => &mut self.content_type,
            Kept::Encoding => &mut self.encoding,
        };
        let room = LONGEST_LINE.saturating_sub(value.len());
        value.extend_from_slice(&octets[..octets.len().min(room)]);
        self.current = Some(kept);
    }

    fn kind(&self) -> Kind {
        let value = self.content_type.trim_ascii_start();
        let begins = |prefix: &str| {
            value
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        // Types with comments or spaces before the slash are no multiparts to us, hence leaves.
        if begins("multipart/") {
            let parsed = ContentType::parse(value);
            return match parsed.parameter("boundary").map(str::trim_end) {
                Some(boundary) if !boundary.is_empty() && boundary.len() <= LONGEST_BOUNDARY => {
                    let digest = parsed.is("multipart/digest");
                    Kind::Multipart { boundary: boundary.as_bytes().to_vec(), digest }
                }
                _ => Kind::Leaf,
            };
        }
        let message = if value.is_empty() {
            self.digest
        } else {
            begins("message/") && {
                let parsed = ContentType::parse(value);
                parsed.is("message/rfc822") || parsed.is("message/global")
            }
        };
        // RFC 2046 §5.2.1 allows no encoding of a message (RFC 6532 §3.7 does, for global ones). An encoded one is
        // a leaf: nobody looks into it.
        if message && !self.is_encoded() { Kind::Message } else { Kind::Leaf }
    }

    fn is_encoded(&self) -> bool {
        let encoding = self.encoding.trim_ascii();
        encoding.eq_ignore_ascii_case(b"base64")
            || encoding.eq_ignore_ascii_case(b"quoted-printable")
    }
}

const CONTENT_TYPE: &str = "Content-Type";
const ENCODING: &str = "Content-Transfer-Encoding";

/// What is kept of a line, and of a field that matters here. RFC 5322 §2.1.1 allows 998 octets to a line.
const LONGEST_LINE: usize = 4096;

/// RFC 2046 §5.1.1 allows 70 octets; some write more.
const LONGEST_BOUNDARY: usize = 256;

#[cfg(test)]
mod tests;
