//! Mail that leaves the house again: reports to reverse-paths that we rewrote, marks by which circles are found, and
//! mailboxes that are known to be full.

use message::{Edit, Header};
use policy::{RecipientVerdict, Stage};
use smtp::{ForwardPath, LocalDomains, Mailbox, Reply, Resolution, Route};

use crate::house::now;
use crate::refusal;
use crate::session::Session;
use crate::transaction::Transaction;

impl Session {
    /// The address behind one that we rewrote; `None` for ordinary ones. It takes reports alone, which have the null
    /// reverse-path (RFC 5321 §4.5.5): else whoever guesses one could relay to it.
    pub(crate) fn restore(
        &self,
        path: &ForwardPath,
        is_report: bool,
    ) -> Option<Result<Mailbox, Reply>> {
        let forwarder = self.directory.forwarder.as_ref()?;
        let restored = forwarder.restore(path.mailbox()?, now())?;
        Some(match restored {
            Ok(_) if !is_report => Err(refusal::reports_only()),
            Ok(mailbox) => Ok(mailbox),
            Err(error) => Err(refusal::not_rewritten_by_us(&error.to_string())),
        })
    }

    /// Whether the mailbox of a recipient is known to be full.
    pub(crate) async fn check_room(&self, path: &ForwardPath, octets: u64) -> Result<(), Reply> {
        let (Some(ask), Some(mailbox)) = (self.directory.mailbox_refusal, path.mailbox()) else {
            return Ok(());
        };
        let local = &self.directory.local;
        let (Some((limit, when_full)), Resolution::Local { route: Route::Maildir(path), .. }) =
            (local.quota(mailbox), local.resolve_mailbox(mailbox))
        else {
            return Ok(());
        };
        let asked = tokio::task::spawn_blocking(move || ask(&path, limit, when_full, octets));
        // What cannot be found out now is found out at delivery.
        match asked.await {
            Ok(Some(reply)) => Err(reply),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// Over LMTP each recipient has a reply of its own (RFC 2033 §4.2), and the size of the content is known by now: who has
    /// no room for it hears that here, and the others get their copies.
    pub(crate) async fn refuse_full(&self, transaction: &mut Transaction, octets: u64) {
        for place in 0..transaction.policy.recipients.len() {
            let recipient = &transaction.policy.recipients[place];
            if !matches!(recipient.verdict, None | Some(RecipientVerdict::Accept)) {
                continue;
            }
            let path = recipient.path.clone();
            if let Err(reply) = self.check_room(&path, octets).await {
                transaction.note_rule(Stage::Data, "quota", Some(&path), &reply);
                let verdict = RecipientVerdict::Refuse(reply);
                transaction.policy.recipients[place].verdict = Some(verdict);
            }
        }
    }
}

/// Mail for an address that leads out of the house gets a mark, and is refused if it has that mark already (RFC 5321
/// §6.3). Where several are named, no mark tells one of the other; the hops end the circle then.
pub(crate) fn mark(
    local: &LocalDomains,
    transaction: &Transaction,
    header: &Header,
) -> Result<Option<Edit>, Reply> {
    let recipients = &transaction.policy.recipients;
    let leading_out = || {
        recipients
            .iter()
            .filter_map(|recipient| recipient.path.mailbox())
            .filter(|mailbox| leads_out(local, mailbox))
    };
    let marks: Vec<String> = header.get_all("Delivered-To").map(|field| field.value()).collect();
    for mailbox in leading_out() {
        let name = mailbox.to_string();
        if marks.iter().any(|mark| mark.eq_ignore_ascii_case(&name)) {
            return Err(refusal::circle(&name));
        }
    }
    let only = leading_out().next().filter(|_| recipients.len() == 1);
    Ok(only.and_then(|mailbox| Edit::prepend("Delivered-To", &mailbox.to_string()).ok()))
}

/// An alias one of whose members is elsewhere, or an alias itself.
fn leads_out(local: &LocalDomains, mailbox: &Mailbox) -> bool {
    match local.resolve_mailbox(mailbox) {
        Resolution::Expanded(members) => members.iter().any(|member| {
            matches!(local.resolve_mailbox(member), Resolution::Remote(_) | Resolution::Expanded(_))
        }),
        Resolution::Local { .. } | Resolution::Unknown | Resolution::Remote(_) => false,
    }
}
