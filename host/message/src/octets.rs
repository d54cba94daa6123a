//! Content that lies somewhere: in memory, in a draft, in the spool.

use std::io;

use bytes::Bytes;

/// Random access to stored or received octets. The implementor does the I/O.
pub trait Octets: Send + Sync {
    /// How many octets there are.
    fn len(&self) -> u64;

    /// Fills the buffer from `offset` on and says how much of it; less than the whole is no end. Zero is the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The octets from `offset` on, `length` of them or as many as there are.
    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let there = usize::try_from(self.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut octets = vec![0; length.min(there)];
        let mut filled = 0;
        while filled < octets.len() {
            match self.read_at(offset + filled as u64, &mut octets[filled..])? {
                0 => break,
                more => filled += more,
            }
        }
        octets.truncate(filled);
        Ok(octets)
    }
}

impl Octets for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest =
            usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

/// For types that lend a slice.
macro_rules! octets_of_slice {
    ($($type:ty),+) => {$(
        impl Octets for $type {
            fn len(&self) -> u64 {
                Octets::len(&self[..])
            }

            fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
                Octets::read_at(&self[..], offset, buffer)
            }
        }
    )+};
}

octets_of_slice!(Bytes, Vec<u8>, &[u8]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_ends_at_the_end() {
        let octets: &[u8] = b"0123456789";
        let check = |offset, length, expected: &[u8]| {
            assert_eq!(octets.read(offset, length).unwrap(), expected)
        };
        check(0, 4, b"0123");
        check(8, 4, b"89");
        check(10, 4, b"");
        check(11, 4, b"");
        check(u64::MAX, usize::MAX, b"");
    }
}
