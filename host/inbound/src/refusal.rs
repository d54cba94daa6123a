//! What peers hear from us: the only place where an [`Error`] or a rule of the host becomes words.
//!
//! Peers learn what they can act on, and nothing about our inside.

use message::Id;
use queue::Receipt;
use smtp::Reply;

use crate::error::Error;

/// Why we could not do our work. Never a permanent reply: the fault is ours, the message is good.
pub(crate) fn refusal(error: &Error) -> Reply {
    match error {
        Error::Queue(queue::Error::Full { .. }) => {
            Reply::new(452, "4.3.1 Insufficient system storage, try again later")
        }
        Error::Queue(queue::Error::SenderFull { .. }) => {
            Reply::new(452, "4.3.1 Too many of your messages wait here, try again later")
        }
        Error::Queue(queue::Error::Closed) => shutting_down(),
        Error::Queue(_) | Error::Bind { .. } | Error::Tls(_) | Error::ProxyOnUnix { .. } => {
            Reply::new(451, "4.3.0 Local error in processing, try again later")
        }
    }
}

/// The reply to the final dot. It takes a [`Receipt`], so nobody can promise a message that is not on disk
/// (RFC 5321 §6.1).
pub(crate) fn accepted(receipt: &Receipt) -> Reply {
    queued(receipt.id())
}

/// What the client of a discarded message hears: the same.
pub(crate) fn discarded(id: Id) -> Reply {
    queued(id)
}

fn queued(id: Id) -> Reply {
    Reply::new(250, format!("2.0.0 Ok: queued as {id}"))
}

/// The same refusal, with the transaction's name, by which an operator finds what decided it.
pub(crate) fn with_id(reply: &Reply, id: Id) -> Reply {
    let mark = format!(" ({id})");
    let text = reply.lines().join("\n");
    if reply.is_positive() || text.ends_with(&mark) {
        return reply.clone();
    }
    let text = match reply.enhanced() {
        Some(status) => format!("{status} {text}{mark}"),
        None => format!("{text}{mark}"),
    };
    Reply::new(reply.code(), text)
}

/// In place of a greeting: the server has as many sessions as it may.
pub(crate) fn too_busy() -> Reply {
    Reply::new(421, "4.3.2 Too many connections, try again later")
}

/// In place of a greeting: this client has as many sessions as it may.
pub(crate) fn too_many_of_yours() -> Reply {
    Reply::new(421, "4.7.0 Too many connections from your address, try again later")
}

/// In place of a greeting: this client's network has as many sessions as it may.
pub(crate) fn too_many_of_your_network() -> Reply {
    Reply::new(421, "4.7.0 Too many connections from your network, try again later")
}

/// RFC 5321 §3.1: a client waits for the greeting.
pub(crate) fn spoke_early() -> Reply {
    Reply::new(554, "5.5.1 Protocol error: you spoke before the greeting")
}

/// A stranger, or its network, sent as much in this hour as it may.
pub(crate) fn too_many_messages(whose: &str) -> Reply {
    Reply::new(
        450,
        format!("4.7.1 Too many messages from your {whose} in an hour, try again later"),
    )
}

/// A user sent as much in this hour as it may.
pub(crate) fn too_many_messages_of_user() -> Reply {
    Reply::new(450, "4.7.1 You have sent too many messages in an hour, try again later")
}

/// A client named as many recipients in this hour as it may.
pub(crate) fn too_many_recipients() -> Reply {
    Reply::new(450, "4.7.1 Too many recipients in an hour, try again later")
}

/// What comes to a rewritten reverse-path with a reverse-path of its own.
pub(crate) fn reports_only() -> Reply {
    Reply::new(
        550,
        "5.7.1 This address takes reports about mail, from the null reverse-path, and nothing else",
    )
}

/// It looks as if we had rewritten it.
pub(crate) fn not_rewritten_by_us(why: &str) -> Reply {
    Reply::new(550, format!("5.1.1 No such user here: {why}"))
}

/// RFC 5321 §6.3: a loop.
pub(crate) fn circle(address: &str) -> Reply {
    Reply::new(554, format!("5.4.6 Mail loop: this message has been at {address} before"))
}

/// RFC 4954 §6, for a user who is logged in too often at once.
pub(crate) fn too_many_sessions_of_user() -> Reply {
    Reply::new(454, "4.7.0 You are logged in too many times at once, try again later")
}

/// RFC 5321 §3.8: a server that stops says 421.
pub(crate) fn shutting_down() -> Reply {
    Reply::new(421, "4.3.2 Service shutting down, try again later")
}

/// A bug of ours ended the session.
pub(crate) fn broken() -> Reply {
    Reply::new(421, "4.3.0 Internal error, closing connection")
}

/// The author's domain wants such mail refused (RFC 9989 §7.4; RFC 7372 §3.4 has the status).
pub(crate) fn forged_author(domain: &str) -> Reply {
    Reply::new(
        550,
        format!("5.7.26 {domain} does not vouch for this message and asks us to refuse it (DMARC)"),
    )
}

/// RFC 5321 §3.6.2: relaying is for clients that may.
pub(crate) fn relaying_denied() -> Reply {
    Reply::new(550, "5.7.1 Relaying denied")
}

/// RFC 5321 §3.3: no such mailbox.
pub(crate) fn unknown_user() -> Reply {
    Reply::new(550, "5.1.1 No such user here")
}

/// RFC 6409 §4.2: 554 for a domain that is not fully qualified, in MAIL.
pub(crate) fn unqualified_sender() -> Reply {
    Reply::new(554, "5.1.8 Sender's domain must be fully qualified")
}

/// RFC 6409 §4.2: 554 for a domain that is not fully qualified, in RCPT.
pub(crate) fn unqualified_recipient() -> Reply {
    Reply::new(554, "5.1.2 Recipient's domain must be fully qualified")
}

/// A plugin named a recipient at the data stage that is not here.
pub(crate) fn bad_recipient_by_policy() -> Reply {
    Reply::new(451, "4.3.5 Server is configured wrong, try again later")
}

/// RFC 4954 §6
pub(crate) fn wrong_password() -> Reply {
    Reply::new(535, "5.7.8 Authentication credentials invalid")
}

/// RFC 4954 §6: an identity to act for that is not the one that logged in.
pub(crate) fn wrong_authorization() -> Reply {
    Reply::new(535, "5.7.8 You may act for yourself only")
}

/// RFC 4954 §6
pub(crate) fn login_failed() -> Reply {
    Reply::new(454, "4.7.0 Temporary authentication failure")
}

/// RFC 4954 §6, for a client or a name that was wrong too often.
pub(crate) fn too_many_failed_logins() -> Reply {
    Reply::new(454, "4.7.0 Too many failed logins, try again later")
}

/// RFC 6409 §6.1: the address is somebody else's.
pub(crate) fn not_your_address() -> Reply {
    Reply::new(550, "5.7.1 Sender address is not yours to use")
}

/// RFC 6409 §6.1: the author or the sender that the header names is somebody else.
pub(crate) fn not_your_author() -> Reply {
    Reply::new(550, "5.7.1 The address in From or Sender is not yours to use")
}

/// RFC 5322 §3.6: a message has one From field.
pub(crate) fn needs_one_author() -> Reply {
    Reply::new(554, "5.6.0 A message has exactly one From field and at most one Sender field")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reply: &str, expected: &str) {
        let id: Id = "0123456789ABCDEF".parse().unwrap();
        let reply: Reply = reply.parse().unwrap();
        assert_eq!(with_id(&reply, id).to_string(), expected);
        assert_eq!(with_id(&with_id(&reply, id), id).to_string(), expected, "the id stands once");
    }

    #[test]
    fn a_refusal_ends_with_the_id_of_its_transaction() {
        check("550 5.7.1 Not here", "550 5.7.1 Not here (0123456789ABCDEF)");
        check("451 Later", "451 Later (0123456789ABCDEF)");
        check("550 5.7.1 Not here\nnor there", "550 5.7.1 Not here nor there (0123456789ABCDEF)");
        check("250 2.1.5 Ok", "250 2.1.5 Ok");
    }

    #[test]
    fn a_full_disk_is_not_the_fault_of_the_message() {
        let full = Error::Queue(queue::Error::Full { what: "free space".to_owned() });
        assert_eq!(refusal(&full).code(), 452);
        let broken =
            Error::Queue(queue::Error::NotDurable("Input/output error (os error 5)".to_owned()));
        assert_eq!(
            refusal(&broken).to_string(),
            "451 4.3.0 Local error in processing, try again later"
        );
    }
}
