//! `message.transaction`: the envelope, and the edits of it.

mod edits;

use std::collections::HashSet;

use smtp::{
    BodyType, ForwardPath, MailParameters, Mailbox, Notify, OriginalRecipient, RcptParameters, Ret,
    ReversePath, Route, TlsDemand,
};
use wasmtime::component::Resource;

use crate::bindings::imports::authentication::Spf;
use crate::bindings::imports::message::HostTransaction;
use crate::bindings::types::{NewRecipient, Recipient};
use crate::bindings::{HostError, TransactionHandle};
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

    fn origin(&mut self, _: Handle) -> wasmtime::Result<String> {
        self.charge()?;
        Ok(self.transaction()?.origin.clone())
    }

    fn parameter(&mut self, _: Handle, name: String) -> wasmtime::Result<Option<String>> {
        self.charge()?;
        let staged = self.call.staged.parameters.as_ref();
        Ok(parameter(staged.unwrap_or(&self.transaction()?.parameters), &name))
    }

    fn spf(&mut self, _: Handle) -> wasmtime::Result<Vec<Spf>> {
        self.charge()?;
        Ok(self.transaction()?.spf.iter().map(Into::into).collect())
    }

    fn tags(&mut self, _: Handle) -> wasmtime::Result<Vec<String>> {
        self.charge()?;
        let staged = self.call.staged.tags.as_ref();
        Ok(staged.unwrap_or(&self.transaction()?.tags).iter().cloned().collect())
    }

    fn priority(&mut self, _: Handle) -> wasmtime::Result<i8> {
        self.charge()?;
        Ok(self.call.staged.priority.unwrap_or(self.transaction()?.priority))
    }

    fn note(&mut self, _: Handle, key: String) -> wasmtime::Result<Option<String>> {
        self.charge()?;
        let key = whole(&self.core.name, &key);
        if let Some(staged) = self.call.staged.notes.get(&*key) {
            return Ok(staged.clone());
        }
        let own = self.transaction()?.notes.get(&*key);
        let session = || self.call.session.as_ref().and_then(|session| session.notes.get(&*key));
        Ok(own.or_else(session).cloned())
    }

    fn set_note(&mut self, _: Handle, key: String, value: Option<String>) -> Done {
        self.charge()?;
        if !self.call.stage.edits() {
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

    fn set_return(&mut self, _: Handle, ret: Option<String>) -> Done {
        self.charge()?;
        let ret = match ret.as_deref().map(str::to_ascii_uppercase).as_deref() {
            None => None,
            Some("FULL") => Some(Ret::Full),
            Some("HDRS") => Some(Ret::Headers),
            Some(other) => {
                let text = format!("{other:?} is neither \"FULL\" nor \"HDRS\"");
                return Ok(Err(HostError::Invalid(text)));
            }
        };
        let line = format!("set-return {}", ret.map_or("none".into(), |ret| ret.to_string()));
        self.edit_parameters(line, |parameters| parameters.ret = ret)
    }

    fn set_envelope_id(&mut self, _: Handle, envid: Option<String>) -> Done {
        self.charge()?;
        // RFC 3461 §4.4: printable US-ASCII, at most 100 octets.
        let good = |envid: &String| {
            !envid.is_empty()
                && envid.len() <= 100
                && envid.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic())
        };
        if !envid.as_ref().is_none_or(good) {
            let text = "an envelope id has 1 to 100 printable US-ASCII characters";
            return Ok(Err(HostError::Invalid(text.into())));
        }
        let line = format!("set-envelope-id {}", envid.as_deref().unwrap_or("none"));
        self.edit_parameters(line, |parameters| parameters.envid = envid)
    }

    fn add_recipient(&mut self, _: Handle, new: NewRecipient) -> Done {
        self.charge()?;
        let parameters = match new_recipient(&new) {
            Ok((_, parameters)) => parameters,
            Err(error) => return Ok(Err(error)),
        };
        self.edit_recipients(&new.address, |recipients, asked, path, rcpt| {
            if recipients.iter().any(|recipient| recipient.path == path) {
                return Ok(format!("add-recipient {path} (is there)"));
            }
            let line = format!("add-recipient {path}");
            let added = PolicyRecipient {
                original: path.clone(),
                path,
                parameters,
                route: None,
                tls: None,
                verdict: None,
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

    fn replace_recipient(&mut self, _: Handle, address: String, by: Vec<NewRecipient>) -> Done {
        self.charge()?;
        if by.len() > MAX_REPLACEMENTS {
            let most = format!("at most {MAX_REPLACEMENTS} stand in the place of one");
            return Ok(Err(HostError::Quota(most)));
        }
        let by = match by.iter().map(new_recipient).collect::<Result<Vec<_>, _>>() {
            Ok(by) => by,
            Err(error) => return Ok(Err(error)),
        };
        self.edit_recipients(&address, |recipients, asked, path, _| {
            let at = find(recipients, &path)?;
            let old = recipients.remove(at);
            let mut there: HashSet<ForwardPath> =
                recipients.iter().map(|recipient| recipient.path.clone()).collect();
            // Nobody gets a second copy because two aliases lead to him.
            let new: Vec<(ForwardPath, RcptParameters)> =
                by.into_iter().filter(|(path, _)| there.insert(path.clone())).collect();
            let names: Vec<String> = new.iter().map(|(path, _)| path.to_string()).collect();
            if at < *asked {
                *asked = *asked + new.len() - 1;
            }
            // RFC 5321 §3.9: an alias keeps what the client asked for its recipient, unless the plugin knows better.
            let new = new.into_iter().map(|(path, parameters)| PolicyRecipient {
                path,
                original: old.original.clone(),
                parameters: RcptParameters {
                    notify: parameters.notify.or(old.parameters.notify),
                    orcpt: parameters.orcpt.or_else(|| old.parameters.orcpt.clone()),
                },
                route: None,
                tls: old.tls,
                verdict: None,
            });
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

    fn set_tls(&mut self, _: Handle, address: String, demand: String) -> Done {
        self.charge()?;
        if let Err(error) = self.may_edit(EditGrant::Route) {
            return Ok(Err(error));
        }
        let tls = match demand.as_str() {
            "opportunistic" => TlsDemand::Opportunistic,
            "require" => TlsDemand::Require,
            "verify" => TlsDemand::Verify,
            _ => {
                let text =
                    format!("{demand:?} is none of \"opportunistic\", \"require\", \"verify\"");
                return Ok(Err(HostError::Invalid(text)));
            }
        };
        self.change_recipients(&address, |recipients, _, path, _| {
            let at = find(recipients, &path)?;
            recipients[at].tls = Some(tls);
            Ok(format!("set-tls {path} {demand}"))
        })
    }

    fn set_not_before(&mut self, _: Handle, time: u64) -> Done {
        self.charge()?;
        self.edit_schedule("set-not-before", time, |staged, time| staged.not_before = Some(time))
    }

    fn set_expiry(&mut self, _: Handle, time: u64) -> Done {
        self.charge()?;
        self.edit_schedule("set-expiry", time, |staged, time| staged.expiry = Some(time))
    }

    fn set_priority(&mut self, _: Handle, priority: i8) -> Done {
        self.charge()?;
        if !(-9..=9).contains(&priority) {
            return Ok(Err(HostError::Invalid("a priority is -9 to 9".into())));
        }
        Ok(self.may_edit(EditGrant::Schedule).and_then(|()| self.count_edit(0)).map(|()| {
            self.call.staged.line(|| format!("set-priority {priority}"));
            self.call.staged.priority = Some(priority);
        }))
    }

    fn add_tag(&mut self, _: Handle, tag: String) -> Done {
        self.charge()?;
        self.edit_tags("add-tag", tag, |tags, tag| {
            tags.insert(tag);
        })
    }

    fn remove_tag(&mut self, _: Handle, tag: String) -> Done {
        self.charge()?;
        self.edit_tags("remove-tag", tag, |tags, tag| {
            tags.remove(&tag);
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

pub(super) fn mailbox(address: &str) -> Result<Mailbox, HostError> {
    Mailbox::parse(address)
        .map_err(|error| HostError::Invalid(format!("{address:?} is no address: {error}")))
}

/// The address and DSN parameters of a recipient to be.
pub(super) fn new_recipient(
    new: &NewRecipient,
) -> Result<(ForwardPath, RcptParameters), HostError> {
    let notify = new.notify.as_deref().map(|text| {
        text.parse::<Notify>().map_err(|_| HostError::Invalid(format!("{text:?} is no NOTIFY")))
    });
    let orcpt = new.original_recipient.as_deref().map(|text| {
        // RFC 3461 §4.2: address type and address, here without xtext.
        let fault = || HostError::Invalid(format!("{text:?} is no ORCPT: \"rfc822;a@b\""));
        let (address_type, address) = text.split_once(';').ok_or_else(fault)?;
        let atom = !address_type.is_empty()
            && address_type.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
        if !atom || address.is_empty() || text.len() > 500 || text.chars().any(char::is_control) {
            return Err(fault());
        }
        Ok(OriginalRecipient { address_type: address_type.to_owned(), address: address.to_owned() })
    });
    Ok((
        forward_path(&new.address)?,
        RcptParameters { notify: notify.transpose()?, orcpt: orcpt.transpose()? },
    ))
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

/// More than this is a mailing list, and has an entrance of its own.
const MAX_REPLACEMENTS: usize = 1000;
