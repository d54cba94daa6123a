//! The room from outside: real components before a real host.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests say what they want, and fail if it is not so"
)]

mod breaker;
mod contract;
mod effects;
mod guests;
mod hostile;
mod loading;
mod released;
mod seam;
mod stages;
mod support;
