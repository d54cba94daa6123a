//! A server that listens nowhere and delivers nothing, on which scenarios are played.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::future::BoxFuture;
use inbound::{Networks, Rooms, Simulator, Visitor};
use net::tls::{ServerTls, self_signed};
use net::{Resolver, Zone};
use policy::trace::{Journal, JournalConfig};
use policy::{
    AuthInfo, Chain, Compiler, Host, HostConfig, LoadError, NewMail, PluginConfig, Stage, Submit,
    TableSource, Tables,
};
use queue::{Limits, Queue};
use serde_json::{Map, Value as Json};

use super::after;
use super::compare::{Answered, Mismatch, compare};
use super::conversation::{Conversation, Talk};
use super::lines::{Line, Lines};
use super::outcome::{self, Told};
use super::script::{Script, Scripted};
use super::{Given, Step, Visit};

/// What a stage is set up with.
pub(crate) struct Setting {
    /// How mail comes in.
    pub(crate) inbound: inbound::Config,
    /// Answers DNS where the scenario says nothing about it.
    pub(crate) resolver: Resolver,
    /// Tables besides those of the scenario.
    pub(crate) tables: Vec<TableSource>,
    pub(crate) plugins: Vec<PluginConfig>,
    /// The plugin that a test is about; with none, all of them.
    pub(crate) subject: Option<String>,
    pub(crate) script: Arc<Script>,
    pub(crate) given: Given,
    pub(crate) compiler: Compiler,
    /// Where compiled plugins are kept; none keeps them for this run only.
    pub(crate) cache: Option<PathBuf>,
    pub(crate) lines: Lines,
}

/// The server, and what it did.
pub(crate) struct Theatre {
    simulator: Simulator,
    chain: Arc<Chain>,
    queue: Queue,
    script: Arc<Script>,
    lines: Lines,
    submitted: Submitted,
    subject: Option<String>,
    open: Option<Conversation>,
    /// Everything that was written goes with it.
    _folder: tempfile::TempDir,
}

/// One step, as it went.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) talk: Talk,
    /// What the queue asked, for each attempt.
    pub(crate) attempts: Vec<Vec<after::Asked>>,
    pub(crate) outcome: Map<String, Json>,
    pub(crate) lines: Vec<Line>,
    pub(crate) mismatches: Vec<Mismatch>,
}

/// Why there is no stage to play on.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Plugins do not load.
    Plugins(Vec<LoadError>),
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl Theatre {
    /// Builds the rooms in a folder that is thrown away.
    pub(crate) async fn build(setting: Setting) -> Result<Self, Trouble> {
        let folder = tempfile::tempdir().context("a folder for the simulation")?;
        let at = folder.path();
        let resolver = match &setting.given.dns {
            Some(lines) => Resolver::zone(lines.parse::<Zone>()?),
            None => setting.resolver.clone(),
        };
        let mut tables = setting.tables;
        tables.retain(|table| setting.given.tables.iter().all(|given| given.name != table.name));
        tables.extend(written_tables(&setting.given, at)?);
        let mut config = HostConfig::new(at.join("policy"), resolver.clone());
        let cache = setting.cache.unwrap_or_else(|| at.join("cache"));
        lend_key(&cache, &config.state_dir);
        config.cache_dir = cache.join("components");
        config.compiler = setting.compiler;
        config.clock = setting.script.clone();
        config.tables = Tables::load(tables).map_err(|faults| all(&faults))?;
        // Replies are not held up; how long they would be, the trace says.
        config.longest_delay = Duration::ZERO;
        config.kv.map_octets = 64 << 20;
        let script = setting.script.clone();
        config.seam = Arc::new(move |live| Arc::new(Scripted { script: script.clone(), live }));
        let state = config.state_dir.clone();
        let host = Host::new(config)?;
        lend_key(&state, &cache);
        let chain = host.load(setting.plugins).await.map_err(Trouble::Plugins)?;
        host.install(chain);
        let submitted = Submitted::default();
        host.set_submit(submitted.clone());

        let mut settings = queue::Config::new(at.join("queue"));
        settings.limits = Limits { free_octets: 0, free_inodes: 0, ..Limits::default() };
        let (queue, _) = Queue::open(settings).await?;
        let names = [setting.inbound.hostname.clone()];
        let rooms = Rooms {
            queue: queue.clone(),
            policy: host.clone(),
            tls: ServerTls::from_files(vec![self_signed(&at.join("tls"), &names)?])?,
            resolver,
            journal: Journal::open(JournalConfig::new(at.join("trace")))?,
        };
        Ok(Self {
            simulator: Simulator::new(setting.inbound, rooms),
            chain: host.current(),
            queue,
            script: setting.script,
            lines: setting.lines,
            submitted,
            subject: setting.subject,
            open: None,
            _folder: folder,
        })
    }

    /// What is loaded.
    pub(crate) fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// Plays one step. `keep` leaves its session open for the next one.
    pub(crate) async fn play(&mut self, step: &Step, keep: bool) -> Result<Played> {
        if step.fresh {
            self.script.begin_anew();
        }
        self.script.advance(step.after);
        let mut talk = Talk::default();
        self.talk(step, keep, &mut talk).await?;
        let held = match &talk.ended {
            Some(ended) => self.queue.show(ended.transaction.id).await.map(|detail| detail.message),
            None => None,
        };
        talk.hold = held.as_ref().and_then(outcome::hold);
        let mut answered = outcome::answered(&talk, self.subject.as_deref());
        let (mut attempts, mut mismatches) = (Vec::new(), Vec::new());
        if let Some(ended) = talk.ended.as_ref().filter(|ended| ended.fate == "received") {
            let content = outcome::composed(&step.visit.content(), ended);
            let mut queued = after::Message::new(&self.chain, ended, content);
            if step.attempts.is_empty() && self.chain.asks(Stage::Route) {
                let asked = queued.route_all().await;
                answered.extend(asked.iter().map(|asked| asked.answered.clone()));
                attempts.push(asked);
            }
            for attempt in &step.attempts {
                self.script.advance(attempt.after);
                match queued.attempt(attempt).await {
                    Ok(asked) => attempts.push(asked),
                    Err(fault) => mismatches.push(no_attempt(&fault.to_string())),
                }
            }
        } else if !step.attempts.is_empty() {
            mismatches.push(no_attempt("the message was not accepted"));
        }
        let asked = self.script.take_asked();
        let lines = self.lines.take();
        let submitted = self.submitted.take();
        let store = self.subject.as_ref().map(|plugin| self.script.store(plugin));
        let outcome = outcome::outcome(&Told {
            visit: &step.visit,
            talk: &talk,
            held: held.as_ref(),
            subject: self.subject.as_deref(),
            now: policy::Clock::now(&*self.script),
            lines: &lines,
            asked,
            submitted,
            store,
        });
        let nothing = super::expect::Expected::default();
        let expected = step.expected.as_ref().unwrap_or(&nothing);
        mismatches.extend(compare(expected, &answered, &outcome));
        for (attempt, asked) in step.attempts.iter().zip(&attempts) {
            let answered: Vec<Answered> =
                asked.iter().map(|asked| asked.answered.clone()).collect();
            let expected = attempt.expected.as_ref().unwrap_or(&nothing);
            mismatches.extend(compare(expected, &answered, &Map::new()));
        }
        Ok(Played { talk, attempts, outcome, lines, mismatches })
    }

    async fn talk(&mut self, step: &Step, keep: bool, talk: &mut Talk) -> Result<()> {
        let (visit, stop) = (&step.visit, step.stop_after);
        let open = self.open.take().filter(|_| step.same_session);
        let mut conversation = match open {
            Some(conversation) => conversation,
            None if step.same_session => {
                bail!("same-session: the session of the step before is over")
            }
            None => Conversation::new(self.visit(visit).await?),
        };
        let goes_on = step.same_session
            || (conversation.greet(talk).await
                && stop != Some(Stage::Connect)
                && conversation.introduce(visit, stop, talk).await
                && !matches!(stop, Some(Stage::Helo | Stage::Auth)));
        if goes_on {
            conversation.hand_over(visit, stop, talk).await;
        }
        if keep && !conversation.is_over {
            conversation.reset(talk).await;
            self.open = Some(conversation);
        } else {
            conversation.leave(visit.end, talk).await;
        }
        Ok(())
    }

    async fn visit(&self, visit: &Visit) -> Result<inbound::Visit> {
        let login = visit
            .user
            .as_ref()
            .map(|identity| AuthInfo { mechanism: "PLAIN".to_owned(), identity: identity.clone() });
        let visitor = Visitor {
            client: visit.client,
            server: visit.server,
            client_name: visit.client_name.clone(),
            tls: visit.tls.clone(),
            login,
            may_log_in: visit.auth.is_some(),
            results: visit.results.as_ref().map(|results| results.about(visit)),
        };
        let session = self.simulator.visit(&visit.listener, visitor).await?;
        session.ok_or_else(|| {
            anyhow!("there is no listener \"{}\", and no role of this name", visit.listener)
        })
    }
}

fn no_attempt(why: &str) -> Mismatch {
    Mismatch {
        place: "attempt".to_owned(),
        key: "message".to_owned(),
        expected: "one that is attempted".to_owned(),
        found: why.to_owned(),
        context: Vec::new(),
    }
}

/// The key of compiled code lies beside the state, which is thrown away, and the code is not: it is kept for the next run. Where that
/// does not work, plugins are compiled again.
fn lend_key(from: &Path, to: &Path) {
    let (from, to) = (from.join("cache.key"), to.join("cache.key"));
    if let (true, false, Some(folder)) = (from.exists(), to.exists(), to.parent()) {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        if let Err(error) = made.and_then(|()| std::fs::copy(&from, &to).map(drop)) {
            tracing::debug!("the cache of compiled plugins begins anew: {error}");
        }
    }
}

/// Writes the tables of a scenario where tables are read from.
fn written_tables(given: &Given, folder: &Path) -> Result<Vec<TableSource>> {
    let folder = folder.join("tables");
    std::fs::create_dir_all(&folder)?;
    let written = given.tables.iter().enumerate().map(|(n, table)| {
        let path = folder.join(n.to_string());
        std::fs::write(&path, &table.text)?;
        Ok(TableSource { name: table.name.clone(), path, kind: table.kind })
    });
    written.collect()
}

/// Where nothing is configured: in an open house every client may send everywhere, otherwise to the local domains. Whoever is named
/// may send as everybody, and knows no password.
pub(crate) fn open_house(
    local: &[smtp::Domain],
    is_open: bool,
    logins: impl IntoIterator<Item = String>,
) -> Result<inbound::Config> {
    let domains = local.iter().map(|name| {
        Ok(smtp::LocalDomain {
            name: name.clone(),
            users: ["postmaster".to_owned()].into(),
            catch_all: Some(format!("postmaster@{name}").parse()?),
            aliases: std::collections::BTreeMap::new(),
            lists: std::collections::BTreeMap::new(),
            quota: smtp::Quota::default(),
            delivery: smtp::LocalDelivery::Maildir { template: "{domain}/{user}".to_owned() },
            subaddress: None,
        })
    });
    let everywhere = if is_open { "0.0.0.0/0, ::/0" } else { "" };
    let relay_from: Networks = everywhere.parse().unwrap_or_default();
    // RFC 4616 §2: no client can send NUL.
    let secret = inbound::Secret::hash("\0")?;
    let users = logins.into_iter().map(|name| {
        Ok(inbound::User {
            name,
            password: secret.parse()?,
            scram: None,
            may_send_as: vec![inbound::SendAs::Everybody],
        })
    });
    let users: Vec<inbound::User> = users.collect::<Result<_>>()?;
    Ok(inbound::Config {
        hostname: "mx.example.org".to_owned(),
        listeners: Vec::new(),
        directory: inbound::Directory {
            local: Arc::new(smtp::LocalDomains::new(domains.collect::<Result<_>>()?)),
            users: Arc::new(inbound::Users::new(users, None, [0; 32])),
            relay_from,
            forwarder: None,
            mailbox_refusal: None,
        },
        authentication: inbound::Authentication { verify: false, ..Default::default() },
        limits: inbound::Limits::default(),
    })
}

/// Mail that plugins submitted: it is looked at, and goes nowhere.
#[derive(Clone, Default)]
struct Submitted(Arc<Mutex<Vec<NewMail>>>);

impl Submitted {
    fn take(&self) -> Vec<NewMail> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Submit for Submitted {
    fn submit(&self, mail: NewMail) -> BoxFuture<'static, Result<message::Id, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
        Box::pin(async { Err("simulated: it goes nowhere".to_owned()) })
    }
}

fn all(faults: &[impl std::fmt::Display]) -> anyhow::Error {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    anyhow!("{}", lines.join("\n"))
}
