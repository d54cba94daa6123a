//! Reads the notifications of other servers, as they are: with comments where none belong, and groups out of order.

use std::time::SystemTime;

use smtp::EnhancedStatus;

use super::Action;
use crate::content_type::ContentType;
use crate::date;
use crate::header::Header;
use crate::octets::Octets;
use crate::structure::Walk;
use crate::watch::Limits;

/// What a notification says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedReport {
    /// The server that reports.
    pub reporting_mta: Option<String>,
    /// ENVID of the message that is reported on.
    pub envid: Option<String>,
    /// When that server took the message.
    pub arrival: Option<SystemTime>,
    /// The fate of each recipient it tells of.
    pub recipients: Vec<ParsedRecipient>,
    /// Message-ID of the returned message.
    pub message_id: Option<String>,
}

/// What a notification says of one recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedRecipient {
    /// The address that the sender wrote to.
    pub original: Option<TypedAddress>,
    /// The address that was tried.
    pub final_recipient: Option<TypedAddress>,
    /// What was done.
    pub action: Option<Action>,
    /// Why.
    pub status: Option<EnhancedStatus>,
    /// The reply that says so, with its type: "smtp; 550 no such user".
    pub diagnostic: Option<String>,
    /// The server that gave it.
    pub remote_mta: Option<String>,
    /// When it was last tried.
    pub last_attempt: Option<SystemTime>,
    /// Until when it is tried.
    pub will_retry_until: Option<SystemTime>,
}

/// `address-type ";" generic-address` (RFC 3464 §2.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedAddress {
    /// "rfc822", "utf-8" or another, in lower case; empty if it was left out.
    pub address_type: String,
    /// The address, without angle brackets.
    pub address: String,
}

/// Why a message is no notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// It has no part message/delivery-status.
    #[error("the message has no delivery-status part")]
    NoStatus,
    /// It tells of nobody.
    #[error("the report names no recipient")]
    NoRecipient,
    /// Not one of the five actions of RFC 3464 §2.3.3.
    #[error("not an action of a delivery report")]
    Action,
}

/// Reads a notification: the first part message/delivery-status or message/global-delivery-status counts.
pub fn parse(content: &[u8]) -> Result<ParsedReport, ReportError> {
    let limits = Limits::default();
    let header = Header::parse(content.to_vec());
    let mut walk = Walk::new(&header, limits.parts, limits.nesting);
    walk.update(&content[header.raw().len()..]);
    let (mut report, mut found) = (ParsedReport::default(), false);
    for leaf in walk.finish().unwrap_or_default() {
        let slice =
            |start: u64, end: u64| content.read(start, usize::try_from(end - start).unwrap_or(0));
        let header = Header::parse(slice(leaf.header, leaf.body).unwrap_or_default());
        let kind = header
            .get("Content-Type")
            .map(|field| ContentType::parse(field.raw_value()))
            .unwrap_or_default();
        let body = slice(leaf.body, leaf.end).unwrap_or_default();
        match kind.value.as_str() {
            "message/delivery-status" | "message/global-delivery-status" if !found => {
                found = true;
                report.take_groups(&body);
            }
            "text/rfc822-headers" | "message/global-headers" if found => {
                report.take_returned(&Header::parse(body))
            }
            // The returned message is a message within; its first leaf has its header.
            _ if found && leaf.depth > 1 => report.take_returned(&header),
            _ => {}
        }
    }
    match (found, report.recipients.is_empty()) {
        (false, _) => Err(ReportError::NoStatus),
        (true, true) => Err(ReportError::NoRecipient),
        (true, false) => Ok(report),
    }
}

impl ParsedReport {
    /// Groups of fields with empty lines between them (RFC 3464 §2.1).
    fn take_groups(&mut self, body: &[u8]) {
        let body = with_empty_lines(body);
        let mut rest = &body[..];
        while !rest.is_empty() && self.recipients.len() < MOST_RECIPIENTS {
            let group = Header::parse(rest.to_vec());
            if !group.is_empty() {
                self.take_group(&group);
            }
            // A line that is no field ended the group and is passed over.
            let passed = match (group.raw().len(), group.is_empty()) {
                (0, _) => memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1),
                (length, _) => length,
            };
            rest = &rest[passed..];
        }
    }

    fn take_group(&mut self, group: &Header) {
        let text = |name: &str| {
            group.get(name).map(|field| field.value()).filter(|value| !value.is_empty())
        };
        let address = |name: &str| text(name).map(|value| TypedAddress::read(&value));
        let time = |name: &str| text(name).and_then(|value| date::parse(&value));
        let name = |field: &str| text(field).map(|value| TypedAddress::read(&value).address);
        let (original, final_recipient) =
            (address("Original-Recipient"), address("Final-Recipient"));
        if original.is_none() && final_recipient.is_none() {
            self.reporting_mta = name("Reporting-MTA").or(self.reporting_mta.take());
            self.envid = text("Original-Envelope-Id").or(self.envid.take());
            self.arrival = time("Arrival-Date").or(self.arrival);
            return;
        }
        self.recipients.push(ParsedRecipient {
            original,
            final_recipient,
            action: text("Action").and_then(|value| value.parse().ok()),
            // RFC 3464 §2.3.4: a comment may follow the code.
            status: text("Status").and_then(|value| value.split_whitespace().next()?.parse().ok()),
            diagnostic: text("Diagnostic-Code"),
            remote_mta: name("Remote-MTA"),
            last_attempt: time("Last-Attempt-Date"),
            will_retry_until: time("Will-Retry-Until"),
        });
    }

    fn take_returned(&mut self, header: &Header) {
        if self.message_id.is_none() {
            self.message_id = header.get("Message-ID").map(|field| field.value());
        }
    }
}

impl TypedAddress {
    fn read(value: &str) -> Self {
        let (address_type, address) = value.split_once(';').unwrap_or(("", value));
        let address = address.trim();
        let bare =
            address.strip_prefix('<').and_then(|inner| inner.strip_suffix('>')).unwrap_or(address);
        Self { address_type: address_type.trim().to_ascii_lowercase(), address: bare.to_owned() }
    }
}

/// Some servers leave white space in the line between two groups, which would continue the field above.
fn with_empty_lines(body: &[u8]) -> Vec<u8> {
    let lines = body.split_inclusive(|octet| *octet == b'\n');
    let cleaned = lines.map(|line| if line.trim_ascii().is_empty() { &b"\n"[..] } else { line });
    cleaned.collect::<Vec<_>>().concat()
}

/// As many as one message can have had (RFC 5321 §4.5.3.1.8 and our own limit), and then some.
const MOST_RECIPIENTS: usize = 10_000;
