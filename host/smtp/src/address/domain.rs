//! Domain names of mail: letters, digits, hyphens, and labels of IDNA (RFC 5321 §2.3.5, RFC 5890).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

use super::AddressError;
use crate::text::serde_as_text;

/// A fully qualified DNS name without the final dot, in lower case; U-labels stay U-labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(String);

impl Domain {
    /// The name as it stands in an address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has no U-label.
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }

    /// The name as it is asked for in DNS: in A-labels (RFC 5891 §4.4).
    pub fn to_ascii(&self) -> Cow<'_, str> {
        if self.is_ascii() {
            return Cow::Borrowed(&self.0);
        }
        to_ascii(&self.0).expect("a domain was checked when it was made")
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = AddressError;

    /// ```text
    /// Domain     = sub-domain *("." sub-domain)
    /// sub-domain = Let-dig [Ldh-str] / U-label
    /// ```
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if !text.is_ascii() {
            return from_unicode(text);
        }
        // RFC 1035 §2.3.4: 255 octets in a query are 253 characters of text.
        if text.len() > MAXIMUM_NAME || !has_labels(text) {
            return Err(AddressError::Domain);
        }
        let name = text.to_ascii_lowercase();
        // RFC 5890 §2.3.2.1: what begins with `xn--` and is no A-label is refused, as nobody can
        // have registered it.
        if has_a_label(&name) && to_ascii(&name).is_none() {
            return Err(AddressError::Idna);
        }
        Ok(Self(name))
    }
}

serde_as_text!(Domain);

/// Lower case and composed characters (RFC 5895 §2), then checked as IDNA checks it.
fn from_unicode(text: &str) -> Result<Domain, AddressError> {
    to_ascii(text).ok_or(AddressError::Idna)?;
    let (name, checked) =
        Uts46::new().to_unicode(text.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast);
    checked.map_err(|_| AddressError::Idna)?;
    // The mapped text is what is kept, so it must pass the same check again.
    to_ascii(&name).ok_or(AddressError::Idna)?;
    Ok(Domain(name.into_owned()))
}

fn to_ascii(name: &str) -> Option<Cow<'_, str>> {
    Uts46::new()
        .to_ascii(name.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
        .ok()
}

fn has_a_label(name: &str) -> bool {
    name.split('.').any(|label| label.starts_with("xn--"))
}

/// ```text
/// Let-dig = ALPHA / DIGIT
/// Ldh-str = *( ALPHA / DIGIT / "-" ) Let-dig
/// ```
fn has_labels(name: &str) -> bool {
    let (mut length, mut last) = (0, b'.');
    for octet in name.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => length += 1,
            b'-' if last != b'.' => length += 1,
            b'.' if !matches!(last, b'.' | b'-') => length = 0,
            _ => return false,
        }
        // RFC 1035 §2.3.4: 63 octets at most.
        if length > 63 {
            return false;
        }
        last = octet;
    }
    !matches!(last, b'.' | b'-')
}

const MAXIMUM_NAME: usize = 253;
