//! One SMTP session's view of the chain: it asks the plugins, stage by stage.

mod facts;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use message::Id;
use smtp::{MailParameters, Recipient, Reply, ReversePath};

use crate::answer::{Answer, auth_verdict, recipient_verdicts, verdict};
use crate::bindings::stages::on_auth;
use crate::bindings::types;
use crate::call::Question;
use crate::chain::{Chain, Core, Stage};
use crate::config::OnError;
use crate::consult::Desk;
use crate::content::ContentView;
use crate::guest::Call;
use crate::imports::recipient;
use crate::staged::Committed;
use crate::submit;
use crate::trace::TraceEntry;
use crate::transaction::Transaction;
use crate::verdict::{AuthRuling, AuthVerdict, RecipientVerdict, Ruling, Verdict};

pub use facts::{AuthInfo, Login, Origin, SessionFacts, TlsInfo};

/// A session's plugins. Instances are made when a plugin is first asked and die with the session.
///
/// The future of a stage is not to be dropped before it is done, unless the session ends with it: it holds what was lent.
pub struct Session {
    desk: Desk,
    facts: SessionFacts,
    /// Absent while a plugin is asked.
    state: Option<Box<SessionState>>,
    trace: Vec<TraceEntry>,
}

/// What plugins see and keep of a session.
pub(crate) struct SessionState {
    pub(crate) id: Id,
    pub(crate) info: types::SessionInfo,
    pub(crate) client_name: Option<String>,
    pub(crate) notes: BTreeMap<String, String>,
}

impl Session {
    /// A session that will be judged by this chain from beginning to end.
    pub fn new(chain: Arc<Chain>, facts: SessionFacts) -> Self {
        Self { desk: Desk::new(chain), facts, state: None, trace: Vec::new() }
    }

    /// The chain that judges this session.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.desk.chain
    }

    /// What it was made with.
    pub fn facts(&self) -> &SessionFacts {
        &self.facts
    }

    /// What was decided outside of transactions (`connect`, `helo`), oldest first; at most 64 entries are kept.
    pub fn trace(&self) -> &[TraceEntry] {
        &self.trace
    }

    /// TLS was established.
    pub fn set_tls(&mut self, tls: TlsInfo) {
        let TlsInfo { version, cipher, server_name } = tls;
        self.state().info.tls = Some(types::TlsInfo { version, cipher, server_name });
    }

    /// The client's verified name has come.
    pub fn set_client_name(&mut self, name: &str) {
        let state = self.state();
        if state.client_name.as_deref() != Some(name) {
            state.client_name = Some(name.to_owned());
        }
    }

    /// What plugins noted in this session, by "plugin/key". It goes with each message that comes by it: a note of the
    /// transaction that has the same key wins.
    pub fn notes(&self) -> impl Iterator<Item = (&String, &String)> {
        self.state.iter().flat_map(|state| &state.notes)
    }

    /// The client logged in.
    pub fn set_auth(&mut self, auth: AuthInfo) {
        let AuthInfo { mechanism, identity } = auth;
        self.state().info.auth = Some(types::AuthInfo { mechanism, identity });
    }

    /// RFC 3207 §4.2: STARTTLS makes us forget what the client said, HELO included. Notes and instances go, too.
    pub fn reset_for_starttls(&mut self) {
        self.state = None;
        self.desk.release();
    }

    /// The live instances of this session: each plugin with the octets of memory that it has.
    pub fn memory(&self) -> Vec<(Arc<str>, usize)> {
        self.desk.memory()
    }

    /// How long instances are worth their memory while the client says nothing between transactions; none if the session
    /// has none. After that, [`Session::release`].
    pub fn rest(&self) -> Option<Duration> {
        self.desk.rest()
    }

    /// Gives the instances back; the next stage makes new ones. For a session that is idle between transactions.
    pub fn release(&mut self) {
        self.desk.release();
    }

    /// A client connected; the greeting is not sent yet.
    pub async fn connect(&mut self) -> Ruling {
        self.spoken(Question::Connect).await
    }

    /// HELO (`extended` false), EHLO or LHLO.
    pub async fn helo(&mut self, name: &str, extended: bool) -> Ruling {
        let info = &mut self.state().info;
        info.helo = Some(name.to_owned());
        info.extended = extended;
        self.spoken(Question::Helo { name: name.to_owned() }).await
    }

    /// AUTH. The users of the configuration are asked after it, if no plugin has an opinion.
    pub async fn auth(&mut self, login: Login) -> AuthRuling {
        let Login { mechanism, identity, authorization, password } = login;
        let question = |core: &Core| {
            // Who may not decide need not know.
            let password = password.clone().filter(|_| core.grants.auth);
            let (mechanism, identity) = (mechanism.clone(), identity.clone());
            let authorization = authorization.clone();
            Question::Auth {
                credentials: on_auth::Credentials { mechanism, identity, authorization, password },
            }
        };
        let check = |answer, core: &Core| {
            Ok(match auth_verdict(answer, core.grants.auth)? {
                AuthVerdict::Next => None,
                verdict => Some(verdict),
            })
        };
        let failed = |on_error| match on_error {
            OnError::Pass => None,
            // RFC 4954 §6. Nobody gets in because a plugin broke, and nobody is told that his password is wrong.
            OnError::Defer | OnError::Reject => {
                Some(AuthVerdict::Refuse(Reply::new(454, "4.7.0 Temporary authentication failure")))
            }
        };
        let reply = |verdict: &AuthVerdict| match verdict {
            AuthVerdict::Refuse(reply) | AuthVerdict::Disconnect(reply) => Some(reply.to_string()),
            AuthVerdict::Next | AuthVerdict::Success(_) => None,
        };
        let (verdict, plugin, delay) =
            self.outside(Stage::Auth, question, check, failed, reply).await;
        AuthRuling { verdict: verdict.unwrap_or(AuthVerdict::Next), plugin, delay }
    }

    /// The connection ended: "quit", "lost", "timeout", "refused", "shutdown" or "error". The last stage of a session.
    pub async fn disconnect(&mut self, how: &'static str) {
        let check = |_: Answer, _: &Core| Ok(None::<()>);
        let question = |_: &Core| Question::Disconnect { how };
        self.outside(Stage::Disconnect, question, check, |_| None, |()| None).await;
    }

    /// MAIL: the transaction is new.
    pub async fn mail(&mut self, transaction: &mut Transaction) -> Ruling {
        self.inside(Stage::Mail, transaction, None, &mut 0).await
    }

    /// RCPT. On [`Verdict::Pass`] the recipient, or what the plugins made of it, is in `transaction.recipients`; on every
    /// other verdict it is not.
    pub async fn rcpt(&mut self, transaction: &mut Transaction, recipient: Recipient) -> Ruling {
        let mut asked = transaction.recipients.len();
        transaction.recipients.push(recipient.into());
        let ruling = self.inside(Stage::Rcpt, transaction, None, &mut asked).await;
        if ruling.verdict != Verdict::Pass {
            transaction.recipients.truncate(asked);
        }
        ruling
    }

    /// The whole content is here.
    pub async fn data(
        &mut self,
        transaction: &mut Transaction,
        content: Arc<ContentView>,
    ) -> Ruling {
        self.inside(Stage::Data, transaction, Some(content), &mut 0).await
    }

    /// `connect` and `helo`.
    async fn spoken(&mut self, question: Question) -> Ruling {
        let stage = question.stage();
        let check = |answer, _: &Core| verdict(answer, stage == Stage::Connect);
        let (verdict, plugin, delay) = self
            .outside(
                stage,
                |_| question.clone(),
                check,
                |on_error| failed(on_error, stage),
                reply_text,
            )
            .await;
        Ruling { verdict: verdict.unwrap_or(Verdict::Pass), plugin, delay }
    }

    /// A stage outside of transactions: what was decided, by whom, and how long the reply is to wait.
    async fn outside<V>(
        &mut self,
        stage: Stage,
        question: impl Fn(&Core) -> Question,
        check: impl Fn(Answer, &Core) -> Result<Option<V>, String>,
        failed: impl Fn(OnError) -> Option<V>,
        reply: impl Fn(&V) -> Option<String>,
    ) -> (Option<V>, Option<Arc<str>>, Duration) {
        if !self.desk.chain.asks(stage) {
            return (None, None, Duration::ZERO);
        }
        // In a box: a session waits for its client most of its life, and keeps no room for this.
        Box::pin(async move {
            let mut trace = Vec::new();
            let (mut decision, mut delay) = ((None, None), Duration::ZERO);
            let chain = self.desk.chain.clone();
            let mut call = Box::new(Call { stage, session: Some(self.lend()), ..Call::none() });
            for (at, core) in
                chain.cores.iter().enumerate().filter(|(_, core)| core.exports.has(stage))
            {
                let check = |answer, _: &Call| check(answer, core);
                let mut said = self.desk.consult(at, question(core), call, check).await;
                call = said.call;
                let staged = std::mem::take(&mut call.staged);
                let decided = match said.verdict {
                    Ok(verdict) => {
                        let done = staged.commit(call.session.as_deref_mut(), None, &mut 0);
                        said.entry.edits = settle(core, done, &mut delay);
                        verdict
                    }
                    Err(_) => failed(core.on_error),
                };
                said.entry.reply = decided.as_ref().and_then(&reply);
                trace.push(said.entry);
                if let Some(verdict) = decided {
                    decision = (Some(verdict), Some(core.name.clone()));
                    break;
                }
            }
            self.state = call.session.take();
            self.desk.release_if_short();
            self.trace.extend(trace);
            let excess = self.trace.len().saturating_sub(TRACE_ENTRIES);
            self.trace.drain(..excess);
            (decision.0, decision.1, delay)
        })
        .await
    }

    /// A stage of a transaction. `asked` is the place of the recipient that is asked about, and is kept true.
    async fn inside(
        &mut self,
        stage: Stage,
        transaction: &mut Transaction,
        content: Option<Arc<ContentView>>,
        asked: &mut usize,
    ) -> Ruling {
        if !self.desk.chain.asks(stage) {
            return Ruling::pass();
        }
        // In a box, as above.
        Box::pin(async move {
            let chain = self.desk.chain.clone();
            if transaction.origin.is_empty() {
                self.facts.origin.name().clone_into(&mut transaction.origin);
            }
            let empty =
                Transaction::new(transaction.id, ReversePath::Null, MailParameters::default());
            let mut call = Box::new(Call {
                stage,
                session: Some(self.lend()),
                transaction: Some(Box::new(std::mem::replace(transaction, empty))),
                content,
                asked: *asked,
                ..Call::none()
            });
            let mut ruling = Ruling::pass();
            for (at, core) in
                chain.cores.iter().enumerate().filter(|(_, core)| core.exports.has(stage))
            {
                call.asked = *asked;
                let mut said = self.desk.consult(at, question(&call), call, judge).await;
                call = said.call;
                let staged = std::mem::take(&mut call.staged);
                let Call { session, transaction: lent, .. } = &mut *call;
                let lent = lent.as_deref_mut().expect("a call gives back what it was lent");
                let decided = match said.verdict {
                    Ok((verdict, each)) => {
                        let done = staged.commit(session.as_deref_mut(), Some(lent), asked);
                        said.entry.edits = settle(core, done, &mut ruling.delay);
                        for (place, verdict) in each {
                            lent.recipients[place].verdict = Some(verdict);
                        }
                        verdict
                    }
                    Err(_) => failed(core.on_error, stage),
                };
                let decided = decided.or_else(|| nobody_left(stage, lent, *asked));
                said.entry.reply = decided.as_ref().and_then(reply_text);
                lent.trace.push(said.entry);
                if let Some(verdict) = decided {
                    (ruling.verdict, ruling.plugin) = (verdict, Some(core.name.clone()));
                    break;
                }
            }
            self.state = call.session.take();
            *transaction = *call.transaction.take().expect("a call gives back what it was lent");
            self.desk.release_if_short();
            ruling
        })
        .await
    }

    fn state(&mut self) -> &mut SessionState {
        self.state.get_or_insert_with(|| Box::new(SessionState::new(&self.facts)))
    }

    fn lend(&mut self) -> Box<SessionState> {
        self.state.take().unwrap_or_else(|| Box::new(SessionState::new(&self.facts)))
    }
}

impl SessionState {
    fn new(facts: &SessionFacts) -> Self {
        let info = types::SessionInfo {
            id: facts.id.to_string(),
            listener: facts.listener.clone(),
            origin: facts.origin.name().to_owned(),
            client: endpoint(facts.client),
            server: endpoint(facts.server),
            helo: None,
            extended: false,
            tls: None,
            auth: None,
        };
        Self { id: facts.id, info, client_name: None, notes: BTreeMap::new() }
    }
}

/// What a stage of a transaction asks.
fn question(call: &Call) -> Question {
    match (call.stage, &call.transaction) {
        (Stage::Rcpt, Some(transaction)) => {
            Question::Rcpt { recipient: recipient(&transaction.recipients[call.asked]) }
        }
        (Stage::Data, _) => Question::Data,
        _ => Question::Mail,
    }
}

/// The verdict where there is nobody left about whom the next plugin could say anything.
fn nobody_left(stage: Stage, transaction: &Transaction, asked: usize) -> Option<Verdict> {
    let recipients = &transaction.recipients;
    if stage == Stage::Data
        && !recipients.is_empty()
        && recipients.iter().all(|recipient| recipient.verdict.is_some())
    {
        // All of them have their verdicts.
        return Some(Verdict::Pass);
    }
    // The one that was asked about was taken out.
    (stage == Stage::Rcpt && asked >= recipients.len()).then_some(Verdict::Discard)
}

/// The verdict in an answer, and what it says about single recipients; those are the ones that the call's own edits leave.
fn judge(
    answer: Answer,
    call: &Call,
) -> Result<(Option<Verdict>, Vec<(usize, RecipientVerdict)>), String> {
    let Answer::Each(each) = answer else { return Ok((verdict(answer, false)?, Vec::new())) };
    let recipients = match (&call.staged.recipients, &call.transaction) {
        (Some((recipients, _)), _) => recipients,
        (None, Some(transaction)) => &transaction.recipients,
        (None, None) => return Err("there are no recipients".into()),
    };
    Ok((None, recipient_verdicts(each, recipients)?))
}

/// What a call did beyond the message: delays add up, mail is sent. Answers with the lines for the trace.
fn settle(core: &Arc<Core>, done: Committed, delay: &mut Duration) -> Vec<String> {
    *delay = (*delay + done.delay).min(core.services.longest_delay);
    submit::send(core, done.submissions);
    done.lines
}

fn endpoint(address: SocketAddr) -> types::Endpoint {
    types::Endpoint { ip: address.ip().to_canonical().to_string(), port: address.port() }
}

/// What the administrator wants when a call failed; none lets the next plugin speak.
fn failed(on_error: OnError, stage: Stage) -> Option<Verdict> {
    let connect = stage == Stage::Connect;
    Some(match on_error {
        OnError::Pass => return None,
        OnError::Defer if connect => {
            Verdict::Disconnect(Reply::new(421, "4.3.0 Service not available, try again later"))
        }
        OnError::Defer => {
            Verdict::Refuse(Reply::new(451, "4.3.0 Local error in processing, try again later"))
        }
        OnError::Reject if connect => {
            Verdict::Disconnect(Reply::new(554, "5.3.0 No SMTP service here"))
        }
        OnError::Reject => Verdict::Refuse(Reply::new(554, "5.3.0 Local error in processing")),
    })
}

fn reply_text(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Refuse(reply) | Verdict::Disconnect(reply) => Some(reply.to_string()),
        Verdict::Pass | Verdict::Drop | Verdict::Discard | Verdict::Quarantine(_) => None,
    }
}

const TRACE_ENTRIES: usize = 64;
