//! A server in this process, with a real queue in a temporary folder and clients that talk to it. It has no plugins, but
//! where a test is about them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "inbound/access.rs"]
mod access;
#[path = "inbound/authentication.rs"]
mod authentication;
#[path = "inbound/content.rs"]
mod content;
#[path = "inbound/drain.rs"]
mod drain;
#[path = "inbound/instances.rs"]
mod instances;
#[path = "inbound/limits.rs"]
mod limits;
#[path = "inbound/lmtp.rs"]
mod lmtp;
#[path = "inbound/plain.rs"]
mod plain;
#[path = "inbound/proxy.rs"]
mod proxy;
#[path = "inbound/submission.rs"]
mod submission;
#[path = "inbound/world.rs"]
mod world;
