//! `gatepost plugin`: what is loaded, what it may do, whether it is what it should be, and the workbench for those who
//! write plugins.

mod bench;
mod build;
mod check;
mod new;
mod project;
mod subject;
mod switch;
mod template;
mod test;
mod verify;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{At, say};
use crate::admin::client::Client;
use crate::config::{self, Component, Config};

#[derive(Args, Debug)]
pub(crate) struct Plugin {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    at: At,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    #[command(flatten)]
    Running(Running),
    /// List the plugins that come with the server
    Bundled,
    /// Begin a plugin: a small project that builds as it stands
    New(new::New),
    /// Build a project with the tools of its language
    Build(build::Build),
    /// Look at a component: does it fit the contract, and what will it need
    Check(check::Check),
    /// Play scenarios
    Test(test::Test),
    /// Measure time and memory of each stage
    Bench(bench::Bench),
}

/// What is about a server and its configuration.
#[derive(Debug, Subcommand)]
enum Running {
    /// List the plugins of the running server: version, digest, stages, grants; and those that are disabled
    List,
    /// Show all that is known about one plugin
    Show {
        /// Its name in the configuration
        name: String,
    },
    /// Let a plugin be asked again: sets `enabled` in the configuration, after checking that it loads
    Enable {
        /// Its name in the configuration
        name: String,
    },
    /// Let a plugin be asked no more: sets `enabled` in the configuration
    Disable {
        /// Its name in the configuration
        name: String,
    },
    /// Compare the components with their pins (`sha256`) and with what runs
    Verify {
        /// Only this one
        name: Option<String>,
    },
}

impl Plugin {
    pub(crate) fn run(self) -> Result<()> {
        match self.action {
            Action::Bundled => {
                crate::bundled::names().for_each(|name| say(&format!("bundled:{name}")));
                Ok(())
            }
            Action::New(new) => new.run(),
            Action::Build(build) => build.run(),
            Action::Check(check) => check.run(),
            Action::Test(test) => test.run(),
            Action::Bench(bench) => bench.run(),
            Action::Running(running) => {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
                runtime.block_on(running.act(&self.at, self.json))
            }
        }
    }
}

impl Running {
    async fn act(self, at: &At, json: bool) -> Result<()> {
        match self {
            Self::List => list(&at.load()?, json).await,
            Self::Show { name } => show(&at.load()?, &name, json).await,
            Self::Enable { name } => switch::run(at, &name, true).await,
            Self::Disable { name } => switch::run(at, &name, false).await,
            Self::Verify { name } => verify::run(at, name.as_deref(), json).await,
        }
    }
}

/// What the server runs, and after it what the configuration has switched off.
async fn list(config: &Config, json: bool) -> Result<()> {
    let mut live = Client::new(&config.admin.socket).plugins().await?;
    let off: Vec<&config::Plugin> = config.plugins.iter().filter(|one| !one.enabled).collect();
    if json {
        live["disabled"] = off.iter().map(|plugin| plugin.name.as_str()).collect();
        say(&live.to_string());
        return Ok(());
    }
    live["plugins"].as_array().into_iter().flatten().for_each(print);
    for plugin in off {
        let (file, line) = (config.file.display(), plugin.line);
        say(&format!("{}  disabled ({file}:{line})", plugin.name));
    }
    Ok(())
}

/// One plugin: what runs, and what the configuration says about it.
async fn show(config: &Config, name: &str, json: bool) -> Result<()> {
    let Some(configured) = config.plugins.iter().find(|plugin| plugin.name == name) else {
        bail!("no plugin \"{name}\" in {}", config.file.display());
    };
    let live = match Client::new(&config.admin.socket).plugins().await {
        Ok(live) => {
            let list = live["plugins"].as_array().cloned().unwrap_or_default();
            list.into_iter().find(|plugin| plugin["name"] == name)
        }
        Err(error) => {
            super::say_error(&format!("{error:#}"));
            None
        }
    };
    let component = match &configured.component {
        Component::File(path) => path.display().to_string(),
        Component::Bundled(name) => format!("bundled:{name}"),
    };
    if json {
        let mut shown = live.clone().unwrap_or_else(|| serde_json::json!({ "name": name }));
        shown["live"] = live.is_some().into();
        shown["enabled"] = configured.enabled.into();
        shown["component"] = component.into();
        shown["pin"] = configured.sha256.clone().into();
        say(&shown.to_string());
        return Ok(());
    }
    match &live {
        Some(live) => {
            print(live);
            say(&format!("    imports {}", words(live, "imports")));
            say(&format!("    size {} octets, {} instances live", live["size"], live["instances"]));
        }
        None if configured.enabled => say(&format!("{name}  not live")),
        None => say(&format!("{name}  disabled")),
    }
    let pin = configured.sha256.as_deref().unwrap_or("none");
    say(&format!("    component {component}, pin {pin}"));
    say(&format!("    configured in {}:{}", config.file.display(), configured.line));
    let limits = &configured.limits;
    say(&format!(
        "    limits cpu {:?}, cpu-data {:?}, wall {:?}, memory {} octets, host-calls {}",
        limits.cpu, limits.cpu_data, limits.wall, limits.memory, limits.host_calls
    ));
    say(&format!("    config {}", configured.config));
    Ok(())
}

fn words(plugin: &Value, key: &str) -> String {
    let words = plugin[key].as_array().into_iter().flatten();
    words.filter_map(|word| word.as_str()).collect::<Vec<_>>().join(" ")
}

fn print(plugin: &Value) {
    let text = |key: &str| plugin[key].as_str().unwrap_or_default();
    say(&format!("{} {}  {}", text("name"), text("version"), text("description")));
    say(&format!("    sha256 {}", text("digest")));
    say(&format!("    stages {}", words(plugin, "stages")));
    say(&format!("    grants {}", words(plugin, "grants")));
    let breaker = &plugin["breaker"];
    if breaker["trips"].as_u64().is_some_and(|trips| trips > 0) {
        let state = if breaker["open"] == true { "open: it is not asked" } else { "closed again" };
        say(&format!(
            "    breaker {state}; tripped {} times, the last failure: {}",
            breaker["trips"],
            breaker["last-failure"].as_str().unwrap_or_default()
        ));
    }
}
