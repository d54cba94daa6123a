//! `gatepost run`: the server, until it is told to stop.

use anyhow::{Context as _, Result};

use super::{At, say};
use crate::house::House;
use crate::{log, metrics};

pub(crate) fn run(at: &At) -> Result<()> {
    let config = at.load()?;
    log::start(&config.log)?;
    let metrics = metrics::install()?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // For work on files. A disk is not faster for being asked by 512 threads, tokio's default, and each has a stack.
        .max_blocking_threads(64)
        .build()
        .context("can't start the runtime")?;
    runtime.block_on(async {
        let source = at.clone();
        let house = House::build(config, metrics).await?;
        for line in house.welcome() {
            say(&line);
        }
        say("gatepost: ready");
        house.serve(move || source.read()).await
    })
}

/// Each session needs a file descriptor, and the usual limit of 1024 is for programs that use select(2). What the system
/// allows beyond it is ours to take.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
