//! The harness: starts the real `gatepost` and the programs of others around it, talks to them, and
//! reads what they stored. It knows nothing of the inside of the rooms; what it uses is what an
//! administrator has: a configuration file, sockets, signals, folders.

pub mod bombs;
pub mod client;
pub mod corpora;
pub mod dns;
pub mod dovecot;
pub mod faults;
pub mod foreign;
pub mod letter;
pub mod machine;
pub mod maildir;
pub mod place;
pub mod plugins;
pub mod postfix;
pub mod process;
pub mod python;
pub mod rspamd;
pub mod server;
pub mod setup;
pub mod sink;
pub mod transcript;

pub use client::{Client, Reply};
pub use foreign::Foreign;
pub use place::{eventually, free_port, root};
pub use server::Gatepost;
pub use setup::Setup;
