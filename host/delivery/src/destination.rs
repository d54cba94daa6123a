//! One host that we call, shared by all domains whose mail goes there: what is known of it, and
//! what of that is shown.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    mem,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use smtp::Reply;
use tokio::{sync::Notify, time::Instant};

use crate::{
    clock,
    pace::{Pace, PaceLimits},
    rate::Meter,
    resolve::{Place, Target},
    smtp::Session,
};

/// One host, a set of addresses that belong together, as it is seen at a moment.
#[derive(Clone, Debug)]
pub struct DestinationState {
    /// Names under which it was called lately, sorted; at most 16. A Unix socket has its path.
    pub hosts: Vec<String>,
    /// Its addresses: `192.0.2.1:25`, `[2001:db8::1]:25`. None for a Unix socket.
    pub addresses: Vec<String>,
    /// [`smtp::Route::destination`] of mail that went there lately, sorted; at most 100.
    pub routes: Vec<String>,
    /// Messages on their way over its connections.
    pub in_flight: usize,
    /// Open connections, idle ones included.
    pub connections: usize,
    /// Connections that wait for a message.
    pub idle: usize,
    /// Attempts that wait for a connection.
    pub waiting: usize,
    /// Connections that it may have at the moment.
    pub concurrency: usize,
    /// The last word about it: the host's own, or ours.
    pub last_reply: Option<Reply>,
    /// When that was.
    pub last_reply_at: Option<SystemTime>,
    /// It gave no session, and is not called before then.
    pub down_until: Option<SystemTime>,
    /// Failures to open a session, in a row.
    pub failures: u32,
}

/// Where a host is. Two targets that share one such place are the same host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Spot {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What is known of a host.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) pace: Pace,
    pub(crate) meter: Meter,
    /// Connections, those being made and idle ones included.
    pub(crate) open: usize,
    pub(crate) waiting: usize,
    pub(crate) idle: Vec<Session>,
    /// A place or a session became free, or the host is called no more.
    pub(crate) freed: Arc<Notify>,
    spots: BTreeSet<Spot>,
    names: Recent,
    routes: Recent,
    /// Addresses that failed or were overtaken by another one, and when.
    slow: HashMap<SocketAddr, Instant>,
    last: Option<(Reply, SystemTime)>,
    /// The last moment that was promised to an attempt that found no place.
    promised: Option<Instant>,
    used: Instant,
}

impl Destination {
    pub(crate) fn new(limits: PaceLimits) -> Self {
        Self {
            pace: Pace::new(limits),
            meter: Meter::default(),
            open: 0,
            waiting: 0,
            idle: Vec::new(),
            freed: Arc::default(),
            spots: BTreeSet::new(),
            names: Recent::new(16),
            routes: Recent::new(100),
            slow: HashMap::new(),
            last: None,
            promised: None,
            used: Instant::now(),
        }
    }

    /// It is called by this name, for mail that goes this way. Gives the places that are new.
    pub(crate) fn called(&mut self, target: &Target, route: &str) -> Vec<Spot> {
        self.used = Instant::now();
        self.names.add(&target.name);
        self.routes.add(route);
        let new = spots(target).filter(|spot| !self.spots.contains(spot));
        let new: Vec<Spot> = new.take(MOST_SPOTS.saturating_sub(self.spots.len())).collect();
        self.spots.extend(new.iter().cloned());
        new
    }

    /// Places in whose name it is found.
    pub(crate) const fn spots(&self) -> &BTreeSet<Spot> {
        &self.spots
    }

    /// An idle session that may carry mail for this target.
    pub(crate) fn take_idle(&mut self, target: &Target) -> Option<Session> {
        let key = target.key();
        let fits = |session: &Session| session.key == key && target.has(&session.peer.endpoint);
        let last = self.idle.iter().rposition(fits)?;
        Some(self.idle.remove(last))
    }

    /// Words about it.
    pub(crate) fn heard(&mut self, reply: &Reply) {
        self.used = Instant::now();
        self.last = Some((reply.clone(), clock::now()));
    }

    /// It gave no session to an attempt that began then.
    pub(crate) fn failed(&mut self, began: Instant, now: Instant, reply: &Reply) {
        let before = self.pace.failures();
        self.pace.failed(self.open.saturating_sub(1), began, now);
        if self.pace.failures() > before
            && let Some(until) = self.pace.down_until(now)
        {
            let (hosts, seconds) = (self.names.sorted().join(" "), (until - now).as_secs());
            tracing::info!(hosts, seconds, %reply, "a host gives no session and is left alone");
        }
    }

    /// The reply of a message that is not even tried.
    pub(crate) fn left_alone(&self, target: &Target, until: Instant) -> Reply {
        let status = (self.last.as_ref())
            .and_then(|(reply, _)| reply.enhanced())
            .filter(|status| status.class == 4)
            .map_or_else(|| "4.4.1".to_owned(), |status| status.to_string());
        let seconds = (until - Instant::now()).as_secs() + 1;
        let last = self.last.as_ref().map(|(reply, _)| format!(": {reply}")).unwrap_or_default();
        let name = &target.name;
        Reply::new(
            451,
            format!("{status} {name} gave no session and is left alone for {seconds} s{last}"),
        )
    }

    /// These addresses were called in vain, or too slow.
    pub(crate) fn passed(&mut self, addresses: &[SocketAddr]) {
        let now = Instant::now();
        self.slow.retain(|_, since| now - *since < REMEMBERED);
        if self.slow.len() < MOST_SPOTS {
            self.slow.extend(addresses.iter().map(|address| (*address, now)));
        }
    }

    /// Addresses in the order of calling: those that lately did not answer come last.
    pub(crate) fn order(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let is_slow = |address: &SocketAddr| {
            self.slow.get(address).is_some_and(|since| since.elapsed() < REMEMBERED)
        };
        addresses.sort_by_key(is_slow);
        addresses
    }

    /// When an attempt that found no place is to come again. Each is told another moment, so that
    /// they do not all come together.
    pub(crate) fn turn_away(&mut self) -> Duration {
        let now = Instant::now();
        let soonest = now + SOONEST;
        let at = self.promised.map_or(soonest, |last| soonest.max(last + STEP)).min(now + LATEST);
        self.promised = Some(at);
        at - now
    }

    /// True if nobody uses it.
    pub(crate) fn is_unused(&self) -> bool {
        self.open == 0 && self.waiting == 0
    }

    /// True if nothing that is known of it is worth remembering any more.
    pub(crate) fn is_stale(&self, now: Instant) -> bool {
        self.is_unused() && self.pace.down_until(now).is_none() && now - self.used >= REMEMBERED
    }

    pub(crate) fn state(&self, now: Instant) -> DestinationState {
        let addresses = self.spots.iter().filter_map(|spot| match spot {
            Spot::Tcp(address) => Some(address.to_string()),
            Spot::Unix(_) => None,
        });
        let down = self.pace.down_until(now);
        DestinationState {
            hosts: self.names.sorted(),
            addresses: addresses.collect(),
            routes: self.routes.sorted(),
            in_flight: self.open.saturating_sub(self.idle.len()),
            connections: self.open,
            idle: self.idle.len(),
            waiting: self.waiting,
            concurrency: self.pace.allowed(),
            last_reply: self.last.as_ref().map(|(reply, _)| reply.clone()),
            last_reply_at: self.last.as_ref().map(|(_, time)| *time),
            down_until: down.map(|until| clock::now() + (until - now)),
            failures: self.pace.failures(),
        }
    }

    /// Takes the idle sessions that are over, or all.
    pub(crate) fn expired(&mut self, is_over: impl Fn(&Session) -> bool) -> Vec<Session> {
        let (over, kept) = mem::take(&mut self.idle).into_iter().partition(is_over);
        self.idle = kept;
        over
    }
}

/// The places of a target.
pub(crate) fn spots(target: &Target) -> impl Iterator<Item = Spot> {
    let (addresses, path) = match &target.place {
        Place::Tcp(addresses) => (addresses.clone(), None),
        Place::Unix(path) => (Vec::new(), Some(Spot::Unix(path.clone()))),
    };
    addresses.into_iter().map(Spot::Tcp).chain(path)
}

/// The last few different texts.
#[derive(Debug)]
struct Recent {
    texts: VecDeque<String>,
    most: usize,
}

impl Recent {
    const fn new(most: usize) -> Self {
        Self { texts: VecDeque::new(), most }
    }

    fn add(&mut self, text: &str) {
        match self.texts.iter().position(|known| known == text) {
            Some(place) => {
                let known = self.texts.remove(place);
                self.texts.extend(known);
            }
            None => self.texts.push_back(text.to_owned()),
        }
        if self.texts.len() > self.most {
            self.texts.pop_front();
        }
    }

    fn sorted(&self) -> Vec<String> {
        let mut texts: Vec<String> = self.texts.iter().cloned().collect();
        texts.sort();
        texts
    }
}

// A host with more addresses is known by the first.
const MOST_SPOTS: usize = 64;
// How long a slow address is called last, and a host without mail is remembered. A connection is
// idle for seconds and a retry comes after 5 minutes, so what was learnt serves the next attempts.
const REMEMBERED: Duration = Duration::from_mins(10);
// An attempt that finds no place comes again after this, ten attempts in each second, and not later
// than that.
const SOONEST: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(100);
const LATEST: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_few_texts_are_kept() {
        let mut recent = Recent::new(2);
        for text in ["a", "b", "a", "c"] {
            recent.add(text);
        }
        assert_eq!(recent.sorted(), ["a", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_is_told_another_moment_each() {
        let limits = PaceLimits { most: 1, down_first: SOONEST, down_longest: SOONEST };
        let mut destination = Destination::new(limits);
        let waits: Vec<_> = (0..3).map(|_| destination.turn_away().as_millis()).collect();
        assert_eq!(waits, [5000, 5100, 5200]);
        let last = (0..100_000).map(|_| destination.turn_away()).last();
        assert_eq!(last, Some(LATEST));
        tokio::time::advance(2 * LATEST).await;
        assert_eq!(destination.turn_away(), SOONEST);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_addresses_come_last_for_a_while() {
        let limits = PaceLimits { most: 1, down_first: SOONEST, down_longest: SOONEST };
        let mut destination = Destination::new(limits);
        let address = |last: u8| SocketAddr::from(([192, 0, 2, last], 25));
        let all = vec![address(1), address(2), address(3)];
        destination.passed(&[address(1)]);
        let order = destination.order(all.clone());
        assert_eq!(order, [address(2), address(3), address(1)]);
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(destination.order(all.clone()), all);
    }
}
