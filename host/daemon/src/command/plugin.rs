//! `gatepost plugin`: what is loaded, and the workbench for those who write plugins.

mod bench;
mod build;
mod check;
mod new;
mod project;
mod subject;
mod template;
mod test;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{At, say};
use crate::admin::client::Client;

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
    /// List the plugins of the running server: version, digest, stages, grants
    List,
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

impl Plugin {
    pub(crate) fn run(self) -> Result<()> {
        match self.action {
            Action::Bundled => {
                crate::bundled::names().for_each(|name| say(&format!("bundled:{name}")))
            }
            Action::New(new) => new.run()?,
            Action::Build(build) => build.run()?,
            Action::Check(check) => check.run()?,
            Action::Test(test) => test.run()?,
            Action::Bench(bench) => bench.run()?,
            Action::List => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let config = self.at.load()?;
                let plugins = runtime.block_on(Client::new(&config.admin.socket).plugins())?;
                if self.json {
                    say(&plugins.to_string());
                } else {
                    plugins["plugins"].as_array().into_iter().flatten().for_each(print);
                }
            }
        }
        Ok(())
    }
}

fn print(plugin: &serde_json::Value) {
    let text = |key: &str| plugin[key].as_str().unwrap_or_default();
    let words = |key: &str| -> String {
        plugin[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|word| word.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    };
    say(&format!("{} {}  {}", text("name"), text("version"), text("description")));
    say(&format!("    sha256 {}", text("digest")));
    say(&format!("    stages {}", words("stages")));
    say(&format!("    grants {}", words("grants")));
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
