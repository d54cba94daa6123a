//! `deferred.index`: one line for each message in `deferred/`, so that neither a start nor a list reads a file per message.
//!
//! ```text
//! gatepost index 1
//! + 01HZZZZZZZ0000AB rev=3 due=1800000300000 wait=300000 got=1800000000000 size=678 class=1 group=17 from=1a2b3c4d
//!   flags=d lane=11:example.org {"id":…} crc=…
//! - 01HZZZZZZZ0000AB crc=1a2b3c4d
//! ```
//!
//! `+` stands before the files get their names, `-` is written when they are gone, each flushed before the log forgets
//! what it knows; so no message is only in `deferred/` without a line that is true. The last line of a message counts;
//! the JSON is the one of its `.record`. `?` says that there may be records without a line: then `deferred/` is searched
//! once, and `!` says that it was. Behind the last line stand zeros. Everything here blocks.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use message::Id;

use crate::disk::{Disk, File};
use crate::entry::{Brief, Owed};
use crate::message::Message;
use crate::priority::Class;
use crate::sender::SenderKey;
use crate::store::remove_if_there;

/// What a line says.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    /// That message has files in `deferred/`, or will have in a moment.
    Put(Indexed, &'a [u8]),
    /// It has none any more.
    Delete(Id),
    /// There may be records without a line.
    Search,
    /// There are none.
    Searched,
}

/// What a line says of a message.
#[derive(Clone, Debug)]
pub(crate) struct Indexed {
    pub(crate) id: Id,
    pub(crate) brief: Brief,
    /// It has a file for its body.
    pub(crate) large: bool,
}

impl Indexed {
    /// What the index would say of it.
    pub(crate) fn of(message: &Message) -> Self {
        Self { id: message.id, brief: Brief::of(message), large: message.content.large.is_some() }
    }

    /// The revision as it is kept in memory.
    pub(crate) fn revision(&self) -> u32 {
        u32::try_from(self.brief.revision).unwrap_or(u32::MAX)
    }
}

/// The line for a message whose state has this JSON.
pub(crate) fn put_line(message: &Message, json: &[u8]) -> Vec<u8> {
    let brief = Brief::of(message);
    let (due, wait) = match brief.due {
        Some((due, wait)) => (millis_since(due).to_string(), wait.as_millis()),
        None => ("-".to_owned(), 0),
    };
    let mut flags = String::new();
    for (flag, set) in flags_of(&brief, message.content.large.is_some()) {
        if set {
            flags.push(flag);
        }
    }
    // A lane is one line; what it says beyond that, the message itself says when it is read.
    let lane: String = brief
        .lane
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(LONGEST_LANE)
        .collect();
    let (id, revision, received) = (message.id, brief.revision, millis_since(message.received));
    let len = lane.len();
    let mut line = format!(
        "+ {id} rev={revision} due={due} wait={wait} got={received} size={} class={} group={} from={:x} \
         flags={flags} lane={len}:{lane} ",
        brief.octets, brief.class as u8, brief.group, brief.sender.0
    )
    .into_bytes();
    line.extend_from_slice(json);
    finish(line)
}

fn flags_of(brief: &Brief, large: bool) -> [(char, bool); 5] {
    [
        ('h', brief.held),
        ('f', brief.owed.failure),
        ('d', brief.owed.delay),
        ('s', brief.owed.success),
        ('L', large),
    ]
}

/// The line that ends what was said of a message.
pub(crate) fn delete_line(id: Id) -> Vec<u8> {
    finish(format!("- {id}").into_bytes())
}

fn finish(mut line: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&line);
    line.extend_from_slice(format!(" crc={crc:08x}\n").as_bytes());
    line
}

/// Reads a line without its end. `None`: it is damaged.
pub(crate) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let (text, crc) = line.split_at_checked(line.len().checked_sub(CRC)?)?;
    let crc = std::str::from_utf8(crc.strip_prefix(b" crc=")?).ok()?;
    // Written in one form only: a flipped bit of a digit's case is damage, too.
    let canonical = crc.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if !canonical || u32::from_str_radix(crc, 16).ok()? != crc32c::crc32c(text) {
        return None;
    }
    match text {
        b"?" => return Some(Line::Search),
        b"!" => return Some(Line::Searched),
        _ => {}
    }
    let (id, rest) = text.get(2..)?.split_at_checked(ID)?;
    let id = std::str::from_utf8(id).ok()?.parse().ok()?;
    match text.get(..2)? {
        b"- " => rest.is_empty().then_some(Line::Delete(id)),
        b"+ " => put(id, rest),
        _ => None,
    }
}

fn put(id: Id, rest: &[u8]) -> Option<Line<'_>> {
    let mut rest = rest;
    let mut value = |name: &str| {
        let after = rest.strip_prefix(b" ")?.strip_prefix(name.as_bytes())?;
        let end = memchr::memchr2(b' ', b':', after)?;
        let (value, left) = after.split_at(end);
        rest = left;
        std::str::from_utf8(value).ok()
    };
    let revision = value("rev=")?.parse().ok()?;
    let due = value("due=")?;
    let wait = Duration::from_millis(value("wait=")?.parse::<u64>().ok()?.min(LATEST));
    time(value("got=")?)?;
    let octets = value("size=")?.parse().ok()?;
    let class = *Class::ALL.get(value("class=")?.parse::<usize>().ok()?)?;
    let group = value("group=")?.parse().ok()?;
    let sender = SenderKey(u32::from_str_radix(value("from=")?, 16).ok()?);
    let flags = value("flags=")?;
    let lane = value("lane=")?.parse::<usize>().ok().filter(|len| *len <= LONGEST_LANE * 4)?;
    let (lane, json) = rest.strip_prefix(b":")?.split_at_checked(lane)?;
    let due = if due == "-" { None } else { Some((time(due)?, wait)) };
    let has = |flag: char| flags.contains(flag);
    let owed = Owed { failure: has('f'), delay: has('d'), success: has('s') };
    let lane = std::str::from_utf8(lane).ok()?.to_owned();
    let held = has('h');
    let brief = Brief { revision, due, lane, class, group, sender, octets, held, owed };
    let json = json.strip_prefix(b" ")?;
    Some(Line::Put(Indexed { id, brief, large: has('L') }, json))
}

/// What a list wants to know of a line before it is read for good.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Glance {
    pub(crate) id: Id,
    /// As [`Indexed::revision`] gives it.
    pub(crate) revision: u32,
    pub(crate) received: SystemTime,
    pub(crate) held: bool,
}

/// Looks at the start of a `+` line, and not at its checksum: lists go through a million of them.
pub(crate) fn glance(line: &[u8]) -> Option<Glance> {
    let mut words = line.strip_prefix(b"+ ")?.split(|octet| *octet == b' ');
    let id = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let mut value = |name: &[u8]| {
        let word = words.find_map(|word| word.strip_prefix(name))?;
        std::str::from_utf8(word).ok()
    };
    let revision: u64 = value(b"rev=")?.parse().ok()?;
    let received = time(value(b"got=")?)?;
    let held = value(b"flags=")?.contains('h');
    let revision = u32::try_from(revision).unwrap_or(u32::MAX);
    Some(Glance { id, revision, received, held })
}

fn time(millis: &str) -> Option<SystemTime> {
    Some(UNIX_EPOCH + Duration::from_millis(millis.parse::<u64>().ok()?.min(LATEST)))
}

fn millis_since(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The index as it is written: by one job at a time.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) file: Arc<dyn File>,
    /// Octets in use.
    pub(crate) end: u64,
    /// Octets allocated.
    allocated: u64,
    /// Lines in it.
    pub(crate) lines: u64,
    /// A write failed: what stands behind `end` is unknown, so it is written anew before anything is added.
    pub(crate) spoiled: bool,
}

impl Index {
    /// Opens it where it is. `None`: there is none.
    pub(crate) fn open(disk: &dyn Disk) -> io::Result<Option<Self>> {
        let file = match disk.open(FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let allocated = file.len()?;
        Ok(Some(Self { file, end: 0, allocated, lines: 0, spoiled: false }))
    }

    /// Makes one, beside the one that may be there. `search`: there may be records without a line.
    pub(crate) fn create(disk: &dyn Disk, search: bool) -> io::Result<Self> {
        let file = disk.create(ASIDE)?;
        let mut index = Self { file, end: 0, allocated: 0, lines: 0, spoiled: false };
        index.write(HEADER)?;
        if search {
            index.write(&finish(b"?".to_vec()))?;
        }
        Ok(index)
    }

    /// Puts one that was created in its place, durably.
    pub(crate) fn install(&self, disk: &dyn Disk) -> io::Result<()> {
        self.file.sync()?;
        disk.rename(ASIDE, FILE)?;
        disk.sync_dir("")
    }

    /// Adds lines, durably.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.spoiled {
            return Err(io::Error::other("the index must be written anew"));
        }
        self.write(lines)?;
        self.file.sync().inspect_err(|_| self.spoiled = true)
    }

    /// Says that every record has a line, durably.
    pub(crate) fn append_searched(&mut self) -> io::Result<()> {
        self.append(&finish(b"!".to_vec()))
    }

    /// Adds lines; [`Index::install`] or the next append makes them durable.
    pub(crate) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let end = self.end + lines.len() as u64;
        // What says that messages are gone must find room on a full disk: without it the log cannot let go of them.
        let reserve = if lines.first() == Some(&b'-') { 1 } else { RESERVE };
        if end + reserve > self.allocated {
            let allocated = (end + RESERVE).next_multiple_of(STEP);
            self.file.allocate(allocated)?;
            self.allocated = allocated;
        }
        self.file.write_at(self.end, &[lines]).inspect_err(|_| self.spoiled = true)?;
        self.end = end;
        self.lines += lines.iter().filter(|octet| **octet == b'\n').count() as u64;
        Ok(())
    }
}

/// Removes one that was begun and not installed.
pub(crate) fn remove_aside(disk: &dyn Disk) -> io::Result<()> {
    remove_if_there(disk, ASIDE)
}

/// Goes through the lines of an index.
#[derive(Debug)]
pub(crate) struct Reader {
    file: Arc<dyn File>,
    /// Where to stop.
    len: u64,
    /// Where `octets` begin, and how much of them is done.
    start: u64,
    octets: Vec<u8>,
    done: usize,
}

/// One line, or octets that are none.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Line(Line<'a>),
    Damaged { offset: u64, octets: &'a [u8] },
}

impl Reader {
    /// Up to `len`; the end of the file if that is nearer.
    pub(crate) fn new(file: Arc<dyn File>, len: u64) -> io::Result<Self> {
        let len = len.min(file.len()?);
        Ok(Self { file, len, start: 0, octets: Vec::new(), done: 0 })
    }

    /// Where the next line begins.
    pub(crate) fn offset(&self) -> u64 {
        self.start + self.done as u64
    }

    /// The next line, raw and without its end; `None` at the end.
    pub(crate) fn next_raw(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        let mut searched = 0;
        loop {
            let rest = &self.octets[self.done..];
            if rest.first() == Some(&0) {
                return Ok(None);
            }
            if let Some(end) = memchr::memchr(b'\n', &rest[searched..]) {
                let (begin, offset) = (self.done, self.offset());
                self.done += searched + end + 1;
                return Ok(Some((offset, &self.octets[begin..begin + searched + end])));
            }
            searched = rest.len();
            if self.start + self.octets.len() as u64 >= self.len || searched > LONGEST {
                let (begin, offset) = (self.done, self.offset());
                self.done = self.octets.len();
                let rest = &self.octets[begin..];
                return Ok((!rest.is_empty()).then_some((offset, rest)));
            }
            self.fill()?;
        }
    }

    /// The next lines that are in memory, at least one, with their ends, and where they begin; `None` at the end.
    pub(crate) fn next_lines(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        loop {
            let rest = &self.octets[self.done..];
            if rest.first() == Some(&0) {
                return Ok(None);
            }
            let ends = self.start + self.octets.len() as u64 >= self.len || rest.len() > LONGEST;
            let whole = match memchr::memrchr(b'\n', rest) {
                Some(end) => end + 1,
                None if ends => rest.len(),
                None => 0,
            };
            if whole > 0 {
                let (begin, offset) = (self.done, self.offset());
                self.done += whole;
                return Ok(Some((offset, &self.octets[begin..self.done])));
            }
            if ends {
                return Ok(None);
            }
            self.fill()?;
        }
    }

    /// The next line; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Found<'_>>> {
        let header = self.offset() == 0;
        let Some((offset, mut octets)) = self.next_raw()? else { return Ok(None) };
        if header && octets == HEADER.trim_ascii_end() {
            return Ok(Some(Found::Line(Line::Searched)));
        }
        if let Some(line) = parse(octets) {
            return Ok(Some(Found::Line(line)));
        }
        // What a write that was torn did not reach is zeros.
        while let Some(shorter) = octets.strip_suffix(&[0]) {
            octets = shorter;
        }
        Ok(Some(Found::Damaged { offset, octets }))
    }

    fn fill(&mut self) -> io::Result<()> {
        self.octets.drain(..self.done);
        self.start += self.done as u64;
        self.done = 0;
        let before = self.octets.len();
        let left = self.len - self.start - before as u64;
        let want = usize::try_from(left).unwrap_or(WINDOW).min(WINDOW);
        self.octets.resize(before + want, 0);
        let count = self.file.read_at(self.start + before as u64, &mut self.octets[before..])?;
        self.octets.truncate(before + count);
        if count == 0 {
            self.len = self.start + before as u64;
        }
        Ok(())
    }
}

/// The name of the index in a spool.
pub(crate) const FILE: &str = "deferred.index";
const ASIDE: &str = "deferred.index.tmp";
const HEADER: &[u8] = b"gatepost index 1\n";

/// What stands in the line of a held message: it is the first flag.
pub(crate) const HELD: &str = " flags=h";

/// " crc=" and eight digits.
const CRC: usize = 13;

/// Characters of an id.
const ID: usize = 16;

/// A lane is a domain (255 octets) or the name of a destination.
const LONGEST_LANE: usize = 300;

/// More than the JSON of ten thousand recipients.
const LONGEST: usize = 256 << 20;

const WINDOW: usize = 1 << 20;

/// The index grows in steps of so many octets…
const STEP: u64 = 1 << 20;

/// …and keeps so many for the ends of messages.
const RESERVE: u64 = 256 << 10;

/// The year 10000, in milliseconds since 1970.
const LATEST: u64 = 253_402_300_800_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let json = br#"{"id":"01HZZZZZZZ0000AB","reverse_path":"a@b.test","recipients":[{"path":"c@d.test",
            "original":"c@d.test","state":"pending","due":1800000300000,"wait":300000,"owed":"delay",
            "destination":"mx:d.test\n: e"}],"received":1800000000000,"size":3,"revision":7,"priority":-3,
            "content":{"head":1,"body":2,"crc":0}}"#;
        crate::store::parse_message(json).expect("a message")
    }

    #[test]
    fn what_is_written_is_read_again() {
        let message = message();
        let json = crate::store::to_json(&message);
        let line = put_line(&message, &json);
        let line = line.strip_suffix(b"\n").expect("a line");
        assert!(!line.contains(&b'\n'), "{}", String::from_utf8_lossy(line));
        let Some(Line::Put(found, text)) = parse(line) else { panic!("no line") };
        let (id, revision, received) = (found.id, found.revision(), message.received);
        assert_eq!(glance(line), Some(Glance { id, revision, received, held: false }));
        let expected = Indexed::of(&message);
        assert_eq!((found.id, found.revision(), found.large), (expected.id, 7, false));
        assert_eq!(found.brief.due, expected.brief.due);
        assert_eq!((found.brief.owed, found.brief.held), (expected.brief.owed, false));
        assert_eq!(found.brief.lane, "mx:d.test?: e");
        let (found, expected) = (&found.brief, &expected.brief);
        assert_eq!((found.class, found.octets), (Class::Low, 3));
        assert_eq!((found.group, found.sender), (expected.group, expected.sender));
        assert_eq!(text, json);
        let line = delete_line(message.id);
        let Some(Line::Delete(id)) = parse(line.trim_ascii_end()) else { panic!("no line") };
        assert_eq!(id, message.id);
    }

    #[test]
    fn every_flipped_bit_of_a_line_is_seen() {
        let message = message();
        let line = put_line(&message, &crate::store::to_json(&message));
        let line = line.trim_ascii_end();
        for bit in 0..line.len() * 8 {
            let mut damaged = line.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let case_only = damaged[bit / 8].eq_ignore_ascii_case(&line[bit / 8]);
            assert!(parse(&damaged).is_none() || case_only, "bit {bit}");
        }
    }

    #[test]
    fn nothing_that_is_read_panics() {
        for text in [
            "",
            "+",
            "+ ",
            "-",
            "? crc=",
            "+ 01HZZZZZZZ0000AB rev= due= crc=00000000",
            "é crc=00000000",
        ] {
            assert!(parse(text.as_bytes()).is_none(), "{text}");
            let _ = parse(&finish(text.as_bytes().to_vec())).is_some();
        }
    }
}
