//! Test material that others wrote, played to the running server over TCP. Each test says how many cases
//! ran, and names the suites that are not on this machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod dialogue;
mod messages;
mod proxy;
mod smuggling;
