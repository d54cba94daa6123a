//! Mail goes out, or home: where each recipient's copy goes, the attempts to bring it there, and
//! the reports about what came of them.
//!
//! The room meets the others in the queue only: it takes [`queue::Delivery`] and [`queue::Notice`],
//! and gives outcomes and new messages. One attempt is four steps: resolve, connect, converse,
//! report.

mod bounce;
mod clock;
mod config;
mod content;
mod course;
mod destination;
mod dial;
mod forwarding;
mod list;
mod lmtp;
mod mailbox;
mod maildir;
mod metric;
mod notice;
mod pace;
mod pool;
mod quota;
mod rate;
mod reading;
mod report;
mod resolve;
mod router;
mod smtp;
mod worker;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use net::{Resolver, tls::ClientTls};
use policy::trace::Journal;
use tokio::{sync::watch, task::JoinHandle};

pub use self::{
    config::{Config, Limits, RouteRule, RouteTarget},
    destination::DestinationState,
    pool::Destinations,
    quota::refusal as quota_refusal,
    rate::{Rate, RateError},
};
use self::{maildir::Maildirs, pool::Pool, router::Router};

/// The rooms below that delivery works with.
#[derive(Clone)]
pub struct Rooms {
    /// Where work comes from and outcomes go.
    pub queue: queue::Queue,
    /// Plugins at the stages `route` and `outcome`. `None`: nobody is asked.
    pub policy: Option<Arc<policy::Host>>,
    /// Answers for MX and addresses.
    pub resolver: Resolver,
    /// TLS towards other hosts.
    pub tls: ClientTls,
    /// Where attempts are written down. `None`: nowhere.
    pub journal: Option<Journal>,
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rooms").finish_non_exhaustive()
    }
}

/// The room at work. Dropped without [`Delivery::stop`], it finishes nothing.
#[derive(Debug)]
pub struct Delivery {
    stopping: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    house: Arc<House>,
}

/// What all tasks of the room share.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) config: Config,
    /// The routes, logins and local domains that hold now.
    routing: RwLock<Arc<Config>>,
    pub(crate) rooms: Rooms,
    pub(crate) pool: Pool,
    pub(crate) maildirs: Maildirs,
}

impl Delivery {
    /// Gives the queue its router and begins to deliver.
    #[must_use]
    pub fn start(config: Config, rooms: Rooms) -> Self {
        metric::describe();
        let house = Arc::new(House {
            pool: Pool::new(&config.limits),
            maildirs: Maildirs::new(&config.hostname),
            routing: RwLock::new(Arc::new(config.clone())),
            config,
            rooms,
        });
        house.rooms.queue.set_router(Arc::new(Router::new(&house.config, &house.rooms)));
        let (stopping, stopped) = watch::channel(false);
        let tasks = vec![
            tokio::spawn(worker::run(Arc::clone(&house), stopped.clone())),
            tokio::spawn(bounce::run(Arc::clone(&house), stopped.clone())),
            tokio::spawn(pool::sweep(Arc::clone(&house), stopped)),
        ];
        Self { stopping, tasks, house }
    }

    /// From now on mail goes by the routes, logins and local domains of `config`; all else of it is
    /// taken in at the next start. Attempts under way end as they began.
    pub fn set_routing(&self, config: Config) {
        let router = Router::new(&config, &self.house.rooms);
        *self.house.routing.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        self.house.rooms.queue.set_router(Arc::new(router));
    }

    /// The hosts that mail went to lately, as they are now.
    #[must_use]
    pub fn destinations(&self) -> Vec<DestinationState> {
        self.destinations_handle().snapshot()
    }

    /// The same for somebody who does not hold the room.
    #[must_use]
    pub fn destinations_handle(&self) -> Destinations {
        self.house.pool.view()
    }

    /// Takes no more work, lets attempts under way go on for at most `grace`, then drops them:
    /// their recipients are due again after the next start.
    pub async fn stop(mut self, grace: Duration) {
        let _ = self.stopping.send(true);
        let deadline = tokio::time::Instant::now() + grace;
        for task in &mut self.tasks {
            if tokio::time::timeout_at(deadline, &mut *task).await.is_err() {
                task.abort();
            }
        }
        self.house.pool.close();
    }
}

impl House {
    /// Routes, logins and local domains.
    pub(crate) fn routing(&self) -> Arc<Config> {
        Arc::clone(&self.routing.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
