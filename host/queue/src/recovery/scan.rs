//! Reads a segment from its start, over damaged places, to its end.

use std::io;

use crate::disk::File;
use crate::record::{Header, LONGEST_LINE, MAGIC, Origin};

use super::Replay;

/// Gives every whole record of the segment to `replay`, in order, and everything damaged too.
pub(super) fn segment(replay: &mut Replay, file: &dyn File, origin: Origin) -> io::Result<()> {
    let mut window = Window { file, len: file.len()?, start: 0, octets: Vec::new() };
    let mut offset = 0;
    loop {
        if let Some(next) = record(replay, &mut window, origin, offset)? {
            offset = next;
            continue;
        }
        let after = find_record(&mut window, origin, offset + 1)?;
        let end = after.map_or_else(|| tail_end(&mut window, offset), Ok)?;
        if end > offset {
            let len = usize::try_from((end - offset).min(MOST_SET_ASIDE)).unwrap_or(WINDOW);
            let octets = file.read_exact_at(offset, len)?;
            replay.damaged(origin.segment, offset, &octets);
        }
        match after {
            Some(next) => offset = next,
            None => return Ok(()),
        }
    }
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
    Ok(replay.record(&header, json, offset).then_some(end))
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
        let octets = window.get(offset, ZEROS.len())?;
        if octets.is_empty() || octets == &ZEROS[..octets.len()] {
            break;
        }
        offset += octets.len() as u64;
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

const WINDOW: usize = 1 << 20;

/// More than this of one damaged place helps nobody.
const MOST_SET_ASIDE: u64 = 4 << 20;
