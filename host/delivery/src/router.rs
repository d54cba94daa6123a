//! Recipient → route: policy first, then local domains, then the table of routes, then MX.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use policy::{Chain, Queued, RouteVerdict, Stage};
use queue::{Message, Outcome, QueuedRecipient, Routing};
use smtp::{Reply, Resolution, Route};

use crate::{Config, Rooms, report};

/// Answers the queue's question where recipients go.
pub(crate) struct Router {
    config: Config,
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
        routings
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
        Routing::To(_) | Routing::Hold(_) | Routing::Discard | Routing::Expand(_) => None,
    }
}

/// By MX, or to the host behind an address literal.
fn direct(host: &smtp::Host, port: u16) -> Route {
    match Route::direct(host) {
        // Hosts of the wide world all listen on one port; only tests move it.
        Route::Host { host, tls, credentials, .. } => Route::Host { host, port, tls, credentials },
        other @ (Route::Mx(_) | Route::Lmtp(_) | Route::Maildir(_)) => other,
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
