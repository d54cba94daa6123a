//! Reads a segment from its start, over damaged places, to its end.

use std::io;

use crate::disk::File;
use crate::record::{Header, LONGEST_LINE, MAGIC, Origin, parse_start};

use super::Replay;

/// Gives every whole record of the segment to `replay`, in order, and everything damaged too. With `end`, records fill all
/// octets before it, and nothing behind it counts; without, all of the file is looked through. Gives where the last whole
/// record ends.
pub(super) fn segment(
    replay: &mut Replay,
    file: &dyn File,
    origin: Origin,
    end: Option<u64>,
) -> io::Result<u64> {
    let len = file.len()?.min(end.unwrap_or(u64::MAX));
    let mut window = Window { file, len, start: 0, octets: Vec::new() };
    let mut offset = 0;
    while offset < len {
        if let Some(next) = record(replay, &mut window, origin, offset)? {
            offset = next;
            continue;
        }
        let after = find_record(&mut window, origin, offset + 1)?;
        let stop = match (after, end) {
            (Some(after), _) => after,
            (None, Some(end)) => end,
            (None, None) => tail_end(&mut window, offset)?,
        };
        if stop > offset {
            let most = usize::try_from((stop - offset).min(MOST_SET_ASIDE)).unwrap_or(WINDOW);
            let octets = file.read_exact_at(offset, most)?;
            if after.is_none() && end.is_none() && is_torn(&octets, origin, offset) {
                replay.torn(origin.segment, offset, &octets);
            } else {
                replay.damaged(origin.segment, offset, &octets);
            }
        }
        match after {
            Some(next) => offset = next,
            None => break,
        }
    }
    Ok(offset)
}

/// Are these octets behind the last record the end of a write that did not reach the disk whole? Then sectors are missing:
/// they are zeros, or what an earlier use left in the file, so that the record has another length than it says. A record
/// of which all is there, but not as it was written, is damage.
fn is_torn(octets: &[u8], origin: Origin, offset: u64) -> bool {
    let into = usize::try_from(offset % SECTOR as u64).unwrap_or_default();
    let whole = octets.get((SECTOR - into) % SECTOR..).unwrap_or_default();
    if whole.chunks_exact(SECTOR).any(|sector| sector.iter().all(|octet| *octet == 0)) {
        return true;
    }
    // Lengths count only where the checksum says that they are what was written.
    if let Some((header, _)) = parse_start(octets) {
        return header.origin != origin || header.record_octets() != octets.len() as u64;
    }
    // Whatever happened to one place of the line, the rest of it says that it was ours.
    let line = &octets[..octets.len().min(LONGEST_LINE)];
    let salt = format!("{:016x}", origin.salt);
    let ours = octets.starts_with(MAGIC) || memchr::memmem::find(line, salt.as_bytes()).is_some();
    !ours || !octets.ends_with(b"\n") || has_earlier(octets, origin)
}

/// Do these octets hold a record of an earlier use of the file?
fn has_earlier(octets: &[u8], origin: Origin) -> bool {
    memchr::memmem::find_iter(octets, MAGIC).any(|place| {
        parse_start(&octets[place..]).is_some_and(|(header, _)| header.origin != origin)
    })
}

/// Takes the record at `offset`; gives where the next one begins. `None`: there is no whole record.
fn record(
    replay: &mut Replay,
    window: &mut Window<'_>,
    origin: Origin,
    offset: u64,
) -> io::Result<Option<u64>> {
    let Some(header) = header(window, origin, offset)? else { return Ok(None) };
    let end = offset + header.record_octets();
    if end > window.len || !data_fits(window, &header, offset)? {
        return Ok(None);
    }
    let json = usize::try_from(header.json).unwrap_or(usize::MAX);
    let json = window.get(offset + header.line, json)?;
    if !replay.record(&header, json, offset) {
        return Ok(None);
    }
    // Line ends that no checksum covers: nothing is lost with them, but the disk is not to be trusted.
    for at in [offset + header.data_offset() - 1, end - 1] {
        let found = window.get(at, 1)?.to_vec();
        if found != b"\n" {
            replay.damaged(origin.segment, at, &found);
        }
    }
    Ok(Some(end))
}

/// The header at `offset`, if it is one of this segment and fits its JSON.
fn header(window: &mut Window<'_>, origin: Origin, offset: u64) -> io::Result<Option<Header>> {
    let Some(header) = Header::parse(window.get(offset, LONGEST_LINE)?) else { return Ok(None) };
    if header.origin != origin || offset + header.data_offset() > window.len {
        return Ok(None);
    }
    let json = usize::try_from(header.json).unwrap_or(usize::MAX);
    let fits = header.fits_json(window.get(offset + header.line, json)?);
    Ok(fits.then_some(header))
}

fn data_fits(window: &mut Window<'_>, header: &Header, offset: u64) -> io::Result<bool> {
    let (mut at, end) =
        (offset + header.data_offset(), offset + header.data_offset() + header.data);
    let mut crc = 0;
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(WINDOW).min(WINDOW / 2);
        let octets = window.get(at, want)?;
        if octets.is_empty() {
            return Ok(false);
        }
        crc = crc32c::crc32c_append(crc, octets);
        at += octets.len() as u64;
    }
    Ok(header.fits_data(crc))
}

/// Where the next record of this segment begins.
fn find_record(
    window: &mut Window<'_>,
    origin: Origin,
    mut offset: u64,
) -> io::Result<Option<u64>> {
    loop {
        let octets = window.get(offset, WINDOW / 2)?;
        if octets.len() < MAGIC.len() {
            return Ok(None);
        }
        let len = octets.len();
        match memchr::memmem::find(octets, MAGIC) {
            Some(place) => {
                offset += place as u64;
                if header(window, origin, offset)?.is_some() {
                    return Ok(Some(offset));
                }
                offset += 1;
            }
            None => offset += (len - MAGIC.len() + 1) as u64,
        }
    }
}

/// Behind the last record stand zeros. Where there are none, a write was torn, or the last record is damaged: up to where?
fn tail_end(window: &mut Window<'_>, start: u64) -> io::Result<u64> {
    let mut offset = start;
    while offset < start + MOST_SET_ASIDE {
        let octets = window.get(offset, WINDOW / 2)?;
        if let Some(zeros) = memchr::memmem::find(octets, &ZEROS) {
            return Ok(offset + zeros as u64);
        }
        if octets.len() < WINDOW / 2 {
            // Up to the end of the file there are none, or fewer than behind a record.
            let zeros = octets.iter().rev().take_while(|octet| **octet == 0).count();
            return Ok(offset + (octets.len() - zeros) as u64);
        }
        offset += (octets.len() - ZEROS.len()) as u64;
    }
    Ok(offset)
}

/// A part of a file in memory.
struct Window<'a> {
    file: &'a dyn File,
    len: u64,
    start: u64,
    octets: Vec<u8>,
}

impl Window<'_> {
    /// Up to `len` octets at `offset`; fewer only at the end of the file.
    fn get(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let len = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(len).min(len);
        let end = offset + len as u64;
        if offset < self.start || end > self.start + self.octets.len() as u64 {
            let want = usize::try_from(self.len - offset).unwrap_or(WINDOW).min(len.max(WINDOW));
            self.octets.resize(want, 0);
            self.start = offset;
            let mut done = 0;
            while done < want {
                match self.file.read_at(offset + done as u64, &mut self.octets[done..])? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => done += count,
                }
            }
        }
        let from = usize::try_from(offset - self.start).unwrap_or_default();
        Ok(&self.octets[from..from + len])
    }
}

const ZEROS: [u8; 64] = [0; 64];

/// What a disk writes as a whole.
const SECTOR: usize = 512;

const WINDOW: usize = 1 << 20;

/// More than this of one damaged place helps nobody.
const MOST_SET_ASIDE: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Kind, Record};

    const ORIGIN: Origin = Origin { segment: 7, salt: 0x0123_4567_89ab_cdef };

    fn record(origin: Origin, content: &[u8]) -> Vec<u8> {
        let json = format!("{{\"x\":\"{}\"}}", "y".repeat(600));
        let data_crc = crc32c::crc32c(content);
        let data = vec![bytes::Bytes::copy_from_slice(content)];
        let id = "01HZZZZZZZ0000AB".parse().expect("an id");
        let record = Record { kind: Kind::Accept, id, json: json.into_bytes(), data, data_crc };
        [record.prefix(origin, (3, 0)), content.to_vec(), b"\n".to_vec()].concat()
    }

    #[test]
    fn a_flipped_bit_is_damage_wherever_it_is() {
        let whole = record(ORIGIN, &[b'c'; 1500]);
        for offset in [0, 512, 1000] {
            for bit in 0..whole.len() * 8 {
                let mut octets = whole.clone();
                octets[bit / 8] ^= 1 << (bit % 8);
                // A flipped line end may give a longer line, which is no line any more.
                assert!(
                    !is_torn(&octets, ORIGIN, offset) || bit / 8 == whole.len() - 1,
                    "bit {bit}"
                );
            }
        }
    }

    #[test]
    fn what_lacks_sectors_is_torn() {
        let whole = record(ORIGIN, &[b'c'; 1500]);
        let earlier = record(Origin { segment: 6, salt: 1 }, &[b'o'; 3000]);
        for offset in [0, 100, 512, 1000] {
            let first = (SECTOR - offset % SECTOR) % SECTOR;
            for cut in (first..whole.len()).step_by(SECTOR) {
                let offset = offset as u64;
                assert!(cut == 0 || is_torn(&whole[..cut], ORIGIN, offset), "cut short at {cut}");
                let mut hole = whole.clone();
                let end = (cut + SECTOR).min(whole.len());
                hole[cut..end].fill(0);
                assert!(end - cut < SECTOR || is_torn(&hole, ORIGIN, offset), "a hole at {cut}");
                let mixed = [&whole[..cut], &earlier].concat();
                assert!(is_torn(&mixed, ORIGIN, offset), "from {cut} on it is an earlier use");
            }
        }
    }
}
