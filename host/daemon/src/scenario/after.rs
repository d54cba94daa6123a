//! What the queue asks about a message that was accepted: the stages of delivery.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use inbound::Ended;
use message::Header;
use policy::{
    AttemptResult, Chain, ContentView, DeliverVerdict, Notice, NoticeVerdict, OutcomeVerdict,
    Queued, ReturnedPart, RouteVerdict, Stage, TraceEntry,
};
use serde_json::{Map, Value as Json, json};
use smtp::{Reply, Route};

use super::Attempt;
use super::compare::Answered;
use super::outcome::of_entry;

/// One question and all who answered.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) answered: Answered,
    pub(crate) entries: Vec<TraceEntry>,
}

/// A message in the queue.
pub(crate) struct Message {
    chain: Arc<Chain>,
    queued: Queued,
    recipients: Vec<String>,
    reverse_path: String,
    /// Where its copies go, if a plugin said so.
    routes: Vec<Option<Route>>,
    content: Arc<ContentView>,
}

impl Message {
    /// The message that a transaction became, with its content as it is stored.
    pub(crate) fn new(chain: &Arc<Chain>, ended: &Ended, content: bytes::Bytes) -> Self {
        let mut transaction = ended.transaction.clone();
        transaction.notes.clone_from(&ended.notes);
        transaction.trace = Vec::new();
        let recipients = transaction.recipients.iter();
        let header = Header::parse(content.clone());
        Self {
            chain: chain.clone(),
            recipients: recipients.clone().map(|recipient| recipient.path.to_string()).collect(),
            routes: recipients.map(|recipient| recipient.route.clone()).collect(),
            reverse_path: transaction.reverse_path.to_string(),
            queued: Queued::new(chain.clone(), transaction),
            content: Arc::new(ContentView::new(header, Arc::new(content))),
        }
    }

    /// Asks where each copy goes.
    pub(crate) async fn route_all(&mut self) -> Vec<Asked> {
        let mut asked = Vec::new();
        for place in 0..self.recipients.len() {
            asked.push(self.route(place).await.0);
        }
        asked
    }

    /// One attempt, with the stages that the scenario names.
    pub(crate) async fn attempt(&mut self, attempt: &Attempt) -> Result<Vec<Asked>> {
        let places: Vec<usize> = (0..self.recipients.len())
            .filter(|place| {
                attempt
                    .recipient
                    .as_ref()
                    .is_none_or(|r| r.eq_ignore_ascii_case(&self.recipients[*place]))
            })
            .collect();
        if places.is_empty() {
            let wanted = attempt.recipient.as_deref().unwrap_or_default();
            anyhow::bail!(
                "{wanted} is no recipient of the message; these are: {}",
                self.recipients.join(", ")
            );
        }
        let mut asked = Vec::new();
        for place in &places {
            let (answer, route) = self.route(*place).await;
            asked.push(answer);
            if attempt.deliver {
                asked.push(self.deliver(*place).await);
            }
            let reply = reply_of(attempt)?;
            if let Some(result) = &attempt.result {
                let route = match &attempt.route {
                    Some(text) => text.parse()?,
                    None => self.usual_route(*place, route)?,
                };
                asked.push(self.outcome(*place, &route, result, reply.clone()).await);
            }
        }
        if let Some(kind) = attempt.dsn {
            asked.push(self.notice(kind, &places, reply_of(attempt)?).await);
        }
        Ok(asked)
    }

    async fn route(&mut self, place: usize) -> (Asked, Option<Route>) {
        let (verdict, entries) = self.queued.route(place).await;
        let mut keys = last(&entries);
        let route = match verdict {
            RouteVerdict::To(route) => {
                keys.insert("route".into(), route.to_string().into());
                Some(route)
            }
            RouteVerdict::Hold(name) => {
                keys.insert("name".into(), name.into());
                None
            }
            RouteVerdict::Defer { wait, reply } => {
                keys.insert("seconds".into(), wait.as_secs().into());
                reply_keys(&mut keys, &reply);
                None
            }
            RouteVerdict::Fail(reply) => {
                reply_keys(&mut keys, &reply);
                None
            }
            RouteVerdict::Next | RouteVerdict::Discard => None,
        };
        (self.asked(Stage::Route, Some(place), keys, entries), route)
    }

    /// What a plugin said at an earlier stage, or the mail exchangers of the domain.
    fn usual_route(&self, place: usize, said: Option<Route>) -> Result<Route> {
        if let Some(route) = said.or_else(|| self.routes[place].clone()) {
            return Ok(route);
        }
        let domain = self.recipients[place].rsplit('@').next().unwrap_or_default();
        format!("mx:{domain}").parse().with_context(|| format!("a route to {domain}"))
    }

    async fn deliver(&mut self, place: usize) -> Asked {
        let (verdict, entries) = self.queued.deliver(place, self.content.clone()).await;
        let mut keys = last(&entries);
        match verdict {
            DeliverVerdict::File(place) => {
                keys.insert("folder".into(), place.folder.join("/").into());
                keys.insert("seen".into(), place.is_seen.into());
                keys.insert("flagged".into(), place.is_flagged.into());
            }
            DeliverVerdict::Redirect(addresses) => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                keys.insert("addresses".into(), addresses.into());
            }
            DeliverVerdict::Defer { wait, reply } => {
                keys.insert("seconds".into(), wait.as_secs().into());
                reply_keys(&mut keys, &reply);
            }
            DeliverVerdict::Fail(reply) => reply_keys(&mut keys, &reply),
            DeliverVerdict::Hold(name) => drop(keys.insert("name".into(), name.into())),
            DeliverVerdict::Next | DeliverVerdict::Discard => {}
        }
        self.asked(Stage::Deliver, Some(place), keys, entries)
    }

    async fn outcome(&mut self, place: usize, route: &Route, result: &str, reply: Reply) -> Asked {
        let result = match result {
            "delivered" => AttemptResult::Delivered(reply),
            "relayed" => AttemptResult::Relayed(reply),
            "failed" => AttemptResult::Failed(reply),
            "expired" => AttemptResult::Expired(reply),
            _ => AttemptResult::Deferred(reply),
        };
        let (verdict, entries) = self.queued.outcome(place, route, result).await;
        let mut keys = last(&entries);
        match verdict {
            OutcomeVerdict::RetryIn(wait) => {
                drop(keys.insert("seconds".into(), wait.as_secs().into()))
            }
            OutcomeVerdict::Fail(reply) => reply_keys(&mut keys, &reply),
            OutcomeVerdict::Hold(name) => drop(keys.insert("name".into(), name.into())),
            OutcomeVerdict::Next | OutcomeVerdict::SuppressNotice => {}
        }
        self.asked(Stage::Outcome, Some(place), keys, entries)
    }

    async fn notice(&mut self, kind: &'static str, places: &[usize], reply: Reply) -> Asked {
        // RFC 3464 §2.3.3.
        let action = match kind {
            "delay" => "delayed",
            "success" => "delivered",
            _ => "failed",
        };
        let recipients = places.iter().map(|place| (*place, action, Some(reply.clone()))).collect();
        let notice = Notice { kind, to: self.reverse_path.clone(), recipients };
        let (verdict, entries) = self.queued.notice(notice).await;
        let mut keys = last(&entries);
        if let NoticeVerdict::Send { to, returned, text } = verdict {
            let returned = returned.map(|part| match part {
                ReturnedPart::Full => "full",
                ReturnedPart::Header => "header",
                ReturnedPart::Nothing => "none",
            });
            keys.insert("to".into(), json!(to.map(|to| to.to_string())));
            keys.insert("returned".into(), json!(returned));
            keys.insert("notice".into(), json!(text));
        }
        self.asked(Stage::Dsn, None, keys, entries)
    }

    /// Where nobody exports a stage, nobody was asked.
    fn asked(
        &self,
        stage: Stage,
        place: Option<usize>,
        keys: Map<String, Json>,
        entries: Vec<TraceEntry>,
    ) -> Asked {
        let keys = if self.chain.asks(stage) { keys } else { Map::new() };
        let about = place.map(|place| self.recipients[place].clone());
        Asked { answered: Answered { stage: stage.name(), about, keys }, entries }
    }
}

/// The last one who answered is the one who decided.
fn last(entries: &[TraceEntry]) -> Map<String, Json> {
    entries.last().map(of_entry).unwrap_or_default()
}

fn reply_keys(keys: &mut Map<String, Json>, reply: &Reply) {
    super::outcome::reply_keys(keys, reply);
}

/// What the other side said, by the scenario or as such a result usually goes.
fn reply_of(attempt: &Attempt) -> Result<Reply> {
    let usual = match attempt.result.as_deref() {
        Some("delivered" | "relayed") => "250 2.0.0 Ok",
        Some("failed") => "550 5.1.1 No such user",
        _ => "451 4.2.0 Try again later",
    };
    let text = attempt.reply.as_deref().unwrap_or(usual);
    text.parse().map_err(|error| anyhow::anyhow!("reply \"{text}\": {error}"))
}
