//! What a server writes on top of a message (RFC 5321 §4.4), and what tells that a message runs in circles.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::time::SystemTime;

use smtp::{AddressLiteral, Host, Mailbox, ReversePath};

use crate::date;
use crate::edit::{Edit, NewField};
use crate::id::Id;

/// One Received field: who handed the message over, how, and when.
#[derive(Clone, Debug)]
pub struct Received<'a> {
    /// The argument of HELO, EHLO or LHLO, as the client gave it; empty if it gave none.
    pub from_helo: &'a str,
    /// The client's address; `None` where there is none, as on a Unix socket.
    pub client: Option<IpAddr>,
    /// The name of the client's address, if it leads back to it.
    pub client_name: Option<&'a str>,
    /// Our host name.
    pub by: &'a str,
    /// How it came in.
    pub protocol: Protocol,
    /// The name under which we know it.
    pub id: Id,
    /// The recipient, if there is only one: with several, each would learn of the others (RFC 5321 §7.2).
    pub for_: Option<&'a Mailbox>,
    /// When it came in.
    pub time: SystemTime,
    /// Version and cipher suite of TLS, if it came in TLS: "TLSv1.3", "TLS_AES_256_GCM_SHA384".
    pub tls: Option<(&'a str, &'a str)>,
}

/// What the `with` clause says (RFC 3848, RFC 6531 §4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protocol {
    /// LMTP (RFC 2033), not SMTP.
    pub lmtp: bool,
    /// EHLO was used. LMTP knows nothing else.
    pub extended: bool,
    /// The transaction needed SMTPUTF8.
    pub utf8: bool,
    /// It came in TLS.
    pub tls: bool,
    /// The client had authenticated itself.
    pub authenticated: bool,
}

/// Whether a field is written by servers only. Policy must not forge or remove these: they tell where a message
/// comes from, and what was found about it.
pub fn is_trace_field(name: &str) -> bool {
    const NAMES: [&str; 7] = [
        "Received",
        "Return-Path",
        "DKIM-Signature",
        "Authentication-Results",
        "ARC-Seal",
        "ARC-Message-Signature",
        "ARC-Authentication-Results",
    ];
    NAMES.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// The Return-Path field that final delivery puts on top (RFC 5321 §4.4), with its CRLF.
pub fn return_path(path: &ReversePath) -> String {
    format!("Return-Path: <{path}>\r\n")
}

impl Received<'_> {
    /// The edit that puts the field on top.
    ///
    /// ```text
    /// Time-stamp-line = "Received:" FWS Stamp CRLF
    /// Stamp           = From-domain By-domain Opt-info [CFWS] ";" FWS date-time
    /// ```
    pub fn to_field(&self) -> Edit {
        Edit::Prepend(NewField::folded("Received", &self.stamp()))
    }

    fn stamp(&self) -> String {
        let mut stamp = self.origin();
        let protocol = self.protocol;
        // Piece by piece: this is written for each message, and `write!` takes many times as long for as much.
        let [secure, known] = protocol.suffix();
        let by = printable(self.by);
        stamp.extend(["\r\n\tby ", &by, " with ", protocol.name(), secure, known, " id "]);
        stamp.push_str(str::from_utf8(&self.id.to_octets()).unwrap_or_default());
        if let Some(mailbox) = self.for_ {
            // RFC 5321 §4.4: `For = CFWS "FOR" FWS ( Path / Mailbox )`, with one recipient only.
            stamp.push_str("\r\n\tfor <");
            let _ = write!(stamp, "{mailbox}");
            stamp.push('>');
        }
        if let Some((version, cipher)) = self.tls {
            // RFC 8314 §4.3: the clause "tls" names the cipher suite.
            let _ = write!(stamp, "\r\n\ttls {} ({})", printable(cipher), printable(version));
        }
        stamp.extend([";\r\n\t", &date::rfc5322(self.time)]);
        stamp
    }

    /// ```text
    /// From-domain     = "FROM" FWS Extended-Domain
    /// Extended-Domain = Domain / ( Domain FWS "(" TCP-info ")" ) / ( address-literal FWS "(" TCP-info ")" )
    /// TCP-info        = address-literal / ( Domain FWS address-literal )
    /// ```
    fn origin(&self) -> String {
        // A name that is none is not given out for one: it moves into a comment, where it breaks nothing.
        let (domain, comment) = match self.from_helo.parse::<Host>() {
            // RFC 6531 §3.7.3: U-labels only where the message may have UTF-8 in its header.
            Ok(Host::Domain(domain)) if !self.protocol.utf8 => {
                (domain.to_ascii().into_owned(), String::new())
            }
            Ok(host) => (host.to_string(), String::new()),
            Err(_) if self.from_helo.is_empty() => ("unknown".to_owned(), String::new()),
            Err(_) => ("unknown".to_owned(), format!(" (HELO {})", self.carried(self.from_helo))),
        };
        let mut clause = String::with_capacity(USUAL_STAMP);
        clause.extend(["from ", &domain]);
        if let Some(client) = self.client {
            let literal = match client.to_canonical() {
                IpAddr::V4(address) => AddressLiteral::V4(address),
                IpAddr::V6(address) => AddressLiteral::V6(address),
            };
            clause.push_str(" (");
            if let Some(name) = self.client_name {
                clause.extend([&*printable(name), " "]);
            }
            let _ = write!(clause, "{literal})");
        }
        // A name of 255 octets must not make the line too long for a comment of the same size.
        if clause.len() + comment.len() > 70 && !comment.is_empty() {
            clause.push_str("\r\n\t");
            clause.push_str(comment.trim_start());
        } else {
            clause.push_str(&comment);
        }
        clause
    }

    /// Text of strangers, without what the header of this message cannot have.
    fn carried(&self, text: &str) -> String {
        let mut text = printable(text).into_owned();
        if !self.protocol.utf8 {
            text = text.replace(|character: char| !character.is_ascii(), "?");
        }
        text
    }
}

impl Protocol {
    fn is_plain(self) -> bool {
        !self.extended && !self.lmtp && !self.utf8
    }

    fn name(self) -> &'static str {
        match (self.utf8, self.lmtp) {
            _ if self.is_plain() => "SMTP",
            (true, true) => "UTF8LMTP",
            (true, false) => "UTF8SMTP",
            (false, true) => "LMTP",
            (false, false) => "ESMTP",
        }
    }

    fn suffix(self) -> [&'static str; 2] {
        // RFC 3848 has no variants of plain SMTP: who says HELO can neither start TLS nor authenticate.
        if self.is_plain() {
            return [""; 2];
        }
        [if self.tls { "S" } else { "" }, if self.authenticated { "A" } else { "" }]
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [secure, known] = self.suffix();
        f.write_str(self.name())?;
        f.write_str(secure)?;
        f.write_str(known)
    }
}

/// Text of strangers in a form that can stand in any header field or comment: no control characters, no white
/// space, nothing that begins or ends a comment, a string or a clause, and not endless.
fn printable(text: &str) -> Cow<'_, str> {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b".-_:[]/@".contains(&octet);
    if text.len() <= 255 && text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let harmless = |character: char| {
        let special =
            matches!(character, '(' | ')' | '<' | '>' | '"' | '\\' | ';' | '\u{2028}' | '\u{2029}');
        if character.is_control() || character.is_whitespace() || special { '?' } else { character }
    };
    text.chars().take(255).map(harmless).collect()
}

/// Most fields of ours are not longer.
const USUAL_STAMP: usize = 256;

#[cfg(test)]
mod tests;
