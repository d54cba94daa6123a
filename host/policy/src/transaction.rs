//! The envelope and the edits of one mail transaction, as policy sees and leaves them.

use std::collections::BTreeMap;

use message::{Edit, Id};
use smtp::{ForwardPath, MailParameters, RcptParameters, Recipient, ReversePath, Route};

use crate::trace::TraceEntry;

/// One transaction. The driver owns it and lends it for the length of a stage; it holds committed edits only.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Unique for each transaction; the queue id once the message is accepted.
    pub id: Id,
    /// Who gets the bounce.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// The recipients accepted so far, after the edits of the plugins.
    pub recipients: Vec<PolicyRecipient>,
    /// Notes that stay with the message until its last delivery, by "plugin/key".
    pub notes: BTreeMap<String, String>,
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
            reverse_path,
            parameters,
            recipients: Vec::new(),
            notes: BTreeMap::new(),
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
}

impl From<Recipient> for PolicyRecipient {
    fn from(recipient: Recipient) -> Self {
        Self {
            original: recipient.path.clone(),
            path: recipient.path,
            parameters: recipient.parameters,
            route: None,
        }
    }
}
