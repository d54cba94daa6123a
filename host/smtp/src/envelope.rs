//! The envelope: reverse-path, recipients, and what the parameters of MAIL and RCPT said about them
//! (RFC 5321 §2.3.1, RFC 1870, RFC 3030, RFC 3461, RFC 4954, RFC 6152, RFC 6531).

#[cfg(test)]
mod tests;
mod xtext;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub(crate) use xtext::{decode as decode_xtext, write as write_xtext};

use crate::address::{ForwardPath, ReversePath};
use crate::text::serde_as_text;

/// One message's envelope, as the client gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The argument of MAIL.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// The accepted recipients, in order.
    pub recipients: Vec<Recipient>,
}

/// The parameters of MAIL. `Default` is a MAIL command without any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MailParameters {
    /// `SIZE=`: octets the client means to send (RFC 1870 §6). A hint, not a measure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// `BODY=`
    #[serde(skip_serializing_if = "BodyType::is_default")]
    pub body: BodyType,
    /// `SMTPUTF8`: addresses or header fields hold UTF-8 (RFC 6531 §3.4).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub smtputf8: bool,
    /// `RET=`: how much of the message a failure notification returns (RFC 3461 §4.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ret: Option<Ret>,
    /// `ENVID=`: the sender's name for this envelope, decoded (RFC 3461 §4.4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envid: Option<String>,
    /// `AUTH=`: who submitted the message, decoded: a mailbox or `<>` (RFC 4954 §5).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
}

/// One accepted RCPT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The argument of RCPT.
    pub path: ForwardPath,
    /// The parameters of RCPT.
    pub parameters: RcptParameters,
}

/// The parameters of RCPT. `Default` is a RCPT command without any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RcptParameters {
    /// `NOTIFY=`: when to tell the sender. Absent: on failure, and perhaps on delay (RFC 3461
    /// §4.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
    /// `ORCPT=`: the recipient as first named (RFC 3461 §4.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orcpt: Option<OriginalRecipient>,
}

/// `BODY=`: what octets the content may hold. As text: the parameter's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BodyType {
    /// US-ASCII in lines (RFC 5321 §2.4); what is meant when nothing is said.
    #[default]
    SevenBit,
    /// Any octets in lines (RFC 6152).
    EightBitMime,
    /// Any octets at all, without lines (RFC 3030 §3). Only by BDAT.
    BinaryMime,
}

impl BodyType {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::SevenBit
    }
}

impl fmt::Display for BodyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SevenBit => "7BIT",
            Self::EightBitMime => "8BITMIME",
            Self::BinaryMime => "BINARYMIME",
        })
    }
}

impl FromStr for BodyType {
    type Err = ParameterError;

    /// ```text
    /// body-value = "7BIT" / "8BITMIME" / "BINARYMIME"
    /// ```
    fn from_str(text: &str) -> Result<Self, ParameterError> {
        [Self::SevenBit, Self::EightBitMime, Self::BinaryMime]
            .into_iter()
            .find(|body| {
                text.eq_ignore_ascii_case(match body {
                    Self::SevenBit => "7BIT",
                    Self::EightBitMime => "8BITMIME",
                    Self::BinaryMime => "BINARYMIME",
                })
            })
            .ok_or(ParameterError::Body)
    }
}

/// `RET=` (RFC 3461 §4.3). As text: the parameter's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ret {
    /// The whole message.
    Full,
    /// The header section only.
    Headers,
}

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        })
    }
}

impl FromStr for Ret {
    type Err = ParameterError;

    /// ```text
    /// ret-value = "FULL" / "HDRS"
    /// ```
    fn from_str(text: &str) -> Result<Self, ParameterError> {
        match text {
            _ if text.eq_ignore_ascii_case("FULL") => Ok(Self::Full),
            _ if text.eq_ignore_ascii_case("HDRS") => Ok(Self::Headers),
            _ => Err(ParameterError::Ret),
        }
    }
}

/// `NOTIFY=` (RFC 3461 §4.1): on which fates the sender is told; on none of them is `NEVER`. As
/// text: the parameter's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Notify {
    /// Tell when the message was delivered.
    pub success: bool,
    /// Tell when it cannot be delivered.
    pub failure: bool,
    /// Tell when it takes long.
    pub delay: bool,
}

impl Notify {
    /// `NOTIFY=NEVER`
    pub fn never() -> Self {
        Self { success: false, failure: false, delay: false }
    }

    /// Whether it is `NEVER`.
    pub fn is_never(self) -> bool {
        self == Self::never()
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_never() {
            return f.write_str("NEVER");
        }
        let mut separator = "";
        for (wanted, keyword) in
            [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")]
        {
            if wanted {
                write!(f, "{separator}{keyword}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

impl FromStr for Notify {
    type Err = ParameterError;

    /// ```text
    /// notify-esmtp-value  = "NEVER" / 1#notify-list-element
    /// notify-list-element = "SUCCESS" / "FAILURE" / "DELAY"
    /// ```
    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let mut notify = Self::never();
        // RFC 3461 §4.1: NEVER stands alone.
        if text.eq_ignore_ascii_case("NEVER") {
            return Ok(notify);
        }
        for element in text.split(',') {
            let flag = match element {
                _ if element.eq_ignore_ascii_case("SUCCESS") => &mut notify.success,
                _ if element.eq_ignore_ascii_case("FAILURE") => &mut notify.failure,
                _ if element.eq_ignore_ascii_case("DELAY") => &mut notify.delay,
                _ => return Err(ParameterError::Notify),
            };
            *flag = true;
        }
        Ok(notify)
    }
}

/// `ORCPT=` (RFC 3461 §4.2, RFC 6533 §3): the recipient as first named, decoded. As text:
/// `type;address`, encoded for a server without SMTPUTF8.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginalRecipient {
    /// An address type registered with IANA: `rfc822`, `utf-8`, …
    pub address_type: String,
    /// The address: printable, with UTF-8 only for the type `utf-8`.
    pub address: String,
}

impl fmt::Display for OriginalRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};", self.address_type)?;
        if self.is_utf8() {
            xtext::write_utf8_address(f, &self.address)
        } else {
            xtext::write(f, &self.address)
        }
    }
}

impl OriginalRecipient {
    fn is_utf8(&self) -> bool {
        self.address_type.eq_ignore_ascii_case("utf-8")
    }
}

impl FromStr for OriginalRecipient {
    type Err = ParameterError;

    /// ```text
    /// original-recipient-address = addr-type ";" xtext
    /// addr-type                  = atom
    /// utf-8-enc-addr = utf-8-addr-xtext / utf-8-addr-unitext / utf-8-address
    /// ```
    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let (address_type, encoded) = text.split_once(';').ok_or(ParameterError::Orcpt)?;
        let is_atom =
            |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&octet);
        // RFC 3461 §4.2: at most 500 characters.
        if text.len() > 500 || address_type.is_empty() || !address_type.bytes().all(is_atom) {
            return Err(ParameterError::Orcpt);
        }
        let decoded = if address_type.eq_ignore_ascii_case("utf-8") {
            xtext::decode_utf8_address(encoded)
        } else {
            xtext::decode(encoded)
        };
        // RFC 3461 §4.2: printable, because it is copied into a header field of the notification.
        match decoded {
            Some(address) if !address.is_empty() => {
                Ok(Self { address_type: address_type.to_owned(), address })
            }
            _ => Err(ParameterError::Orcpt),
        }
    }
}

serde_as_text!(BodyType, Ret, Notify, OriginalRecipient);

/// Why the value of a parameter is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// `BODY=`
    #[error("BODY is 7BIT, 8BITMIME or BINARYMIME")]
    Body,
    /// `RET=`
    #[error("RET is FULL or HDRS")]
    Ret,
    /// `NOTIFY=`
    #[error("NOTIFY is NEVER, or a list of SUCCESS, FAILURE and DELAY")]
    Notify,
    /// `ORCPT=`
    #[error("ORCPT is an address type, a semicolon, and an address in xtext")]
    Orcpt,
}
