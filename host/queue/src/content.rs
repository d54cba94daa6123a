//! Where the content of a message lies, and how it is read.

use std::io;
use std::sync::Arc;

use message::{Id, Octets};

use crate::disk::{Disk, File};
use crate::error::Error;
use crate::message::Message;

/// Where to open the content of a message. Holds its segment open, so that recycling cannot change what is read.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) place: ContentPlace,
}

/// Where head and body begin.
#[derive(Clone, Debug)]
pub(crate) enum ContentPlace {
    /// In a segment of the log.
    Log { file: Arc<dyn File>, segment: u32, offset: u64 },
    /// In `deferred/`.
    Deferred,
}

impl Source {
    pub(crate) fn open(&self, message: &Message) -> Result<Content, Error> {
        let stored = &message.content;
        let first_len =
            if stored.large.is_some() { stored.head } else { stored.head + stored.body };
        let first = match &self.place {
            ContentPlace::Log { file, offset, .. } => {
                Piece { file: Arc::clone(file), offset: *offset, len: first_len }
            }
            ContentPlace::Deferred => {
                let path = eml_path(message.id);
                let file =
                    self.disk.open(&path).map_err(Error::disk("open", self.disk.name(&path)))?;
                Piece { file, offset: 0, len: first_len }
            }
        };
        let mut pieces = vec![first];
        if let Some(offset) = stored.large {
            let path = large_path(message.id);
            let file = self.disk.open(&path).map_err(Error::disk("open", self.disk.name(&path)))?;
            pieces.push(Piece { file, offset, len: stored.body });
        }
        Ok(Content { pieces })
    }

    /// Reads the content and compares its checksums. What cannot be read is not damaged: the disk may be well again soon.
    pub(crate) fn verify(&self, message: &Message) -> Result<(), Error> {
        let damaged = || Error::Damaged { what: format!("the content of {}", message.id) };
        let unread = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(),
            _ => Error::disk("read", self.disk.name(&message.id.to_string()))(error),
        };
        let content = match self.open(message) {
            Err(Error::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(damaged());
            }
            other => other?,
        };
        for piece in &content.pieces {
            if piece.file.len().map_err(unread)? < piece.offset + piece.len {
                return Err(damaged());
            }
        }
        let mut is_whole = content.pieces[0].checksum().map_err(unread)? == message.content.crc;
        if let (Some(crc), Some(body)) = (message.content.large_crc, content.pieces.get(1)) {
            let file = Piece { offset: 0, len: body.offset + body.len, ..body.clone() };
            is_whole &= file.checksum().map_err(unread)? == crc;
        }
        if is_whole { Ok(()) } else { Err(damaged()) }
    }
}

/// The content of a queued message, head and body, octet for octet as it was committed.
#[derive(Clone, Debug)]
pub struct Content {
    pieces: Vec<Piece>,
}

impl Octets for Content {
    fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len).sum()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut start = 0;
        for piece in &self.pieces {
            if offset < start + piece.len {
                return piece.read_at(offset - start, buffer);
            }
            start += piece.len;
        }
        Ok(0)
    }
}

/// A stretch of a file.
#[derive(Clone, Debug)]
struct Piece {
    file: Arc<dyn File>,
    offset: u64,
    len: u64,
}

impl Piece {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = buffer.len().min(rest);
        self.file.read_at(self.offset + offset, &mut buffer[..want])
    }

    fn checksum(&self) -> io::Result<u32> {
        let mut buffer = vec![0; 64 << 10];
        let (mut crc, mut offset) = (0, 0);
        while offset < self.len {
            match self.read_at(offset, &mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => {
                    crc = crc32c::crc32c_append(crc, &buffer[..count]);
                    offset += count as u64;
                }
            }
        }
        Ok(crc)
    }
}

/// `large/ID.body`: the whole received content of a large message.
pub(crate) fn large_path(id: Id) -> String {
    format!("large/{id}.body")
}

/// `deferred/ab/ID.eml`: head and body (the head alone, if the body is large).
pub(crate) fn eml_path(id: Id) -> String {
    format!("{}/{id}.eml", deferred_dir(id))
}

/// `deferred/ab/ID.record`: one STATE record.
pub(crate) fn record_path(id: Id) -> String {
    format!("{}/{id}.record", deferred_dir(id))
}

/// The last two characters of an id are random, so the directories fill evenly.
pub(crate) fn deferred_dir(id: Id) -> String {
    let name = id.to_string();
    format!("deferred/{}", name[name.len() - 2..].to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimulatedDisk;

    /// A file whose length, or whose octets, cannot be had at the moment.
    #[derive(Debug)]
    struct Sick {
        len: Result<u64, io::ErrorKind>,
        octets: Result<&'static [u8], io::ErrorKind>,
    }

    impl File for Sick {
        fn len(&self) -> io::Result<u64> {
            self.len.map_err(Into::into)
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            let octets = self.octets?;
            let rest = octets.get(usize::try_from(offset).unwrap_or(usize::MAX)..);
            let rest = rest.unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }

        fn write_at(&self, _: u64, _: &[&[u8]]) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn allocate(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn truncate(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn sync(&self) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    #[track_caller]
    fn check(file: Sick, damaged: Option<bool>) {
        let json = format!(
            r#"{{"id":"01HZZZZZZZ0000AB","reverse_path":"a@b.test","recipients":[],"received":1800000000000,"size":3,
                "content":{{"head":1,"body":2,"crc":{}}}}}"#,
            crc32c::crc32c(b"abc")
        );
        let message = crate::store::parse_message(json.as_bytes()).expect("a message");
        let place = ContentPlace::Log { file: Arc::new(file), segment: 1, offset: 0 };
        let source = Source { disk: Arc::new(SimulatedDisk::new()), place };
        let found = match source.verify(&message) {
            Ok(()) => None,
            Err(error) => Some(matches!(error, Error::Damaged { .. })),
        };
        assert_eq!(found, damaged);
    }

    #[test]
    fn what_cannot_be_read_now_is_not_taken_for_damaged() {
        check(Sick { len: Ok(3), octets: Ok(b"abc") }, None);
        check(Sick { len: Ok(3), octets: Ok(b"abd") }, Some(true));
        check(Sick { len: Ok(2), octets: Ok(b"ab") }, Some(true));
        check(Sick { len: Err(io::ErrorKind::Other), octets: Ok(b"abc") }, Some(false));
        check(Sick { len: Ok(3), octets: Err(io::ErrorKind::Other) }, Some(false));
    }
}
