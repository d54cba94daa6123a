//! The lines of MAIL and RCPT, with the parameters that the host offered to take.

use std::fmt::Write as _;

use super::Transaction;
use crate::{
    address::{ForwardPath, Host, Mailbox, ReversePath},
    envelope::{BodyType, Recipient},
    extension::Extensions,
};

/// How this transaction is offered to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// The body type that is declared.
    pub body: BodyType,
    /// SMTPUTF8 is declared, and addresses go out as they are.
    pub smtputf8: bool,
    /// AUTH may be passed on (RFC 4954 §5).
    pub authenticated: bool,
}

/// RFC 5321 §4.1.1.2:
///
/// ```abnf
/// mail = "MAIL FROM:" Reverse-path [SP Mail-parameters] CRLF
/// ```
pub(super) fn mail(transaction: &Transaction, offered: &Extensions, offer: Offer) -> String {
    let mut line = match &transaction.reverse_path {
        ReversePath::Null => "MAIL FROM:<>".to_owned(),
        ReversePath::Mailbox(mailbox) => format!("MAIL FROM:<{}>", path(mailbox, offer.smtputf8)),
    };
    // RFC 1870 §5: the size helps the host to refuse before the content is sent.
    if offered.size.is_some() {
        let _ = write!(line, " SIZE={}", transaction.content.octets);
    }
    if offer.body != BodyType::SevenBit {
        let _ = write!(line, " BODY={}", offer.body);
    }
    if offer.smtputf8 {
        line.push_str(" SMTPUTF8");
    }
    let parameters = &transaction.parameters;
    if offered.dsn {
        // RFC 3461 §5.2.1: RET and ENVID are passed on as they came.
        if let Some(ret) = parameters.ret {
            let _ = write!(line, " RET={ret}");
        }
        if let Some(envid) = &parameters.envid {
            let _ = write!(line, " ENVID={}", xtext(envid));
        }
    }
    if offer.authenticated && !offered.auth.is_empty() {
        match parameters.auth.as_deref() {
            Some("" | "<>") => line.push_str(" AUTH=<>"),
            Some(identity) => {
                let _ = write!(line, " AUTH={}", xtext(identity));
            }
            None => {}
        }
    }
    line
}

/// RFC 5321 §4.1.1.3:
///
/// ```abnf
/// rcpt = "RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" / Forward-path )
///        [SP Rcpt-parameters] CRLF
/// ```
pub(super) fn rcpt(recipient: &Recipient, offered: &Extensions, smtputf8: bool) -> String {
    let mut line = match &recipient.path {
        ForwardPath::Postmaster => "RCPT TO:<postmaster>".to_owned(),
        ForwardPath::Mailbox(mailbox) => format!("RCPT TO:<{}>", path(mailbox, smtputf8)),
    };
    if offered.dsn {
        if let Some(notify) = &recipient.parameters.notify {
            let _ = write!(line, " NOTIFY={notify}");
        }
        if let Some(original) = &recipient.parameters.orcpt {
            let _ = write!(line, " ORCPT={original}");
        }
    }
    line
}

/// True if the path cannot be said without SMTPUTF8: a domain has an ASCII form, a local part has
/// none (RFC 6531 §3.2).
pub(super) fn needs_smtputf8(mailbox: &Mailbox) -> bool {
    !mailbox.local_part().is_ascii()
}

/// A path for this host: without SMTPUTF8 the domain is written in A-labels.
fn path(mailbox: &Mailbox, smtputf8: bool) -> String {
    match mailbox.host() {
        Host::Domain(domain) if !smtputf8 && !domain.is_ascii() => {
            format!("{}@{}", mailbox.local_part(), domain.to_ascii())
        }
        Host::Domain(_) | Host::Literal(_) => mailbox.to_string(),
    }
}

/// RFC 3461 §4:
///
/// ```abnf
/// xtext = *( xchar / hexchar )
/// ```
fn xtext(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for octet in text.bytes() {
        if matches!(octet, b'!'..=b'~') && octet != b'+' && octet != b'=' {
            encoded.push(char::from(octet));
        } else {
            let _ = write!(encoded, "+{octet:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xtext_leaves_no_space_plus_equals_or_control() {
        fn check(text: &str, expected: &str) {
            assert_eq!(xtext(text), expected);
        }
        check("QQ314159", "QQ314159");
        check("a+b=c d", "a+2Bb+3Dc+20d");
        check("a\r\nQUIT", "a+0D+0AQUIT");
        check("é", "+C3+A9");
    }
}
