//! What edits of the envelope have in common: the grant, the count, the line for the trace.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use smtp::{ForwardPath, MailParameters, ReversePath};

use super::{Done, forward_path, mailbox};
use crate::answer::is_word;
use crate::bindings::HostError;
use crate::chain::Stage;
use crate::config::EditGrant;
use crate::guest::Guest;
use crate::staged::Staged;
use crate::transaction::PolicyRecipient;

impl Guest {
    /// The recipients as this call has staged them, or as they were.
    pub(super) fn recipients_now(&self) -> wasmtime::Result<&[PolicyRecipient]> {
        Ok(match &self.call.staged.recipients {
            Some((recipients, _)) => recipients,
            None => &self.transaction()?.recipients,
        })
    }

    pub(super) fn edit_reverse_path(&mut self, address: Option<String>) -> Result<(), HostError> {
        self.may_edit(EditGrant::ReversePath)?;
        let path = match address {
            None => ReversePath::Null,
            Some(address) => ReversePath::Mailbox(mailbox(&address)?),
        };
        self.count_edit(64)?;
        self.call.staged.line(|| format!("set-reverse-path <{path}>"));
        self.call.staged.reverse_path = Some(path);
        Ok(())
    }

    pub(super) fn edit_parameters(
        &mut self,
        line: String,
        edit: impl FnOnce(&mut MailParameters),
    ) -> Done {
        if let Err(error) =
            self.may_edit(EditGrant::ReversePath).and_then(|()| self.count_edit(line.len()))
        {
            return Ok(Err(error));
        }
        let present = self.transaction()?.parameters.clone();
        edit(self.call.staged.parameters.get_or_insert(present));
        self.call.staged.line(|| line);
        Ok(Ok(()))
    }

    pub(super) fn edit_schedule(
        &mut self,
        what: &str,
        seconds: u64,
        edit: impl FnOnce(&mut Staged, SystemTime),
    ) -> Done {
        // The year 10000: beyond it no calendar of ours goes.
        let time = (seconds < 253_402_300_800)
            .then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let Some(time) = time else {
            return Ok(Err(HostError::Invalid(format!("{seconds} s lies beyond the year 9999"))));
        };
        Ok(self.may_edit(EditGrant::Schedule).and_then(|()| self.count_edit(0)).map(|()| {
            self.call.staged.line(|| format!("{what} {seconds}"));
            edit(&mut self.call.staged, time);
        }))
    }

    pub(super) fn edit_tags(
        &mut self,
        what: &str,
        tag: String,
        edit: impl FnOnce(&mut BTreeSet<String>, String),
    ) -> Done {
        if let Err(error) = self.may_edit(EditGrant::Tags).and_then(|()| self.count_edit(tag.len()))
        {
            return Ok(Err(error));
        }
        if !is_word(&tag) {
            let text = "a tag has 1 to 64 letters, digits, \"-\", \"_\", \".\"";
            return Ok(Err(HostError::Invalid(text.into())));
        }
        let present = self.transaction()?.tags.clone();
        let tags = self.call.staged.tags.get_or_insert(present);
        let line = format!("{what} {tag}");
        edit(tags, tag);
        if tags.len() > MAX_TAGS {
            wasmtime::bail!("more than {MAX_TAGS} tags");
        }
        self.call.staged.line(|| line);
        Ok(Ok(()))
    }

    pub(super) fn edit_recipients(
        &mut self,
        address: &str,
        edit: impl FnOnce(
            &mut Vec<PolicyRecipient>,
            &mut usize,
            ForwardPath,
            bool,
        ) -> Result<String, HostError>,
    ) -> Done {
        match self.may_edit(EditGrant::Recipients) {
            Ok(()) => self.change_recipients(address, edit),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Works on the staged recipients. A refused edit leaves them as they were.
    pub(super) fn change_recipients(
        &mut self,
        address: &str,
        edit: impl FnOnce(
            &mut Vec<PolicyRecipient>,
            &mut usize,
            ForwardPath,
            bool,
        ) -> Result<String, HostError>,
    ) -> Done {
        let path = match forward_path(address) {
            Ok(path) => path,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = self.count_edit(address.len()) {
            return Ok(Err(error));
        }
        let rcpt = self.call.stage == Stage::Rcpt;
        let call = &mut self.call;
        let Some(transaction) = &call.transaction else {
            wasmtime::bail!("no transaction in this call")
        };
        let (recipients, asked) = call.staged.recipients(transaction, call.asked);
        let line = match edit(recipients, asked, path, rcpt) {
            Ok(line) => line,
            Err(error) => return Ok(Err(error)),
        };
        if recipients.len() > MAX_RECIPIENTS {
            // Beyond reason: the staged recipients are spoiled, and so is the call.
            wasmtime::bail!("more than {MAX_RECIPIENTS} recipients");
        }
        call.staged.line(|| line);
        Ok(Ok(()))
    }
}

/// What plugins may make of the recipients that a client gave: a large list for each of a few.
const MAX_RECIPIENTS: usize = 20_000;
/// Words for people and metrics, not a database.
const MAX_TAGS: usize = 100;
