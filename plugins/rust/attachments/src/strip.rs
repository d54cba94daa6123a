//! Puts a note in the place of a part. All other octets of the message stay as they are.

use gatepost_plugin::{Content, Error, PartPlace};

/// Replaces these parts (by their index) by these notes.
pub(crate) fn strip(content: &Content, notes: &[(u32, String)]) -> Result<(), Error> {
    let mut body = Body { content, is_begun: false };
    let mut at = 0;
    for (part, note) in notes {
        let place = content.part_place(*part)?;
        match place.header {
            Some(header) => {
                body.copy(at, header)?;
                body.write(&part_header(content, header, &place)?)?;
                body.write(quoted_printable(note).as_bytes())?;
            }
            // The message is this part and nothing else.
            None => {
                content_fields(content)?;
                body.write(quoted_printable(note).as_bytes())?;
            }
        }
        at = place.end;
    }
    body.copy(at, content.body_size())
}

/// The body in the making.
struct Body<'a> {
    content: &'a Content,
    is_begun: bool,
}

impl Body<'_> {
    fn write(&mut self, octets: &[u8]) -> Result<(), Error> {
        if self.is_begun {
            self.content.append_body(octets)?;
        } else {
            self.content.set_body(octets)?;
            self.is_begun = true;
        }
        Ok(())
    }

    /// What was received, from here to there.
    fn copy(&mut self, mut from: u64, to: u64) -> Result<(), Error> {
        while from < to {
            let length = u32::try_from(to - from).unwrap_or(u32::MAX).min(PIECE);
            let piece = self.content.read_body(from, length)?;
            if piece.is_empty() {
                return Err("the body is shorter than it was".into());
            }
            from += piece.len() as u64;
            self.write(&piece)?;
        }
        Ok(())
    }
}

/// The header block of a part with other fields `Content-…`. A message within keeps its own fields.
fn part_header(content: &Content, start: u64, place: &PartPlace) -> Result<Vec<u8>, Error> {
    let length = u32::try_from(place.content - start).unwrap_or(u32::MAX).min(PIECE);
    let block = content.read_body(start, length)?;
    let mut kept = Vec::new();
    let mut is_kept = true;
    for line in block.split_inclusive(|octet| *octet == b'\n') {
        if line.iter().all(|octet| b"\r\n".contains(octet)) {
            break;
        }
        // RFC 5322 §2.2.3: a line that begins with white space belongs to the field before.
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line.get(..8).unwrap_or_default();
            is_kept = !name.eq_ignore_ascii_case(b"content-");
        }
        if is_kept {
            kept.extend_from_slice(line);
        }
    }
    for (name, value) in FIELDS {
        kept.extend_from_slice([name, ": ", value, "\r\n"].concat().as_bytes());
    }
    kept.extend_from_slice(b"\r\n");
    Ok(kept)
}

/// The same for a message that is one part.
fn content_fields(content: &Content) -> Result<(), Error> {
    for (name, value) in FIELDS {
        if content.header(name).is_empty() {
            content.add_header(name, value)?;
        } else {
            content.replace_header(name, 0, value)?;
        }
    }
    Ok(())
}

/// RFC 2045 §6.7, as much as one paragraph needs.
fn quoted_printable(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut line = 0;
    let mut encoded = String::new();
    for octet in text.bytes() {
        if line >= 72 {
            encoded += "=\r\n";
            line = 0;
        }
        if matches!(octet, b' '..=b'~') && octet != b'=' {
            encoded.push(char::from(octet));
            line += 1;
        } else {
            encoded.push('=');
            for digit in [octet >> 4, octet & 15] {
                encoded.push(char::from(*DIGITS.get(usize::from(digit)).unwrap_or(&b'0')));
            }
            line += 3;
        }
    }
    encoded
}

const FIELDS: [(&str, &str); 3] = [
    ("Content-Type", "text/plain; charset=utf-8"),
    ("Content-Disposition", "inline"),
    ("Content-Transfer-Encoding", "quoted-printable"),
];
/// A read of content.
const PIECE: u32 = 1 << 20;
