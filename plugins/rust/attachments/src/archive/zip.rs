//! zip: its central directory (PKWARE APPNOTE 6.3).

use super::{Look, Source, u16_at, u32_at, u64_at};
use crate::archive::gzip::inflate;
use crate::file::Kind;

/// Names everything in it; none if it cannot be read to its end.
pub(super) fn list(source: &dyn Source, look: &mut Look<'_>) -> Option<()> {
    let directory = Directory::find(source)?;
    let octets = source.read(directory.start, usize::try_from(directory.size).ok()?)?;
    let mut at = 0;
    for _ in 0..directory.entries {
        let entry = Entry::read(octets.get(at..)?)?;
        at += entry.length;
        if entry.name.ends_with('/') {
            continue;
        }
        let mut kinds = Vec::new();
        if entry.is_encrypted {
            kinds.push(Kind::Encrypted);
        }
        // ECMA-376: where the documents of Office keep their macros.
        if entry.name.to_ascii_lowercase().ends_with("vbaproject.bin") {
            kinds.push(Kind::Macros);
        }
        if !kinds.is_empty() || !may_be_archive(&entry.name) {
            look.name(&entry.name, entry.size, kinds)?;
        } else if let Some((octets, is_whole)) = unpack(source, &directory, &entry, look) {
            look.octets(&entry.name, &octets, is_whole)?;
        } else {
            look.name(&entry.name, entry.size, vec![Kind::Unreadable])?;
        }
    }
    Some(())
}

struct Directory {
    start: u64,
    size: u64,
    entries: u64,
    /// What stands before the archive, as in one that unpacks itself: offsets do not know of it.
    before: u64,
}

impl Directory {
    /// §4.3.16: the record at the end, behind which only a comment stands.
    fn find(source: &dyn Source) -> Option<Self> {
        let tail_size = source.size().min(22 + 65_535);
        let tail_start = source.size() - tail_size;
        let tail = source.read(tail_start, usize::try_from(tail_size).ok()?)?;
        let at = (0..=tail.len().checked_sub(22)?).rev().find(|at| {
            tail.get(*at..at + 4) == Some(b"PK\x05\x06")
                && u16_at(&tail, at + 20)
                    .is_some_and(|comment| at + 22 + usize::from(comment) <= tail.len())
        })?;
        let end = tail_start + at as u64;
        let mut entries = u64::from(u16_at(&tail, at + 10)?);
        let mut size = u64::from(u32_at(&tail, at + 12)?);
        let mut offset = u64::from(u32_at(&tail, at + 16)?);
        let mut behind = end;
        if entries == 0xffff || size == 0xffff_ffff || offset == 0xffff_ffff {
            // §4.3.14, §4.3.15: the larger record, and before this one the place where it is.
            let locator =
                at.checked_sub(20).filter(|at| tail.get(*at..at + 4) == Some(b"PK\x06\x07"))?;
            behind = u64_at(&tail, locator + 8)?;
            let record = source.read(behind, 56)?;
            if !record.starts_with(b"PK\x06\x06") {
                return None;
            }
            entries = u64_at(&record, 32)?;
            size = u64_at(&record, 40)?;
            offset = u64_at(&record, 48)?;
        }
        let start = behind.checked_sub(size)?;
        let before = start.checked_sub(offset)?;
        (size <= LARGEST_DIRECTORY).then_some(Self { start, size, entries, before })
    }
}

struct Entry {
    name: String,
    is_encrypted: bool,
    method: u16,
    packed: u64,
    size: u64,
    /// Where its own header is.
    offset: u64,
    /// Of its record in the directory.
    length: usize,
}

impl Entry {
    /// §4.3.12.
    fn read(octets: &[u8]) -> Option<Self> {
        if !octets.starts_with(b"PK\x01\x02") {
            return None;
        }
        let flags = u16_at(octets, 8)?;
        let name = usize::from(u16_at(octets, 28)?);
        let rest = usize::from(u16_at(octets, 30)?) + usize::from(u16_at(octets, 32)?);
        Some(Self {
            name: String::from_utf8_lossy(octets.get(46..46 + name)?).into_owned(),
            // §4.4.4: encrypted, and encrypted with its header.
            is_encrypted: flags & 1 != 0 || flags & 0x2000 != 0,
            method: u16_at(octets, 10)?,
            packed: u32_at(octets, 20)?.into(),
            size: u32_at(octets, 24)?.into(),
            offset: u32_at(octets, 42)?.into(),
            length: 46 + name + rest,
        })
    }
}

/// The octets of an entry, and whether they are all; none if it cannot be unpacked.
fn unpack(
    source: &dyn Source,
    directory: &Directory,
    entry: &Entry,
    look: &mut Look<'_>,
) -> Option<(Vec<u8>, bool)> {
    let room = look.budget.octets();
    let packed = usize::try_from(entry.packed).ok()?;
    if packed > room {
        return None;
    }
    let at = directory.before.checked_add(entry.offset)?;
    // §4.3.7: its own header, whose lengths may be others.
    let header = source.read(at, 30)?;
    if !header.starts_with(b"PK\x03\x04") {
        return None;
    }
    let skip = 30 + u64::from(u16_at(&header, 26)?) + u64::from(u16_at(&header, 28)?);
    let octets = source.read(at.checked_add(skip)?, packed)?;
    let (octets, is_whole) = match entry.method {
        0 => (octets, true),
        8 => inflate(&octets, room)?,
        _ => return None,
    };
    look.budget.spend(octets.len());
    Some((octets, is_whole))
}

/// Only what is called like an archive is unpacked; a name that does not say it is not opened by a click either.
fn may_be_archive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".zip", ".gz", ".tgz", ".tar", ".7z", ".rar"].iter().any(|ending| name.ends_with(ending))
}

/// Names and numbers of 10,000 files fit.
const LARGEST_DIRECTORY: u64 = 2 << 20;
