//! Policy for messages in the queue: where to, and what next.

use std::sync::Arc;
use std::time::Duration;

use smtp::{Reply, Route};

use crate::answer::{Answer, deliver_verdict, notice_verdict, outcome_verdict, route_verdict};
use crate::bindings::stages::{on_dsn, on_outcome};
use crate::bindings::types;
use crate::call::Question;
use crate::chain::Chain;
use crate::config::OnError;
use crate::consult::Desk;
use crate::content::ContentView;
use crate::guest::Call;
use crate::imports::recipient;
use crate::submit;
use crate::trace::TraceEntry;
use crate::transaction::Transaction;
use crate::verdict::{DeliverVerdict, NoticeVerdict, OutcomeVerdict, RouteVerdict};

/// What came of an attempt for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// In a mailbox, or taken by LMTP.
    Delivered(Reply),
    /// Taken by another server.
    Relayed(Reply),
    /// To be tried again.
    Deferred(Reply),
    /// Refused for good.
    Failed(Reply),
    /// Deferred too often: given up.
    Expired(Reply),
}

/// A notification that is about to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// "failure", "delay", "success".
    pub kind: &'static str,
    /// Who will be told.
    pub to: String,
    /// What about whom: a place among the message's recipients, the action of RFC 3464 §2.3.3, and the last reply.
    pub recipients: Vec<(usize, &'static str, Option<Reply>)>,
}

/// One queued message before the chain. Instances are made when a plugin is first asked and die with this value, so
/// one of these serves all recipients of a message.
pub struct Queued {
    desk: Desk,
    /// Absent while a plugin is asked.
    transaction: Option<Box<Transaction>>,
}

impl Queued {
    /// The message, as a transaction without edits: its notes, its recipients with their routes so far.
    pub fn new(chain: Arc<Chain>, message: Transaction) -> Self {
        Self { desk: Desk::new(chain), transaction: Some(Box::new(message)) }
    }

    /// Where shall the copy for this recipient go? `recipient` is an index of the message's recipients.
    pub async fn route(&mut self, recipient: usize) -> (RouteVerdict, Vec<TraceEntry>) {
        let Some(recipient) = self.recipient(recipient) else {
            return (RouteVerdict::Next, Vec::new());
        };
        let failed = |on_error| match on_error {
            OnError::Pass => RouteVerdict::Next,
            OnError::Defer => RouteVerdict::Defer {
                wait: WAIT_AFTER_FAILURE,
                reply: Reply::new(451, "4.3.0 Local error in processing"),
            },
            OnError::Reject => {
                RouteVerdict::Fail(Reply::new(554, "5.3.0 Local error in processing"))
            }
        };
        let check = |answer| {
            Ok(Some(route_verdict(answer)?).filter(|verdict| *verdict != RouteVerdict::Next))
        };
        let failed =
            |on_error| Some(failed(on_error)).filter(|verdict| *verdict != RouteVerdict::Next);
        let (verdict, trace) =
            self.consult(Question::Route { recipient }, None, check, failed).await;
        (verdict.unwrap_or(RouteVerdict::Next), trace)
    }

    /// The copy for this recipient is about to be put into a local mailbox.
    pub async fn deliver(
        &mut self,
        recipient: usize,
        content: Arc<ContentView>,
    ) -> (DeliverVerdict, Vec<TraceEntry>) {
        let Some(recipient) = self.recipient(recipient) else {
            return (DeliverVerdict::Next, Vec::new());
        };
        let failed = |on_error| match on_error {
            OnError::Pass => None,
            OnError::Defer => Some(DeliverVerdict::Defer {
                wait: WAIT_AFTER_FAILURE,
                reply: Reply::new(451, "4.3.0 Local error in processing"),
            }),
            OnError::Reject => {
                Some(DeliverVerdict::Fail(Reply::new(554, "5.3.0 Local error in processing")))
            }
        };
        let question = Question::Deliver { recipient };
        let (verdict, trace) = self.consult(question, Some(content), deliver_verdict, failed).await;
        (verdict.unwrap_or(DeliverVerdict::Next), trace)
    }

    /// The sender is about to be told. A call that fails here changes nothing.
    pub async fn notice(&mut self, notice: Notice) -> (NoticeVerdict, Vec<TraceEntry>) {
        let reported = |(place, action, reply): (usize, &str, Option<Reply>)| {
            Some(on_dsn::Reported {
                recipient: self.recipient(place)?,
                action: action.to_owned(),
                reply: reply.as_ref().map(told),
            })
        };
        let recipients = notice.recipients.into_iter().filter_map(reported).collect();
        let question = Question::Dsn {
            notice: on_dsn::Notice { kind: notice.kind.to_owned(), to: notice.to, recipients },
        };
        let (verdict, trace) = self.consult(question, None, notice_verdict, |_| None).await;
        (verdict.unwrap_or(NoticeVerdict::Next), trace)
    }

    /// An attempt along `route` ended with `result` for this recipient. A call that fails here changes nothing.
    pub async fn outcome(
        &mut self,
        recipient: usize,
        route: &Route,
        result: AttemptResult,
    ) -> (OutcomeVerdict, Vec<TraceEntry>) {
        let Some(recipient) = self.recipient(recipient) else {
            return (OutcomeVerdict::Next, Vec::new());
        };
        let done = matches!(result, AttemptResult::Delivered(_) | AttemptResult::Relayed(_));
        let question =
            Question::Outcome { recipient, route: route.to_string(), result: result.into() };
        let check = |answer| {
            Ok(Some(outcome_verdict(answer)?).filter(|verdict| *verdict != OutcomeVerdict::Next))
        };
        let (verdict, trace) = self.consult(question, None, check, |_| None).await;
        let verdict = verdict.unwrap_or(OutcomeVerdict::Next);
        // What is delivered can't be held, tried or failed any more.
        (if done { OutcomeVerdict::Next } else { verdict }, trace)
    }

    fn recipient(&self, at: usize) -> Option<types::Recipient> {
        self.transaction.as_ref()?.recipients.get(at).map(recipient)
    }

    /// Asks the chain; none if nobody has an opinion.
    async fn consult<V>(
        &mut self,
        question: Question,
        content: Option<Arc<ContentView>>,
        check: impl Fn(Answer) -> Result<Option<V>, String>,
        failed: impl Fn(OnError) -> Option<V>,
    ) -> (Option<V>, Vec<TraceEntry>) {
        let stage = question.stage();
        let chain = self.desk.chain.clone();
        let mut trace = Vec::new();
        for (at, core) in chain.cores.iter().enumerate().filter(|(_, core)| core.exports.has(stage))
        {
            let call = Box::new(Call {
                stage,
                transaction: self.transaction.take(),
                content: content.clone(),
                ..Call::none()
            });
            let mut said =
                self.desk.consult(at, question.clone(), call, |answer, _| check(answer)).await;
            self.transaction = said.call.transaction.take();
            let verdict = match said.verdict {
                Ok(verdict) => {
                    let done = said.call.staged.commit(None, None, &mut 0);
                    said.entry.edits = done.lines;
                    submit::send(core, done.submissions);
                    verdict
                }
                Err(_) => failed(core.on_error),
            };
            trace.push(said.entry);
            if verdict.is_some() {
                return (verdict, trace);
            }
        }
        (None, trace)
    }
}

impl From<AttemptResult> for on_outcome::AttemptResult {
    fn from(result: AttemptResult) -> Self {
        match result {
            AttemptResult::Delivered(reply) => Self::Delivered(told(&reply)),
            AttemptResult::Relayed(reply) => Self::Relayed(told(&reply)),
            AttemptResult::Deferred(reply) => Self::Deferred(told(&reply)),
            AttemptResult::Failed(reply) => Self::Failed(told(&reply)),
            AttemptResult::Expired(reply) => Self::Expired(told(&reply)),
        }
    }
}

fn told(reply: &Reply) -> types::Reply {
    types::Reply {
        code: reply.code(),
        enhanced: reply.enhanced().map(|enhanced| types::EnhancedStatus {
            subject: enhanced.subject,
            detail: enhanced.detail,
        }),
        lines: reply.lines().to_vec(),
    }
}

/// Long enough for somebody to mend the plugin, short enough not to be noticed in a queue.
const WAIT_AFTER_FAILURE: Duration = Duration::from_secs(300);

/// [`Queued::route`] for a single question.
pub async fn route(
    chain: Arc<Chain>,
    message: &Transaction,
    recipient: usize,
) -> (RouteVerdict, Vec<TraceEntry>) {
    Queued::new(chain, message.clone()).route(recipient).await
}

/// [`Queued::outcome`] for a single question.
pub async fn outcome(
    chain: Arc<Chain>,
    message: &Transaction,
    recipient: usize,
    route: &Route,
    result: AttemptResult,
) -> (OutcomeVerdict, Vec<TraceEntry>) {
    Queued::new(chain, message.clone()).outcome(recipient, route, result).await
}
