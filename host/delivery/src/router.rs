//! Recipient → route: policy first, then local domains, then the table of routes, then MX.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use futures_util::{
    future::BoxFuture,
    stream::{self, StreamExt},
};
use net::{MxAnswer, Resolver};
use policy::{Chain, Queued, RouteVerdict, Stage};
use queue::{Message, Outcome, QueuedRecipient, Routing};
use smtp::{Domain, Reply, Resolution, Route};
use tokio::time::timeout;

use crate::{Config, Rooms, report};

/// Answers the queue's question where recipients go.
pub(crate) struct Router {
    config: Config,
    resolver: Resolver,
    policy: Option<Arc<policy::Host>>,
    journal: Option<policy::trace::Journal>,
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

impl queue::Router for Router {
    fn route<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Vec<Routing>> {
        Box::pin(self.route_all(message))
    }
}

impl Router {
    pub(crate) fn new(config: &Config, rooms: &Rooms) -> Self {
        Self {
            config: config.clone(),
            resolver: rooms.resolver.clone(),
            policy: rooms.policy.clone(),
            journal: rooms.journal.clone(),
        }
    }

    async fn route_all(&self, message: &Message) -> Vec<Routing> {
        let mut asked =
            self.policy.as_ref().and_then(|host| ask_at(&host.current(), Stage::Route, message));
        let mut routings = Vec::with_capacity(message.pending().len());
        for recipient in message.pending() {
            let routing = match (&recipient.refusal, &mut asked) {
                // Policy refused it after the client was told 250: there is nothing to ask any more.
                (Some(refusal), _) => Routing::Fail(refusal.clone()),
                (None, Some(queued)) => {
                    let verdict = self.ask(queued, message, recipient).await;
                    self.decide(verdict, recipient)
                }
                (None, None) => self.own_rules(recipient),
            };
            if let Some(outcome) = fate(&routing) {
                report::tell(message, recipient, &outcome, "route");
            }
            routings.push(routing);
        }
        self.share(message, &mut routings).await;
        routings
    }

    /// Recipients whose domains have the same MX hosts go together: RFC 5321 §4.5.4.1 asks for one transaction and one copy
    /// where that is possible. A domain whose records don't come in time goes alone.
    async fn share(&self, message: &Message, routings: &mut [Routing]) {
        let domains: BTreeSet<Domain> = routings.iter().filter_map(mx_domain).cloned().collect();
        if domains.len() < 2 {
            return;
        }
        let lookups = domains.into_iter().map(|domain| {
            let resolver = self.resolver.clone();
            async move {
                let answer = resolver.mx(&domain).await;
                (domain, answer)
            }
        });
        let mut lookups = stream::iter(lookups).buffer_unordered(LOOKUPS);
        let mut hosts = BTreeMap::new();
        let gather = async {
            while let Some((domain, answer)) = lookups.next().await {
                hosts.extend(answer.ok().and_then(names_of).map(|names| (domain, names)));
            }
        };
        let _ = timeout(SHARING, gather).await;
        for (routing, recipient) in routings.iter_mut().zip(message.pending()) {
            let Some(names) = mx_domain(routing).and_then(|domain| hosts.get(domain)) else {
                continue;
            };
            if let Routing::To(route) = routing {
                let way = self.config.way(route);
                let hosts = format!("{names} {way:?} {:?}", recipient.tls);
                *routing = Routing::ToHosts { route: route.clone(), hosts };
            }
        }
    }

    /// The stage `route` of the plugins.
    async fn ask(
        &self,
        queued: &mut Queued,
        message: &Message,
        recipient: &QueuedRecipient,
    ) -> RouteVerdict {
        let (verdict, trace) = queued.route(recipient.index).await;
        if let Some(journal) = &self.journal
            && !trace.is_empty()
        {
            let reply = match &verdict {
                RouteVerdict::Fail(reply) | RouteVerdict::Defer { reply, .. } => Some(reply),
                RouteVerdict::Next
                | RouteVerdict::To(_)
                | RouteVerdict::Hold(_)
                | RouteVerdict::Discard => None,
            };
            let note =
                report::Note { kind: "route", fate: route_fate(&verdict), reply, peer: None };
            journal.record(report::entry(message, &[recipient], note, trace));
        }
        verdict
    }

    fn decide(&self, verdict: RouteVerdict, recipient: &QueuedRecipient) -> Routing {
        match verdict {
            RouteVerdict::Next => self.own_rules(recipient),
            RouteVerdict::To(route) => Routing::To(route),
            RouteVerdict::Hold(name) => Routing::Hold(name),
            RouteVerdict::Defer { wait, reply } => Routing::Defer { for_: wait, reply },
            RouteVerdict::Fail(reply) => Routing::Fail(reply),
            RouteVerdict::Discard => Routing::Discard,
        }
    }

    fn own_rules(&self, recipient: &QueuedRecipient) -> Routing {
        // A plugin said at an earlier stage where this copy goes.
        if let Some(route) = &recipient.hint {
            return Routing::To(route.clone());
        }
        match self.config.local.resolve(&recipient.path) {
            Resolution::Local { route, .. } => Routing::To(route),
            Resolution::Expanded(mailboxes) => Routing::Expand(mailboxes),
            Resolution::Unknown => Routing::Fail(Reply::new(550, "5.1.1 No such mailbox here")),
            Resolution::Remote(host) => Routing::To(
                self.config.route_for(&host).unwrap_or_else(|| direct(&host, self.config.port)),
            ),
        }
    }
}

/// The domain whose MX records say where this goes.
fn mx_domain(routing: &Routing) -> Option<&Domain> {
    if let Routing::To(Route::Mx(domain)) = routing { Some(domain) } else { None }
}

/// The hosts that MX records name, each with its place in the order of preference; `None`: it has none.
fn names_of(answer: MxAnswer) -> Option<String> {
    let MxAnswer::Hosts(mut hosts) = answer else { return None };
    hosts.sort();
    let mut names = String::new();
    for (place, equal) in hosts.chunk_by(|one, other| one.0 == other.0).enumerate() {
        for (_, host) in equal {
            names.push_str(&format!("{place} {host} "));
        }
    }
    Some(names)
}

/// What a routing that is an end, or a wait, means for the recipient.
fn fate(routing: &Routing) -> Option<Outcome> {
    match routing {
        Routing::Fail(reply) => {
            Some(Outcome::Failed { reply: reply.clone(), peer: None, quiet: false })
        }
        Routing::Defer { for_, reply } => {
            Some(Outcome::Deferred { reply: reply.clone(), peer: None, retry_in: Some(*for_) })
        }
        // What is discarded is told by the queue.
        Routing::To(_)
        | Routing::ToHosts { .. }
        | Routing::Hold(_)
        | Routing::Discard
        | Routing::Expand(_) => None,
    }
}

/// By MX, or to the host behind an address literal.
fn direct(host: &smtp::Host, port: u16) -> Route {
    match Route::direct(host) {
        // Hosts of the wide world all listen on one port; only tests move it.
        Route::Host { host, tls, credentials, .. } => Route::Host { host, port, tls, credentials },
        other @ (Route::Mx(_) | Route::Lmtp(_) | Route::Maildir(_) | Route::List(_)) => other,
    }
}

/// The message before the chain, if any plugin wants to be asked at this stage.
pub(crate) fn ask_at(chain: &Arc<Chain>, stage: Stage, message: &Message) -> Option<Queued> {
    let wanted = chain.plugins().iter().any(|plugin| plugin.stages.contains(&stage));
    wanted.then(|| Queued::new(Arc::clone(chain), transaction(message)))
}

/// The message as policy sees it. A recipient's index is the same in both.
fn transaction(message: &Message) -> policy::Transaction {
    let mut transaction = policy::Transaction::new(
        message.id,
        message.reverse_path.clone(),
        message.parameters.clone(),
    );
    transaction.origin.clone_from(&message.origin);
    transaction.notes = message.notes.clone();
    transaction.recipients = message
        .recipients
        .iter()
        .map(|recipient| policy::PolicyRecipient {
            path: recipient.path.clone(),
            original: recipient.original.clone(),
            parameters: recipient.parameters.clone(),
            route: recipient.hint.clone(),
            tls: recipient.tls,
            verdict: None,
        })
        .collect();
    transaction
}

fn route_fate(verdict: &RouteVerdict) -> &'static str {
    match verdict {
        RouteVerdict::Next => "next",
        RouteVerdict::To(_) => "routed",
        RouteVerdict::Hold(_) => "held",
        RouteVerdict::Defer { .. } => "deferred",
        RouteVerdict::Fail(_) => "failed",
        RouteVerdict::Discard => "discarded",
    }
}

// Beside what the cache knows; a name server is not flooded for one message.
const LOOKUPS: usize = 32;
// Sharing is worth a moment, and no domain whose name servers are slow holds the others up.
const SHARING: Duration = Duration::from_millis(500);
