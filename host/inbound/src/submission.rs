//! What a submission server repairs in the mail of its users (RFC 6409 §8): the fields that every message must have, and
//! the one that nobody may see; and whose addresses stand in it.

use std::time::SystemTime;

use message::{Edit, Header, Id};
use smtp::{Mailbox, Reply};

use crate::refusal;

/// Whether the addresses of From and Sender are the user's (RFC 6409 §6.1): all of them, or at least one of From if
/// Sender says who sent it (RFC 5322 §3.6.2).
pub(crate) fn check_author(header: &Header, owns: impl Fn(&Mailbox) -> bool) -> Result<(), Reply> {
    let is_owned = |mailbox: &Option<Mailbox>| mailbox.as_ref().is_some_and(&owns);
    let all = |name: &str| -> Vec<Option<Mailbox>> {
        header.get_all(name).flat_map(|field| field.mailboxes()).collect()
    };
    let (authors, sender) = (all("From"), all("Sender"));
    // RFC 5322 §3.6: one From, at most one Sender. Two would show other authors to other readers.
    if header.get_all("From").count() > 1 || header.get_all("Sender").count() > 1 {
        return Err(refusal::needs_one_author());
    }
    if header.get("From").is_none() && sender.is_empty() {
        return Ok(());
    }
    let is_sent_by_user = !sender.is_empty() && sender.iter().all(is_owned);
    let is_right = if is_sent_by_user {
        authors.iter().any(is_owned)
    } else {
        sender.is_empty() && !authors.is_empty() && authors.iter().all(is_owned)
    };
    if is_right { Ok(()) } else { Err(refusal::not_your_author()) }
}

/// The edits that make the header complete.
pub(crate) fn edits(
    header: &Header,
    id: Id,
    hostname: &str,
    time: SystemTime,
    login: Option<&str>,
) -> Vec<Edit> {
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
    // RFC 5322 §3.6.2: several authors need a Sender; RFC 6409 §8.1 lets us name the one who logged in.
    if absent("Sender") {
        let authors = header.get("From").map(|from| from.mailboxes()).unwrap_or_default();
        let login = login.and_then(|login| Mailbox::parse(login).ok());
        let sender = login.or_else(|| authors.first().cloned().flatten());
        if let (2.., Some(sender)) = (authors.len(), sender) {
            edits.extend(Edit::add("Sender", &sender.to_string()));
        }
    }
    // RFC 5322 §3.6.3: the Bcc field is removed before the message is sent. Old clients leave that to us.
    if !absent("Bcc") {
        edits.extend(Edit::remove("Bcc", None));
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_added_and_nothing_else() {
        let check = |header: &str, expected: &str| {
            let parsed = Header::parse(format!("{header}\n").replace('\n', "\r\n").into_bytes());
            let id = "0123456789ABCDEF".parse().unwrap();
            let edits =
                edits(&parsed, id, "mx.example.test", SystemTime::UNIX_EPOCH, Some("a@b.test"));
            let head = message::compose(&parsed, &edits).head;
            let told = String::from_utf8(head.to_vec()).unwrap().replace("\r\n", "|");
            assert_eq!(told, expected, "{header}");
        };
        let whole = "Date: x\nMessage-ID: <1@b.test>\n";
        check(
            "From: a@b.test\n",
            "From: a@b.test|Date: Thu, 1 Jan 1970 00:00:00 +0000|Message-ID: <0123456789ABCDEF@mx.example.test>||",
        );
        check(
            &format!("{whole}From: a@b.test\n"),
            "Date: x|Message-ID: <1@b.test>|From: a@b.test||",
        );
        check(
            &format!("{whole}From: c@b.test, a@b.test\n"),
            "Date: x|Message-ID: <1@b.test>|From: c@b.test, a@b.test|Sender: a@b.test||",
        );
        check(
            &format!("{whole}From: c@b.test, a@b.test\nSender: c@b.test\n"),
            "Date: x|Message-ID: <1@b.test>|From: c@b.test, a@b.test|Sender: c@b.test||",
        );
        check(
            &format!("{whole}From: a@b.test\nbcc: x@b.test\nTo: y@b.test\nBcc: z@b.test\n"),
            "Date: x|Message-ID: <1@b.test>|From: a@b.test|To: y@b.test||",
        );
    }

    #[test]
    fn an_author_is_the_user_or_is_sent_for_by_the_user() {
        let check = |header: &str, expected: &str| {
            let parsed = Header::parse(header.replace('\n', "\r\n").into_bytes());
            let owns = |mailbox: &Mailbox| mailbox.to_string() == "alice@example.test";
            let told = check_author(&parsed, owns)
                .map_or_else(|reply| reply.to_string(), |()| "ok".to_owned());
            assert!(told.starts_with(expected), "{header}: {told}");
        };
        check("From: alice@example.test\n", "ok");
        check("From: Alice <alice@example.test>\nSubject: x\n", "ok");
        check("From: \"bob@example.test\" <alice@example.test>\n", "ok");
        check("From: bob@example.test\n", "550 5.7.1");
        check("From: alice@example.test, bob@example.test\n", "550 5.7.1");
        check("From: alice@example.test, bob@example.test\nSender: alice@example.test\n", "ok");
        check("From: bob@example.test\nSender: alice@example.test\n", "550 5.7.1");
        check("From: alice@example.test\nSender: bob@example.test\n", "550 5.7.1");
        check("From: alice@example.test (bob@example.test)\n", "ok");
        check("From: Group: alice@example.test, bob@example.test;\n", "550 5.7.1");
        check("From: alice@example.test\nFrom: bob@example.test\n", "554 5.6.0");
        check("From: alice\n", "550 5.7.1");
        check("From: \n", "550 5.7.1");
        check("Subject: nobody\n", "ok");
    }
}
