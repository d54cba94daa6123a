//! Structured logs on standard error: text for people, JSON for programs.

use std::io;

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;

use crate::config::Log;

/// Starts logging. `GATEPOST_LOG` overrides the level of the configuration.
///
/// # Errors
/// A level that is no filter, or a second start in one process.
pub(crate) fn start(log: &Log) -> Result<()> {
    let level = std::env::var("GATEPOST_LOG").unwrap_or_else(|_| log.level.clone());
    let filter = EnvFilter::try_new(&level).with_context(|| {
        format!("log.level: \"{level}\" is not a filter, as in \"info\" or \"info,policy=debug\"")
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = if log.json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.with_ansi(false).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("can't start logging: {error}"))
}
