//! What a submission server repairs in the mail of its users (RFC 6409 §8): the fields that every message must have, and
//! the one that nobody may see. The Sender field is left to the user.

use std::time::SystemTime;

use message::{Edit, Header, Id};

/// The edits that make the header complete.
pub(crate) fn edits(header: &Header, id: Id, hostname: &str, time: SystemTime) -> Vec<Edit> {
    let absent = |name: &str| header.get_all(name).next().is_none();
    let mut edits = Vec::new();
    // RFC 6409 §8.2: a missing Date is added.
    if absent("Date") {
        edits.extend(Edit::add("Date", &message::date::rfc5322(time)));
    }
    // RFC 6409 §8.3: a missing Message-ID is added. The transaction's name is unique.
    if absent("Message-ID") {
        edits.extend(Edit::add("Message-ID", &format!("<{id}@{hostname}>")));
    }
    // RFC 5322 §3.6.3: the Bcc field is removed before the message is sent. Old clients leave that to us.
    if !absent("Bcc") {
        edits.extend(Edit::remove("Bcc", None));
    }
    edits
}
