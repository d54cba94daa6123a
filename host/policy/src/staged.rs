//! What a call wants changed. It becomes true when the plugin answers, or never.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use message::Edit;
use smtp::{MailParameters, ReversePath};

use crate::config::PluginLimits;
use crate::session::SessionState;
use crate::submit::NewMail;
use crate::transaction::{PolicyRecipient, Transaction};

/// The edits of one call. Each part is a copy that is made at the first edit, so that a call that edits nothing costs
/// nothing, and what is read back is what was written.
#[derive(Default)]
pub(crate) struct Staged {
    /// The reverse-path to be.
    pub(crate) reverse_path: Option<ReversePath>,
    /// The parameters of MAIL to be.
    pub(crate) parameters: Option<MailParameters>,
    /// The recipients to be, and where the one that is asked about stands among them.
    pub(crate) recipients: Option<(Vec<PolicyRecipient>, usize)>,
    /// The tags to be.
    pub(crate) tags: Option<BTreeSet<String>>,
    pub(crate) priority: Option<i8>,
    pub(crate) not_before: Option<SystemTime>,
    pub(crate) expiry: Option<SystemTime>,
    /// How long the reply is to wait.
    pub(crate) delay: Duration,
    /// Mail to be sent.
    pub(crate) submissions: Vec<NewMail>,
    /// Edits of the header, behind those of earlier plugins.
    pub(crate) header: Vec<Edit>,
    /// The body to be.
    pub(crate) body: Option<Vec<u8>>,
    /// Notes of the session by their whole key; none removes.
    pub(crate) session_notes: BTreeMap<String, Option<String>>,
    /// Notes of the transaction by their whole key; none removes.
    pub(crate) notes: BTreeMap<String, Option<String>>,
    /// The header as the edits so far leave it: made when it is asked for, dropped by the next edit.
    pub(crate) view: Option<message::Header>,
    /// One line for each edit, for the trace.
    pub(crate) lines: Vec<String>,
    /// The first effect that the plugin wanted and was not granted. It makes the call fail, whatever is answered.
    pub(crate) denied: OnceLock<String>,
    octets: usize,
    count: usize,
}

impl Staged {
    /// Counts an edit of so many octets; false if the plugin has no room for it.
    #[must_use]
    pub(crate) fn count(&mut self, octets: usize, limits: &PluginLimits) -> bool {
        if self.count >= limits.edits || self.octets.saturating_add(octets) > limits.edit_octets {
            return false;
        }
        self.count += 1;
        self.octets += octets;
        true
    }

    /// Keeps a line for the trace; of the tenth thousand edits nobody reads each.
    pub(crate) fn line(&mut self, line: impl FnOnce() -> String) {
        if self.lines.len() < TRACED_EDITS {
            self.lines.push(line());
        } else if self.lines.len() == TRACED_EDITS {
            self.lines.push("…".into());
        }
    }

    /// The recipients to change, and the place of the one that is asked about.
    pub(crate) fn recipients(
        &mut self,
        transaction: &Transaction,
        asked: usize,
    ) -> (&mut Vec<PolicyRecipient>, &mut usize) {
        let (recipients, asked) =
            self.recipients.get_or_insert_with(|| (transaction.recipients.clone(), asked));
        (recipients, asked)
    }

    /// Makes it all true. Answers with what reaches beyond the message: lines for the trace, a delay, new mail.
    pub(crate) fn commit(
        self,
        session: Option<&mut SessionState>,
        transaction: Option<&mut Transaction>,
        asked: &mut usize,
    ) -> Committed {
        if let Some(session) = session {
            merge(&mut session.notes, self.session_notes);
        }
        if let Some(transaction) = transaction {
            merge(&mut transaction.notes, self.notes);
            if let Some(reverse_path) = self.reverse_path {
                transaction.reverse_path = reverse_path;
            }
            if let Some(parameters) = self.parameters {
                transaction.parameters = parameters;
            }
            if let Some(tags) = self.tags {
                transaction.tags = tags;
            }
            transaction.priority = self.priority.unwrap_or(transaction.priority);
            transaction.not_before = self.not_before.or(transaction.not_before);
            transaction.expiry = self.expiry.or(transaction.expiry);
            if let Some((recipients, place)) = self.recipients {
                transaction.recipients = recipients;
                *asked = place;
            }
            transaction.edits.extend(self.header);
            if let Some(body) = self.body {
                transaction.edits.retain(|edit| !matches!(edit, Edit::Body(_)));
                transaction.edits.push(Edit::Body(body.into()));
            }
        }
        Committed { lines: self.lines, delay: self.delay, submissions: self.submissions }
    }
}

/// What a call changed beyond the message itself.
pub(crate) struct Committed {
    pub(crate) lines: Vec<String>,
    pub(crate) delay: Duration,
    pub(crate) submissions: Vec<NewMail>,
}

fn merge(notes: &mut BTreeMap<String, String>, staged: BTreeMap<String, Option<String>>) {
    for (key, value) in staged {
        match value {
            Some(value) => drop(notes.insert(key, value)),
            None => drop(notes.remove(&key)),
        }
    }
}

const TRACED_EDITS: usize = 100;
