//! What all sessions of a server share.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use message::Id;
use net::tls::ServerTls;
use net::{Permits, Resolver};
use policy::trace::Journal;
use queue::Queue;
use smtp::server::Settings;
use tokio::sync::watch;

use crate::authenticate;
use crate::config::{Config, Directory, ListenerConfig};
use crate::counters::{Counters, SessionCounters};
use crate::door::Door;
use crate::users::Throttle;

/// The rooms that incoming mail meets.
#[derive(Clone)]
pub struct Rooms {
    /// Where messages go.
    pub queue: Queue,
    /// Who is asked.
    pub policy: Arc<policy::Host>,
    /// Our certificates.
    pub tls: ServerTls,
    /// Finds the names of clients, and what domains say about their mail.
    pub resolver: Resolver,
    /// Where the story of each transaction is told.
    pub journal: Journal,
}

/// One listener, with what all its sessions share.
pub(crate) struct Entrance {
    pub(crate) config: ListenerConfig,
    /// How the machines of its sessions are set up; it depends on who may log in.
    settings: RwLock<Arc<Settings>>,
    /// Its own, so that a TLS session of one service is not resumed on another.
    pub(crate) tls: ServerTls,
    pub(crate) counters: SessionCounters,
}

impl Entrance {
    pub(crate) fn new(config: ListenerConfig, settings: Settings, tls: ServerTls) -> Self {
        let counters = SessionCounters::new(&config.name);
        Self { config, settings: RwLock::new(Arc::new(settings)), tls, counters }
    }

    /// How the machine of a new session is set up.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_settings(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }
}

/// Configuration, rooms, permits and names: what a session needs from its server.
pub(crate) struct House {
    pub(crate) config: Config,
    directory: RwLock<Arc<Directory>>,
    pub(crate) rooms: Rooms,
    pub(crate) permits: Permits,
    pub(crate) pressure: Arc<Pressure>,
    pub(crate) counters: Counters,
    pub(crate) logins: Throttle,
    pub(crate) door: Door,
    /// Says who mail is from.
    pub(crate) verifier: auth::Verifier,
    unique: AtomicU32,
}

impl House {
    pub(crate) fn new(config: Config, rooms: Rooms) -> Self {
        let permits = Permits::new(config.limits.sessions, config.limits.sessions_per_address)
            .with_per_network(config.limits.sessions_per_network);
        // Two servers, and a server after its restart, begin at different numbers.
        let first = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0) as u32;
        let logins = Throttle::new(config.limits.logins.clone());
        let directory = RwLock::new(Arc::new(config.directory.clone()));
        let unique = AtomicU32::new(first);
        let verifier = authenticate::verifier(&config.authentication, &rooms.resolver);
        let (pressure, counters, door) = (Arc::default(), Counters::new(), Door::default());
        Self {
            config,
            directory,
            rooms,
            permits,
            pressure,
            counters,
            logins,
            door,
            verifier,
            unique,
        }
    }

    /// Whom we know now.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_directory(&self, directory: Directory) {
        *self.directory.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(directory);
    }

    /// A name for a session or a transaction.
    pub(crate) fn new_id(&self) -> Id {
        Id::new(now(), self.unique.fetch_add(1, Ordering::Relaxed))
    }
}

/// How short of memory the machine is. Who watches it says so; sessions obey.
#[derive(Debug, Default)]
pub struct Pressure {
    shedding: AtomicBool,
    short: watch::Sender<bool>,
}

impl Pressure {
    /// While this is set, sessions that wait for their clients between two transactions hold no instances of plugins.
    pub fn set_short(&self, short: bool) {
        self.short.send_replace(short);
    }

    /// While this is set, new sessions hear 421 4.3.2 in place of the greeting; those that are open go on.
    pub fn set_shedding(&self, shedding: bool) {
        self.shedding.store(shedding, Ordering::Relaxed);
    }

    pub(crate) fn is_shedding(&self) -> bool {
        self.shedding.load(Ordering::Relaxed)
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<bool> {
        self.short.subscribe()
    }
}

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "this is the one clock of the room")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}
