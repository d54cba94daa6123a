//! `gatepost compile`: the process in which plugins are compiled. Nobody calls it by hand.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use policy::{Compiler, CompilerChild, CompilerLimits, serve_compiler};

#[derive(Args, Debug)]
pub(crate) struct Compile {
    /// Processor time
    #[arg(long)]
    seconds: u64,
    /// Address space
    #[arg(long)]
    octets: u64,
}

impl Compile {
    pub(crate) fn run(self) -> Result<()> {
        let Self { seconds, octets } = self;
        let limits = CompilerLimits { cpu: Duration::from_secs(seconds), memory: octets };
        serve_compiler(limits).map_err(anyhow::Error::msg)
    }
}

/// This program, as a compiler in a process of its own.
pub(crate) fn compiler(limits: CompilerLimits) -> Compiler {
    Compiler::Child(CompilerChild {
        // The very file that runs now, whatever stands at its path since.
        program: "/proc/self/exe".into(),
        arguments: vec!["compile".into()],
        limits,
    })
}
