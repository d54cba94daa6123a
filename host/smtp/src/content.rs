//! Content on the wire: the transparency of DATA (RFC 5321 §4.5.2), both ways, and the counting of
//! BDAT (RFC 3030).

#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};
use memchr::memchr3;

use crate::line::{ContentFault, Endings};

/// Undoes the dot-stuffing of DATA and finds the end of the content, which is `CRLF . CRLF` and
/// nothing else.
///
/// After a fault it gives out nothing more, but reads on to the true end, so that no octet of the
/// content is ever taken for a command.
#[derive(Debug)]
pub(crate) struct DataDecoder {
    at: At,
    intake: Intake,
}

/// What came last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// CRLF, or nothing at all.
    LineStart,
    /// The dot at the start of a line.
    Dot,
    /// That dot, and CR.
    DotCr,
    /// CR.
    Cr,
    /// Anything else.
    Middle,
}

impl DataDecoder {
    /// `limit`: octets of content, after the stuffing is undone.
    pub(crate) fn new(limit: u64) -> Self {
        Self { at: At::LineStart, intake: Intake::new(limit) }
    }

    /// Takes what there is from the front of the buffer. Gives a piece of content, perhaps none,
    /// and whether that was the end: then what remains in the buffer are commands.
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut) -> (Option<Bytes>, bool) {
        // The stuffed dots are closed up in the buffer itself: `read` runs ahead of `written`.
        let (mut read, mut written) = (0, 0);
        let mut ended = false;
        while let Some(&octet) = buffer.get(read) {
            match (self.at, octet) {
                (At::Middle, _) => {
                    let run = memchr3(b'\r', b'\n', 0, &buffer[read..]);
                    let stop = run.map_or(buffer.len(), |run| read + run + 1);
                    if written != read {
                        buffer.copy_within(read..stop, written);
                    }
                    written += stop - read;
                    read = stop;
                    match run.map(|_| buffer[written - 1]) {
                        None => {}
                        Some(b'\r') => self.at = At::Cr,
                        Some(b'\n') => self.intake.fail(ContentFault::BareLf),
                        Some(_) => self.intake.fail(ContentFault::Nul),
                    }
                }
                (At::Cr, b'\n') => {
                    buffer[written] = octet;
                    (read, written) = (read + 1, written + 1);
                    self.at = At::LineStart;
                }
                // RFC 5321 §4.5.2: the first dot of a line is not content.
                (At::LineStart, b'.') => (read, self.at) = (read + 1, At::Dot),
                (At::Dot, b'\r') => (read, self.at) = (read + 1, At::DotCr),
                (At::DotCr, b'\n') => {
                    read += 1;
                    ended = true;
                    break;
                }
                (At::Cr | At::DotCr, _) => {
                    self.intake.fail(ContentFault::BareCr);
                    self.at = At::Middle;
                }
                (At::LineStart | At::Dot, _) => self.at = At::Middle,
            }
        }
        let mut piece = buffer.split_to(read);
        piece.truncate(written);
        (self.intake.take(piece.freeze()), ended)
    }

    /// Why the content is refused, known in full at its end.
    pub(crate) fn fault(&self) -> Option<ContentFault> {
        self.intake.fault
    }
}

/// Counts the content of BDAT over all chunks of a message. There is nothing to undo in it (RFC
/// 3030 §2).
#[derive(Debug)]
pub(crate) struct ChunkDecoder {
    intake: Intake,
    /// Watches lines, unless the content is BINARYMIME and has none.
    endings: Option<Endings>,
}

impl ChunkDecoder {
    pub(crate) fn new(limit: u64, binary: bool) -> Self {
        Self { intake: Intake::new(limit), endings: (!binary).then(Endings::default) }
    }

    /// Takes up to `remaining` octets from the front of the buffer.
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut, remaining: &mut u64) -> Option<Bytes> {
        let piece = split_chunk(buffer, remaining);
        if self.intake.fault.is_none()
            && let Some(fault) = self.endings.as_mut().and_then(|endings| endings.watch(&piece))
        {
            self.intake.fail(fault);
        }
        self.intake.take(piece)
    }

    /// Why the content is refused, as far as is known.
    pub(crate) fn fault(&self) -> Option<ContentFault> {
        self.intake.fault
    }

    /// Why the content is refused, if this was its end.
    pub(crate) fn finish(&self) -> Option<ContentFault> {
        self.intake.fault.or_else(|| self.endings.as_ref().and_then(Endings::finish))
    }
}

/// Cuts what there is of a chunk from the front of the buffer.
pub(crate) fn split_chunk(buffer: &mut BytesMut, remaining: &mut u64) -> Bytes {
    let length =
        usize::try_from(*remaining).map_or(buffer.len(), |remaining| remaining.min(buffer.len()));
    *remaining -= length as u64;
    buffer.split_to(length).freeze()
}

/// The limit on octets, and the first fault.
#[derive(Debug)]
struct Intake {
    room: u64,
    fault: Option<ContentFault>,
}

impl Intake {
    fn new(limit: u64) -> Self {
        Self { room: limit, fault: None }
    }

    fn fail(&mut self, fault: ContentFault) {
        self.fault.get_or_insert(fault);
    }

    /// Gives the piece through if all is well up to here.
    fn take(&mut self, piece: Bytes) -> Option<Bytes> {
        match self.room.checked_sub(piece.len() as u64) {
            Some(room) => self.room = room,
            None => self.fail(ContentFault::TooBig),
        }
        (self.fault.is_none() && !piece.is_empty()).then_some(piece)
    }
}

/// Writes content for DATA: stuffs dots, and lets no CR or LF onto the wire but together, whatever
/// it is given.
///
/// Content that was received is in order already, and then this adds dots and nothing else. What a
/// plugin or a local program made may not be: a bare CR or LF becomes CRLF, a NUL is left out. (The
/// other reading, an end of content that only the next server sees, would let a message carry
/// another one.)
#[derive(Debug)]
pub struct DataEncoder {
    line_start: bool,
    after_cr: bool,
}

impl Default for DataEncoder {
    fn default() -> Self {
        Self { line_start: true, after_cr: false }
    }
}

impl DataEncoder {
    /// Appends the next piece of content to `out`.
    pub fn encode(&mut self, content: &[u8], out: &mut Vec<u8>) {
        let mut rest = content;
        while let Some((&octet, after)) = rest.split_first() {
            if std::mem::take(&mut self.after_cr) {
                out.extend_from_slice(b"\r\n");
                self.line_start = true;
                if octet == b'\n' {
                    rest = after;
                    continue;
                }
            }
            if self.line_start && octet == b'.' {
                out.push(b'.');
            }
            let run = memchr3(b'\r', b'\n', 0, rest).unwrap_or(rest.len());
            out.extend_from_slice(&rest[..run]);
            self.line_start &= run == 0;
            match rest.get(run) {
                Some(b'\r') => self.after_cr = true,
                Some(b'\n') => {
                    out.extend_from_slice(b"\r\n");
                    self.line_start = true;
                }
                _ => {}
            }
            rest = rest.get(run + 1..).unwrap_or_default();
        }
    }

    /// Appends the end of the content: its last CRLF if that is missing, and the final dot.
    pub fn finish(self, out: &mut Vec<u8>) {
        if self.after_cr || !self.line_start {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}
