//! What is looked at while content streams in: its header, and everything that a parser could be hurt by.

use bytes::BytesMut;
use smtp::Reply;

use crate::header::{Header, Scan, has_grammar};
use crate::structure::Walk;

/// Bounds of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of the header block. It is held in memory and given to plugins; Postfix takes 100 KiB, and lists of
    /// recipients in real mail need more now and then.
    pub header_octets: usize,
    /// Fields of the header. Real mail has under 200.
    pub header_fields: usize,
    /// Multiparts and messages around a part. Postfix takes 100, and no mail program writes ten.
    pub nesting: usize,
    /// Comments within comments in a field that has a grammar. Two are rare.
    pub comments: usize,
    /// Leaves that are shown; the others are passed over, not refused.
    pub parts: usize,
    /// Received fields. RFC 5321 §6.3: loops are found by a large threshold, "normally at least 100".
    pub received: usize,
}

/// Why a message is refused for its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// More than [`Limits::header_octets`].
    #[error("the header has more than {0} octets")]
    HeaderTooLarge(usize),
    /// More than [`Limits::header_fields`].
    #[error("the header has more than {0} fields")]
    TooManyFields(usize),
    /// Deeper than [`Limits::nesting`].
    #[error("MIME parts are nested deeper than {0}")]
    NestingTooDeep(usize),
    /// Deeper than [`Limits::comments`].
    #[error("comments are nested deeper than {0}")]
    CommentsTooDeep(usize),
    /// More than [`Limits::received`]: the message runs in a circle.
    #[error("more than {0} hops: a mail loop")]
    TooManyHops(usize),
}

/// Reads content piece by piece. It keeps the header and, of the body, one line.
#[derive(Debug)]
pub struct Watch {
    limits: Limits,
    state: State,
}

#[derive(Debug)]
enum State {
    Header { buffer: BytesMut, scan: Scan },
    Body { header: Header, walk: Walk },
    Defect(Defect),
}

impl Watch {
    /// Begins a message.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Header { buffer: BytesMut::new(), scan: Scan::default() } }
    }

    /// Takes the next octets of the content: decoded, without transparency dots.
    pub fn update(&mut self, octets: &[u8]) {
        match &mut self.state {
            State::Defect(_) => {}
            State::Body { walk, .. } => {
                walk.update(octets);
                if walk.is_too_deep() {
                    self.state = State::Defect(Defect::NestingTooDeep(self.limits.nesting));
                }
            }
            State::Header { buffer, scan } => {
                // One octet more than may be, which tells that it is too much.
                let room =
                    (self.limits.header_octets + 1).saturating_sub(buffer.len()).min(octets.len());
                let (taken, rest) = octets.split_at(room);
                buffer.extend_from_slice(taken);
                if let Some(end) = scan.advance(buffer) {
                    self.begin_body(end);
                    self.update(rest);
                } else if let Some(defect) = self.header_defect(None) {
                    self.state = State::Defect(defect);
                }
            }
        }
    }

    /// The defect that was found so far. What comes after it is of no interest.
    pub fn defect(&self) -> Option<Defect> {
        match &self.state {
            State::Defect(defect) => Some(*defect),
            State::Header { .. } | State::Body { .. } => None,
        }
    }

    /// Ends the message.
    pub fn finish(mut self) -> Result<Header, Defect> {
        if let State::Header { buffer, scan } = &mut self.state {
            let end = scan.finish(buffer);
            self.begin_body(end);
        }
        match self.state {
            State::Body { header, walk } => match walk.finish() {
                Some(_) => Ok(header),
                None => Err(Defect::NestingTooDeep(self.limits.nesting)),
            },
            State::Defect(defect) => Err(defect),
            // `begin_body` leaves no header behind.
            State::Header { .. } => Ok(Header::default()),
        }
    }

    /// The header ends at `end` of the buffer; what is behind it there is body.
    fn begin_body(&mut self, end: usize) {
        if let Some(defect) = self.header_defect(Some(end)) {
            self.state = State::Defect(defect);
            return;
        }
        let State::Header { buffer, scan } = &mut self.state else { return };
        let mut buffer = std::mem::take(buffer);
        let body = buffer.split_off(end);
        let header = std::mem::take(scan).into_header(buffer.freeze());
        self.state = match self.limits.check(&header) {
            Ok(()) => {
                let walk = Walk::new(&header, 0, self.limits.nesting);
                State::Body { header, walk }
            }
            Err(defect) => State::Defect(defect),
        };
        self.update(&body);
    }

    /// What is wrong with the header so far, or with the whole of it if it has ended.
    fn header_defect(&self, end: Option<usize>) -> Option<Defect> {
        let State::Header { buffer, scan } = &self.state else { return None };
        if scan.fields() > self.limits.header_fields {
            Some(Defect::TooManyFields(self.limits.header_fields))
        } else if end.unwrap_or(buffer.len()) > self.limits.header_octets {
            Some(Defect::HeaderTooLarge(self.limits.header_octets))
        } else {
            None
        }
    }
}

impl Limits {
    fn check(&self, header: &Header) -> Result<(), Defect> {
        if header.received_count() > self.received {
            return Err(Defect::TooManyHops(self.received));
        }
        let mut structured = header.fields().filter(|field| has_grammar(field.name()));
        if structured.any(|field| comment_depth(field.raw_value()) > self.comments) {
            return Err(Defect::CommentsTooDeep(self.comments));
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_octets: 256 * 1024,
            header_fields: 5000,
            nesting: 100,
            comments: 100,
            parts: 1000,
            received: 100,
        }
    }
}

impl Defect {
    /// What the peer is told.
    pub fn reply(&self) -> Reply {
        match self {
            // RFC 3463 §3.4: X.3.4, message too big for system.
            Self::HeaderTooLarge(octets) => {
                Reply::new(552, format!("5.3.4 Header larger than {octets} octets"))
            }
            Self::TooManyFields(fields) => {
                Reply::new(552, format!("5.3.4 More than {fields} header fields"))
            }
            // RFC 3463 §3.7: X.6.0, other or undefined media error.
            Self::NestingTooDeep(depth) => {
                Reply::new(554, format!("5.6.0 MIME parts nested deeper than {depth}"))
            }
            Self::CommentsTooDeep(depth) => {
                Reply::new(554, format!("5.6.0 Comments nested deeper than {depth}"))
            }
            // RFC 3463 §3.5: X.4.6, routing loop detected.
            Self::TooManyHops(hops) => {
                Reply::new(554, format!("5.4.6 More than {hops} hops, this is a mail loop"))
            }
        }
    }
}

/// How deep comments lie in each other (RFC 5322 §3.2.2), quoted strings and quoted pairs aside.
fn comment_depth(value: &[u8]) -> usize {
    if memchr::memchr(b'(', value).is_none() {
        return 0;
    }
    let (mut depth, mut deepest, mut quoted) = (0_usize, 0, false);
    let mut octets = value.iter();
    while let Some(octet) = octets.next() {
        match octet {
            b'\\' => {
                octets.next();
            }
            b'"' if depth == 0 => quoted = !quoted,
            b'(' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests;
