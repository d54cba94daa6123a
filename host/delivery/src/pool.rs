//! Connections that wait for the next message, and how many there may be to one host.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout},
};

use crate::{House, Limits, smtp::Session};

/// Idle sessions and places by host.
#[derive(Debug)]
pub(crate) struct Pool {
    per_host: usize,
    messages: u32,
    idle: Duration,
    wait: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    hosts: HashMap<String, Arc<Places>>,
    sessions: HashMap<String, Vec<Session>>,
    closed: bool,
}

/// The places for connections to one host.
#[derive(Debug)]
struct Places {
    free: Arc<Semaphore>,
    /// A place or a session became free.
    freed: Notify,
}

/// The right to one connection; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    places: Arc<Places>,
}

/// A way to talk to a host.
pub(crate) enum Entry {
    /// A session that is open already.
    Reused(Box<Session>),
    /// Leave to make a new one.
    New(Place),
}

impl Pool {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            per_host: limits.connections_per_host.max(1),
            messages: limits.messages_per_connection,
            idle: limits.idle_connection,
            wait: limits.wait_for_connection,
            inner: Mutex::default(),
        }
    }

    /// An idle session with this host, unless it has to be a new one, or a place for a new one.
    /// `None` when neither was to be had for as long as we wait.
    pub(crate) async fn enter(&self, key: &str, has_to_be_new: bool) -> Option<Entry> {
        let places = self.places(key);
        let entering = async {
            loop {
                let freed = places.freed.notified();
                if !has_to_be_new && let Some(session) = self.take(key) {
                    return Entry::Reused(Box::new(session));
                }
                if let Ok(permit) = Arc::clone(&places.free).try_acquire_owned() {
                    return Entry::New(Place { permit: Some(permit), places: Arc::clone(&places) });
                }
                freed.await;
            }
        };
        timeout(self.wait, entering).await.ok()
    }

    fn places(&self, key: &str) -> Arc<Places> {
        let new = || {
            Arc::new(Places { free: Arc::new(Semaphore::new(self.per_host)), freed: Notify::new() })
        };
        Arc::clone(self.lock().hosts.entry(key.to_owned()).or_insert_with(new))
    }

    /// An idle session that still stands. Others are dropped, outside the lock.
    fn take(&self, key: &str) -> Option<Session> {
        loop {
            let mut session = self.lock().sessions.get_mut(key)?.pop()?;
            if session.is_silent() {
                return Some(session);
            }
        }
    }

    /// Keeps a session for the next message, if it is worth keeping; else it comes back, to be
    /// closed.
    pub(crate) fn keep(&self, mut session: Session) -> Option<Session> {
        let mut inner = self.lock();
        if inner.closed
            || self.idle.is_zero()
            || session.used >= self.messages
            || !session.can_begin()
        {
            return Some(session);
        }
        session.idle_since = Instant::now();
        let places = inner.hosts.get(&session.key).cloned();
        inner.sessions.entry(session.key.clone()).or_default().push(session);
        drop(inner);
        if let Some(places) = places {
            places.freed.notify_one();
        }
        None
    }

    /// Drops all idle sessions and keeps none from now on.
    pub(crate) fn close(&self) {
        let dropped = {
            let mut inner = self.lock();
            inner.closed = true;
            mem::take(&mut inner.sessions)
        };
        drop(dropped);
    }

    /// Sessions that waited too long, or all of them; hosts without any connection are forgotten.
    fn expired(&self, all: bool) -> Vec<Session> {
        let now = Instant::now();
        let mut expired = Vec::new();
        let mut inner = self.lock();
        for sessions in inner.sessions.values_mut() {
            expired.extend(
                sessions.extract_if(.., |session| all || now - session.idle_since >= self.idle),
            );
        }
        inner.sessions.retain(|_, sessions| !sessions.is_empty());
        inner.hosts.retain(|_, places| Arc::strong_count(places) > 1);
        expired
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is inside is valid between any two statements, so a panic elsewhere does not matter.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.places.freed.notify_one();
    }
}

/// Says good-bye on connections that nobody needed, until the room stops; then on all.
pub(crate) async fn sweep(house: Arc<House>, mut stopped: watch::Receiver<bool>) {
    loop {
        let stopping = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => true,
            () = tokio::time::sleep(SWEEP) => false,
        };
        for session in house.pool.expired(stopping) {
            tokio::spawn(session.quit());
        }
        if stopping {
            return;
        }
    }
}

// Short beside the time that idle connections are kept.
const SWEEP: Duration = Duration::from_millis(500);
