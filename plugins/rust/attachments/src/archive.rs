//! What lies in archives: the names, without unpacking more than there is room for.
//!
//! zip is read by its central directory, so that of an archive of any size only its end is looked at. tar, gz
//! and tar.gz are walked through. What lies in an archive is looked into in turn, one level deep.

mod gzip;
mod tar;
mod zip;

use gatepost_plugin::Content;

use crate::file::{File, Kind, is_program};

/// Octets that lie somewhere.
pub(crate) trait Source {
    fn size(&self) -> u64;
    /// A piece; shorter at the end. None if it cannot be read.
    fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>>;
}

/// A part of the message, as the host decodes it.
pub(crate) struct PartSource<'a> {
    pub(crate) content: &'a Content,
    pub(crate) part: u32,
    pub(crate) size: u64,
}

/// What may still be unpacked and named.
pub(crate) struct Budget {
    octets: u64,
    names: usize,
}

impl Budget {
    pub(crate) fn new(octets: u64) -> Self {
        Self { octets, names: MOST_NAMES }
    }

    /// So many octets at most; what is used is to be taken out with [`Self::spend`].
    fn octets(&self) -> usize {
        usize::try_from(self.octets).unwrap_or(usize::MAX)
    }

    fn spend(&mut self, octets: usize) {
        self.octets = self.octets.saturating_sub(octets as u64);
    }

    /// False if no more names are taken.
    fn name(&mut self) -> bool {
        self.names = self.names.saturating_sub(1);
        self.names > 0
    }
}

/// An archive under examination: what is found in it, and what it is found to be.
pub(crate) struct Look<'a> {
    pub(crate) found: &'a mut Vec<File>,
    pub(crate) budget: &'a mut Budget,
    /// How many archives are around it.
    pub(crate) depth: usize,
}

/// Lists a file that is an archive, and says so in its kinds.
pub(crate) fn look(
    source: &dyn Source,
    start: &[u8],
    file: &mut File,
    found: &mut Vec<File>,
    budget: &mut Budget,
) {
    look_deeper(source, start, file, &mut Look { found, budget, depth: 0 });
}

fn look_deeper(source: &dyn Source, start: &[u8], file: &mut File, look: &mut Look<'_>) {
    let Some(format) = Format::of(start) else { return };
    file.kinds.push(Kind::Archive);
    if look.depth > DEEPEST {
        file.kinds.push(Kind::Unreadable);
        return;
    }
    let before = look.found.len();
    let read = match format {
        Format::Zip => zip::list(source, look),
        Format::Gzip => gzip::list(source, &file.name, look),
        Format::Tar => tar::list(source, look),
        Format::Other => None,
    };
    if read.is_none() {
        file.kinds.push(Kind::Unreadable);
    }
    // What an archive contains, it is.
    for inner in look.found.iter().skip(before) {
        for kind in [Kind::Encrypted, Kind::Macros, Kind::Unreadable] {
            if inner.kinds.contains(&kind) && !file.kinds.contains(&kind) {
                file.kinds.push(kind);
            }
        }
    }
}

impl Look<'_> {
    /// A file of which only the name is known. None if there are too many.
    fn name(&mut self, name: &str, size: u64, kinds: Vec<Kind>) -> Option<()> {
        self.found.push(File::packed(name, size, kinds));
        self.budget.name().then_some(())
    }

    /// A file whose octets are at hand, or only its first if it was cut off.
    fn octets(&mut self, name: &str, octets: &[u8], is_whole: bool) -> Option<()> {
        let mut file = File::packed(name, octets.len() as u64, Vec::new());
        if is_program(octets) {
            file.kinds.push(Kind::Program);
        }
        let place = self.found.len();
        let mut deeper = Look { found: self.found, budget: self.budget, depth: self.depth + 1 };
        if is_whole || Format::of(octets) == Some(Format::Tar) {
            look_deeper(&octets, octets, &mut file, &mut deeper);
        }
        if !is_whole {
            file.kinds.push(Kind::Unreadable);
        }
        self.found.insert(place, file);
        self.budget.name().then_some(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Zip,
    Gzip,
    Tar,
    /// Known, and not read here: RAR, 7z, xz, bzip2, zstd, cab.
    Other,
}

impl Format {
    fn of(start: &[u8]) -> Option<Self> {
        let is = |magic: &[u8]| start.starts_with(magic);
        if is(b"PK\x03\x04") || is(b"PK\x05\x06") {
            Some(Self::Zip)
        } else if is(b"\x1f\x8b\x08") {
            Some(Self::Gzip)
        } else if start.get(257..262) == Some(b"ustar") {
            Some(Self::Tar)
        } else if is(b"Rar!\x1a\x07")
            || is(b"7z\xbc\xaf\x27\x1c")
            || is(b"\xfd7zXZ\x00")
            || is(b"BZh")
            || is(b"\x28\xb5\x2f\xfd")
            || is(b"MSCF\x00\x00\x00\x00")
        {
            Some(Self::Other)
        } else {
            None
        }
    }
}

impl Source for PartSource<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let mut octets = Vec::new();
        while octets.len() < length {
            let at = offset.checked_add(octets.len() as u64)?;
            let wanted = u32::try_from((length - octets.len()).min(PIECE)).ok()?;
            let piece = self.content.read_part(self.part, at, wanted).ok()?;
            if piece.is_empty() {
                break;
            }
            octets.extend_from_slice(&piece);
        }
        Some(octets)
    }
}

impl Source for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let from = usize::try_from(offset).ok()?.min(self.len());
        let to = from.saturating_add(length).min(self.len());
        self.get(from..to).map(<[u8]>::to_vec)
    }
}

/// Little-endian numbers at an offset.
fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(octets: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(octets.get(at..at + 8)?.try_into().ok()?))
}

/// An archive in an archive is looked into, and no deeper.
const DEEPEST: usize = 1;
/// Of one message.
const MOST_NAMES: usize = 10_000;
/// A read of content.
const PIECE: usize = 1 << 20;
