//! What this room counts.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Recipients by fate: `delivered relayed deferred failed held discarded`.
pub(crate) const OUTCOMES: &str = "gatepost_delivery_outcomes_total";
/// Attempts that are under way.
pub(crate) const ATTEMPTS: &str = "gatepost_delivery_attempts";
/// Seconds that an attempt took.
pub(crate) const DURATION: &str = "gatepost_delivery_attempt_seconds";
/// Sessions by origin: `new reused`.
pub(crate) const SESSIONS: &str = "gatepost_delivery_sessions_total";
/// Reports written, by kind: `failure delay success`.
pub(crate) const NOTICES: &str = "gatepost_delivery_notices_total";

/// Tells the exporter what the names mean.
pub(crate) fn describe() {
    describe_counter!(OUTCOMES, "Recipients of attempts by outcome");
    describe_gauge!(ATTEMPTS, "Attempts under way");
    describe_histogram!(DURATION, Unit::Seconds, "Length of an attempt");
    describe_counter!(SESSIONS, "Sessions with other hosts, new or reused");
    describe_counter!(NOTICES, "Delivery status notifications made, by kind");
}
