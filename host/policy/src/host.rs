//! The sandbox and what it shares among all plugins: engine, guest threads, key-value store, tables.

mod load;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Semaphore;
use wasmtime::component::Linker;

use crate::buckets::Buckets;
use crate::chain::{Chain, Services};
use crate::compile::{Cache, Compiler, private_directory};
use crate::config::PluginConfig;
use crate::engine::{self, Ticker};
use crate::error::{Error, LoadError};
use crate::guest::Guest;
use crate::kv::Store;
use crate::lanes::Lanes;
use crate::seam::{Live, Seam};
use crate::submit::{SUBMITTING, Submit};
use crate::tables::{TableError, Tables};
use crate::{http, imports};

/// What the host needs to start.
#[derive(Clone)]
pub struct HostConfig {
    /// Durable state: `kv/` is made in it.
    pub state_dir: PathBuf,
    /// Compiled plugins. Private to this user; may be emptied at any time.
    pub cache_dir: PathBuf,
    /// Who compiles plugins. Default: this process, which is for tests; a server takes [`Compiler::Child`].
    pub compiler: Compiler,
    /// Threads for calls that take longer than a tick, and half as many more for those that take much longer. Default 2.
    pub threads: usize,
    /// How often a running plugin is interrupted; also the unit of its budget. Default 2 ms, 1 to 5 ms are sensible.
    pub tick: Duration,
    /// Live instances at most, of one plugin three quarters of them. Default 1,000: the kernel's limit of mappings allows some 8,000.
    pub slots: u32,
    /// How long a call waits for one of these before it fails. Default 2 s.
    pub slot_wait: Duration,
    /// How long a reply waits at most, whatever plugins want. Default 30 s: a tenth of what a client waits (RFC 5321
    /// §4.5.3.2).
    pub longest_delay: Duration,
    /// Answers `dns`, and finds the hosts of `http`.
    pub resolver: net::Resolver,
    /// Answer `lookup`.
    pub tables: Tables,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Size of the key-value store of all plugins together.
    pub kv: KvLimits,
    /// Whom `http` trusts; the system's anchors, if none.
    pub tls: Option<net::tls::ClientTls>,
    /// Puts another seam in the place of the live one, or around it. Default: the live one itself.
    pub seam: MakeSeam,
}

/// Makes the seam of a host of the live one.
pub type MakeSeam = Arc<dyn Fn(Arc<dyn Seam>) -> Arc<dyn Seam> + Send + Sync>;

impl HostConfig {
    /// The defaults, with state and cache below one directory.
    pub fn new(directory: impl Into<PathBuf>, resolver: net::Resolver) -> Self {
        let directory = directory.into();
        Self {
            cache_dir: directory.join("cache"),
            state_dir: directory,
            compiler: Compiler::Here,
            threads: 2,
            tick: Duration::from_millis(2),
            slots: 1000,
            slot_wait: Duration::from_secs(2),
            longest_delay: Duration::from_secs(30),
            resolver,
            tables: Tables::default(),
            clock: Arc::new(SystemClock),
            kv: KvLimits::default(),
            tls: None,
            seam: Arc::new(|live| live),
        }
    }
}

/// Bounds of the key-value store as a whole.
#[derive(Clone, Debug)]
pub struct KvLimits {
    /// Octets of address space, and so of disk. Default 4 GiB.
    pub map_octets: usize,
    /// Plugins that may have a namespace. Default 256.
    pub namespaces: u32,
}

impl Default for KvLimits {
    fn default() -> Self {
        Self { map_octets: 4 << 30, namespaces: 256 }
    }
}

/// The time that plugins and traces see. Tests may freeze it.
pub trait Clock: Send + Sync + 'static {
    /// The time of day.
    fn now(&self) -> SystemTime;
    /// Time since an arbitrary point, never going back.
    fn monotonic(&self) -> Duration;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one clock of the room")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one clock of the room")]
    fn monotonic(&self) -> Duration {
        static START: std::sync::LazyLock<std::time::Instant> =
            std::sync::LazyLock::new(std::time::Instant::now);
        START.elapsed()
    }
}

/// Runs plugins. One for each server; cheap to share.
pub struct Host {
    current: ArcSwap<Chain>,
    services: Arc<Services>,
    linker: Linker<Guest>,
    cache: Arc<Cache>,
    kv: Arc<Store>,
    loads: AtomicU64,
}

impl Host {
    /// Starts the host with an empty chain. Call it inside the runtime of the server: DNS queries of plugins run there.
    pub fn new(config: HostConfig) -> Result<Arc<Self>, Error> {
        private_directory(&config.state_dir)?;
        let cache = Cache::open(
            &config.cache_dir,
            &config.state_dir.join("cache.key"),
            config.compiler,
            config.clock.clone(),
        )?;
        let kv = Store::open(&config.state_dir.join("kv"), &config.kv, config.clock.clone())?;
        let engine = engine::engine(config.slots)?;
        let ticker = Ticker::start(&engine, config.tick)?;
        let lanes = Lanes::start(config.threads).map_err(Error::Thread)?;
        let linker =
            imports::linker(&engine).map_err(|error| Error::Engine(format!("{error:#}")))?;
        let server =
            tokio::runtime::Handle::try_current().unwrap_or_else(|_| lanes.handle().clone());
        let tables = Arc::new(ArcSwap::from_pointee(config.tables));
        let live = Live {
            clock: config.clock.clone(),
            resolver: config.resolver,
            tables: tables.clone(),
            buckets: Buckets::default(),
            http: http::Client::new(config.tls),
            server: server.clone(),
        };
        let services = Services {
            ticker,
            tick: config.tick,
            clock: config.clock,
            seam: (config.seam)(Arc::new(live)),
            submit: ArcSwapOption::empty(),
            submitting: Arc::new(Semaphore::new(SUBMITTING)),
            submissions: Buckets::default(),
            tables,
            server,
            lanes,
            longest_delay: config.longest_delay,
            slots: Arc::new(Semaphore::new(config.slots as usize)),
            slot_wait: config.slot_wait,
            slots_of_a_plugin: (config.slots - config.slots / 4) as usize,
            slots_reserve: config.slots as usize / 4,
            engine,
        };
        Ok(Arc::new(Self {
            current: ArcSwap::from_pointee(Chain::default()),
            services: Arc::new(services),
            linker,
            cache: Arc::new(cache),
            kv,
            loads: AtomicU64::new(0),
        }))
    }

    /// Compiles, links, configures and checks a set of plugins aside. Nothing is live before [`install`](Self::install).
    /// All faults of all plugins are told at once.
    pub async fn load(
        self: &Arc<Self>,
        plugins: Vec<PluginConfig>,
    ) -> Result<Chain, Vec<LoadError>> {
        let mut chain = Chain::default();
        let mut faults = Vec::new();
        let mut names = BTreeSet::new();
        let loading = plugins.into_iter().map(|config| async {
            let name = config.name.clone();
            (name, load::plugin(self, config).await)
        });
        for (name, loaded) in futures_util::future::join_all(loading).await {
            let fault = |message| LoadError { plugin: name.clone(), message };
            if !names.insert(name.clone()) {
                faults.push(fault("a second plugin of this name".into()));
            }
            match loaded {
                Ok((core, info)) => {
                    chain.cores.push(core);
                    chain.infos.push(info);
                }
                Err(messages) => faults.extend(messages.into_iter().map(fault)),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        chain.generation = self.loads.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(chain)
    }

    /// Puts a chain in the place of the present one, in one step, for sessions that begin from now on.
    pub fn install(&self, chain: Chain) {
        chain.cores.iter().for_each(|core| core.show_breaker());
        self.current.store(Arc::new(chain));
    }

    /// The chain for a session that begins now.
    pub fn current(&self) -> Arc<Chain> {
        self.current.load_full()
    }

    /// Says where mail goes that plugins submit. Before that it is lost, and the log says so.
    pub fn set_submit(&self, submit: impl Submit) {
        let submit: Box<dyn Submit> = Box::new(submit);
        self.services.submit.store(Some(Arc::new(submit)));
    }

    /// Reads the files of all tables again. On any fault the old tables stay, all of them.
    pub fn reload_tables(&self) -> Result<(), Vec<TableError>> {
        let fresh = self.services.tables.load().reload()?;
        self.set_tables(fresh);
        Ok(())
    }

    /// Puts other tables in the place of the present ones, in one step, for all plugins.
    pub fn set_tables(&self, tables: Tables) {
        self.services.tables.store(Arc::new(tables));
    }
}
