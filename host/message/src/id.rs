//! Names for messages, transactions and sessions.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize, Serializer};

/// Names a message, a transaction or a session: 16 characters, in the order of time.
///
/// 48 bits count milliseconds since 1970 (until the year 10889), 32 bits tell apart what falls into the same
/// millisecond. The text is base32 in Crockford's alphabet, which has no letters that look like digits; it can be
/// read over a telephone and is safe in file names and header fields.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "std::borrow::Cow<'_, str>")]
pub struct Id([u8; OCTETS]);

/// A text that is no [`Id`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id has 16 characters of 0-9 and A-Z without I, L, O, U")]
pub struct IdError;

impl Id {
    /// An id of this time. Whoever makes ids sees to it that `unique` is another each time within a millisecond.
    pub fn new(time: SystemTime, unique: u32) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let milliseconds = since.as_millis() & 0xFFFF_FFFF_FFFF;
        Self::from_bits(milliseconds << 32 | u128::from(unique))
    }

    /// Octets in the order of their weight, and no more than are used: a queue holds ids by the million.
    fn from_bits(bits: u128) -> Self {
        let mut octets = [0; OCTETS];
        octets.copy_from_slice(&bits.to_be_bytes()[16 - OCTETS..]);
        Self(octets)
    }

    fn bits(self) -> u128 {
        let mut all = [0; 16];
        all[16 - OCTETS..].copy_from_slice(&self.0);
        u128::from_be_bytes(all)
    }

    /// Its text, without the detour of `Display`.
    pub fn to_octets(self) -> [u8; LENGTH] {
        // Eight characters are 40 bits: two halves that fit into registers.
        let bits = self.bits();
        let (high, low) = ((bits >> 40) as u64, bits as u64 & 0xFF_FFFF_FFFF);
        std::array::from_fn(|at| match at.checked_sub(8) {
            None => ALPHABET[(high >> (5 * (7 - at))) as usize & 31],
            Some(at) => ALPHABET[(low >> (5 * (7 - at))) as usize & 31],
        })
    }

    /// When it was made, to the millisecond.
    pub fn time(self) -> SystemTime {
        let milliseconds = u64::try_from(self.bits() >> 32).unwrap_or(u64::MAX);
        UNIX_EPOCH + Duration::from_millis(milliseconds)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.to_octets()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({self})")
    }
}

impl FromStr for Id {
    type Err = IdError;

    /// Small letters are taken as well.
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != LENGTH {
            return Err(IdError);
        }
        let bits = text.bytes().try_fold(0, |bits: u128, character| {
            let digit = DIGITS[usize::from(character)];
            (digit < 32).then_some(bits << 5 | u128::from(digit)).ok_or(IdError)
        })?;
        Ok(Self::from_bits(bits))
    }
}

impl TryFrom<Cow<'_, str>> for Id {
    type Error = IdError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, IdError> {
        text.parse()
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let octets = self.to_octets();
        serializer.serialize_str(std::str::from_utf8(&octets).map_err(serde::ser::Error::custom)?)
    }
}

/// Characters of an id.
const LENGTH: usize = 16;

/// 80 bits.
const OCTETS: usize = 10;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// What each character is worth; 255: it is none of ours.
const DIGITS: [u8; 256] = digits();

const fn digits() -> [u8; 256] {
    let mut digits = [255; 256];
    let mut digit = 0;
    while digit < 32 {
        let character = ALPHABET[digit];
        digits[character as usize] = digit as u8;
        digits[character.to_ascii_lowercase() as usize] = digit as u8;
        digit += 1;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    #[test]
    fn text_and_id_lead_to_each_other() {
        let check = |milliseconds, unique, text: &str| {
            let id = Id::new(at(milliseconds), unique);
            assert_eq!(id.to_string(), text);
            assert_eq!(text.to_ascii_lowercase().parse(), Ok(id));
            assert_eq!(id.time(), at(milliseconds));
        };
        check(0, 0, "0000000000000000");
        check(0, 31, "000000000000000Z");
        check(1_795_298_400_000, 0xDEAD_BEEF, "06H007WQ03FAVFQF");
        check((1 << 48) - 1, u32::MAX, "ZZZZZZZZZZZZZZZZ");
    }

    #[test]
    fn ids_stand_in_the_order_of_time() {
        let ids = [Id::new(at(1), 9), Id::new(at(2), 0), Id::new(at(2), 1), Id::new(at(70_000), 0)];
        assert!(ids.is_sorted());
        assert!(ids.map(|id| id.to_string()).is_sorted());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "000000000000000",
            "00000000000000000",
            "000000000000000U",
            "00000000000000/0",
            "ééééé00000000000",
        ] {
            assert_eq!(text.parse::<Id>(), Err(IdError), "{text}");
        }
    }

    #[test]
    fn times_before_1970_are_1970() {
        assert_eq!(Id::new(UNIX_EPOCH - Duration::from_secs(1), 0).time(), UNIX_EPOCH);
    }
}
