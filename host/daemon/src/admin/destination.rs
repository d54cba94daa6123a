//! One destination as operators see it: what waits in the queue, and how its hosts do.

use std::time::SystemTime;

use delivery::DestinationState;
use queue::{Destination, LastWord};
use serde::{Deserialize, Serialize};
use smtp::Reply;

/// What waits for a destination, and the hosts that its mail went to lately.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct View {
    #[serde(flatten)]
    pub(crate) queue: Destination,
    /// Open connections to its hosts; they may serve other destinations, too.
    pub(crate) connections: usize,
    pub(crate) hosts: Vec<Host>,
}

/// A host, shared by all destinations whose mail goes there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Host {
    /// Names under which it was called.
    pub(crate) names: Vec<String>,
    pub(crate) addresses: Vec<String>,
    /// Open connections, idle ones included.
    pub(crate) connections: usize,
    pub(crate) idle: usize,
    /// Messages on their way.
    pub(crate) in_flight: usize,
    /// Attempts that wait for a connection.
    pub(crate) waiting: usize,
    /// Connections that it may have at the moment.
    pub(crate) concurrency: usize,
    pub(crate) last_reply: Option<Reply>,
    /// It is not called before then.
    pub(crate) down_until: Option<SystemTime>,
    /// Failures to open a session, in a row.
    pub(crate) failures: u32,
}

/// Puts together what the queue and delivery know.
pub(crate) fn join(queue: Vec<Destination>, hosts: &[DestinationState]) -> Vec<View> {
    let view = |mut queue: Destination| {
        let own = || hosts.iter().filter(|host| host.routes.contains(&queue.name));
        let latest = own().max_by_key(|host| host.last_reply_at);
        let latest = latest.and_then(|host| {
            let (reply, time) = (host.last_reply.clone()?, host.last_reply_at?);
            Some(LastWord { reply, peer: None, time })
        });
        let connections = own().map(|host| host.connections).sum();
        let hosts = own().map(Host::of).collect();
        queue.last = queue.last.or(latest);
        View { queue, connections, hosts }
    };
    queue.into_iter().map(view).collect()
}

impl Host {
    fn of(state: &DestinationState) -> Self {
        Self {
            names: state.hosts.clone(),
            addresses: state.addresses.clone(),
            connections: state.connections,
            idle: state.idle,
            in_flight: state.in_flight,
            waiting: state.waiting,
            concurrency: state.concurrency,
            last_reply: state.last_reply.clone(),
            down_until: state.down_until,
            failures: state.failures,
        }
    }
}
