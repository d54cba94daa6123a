//! Replies of another server, read as they come in.

use bytes::BytesMut;

use super::Reply;
use crate::line::{LineFault, Lines};

/// Reads replies from octets that arrive in pieces. What a server may make us keep is capped.
#[derive(Debug, Default)]
pub struct ReplyParser {
    lines: Lines,
    code: Option<u16>,
    texts: Vec<String>,
}

impl ReplyParser {
    /// Takes one whole reply from the front of the buffer, or says that more octets are needed.
    ///
    /// After an error the server is not to be understood any more: close the connection.
    pub fn feed(&mut self, buffer: &mut BytesMut) -> Result<Option<Reply>, ReplyError> {
        loop {
            let Some(line) = self.lines.next(buffer, MAXIMUM_LINE) else { return Ok(None) };
            let line = line.map_err(ReplyError::Line)?;
            let (code, last, text) = split_line(&line)?;
            // RFC 5321 §4.2.1: every line of a reply has the same code.
            if self.code.is_some_and(|expected| expected != code) {
                return Err(ReplyError::MixedCodes);
            }
            if self.texts.len() >= MAXIMUM_LINES {
                return Err(ReplyError::TooManyLines);
            }
            self.code = Some(code);
            self.texts.push(String::from_utf8_lossy(text).into_owned());
            if last {
                self.code = None;
                return Ok(Some(Reply::received(code, &std::mem::take(&mut self.texts))));
            }
        }
    }
}

/// ```text
/// Reply-code = %x32-35 %x30-35 %x30-39
/// ```
fn split_line(line: &[u8]) -> Result<(u16, bool, &[u8]), ReplyError> {
    let Some((&[a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'], rest)) =
        line.split_first_chunk::<3>()
    else {
        return Err(ReplyError::Code);
    };
    let code = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
    match rest.split_first() {
        // RFC 5321 §4.2: a client takes a code without text.
        None => Ok((code, true, rest)),
        Some((b' ', text)) => Ok((code, true, text)),
        Some((b'-', text)) => Ok((code, false, text)),
        Some(_) => Err(ReplyError::Code),
    }
}

/// Why octets are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line is too long, or has a bare CR or LF.
    #[error("the reply has a line that is none: {0}")]
    Line(LineFault),
    /// No three digits in 200–599 at the beginning.
    #[error("the reply has no code")]
    Code,
    /// The lines of one reply have different codes.
    #[error("the lines of the reply have different codes")]
    MixedCodes,
    /// More than 100 lines.
    #[error("the reply has too many lines")]
    TooManyLines,
    /// Not `class.subject.detail`.
    #[error("this is no enhanced status code")]
    EnhancedStatus,
}

// RFC 5321 §4.5.3.1.5 says 512; eight times as much is taken, as we only read.
const MAXIMUM_LINE: usize = 4096;
// An EHLO reply has about twenty. A server that sends more wastes our memory.
const MAXIMUM_LINES: usize = 100;
