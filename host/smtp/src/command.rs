//! Commands and their parser (RFC 5321 §4.1.1). What a command may say depends on what was offered
//! to the client.

mod parameters;
mod path;
#[cfg(test)]
mod tests;

use std::fmt;

pub use parameters::Offer;

use crate::address::{ForwardPath, ReversePath};
use crate::envelope::{MailParameters, RcptParameters};
use parameters::{mail_parameters, rcpt_parameters};
use path::{forward_path, reverse_path};

/// One command. `Display` writes it as it goes over the wire, without CRLF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `EHLO name` (RFC 5321 §4.1.1.1)
    Ehlo(String),
    /// `HELO name` (RFC 5321 §4.1.1.1)
    Helo(String),
    /// `LHLO name` (RFC 2033 §4.1)
    Lhlo(String),
    /// `MAIL FROM:<reverse-path> parameters` (RFC 5321 §4.1.1.2)
    Mail(ReversePath, MailParameters),
    /// `RCPT TO:<forward-path> parameters` (RFC 5321 §4.1.1.3)
    Rcpt(ForwardPath, RcptParameters),
    /// `DATA` (RFC 5321 §4.1.1.4)
    Data,
    /// `BDAT octets [LAST]` (RFC 3030 §2)
    Bdat {
        /// How many octets follow the command.
        size: u64,
        /// Whether they are the last of the message.
        last: bool,
    },
    /// `RSET` (RFC 5321 §4.1.1.5)
    Rset,
    /// `VRFY text` (RFC 5321 §4.1.1.6)
    Vrfy,
    /// `EXPN text` (RFC 5321 §4.1.1.7)
    Expn,
    /// `HELP [text]` (RFC 5321 §4.1.1.8)
    Help,
    /// `NOOP [text]` (RFC 5321 §4.1.1.9)
    Noop,
    /// `QUIT` (RFC 5321 §4.1.1.10)
    Quit,
    /// `STARTTLS` (RFC 3207 §4)
    StartTls,
    /// `AUTH mechanism [initial-response]` (RFC 4954 §4)
    Auth {
        /// The name of the mechanism as it came.
        mechanism: String,
        /// The initial response as it came, in base64 or `=`.
        initial: Option<String>,
    },
}

impl Command {
    /// Reads a line without its CRLF.
    ///
    /// ```text
    /// command = verb [ SP argument ] CRLF      ; the verb in any case (RFC 5321 §2.4)
    /// ```
    pub fn parse(line: &[u8], offer: &Offer) -> Result<Self, CommandError> {
        let end = line.iter().position(|octet| *octet == b' ').unwrap_or(line.len());
        let (verb, argument) = line.split_at(end);
        // RFC 5321 §4.1.1: white space at the end of a line is passed over.
        let argument = argument.trim_ascii();
        if verb.len() > LONGEST_VERB || verb.is_empty() {
            return Err(if line.is_empty() { CommandError::Empty } else { CommandError::Unknown });
        }
        let mut upper = [0; LONGEST_VERB];
        let upper = &mut upper[..verb.len()];
        upper.copy_from_slice(verb);
        upper.make_ascii_uppercase();
        match &*upper {
            b"EHLO" => name(argument).map(Self::Ehlo),
            b"HELO" => name(argument).map(Self::Helo),
            b"LHLO" => name(argument).map(Self::Lhlo),
            b"MAIL" => mail(argument, offer),
            b"RCPT" => rcpt(argument, offer),
            b"DATA" => alone(argument, Self::Data),
            b"BDAT" => bdat(argument),
            b"RSET" => alone(argument, Self::Rset),
            b"VRFY" => with_text(argument, Self::Vrfy),
            b"EXPN" => with_text(argument, Self::Expn),
            b"HELP" => Ok(Self::Help),
            b"NOOP" => Ok(Self::Noop),
            b"QUIT" => alone(argument, Self::Quit),
            b"STARTTLS" => alone(argument, Self::StartTls),
            b"AUTH" => auth(argument),
            _ => Err(CommandError::Unknown),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ehlo(name) => write!(f, "EHLO {name}"),
            Self::Helo(name) => write!(f, "HELO {name}"),
            Self::Lhlo(name) => write!(f, "LHLO {name}"),
            Self::Mail(path, parameters) => {
                write!(f, "MAIL FROM:<{path}>{}", parameters.on_the_wire())
            }
            Self::Rcpt(path, parameters) => {
                write!(f, "RCPT TO:<{path}>{}", parameters.on_the_wire())
            }
            Self::Data => f.write_str("DATA"),
            Self::Bdat { size, last } => {
                write!(f, "BDAT {size}{}", if *last { " LAST" } else { "" })
            }
            Self::Rset => f.write_str("RSET"),
            Self::Vrfy => f.write_str("VRFY"),
            Self::Expn => f.write_str("EXPN"),
            Self::Help => f.write_str("HELP"),
            Self::Noop => f.write_str("NOOP"),
            Self::Quit => f.write_str("QUIT"),
            Self::StartTls => f.write_str("STARTTLS"),
            Self::Auth { mechanism, initial: None } => write!(f, "AUTH {mechanism}"),
            Self::Auth { mechanism, initial: Some(initial) } => {
                write!(f, "AUTH {mechanism} {initial}")
            }
        }
    }
}

/// Why a line is no command that can be carried out. `Display` is the reply to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Nothing at all.
    #[error("500 5.5.2 Empty command")]
    Empty,
    /// A verb that we do not have, or have not offered.
    #[error("500 5.5.1 Command unrecognised")]
    Unknown,
    /// The argument is not what the command takes.
    #[error("501 5.5.4 Syntax error in the argument")]
    Argument,
    /// The size of a chunk is no number that anybody could send: what follows cannot be told from
    /// commands.
    #[error("501 5.5.4 Syntax error in the size of the chunk")]
    ChunkSize,
    /// The argument of MAIL is no reverse-path.
    #[error("501 5.1.7 Syntax error in the reverse-path")]
    ReversePath,
    /// The argument of RCPT is no forward-path.
    #[error("501 5.1.3 Syntax error in the forward-path")]
    ForwardPath,
    /// A parameter that we do not have, or have not offered (RFC 5321 §4.1.1.11).
    #[error("555 5.5.4 Parameter not recognised or not implemented")]
    Parameter,
    /// The value of a parameter is none, or a parameter is there twice.
    #[error("501 5.5.4 Syntax error in a parameter")]
    ParameterValue,
    /// The client announces more than we take (RFC 1870 §6.1).
    #[error("552 5.3.4 Message is bigger than the limit")]
    Size,
    /// A UTF-8 address without SMTPUTF8 (RFC 6531 §3.5).
    #[error("553 5.6.7 Address needs SMTPUTF8")]
    NeedsSmtputf8,
}

/// ```text
/// ehlo = "EHLO" SP ( Domain / address-literal ) CRLF
/// ```
fn name(argument: &[u8]) -> Result<String, CommandError> {
    // Deviation from RFC 5321 §4.1.1.1: any one word is taken, because many hosts do not know their
    // name, and §4.1.4 says not to refuse them for it. Policy may.
    let text = str::from_utf8(argument).map_err(|_| CommandError::Argument)?;
    let is_word = !text.is_empty()
        && !text.chars().any(|character| character.is_whitespace() || character.is_control());
    // RFC 5321 §4.5.3.1.2: as long as a domain.
    if is_word && text.len() <= 255 { Ok(text.to_owned()) } else { Err(CommandError::Argument) }
}

/// ```text
/// mail = "MAIL FROM:" Reverse-path [SP Mail-parameters] CRLF
/// ```
fn mail(argument: &[u8], offer: &Offer) -> Result<Command, CommandError> {
    let (path, rest) = reverse_path(after_keyword(argument, b"FROM:")?)?;
    let parameters = mail_parameters(rest, offer)?;
    // RFC 6531 §3.4: without SMTPUTF8 the address is ASCII.
    if !parameters.smtputf8 && path.mailbox().is_some_and(|mailbox| mailbox.needs_smtputf8()) {
        return Err(CommandError::NeedsSmtputf8);
    }
    Ok(Command::Mail(path, parameters))
}

/// ```text
/// rcpt = "RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" / Forward-path ) [SP Rcpt-parameters] CRLF
/// ```
fn rcpt(argument: &[u8], offer: &Offer) -> Result<Command, CommandError> {
    let (path, rest) = forward_path(after_keyword(argument, b"TO:")?)?;
    let parameters = rcpt_parameters(rest, offer)?;
    // RFC 6531 §3.4: it was the MAIL command that could have said SMTPUTF8.
    if !offer.smtputf8_transaction && path.mailbox().is_some_and(|mailbox| mailbox.needs_smtputf8())
    {
        return Err(CommandError::NeedsSmtputf8);
    }
    Ok(Command::Rcpt(path, parameters))
}

/// ```text
/// bdat-cmd   = "BDAT" SP chunk-size [ SP end-marker ] CR LF
/// chunk-size = 1*DIGIT
/// end-marker = "LAST"
/// ```
fn bdat(argument: &[u8]) -> Result<Command, CommandError> {
    let mut words = argument.split(|octet| *octet == b' ').filter(|word| !word.is_empty());
    let digits = words.next().filter(|word| word.iter().all(u8::is_ascii_digit));
    let size = digits
        .and_then(|digits| str::from_utf8(digits).ok()?.parse().ok())
        .ok_or(CommandError::ChunkSize)?;
    match (words.next(), words.next()) {
        (None, _) => Ok(Command::Bdat { size, last: false }),
        (Some(marker), None) if marker.eq_ignore_ascii_case(b"LAST") => {
            Ok(Command::Bdat { size, last: true })
        }
        _ => Err(CommandError::ChunkSize),
    }
}

/// ```text
/// auth-command = "AUTH" SP sasl-mech [SP initial-response] CRLF
/// initial-response = base64 / "="
/// ```
fn auth(argument: &[u8]) -> Result<Command, CommandError> {
    let text = str::from_utf8(argument).map_err(|_| CommandError::Argument)?;
    let mut words = text.split(' ');
    let mechanism =
        words.next().filter(|word| !word.is_empty()).ok_or(CommandError::Argument)?.to_owned();
    let initial = words.next().map(str::to_owned);
    if words.next().is_some() {
        Err(CommandError::Argument)
    } else {
        Ok(Command::Auth { mechanism, initial })
    }
}

fn alone(argument: &[u8], command: Command) -> Result<Command, CommandError> {
    if argument.is_empty() { Ok(command) } else { Err(CommandError::Argument) }
}

fn with_text(argument: &[u8], command: Command) -> Result<Command, CommandError> {
    if argument.is_empty() { Err(CommandError::Argument) } else { Ok(command) }
}

/// What stands behind `FROM:` or `TO:`.
fn after_keyword<'a>(argument: &'a [u8], keyword: &[u8]) -> Result<&'a [u8], CommandError> {
    match argument.split_at_checked(keyword.len()) {
        // Deviation from RFC 5321 §3.3: a space behind the colon is taken, because many clients
        // send it.
        Some((found, rest)) if found.eq_ignore_ascii_case(keyword) => Ok(rest.trim_ascii_start()),
        _ => Err(CommandError::Argument),
    }
}

const LONGEST_VERB: usize = 16;
