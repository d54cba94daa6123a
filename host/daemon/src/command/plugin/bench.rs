//! `gatepost plugin bench`: what each stage of a plugin costs in time and memory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use clap::Args;
use message::{Header, Id};
use policy::{
    AttemptResult, Chain, Clock as _, ContentView, Login, Notice, Origin, Queued, Session,
    SessionFacts, Stage, SystemClock, Transaction,
};
use smtp::{MailParameters, RcptParameters, Recipient, Reply, ReversePath, Route};

use super::subject::{Subject, load};
use crate::command::{say, say_error};
use crate::scenario::lines::Lines;
use crate::scenario::{Scenario, Visit};

#[derive(Args, Debug)]
pub(super) struct Bench {
    /// A project, a .wasm file, or bundled:NAME
    #[arg(default_value = ".")]
    plugin: String,
    /// The scenario whose first step is asked about, again and again [default: the first of the plugin's]
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// How often
    #[arg(long, default_value_t = 1000)]
    rounds: usize,
}

/// Times of one thing.
#[derive(Default)]
struct Times(Vec<Duration>);

/// What was measured, by what: "instance", or a stage.
#[derive(Default)]
struct Measured {
    times: BTreeMap<(usize, &'static str), Times>,
    /// Octets of memory of the instance after it.
    memory: BTreeMap<&'static str, usize>,
}

impl Bench {
    pub(super) fn run(self) -> Result<()> {
        let lines = Lines::start();
        let subject = Subject::find(&self.plugin)?;
        let file = match &self.scenario {
            Some(file) => file.clone(),
            None => match subject.scenarios(&[]).unwrap_or_default().into_iter().next() {
                Some(file) => file,
                None => bail!(
                    "a measurement needs a scenario: its [plugin], and its first step (--scenario FILE)"
                ),
            },
        };
        let scenario = load(&file)?;
        if cfg!(debug_assertions) {
            say_error(
                "this program was built for debugging: the times below are no measure of a server",
            );
        }
        // One thread: nothing else of ours runs beside.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(measure(&subject, &scenario, self.rounds.max(1), &lines))
    }
}

async fn measure(
    subject: &Subject,
    scenario: &Scenario,
    rounds: usize,
    lines: &Lines,
) -> Result<()> {
    let theatre = subject.stage(scenario, lines).await?;
    let chain = theatre.chain().clone();
    let visit = scenario.steps.first().map(|step| step.visit.clone()).unwrap_or_default();
    let mut measured = Measured::default();
    for round in 0..rounds {
        let mut session = Session::new(chain.clone(), facts(&visit, round));
        let transaction = talk(&mut session, &visit, &mut measured).await?;
        after(&chain, transaction, &visit, &mut measured).await?;
    }
    let info = &chain.plugins()[0];
    say(&format!(
        "{} {}, {} octets, {rounds} rounds",
        info.registered_name, info.version, info.size
    ));
    say(&format!("{:<12}{:>12}{:>12}{:>14}", "", "median", "p99", "memory"));
    for ((_, what), times) in &measured.times {
        let memory =
            measured.memory.get(what).map(|octets| format!("{} KiB", octets.div_ceil(1024)));
        let (median, p99) = times.of();
        say(&format!(
            "{what:<12}{:>12}{:>12}{:>14}",
            micros(median),
            micros(p99),
            memory.unwrap_or_default()
        ));
    }
    let live = resident(&chain, &visit).await?;
    say(&format!(
        "{LIVE} sessions at once have {} KiB of resident memory each",
        live / LIVE / 1024
    ));
    Ok(())
}

/// The stages of a session, each twice: at the first, an instance is made.
async fn talk(
    session: &mut Session,
    visit: &Visit,
    measured: &mut Measured,
) -> Result<Transaction> {
    let chain = session.chain().clone();
    let content = visit.content();
    let content = bytes::Bytes::from(content);
    let content = Arc::new(ContentView::new(Header::parse(content.clone()), Arc::new(content)));
    let first =
        Stage::ALL.into_iter().find(|stage| *stage != Stage::Configure && chain.asks(*stage));
    let mut last = transaction(visit)?;
    for pass in 0..2 {
        last = transaction(visit)?;
        for stage in
            [Stage::Connect, Stage::Helo, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Data]
        {
            if !chain.asks(stage) {
                continue;
            }
            let before = SystemClock.monotonic();
            match stage {
                Stage::Connect => drop(session.connect().await),
                Stage::Helo => drop(session.helo(&visit.helo, visit.extended).await),
                Stage::Auth => drop(session.auth(login(visit)).await),
                Stage::Mail => drop(session.mail(&mut last).await),
                Stage::Rcpt => {
                    for recipient in recipients(visit)? {
                        session.rcpt(&mut last, recipient).await;
                    }
                }
                _ => drop(session.data(&mut last, content.clone()).await),
            }
            let took = SystemClock.monotonic().saturating_sub(before);
            let name = if pass == 0 && Some(stage) == first { "instance" } else { stage.name() };
            if pass == 1 || name == "instance" {
                measured.note(name, took, session);
            }
        }
    }
    if chain.asks(Stage::Disconnect) {
        let before = SystemClock.monotonic();
        session.disconnect("quit").await;
        measured.note("disconnect", SystemClock.monotonic().saturating_sub(before), session);
    }
    if last.recipients.is_empty() {
        last.recipients = recipients(visit)?.into_iter().map(Into::into).collect();
    }
    Ok(last)
}

/// The stages of the queue. The first question makes an instance and is not counted.
async fn after(
    chain: &Arc<Chain>,
    message: Transaction,
    visit: &Visit,
    measured: &mut Measured,
) -> Result<()> {
    let content = bytes::Bytes::from(visit.content());
    let content = Arc::new(ContentView::new(Header::parse(content.clone()), Arc::new(content)));
    let route: Route = "mx:example.org".parse()?;
    let reply = || Reply::new(451, "4.2.0 Try again later");
    let mut queued = Queued::new(chain.clone(), message);
    for pass in 0..2 {
        for stage in [Stage::Route, Stage::Deliver, Stage::Outcome, Stage::Dsn] {
            if !chain.asks(stage) {
                continue;
            }
            let before = SystemClock.monotonic();
            match stage {
                Stage::Route => drop(queued.route(0).await),
                Stage::Deliver => drop(queued.deliver(0, content.clone()).await),
                Stage::Outcome => {
                    drop(queued.outcome(0, &route, AttemptResult::Deferred(reply())).await)
                }
                _ => {
                    let recipients = vec![(0, "failed", Some(reply()))];
                    let notice = Notice { kind: "failure", to: visit.from.clone(), recipients };
                    drop(queued.notice(notice).await);
                }
            }
            if pass == 1 {
                let took = SystemClock.monotonic().saturating_sub(before);
                measured.times.entry((place(stage.name()), stage.name())).or_default().0.push(took);
            }
        }
    }
    Ok(())
}

/// What so many live sessions add to the process.
async fn resident(chain: &Arc<Chain>, visit: &Visit) -> Result<usize> {
    let before = resident_octets();
    let mut live = Vec::new();
    for n in 0..LIVE {
        let mut session = Session::new(chain.clone(), facts(visit, n));
        talk(&mut session, visit, &mut Measured::default()).await?;
        live.push(session);
    }
    let after = resident_octets();
    drop(live);
    Ok(after.saturating_sub(before))
}

/// proc(5): `VmRSS:  1234 kB`.
fn resident_octets() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().split(' ').next()?.parse::<usize>().ok());
    number.unwrap_or(0) * 1024
}

impl Measured {
    fn note(&mut self, what: &'static str, took: Duration, session: &Session) {
        self.times.entry((place(what), what)).or_default().0.push(took);
        if let Some((_, octets)) = session.memory().first() {
            self.memory.insert(what, *octets);
        }
    }
}

/// The order of the stages; an instance comes before all.
fn place(what: &str) -> usize {
    Stage::ALL.iter().position(|stage| stage.name() == what).unwrap_or(0)
}

impl Times {
    fn of(&self) -> (Duration, Duration) {
        let mut sorted = self.0.clone();
        sorted.sort();
        let at = |share: usize| sorted.get(sorted.len() * share / 100).copied().unwrap_or_default();
        (at(50), at(99))
    }
}

fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_nanos() as f64 / 1000.0)
}

fn facts(visit: &Visit, unique: usize) -> SessionFacts {
    let client = SocketAddr::new(visit.client.ip(), visit.client.port());
    SessionFacts {
        id: id(unique),
        listener: visit.listener.clone(),
        origin: Origin::Mx,
        client,
        server: visit.server,
    }
}

fn id(unique: usize) -> Id {
    Id::new(SystemTime::UNIX_EPOCH, u32::try_from(unique).unwrap_or_default())
}

fn login(visit: &Visit) -> Login {
    let (identity, password) = match &visit.auth {
        Some(login) => (login.identity.clone(), login.password.clone()),
        None => ("alice".to_owned(), "secret".to_owned()),
    };
    Login {
        mechanism: "PLAIN".to_owned(),
        identity,
        authorization: String::new(),
        password: Some(password),
    }
}

fn transaction(visit: &Visit) -> Result<Transaction> {
    let from = match visit.from.as_str() {
        "" => ReversePath::Null,
        address => ReversePath::Mailbox(address.parse()?),
    };
    Ok(Transaction::new(id(0), from, MailParameters::default()))
}

fn recipients(visit: &Visit) -> Result<Vec<Recipient>> {
    let recipient = |address: &str| {
        Ok(Recipient {
            path: smtp::ForwardPath::Mailbox(address.parse()?),
            parameters: RcptParameters::default(),
        })
    };
    visit.to.iter().map(|to| recipient(&to.address)).collect()
}

/// Sessions that are alive at once when memory is measured.
const LIVE: usize = 32;
