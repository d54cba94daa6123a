//! Parameters of MAIL and RCPT (RFC 5321 §4.1.1.11), read and written.

use std::fmt::{self, Display};

use super::CommandError;
use crate::envelope::{
    BodyType, MailParameters, RcptParameters, Recipient, decode_xtext, write_xtext,
};
use crate::extension::Extensions;

/// What a client may use at this moment.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// What EHLO offered; nothing after HELO.
    pub extensions: Extensions,
    /// Whether the transaction under way was begun with SMTPUTF8.
    pub smtputf8_transaction: bool,
}

/// ```text
/// Mail-parameters = esmtp-param *(SP esmtp-param)
/// esmtp-param     = esmtp-keyword ["=" esmtp-value]
/// ```
pub(super) fn mail_parameters(text: &[u8], offer: &Offer) -> Result<MailParameters, CommandError> {
    let mut parameters = MailParameters::default();
    let (mut body, mut smtputf8) = (None, None);
    let offered = &offer.extensions;
    for parameter in split(text)? {
        let (keyword, value) = parameter?;
        let is = |name: &str| keyword.eq_ignore_ascii_case(name);
        if is("SIZE") && offered.size.is_some() {
            once(&mut parameters.size, size(value, offered.size.flatten())?)?;
        } else if is("BODY") && offered.eight_bit_mime {
            once(&mut body, body_type(value, offered)?)?;
        } else if is("SMTPUTF8") && offered.smtputf8 {
            once(&mut smtputf8, valueless(value)?)?;
        } else if is("RET") && offered.dsn {
            once(&mut parameters.ret, parse(value)?)?;
        } else if is("ENVID") && offered.dsn {
            once(&mut parameters.envid, xtext(value, LONGEST_ENVID)?)?;
        } else if is("AUTH") && !offered.auth.is_empty() {
            once(&mut parameters.auth, submitter(value)?)?;
        } else {
            return Err(CommandError::Parameter);
        }
    }
    parameters.body = body.unwrap_or_default();
    parameters.smtputf8 = smtputf8.is_some();
    Ok(parameters)
}

/// ```text
/// Rcpt-parameters = esmtp-param *(SP esmtp-param)
/// ```
pub(super) fn rcpt_parameters(text: &[u8], offer: &Offer) -> Result<RcptParameters, CommandError> {
    let mut parameters = RcptParameters::default();
    for parameter in split(text)? {
        let (keyword, value) = parameter?;
        if keyword.eq_ignore_ascii_case("NOTIFY") && offer.extensions.dsn {
            once(&mut parameters.notify, parse(value)?)?;
        } else if keyword.eq_ignore_ascii_case("ORCPT") && offer.extensions.dsn {
            once(&mut parameters.orcpt, parse(value)?)?;
        } else {
            return Err(CommandError::Parameter);
        }
    }
    Ok(parameters)
}

impl MailParameters {
    /// The parameters as they stand behind the path, each with a space before it. All that are set
    /// are written: clear what the server does not offer.
    pub fn on_the_wire(&self) -> impl Display {
        fmt::from_fn(|f| {
            self.size.iter().try_for_each(|size| write!(f, " SIZE={size}"))?;
            if self.body != BodyType::SevenBit {
                write!(f, " BODY={}", self.body)?;
            }
            if self.smtputf8 {
                f.write_str(" SMTPUTF8")?;
            }
            self.ret.iter().try_for_each(|ret| write!(f, " RET={ret}"))?;
            for (keyword, value) in [("ENVID", &self.envid), ("AUTH", &self.auth)] {
                if let Some(value) = value {
                    write!(f, " {keyword}=")?;
                    write_xtext(f, value)?;
                }
            }
            Ok(())
        })
    }
}

impl RcptParameters {
    /// The parameters as they stand behind the path, each with a space before it. All that are set
    /// are written: clear what the server does not offer.
    pub fn on_the_wire(&self) -> impl Display {
        fmt::from_fn(|f| {
            self.notify.iter().try_for_each(|notify| write!(f, " NOTIFY={notify}"))?;
            self.orcpt.iter().try_for_each(|orcpt| write!(f, " ORCPT={orcpt}"))
        })
    }
}

impl Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

// RFC 3461 §4, RFC 1870 §6: a parameter is given once.
fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), CommandError> {
    if slot.replace(value).is_some() { Err(CommandError::ParameterValue) } else { Ok(()) }
}

// RFC 6531 §3.4: SMTPUTF8 has no value.
fn valueless(value: Option<&str>) -> Result<(), CommandError> {
    if value.is_some() { Err(CommandError::ParameterValue) } else { Ok(()) }
}

type Parameter<'a> = (&'a str, Option<&'a str>);

/// ```text
/// esmtp-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
/// esmtp-value   = 1*(%d33-60 / %d62-126 / UTF8-non-ascii)
/// ```
fn split(
    text: &[u8],
) -> Result<impl Iterator<Item = Result<Parameter<'_>, CommandError>>, CommandError> {
    let text = str::from_utf8(text).map_err(|_| CommandError::ParameterValue)?;
    Ok(text.split(' ').filter(|word| !word.is_empty()).map(|word| {
        let (keyword, value) =
            word.split_once('=').map_or((word, None), |(keyword, value)| (keyword, Some(value)));
        let is_keyword = keyword.starts_with(|first: char| first.is_ascii_alphanumeric())
            && keyword.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
        let is_value =
            value.is_none_or(|value| !value.is_empty() && !value.chars().any(char::is_control));
        if is_keyword && is_value {
            Ok((keyword, value))
        } else {
            Err(CommandError::ParameterValue)
        }
    }))
}

/// ```text
/// size-value = 1*20DIGIT
/// ```
fn size(value: Option<&str>, limit: Option<u64>) -> Result<u64, CommandError> {
    let digits = value.ok_or(CommandError::ParameterValue)?;
    if digits.is_empty() || digits.len() > 20 || !digits.bytes().all(|octet| octet.is_ascii_digit())
    {
        return Err(CommandError::ParameterValue);
    }
    // Twenty digits can be more than fits; nobody has room for that either.
    let size = digits.parse().map_err(|_| CommandError::Size)?;
    if limit.is_some_and(|limit| size > limit) { Err(CommandError::Size) } else { Ok(size) }
}

fn body_type(value: Option<&str>, offered: &Extensions) -> Result<BodyType, CommandError> {
    let body = parse(value)?;
    // RFC 3030 §3: BINARYMIME only where it was offered.
    if body == BodyType::BinaryMime && !offered.binary_mime {
        Err(CommandError::ParameterValue)
    } else {
        Ok(body)
    }
}

/// ```text
/// auth-param = "AUTH=" xtext       ; a mailbox or "<>"
/// ```
fn submitter(value: Option<&str>) -> Result<String, CommandError> {
    // RFC 4954 §5: the decoded value is a mailbox or "<>"; RFC 4954 §4: 500 octets at most.
    let decoded = xtext(value, LONGEST_SUBMITTER)?;
    if decoded == "<>" || decoded.parse::<crate::address::Mailbox>().is_ok() {
        Ok(decoded)
    } else {
        Err(CommandError::ParameterValue)
    }
}

fn xtext(value: Option<&str>, longest: usize) -> Result<String, CommandError> {
    value
        .filter(|value| value.len() <= longest)
        .and_then(decode_xtext)
        .filter(|decoded| !decoded.is_empty())
        .ok_or(CommandError::ParameterValue)
}

fn parse<T: std::str::FromStr>(value: Option<&str>) -> Result<T, CommandError> {
    value.and_then(|value| value.parse().ok()).ok_or(CommandError::ParameterValue)
}

// RFC 3461 §4.4
const LONGEST_ENVID: usize = 100;
// RFC 4954 §5
const LONGEST_SUBMITTER: usize = 500;
