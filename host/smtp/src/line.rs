//! Lines end with CRLF and with nothing else: the one place that decides it (RFC 5321 §2.3.8,
//! §4.1.1.4).
//!
//! [`Lines`] cuts commands and replies; [`Endings`] watches content. Where one program takes a bare
//! LF for the end of a line and the next does not, a message can carry another one inside (SMTP
//! smuggling), so neither does here.

#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};
use memchr::{memchr2, memchr3};

/// Cuts lines from a buffer that fills in pieces. No octet is looked at twice.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Octets of the buffer that were searched in vain.
    searched: usize,
    /// Octets thrown away of a line that is too long.
    discarded: usize,
}

impl Lines {
    /// Takes the next line, without its CRLF, from the front of the buffer.
    ///
    /// A line longer than `limit` (CRLF included) is thrown away as it comes in and reported at its
    /// end. After a bare CR or LF nobody knows where the peer sees the end of the line: the caller
    /// must end the session.
    pub(crate) fn next(
        &mut self,
        buffer: &mut BytesMut,
        limit: usize,
    ) -> Option<Result<Bytes, LineFault>> {
        let Some(found) = memchr2(b'\r', b'\n', &buffer[self.searched..]) else {
            self.searched = buffer.len();
            return self.discard(buffer, limit);
        };
        let end = self.searched + found;
        if buffer[end] == b'\n' {
            return Some(Err(LineFault::BareLf));
        }
        match buffer.get(end + 1) {
            None => {
                self.searched = end;
                return self.discard(buffer, limit);
            }
            Some(b'\n') => {}
            Some(_) => return Some(Err(LineFault::BareCr)),
        }
        let mut line = buffer.split_to(end + 2);
        let length = line.len() + std::mem::take(&mut self.discarded);
        self.searched = 0;
        if length > limit {
            return Some(Err(LineFault::TooLong));
        }
        line.truncate(end);
        Some(Ok(line.freeze()))
    }

    /// Forgets a line that was begun, because the buffer was emptied.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    fn discard(&mut self, buffer: &mut BytesMut, limit: usize) -> Option<Result<Bytes, LineFault>> {
        if self.searched > limit || self.discarded > 0 {
            let _ = buffer.split_to(self.searched);
            self.discarded += std::mem::take(&mut self.searched);
        }
        // Who sends so much without an end sends no commands.
        (self.discarded > MAXIMUM_DISCARDED).then_some(Err(LineFault::Endless))
    }
}

/// Watches that content has its CR and LF only together. Octets come in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    after_cr: bool,
}

impl Endings {
    /// The first fault in the next piece, if there is one. After a fault the watch is of no more
    /// use.
    pub(crate) fn watch(&mut self, piece: &[u8]) -> Option<ContentFault> {
        let mut rest = piece;
        loop {
            if self.after_cr {
                match rest.split_first() {
                    None => return None,
                    Some((b'\n', after)) => rest = after,
                    Some(_) => return Some(ContentFault::BareCr),
                }
                self.after_cr = false;
            }
            let found = memchr3(b'\r', b'\n', 0, rest)?;
            match rest[found] {
                b'\r' => self.after_cr = true,
                b'\n' => return Some(ContentFault::BareLf),
                _ => return Some(ContentFault::Nul),
            }
            rest = &rest[found + 1..];
        }
    }

    /// What is wrong when the content ends here.
    pub(crate) fn finish(&self) -> Option<ContentFault> {
        self.after_cr.then_some(ContentFault::BareCr)
    }
}

/// Why octets are no line of a command or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// Longer than its limit; it was read to its end.
    #[error("it is too long")]
    TooLong,
    /// It does not end.
    #[error("it does not end")]
    Endless,
    /// CR without LF behind it.
    #[error("it has a bare CR")]
    BareCr,
    /// LF without CR before it.
    #[error("it has a bare LF")]
    BareLf,
}

/// Why content is refused at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentFault {
    /// CR without LF behind it (RFC 5321 §2.3.8).
    #[error("content has a bare CR")]
    BareCr,
    /// LF without CR before it (RFC 5321 §2.3.8).
    #[error("content has a bare LF")]
    BareLf,
    /// NUL is in no 7bit and no 8bit data (RFC 2045 §2.7, §2.8); some servers drop it, and then
    /// `<NUL>.` is an end.
    #[error("content has a NUL")]
    Nul,
    /// More octets than the limit.
    #[error("content is too big")]
    TooBig,
}

const MAXIMUM_DISCARDED: usize = 1024 * 1024;
