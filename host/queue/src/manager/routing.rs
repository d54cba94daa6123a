//! Asks where recipients go, and makes deliveries of the answers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use message::Id;
use smtp::{Mailbox, Reply, Route};

use super::outcomes::Handed;
use super::suspended::Suspensions;
use super::{Manager, Return};
use crate::fate;
use crate::message::{Message, Outcome, RecipientState, Routing};

impl Manager {
    /// The message is due: asks where its recipients go.
    pub(super) fn route(&mut self, id: Id) {
        let now = self.clock.now();
        let Some(loaded) = self.loaded.get_mut(&id) else { return };
        if loaded.routing || !loaded.open.is_empty() || loaded.removed {
            return;
        }
        let Some(message) = loaded.message_mut() else { return };
        if message.hold.is_some() {
            return;
        }
        let suspensions = &self.suspensions;
        let pending = message
            .recipients
            .iter()
            .filter(|r| r.state == RecipientState::Pending && !suspensions.cover(message, r));
        let Some(first) = pending.clone().map(|recipient| recipient.due).min() else { return };
        // If the wall clock was set back, the earliest are due all the same: the owner's own time said so.
        let until = first.max(now);
        message.asked =
            pending.filter(|recipient| recipient.due <= until).map(|r| r.index).collect();
        self.ask_router(id);
    }

    fn ask_router(&mut self, id: Id) {
        let Some(router) = self.router.clone() else { return };
        let Some(loaded) = self.loaded.get_mut(&id) else { return };
        let Some(message) = loaded.message.clone() else { return };
        loaded.routing = true;
        let home = self.home.clone();
        let asked = tokio::spawn(async move { router.route(&message).await });
        tokio::spawn(async move {
            let routings = asked.await.unwrap_or_else(|error| {
                tracing::error!(message = %id, %error, "the router failed; its message is deferred");
                Vec::new()
            });
            let _ = home.send(Return::Routed { id, routings });
        });
    }

    /// The router answered.
    pub(super) fn routed(&mut self, id: Id, routings: Vec<Routing>) {
        let soon = self.config.schedule.soon;
        let limits = self.config.limits.clone();
        let Some(loaded) = self.loaded.get_mut(&id) else { return };
        loaded.routing = false;
        loaded.shown = None;
        let Some(message) = loaded.message.clone() else { return };
        let facts = self.facts(&message);
        let Some(loaded) = self.loaded.get_mut(&id) else { return };
        let Some(message) = loaded.message.as_mut().map(Arc::make_mut) else { return };
        let asked = std::mem::take(&mut message.asked);
        let stopped = message.hold.is_some() || loaded.removed;
        let mut groups = Groups::default();
        let mut routings = routings.into_iter();
        for index in asked {
            // One answer for each that was asked about, wanted or not any more.
            let routing = routings.next();
            let suspended = suspended_at(&self.suspensions, message, index, routing.as_ref());
            let recipient = &mut message.recipients[index];
            if stopped || recipient.state != RecipientState::Pending {
                continue;
            }
            loaded.changed.insert(index);
            let failed = Outcome::NotTried { retry_in: soon };
            let facts = facts.facts();
            match routing {
                Some(Routing::To(_) | Routing::ToHosts { .. }) if suspended.is_some() => {
                    recipient.destination = suspended;
                    fate::record(recipient, Outcome::NotTried { retry_in: Duration::ZERO }, facts);
                }
                // Nothing of it changed yet.
                Some(Routing::To(route)) => {
                    loaded.changed.remove(&index);
                    groups.add(route, None, index);
                }
                Some(Routing::ToHosts { route, hosts }) => {
                    loaded.changed.remove(&index);
                    groups.add(route, Some(hosts), index);
                }
                Some(Routing::Hold(name)) => fate::record(recipient, Outcome::Hold { name }, facts),
                Some(Routing::Defer { for_, reply }) => {
                    fate::postpone(recipient, for_, reply, facts)
                }
                Some(Routing::Fail(reply)) => {
                    fate::record(
                        recipient,
                        Outcome::Failed { reply, peer: None, quiet: false },
                        facts,
                    );
                }
                Some(Routing::Discard) => fate::record(recipient, Outcome::Discard, facts),
                Some(Routing::Expand(members)) => {
                    let added = expand(message, index, members, &limits, facts);
                    loaded.changed.extend(added.clone());
                    message.asked.extend(added);
                }
                None => fate::record(recipient, failed, facts),
            }
            tell_fate(message, index);
        }
        let again = !message.asked.is_empty();
        self.make_deliveries(id, groups);
        if again {
            self.ask_router(id);
        } else {
            self.run_tasks(id);
        }
    }

    fn make_deliveries(&mut self, id: Id, groups: Groups) {
        for Group { route, recipients, others } in groups.all {
            let number = self.number();
            let destination = route.destination();
            let Some(loaded) = self.loaded.get_mut(&id) else { return };
            loaded.open.insert(number);
            self.turns.add(&destination, number);
            let others = Arc::new(others);
            let handed = Handed { id, recipients, route, destination, others, in_hand: false };
            self.handed.insert(number, handed);
        }
    }
}

/// The destination, if it is one that is suspended for this recipient.
fn suspended_at(
    suspensions: &Suspensions,
    message: &Message,
    index: usize,
    routing: Option<&Routing>,
) -> Option<String> {
    let Some(Routing::To(route) | Routing::ToHosts { route, .. }) = routing else { return None };
    let destination = route.destination();
    let recipient = message.recipients.get(index)?;
    suspensions.cover_to(message, recipient, Some(&destination)).then_some(destination)
}

/// Recipients by route, or by the hosts that routes share, in the order of the first of each.
#[derive(Default)]
struct Groups {
    all: Vec<Group>,
    places: HashMap<Key, usize>,
}

/// Recipients that go together.
struct Group {
    route: Route,
    recipients: Vec<usize>,
    /// Those whose route has another name.
    others: BTreeMap<usize, Route>,
}

#[derive(PartialEq, Eq, Hash)]
enum Key {
    Route(Route),
    Hosts(String),
}

impl Groups {
    fn add(&mut self, route: Route, hosts: Option<String>, index: usize) {
        let key = hosts.map_or_else(|| Key::Route(route.clone()), Key::Hosts);
        let place = *self.places.entry(key).or_insert_with(|| {
            let (recipients, others) = (Vec::new(), BTreeMap::new());
            self.all.push(Group { route: route.clone(), recipients, others });
            self.all.len() - 1
        });
        let group = &mut self.all[place];
        if group.route != route {
            group.others.insert(index, route);
        }
        group.recipients.push(index);
    }
}

/// Puts the members of an alias among the recipients; gives their positions.
fn expand(
    message: &mut Message,
    index: usize,
    members: Vec<Mailbox>,
    limits: &crate::config::Limits,
    facts: fate::Facts<'_>,
) -> std::ops::Range<usize> {
    let first = message.recipients.len();
    // Who is a recipient already gets one copy. An alias that leads to itself is not: it ends by its depth.
    let others = message
        .recipients
        .iter()
        .filter(|other| other.index != index && other.state != RecipientState::Expanded);
    let known: HashSet<String> = others.map(|other| other.path.to_string()).collect();
    let recipient = &mut message.recipients[index];
    let refuse =
        |text: &str| Outcome::Failed { reply: Reply::new(550, text), peer: None, quiet: false };
    if recipient.depth >= limits.expansions {
        fate::record(recipient, refuse("5.4.6 Aliases lead in a circle"), facts);
        return first..first;
    }
    if members.is_empty() || first + members.len() > limits.recipients {
        fate::record(recipient, refuse("5.2.4 The alias has no members, or too many"), facts);
        return first..first;
    }
    let members =
        members.into_iter().filter(|mailbox| !known.contains(&mailbox.to_string())).collect();
    let members = fate::expand(recipient, members, facts);
    message.recipients.extend(members);
    message.number_recipients();
    first..message.recipients.len()
}

/// One event for a fate that is decided here and nowhere else.
pub(super) fn tell_fate(message: &Message, index: usize) {
    let recipient = &message.recipients[index];
    let event = match recipient.state {
        RecipientState::Expired => "expired",
        RecipientState::Discarded => "discarded",
        RecipientState::Pending
        | RecipientState::Held(_)
        | RecipientState::Delivered
        | RecipientState::Relayed { .. }
        | RecipientState::Expanded
        | RecipientState::Failed => return,
    };
    let reply = recipient.last.as_ref().map(ToString::to_string).unwrap_or_default();
    tracing::info!(
        target: "mail", event, message = %message.id, reverse_path = %message.reverse_path,
        forward_path = %recipient.path, reply,
    );
}
