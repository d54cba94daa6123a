//! The canonical forms of header fields and bodies (RFC 6376 §3.4), and the digest of a body while it streams by.
//!
//! Fields are mail-auth's. Bodies are not: mail-auth 0.13 keeps lines of white space at the end of a relaxed body
//! (RFC 6376 §3.4.4 drops them) and drops every bare CR, and misses 7 of 44 cases of the suite `dkim-canonicalisation` by it.

use std::io;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use mail_auth::dkim::Canonicalization;
use message::{Field, Octets};

/// A canonical form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// Almost octet for octet (RFC 6376 §3.4.1, §3.4.3).
    #[default]
    Simple,
    /// White space and the case of names may change on the way (RFC 6376 §3.4.2, §3.4.4).
    Relaxed,
}

impl Form {
    /// Its word in `c=`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Relaxed => "relaxed",
        }
    }

    /// Takes the word of `c=`.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Simple, Self::Relaxed].into_iter().find(|form| form.as_str() == word)
    }

    /// The canonical form of a field, with its CRLF.
    pub(crate) fn field(self, field: Field<'_>) -> Vec<u8> {
        let (name, value) = halves(field);
        let mut canonical = self.canonical(name, value);
        if !canonical.ends_with(b"\r\n") {
            canonical.extend_from_slice(b"\r\n");
        }
        canonical
    }

    /// The canonical form of the signature's own field, whose value is given with `b=` cut out: without CRLF (RFC 6376 §3.7).
    pub(crate) fn own_field(self, field: Field<'_>, value: &[u8]) -> Vec<u8> {
        self.canonical(halves(field).0, value)
    }

    fn canonical(self, name: &[u8], value: &[u8]) -> Vec<u8> {
        let form = match self {
            Self::Simple => Canonicalization::Simple,
            Self::Relaxed => Canonicalization::Relaxed,
        };
        let mut canonical = Vec::with_capacity(name.len() + value.len() + 3);
        form.canonicalize_headers(std::iter::once((name, value)), &mut canonical);
        canonical
    }
}

/// What stands before the colon of a field, and behind it.
fn halves(field: Field<'_>) -> (&[u8], &[u8]) {
    let raw = field.raw();
    let colon = raw.iter().position(|octet| *octet == b':').unwrap_or(raw.len());
    (&raw[..colon], raw.get(colon + 1..).unwrap_or_default())
}

fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// Which digest of a body a signature wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BodyPlan {
    pub(crate) form: Form,
    /// Octets of the canonical body that are signed (`l=`); all of them without it.
    pub(crate) length: Option<u64>,
}

/// The digest of a body, and how long its canonical form is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyDigest {
    pub(crate) digest: Digest,
    pub(crate) length: u64,
}

/// Reads the body once and makes all digests. It waits for the disk: call it where that is allowed.
pub(crate) fn digest_body(
    content: &dyn Octets,
    body_offset: u64,
    plans: &[BodyPlan],
) -> io::Result<Vec<BodyDigest>> {
    let mut bodies: Vec<Body<Hash>> =
        plans.iter().map(|plan| Body::new(plan.form, Hash::new(plan.length))).collect();
    let mut piece = vec![0; PIECE];
    let mut offset = body_offset;
    loop {
        let length = content.read_at(offset, &mut piece)?;
        if length == 0 {
            break;
        }
        offset += length as u64;
        for body in &mut bodies {
            body.update(&piece[..length]);
        }
    }
    Ok(bodies.into_iter().map(|body| body.finish().finish()).collect())
}

/// Where canonical octets go.
pub(crate) trait Sink {
    fn write(&mut self, octets: &[u8]);
}

impl Sink for Vec<u8> {
    fn write(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }
}

/// A digest that stops at the length signed, and counts on.
struct Hash {
    context: Context,
    limit: Option<u64>,
    length: u64,
}

impl Hash {
    fn new(limit: Option<u64>) -> Self {
        Self { context: Context::new(&SHA256), limit, length: 0 }
    }

    fn finish(self) -> BodyDigest {
        BodyDigest { digest: self.context.finish(), length: self.length }
    }
}

impl Sink for Hash {
    fn write(&mut self, octets: &[u8]) {
        let room = self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.length));
        let taken = usize::try_from(room).unwrap_or(usize::MAX).min(octets.len());
        self.context.update(&octets[..taken]);
        self.length += octets.len() as u64;
    }
}

/// A body that becomes canonical while it comes in, in pieces of any size.
pub(crate) struct Body<S> {
    form: Form,
    sink: S,
    /// A CR came, and what follows decides what it was.
    carriage_return: bool,
    /// White space came that counts only if something follows it on its line.
    space: bool,
    /// Line ends came that count only if something follows them in the body.
    line_ends: u64,
    empty: bool,
}

impl<S: Sink> Body<S> {
    pub(crate) fn new(form: Form, sink: S) -> Self {
        Self { form, sink, carriage_return: false, space: false, line_ends: 0, empty: true }
    }

    pub(crate) fn update(&mut self, mut piece: &[u8]) {
        while let Some(&first) = piece.first() {
            if self.carriage_return {
                self.carriage_return = false;
                if first == b'\n' {
                    self.space = false;
                    self.line_ends += 1;
                    piece = &piece[1..];
                    continue;
                }
                self.emit(b"\r");
            }
            if first == b'\r' {
                self.carriage_return = true;
                piece = &piece[1..];
            } else if self.form == Form::Relaxed && is_space(first) {
                self.space = true;
                piece = &piece[1..];
            } else {
                let relaxed = self.form == Form::Relaxed;
                let is_plain = |octet: &u8| *octet != b'\r' && !(relaxed && is_space(*octet));
                let run = piece.iter().position(|octet| !is_plain(octet)).unwrap_or(piece.len());
                self.emit(&piece[..run]);
                piece = &piece[run..];
            }
        }
    }

    /// RFC 6376 §3.4.3, §3.4.4: empty lines at the end are ignored, a last line end is added. A simple body is never
    /// empty; a relaxed one may be.
    pub(crate) fn finish(mut self) -> S {
        if self.carriage_return {
            self.emit(b"\r");
        } else if self.space {
            // White space at the end of a line is dropped, but this line has no end. It cannot come by SMTP; other
            // verifiers keep it.
            self.emit(b"");
        }
        if !self.empty || self.form == Form::Simple {
            self.sink.write(b"\r\n");
        }
        self.sink
    }

    fn emit(&mut self, octets: &[u8]) {
        // In pieces, for a body may be nothing but line ends.
        while self.line_ends > 0 {
            let count = self.line_ends.min(LINE_ENDS.len() as u64 / 2);
            self.sink.write(&LINE_ENDS[..usize::try_from(count).unwrap_or(0) * 2]);
            self.line_ends -= count;
        }
        if std::mem::take(&mut self.space) {
            self.sink.write(b" ");
        }
        self.empty = false;
        self.sink.write(octets);
    }
}

const LINE_ENDS: &[u8; 32] = b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n";

/// What is read of a body at a time.
const PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(form: Form, body: &str, size: usize) -> String {
        let mut canonical = Body::new(form, Vec::new());
        body.as_bytes().chunks(size).for_each(|piece| canonical.update(piece));
        String::from_utf8(canonical.finish()).unwrap()
    }

    #[test]
    fn bodies_have_canonical_forms_in_pieces_of_any_size() {
        let check = |body: &str, simple: &str, relaxed: &str| {
            for size in [1, 2, 3, 5, 64] {
                assert_eq!(canonical(Form::Simple, body, size), simple, "simple {body:?} {size}");
                assert_eq!(
                    canonical(Form::Relaxed, body, size),
                    relaxed,
                    "relaxed {body:?} {size}"
                );
            }
        };
        check(" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n", " C\r\nD E\r\n"); // RFC 6376 §3.4.5
        check("", "\r\n", "");
        check("\r\n", "\r\n", "");
        check("\r\n\r\n", "\r\n", "");
        check(" \t\r\n \r\n", " \t\r\n \r\n", "");
        check("a", "a\r\n", "a\r\n");
        check("a ", "a \r\n", "a \r\n");
        check("a \r\n\r\n", "a \r\n", "a\r\n");
        check("\r\n\r\na\r\n \r\nb", "\r\n\r\na\r\n \r\nb\r\n", "\r\n\r\na\r\n\r\nb\r\n");
        check("a\rb\r\n", "a\rb\r\n", "a\rb\r\n");
        check("a \rb\r", "a \rb\r\r\n", "a \rb\r\r\n");
        check(&"\r\n".repeat(40), "\r\n", "");
        let far = format!("{}x\r\n", "\r\n".repeat(40));
        check(&far, &far, &far);
    }

    #[test]
    fn a_length_bounds_what_is_signed_and_the_whole_is_counted() {
        let content = b"A: 1\r\n\r\nhello\r\nworld\r\n";
        let plan = |length| BodyPlan { form: Form::Simple, length };
        let plans = [plan(None), plan(Some(7)), plan(Some(0)), plan(Some(99))];
        let found = digest_body(&content.as_slice(), 8, &plans).unwrap();
        let short = digest_body(&b"hello\r\n".as_slice(), 0, &[plan(None)]).unwrap();
        assert_eq!(found[1].digest.as_ref(), short[0].digest.as_ref());
        assert_ne!(found[0].digest.as_ref(), short[0].digest.as_ref());
        assert_eq!(found[0].digest.as_ref(), found[3].digest.as_ref());
        assert!(found.iter().all(|body| body.length == 14));
    }
}
