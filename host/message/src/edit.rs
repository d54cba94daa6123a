//! Changes to a message: checked when they are made, applied to a copy of the header, never to what was received.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use crate::fold;
use crate::header::{Field, Header, has_grammar, is_name_octet};

/// One change. A value of this type can always be applied: the constructors refuse what cannot stand in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Puts a field above all others.
    Prepend(NewField),
    /// Puts a field below all others.
    Add(NewField),
    /// Puts a field so that `position` others stand above it; below all others if there are fewer.
    Insert {
        /// How many stand above it.
        position: u32,
        /// What stands there.
        field: NewField,
    },
    /// Puts a field in the place of the one of its name that is the `index`-th, from the top and from 0. Without
    /// such a field nothing happens.
    Replace {
        /// Which one of that name.
        index: u32,
        /// What stands there instead.
        field: NewField,
    },
    /// Takes fields away.
    Remove {
        /// Their name, in whatever case.
        name: String,
        /// Which one, from the top and from 0; all of them without it.
        index: Option<u32>,
    },
    /// Puts another body in the place of the one received.
    Body(Bytes),
}

/// A header field that is to be written: valid name, valid value, lines of a valid length.
#[derive(Clone, PartialEq, Eq)]
pub struct NewField {
    name: String,
    /// The whole field, folded, with CRLF.
    raw: Bytes,
}

/// Edits in the order in which they apply, bounded in number and size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    list: Vec<Edit>,
    header_octets: usize,
}

/// Why an edit cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Not a field name (RFC 5322 §2.2).
    #[error("{0:?} is not a header field name")]
    Name(String),
    /// A control character, a line break above all.
    #[error("the value has the control character {0:?}")]
    Control(char),
    /// A word without white space that fits into no line (RFC 5322 §2.1.1).
    #[error("the value has a word that is longer than a line may be")]
    WordTooLong,
    /// More edits than a message may have.
    #[error("more than {MOST_EDITS} edits of one message")]
    TooMany,
    /// More new header octets than a message may have.
    #[error("more than {MOST_HEADER_OCTETS} octets of new header fields in one message")]
    TooLarge,
}

/// A message with its edits applied: the head that is stored, and where the body comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    /// The header block with the empty line that ends it.
    pub head: Bytes,
    /// What follows it.
    pub body: Body,
}

/// Where the body of a composed message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// In the content as received, from this offset to its end.
    Received {
        /// Octets of the received header.
        offset: u64,
    },
    /// Here.
    Replaced(Bytes),
}

/// Applies the edits, one after another. Fields that no edit names stay octet for octet, and a message without
/// edits is the message that was received.
pub fn compose(header: &Header, edits: &[Edit]) -> Composed {
    let mut lines: Vec<Line<'_>> = header.fields().map(Line::Received).collect();
    let mut replaced = None;
    for edit in edits {
        match edit {
            Edit::Prepend(field) => lines.insert(0, Line::New(field)),
            Edit::Add(field) => lines.push(Line::New(field)),
            Edit::Insert { position, field } => {
                lines.insert(lines.len().min(*position as usize), Line::New(field));
            }
            Edit::Replace { index, field } => {
                if let Some(line) =
                    lines.iter_mut().filter(|line| line.is(&field.name)).nth(*index as usize)
                {
                    *line = Line::New(field);
                }
            }
            Edit::Remove { name, index } => remove(&mut lines, name, *index),
            Edit::Body(body) => replaced = Some(body.clone()),
        }
    }
    let body = match replaced {
        Some(body) => Body::Replaced(body),
        None => Body::Received { offset: header.body_offset() },
    };
    if edits.is_empty() {
        return Composed { head: header.raw().clone(), body };
    }
    Composed { head: head(header, &lines, matches!(body, Body::Replaced(_))), body }
}

fn remove(lines: &mut Vec<Line<'_>>, name: &str, index: Option<u32>) {
    let mut count = 0;
    lines.retain(|line| {
        if !line.is(name) {
            return true;
        }
        let this = count;
        count += 1;
        index.is_some_and(|index| index != this)
    });
}

fn head(header: &Header, lines: &[Line<'_>], new_body: bool) -> Bytes {
    let mut head = Vec::with_capacity(header.raw().len() + 1024);
    for line in lines {
        head.extend_from_slice(line.raw());
        // Content may end in the middle of its last field.
        if !head.ends_with(b"\n") {
            head.extend_from_slice(b"\r\n");
        }
    }
    let separator = header.separator();
    head.extend_from_slice(separator);
    // RFC 5322 §2.1: an empty line separates the body. Where a message had fields but no such line, it stays as it
    // came, octet for octet; text without any field gets one, or it would stand in a header now.
    if separator.is_empty() && (header.is_empty() || new_body) {
        head.extend_from_slice(b"\r\n");
    }
    head.into()
}

/// A field of the message that is being composed.
enum Line<'a> {
    Received(Field<'a>),
    New(&'a NewField),
}

impl Line<'_> {
    fn is(&self, name: &str) -> bool {
        match self {
            Self::Received(field) => field.is(name),
            Self::New(field) => field.name.eq_ignore_ascii_case(name),
        }
    }

    fn raw(&self) -> &[u8] {
        match self {
            Self::Received(field) => field.raw(),
            Self::New(field) => &field.raw,
        }
    }
}

impl Edit {
    /// A field above all others.
    pub fn prepend(name: &str, value: &str) -> Result<Self, EditError> {
        NewField::new(name, value).map(Self::Prepend)
    }

    /// A field below all others.
    pub fn add(name: &str, value: &str) -> Result<Self, EditError> {
        NewField::new(name, value).map(Self::Add)
    }

    /// A field with `position` others above it.
    pub fn insert(position: u32, name: &str, value: &str) -> Result<Self, EditError> {
        NewField::new(name, value).map(|field| Self::Insert { position, field })
    }

    /// Another value for the `index`-th field of this name.
    pub fn replace(name: &str, index: u32, value: &str) -> Result<Self, EditError> {
        NewField::new(name, value).map(|field| Self::Replace { index, field })
    }

    /// The `index`-th field of this name, or all of them, taken away.
    pub fn remove(name: &str, index: Option<u32>) -> Result<Self, EditError> {
        check_name(name)?;
        Ok(Self::Remove { name: name.to_owned(), index })
    }

    /// Another body. Its line ends become CRLF (RFC 5321 §2.3.8), and it gets one at its end if it has none.
    pub fn body(octets: impl Into<Bytes>) -> Self {
        Self::Body(canonical(octets.into()))
    }

    /// What it changes, in a few words, for logs and traces. The body itself is not shown.
    pub fn summary(&self) -> String {
        match self {
            Self::Prepend(field) => format!("prepend {}: {}", field.name, field.value()),
            Self::Add(field) => format!("add {}: {}", field.name, field.value()),
            Self::Insert { position, field } => {
                format!("insert {}[at {position}]: {}", field.name, field.value())
            }
            Self::Replace { index, field } => {
                format!("replace {}[{index}]: {}", field.name, field.value())
            }
            Self::Remove { name, index: Some(index) } => format!("remove {name}[{index}]"),
            Self::Remove { name, index: None } => format!("remove {name}"),
            Self::Body(body) => format!("replace body by {} octets", body.len()),
        }
    }

    fn header_octets(&self) -> usize {
        match self {
            Self::Prepend(field)
            | Self::Add(field)
            | Self::Insert { field, .. }
            | Self::Replace { field, .. } => field.raw.len(),
            Self::Remove { .. } | Self::Body(_) => 0,
        }
    }
}

impl NewField {
    /// Checks and folds. The value is one line of text; where it is not ASCII it is encoded (RFC 2047), except in
    /// fields with a grammar, where only their author knows what may be encoded: those stay UTF-8 (RFC 6532).
    pub fn new(name: &str, value: &str) -> Result<Self, EditError> {
        check_name(name)?;
        if let Some(control) =
            value.chars().find(|character| character.is_control() && *character != '\t')
        {
            return Err(EditError::Control(control));
        }
        let encoded = if value.is_ascii() || has_grammar(name) {
            None
        } else {
            Some(fold::encode_words(value))
        };
        let raw =
            fold::field(name, encoded.as_deref().unwrap_or(value)).ok_or(EditError::WordTooLong)?;
        Ok(Self { name: name.to_owned(), raw: raw.into() })
    }

    /// A field of our own that is folded already. The lines are ours, and what goes into them was checked.
    pub(crate) fn folded(name: &str, lines: &str) -> Self {
        Self { name: name.to_owned(), raw: format!("{name}: {lines}\r\n").into() }
    }

    /// The name as it is written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value as people read it.
    pub fn value(&self) -> String {
        crate::decode::value(self.raw.get(self.name.len() + 1..).unwrap_or_default())
    }

    /// The whole field, folded, with CRLF.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }
}

impl fmt::Debug for NewField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.raw))
    }
}

impl Edits {
    /// Adds an edit behind the others. Of bodies only the last one counts, so an earlier one is let go.
    pub fn push(&mut self, edit: Edit) -> Result<(), EditError> {
        let header_octets = self.header_octets + edit.header_octets();
        if header_octets > MOST_HEADER_OCTETS {
            return Err(EditError::TooLarge);
        }
        if matches!(edit, Edit::Body(_)) {
            self.list.retain(|other| !matches!(other, Edit::Body(_)));
        }
        if self.list.len() >= MOST_EDITS {
            return Err(EditError::TooMany);
        }
        self.list.push(edit);
        self.header_octets = header_octets;
        Ok(())
    }

    /// The edits alone.
    pub fn into_vec(self) -> Vec<Edit> {
        self.list
    }
}

impl Deref for Edits {
    type Target = [Edit];

    fn deref(&self) -> &[Edit] {
        &self.list
    }
}

fn check_name(name: &str) -> Result<(), EditError> {
    let valid = !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(is_name_octet);
    if valid { Ok(()) } else { Err(EditError::Name(name.chars().take(LONGEST_NAME).collect())) }
}

/// Bare CR and bare LF become CRLF, and so does the end. A body in that form already is not copied.
fn canonical(body: Bytes) -> Bytes {
    let is_canonical = body.iter().enumerate().all(|(at, octet)| match octet {
        b'\r' => body.get(at + 1) == Some(&b'\n'),
        b'\n' => at > 0 && body[at - 1] == b'\r',
        _ => true,
    });
    if is_canonical && (body.is_empty() || body.ends_with(b"\r\n")) {
        return body;
    }
    let mut lines = Vec::with_capacity(body.len() + body.len() / 32 + 2);
    let mut octets = body.iter().peekable();
    while let Some(octet) = octets.next() {
        match octet {
            b'\r' => {
                octets.next_if_eq(&&b'\n');
                lines.extend_from_slice(b"\r\n");
            }
            b'\n' => lines.extend_from_slice(b"\r\n"),
            _ => lines.push(*octet),
        }
    }
    if !lines.ends_with(b"\r\n") {
        lines.extend_from_slice(b"\r\n");
    }
    lines.into()
}

/// RFC 5322 §2.1.1 leaves a line of 78 octets room for a name, its colon and a space.
const LONGEST_NAME: usize = 76;

/// A plugin in a loop must not fill memory. Real ones make fewer than ten.
const MOST_EDITS: usize = 1000;

/// As large as the header of a message may be.
const MOST_HEADER_OCTETS: usize = 256 * 1024;

#[cfg(test)]
mod tests;
