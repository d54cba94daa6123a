//! `message.transaction`: the envelope, and the edits of it.

use std::collections::HashSet;

use smtp::{BodyType, ForwardPath, MailParameters, Mailbox, RcptParameters, ReversePath, Route};
use wasmtime::component::Resource;

use crate::bindings::imports::message::HostTransaction;
use crate::bindings::types::Recipient;
use crate::bindings::{HostError, TransactionHandle};
use crate::chain::Stage;
use crate::config::EditGrant;
use crate::guest::Guest;
use crate::imports::session::{note, whole};
use crate::transaction::{PolicyRecipient, Transaction};

type Handle = Resource<TransactionHandle>;
type Done = wasmtime::Result<Result<(), HostError>>;

impl HostTransaction for Guest {
    fn id(&mut self, _: Handle) -> wasmtime::Result<String> {
        self.charge()?;
        Ok(self.transaction()?.id.to_string())
    }

    fn reverse_path(&mut self, _: Handle) -> wasmtime::Result<Option<String>> {
        self.charge()?;
        let staged = self.call.staged.reverse_path.as_ref();
        Ok(reverse_path(staged.unwrap_or(&self.transaction()?.reverse_path)))
    }

    fn recipients(&mut self, _: Handle) -> wasmtime::Result<Vec<Recipient>> {
        self.charge()?;
        Ok(self.recipients_now()?.iter().map(recipient).collect())
    }

    fn parameter(&mut self, _: Handle, name: String) -> wasmtime::Result<Option<String>> {
        self.charge()?;
        Ok(parameter(&self.transaction()?.parameters, &name))
    }

    fn note(&mut self, _: Handle, key: String) -> wasmtime::Result<Option<String>> {
        self.charge()?;
        let key = whole(&self.core.name, &key);
        if let Some(staged) = self.call.staged.notes.get(&*key) {
            return Ok(staged.clone());
        }
        Ok(self.transaction()?.notes.get(&*key).cloned())
    }

    fn set_note(&mut self, _: Handle, key: String, value: Option<String>) -> Done {
        self.charge()?;
        if matches!(self.call.stage, Stage::Route | Stage::Outcome) {
            return Ok(Err(HostError::Invalid(format!(
                "the stage {} keeps no notes",
                self.call.stage
            ))));
        }
        let (core, call) = (&self.core, &mut self.call);
        let Some(transaction) = &call.transaction else {
            wasmtime::bail!("no transaction in this call")
        };
        Ok(note(&core.name, &core.limits, &transaction.notes, &mut call.staged.notes, &key, value))
    }

    fn set_reverse_path(&mut self, _: Handle, address: Option<String>) -> Done {
        self.charge()?;
        Ok(self.edit_reverse_path(address))
    }

    fn add_recipient(&mut self, _: Handle, address: String) -> Done {
        self.charge()?;
        self.edit_recipients(&address, |recipients, asked, path, rcpt| {
            if recipients.iter().any(|recipient| recipient.path == path) {
                return Ok(format!("add-recipient {path} (is there)"));
            }
            let line = format!("add-recipient {path}");
            let added = PolicyRecipient {
                original: path.clone(),
                path,
                parameters: RcptParameters::default(),
                route: None,
            };
            // At `rcpt` the one that is asked about stays the last.
            if rcpt {
                recipients.insert(*asked, added);
                *asked += 1;
            } else {
                recipients.push(added);
            }
            Ok(line)
        })
    }

    fn remove_recipient(&mut self, _: Handle, address: String) -> Done {
        self.charge()?;
        self.edit_recipients(&address, |recipients, asked, path, _| {
            let at = find(recipients, &path)?;
            recipients.remove(at);
            if at < *asked {
                *asked -= 1;
            }
            Ok(format!("remove-recipient {path}"))
        })
    }

    fn replace_recipient(&mut self, _: Handle, address: String, by: Vec<String>) -> Done {
        self.charge()?;
        if by.len() > MAX_REPLACEMENTS {
            let most = format!("at most {MAX_REPLACEMENTS} stand in the place of one");
            return Ok(Err(HostError::Quota(most)));
        }
        let by = match by.iter().map(|address| forward_path(address)).collect::<Result<Vec<_>, _>>()
        {
            Ok(by) => by,
            Err(error) => return Ok(Err(error)),
        };
        self.edit_recipients(&address, |recipients, asked, path, _| {
            let at = find(recipients, &path)?;
            let old = recipients.remove(at);
            let mut there: HashSet<ForwardPath> =
                recipients.iter().map(|recipient| recipient.path.clone()).collect();
            // Nobody gets a second copy because two aliases lead to him.
            let new: Vec<ForwardPath> =
                by.into_iter().filter(|path| there.insert(path.clone())).collect();
            let names: Vec<String> = new.iter().map(ToString::to_string).collect();
            if at < *asked {
                *asked = *asked + new.len() - 1;
            }
            // RFC 5321 §3.9: an alias keeps what the client asked for its recipient.
            let new =
                new.into_iter().map(|path| PolicyRecipient { path, route: None, ..old.clone() });
            recipients.splice(at..at, new);
            Ok(format!("replace-recipient {path} by {}", names.join(", ")))
        })
    }

    fn set_route(&mut self, _: Handle, address: String, route: String) -> Done {
        self.charge()?;
        if let Err(error) = self.may_edit(EditGrant::Route) {
            return Ok(Err(error));
        }
        let route: Route = match route.parse() {
            Ok(route) => route,
            Err(error) => {
                return Ok(Err(HostError::Invalid(format!("{route:?} is no route: {error}"))));
            }
        };
        self.change_recipients(&address, |recipients, _, path, _| {
            let at = find(recipients, &path)?;
            let line = format!("set-route {path} {route}");
            recipients[at].route = Some(route);
            Ok(line)
        })
    }

    fn drop(&mut self, _: Handle) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl Guest {
    pub(super) fn transaction(&self) -> wasmtime::Result<&Transaction> {
        self.call
            .transaction
            .as_deref()
            .ok_or_else(|| wasmtime::format_err!("no transaction in this call"))
    }

    fn recipients_now(&self) -> wasmtime::Result<&[PolicyRecipient]> {
        Ok(match &self.call.staged.recipients {
            Some((recipients, _)) => recipients,
            None => &self.transaction()?.recipients,
        })
    }

    fn edit_reverse_path(&mut self, address: Option<String>) -> Result<(), HostError> {
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

    fn edit_recipients(
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
    fn change_recipients(
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

    pub(super) fn count_edit(&mut self, octets: usize) -> Result<(), HostError> {
        if self.call.staged.count(octets, &self.core.limits) {
            Ok(())
        } else {
            Err(HostError::Quota("edits".into()))
        }
    }
}

/// A reverse-path in the form of the contract.
fn reverse_path(path: &ReversePath) -> Option<String> {
    match path {
        ReversePath::Null => None,
        ReversePath::Mailbox(mailbox) => Some(mailbox.to_string()),
    }
}

/// A recipient in the form of the contract.
pub(crate) fn recipient(recipient: &PolicyRecipient) -> Recipient {
    let parameters = &recipient.parameters;
    Recipient {
        address: recipient.path.to_string(),
        original: recipient.original.to_string(),
        notify: parameters.notify.as_ref().map(ToString::to_string),
        original_recipient: parameters
            .orcpt
            .as_ref()
            .map(|orcpt| format!("{};{}", orcpt.address_type, orcpt.address)),
    }
}

fn parameter(parameters: &MailParameters, name: &str) -> Option<String> {
    match name.to_ascii_uppercase().as_str() {
        "SIZE" => parameters.size.map(|size| size.to_string()),
        "BODY" => (parameters.body != BodyType::default()).then(|| parameters.body.to_string()),
        "SMTPUTF8" => parameters.smtputf8.then(String::new),
        "RET" => parameters.ret.as_ref().map(ToString::to_string),
        "ENVID" => parameters.envid.clone(),
        "AUTH" => parameters.auth.clone(),
        _ => None,
    }
}

fn mailbox(address: &str) -> Result<Mailbox, HostError> {
    Mailbox::parse(address)
        .map_err(|error| HostError::Invalid(format!("{address:?} is no address: {error}")))
}

fn forward_path(address: &str) -> Result<ForwardPath, HostError> {
    // RFC 5321 §4.5.1: "postmaster" needs no domain.
    if address.eq_ignore_ascii_case("postmaster") {
        return Ok(ForwardPath::Postmaster);
    }
    mailbox(address).map(ForwardPath::Mailbox)
}

fn find(recipients: &[PolicyRecipient], path: &ForwardPath) -> Result<usize, HostError> {
    // The last one: at `rcpt` the one that is asked about, if an address stands twice.
    recipients
        .iter()
        .rposition(|recipient| recipient.path == *path)
        .ok_or_else(|| HostError::Invalid(format!("{path} is no recipient")))
}

/// What plugins may make of the recipients that a client gave: a large list for each of a few.
const MAX_RECIPIENTS: usize = 20_000;
/// More than this is a mailing list, and has an entrance of its own.
const MAX_REPLACEMENTS: usize = 1000;
