//! The house: builds the rooms from the bottom up, changes them while they work, and stops them from the top down.

mod counts;
mod pressure;
mod reload;
pub(crate) mod reports;
mod watch;
mod welcome;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use delivery::Delivery;
use futures_util::future::BoxFuture;
use inbound::Inbound;
use metrics_exporter_prometheus::PrometheusHandle;
use net::Resolver;
use net::tls::{ClientRoots, ClientTls, ServerTls};
use policy::trace::{Journal, JournalConfig};
use policy::{Host, HostConfig, Tables};
use queue::Queue;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use self::counts::Counting;
use self::reports::Reporting;
use self::watch::Watch;
use crate::admin::{self, Office};
use crate::command::compiler;
use crate::config::{Config, Fault};
use crate::wiring;

/// How long the queue may take to write what it knows, after everybody has stopped.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// A server that is built and listening.
pub(crate) struct House {
    config: Config,
    tls: ServerTls,
    policy: Arc<Host>,
    queue: Queue,
    journal: Journal,
    inbound: Inbound,
    delivery: Delivery,
    /// The tasks of the admin listeners and the watch over memory, which end with the house.
    offices: Vec<JoinHandle<()>>,
    /// Keeps what is counted against abuse.
    counting: Counting,
    /// Keeps and sends what is reported about others' mail.
    reports: Option<Reporting>,
}

/// Why [`House::serve`] woke up.
enum Event {
    Stop,
    Reload(&'static str),
}

impl House {
    /// Opens the queue, loads the plugins and binds all listeners. Nothing is accepted before [`House::serve`].
    pub(crate) async fn build(config: Config, metrics: PrometheusHandle) -> Result<Self> {
        std::fs::create_dir_all(&config.data)
            .with_context(|| format!("data: can't make the folder {}", config.data.display()))?;
        let resolver = wiring::resolver(&config)?;
        let tls = ServerTls::from_files(wiring::certificates(&config)?).context("[tls]")?;
        let client_tls =
            ClientTls::new(&ClientRoots::System).context("trust anchors of the system")?;
        let trace = config.folder("trace");
        let journal = Journal::open(JournalConfig {
            keep: config.trace.keep,
            keep_octets: config.trace.size,
            ..JournalConfig::new(&trace)
        })
        .with_context(|| format!("can't write the trace in {}", trace.display()))?;

        let policy = load_policy(&config, &resolver).await?;
        let (queue, recovery) = Queue::open(wiring::queue(&config)).await?;
        tracing::info!(?recovery, "the queue is open");
        let local = Arc::new(wiring::local_domains(&config)?);

        let rooms = inbound::Rooms {
            queue: queue.clone(),
            policy: Arc::clone(&policy),
            tls: tls.clone(),
            resolver: resolver.clone(),
            journal: journal.clone(),
        };
        let mut entrance = wiring::inbound(&config, Arc::clone(&local))?;
        let (seen, observations) = tokio::sync::mpsc::channel(reports::WAITING);
        let discovery = entrance.authentication.options.discovery;
        entrance.authentication.seen = config.dmarc_reports.is_some().then_some(seen);
        let inbound = inbound::bind(entrance, rooms).await?;
        let counting = counts::start(inbound.counts(), config.folder("counts"));
        let rooms = delivery::Rooms {
            queue: queue.clone(),
            policy: Some(Arc::clone(&policy)),
            tls: client_tls,
            resolver: resolver.clone(),
            journal: Some(journal.clone()),
        };
        let delivery = Delivery::start(wiring::delivery(&config, local)?, rooms);

        policy.set_submit(Submissions(inbound.injector().clone()));
        let watch = pressure::watch(config.limits.memory, queue.clone(), inbound.pressure());
        let office = Office {
            queue: queue.clone(),
            hosts: delivery.destinations_handle(),
            policy: Arc::clone(&policy),
            injector: inbound.injector().clone(),
            metrics: metrics.clone(),
        };
        let mut offices =
            vec![tokio::spawn(admin::serve_socket(&config.admin.socket, office.clone()).await?)];
        offices.push(tokio::spawn(watch));
        offices.push(tokio::spawn(crate::metrics::keep_up(metrics)));
        let injector = inbound.injector().clone();
        let reports = reports::start(&config, discovery, resolver, injector, observations);
        if let Some(address) = config.admin.http {
            offices.push(tokio::spawn(admin::serve_http(address, office).await?));
        }
        Ok(Self {
            config,
            tls,
            policy,
            queue,
            journal,
            inbound,
            delivery,
            offices,
            counting,
            reports,
        })
    }

    /// Accepts and delivers until the process is told to stop, and stops cleanly. `reread` gives the configuration anew.
    pub(crate) async fn serve(
        mut self,
        reread: impl Fn() -> Result<Config, Vec<Fault>>,
    ) -> Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut watch = Watch::new()?;
        watch.set(self.watched());
        self.inbound.start();
        loop {
            let event = tokio::select! {
                _ = terminate.recv() => Event::Stop,
                _ = interrupt.recv() => Event::Stop,
                _ = hangup.recv() => Event::Reload("SIGHUP"),
                () = watch.changed() => Event::Reload("a file has changed"),
            };
            match event {
                Event::Stop => break,
                Event::Reload(why) => {
                    self.reload(why, &reread).await;
                    watch.set(self.watched());
                }
            }
        }
        self.stop().await
    }

    async fn stop(self) -> Result<()> {
        let drain = self.config.limits.drain;
        tracing::info!(?drain, "stopping: sessions may finish");
        self.inbound.drain(drain).await;
        self.counting.stop(LAST_WAIT).await;
        self.delivery.stop(drain).await;
        // It waits until everything in hand is back; what is not back now is due again after the next start.
        if tokio::time::timeout(LAST_WAIT, self.queue.shutdown()).await.is_err() {
            tracing::warn!(
                "some deliveries did not come back; they are due again after the next start"
            );
        }
        self.journal.flush().await;
        self.offices.iter().for_each(JoinHandle::abort);
        if let Some(reports) = self.reports {
            reports.stop(LAST_WAIT).await;
        }
        // A socket that is gone already needs no removal.
        std::fs::remove_file(&self.config.admin.socket).ok();
        tracing::info!("stopped");
        Ok(())
    }

    /// The files whose change is a reason to reload.
    fn watched(&self) -> Vec<PathBuf> {
        let config = &self.config;
        let components = config.plugins.iter().filter_map(|plugin| match &plugin.component {
            crate::config::Component::File(path) => Some(path.clone()),
            crate::config::Component::Bundled(_) => None,
        });
        let tables = config.tables.iter().map(|table| table.file.clone());
        let certificates = self
            .tls
            .files()
            .iter()
            .flat_map(|files| [files.certificate.clone(), files.key.clone()]);
        [config.file.clone(), config.logins.file.clone()]
            .into_iter()
            .chain(config.files())
            .chain(components)
            .chain(tables)
            .chain(certificates)
            .collect()
    }
}

/// The host of the plugins, with their first set.
async fn load_policy(config: &Config, resolver: &Resolver) -> Result<Arc<Host>> {
    let tables = Tables::load(wiring::tables(config)).map_err(|faults| all(&faults))?;
    let mut host = HostConfig::new(config.folder("policy"), resolver.clone());
    host.threads = config.policy.threads;
    host.compiler = compiler(config.policy.compiler);
    host.tables = tables;
    let policy = Host::new(host)?;
    let chain = policy.load(wiring::plugins(config)).await;
    policy.install(chain.map_err(|faults| all(&wiring::plugin_faults(config, &faults)))?);
    Ok(policy)
}

/// What is wrong with a configuration beyond its own text: certificates, tables, plugins. Compiles, links and configures
/// every plugin in a folder that is thrown away, so that a running server is not touched.
pub(crate) async fn check(config: &Config) -> Vec<String> {
    let mut faults = Vec::new();
    let mut note = |result: Result<()>| {
        if let Err(error) = result {
            faults.push(format!("{}: {error:#}", config.file.display()));
        }
    };
    note(wiring::local_domains(config).map(drop));
    note(wiring::authentication::authentication(config).map(drop));
    if let crate::config::Tls::Files(_) = config.tls {
        let files =
            wiring::certificates(config).and_then(|files| Ok(ServerTls::from_files(files)?));
        note(files.map(drop).context("[tls] certificates"));
    }
    let tables = match Tables::load(wiring::tables(config)) {
        Ok(tables) => tables,
        Err(errors) => {
            errors.into_iter().for_each(|error| note(Err(error.into())));
            Tables::default()
        }
    };
    match check_plugins(config, tables).await {
        Ok(found) => faults.extend(found),
        Err(error) => faults.push(format!("{}: {error:#}", config.file.display())),
    }
    faults
}

async fn check_plugins(config: &Config, tables: Tables) -> Result<Vec<String>> {
    let folder = tempfile::tempdir().context("a folder for the check")?;
    let mut host = HostConfig::new(folder.path(), wiring::resolver(config)?);
    host.compiler = compiler(config.policy.compiler);
    host.tables = tables;
    match Host::new(host)?.load(wiring::plugins(config)).await {
        Ok(_) => Ok(Vec::new()),
        Err(errors) => Ok(wiring::plugin_faults(config, &errors)),
    }
}

/// What plugins submit goes in as all mail does.
struct Submissions(inbound::Injector);

impl policy::Submit for Submissions {
    fn submit(&self, mail: policy::NewMail) -> BoxFuture<'static, Result<message::Id, String>> {
        let injector = self.0.clone();
        let recipient = |(path, parameters)| smtp::Recipient { path, parameters };
        let injection = inbound::Injection {
            reverse_path: mail.reverse_path,
            parameters: smtp::MailParameters::default(),
            recipients: mail.recipients.into_iter().map(recipient).collect(),
            content: mail.content.into(),
        };
        Box::pin(async move { injector.plugin(injection).await.map_err(|reply| reply.to_string()) })
    }
}

/// Several faults as one error.
fn all(faults: &[impl std::fmt::Display]) -> anyhow::Error {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("{}", lines.join("\n"))
}
