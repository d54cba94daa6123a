//! The host's own rules about recipients: who may send where, and who exists. Policy can refuse more, never allow more.

use policy::PolicyRecipient;
use smtp::{ForwardPath, Host, LocalDomains, Mailbox, Reply, Resolution, ReversePath};

use crate::refusal;
use crate::users::Users;

/// What a client may do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Anybody: mail for our own domains.
    Stranger,
    /// Logged in, or from a network of `relay_from`: mail to everywhere.
    MayRelay,
}

/// Before policy is asked: is it our mail, or may the client relay?
///
/// The forward-path is what it is: a source route was stripped by the parser (RFC 5321 §3.6.1 and appendix C), and
/// `user%example.net@example.org` or `"user@example.net"@example.org` are local parts of example.org.
pub(crate) fn check_relay(
    local: &LocalDomains,
    path: &ForwardPath,
    standing: Standing,
) -> Result<(), Reply> {
    match local.resolve(path) {
        // RFC 5321 §3.6.2: a server that does not relay says 550.
        Resolution::Remote(_) if standing == Standing::Stranger => Err(refusal::relaying_denied()),
        Resolution::Remote(_)
        | Resolution::Local { .. }
        | Resolution::Expanded(_)
        | Resolution::Unknown => Ok(()),
    }
}

/// After policy passed: does every recipient that came of it exist?
///
/// A local one must, unless a plugin said where it goes. A remote one is there because the client may relay, or because
/// a plugin with the grant to edit recipients put it there, which is forwarding by the operator's will (RFC 5321 §3.9).
pub(crate) fn check_exists(local: &LocalDomains, recipient: &PolicyRecipient) -> Result<(), Reply> {
    match local.resolve(&recipient.path) {
        Resolution::Unknown if recipient.route.is_none() => Err(refusal::unknown_user()),
        Resolution::Unknown
        | Resolution::Remote(_)
        | Resolution::Local { .. }
        | Resolution::Expanded(_) => Ok(()),
    }
}

/// RFC 6409 §4.2: all domains in the envelope are fully qualified.
pub(crate) fn check_sender_is_qualified(reverse_path: &ReversePath) -> Result<(), Reply> {
    match reverse_path.mailbox() {
        Some(mailbox) if !is_qualified(mailbox) => Err(refusal::unqualified_sender()),
        Some(_) | None => Ok(()),
    }
}

/// RFC 6409 §6.1: a user sends as itself, or as one that it was allowed to be.
pub(crate) fn check_owner(
    users: &Users,
    local: &LocalDomains,
    login: &str,
    mailbox: &Mailbox,
) -> Result<(), Reply> {
    if users.may_send_as(login, mailbox, local) { Ok(()) } else { Err(refusal::not_your_address()) }
}

/// RFC 6409 §4.2: all domains in the envelope are fully qualified. Our own may be of one label.
pub(crate) fn check_recipient_is_qualified(
    local: &LocalDomains,
    path: &ForwardPath,
) -> Result<(), Reply> {
    match (path.mailbox(), local.resolve(path)) {
        (Some(mailbox), Resolution::Remote(_)) if !is_qualified(mailbox) => {
            Err(refusal::unqualified_recipient())
        }
        _ => Ok(()),
    }
}

fn is_qualified(mailbox: &Mailbox) -> bool {
    match mailbox.host() {
        Host::Domain(domain) => domain.as_str().contains('.'),
        Host::Literal(_) => true,
    }
}

#[cfg(test)]
mod tests;
