//! The load: sessions that send messages for a while, and what they met.

mod session;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

pub(crate) use self::session::{Session, message};

/// What is sent, and how.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Where the server listens.
    pub(crate) server: SocketAddr,
    /// Sessions at the same time.
    pub(crate) sessions: usize,
    /// Octets of content of each message.
    pub(crate) octets: usize,
    /// Recipients of each message.
    pub(crate) recipients: usize,
    /// Many messages over a connection, or one over each.
    pub(crate) connection: Connection,
    /// MAIL, RCPT and DATA in one segment (RFC 2920).
    pub(crate) pipelining: bool,
    /// Messages a second, whether the server keeps up or not. `None`: each session sends as soon as it may.
    pub(crate) rate: Option<f64>,
}

/// How long a connection is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// For all messages of a session.
    Kept,
    /// For one message.
    Each,
}

/// When messages count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// After the warm-up.
    pub(crate) from: Instant,
    /// Nothing is begun after this.
    pub(crate) until: Instant,
}

/// What the sessions met inside the window.
#[derive(Clone, Debug)]
pub(crate) struct Met {
    /// Messages that were answered with 250.
    pub(crate) accepted: u64,
    /// Messages that were refused, and connections that were lost or refused.
    pub(crate) failed: u64,
    /// From MAIL to the last 250, or from connect to it when each message has a connection of its own; in an open load
    /// from the moment that the message was due. In microseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Default for Met {
    fn default() -> Self {
        let latency =
            Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds and digits are right");
        Self { accepted: 0, failed: 0, latency }
    }
}

impl Met {
    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.failed += other.failed;
        self.latency.add(&other.latency).expect("both have three digits");
    }

    /// A percentile of the latency.
    pub(crate) fn percentile(&self, of_hundred: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(of_hundred / 100.0))
    }
}

/// Counts the arrivals of an open load.
struct Arrivals {
    began: Instant,
    rate: f64,
    next: AtomicU64,
}

impl Arrivals {
    /// When the next message is due. Whoever sends it late has that in its latency.
    fn next(&self) -> Instant {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.began + Duration::from_secs_f64(number as f64 / self.rate)
    }
}

impl Load {
    /// Sends until the window closes. Runs on one thread, so that a core remains for the server.
    pub(crate) async fn run(&self, window: Window) -> Met {
        let arrivals = self.rate.map(|rate| {
            Arc::new(Arrivals { began: Instant::now(), rate, next: AtomicU64::new(0) })
        });
        let content: Arc<[u8]> = message(self.octets).into();
        let sessions = (0..self.sessions).map(|_| {
            let (load, arrivals) = (self.clone(), arrivals.clone());
            tokio::spawn(load.send(window, Arc::clone(&content), arrivals))
        });
        let mut met = Met::default();
        for session in sessions.collect::<Vec<_>>() {
            met.add(&session.await.expect("a session does not panic"));
        }
        met
    }

    async fn send(
        self,
        window: Window,
        content: Arc<[u8]>,
        arrivals: Option<Arc<Arrivals>>,
    ) -> Met {
        let mut met = Met::default();
        let mut session = None;
        while Instant::now() < window.until {
            let due = match &arrivals {
                None => Instant::now(),
                Some(arrivals) => {
                    let due = arrivals.next();
                    if due >= window.until {
                        break;
                    }
                    tokio::time::sleep_until(due.into()).await;
                    due
                }
            };
            let sent = self.send_one(&mut session, &content).await;
            let now = Instant::now();
            let counts = window.from <= now && now < window.until;
            match sent {
                // An ordinary session is open before the message is due.
                Ok(began) if counts => {
                    let since = if arrivals.is_some() { due } else { began };
                    met.accepted += 1;
                    met.latency.saturating_record((now - since).as_micros() as u64);
                }
                Ok(_) => {}
                Err(_) => {
                    session = None;
                    met.failed += u64::from(counts);
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
        if let Some(session) = session {
            session.quit().await;
        }
        met
    }

    /// Gives when the transaction began.
    async fn send_one(
        &self,
        session: &mut Option<Session>,
        content: &[u8],
    ) -> std::io::Result<Instant> {
        if self.connection == Connection::Each {
            let began = Instant::now();
            let mut one = Session::open(self.server).await?;
            one.send(self.recipients, self.pipelining, content).await?;
            // The server may take its time for the 221; who waits for it is the next connection.
            one.quit().await;
            return Ok(began);
        }
        if session.is_none() {
            *session = Some(Session::open(self.server).await?);
        }
        let began = Instant::now();
        let open = session.as_mut().expect("it was opened just now");
        open.send(self.recipients, self.pipelining, content).await?;
        Ok(began)
    }
}

/// A server that refuses is not helped by a faster client.
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// Two minutes in microseconds: nobody waits longer.
const LONGEST: u64 = 120_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{self, Arrived};

    async fn run(rate: Option<f64>, connection: Connection, pipelining: bool) -> (Met, u64) {
        let server = crate::peer::free_address().unwrap();
        let arrived = Arrived::default();
        tokio::spawn(sink::serve(server, arrived.clone()));
        let load =
            Load { server, sessions: 3, octets: 1024, recipients: 2, connection, pipelining, rate };
        let from = Instant::now();
        let met = load.run(Window { from, until: from + Duration::from_millis(300) }).await;
        (met, arrived.count())
    }

    #[tokio::test]
    async fn what_was_accepted_has_arrived_with_its_latency() {
        for connection in [Connection::Kept, Connection::Each] {
            for pipelining in [false, true] {
                let (met, arrived) = run(None, connection, pipelining).await;
                assert!(met.accepted > 0 && met.accepted <= arrived, "{met:?}, {arrived}");
                assert_eq!(met.latency.len(), met.accepted);
            }
        }
    }

    #[tokio::test]
    async fn an_open_load_sends_what_is_due_and_no_more() {
        let (met, arrived) = run(Some(100.0), Connection::Kept, false).await;
        assert!(met.accepted > 0 && arrived <= 31, "{met:?}, {arrived}");
    }
}
