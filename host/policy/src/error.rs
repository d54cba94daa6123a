//! What keeps the policy host from doing its work. Failures of plugins are no errors of the room: they are in the trace.

use std::path::PathBuf;

/// The policy host cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A directory of the host cannot be made or used.
    #[error("{what} {path}: {source}")]
    Directory {
        /// What was tried.
        what: &'static str,
        /// The directory.
        path: PathBuf,
        /// The fault of the system.
        source: std::io::Error,
    },
    /// The WebAssembly engine cannot be made on this machine.
    #[error("cannot start the WebAssembly engine: {0}")]
    Engine(String),
    /// The key-value store cannot be opened.
    #[error("cannot open the key-value store in {path}: {reason}")]
    Store {
        /// Its directory.
        path: PathBuf,
        /// What the store says.
        reason: String,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// Why a plugin does not go live. A set with one such plugin changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin {plugin}: {message}")]
pub struct LoadError {
    /// Its name in the configuration.
    pub plugin: String,
    /// What is wrong, in words for the administrator.
    pub message: String,
}
