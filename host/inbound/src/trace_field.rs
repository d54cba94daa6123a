//! The Received field that this server adds (RFC 5321 §4.4).

use message::Edit;
use message::trace::{Protocol, Received};

use crate::session::Session;
use crate::transaction::Transaction;

/// What the session knows, as the field on top of the message.
pub(crate) async fn received(session: &mut Session, transaction: &Transaction) -> Edit {
    let client_name = session.client_name.get().await;
    let tls = session.tls();
    let helo = session.helo.as_ref();
    let policy = &transaction.policy;
    let received = Received {
        from_helo: helo.map_or("", |helo| helo.name.as_str()),
        client: session.peer.ip(),
        client_name: client_name.as_deref(),
        by: &session.house.config.hostname,
        protocol: Protocol {
            lmtp: session.is_lmtp(),
            extended: helo.is_some_and(|helo| helo.extended),
            utf8: policy.parameters.smtputf8,
            tls: tls.is_some(),
            authenticated: session.login.is_some(),
        },
        id: policy.id,
        // RFC 5321 §7.2: more than one would tell blind copies to the others.
        for_: match policy.recipients.as_slice() {
            [one] => one.original.mailbox(),
            _ => None,
        },
        time: transaction.began,
        tls: tls.as_ref().map(|tls| (tls.version.as_str(), tls.cipher.as_str())),
    };
    received.to_field()
}
