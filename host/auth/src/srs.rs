//! The Sender Rewriting Scheme: reverse-paths of forwarded mail that come back to us, so that SPF passes and bounces find
//! their way. The forms are those of Mail::SRS, which other forwarders read too.

mod forwarder;

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub use self::forwarder::Forwarder;

/// Rewrites and restores addresses.
#[derive(Clone)]
pub struct Srs {
    /// The first one signs, all of them are believed: so a secret can be replaced.
    secrets: Vec<String>,
    separator: char,
    hash_length: usize,
    max_age_days: u64,
}

/// Why an address is not restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SrsError {
    /// An ordinary address.
    #[error("not a rewritten address")]
    NotRewritten,
    /// Begins like one, and is not.
    #[error("a rewritten address that cannot be read")]
    Malformed,
    /// We did not write it.
    #[error("a rewritten address that is not ours")]
    Hash,
    /// We wrote it too long ago.
    #[error("a rewritten address that is too old")]
    Expired,
    /// The address would be longer than one may be (RFC 5321 §4.5.3.1.1).
    #[error("the rewritten address is too long")]
    TooLong,
    /// Nothing to sign with.
    #[error("there is no secret")]
    NoSecret,
}

impl Srs {
    /// With these secrets; the first signs.
    pub fn new(secrets: Vec<String>) -> Result<Self, SrsError> {
        if secrets.iter().all(String::is_empty) {
            return Err(SrsError::NoSecret);
        }
        Ok(Self { secrets, separator: '=', hash_length: HASH_LENGTH, max_age_days: MAX_AGE_DAYS })
    }

    /// With another character behind "SRS0": `=`, `+` or `-`.
    #[must_use]
    pub fn with_separator(mut self, separator: char) -> Self {
        if matches!(separator, '=' | '+' | '-') {
            self.separator = separator;
        }
        self
    }

    /// With addresses that hold for another time, up to 1023 days.
    #[must_use]
    pub fn with_max_age_days(mut self, days: u64) -> Self {
        self.max_age_days = days.min(DAYS - 1);
        self
    }

    /// The address to forward with. An address of the forwarder itself stays as it is.
    pub fn forward(
        &self,
        address: &str,
        forwarder: &str,
        now: SystemTime,
    ) -> Result<String, SrsError> {
        let (user, host) = address.rsplit_once('@').ok_or(SrsError::Malformed)?;
        if host.eq_ignore_ascii_case(forwarder) {
            return Ok(address.to_owned());
        }
        let local = match Rewritten::parse(user) {
            // Each hop after the first keeps the first one and its words, and is left out when it is restored.
            Some(Rewritten::First { rest }) => {
                self.second(host, &format!("{}{rest}", separator_of(user)))
            }
            Some(Rewritten::Second { host, rest, .. }) => self.second(host, rest),
            None => self.first(user, host, now),
        };
        // RFC 5321 §4.5.3.1.1: 64 octets; longer ones are tolerated up to what a path may have (§4.5.3.1.3).
        if local.len() + forwarder.len() + 3 > LONGEST_PATH {
            return Err(SrsError::TooLong);
        }
        Ok(format!("{local}@{forwarder}"))
    }

    /// The address that came in, if we rewrote it and it is not too old.
    pub fn reverse(&self, address: &str, now: SystemTime) -> Result<String, SrsError> {
        let (user, _) = address.rsplit_once('@').ok_or(SrsError::NotRewritten)?;
        if !is_rewritten(user) {
            return Err(SrsError::NotRewritten);
        }
        match Rewritten::parse(user).ok_or(SrsError::Malformed)? {
            Rewritten::First { rest } => {
                let mut parts = rest.splitn(4, '=');
                let mut part =
                    || parts.next().filter(|part| !part.is_empty()).ok_or(SrsError::Malformed);
                let (hash, time, host, user) = (part()?, part()?, part()?, part()?);
                self.check(hash, &format!("{time}{host}{user}"))?;
                self.check_time(time, now)?;
                Ok(format!("{user}@{host}"))
            }
            Rewritten::Second { hash, host, rest } => {
                self.check(hash, &format!("{host}{rest}"))?;
                Ok(format!("SRS0{rest}@{host}"))
            }
        }
    }

    fn first(&self, user: &str, host: &str, now: SystemTime) -> String {
        let time = timestamp(now);
        let hash = self.hash(&self.secrets[0], &format!("{time}{host}{user}"));
        format!("SRS0{}{hash}={time}={host}={user}", self.separator)
    }

    fn second(&self, host: &str, rest: &str) -> String {
        let hash = self.hash(&self.secrets[0], &format!("{host}{rest}"));
        format!("SRS1{}{hash}={host}={rest}", self.separator)
    }

    fn hash(&self, secret: &str, text: &str) -> String {
        // SHA-1 is what all forwarders agree on; an HMAC of it is not known to be broken (RFC 6151 §2.3 for its kind).
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
        let tag = hmac::sign(&key, text.to_ascii_lowercase().as_bytes());
        let mut hash = STANDARD.encode(tag.as_ref());
        hash.truncate(self.hash_length);
        hash
    }

    /// Some servers on the way change the case of local parts, so it does not count.
    fn check(&self, hash: &str, text: &str) -> Result<(), SrsError> {
        let given = hash.to_ascii_lowercase();
        let holds = self.secrets.iter().any(|secret| {
            let expected = self.hash(secret, text).to_ascii_lowercase();
            constant_time::verify_slices_are_equal(expected.as_bytes(), given.as_bytes()).is_ok()
        });
        if holds { Ok(()) } else { Err(SrsError::Hash) }
    }

    fn check_time(&self, time: &str, now: SystemTime) -> Result<(), SrsError> {
        let digit = |c: char| ALPHABET.find(c.to_ascii_uppercase()).map(|digit| digit as u64);
        let then = time.chars().try_fold(0, |value, c| Some((value * 32 + digit(c)?) % DAYS));
        let then = then.ok_or(SrsError::Malformed)?;
        let age = (days(now) % DAYS + DAYS - then) % DAYS;
        if age <= self.max_age_days { Ok(()) } else { Err(SrsError::Expired) }
    }
}

/// Whether a local part looks rewritten, by whomever.
pub fn is_rewritten(local_part: &str) -> bool {
    let bytes = local_part.as_bytes();
    let tag = bytes.get(..4).unwrap_or_default();
    (tag.eq_ignore_ascii_case(b"SRS0") || tag.eq_ignore_ascii_case(b"SRS1"))
        && matches!(bytes.get(4), Some(b'=' | b'+' | b'-'))
}

enum Rewritten<'a> {
    /// `SRS0=hash=time=host=user`, without its tag and separator.
    First { rest: &'a str },
    /// `SRS1=hash=host=` and what stood behind the tag of the SRS0 address, its separator included.
    Second { hash: &'a str, host: &'a str, rest: &'a str },
}

impl<'a> Rewritten<'a> {
    fn parse(user: &'a str) -> Option<Self> {
        if !is_rewritten(user) {
            return None;
        }
        let rest = &user[5..];
        if user.as_bytes()[3] == b'0' {
            return Some(Self::First { rest });
        }
        let (hash, rest) = rest.split_once('=')?;
        let (host, rest) = rest.split_once('=')?;
        let complete = !hash.is_empty() && !host.is_empty() && rest.starts_with(['=', '+', '-']);
        complete.then_some(Self::Second { hash, host, rest })
    }
}

fn separator_of(user: &str) -> char {
    user.as_bytes().get(4).map_or('=', |octet| char::from(*octet))
}

/// Days since 1970 modulo 1024, as two digits.
fn timestamp(now: SystemTime) -> String {
    let days = days(now) % DAYS;
    let digit =
        |value: u64| ALPHABET.chars().nth(usize::try_from(value).unwrap_or(0)).unwrap_or('A');
    [digit(days / 32), digit(days % 32)].iter().collect()
}

fn days(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / (24 * 3600)
}

const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What two digits can tell apart.
const DAYS: u64 = 1024;

/// 24 bits: an address can be guessed by whoever may try millions of them at RCPT, within its three weeks.
const HASH_LENGTH: usize = 4;

/// Bounces come within the five days that queues keep mail; the rest is patience.
const MAX_AGE_DAYS: u64 = 21;

/// RFC 5321 §4.5.3.1.3, with its brackets and the `@`.
const LONGEST_PATH: usize = 256;

#[cfg(test)]
mod tests;
