//! Asking one plugin of a chain, with all that belongs to it: the clock, the metrics, the trace.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::answer::{Answer, Decision};
use crate::breaker::{Admission, Change};
use crate::call::{Failure, Finished, Instance, Question, ask};
use crate::chain::{Chain, Core, Stage};
use crate::effects::not_granted;
use crate::guest::Call;
use crate::trace::TraceEntry;

/// A chain, and the instances of one session.
pub(crate) struct Desk {
    pub(crate) chain: Arc<Chain>,
    /// In the order of the chain; empty until a plugin is asked.
    instances: Vec<Option<Box<Instance>>>,
}

/// What one plugin said.
pub(crate) struct Said<V> {
    /// The checked verdict.
    pub(crate) verdict: Result<V, Failure>,
    /// What was lent, with what was staged.
    pub(crate) call: Box<Call>,
    /// The entry for the trace, still without edits.
    pub(crate) entry: TraceEntry,
}

impl Desk {
    pub(crate) fn new(chain: Arc<Chain>) -> Self {
        Self { chain, instances: Vec::new() }
    }

    /// The live instances: the plugin, and the octets of memory that it has.
    pub(crate) fn memory(&self) -> Vec<(Arc<str>, usize)> {
        let live = self.instances.iter().zip(&self.chain.cores);
        live.filter_map(|(instance, core)| Some((core.name.clone(), instance.as_ref()?.memory())))
            .collect()
    }

    /// How long instances are worth their memory while the client says nothing; none if there are none.
    pub(crate) fn rest(&self) -> Option<Duration> {
        let live = self.chain.cores.iter().zip(&self.instances);
        let mut live = live.filter(|(_, instance)| instance.is_some()).peekable();
        live.peek()?;
        Some(if live.any(|(core, _)| core.is_crowded()) { SHORT_REST } else { REST })
    }

    /// Gives all instances back.
    pub(crate) fn release(&mut self) {
        self.instances = Vec::new();
    }

    /// Gives back the instances that are short, of all plugins or of one: a session that waits for its client is not to
    /// keep others from being judged.
    pub(crate) fn release_if_short(&mut self) {
        for (core, instance) in self.chain.cores.iter().zip(&mut self.instances) {
            if instance.is_some() && core.is_short() {
                *instance = None;
            }
        }
    }

    /// Asks the plugin at this place of the chain. `check` makes a verdict of the answer.
    pub(crate) async fn consult<V>(
        &mut self,
        at: usize,
        question: Question,
        call: Box<Call>,
        check: impl FnOnce(Answer, &Call) -> Result<V, String>,
    ) -> Said<V> {
        let (core, info) = (&self.chain.cores[at], &self.chain.infos[at]);
        let stage = question.stage();
        if self.instances.is_empty() {
            self.instances.resize_with(self.chain.cores.len(), || None);
        }
        let recipient = question.recipient().map(|recipient| recipient.address.clone());
        let clock = &core.services.clock;
        let before = clock.monotonic();
        let admission = core.breaker.admit(before);
        let (asked, version, digest) = match (admission, &core.previous) {
            (Admission::Refuse, Some(previous)) => {
                (&previous.core, &previous.version, &previous.digest)
            }
            _ => (core, &info.version, &info.digest),
        };
        let instance = self.instances[at].take().filter(|instance| instance.is_of(asked));
        let mut finished = if admission == Admission::Refuse && core.previous.is_none() {
            let failure = Failure("not asked: too many calls failed (circuit breaker)".into());
            Finished { instance: None, answer: Err(failure), call }
        } else if asked.exports.has(stage) {
            ask(asked, instance, question, call).await
        } else {
            Finished { instance, answer: Ok(Decision::next()), call }
        };
        let now = clock.monotonic();
        let took = now.saturating_sub(before);
        self.instances[at] = finished.instance;
        let mut entry = TraceEntry {
            recipient,
            verdict: Cow::Borrowed("error"),
            micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            host_calls: std::mem::take(&mut finished.call.host_calls),
            asked: std::mem::take(&mut finished.call.questions).into_entries(),
            ..TraceEntry::new(stage, core.name.clone(), version.clone(), digest.clone())
        };
        let meters = &core.meters[stage.position()];
        meters.calls.increment(1);
        meters.seconds.record(took);
        let verdict = finished
            .answer
            .and_then(|decision| judge(decision, &finished.call, asked, &mut entry, check));
        let change = match &verdict {
            _ if admission == Admission::Refuse => Change::None,
            Ok(_) => core.breaker.succeeded(now, admission),
            Err(failure) if failure.is_of_the_host() => Change::None,
            Err(Failure(text)) => core.breaker.failed(now, admission, text),
        };
        core.tell(change);
        if let Err(Failure(text)) = &verdict {
            meters.failures.increment(1);
            tell(core, stage, admission, text);
            // An answer that is not taken spoils the instance as any other fault does.
            self.instances[at] = None;
            entry.error = Some(text.clone());
        }
        Said { verdict, call: finished.call, entry }
    }
}

/// The verdict in a decision, if all of it was granted and is legal. What it says for people goes into the entry anyhow.
fn judge<V>(
    decision: Decision,
    call: &Call,
    asked: &Core,
    entry: &mut TraceEntry,
    check: impl FnOnce(Answer, &Call) -> Result<V, String>,
) -> Result<V, Failure> {
    entry.reason = decision.reason;
    entry.rule = decision.rule;
    let name = decision.answer.name();
    if let Some(effect) = call.staged.denied.get() {
        return Err(Failure(format!("not granted: {effect}")));
    }
    if let Some(text) = not_granted(&decision.answer, &asked.grants) {
        return Err(Failure(text));
    }
    let verdict = check(decision.answer, call)
        .map_err(|text| Failure(format!("illegal answer {name}: {text}")))?;
    entry.verdict = Cow::Borrowed(name);
    Ok(verdict)
}

/// A call failed. Of a plugin that is not asked any more nobody needs to hear with each message.
fn tell(core: &Core, stage: Stage, admission: Admission, error: &str) {
    let (plugin, stage) = (&*core.name, stage.name());
    if admission == Admission::Refuse {
        tracing::debug!(target: "plugin", plugin, stage, error, "the call failed");
    } else {
        tracing::warn!(target: "plugin", plugin, stage, error, "the call failed");
    }
}

/// After so long without a word, instances go back to the pool: to make them again costs less than a thousandth of this.
const REST: Duration = Duration::from_secs(1);
/// The same where many sessions have instances of one plugin. The pool keeps the memory of as many as ever lived at once.
const SHORT_REST: Duration = Duration::from_millis(50);
