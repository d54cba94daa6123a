//! The one clock of the room.

use std::time::SystemTime;

/// Wall-clock time, replaceable by tests. Intervals are measured by `tokio::time`, which no operator can set.
pub trait Clock: Send + Sync + 'static {
    /// What the wall clock shows; it may jump.
    fn now(&self) -> SystemTime;
}

/// The clock of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one clock of the room")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}
