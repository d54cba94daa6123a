//! Delivery status notifications: RFC 3464 in the frame of RFC 6522, for UTF-8 addresses as RFC 6533 has them.
//!
//! [`Report`] writes one; who is to be told, and when, is decided by the queue. [`parse`] reads those of others.

mod reader;
mod writer;

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use bytes::Bytes;
use smtp::{EnhancedStatus, ForwardPath, Mailbox, OriginalRecipient, Reply};

use crate::id::Id;

pub use reader::{ParsedRecipient, ParsedReport, ReportError, TypedAddress, parse};

/// A notification about one message, to its sender.
#[derive(Clone, Debug)]
pub struct Report {
    /// Names the notification itself; it goes into its Message-ID.
    pub id: Id,
    /// Our host name.
    pub reporting_mta: String,
    /// The reverse-path of the message: who is told.
    pub to: Mailbox,
    /// ENVID of the message (RFC 3461 §4.4), decoded.
    pub envid: Option<String>,
    /// When we took the message.
    pub arrival: SystemTime,
    /// What happened to whom. Recipients of other fates are left out.
    pub recipients: Vec<ReportedRecipient>,
    /// What of the message goes back.
    pub returned: Returned,
    /// The message came with SMTPUTF8, so its sender can take a notification in UTF-8 (RFC 6533 §4). Without it
    /// the report is readable by everyone, its returned content aside.
    pub smtputf8: bool,
    /// When the notification is made.
    pub date: SystemTime,
    /// What a person should know first, in a few sentences. The recipients and the reasons follow by themselves.
    pub explanation: String,
}

/// The fate of one recipient (RFC 3464 §2.3).
#[derive(Clone, Debug)]
pub struct ReportedRecipient {
    /// Where we tried to deliver.
    pub final_recipient: ForwardPath,
    /// ORCPT, decoded, if the sender gave one.
    pub original: Option<OriginalRecipient>,
    /// What we did.
    pub action: Action,
    /// Why.
    pub status: EnhancedStatus,
    /// The reply that says so, if a server gave one.
    pub diagnostic: Option<Reply>,
    /// The server that gave it.
    pub remote_mta: Option<String>,
    /// When we last tried.
    pub last_attempt: Option<SystemTime>,
    /// Until when we go on, if the message is delayed.
    pub will_retry_until: Option<SystemTime>,
}

/// What was done for a recipient (RFC 3464 §2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It could not be delivered, and is not tried any more.
    Failed,
    /// It is not delivered yet, and is tried again.
    Delayed,
    /// It is in the mailbox.
    Delivered,
    /// It was handed to a server that does not promise a notification.
    Relayed,
    /// It was delivered to several other addresses.
    Expanded,
}

/// What of the message is in its notification (RET, RFC 3461 §4.3).
#[derive(Clone, Debug)]
pub enum Returned {
    /// All of it. What cannot travel as 8-bit lines, binary content that is, goes back with its header only.
    Full(Bytes),
    /// Its header.
    Headers(Bytes),
}

impl Action {
    /// The value of the field Action.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = ReportError;

    /// Comments behind the word are passed over: some servers write them.
    fn from_str(text: &str) -> Result<Self, ReportError> {
        let word = text
            .trim()
            .split(|character: char| !character.is_ascii_alphabetic())
            .next()
            .unwrap_or_default();
        // What some servers have written for "failed", OpenSMTPD the first.
        if ["error", "failure"].iter().any(|other| other.eq_ignore_ascii_case(word)) {
            return Ok(Self::Failed);
        }
        [Self::Failed, Self::Delayed, Self::Delivered, Self::Relayed, Self::Expanded]
            .into_iter()
            .find(|action| action.as_str().eq_ignore_ascii_case(word))
            .ok_or(ReportError::Action)
    }
}

#[cfg(test)]
mod tests;
