//! The one seam between plugins and the world: whatever a plugin learns that is not in its session, its message or its
//! configuration is an [`Answer`] to a [`Question`] here. Grants are asked before it, so that it sees what is granted and
//! nothing else.
//!
//! A server answers live. A test or a replay puts another [`Seam`] in its place, or around it
//! ([`HostConfig::seam`](crate::HostConfig::seam)): one that reads answers from a file, or writes down those that were
//! given. Both sides have a form in JSON for that.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use message::Id;
use serde::{Deserialize, Serialize};

use crate::bindings::HostError;
use crate::chain::{Core, Stage};
use crate::content::ContentView;
use crate::guest::Guest;

mod live;
mod octets;

pub(crate) use live::Live;

/// Answers what plugins ask of the world.
pub trait Seam: Send + Sync + 'static {
    /// What needs no waiting: [`Question::is_at_once`].
    fn at_once(&self, asker: &Asker, question: Question) -> Result<Answer, Fault>;

    /// What may wait: all other questions.
    fn later<'a>(
        &'a self,
        asker: &'a Asker,
        question: Question,
    ) -> BoxFuture<'a, Result<Answer, Fault>>;
}

/// Who asks.
#[derive(Clone)]
pub struct Asker {
    pub(crate) core: Arc<Core>,
    pub(crate) content: Option<Arc<ContentView>>,
    /// At which stage.
    pub stage: Stage,
    /// In which session, if there is one.
    pub session: Option<Id>,
    /// In which transaction, or about which message.
    pub transaction: Option<Id>,
}

impl Asker {
    /// The plugin's name in the configuration.
    pub fn plugin(&self) -> &str {
        &self.core.name
    }

    /// The content that goes with a question of `http.send-content`.
    pub fn content(&self) -> Option<&Arc<ContentView>> {
        self.content.as_ref()
    }

    /// SHA-256 of its component, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.core.digest
    }
}

/// What a plugin asks of the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[expect(
    missing_docs,
    reason = "the parameters of the functions in `wit/host.wit`, under their names"
)]
pub enum Question {
    /// `clock.now`
    Now,
    /// `clock.monotonic`
    Monotonic,
    /// `random.octets`, `random.number` (8 octets, little end first)
    Random { octets: u32 },
    /// `lookup.*`
    Lookup { table: String, by: Match, key: String },
    /// `rate-limit.take`
    Take { key: String, tokens: u32, capacity: u32, seconds: u32 },
    /// `kv.get`
    KvGet { key: String },
    /// `kv.keys`
    KvKeys { prefix: String, after: Option<String> },
    /// `kv.set`
    KvSet {
        key: String,
        #[serde(with = "octets")]
        value: Vec<u8>,
        ttl: Option<u32>,
    },
    /// `kv.delete`
    KvDelete { key: String },
    /// `kv.increment`
    KvIncrement { key: String, delta: i64, ttl: Option<u32> },
    /// `kv.compare-and-set`
    KvCompareAndSet {
        key: String,
        #[serde(with = "octets::option", default, skip_serializing_if = "Option::is_none")]
        expected: Option<Vec<u8>>,
        #[serde(with = "octets")]
        value: Vec<u8>,
        ttl: Option<u32>,
    },
    /// `dns.resolve`, and each name of `dns.resolve-many` and `dns.listed`; the kind in upper case
    Dns { name: String, kind: String },
    /// `dns.verified-names`
    Names { address: String },
    /// `http.send`, `http.send-content`
    Http {
        method: String,
        url: String,
        headers: Vec<(String, String)>,
        #[serde(with = "octets")]
        body: Vec<u8>,
        /// The content of the message follows the body: so many octets.
        content: Option<u64>,
        timeout_milliseconds: Option<u32>,
    },
}

/// How a table is searched: the functions of `lookup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Match {
    /// `get`
    Exact,
    /// `match-ip`
    Ip,
    /// `match-address`
    Address,
    /// `match-domain`
    Domain,
}

impl Question {
    /// Whether it is answered without waiting, by [`Seam::at_once`].
    pub fn is_at_once(&self) -> bool {
        match self {
            Self::Now
            | Self::Monotonic
            | Self::Random { .. }
            | Self::Lookup { .. }
            | Self::Take { .. }
            | Self::KvGet { .. }
            | Self::KvKeys { .. } => true,
            Self::KvSet { .. }
            | Self::KvDelete { .. }
            | Self::KvIncrement { .. }
            | Self::KvCompareAndSet { .. }
            | Self::Dns { .. }
            | Self::Names { .. }
            | Self::Http { .. } => false,
        }
    }
}

/// What the world answers. Which answer fits which question is said at each; another one reaches the plugin as the
/// host error `other`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[expect(
    missing_docs,
    reason = "the results of the functions in `wit/host.wit`, under their names"
)]
pub enum Answer {
    /// To [`Question::Now`]: since 1970.
    Time { seconds: i64, nanoseconds: u32 },
    /// To [`Question::Monotonic`].
    Nanoseconds(u64),
    /// To [`Question::Random`].
    Octets(#[serde(with = "octets")] Vec<u8>),
    /// To [`Question::Lookup`].
    Text(Option<String>),
    /// To [`Question::Take`]: what is left, and milliseconds to wait.
    Taken { allowed: bool, remaining: u32, wait: u64 },
    /// To [`Question::KvGet`].
    Value(#[serde(with = "octets::option")] Option<Vec<u8>>),
    /// To [`Question::KvKeys`], [`Question::Names`].
    Names(Vec<String>),
    /// To [`Question::KvSet`], [`Question::KvDelete`], [`Question::KvCompareAndSet`]: whether there was a value, or it was set.
    Flag(bool),
    /// To [`Question::KvIncrement`].
    Sum(i64),
    /// To [`Question::Dns`]: records in presentation form.
    Records { records: Vec<String>, nxdomain: bool, ttl: u32 },
    /// To [`Question::Http`].
    Response {
        status: u16,
        headers: Vec<(String, String)>,
        #[serde(with = "octets")]
        body: Vec<u8>,
    },
}

/// Why there is no answer: the contract's `host-error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The configuration does not grant this to the plugin; names the grant.
    Denied(String),
    /// A quota of this plugin is used up.
    Quota(String),
    /// The arguments make no sense.
    Invalid(String),
    /// Try later.
    Unavailable(String),
    /// The time for this is over.
    Timeout,
    /// Anything else.
    Other(String),
}

impl From<Fault> for HostError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Denied(text) => Self::Denied(text),
            Fault::Quota(text) => Self::Quota(text),
            Fault::Invalid(text) => Self::Invalid(text),
            Fault::Unavailable(text) => Self::Unavailable(text),
            Fault::Timeout => Self::Timeout,
            Fault::Other(text) => Self::Other(text),
        }
    }
}

impl Guest {
    /// Who asks, for the call under way.
    pub(crate) fn asker(&self) -> Asker {
        Asker {
            core: self.core.clone(),
            content: None,
            stage: self.call.stage,
            session: self.call.session.as_ref().map(|session| session.id),
            transaction: self.call.transaction.as_ref().map(|transaction| transaction.id),
        }
    }

    /// Asks the world what needs no waiting.
    pub(crate) fn ask(&mut self, question: Question) -> Result<Answer, HostError> {
        let place = self.call.questions.begin(&question);
        let clock = &self.core.services.clock;
        let begun = clock.monotonic();
        let answer = self.core.services.seam.at_once(&self.asker(), question);
        self.call.questions.end(place, &answer, clock.monotonic().saturating_sub(begun));
        Ok(answer?)
    }

    /// Asks the world, and waits for the answer. Only this instance waits.
    pub(crate) async fn ask_later(
        &mut self,
        question: Question,
    ) -> wasmtime::Result<Result<Answer, HostError>> {
        let asker = self.asker();
        self.ask_later_as(&asker, question).await
    }

    pub(crate) async fn ask_later_as(
        &mut self,
        asker: &Asker,
        question: Question,
    ) -> wasmtime::Result<Result<Answer, HostError>> {
        let core = self.core.clone();
        let (seam, clock) = (&core.services.seam, &core.services.clock);
        let place = self.call.questions.begin(&question);
        let begun = clock.monotonic();
        let answer = Self::wait(&mut self.meter, seam.later(asker, question)).await?;
        self.call.questions.end(place, &answer, clock.monotonic().saturating_sub(begun));
        Ok(answer.map_err(HostError::from))
    }

    /// The same with several questions at once; answers in their order.
    pub(crate) async fn ask_together(
        &mut self,
        questions: Vec<Result<Question, HostError>>,
    ) -> wasmtime::Result<Vec<Result<Answer, HostError>>> {
        let (asker, core) = (self.asker(), self.core.clone());
        let (seam, clock) = (&core.services.seam, &core.services.clock);
        let ask = |question: Result<Question, HostError>| {
            let noted = question.map(|question| (self.call.questions.begin(&question), question));
            async {
                let (place, question) = noted?;
                let begun = clock.monotonic();
                let answer = seam.later(&asker, question).await;
                Ok((place, answer, clock.monotonic().saturating_sub(begun)))
            }
        };
        let asked: Vec<_> = questions.into_iter().map(ask).collect();
        let answers = futures_util::stream::iter(asked).buffered(AT_ONCE).collect::<Vec<_>>();
        let mut take_down = |(place, answer, took)| {
            self.call.questions.end(place, &answer, took);
            answer.map_err(HostError::from)
        };
        let answers = Self::wait(&mut self.meter, answers).await?;
        Ok(answers.into_iter().map(|answer| answer.and_then(&mut take_down)).collect())
    }
}

/// Of several questions so many are under way together.
const AT_ONCE: usize = 32;

/// The question went to the wrong side of the seam.
fn unfit_question(question: &Question) -> Fault {
    Fault::Other(format!("cannot be asked like this: {question:?}"))
}

/// The answer is none that fits the question: whoever made it is at fault.
pub(crate) fn unfit() -> HostError {
    HostError::Other("the answer does not fit the question".into())
}
