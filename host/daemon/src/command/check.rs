//! `gatepost check`: reads a configuration, compiles and links its plugins, and names every fault at once.

use anyhow::{Result, bail};

use super::{At, count, say};
use crate::house;

pub(crate) fn check(at: &At) -> Result<()> {
    let mut faults: Vec<String> = Vec::new();
    match at.read() {
        Ok(config) => {
            let runtime = tokio::runtime::Runtime::new()?;
            let found = runtime.block_on(house::check(&config));
            if found.is_empty() {
                for line in crate::wiring::overview(&config) {
                    say(&line);
                }
                say(&format!("{}: no faults", at.config.display()));
                return Ok(());
            }
            faults.extend(found);
        }
        Err(found) => faults.extend(found.iter().map(ToString::to_string)),
    }
    for fault in &faults {
        say(fault);
    }
    bail!("{} in {}", count(faults.len(), "fault"), at.config.display())
}
