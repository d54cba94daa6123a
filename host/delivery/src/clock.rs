//! The one clock of the room.

use std::time::SystemTime;

/// Now, by the wall: for reports, journals and file names. Intervals are measured with
/// `tokio::time`.
#[expect(clippy::disallowed_methods, reason = "the one place of this room that asks for the time")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// A number that nobody can foresee, for names and for spreading load.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};

    // Every state has keys of its own, from the random source of the system.
    RandomState::new().build_hasher().finish()
}
