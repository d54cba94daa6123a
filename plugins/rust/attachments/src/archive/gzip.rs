//! gzip (RFC 1952): one file, which may be a tar.

use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};

use super::{Look, Source, u16_at};

/// Names what is in it; none if it cannot be read to its end.
pub(super) fn list(source: &dyn Source, outer: &str, look: &mut Look<'_>) -> Option<()> {
    let room = look.budget.octets();
    // What is larger than the room for its content is cut off, and says so.
    let packed = source.read(0, room)?;
    let (header, name) = header(&packed)?;
    let (octets, is_whole) = inflate(packed.get(header..)?, room)?;
    look.budget.spend(octets.len());
    let name = name.unwrap_or_else(|| inner_name(outer));
    look.octets(&name, &octets, is_whole)
}

/// The octets that come out, no more than `room`, and whether they are all. None if it is broken.
pub(super) fn inflate(packed: &[u8], room: usize) -> Option<(Vec<u8>, bool)> {
    match decompress_to_vec_with_limit(packed, room) {
        Ok(octets) => Some((octets, true)),
        // Too large, or cut off: the beginning says what it is.
        Err(error)
            if matches!(
                error.status,
                TINFLStatus::HasMoreOutput
                    | TINFLStatus::FailedCannotMakeProgress
                    | TINFLStatus::NeedsMoreInput
            ) =>
        {
            Some((error.output, false))
        }
        Err(_) => None,
    }
}

/// §2.3: the length of the header, and the name in it.
fn header(octets: &[u8]) -> Option<(usize, Option<String>)> {
    let flags = *octets.get(3)?;
    let mut at = 10;
    if flags & 4 != 0 {
        at += 2 + usize::from(u16_at(octets, at)?);
    }
    let text = |at: usize| octets.get(at..)?.iter().position(|octet| *octet == 0);
    let mut name = None;
    if flags & 8 != 0 {
        let length = text(at)?;
        name = Some(String::from_utf8_lossy(octets.get(at..at + length)?).into_owned());
        at += length + 1;
    }
    if flags & 16 != 0 {
        at += text(at)? + 1;
    }
    if flags & 2 != 0 {
        at += 2;
    }
    Some((at, name))
}

/// `invoice.exe.gz` holds `invoice.exe`, `a.tgz` holds `a.tar`.
fn inner_name(outer: &str) -> String {
    let lower = outer.to_ascii_lowercase();
    let stem = outer.get(..outer.len().saturating_sub(3)).unwrap_or(outer);
    if lower.ends_with(".tgz") {
        [stem, "tar"].concat()
    } else if lower.ends_with(".gz") {
        stem.to_owned()
    } else {
        outer.to_owned()
    }
}
