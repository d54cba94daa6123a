//! The form of what is written: text framing around JSON and content, readable with `less`.
//!
//! ```text
//! GP1 ACCEPT <id> seg=7 salt=0123456789abcdef batch=12.0 json=345 data=678:1a2b3c4d crc=5e6f7a8b
//! {"id":…}
//! Received: … (678 octets of content)
//! ```
//!
//! `crc` is CRC32C over everything before it on the line and the JSON; the second number of `data` is CRC32C over the
//! content. `salt` is random for each use of a segment and stands in its file name, so neither what an earlier use left
//! nor content that looks like a record is taken for one.

use bytes::Bytes;
use message::Id;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A message with its content: it is ours from now on.
    Accept,
    /// The whole state of a message; replaces all before it.
    State,
    /// Some recipients of a message changed; a whole state will follow.
    Change,
    /// The message is finished (or was never accepted after all).
    Done,
}

impl Kind {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Accept, "ACCEPT"),
        (Self::State, "STATE"),
        (Self::Change, "CHANGE"),
        (Self::Done, "DONE"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    fn from_name(wanted: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == wanted).map(|(kind, _)| *kind)
    }
}

/// Which use of which segment a record belongs to. Records in files of their own have the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) segment: u32,
    pub(crate) salt: u64,
}

/// The first line of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) id: Id,
    pub(crate) origin: Origin,
    /// Which batch of this segment, and which place in it.
    pub(crate) batch: (u64, u32),
    /// Octets of JSON.
    pub(crate) json: u64,
    /// Octets of content.
    pub(crate) data: u64,
    data_crc: u32,
    crc: u32,
    /// Octets of this line with its end.
    pub(crate) line: u64,
    /// CRC32C of the line up to `crc`, for the check of the JSON.
    line_crc: u32,
}

impl Header {
    /// Octets of the whole record.
    pub(crate) fn record_octets(&self) -> u64 {
        self.line + self.json + 1 + self.data + 1
    }

    /// Octets before the content.
    pub(crate) fn data_offset(&self) -> u64 {
        self.line + self.json + 1
    }

    /// Is this the JSON that was written?
    pub(crate) fn fits_json(&self, json: &[u8]) -> bool {
        crc32c::crc32c_append(self.line_crc, json) == self.crc
    }

    /// Is this the checksum of the content that was written?
    pub(crate) fn fits_data(&self, crc: u32) -> bool {
        self.data_crc == crc
    }

    /// Reads the line at the start of `octets`.
    pub(crate) fn parse(octets: &[u8]) -> Option<Self> {
        if !octets.starts_with(MAGIC) {
            return None;
        }
        let end = octets.iter().take(LONGEST_LINE).position(|&octet| octet == b'\n')?;
        let line = std::str::from_utf8(&octets[..end]).ok()?;
        let covered = line.rfind(" crc=")?;
        let mut words = line.split(' ').skip(1);
        let kind = Kind::from_name(words.next()?)?;
        let id = words.next()?.parse().ok()?;
        let mut value = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
        let segment = value("seg")?.parse().ok()?;
        let salt = u64::from_str_radix(value("salt")?, 16).ok()?;
        let (batch, place) = value("batch")?.split_once('.')?;
        let json = value("json")?.parse().ok()?;
        let (data, data_crc) = value("data")?.split_once(':')?;
        // Written in one form only: a flipped bit of a digit's case is damage, too.
        let crc = value("crc")?;
        if crc.len() != 8 || !crc.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let header = Self {
            kind,
            id,
            origin: Origin { segment, salt },
            batch: (batch.parse().ok()?, place.parse().ok()?),
            json,
            data: data.parse().ok()?,
            data_crc: u32::from_str_radix(data_crc, 16).ok()?,
            crc: u32::from_str_radix(crc, 16).ok()?,
            line: end as u64 + 1,
            line_crc: crc32c::crc32c(&octets[..covered]),
        };
        // No length that was read may overflow when lengths are added.
        (header.json <= LARGEST && header.data <= LARGEST).then_some(header)
    }
}

/// A record that is ready to be written once its place is known.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) id: Id,
    pub(crate) json: Vec<u8>,
    /// Content, in pieces.
    pub(crate) data: Vec<Bytes>,
    /// CRC32C of the content.
    pub(crate) data_crc: u32,
}

impl Record {
    /// A record without content.
    pub(crate) fn new(kind: Kind, id: Id, json: Vec<u8>) -> Self {
        Self { kind, id, json, data: Vec::new(), data_crc: 0 }
    }

    /// The message is finished.
    pub(crate) fn done(id: Id) -> Self {
        Self::new(Kind::Done, id, Vec::new())
    }

    /// Octets of content.
    pub(crate) fn data_octets(&self) -> u64 {
        self.data.iter().map(|piece| piece.len() as u64).sum()
    }

    /// At least as many octets as the record will have.
    pub(crate) fn most_octets(&self) -> u64 {
        LONGEST_LINE as u64 + self.json.len() as u64 + self.data_octets() + 2
    }

    /// Line and JSON, to be followed by the content and a line end.
    pub(crate) fn prefix(&self, origin: Origin, batch: (u64, u32)) -> Vec<u8> {
        let mut line = Vec::with_capacity(LONGEST_LINE + self.json.len() + 1);
        let (batch, place) = batch;
        // Put together by hand: it is written for each message, and the machinery of `format!` takes ten times as long.
        line.extend_from_slice(MAGIC);
        line.extend_from_slice(self.kind.name().as_bytes());
        line.push(b' ');
        line.extend_from_slice(&self.id.to_octets());
        decimal(&mut line, " seg=", u64::from(origin.segment));
        hexadecimal::<16>(&mut line, " salt=", origin.salt);
        decimal(&mut line, " batch=", batch);
        decimal(&mut line, ".", u64::from(place));
        decimal(&mut line, " json=", self.json.len() as u64);
        decimal(&mut line, " data=", self.data_octets());
        hexadecimal::<8>(&mut line, ":", u64::from(self.data_crc));
        let crc = crc32c::crc32c_append(crc32c::crc32c(&line), &self.json);
        hexadecimal::<8>(&mut line, " crc=", u64::from(crc));
        line.push(b'\n');
        line.extend_from_slice(&self.json);
        line.push(b'\n');
        line
    }

    /// The whole record as the only one of a file. It has no content.
    pub(crate) fn to_file(&self) -> Vec<u8> {
        let mut octets = self.prefix(Origin::default(), (0, 0));
        octets.push(b'\n');
        octets
    }
}

/// Reads a record without content from a file of its own. `None`: damaged.
pub(crate) fn parse_file(octets: &[u8]) -> Option<(Header, &[u8])> {
    let (header, json) = parse_start(octets)?;
    let end = octets.get(usize::try_from(header.data_offset()).ok()? - 1..)?;
    (end == b"\n\n").then_some((header, json))
}

/// Reads line and JSON of the record that these octets begin with. `None`: damaged.
pub(crate) fn parse_start(octets: &[u8]) -> Option<(Header, &[u8])> {
    let header = Header::parse(octets)?;
    let start = usize::try_from(header.line).ok()?;
    let (json, _) = octets.get(start..)?.split_at_checked(usize::try_from(header.json).ok()?)?;
    header.fits_json(json).then_some((header, json))
}

fn decimal(out: &mut Vec<u8>, name: &str, mut number: u64) {
    out.extend_from_slice(name.as_bytes());
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

/// The last `DIGITS` digits.
fn hexadecimal<const DIGITS: usize>(out: &mut Vec<u8>, name: &str, number: u64) {
    out.extend_from_slice(name.as_bytes());
    let digit = |at: usize| b"0123456789abcdef"[(number >> (4 * (DIGITS - 1 - at)) & 15) as usize];
    out.extend_from_slice(&std::array::from_fn::<u8, DIGITS, _>(digit));
}

/// What every record begins with: the format and its version.
pub(crate) const MAGIC: &[u8] = b"GP1 ";

/// More than any line has: two numbers of 20 digits, seven of 10, the id and the names.
pub(crate) const LONGEST_LINE: usize = 256;

/// A tebibyte.
const LARGEST: u64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let id = "01HZZZZZZZ0000AB".parse().expect("an id");
        let data = Bytes::from_static(b"Subject: x\r\n\r\nbody");
        let data_crc = crc32c::crc32c(&data);
        Record { kind: Kind::Accept, id, json: b"{\"a\":1}".to_vec(), data: vec![data], data_crc }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let record = record();
        let origin = Origin { segment: 7, salt: 0xab };
        let prefix = record.prefix(origin, (12, 3));
        let header = Header::parse(&prefix).expect("a header");
        assert_eq!((header.kind, header.id, header.origin), (Kind::Accept, record.id, origin));
        assert_eq!(header.batch, (12, 3));
        assert_eq!(header.data_offset(), prefix.len() as u64);
        assert_eq!(header.record_octets(), prefix.len() as u64 + header.data + 1);
        assert!(header.fits_json(&record.json) && header.fits_data(record.data_crc));
        assert!(record.most_octets() >= header.record_octets());
    }

    #[test]
    fn the_line_is_written_as_it_says() {
        let record = Record { json: vec![b' '; 1234], ..record() };
        let prefix = record.prefix(Origin { segment: 7, salt: 0xab }, (u64::MAX, 30));
        let line = prefix.split(|octet| *octet == b'\n').next().expect("a line");
        let (covered, crc) = line.split_at(line.len() - 13);
        let expected = format!(
            "GP1 ACCEPT 01HZZZZZZZ0000AB seg=7 salt=00000000000000ab batch=18446744073709551615.30 json=1234 \
             data=18:{:08x}",
            record.data_crc
        );
        assert_eq!(String::from_utf8_lossy(covered), expected);
        let expected = crc32c::crc32c_append(crc32c::crc32c(covered), &record.json);
        assert_eq!(String::from_utf8_lossy(crc), format!(" crc={expected:08x}"));
    }

    #[test]
    fn every_flipped_bit_of_line_and_json_is_seen() {
        let prefix = record().prefix(Origin { segment: 1, salt: 2 }, (1, 0));
        for bit in 0..(prefix.len() - 1) * 8 {
            let mut damaged = prefix.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let seen = Header::parse(&damaged).is_none_or(|header| {
                let start = usize::try_from(header.line).expect("a short line");
                let end = start + usize::try_from(header.json).expect("a short text");
                !damaged.get(start..end).is_some_and(|json| header.fits_json(json))
            });
            assert!(seen, "bit {bit} of {:?}", String::from_utf8_lossy(&damaged));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_file_is_seen() {
        let whole = Record { data: Vec::new(), data_crc: 0, ..record() }.to_file();
        assert!(parse_file(&whole).is_some());
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_file(&damaged).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn nothing_that_is_read_panics() {
        for text in ["", "GP1 ", "GP1 \n", "GP1 ACCEPT\n", "GP1 DONE x seg=1\n", "GP1 crc=\n"] {
            assert_eq!(Header::parse(text.as_bytes()), None, "{text:?}");
        }
        let huge = "GP1 DONE 01HZZZZZZZ0000AB seg=1 salt=1 batch=1.1 json=18446744073709551615 data=0:0 crc=0\n";
        assert_eq!(Header::parse(huge.as_bytes()), None);
    }
}
