//! The reverse-path of mail that came from outside and goes outside again: rewritten into a domain of ours, so that SPF
//! finds us where we stand (RFC 7208 §11.3 names the trouble), and reports come back the way the message went.

use smtp::{ReversePath, Route};

use crate::{Config, clock};

/// The reverse-path that the next host is told, where it is not the message's own.
pub(crate) fn reverse_path(config: &Config, delivery: &queue::Delivery) -> Option<ReversePath> {
    let forwarder = config.forwarder.as_ref()?;
    if !matches!(delivery.route, Route::Mx(_) | Route::Host { .. }) {
        return None;
    }
    let message = &delivery.message;
    let sender = message.reverse_path.mailbox()?;
    // What our own domains send is told as it is: their SPF names us.
    if sender.domain().is_some_and(|domain| config.local.contains(domain)) {
        return None;
    }
    // Forwarded is what somebody here sends on: the client named another recipient.
    let is_forwarded = |index: &usize| {
        let recipient = &message.recipients[*index];
        recipient.path != recipient.original
    };
    if !delivery.recipients.iter().any(is_forwarded) {
        return None;
    }
    match forwarder.rewrite(sender, clock::now()) {
        Ok(rewritten) => Some(ReversePath::Mailbox(rewritten)),
        Err(error) => {
            tracing::debug!(message = %message.id, %error, "forwarded with the reverse-path it came with");
            None
        }
    }
}
