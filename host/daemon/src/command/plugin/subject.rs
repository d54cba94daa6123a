//! The plugin that a command is about: a project, a component, or one that comes with the server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use policy::{CompilerLimits, Component, PluginConfig};

use super::project::Project;
use crate::command::{cache, compiler, count, say_error};
use crate::scenario::lines::Lines;
use crate::scenario::play::{Setting, Theatre, Trouble, open_house};
use crate::scenario::{self, PluginTable, Scenario, Script};

/// A plugin outside of any server.
pub(super) struct Subject {
    /// Under which name it runs here: its notes and keys begin with it.
    pub(super) name: String,
    pub(super) component: Component,
    /// As people know it: a path or `bundled:NAME`.
    pub(super) label: String,
    /// Where its scenarios are, if they are.
    pub(super) scenarios: PathBuf,
    /// Memory that its runtime needs, by its project.
    memory: Option<usize>,
}

impl Subject {
    /// A folder with a project in it, a `.wasm` file, or `bundled:NAME`.
    pub(super) fn find(what: &str) -> Result<Self> {
        if let Some(name) = what.strip_prefix("bundled:") {
            return Self::bundled(name);
        }
        let path = Path::new(what);
        if path.is_dir() {
            let project = Project::open(path)?;
            let component = project.component();
            if !component.is_file() {
                bail!(
                    "{} is not there yet; `gatepost plugin build {what}` makes it",
                    component.display()
                );
            }
            return Ok(Self {
                name: project.name.clone(),
                label: component.display().to_string(),
                component: Component::File(component),
                scenarios: path.join("scenarios"),
                memory: project.memory.and_then(|memory| usize::try_from(memory.0).ok()),
            });
        }
        if !path.is_file() {
            bail!("there is no file or folder {what}");
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let beside = path.parent().unwrap_or(Path::new("")).join("scenarios");
        let scenarios = if beside.is_dir() { beside } else { PathBuf::from("scenarios") };
        Ok(Self {
            name: stem,
            label: what.to_owned(),
            component: Component::File(path.to_owned()),
            scenarios,
            memory: None,
        })
    }

    fn bundled(name: &str) -> Result<Self> {
        let octets = crate::bundled::find(name).ok_or_else(|| {
            let names: Vec<&str> = crate::bundled::names().collect();
            anyhow!("no plugin \"{name}\" comes with the server; these do: {}", names.join(", "))
        })?;
        let label = crate::bundled::names().find(|bundled| *bundled == name).unwrap_or_default();
        Ok(Self {
            name: name.to_owned(),
            component: Component::Bytes(octets, label),
            label: format!("bundled:{name}"),
            scenarios: PathBuf::from("scenarios"),
            memory: None,
        })
    }

    /// The octets of the component.
    pub(super) fn octets(&self) -> Result<Vec<u8>> {
        match &self.component {
            Component::File(path) => {
                std::fs::read(path).with_context(|| format!("can't read {}", path.display()))
            }
            Component::Bytes(octets, _) => Ok(octets.to_vec()),
        }
    }

    /// The files of its scenarios, in order: those that are named, or all beside it.
    pub(super) fn scenarios(&self, named: &[PathBuf]) -> Result<Vec<PathBuf>> {
        if named.is_empty() && !self.scenarios.is_dir() {
            return Ok(Vec::new());
        }
        let folders = if named.is_empty() { vec![self.scenarios.clone()] } else { named.to_vec() };
        let mut files = Vec::new();
        for path in folders {
            if !path.is_dir() {
                files.push(path);
                continue;
            }
            let mut found: Vec<PathBuf> = std::fs::read_dir(&path)
                .with_context(|| format!("can't read {}", path.display()))?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|file| file.extension().is_some_and(|ending| ending == "toml"))
                .collect();
            found.sort();
            files.extend(found);
        }
        Ok(files)
    }

    /// As the administrator of a scenario would configure it.
    pub(super) fn configured(&self, table: &PluginTable) -> PluginConfig {
        let mut config = PluginConfig::new(&self.name, self.component.clone());
        config.config.clone_from(&table.config);
        config.on_error = table.on_error;
        config.grants = table.grants.clone();
        config.limits = table.limits.clone();
        if let Some(memory) = self.memory
            && config.limits.memory == policy::PluginLimits::default().memory
        {
            config.limits.memory = memory;
        }
        // A breaker makes what one step does depend on the steps before.
        config.breaker.failures = 0;
        config
    }

    /// A server for one scenario, with this plugin alone.
    pub(super) async fn stage(&self, scenario: &Scenario, lines: &Lines) -> Result<Theatre> {
        let visits = scenario.steps.iter().map(|step| &step.visit);
        let logins = visits.clone().filter_map(|visit| {
            visit.user.clone().or_else(|| Some(visit.auth.as_ref()?.identity.clone()))
        });
        let logins: std::collections::BTreeSet<String> = logins.collect();
        // RFC 2033 §1: LMTP is no way to relay. What it brings is for mailboxes here.
        let by_lmtp = visits.filter(|visit| visit.listener == "lmtp").flat_map(|visit| &visit.to);
        let more = by_lmtp.filter_map(|to| to.address.rsplit('@').next()?.parse().ok());
        let mut local: Vec<smtp::Domain> = scenario.local_domains.clone();
        let is_open = local.is_empty();
        for domain in more {
            if !local.contains(&domain) {
                local.push(domain);
            }
        }
        let given = scenario.given.clone();
        let setting = Setting {
            inbound: open_house(&local, is_open, logins)?,
            resolver: net::Resolver::zone(net::Zone::default()),
            tables: Vec::new(),
            plugins: vec![self.configured(&scenario.plugin)],
            subject: Some(self.name.clone()),
            script: Arc::clone(&Script::new(given.clone(), scenario.clock, false)),
            given,
            compiler: compiler(PATIENT),
            cache: cache(),
            lines: lines.clone(),
        };
        Theatre::build(setting).await.map_err(|trouble| match trouble {
            Trouble::Plugins(faults) => {
                let faults: Vec<String> =
                    faults.iter().map(|fault| fault.message.clone()).collect();
                anyhow!("{}: {}", self.label, faults.join("; "))
            }
            Trouble::Other(error) => error,
        })
    }
}

/// Reads a scenario; its faults go to stderr.
pub(super) fn load(file: &Path) -> Result<Scenario> {
    scenario::load(file).map_err(|faults| {
        faults.iter().for_each(|fault| say_error(&fault.to_string()));
        anyhow!("{} in {}", count(faults.len(), "fault"), file.display())
    })
}

/// Nobody's mail waits: the components of large runtimes take a while.
const PATIENT: CompilerLimits = CompilerLimits { cpu: Duration::from_mins(15), memory: 8 << 30 };
