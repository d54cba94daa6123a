//! The leaves of the MIME tree, decoded for plugins.
//!
//! Where they lie is found by our own walk, which holds nothing; mail-parser then decodes one leaf at a time. It
//! never sees a whole message, whose nesting it would follow.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;

use crate::content_type::ContentType;
use crate::decode;
use crate::header::Header;
use crate::octets::Octets;
use crate::structure::{Leaf, Walk};
use crate::watch::Limits;

/// The leaves of one message, in their order.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    leaves: Vec<Leaf>,
    parts: Vec<Part>,
}

/// One leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// "type/subtype" in lower case; "text/plain" where none is given (RFC 2045 §5.2).
    pub content_type: String,
    /// The charset as named, if one is.
    pub charset: Option<String>,
    /// The name of the file, from Content-Disposition or Content-Type.
    pub filename: Option<String>,
    /// "inline", "attachment" or another in lower case; empty without one.
    pub disposition: String,
    /// Octets of [`Parts::decoded`].
    pub size: u64,
    /// How many multiparts and messages are around it.
    pub depth: usize,
}

impl Parts {
    /// The leaves of content in memory.
    pub fn parse(content: &[u8], limits: &Limits) -> Self {
        // Reading a slice does not fail.
        Self::read(&content, limits).unwrap_or_default()
    }

    /// The leaves of content that lies somewhere: it is read twice, one leaf at a time. There are none in a message
    /// that is nested deeper than a [`Watch`](crate::Watch) lets through, and no more than [`Limits::parts`].
    pub fn read(octets: &dyn Octets, limits: &Limits) -> io::Result<Self> {
        let header = Header::parse(octets.read(0, limits.header_octets)?);
        let mut walk = Walk::new(&header, limits.parts, limits.nesting);
        let mut offset = header.body_offset();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match octets.read_at(offset, &mut buffer)? {
                0 => break,
                more => {
                    walk.update(&buffer[..more]);
                    offset += more as u64;
                }
            }
        }
        let leaves = walk.finish().unwrap_or_default();
        let parts = leaves.iter().map(|leaf| describe(octets, leaf)).collect::<io::Result<_>>()?;
        Ok(Self { leaves, parts })
    }

    /// What is known of each leaf.
    pub fn list(&self) -> &[Part] {
        &self.parts
    }

    /// Where a leaf lies: the offsets of its header block, of its body, and of the end of its body.
    pub fn place(&self, index: usize) -> Option<(u64, u64, u64)> {
        self.leaves.get(index).map(|leaf| (leaf.header, leaf.body, leaf.end))
    }

    /// The octets of a leaf of this content, transfer-decoded; text is UTF-8. What cannot be decoded is as it came.
    pub fn decoded(&self, octets: &dyn Octets, index: usize) -> io::Result<Option<Bytes>> {
        let Some(leaf) = self.leaves.get(index) else { return Ok(None) };
        let header = leaf_header(octets, leaf)?;
        content(octets, leaf, &header).map(|content| Some(content.into()))
    }
}

fn describe(octets: &dyn Octets, leaf: &Leaf) -> io::Result<Part> {
    let header = leaf_header(octets, leaf)?;
    let content_type = content_type(&header);
    let disposition =
        header.get("Content-Disposition").map(|field| ContentType::parse(field.raw_value()));
    let disposition = disposition.unwrap_or_default();
    let filename = disposition.parameter("filename").or_else(|| content_type.parameter("name"));
    Ok(Part {
        charset: content_type.parameter("charset").map(str::to_owned),
        filename: filename.map(|name| decode::value(name.as_bytes())),
        size: content(octets, leaf, &header)?.len() as u64,
        depth: leaf.depth,
        disposition: disposition.value,
        content_type: content_type.value,
    })
}

fn leaf_header(octets: &dyn Octets, leaf: &Leaf) -> io::Result<Header> {
    let length = usize::try_from(leaf.body - leaf.header).unwrap_or(usize::MAX).min(LONGEST_HEADER);
    Ok(Header::parse(octets.read(leaf.header, length)?))
}

fn content_type(header: &Header) -> ContentType {
    let given = header.get("Content-Type").map(|field| ContentType::parse(field.raw_value()));
    match given {
        Some(given) if given.value.contains('/') => given,
        // RFC 2045 §5.2: what has no type, or one that cannot be read, is plain text.
        _ => ContentType::plain(),
    }
}

fn content(octets: &dyn Octets, leaf: &Leaf, header: &Header) -> io::Result<Vec<u8>> {
    let raw =
        octets.read(leaf.body, usize::try_from(leaf.end - leaf.body).unwrap_or(usize::MAX))?;
    let encoding =
        header.get("Content-Transfer-Encoding").map(|field| field.value().to_ascii_lowercase());
    let content_type = content_type(header);
    let charset =
        content_type.value.starts_with("text/").then(|| content_type.parameter("charset"));
    // A decoder that we did not write must not end more than its own work.
    let decoded = catch_unwind(AssertUnwindSafe(|| transfer_decode(&raw, encoding.as_deref())));
    let decoded = decoded.ok().flatten().unwrap_or(raw);
    let Some(charset) = charset else { return Ok(decoded) };
    let text = catch_unwind(AssertUnwindSafe(|| decode::to_text(decoded, charset)));
    Ok(text.unwrap_or_default().into_bytes())
}

/// RFC 2045 §6; `None` where there is nothing to decode, or what is there cannot be.
fn transfer_decode(raw: &[u8], encoding: Option<&str>) -> Option<Vec<u8>> {
    match encoding? {
        "base64" => {
            // RFC 2045 §6.8: characters outside the alphabet are passed over.
            let in_alphabet = |octet: &u8| octet.is_ascii_alphanumeric() || b"+/=".contains(octet);
            base64_decode(&raw.iter().copied().filter(in_alphabet).collect::<Vec<_>>())
        }
        "quoted-printable" => quoted_printable_decode(raw),
        _ => None,
    }
}

/// What is looked at of the header of a part.
const LONGEST_HEADER: usize = 64 * 1024;

#[cfg(test)]
mod tests;
