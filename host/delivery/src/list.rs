//! Lists of members (RFC 5321 §3.9.2): the message goes on to the members, and the owner is told what fails.

use std::sync::Arc;

use message::{Edit, Octets};
use policy::ContentView;
use queue::{Delivery, Outcome};
use smtp::{Mailbox, Reply, ReversePath};

use crate::{
    House,
    course::Outcomes,
    mailbox::{self, Onward},
};

/// Sends one copy on to the members. It is in the queue before this one counts as delivered.
pub(crate) async fn deliver(
    house: &House,
    address: &Mailbox,
    delivery: &Delivery,
    content: &Arc<queue::Content>,
) -> Outcomes {
    let outcome = send_on(house, address, delivery, content).await;
    delivery.recipients.iter().map(|index| (*index, outcome.clone())).collect()
}

async fn send_on(
    house: &House,
    address: &Mailbox,
    delivery: &Delivery,
    content: &Arc<queue::Content>,
) -> Outcome {
    let fail = |reply| Outcome::Failed { reply, peer: None, quiet: false };
    let routing = house.routing();
    let Some(list) = routing.local.list(address) else {
        return fail(Reply::new(550, "5.1.1 There is no such list here"));
    };
    if list.members.is_empty() {
        return fail(Reply::new(550, "5.2.4 The list has no members"));
    }
    let header = match mailbox::header(delivery, content).await {
        Ok(header) => header,
        Err(error) => return later(delivery, &error.to_string()),
    };
    if mailbox::has_been_at(&header, address) {
        return fail(Reply::new(554, "5.4.6 Mail for this list goes in a circle"));
    }
    let reverse_path = match &delivery.message.reverse_path {
        // A report about a report would be for nobody (RFC 5321 §4.5.5).
        ReversePath::Null => ReversePath::Null,
        // RFC 5321 §3.9.2: the return address is that of the one who administers the list.
        ReversePath::Mailbox(_) => ReversePath::Mailbox(list.owner.clone()),
    };
    let edits = edits(address);
    let view = ContentView::new(header, Arc::clone(content) as Arc<dyn Octets>);
    let mut last = None;
    for members in list.members.chunks(MEMBERS_AT_ONCE) {
        let onward = Onward {
            reverse_path: reverse_path.clone(),
            edits: edits.clone(),
            recipients: members.to_vec(),
            original: None,
        };
        match mailbox::send_on(house, &delivery.message, &view, onward).await {
            Ok(id) => last = Some(id),
            Err(error) => return later(delivery, &error),
        }
    }
    let as_ = last.map(|id| id.to_string()).unwrap_or_default();
    Outcome::Delivered { reply: Reply::new(250, format!("2.1.5 Sent on as {as_}")), peer: None }
}

fn later(delivery: &Delivery, error: &str) -> Outcome {
    tracing::error!(message = %delivery.message.id, error, "a message cannot be sent on to a list at the moment");
    let reply = Reply::new(451, "4.3.0 The message cannot be sent on at the moment");
    Outcome::Deferred { reply, peer: None, retry_in: None }
}

/// The mark by which a circle is found, and the name of the list (RFC 2919 §3).
fn edits(address: &Mailbox) -> Vec<Edit> {
    let mark = Edit::prepend("Delivered-To", &address.to_string());
    let local = address.local_part().to_string();
    let is_plain =
        local.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet));
    let name = address
        .domain()
        .filter(|_| is_plain)
        .map(|domain| Edit::add("List-Id", &format!("<{local}.{}>", domain.to_ascii())));
    mark.into_iter().chain(name.into_iter().flatten()).collect()
}

/// A transaction takes 1,000 recipients with most servers; more members get another message.
const MEMBERS_AT_ONCE: usize = 1000;
