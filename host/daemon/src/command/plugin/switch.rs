//! `gatepost plugin enable` and `disable`: one word in the configuration, which a running server takes in at once.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::admin::client::Client;
use crate::command::{At, say};
use crate::config::{Config, switch};
use crate::house;

/// Turns a plugin on or off and waits until the server has it so, if one runs.
pub(super) async fn run(at: &At, plugin: &str, enabled: bool) -> Result<()> {
    let file = at
        .config
        .canonicalize()
        .with_context(|| format!("can't change the configuration {}", at.config.display()))?;
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("can't read {}", at.config.display()))?;
    let changed = switch(&at.config, &text, plugin, enabled)?;
    let Ok(config) = Config::parse(&at.config, &changed) else {
        bail!("{} was changed by somebody else meanwhile", at.config.display());
    };
    if enabled {
        // What does not load would leave the server with the file of tomorrow and the plugins of yesterday.
        let faults = house::check(&config).await;
        if !faults.is_empty() {
            bail!("{}\nnothing was changed", faults.join("\n"));
        }
    }
    if changed != text {
        replace(&file, &changed).with_context(|| format!("can't write {}", at.config.display()))?;
    }
    let word = if enabled { "enabled" } else { "disabled" };
    let client = Client::new(&config.admin.socket);
    let Ok(mut live) = client.plugins().await else {
        say(&format!(
            "{plugin} is {word} in {}; no server answers at {}, so it holds from the next start",
            at.config.display(),
            config.admin.socket.display()
        ));
        return Ok(());
    };
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        if is_live(&live, plugin) == enabled {
            say(&format!("{plugin} is {word}; sessions that begin from now on see it so"));
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
        live = client.plugins().await?;
    }
    bail!(
        "{plugin} is {word} in {}, and the server has not taken it in within {PATIENCE:?}; its log says why",
        at.config.display()
    );
}

fn is_live(live: &Value, plugin: &str) -> bool {
    live["plugins"].as_array().is_some_and(|list| list.iter().any(|one| one["name"] == plugin))
}

/// Puts the text in the place of the file in one step, under its permissions.
fn replace(file: &Path, text: &str) -> Result<()> {
    let folder = file.parent().context("a file has a folder")?;
    let metadata = std::fs::metadata(file)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(text.as_bytes())?;
    new.as_file().set_permissions(metadata.permissions())?;
    // Root may keep the file another user's; who is not root owned it before.
    fchown(new.as_file(), Some(metadata.uid()), Some(metadata.gid())).ok();
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

/// How long a running server may take to compile and load what was changed.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(50);
