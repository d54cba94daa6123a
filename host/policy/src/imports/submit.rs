//! `submit`: new mail, staged until the verdict is taken. Grant: submit.

use smtp::ReversePath;

use crate::bindings::HostError;
use crate::bindings::imports::submit::{Host, Mail};
use crate::guest::Guest;
use crate::imports::transaction::{mailbox, new_recipient};
use crate::seam::Answer;
use crate::session::Origin;
use crate::submit::NewMail;

impl Host for Guest {
    fn submit(&mut self, mail: Mail) -> wasmtime::Result<Result<(), HostError>> {
        self.charge()?;
        Ok(self.stage_mail(mail))
    }
}

impl Guest {
    fn stage_mail(&mut self, mail: Mail) -> Result<(), HostError> {
        let (core, call) = (&self.core, &self.call);
        if !core.grants.submit {
            return Err(HostError::Denied("submit".into()));
        }
        let origin = match (&call.transaction, &call.session) {
            (Some(transaction), _) => transaction.origin.as_str(),
            (None, Some(session)) => session.info.origin.as_str(),
            (None, None) => return Err(HostError::Invalid("nothing is under way".into())),
        };
        // Else mail about mail would be made for ever.
        if [Origin::Plugin.name(), Origin::Notice.name()].contains(&origin) {
            return Err(HostError::Denied(format!("submit about mail of the origin {origin:?}")));
        }
        if call.staged.submissions.len() >= core.limits.submissions {
            let most = core.limits.submissions;
            return Err(HostError::Quota(format!("one call submits at most {most} mails")));
        }
        if mail.content.len() > MOST_OCTETS {
            return Err(HostError::Quota(format!("a mail has at most {MOST_OCTETS} octets")));
        }
        if mail.recipients.is_empty() || mail.recipients.len() > MOST_RECIPIENTS {
            return Err(HostError::Invalid(format!(
                "a mail has 1 to {MOST_RECIPIENTS} recipients"
            )));
        }
        let reverse_path = match &mail.reverse_path {
            None => ReversePath::Null,
            Some(address) => ReversePath::Mailbox(mailbox(address)?),
        };
        let recipients =
            mail.recipients.iter().map(new_recipient).collect::<Result<Vec<_>, _>>()?;
        let (now, rate) =
            (core.services.clock.monotonic(), (core.limits.submissions_per_minute, 60));
        let taken = core.services.submissions.take(&core.name, "mail".into(), 1, rate, now)?;
        if !matches!(taken, Answer::Taken { allowed: true, .. }) {
            return Err(HostError::Quota(format!("{} mails in a minute", rate.0)));
        }
        let names: Vec<String> = recipients.iter().map(|(path, _)| path.to_string()).collect();
        let plugin = core.name.to_string();
        self.call.staged.line(|| format!("submit to {}", names.join(", ")));
        self.call.staged.submissions.push(NewMail {
            plugin,
            reverse_path,
            recipients,
            content: mail.content,
        });
        Ok(())
    }
}

/// A report or an answer, not a mailing.
const MOST_OCTETS: usize = 1 << 20;
const MOST_RECIPIENTS: usize = 100;
