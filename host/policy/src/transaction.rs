//! The envelope and the edits of one mail transaction, as policy sees and leaves them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use message::{Edit, Id};
use smtp::{ForwardPath, MailParameters, RcptParameters, Recipient, ReversePath, Route, TlsDemand};

use crate::authentication::Spf;
use crate::trace::TraceEntry;
use crate::verdict::RecipientVerdict;

/// One transaction. The driver owns it and lends it for the length of a stage; it holds committed edits only.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Unique for each transaction; the queue id once the message is accepted.
    pub id: Id,
    /// Where the mail comes from, as plugins see it. A session sets it by itself.
    pub origin: String,
    /// Who gets the bounce.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// The recipients accepted so far, after the edits of the plugins.
    pub recipients: Vec<PolicyRecipient>,
    /// Notes that stay with the message until its last delivery, by "plugin/key".
    pub notes: BTreeMap<String, String>,
    /// Words that stay with the message.
    pub tags: BTreeSet<String>,
    /// -9 to 9; higher goes first.
    pub priority: i8,
    /// No delivery is tried before.
    pub not_before: Option<SystemTime>,
    /// It is given up after this, whatever the schedule says.
    pub expiry: Option<SystemTime>,
    /// What SPF says about MAIL and HELO. The driver sets it, before the stage `mail` if it can.
    pub spf: Vec<Spf>,
    /// Edits of the content, in the order they were made.
    pub edits: Vec<Edit>,
    /// What was decided at the stages of this transaction.
    pub trace: Vec<TraceEntry>,
}

impl Transaction {
    /// A transaction that begins with this MAIL.
    pub fn new(id: Id, reverse_path: ReversePath, parameters: MailParameters) -> Self {
        Self {
            id,
            origin: String::new(),
            reverse_path,
            parameters,
            recipients: Vec::new(),
            notes: BTreeMap::new(),
            tags: BTreeSet::new(),
            priority: 0,
            not_before: None,
            expiry: None,
            spf: Vec::new(),
            edits: Vec::new(),
            trace: Vec::new(),
        }
    }
}

/// A recipient and what policy made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRecipient {
    /// The forward-path that the host will use.
    pub path: ForwardPath,
    /// The forward-path as the client sent it; for an added recipient the same as `path`.
    pub original: ForwardPath,
    /// The parameters of RCPT.
    pub parameters: RcptParameters,
    /// Where its copy is to go, if a plugin said so.
    pub route: Option<Route>,
    /// What its copy demands of TLS, if a plugin said so.
    pub tls: Option<TlsDemand>,
    /// What the stage `data` decided about it alone.
    pub verdict: Option<RecipientVerdict>,
}

impl From<Recipient> for PolicyRecipient {
    fn from(recipient: Recipient) -> Self {
        Self {
            original: recipient.path.clone(),
            path: recipient.path,
            parameters: recipient.parameters,
            route: None,
            tls: None,
            verdict: None,
        }
    }
}
