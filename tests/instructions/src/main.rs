//! `instructions SCENARIO COUNT`: does one thing so many times and prints nothing. `tests/guard.rs` counts what it takes.

mod scenario;

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (name, count) = (arguments.next(), arguments.next());
    let name = name.context("instructions SCENARIO COUNT")?;
    let count = count.context("how often?")?.parse()?;
    let (_, run) = scenario::ALL
        .iter()
        .find(|(other, _)| *other == name)
        .with_context(|| format!("there is no scenario {name}"))?;
    run(count)
}
