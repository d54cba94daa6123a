//! Sessions that are made up: a client that a test or an administrator invents, at a server that listens nowhere. Every rule and
//! every stage holds for it as for a real one; what is decided is told as it is decided.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use policy::authentication::Results;
use policy::{AuthInfo, ContentView, TlsInfo, TraceEntry};
use smtp::Reply;
use smtp::sasl::Mechanism;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::{Address, Config, ListenerConfig, Role, TlsUse};
use crate::door::DoorLimits;
use crate::error::Error;
use crate::house::{Entrance, House, Rooms};
use crate::listener::Phase;
use crate::session::{self, ClientName, Peer, Session};
use crate::transaction::{Fate, Transaction};

/// A server without sockets.
pub struct Simulator {
    house: Arc<House>,
    phase: watch::Sender<Phase>,
}

/// A client that is made up.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// Where it connects from.
    pub client: SocketAddr,
    /// Where it connects to.
    pub server: SocketAddr,
    /// Its verified name; none lets the resolver find it.
    pub client_name: Option<String>,
    /// TLS that was agreed on before the greeting.
    pub tls: Option<TlsInfo>,
    /// Who is logged in from the beginning.
    pub login: Option<AuthInfo>,
    /// AUTH is offered, whatever the listener says about TLS and whoever is known.
    pub may_log_in: bool,
    /// What the checks of the sender say, in the place of the checks themselves.
    pub results: Option<Results>,
}

/// A session of a visitor.
#[derive(Debug)]
pub struct Visit {
    /// The client's end of the connection.
    pub stream: DuplexStream,
    /// What happens, in order; each event is here before the reply that it leads to.
    pub events: mpsc::UnboundedReceiver<Event>,
    /// Done when the session is over.
    pub session: JoinHandle<()>,
}

/// What happened in a session.
#[derive(Debug)]
pub enum Event {
    /// A plugin or a rule of the host answered.
    Decided(TraceEntry),
    /// The client is known by this name now.
    LoggedIn(String),
    /// A transaction ended.
    Ended(Box<Ended>),
}

/// A transaction that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The envelope, and all edits.
    pub transaction: policy::Transaction,
    /// How many of the edits, from the first, are the host's own.
    pub own_edits: usize,
    /// What plugins noted: in the session, and over it in the transaction.
    pub notes: BTreeMap<String, String>,
    /// `received`, `held`, `discarded`, `rejected`, `deferred`, `abandoned`.
    pub fate: &'static str,
    /// The reply that ended it.
    pub reply: Option<Reply>,
}

impl Simulator {
    /// A server as this configuration has it, on these rooms. What it accepts goes into their queue.
    pub fn new(mut config: Config, rooms: Rooms) -> Self {
        // Clients that are made up come as often and as quickly as somebody wants.
        config.limits.door = DoorLimits::none();
        let (phase, _) = watch::channel(Phase::Serving);
        Self { house: Arc::new(House::new(config, rooms)), phase }
    }

    /// Begins a session at the listener of this name, else at one of this role.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub async fn visit(&self, listener: &str, visitor: Visitor) -> Result<Option<Visit>, Error> {
        let Some(config) = self.listener(listener, &visitor) else { return Ok(None) };
        let role = config.role;
        let mut settings =
            session::settings(&self.house.config.hostname, &config, &self.house.directory().users);
        if visitor.may_log_in && settings.mechanisms.is_empty() {
            settings.mechanisms = vec![Mechanism::Plain, Mechanism::Login];
        }
        let tls = self.house.rooms.tls.listener()?;
        let entrance = Arc::new(Entrance::new(config, settings, tls));
        let (ours, theirs) = tokio::io::duplex(PIPE_OCTETS);
        let (sender, events) = mpsc::unbounded_channel();
        let peer = if role.is_injection() {
            Peer::local()
        } else {
            Peer { client: Some(visitor.client), server: visitor.server }
        };
        let mut session = Session::new(
            Arc::clone(&self.house),
            entrance,
            theirs.into(),
            peer,
            self.phase.subscribe(),
        );
        let name = match visitor.client_name {
            None if role == Role::Mx => self.name_of(visitor.client).await,
            name => name,
        };
        session.client_name = ClientName::known(name);
        if let Some(tls) = visitor.tls {
            session.policy.set_tls(tls);
        }
        if let Some(login) = visitor.login {
            session.login = Some(login.identity.clone());
            session.policy.set_auth(login);
        }
        session.simulated = Some(Box::new(Simulated {
            events: sender,
            login: session.login.clone(),
            results: visitor.results,
            session_entries: AtomicUsize::new(0),
            entries: AtomicUsize::new(0),
            own_edits: AtomicUsize::new(0),
        }));
        let session = tokio::spawn(Box::pin(session.run()));
        Ok(Some(Visit { stream: ours, events, session }))
    }

    /// The listener as this visitor meets it: the connection is as safe as it says, and who is logged in need not log in.
    fn listener(&self, name: &str, visitor: &Visitor) -> Option<ListenerConfig> {
        let listeners = &self.house.config.listeners;
        let named = listeners.iter().find(|listener| listener.name == name);
        let with_role = || listeners.iter().find(|listener| listener.role.name() == name);
        let mut config = match named.or_else(with_role) {
            Some(listener) => listener.clone(),
            None => {
                let role = ROLES.into_iter().find(|role| role.name() == name)?;
                ListenerConfig::new(name, role, Address::Unix(std::path::PathBuf::new()))
            }
        };
        if visitor.tls.is_some() || visitor.login.is_some() || visitor.may_log_in {
            config.tls = TlsUse::Off;
            config.auth_without_tls = true;
        }
        config.auth |= visitor.may_log_in;
        config.auth_required &= visitor.login.is_none();
        Some(config)
    }

    async fn name_of(&self, client: SocketAddr) -> Option<String> {
        self.house.rooms.resolver.names_of(client.ip()).await.ok()?.into_iter().next()
    }
}

/// What a session knows of its being made up.
pub(crate) struct Simulated {
    events: mpsc::UnboundedSender<Event>,
    login: Option<String>,
    results: Option<Results>,
    /// How much of the session's trace, and of the open transaction's, was told.
    session_entries: AtomicUsize,
    entries: AtomicUsize,
    /// The host's edits of the open transaction.
    own_edits: AtomicUsize,
}

impl Simulated {
    fn tell_entries(&self, told: &AtomicUsize, trace: &[TraceEntry]) {
        for entry in trace.iter().skip(told.swap(trace.len(), Ordering::Relaxed)) {
            self.tell(Event::Decided(entry.clone()));
        }
    }

    /// Who made the session up and does not listen any more need not know.
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

impl Session {
    /// Tells what was decided since the last time.
    pub(crate) fn show(&mut self) {
        let Some(simulated) = &mut self.simulated else { return };
        simulated.tell_entries(&simulated.session_entries, self.policy.trace());
        if let Some(transaction) = &self.transaction {
            simulated.tell_entries(&simulated.entries, &transaction.policy.trace);
        }
        if self.login.is_some() && self.login != simulated.login {
            simulated.login.clone_from(&self.login);
            simulated.tell(Event::LoggedIn(self.login.clone().unwrap_or_default()));
        }
    }

    /// Tells how a transaction ended.
    pub(crate) fn show_end(&self, transaction: &Transaction, fate: Fate, reply: Option<&Reply>) {
        let Some(simulated) = &self.simulated else { return };
        simulated.tell_entries(&simulated.session_entries, self.policy.trace());
        simulated.tell_entries(&simulated.entries, &transaction.policy.trace);
        simulated.entries.store(0, Ordering::Relaxed);
        let mut notes: BTreeMap<String, String> =
            self.policy.notes().map(|(key, value)| (key.clone(), value.clone())).collect();
        notes.extend(transaction.policy.notes.clone());
        simulated.tell(Event::Ended(Box::new(Ended {
            transaction: transaction.policy.clone(),
            own_edits: simulated.own_edits.swap(0, Ordering::Relaxed),
            notes,
            fate: fate.name(),
            reply: reply.cloned(),
        })));
    }

    /// What the checks of the sender are to have said; none if they are made.
    pub(crate) fn made_up_results(&self) -> Option<&Results> {
        self.simulated.as_ref()?.results.as_ref()
    }

    /// The content with what was made up about its sender. All edits so far are the host's.
    pub(crate) fn made_up(&self, content: ContentView, transaction: &Transaction) -> ContentView {
        let Some(simulated) = &self.simulated else { return content };
        simulated.own_edits.store(transaction.policy.edits.len(), Ordering::Relaxed);
        match &simulated.results {
            Some(results) => content.with_results(results.clone()),
            None => content,
        }
    }
}

/// Where a visitor may come in besides the listeners of the configuration.
const ROLES: [Role; 6] =
    [Role::Mx, Role::Submission, Role::Submissions, Role::Lmtp, Role::Local, Role::Plugin];
/// A few blocks of content.
const PIPE_OCTETS: usize = 256 * 1024;
