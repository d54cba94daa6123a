//! The hosts that we call: who may connect now, and connections that wait for the next message.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use smtp::Reply;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use crate::{
    House, Limits,
    destination::{Destination, DestinationState, Spot, spots},
    pace::{Leave, PaceLimits},
    rate::Rate,
    reading::News,
    resolve::Target,
    smtp::Session,
};

/// What is known of all hosts. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<Shared>);

/// A view of the hosts that mail went to lately; it lives on its own, beside
/// [`Delivery`](crate::Delivery).
#[derive(Clone)]
pub struct Destinations(Weak<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    hosts: Mutex<Hosts>,
}

#[derive(Debug, Default)]
struct Hosts {
    by_number: HashMap<u64, Destination>,
    by_spot: HashMap<Spot, u64>,
    last_number: u64,
    closed: bool,
}

/// A host that somebody wants to talk to.
pub(crate) struct Call<'a> {
    pub(crate) target: &'a Target,
    /// Where the mail goes, for whoever looks.
    pub(crate) route: &'a str,
    pub(crate) rate: Option<Rate>,
    /// An idle session would not do.
    pub(crate) has_to_be_new: bool,
}

/// The right to one connection; given back when it is dropped.
pub(crate) struct Place {
    pool: Weak<Shared>,
    number: u64,
    began: Instant,
}

/// What comes of a call.
pub(crate) enum Entry {
    /// A session that is open already.
    Reused(Box<Session>),
    /// Leave to make a new one.
    New(Place),
    /// Too many others, or too many messages in this time: come again.
    Later(Duration),
    /// The host gave no session lately: this is what it, or the network, said.
    Down(Reply),
}

impl Pool {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Shared { limits: limits.clone(), hosts: Mutex::default() }))
    }

    pub(crate) fn view(&self) -> Destinations {
        Destinations(Arc::downgrade(&self.0))
    }

    /// An idle session with this host, unless it has to be a new one, or a place for a new one.
    /// Waits for one as long as the limits allow.
    pub(crate) async fn enter(&self, call: Call<'_>) -> Entry {
        let waiting = Waiting::new(self, &call);
        let entering = async {
            loop {
                // Asked for before the look, so that nothing that is freed in between is missed.
                let freed = waiting.freed.notified();
                if let Some(entry) = self.try_enter(waiting.number, &call) {
                    return entry;
                }
                freed.await;
            }
        };
        match timeout(self.0.limits.wait_for_connection, entering).await {
            Ok(entry) => entry,
            Err(_) => Entry::Later(self.turn_away(waiting.number)),
        }
    }

    /// `None`: somebody has to give a place back first.
    fn try_enter(&self, number: u64, call: &Call<'_>) -> Option<Entry> {
        while let Some(mut session) = self.idle_session(number, call) {
            if session.is_silent() {
                return Some(match self.metered(number, call) {
                    Ok(()) => Entry::Reused(Box::new(session)),
                    Err(wait) => {
                        self.keep_or_quit(session);
                        Entry::Later(wait)
                    }
                });
            }
        }
        let (entry, unwanted) = self.try_new(number, call);
        if let Some(unwanted) = unwanted {
            farewell(unwanted);
        }
        entry
    }

    fn idle_session(&self, number: u64, call: &Call<'_>) -> Option<Session> {
        if call.has_to_be_new {
            return None;
        }
        self.lock().by_number.get_mut(&number)?.take_idle(call.target)
    }

    fn metered(&self, number: u64, call: &Call<'_>) -> Result<(), Duration> {
        let mut hosts = self.lock();
        match (&call.rate, hosts.by_number.get_mut(&number)) {
            (Some(rate), Some(destination)) => destination.meter.take(rate, Instant::now()),
            _ => Ok(()),
        }
    }

    /// A place for a new connection, or why there is none; and a session that has to go for it.
    fn try_new(&self, number: u64, call: &Call<'_>) -> (Option<Entry>, Option<Session>) {
        let mut hosts = self.lock();
        let now = Instant::now();
        let Some(destination) = hosts.by_number.get_mut(&number) else { return (None, None) };
        let entry = match destination.pace.leave(destination.open, now) {
            Leave::Granted => {
                let metered = call.rate.map_or(Ok(()), |rate| destination.meter.take(&rate, now));
                match metered {
                    Ok(()) => {
                        destination.open += 1;
                        Entry::New(Place { pool: Arc::downgrade(&self.0), number, began: now })
                    }
                    Err(wait) => Entry::Later(wait),
                }
            }
            Leave::Down(until) => Entry::Down(destination.left_alone(call.target, until)),
            Leave::Probing => Entry::Later(destination.turn_away()),
            Leave::Full if destination.waiting > MOST_WAITING => {
                Entry::Later(destination.turn_away())
            }
            // An idle session of another kind (other credentials, other address) makes room.
            Leave::Full => return (None, destination.idle.pop()),
        };
        (Some(entry), None)
    }

    fn turn_away(&self, number: u64) -> Duration {
        let mut hosts = self.lock();
        let destination = hosts.by_number.get_mut(&number);
        destination.map_or(Duration::ZERO, Destination::turn_away)
    }

    /// Keeps a session for the next message, if it is worth keeping; else says good-bye.
    pub(crate) fn keep_or_quit(&self, session: Session) {
        if let Some(unwanted) = self.keep(session) {
            farewell(unwanted);
        }
    }

    fn keep(&self, mut session: Session) -> Option<Session> {
        let limits = &self.0.limits;
        let is_worn = session.used >= limits.messages_per_connection
            || session.opened.elapsed() >= limits.connection_age
            || limits.idle_connection.is_zero();
        let mut hosts = self.lock();
        let closed = hosts.closed;
        let destination = hosts.by_number.get_mut(&session.place.number);
        let Some(destination) = destination.filter(|_| !closed && !is_worn) else {
            return Some(session);
        };
        if !session.can_begin() || destination.open > destination.pace.allowed() {
            return Some(session);
        }
        session.idle_since = Instant::now();
        destination.idle.push(session);
        destination.freed.notify_waiters();
        None
    }

    /// Drops all idle sessions and keeps none from now on.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        drop(self.expired(true));
    }

    /// Sessions that waited too long, or all of them; hosts that had no mail for long are forgotten.
    fn expired(&self, all: bool) -> Vec<Session> {
        let now = Instant::now();
        let limits = &self.0.limits;
        let is_over = |session: &Session| {
            all || now - session.idle_since >= limits.idle_connection
                || now - session.opened >= limits.connection_age
        };
        let mut hosts = self.lock();
        let expired = (hosts.by_number.values_mut())
            .flat_map(|destination| destination.expired(is_over))
            .collect();
        hosts.forget(|destination| destination.is_stale(now));
        expired
    }

    fn lock(&self) -> MutexGuard<'_, Hosts> {
        self.0.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Hosts> {
        // What is inside is valid between any two statements, so a panic elsewhere does not matter.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hosts {
    /// The host of a target: the one that has one of its addresses, or a new one.
    fn number(&mut self, call: &Call<'_>, limits: &Limits) -> u64 {
        let known = spots(call.target).find_map(|spot| self.by_spot.get(&spot).copied());
        let number = known.unwrap_or_else(|| {
            if self.by_number.len() >= MOST_KNOWN {
                self.forget(Destination::is_unused);
            }
            self.last_number += 1;
            self.last_number
        });
        let new = || Destination::new(limits.pace());
        let destination = self.by_number.entry(number).or_insert_with(new);
        for spot in destination.called(call.target, call.route) {
            self.by_spot.entry(spot).or_insert(number);
        }
        number
    }

    fn forget(&mut self, is_over: impl Fn(&Destination) -> bool) {
        let over = self.by_number.extract_if(|_, destination| is_over(destination));
        for (number, destination) in over {
            for spot in destination.spots() {
                // Another host may have had the place before.
                if self.by_spot.get(spot) == Some(&number) {
                    self.by_spot.remove(spot);
                }
            }
        }
    }
}

impl Destinations {
    /// All hosts that mail went to lately, by name. One short lock, no I/O.
    #[must_use]
    pub fn snapshot(&self) -> Vec<DestinationState> {
        let Some(shared) = self.0.upgrade() else { return Vec::new() };
        let now = Instant::now();
        let mut states: Vec<DestinationState> =
            shared.lock().by_number.values().map(|destination| destination.state(now)).collect();
        states.sort_by(|one, other| one.hosts.cmp(&other.hosts));
        states
    }
}

impl fmt::Debug for Destinations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Destinations")
    }
}

impl Place {
    /// The addresses of a host in the order in which they are to be called.
    pub(crate) fn order(&self, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let addresses = addresses.to_vec();
        self.with(|destination| destination.order(addresses)).unwrap_or_default()
    }

    /// These addresses were called in vain, or too slow.
    pub(crate) fn passed(&self, addresses: &[SocketAddr]) {
        self.with(|destination| destination.passed(addresses));
    }

    /// What came of a try that began then. True if there are other connections to the host.
    pub(crate) fn tell(&self, news: News, began: Instant, reply: &Reply) -> bool {
        let now = Instant::now();
        let others = self.with(|destination| {
            destination.heard(reply);
            let open = destination.open;
            match news {
                News::Taken => destination.pace.succeeded(open),
                News::Answered => destination.pace.answered(),
                News::Strained => destination.pace.strained(began, now),
                News::Unavailable => destination.failed(began, now, reply),
            }
            destination.freed.notify_waiters();
            open > 1
        });
        others.unwrap_or(false)
    }

    /// When it was granted.
    pub(crate) const fn began(&self) -> Instant {
        self.began
    }

    fn with<T>(&self, work: impl FnOnce(&mut Destination) -> T) -> Option<T> {
        let shared = self.pool.upgrade()?;
        let mut hosts = shared.lock();
        hosts.by_number.get_mut(&self.number).map(work)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.with(|destination| {
            destination.open -= 1;
            destination.freed.notify_waiters();
        });
    }
}

/// An attempt in [`Pool::enter`]: while it is there its host is not forgotten.
struct Waiting<'a> {
    pool: &'a Pool,
    number: u64,
    freed: Arc<Notify>,
}

impl<'a> Waiting<'a> {
    fn new(pool: &'a Pool, call: &Call<'_>) -> Self {
        let mut hosts = pool.lock();
        let number = hosts.number(call, &pool.0.limits);
        let destination = hosts.by_number.get_mut(&number).expect("a number names a host");
        destination.waiting += 1;
        Self { pool, number, freed: Arc::clone(&destination.freed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(destination) = self.pool.lock().by_number.get_mut(&self.number) {
            destination.waiting -= 1;
        }
    }
}

impl Limits {
    const fn pace(&self) -> PaceLimits {
        PaceLimits {
            most: self.connections_per_host,
            down_first: self.down_first,
            down_longest: self.down_longest,
        }
    }
}

/// Says good-bye without anybody waiting for it.
pub(crate) fn farewell(session: Session) {
    tokio::spawn(session.quit());
}

/// Says good-bye on connections that nobody needed, until the room stops; then on all.
pub(crate) async fn sweep(house: Arc<House>, mut stopped: watch::Receiver<bool>) {
    loop {
        let stopping = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => true,
            () = tokio::time::sleep(SWEEP) => false,
        };
        house.pool.expired(stopping).into_iter().for_each(farewell);
        if stopping {
            return;
        }
    }
}

// Short beside the time that idle connections are kept.
const SWEEP: Duration = Duration::from_millis(500);
// As many as the queue hands out for one domain; a hundred domains at one slow host do not take
// all attempts.
const MOST_WAITING: usize = 20;
// Hosts that are remembered; each takes a few hundred octets.
const MOST_KNOWN: usize = 10_000;
