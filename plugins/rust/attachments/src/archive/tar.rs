//! tar (POSIX.1-2017, pax): one header after another.

use super::{Look, Source};

/// Names everything in it; none if it cannot be read to its end.
pub(super) fn list(source: &dyn Source, look: &mut Look<'_>) -> Option<()> {
    let mut at = 0;
    let mut long = None;
    while at < source.size() {
        let header = source.read(at, BLOCK)?;
        if header.len() < BLOCK {
            return None;
        }
        // Two blocks of zeros are the end; one is enough for us.
        if header.iter().all(|octet| *octet == 0) {
            return Some(());
        }
        let size = octal(header.get(124..136)?)?;
        let content = at + BLOCK as u64;
        match *header.get(156)? {
            // GNU: the name of the next, where it is longer than 100 octets.
            b'L' => long = Some(source.read(content, LONGEST.min(usize::try_from(size).ok()?))?),
            b'x' => {
                let records = source.read(content, LONGEST.min(usize::try_from(size).ok()?))?;
                long = pax_path(&records).or(long);
            }
            b'g' | b'K' => {}
            b'0' | b'7' | 0 => {
                let name = long.take().unwrap_or_else(|| name(&header));
                let name = text(&name);
                look.name(&name, size, Vec::new())?;
            }
            _ => long = None,
        }
        at = content.checked_add(size.div_ceil(BLOCK as u64) * BLOCK as u64)?;
    }
    Some(())
}

/// The name, and what ustar keeps before it.
fn name(header: &[u8]) -> Vec<u8> {
    header.get(..100).unwrap_or_default().to_vec()
}

/// `LENGTH path=NAME LF`.
fn pax_path(records: &[u8]) -> Option<Vec<u8>> {
    let records = String::from_utf8_lossy(records);
    let path = records.lines().find_map(|line| line.split_once(" path=").map(|(_, path)| path))?;
    Some(path.as_bytes().to_vec())
}

fn text(octets: &[u8]) -> String {
    let end = octets.iter().position(|octet| *octet == 0).unwrap_or(octets.len());
    String::from_utf8_lossy(octets.get(..end).unwrap_or_default()).into_owned()
}

/// None for what is no number, and for the numbers above 8 GiB that no mail carries.
fn octal(octets: &[u8]) -> Option<u64> {
    let digits = text(octets);
    u64::from_str_radix(digits.trim(), 8).ok()
}

const BLOCK: usize = 512;
/// Of a name.
const LONGEST: usize = 4_096;
