//! `gatepost plugin verify`: whether the components on disk are those that were pinned and those that run.

use anyhow::{Result, bail};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::admin::client::Client;
use crate::command::{At, count, say};
use crate::config::{Component, Plugin};

/// What was found about one plugin.
struct Finding {
    name: String,
    component: String,
    enabled: bool,
    /// SHA-256 of the component as it is on disk now.
    digest: Result<String, String>,
    pin: Option<String>,
    /// SHA-256 of what runs; none if no server answers or the plugin is not live.
    live: Option<String>,
}

/// Reads every component and compares it with its pin and with what the running server has loaded.
pub(super) async fn run(at: &At, name: Option<&str>, json: bool) -> Result<()> {
    let config = at.load()?;
    let live = Client::new(&config.admin.socket).plugins().await.ok();
    let findings: Vec<Finding> = config
        .plugins
        .iter()
        .filter(|plugin| name.is_none_or(|name| plugin.name == name))
        .map(|plugin| Finding::of(plugin, live.as_ref()))
        .collect();
    if let Some(name) = name.filter(|_| findings.is_empty()) {
        bail!("no plugin \"{name}\" in {}", at.config.display());
    }
    if json {
        say(&Value::from_iter(findings.iter().map(Finding::json)).to_string());
    } else {
        findings.iter().flat_map(Finding::lines).for_each(|line| say(&line));
        if live.is_none() {
            say("no server answers: what runs was not compared");
        }
    }
    let faults = findings.iter().filter(|finding| !finding.faults().is_empty()).count();
    if faults > 0 {
        bail!("{} not as expected", count(faults, "plugin"));
    }
    Ok(())
}

impl Finding {
    fn of(plugin: &Plugin, live: Option<&Value>) -> Self {
        let (component, octets) = match &plugin.component {
            Component::File(path) => (
                path.display().to_string(),
                std::fs::read(path).map_err(|error| format!("{}: {error}", path.display())),
            ),
            Component::Bundled(name) => (
                format!("bundled:{name}"),
                crate::bundled::find(name)
                    .map(<[u8]>::to_vec)
                    .ok_or_else(|| format!("no plugin \"{name}\" comes with the server")),
            ),
        };
        let running = live.and_then(|live| live["plugins"].as_array()).into_iter().flatten();
        let running = running.filter(|one| one["name"] == plugin.name.as_str());
        Self {
            name: plugin.name.clone(),
            component,
            enabled: plugin.enabled,
            digest: octets.map(|octets| format!("{:x}", Sha256::digest(octets))),
            pin: plugin.sha256.clone(),
            live: running.filter_map(|one| one["digest"].as_str()).map(str::to_owned).next(),
        }
    }

    /// What an administrator has to look at.
    fn faults(&self) -> Vec<String> {
        let digest = match &self.digest {
            Ok(digest) => digest,
            Err(error) => return vec![error.clone()],
        };
        let mut faults = Vec::new();
        if let Some(pin) = self.pin.as_ref().filter(|pin| *pin != digest) {
            faults.push(format!("the configuration wants sha256 {pin}: it does not load"));
        }
        if let Some(live) = self.live.as_ref().filter(|live| *live != digest) {
            faults.push(format!("the server runs another one: sha256 {live}"));
        }
        faults
    }

    fn lines(&self) -> Vec<String> {
        let state = match (self.enabled, &self.live) {
            (false, _) => "disabled",
            (true, Some(_)) => "live",
            (true, None) => "not live",
        };
        let pinned = if self.pin.is_some() { "pinned" } else { "not pinned" };
        let mut lines = vec![format!("{}  {state}, {pinned}  {}", self.name, self.component)];
        lines.extend(self.digest.iter().map(|digest| format!("    sha256 {digest}")));
        lines.extend(self.faults().iter().map(|fault| format!("    fault  {fault}")));
        lines
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "component": self.component,
            "enabled": self.enabled,
            "digest": self.digest.as_ref().ok(),
            "pin": self.pin,
            "live": self.live,
            "faults": self.faults(),
        })
    }
}
