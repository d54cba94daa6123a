//! `gatepost plugin check`: does a component fit the contract, where will it be asked, and what will it need.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use clap::Args;
use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{Resolve, WorldItem};

use super::build::digest;
use super::subject::{Subject, load};
use crate::command::say;
use crate::scenario::lines::Lines;
use crate::scenario::{PluginTable, Scenario};

#[derive(Args, Debug)]
pub(super) struct Check {
    /// A project, a .wasm file, or bundled:NAME
    #[arg(default_value = ".")]
    plugin: String,
    /// A scenario whose [plugin] has the configuration to check it with [default: the first of the plugin's]
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the text of a component says of itself.
struct Interfaces {
    /// By interface, with the functions that are imported of it.
    imports: BTreeMap<String, Vec<String>>,
    exports: BTreeSet<String>,
}

impl Check {
    pub(super) fn run(self) -> Result<()> {
        let lines = Lines::start();
        let subject = Subject::find(&self.plugin)?;
        let octets = subject.octets()?;
        let interfaces =
            Interfaces::read(&octets).map_err(|fault| anyhow!("{}: {fault}", subject.label))?;
        let scenario = self.configured(&subject)?;
        let runtime = tokio::runtime::Runtime::new()?;
        let info = match runtime.block_on(subject.stage(&scenario, &lines)) {
            Ok(theatre) => theatre.chain().plugins()[0].clone(),
            Err(error)
                if error.to_string().contains("configure: ")
                    && scenario.file.as_os_str().is_empty() =>
            {
                bail!(
                    "{error}\nIt fits the contract, and wants a configuration: give it one in the [plugin] of a scenario (--scenario FILE)"
                )
            }
            Err(error) => return Err(error),
        };
        let grants = interfaces.grants();
        let wasi = interfaces.imports.keys().filter(|name| name.starts_with("wasi:")).count();
        if self.json {
            let stages: Vec<&str> = info.stages.iter().map(|stage| stage.name()).collect();
            say(&serde_json::json!({
                "name": info.registered_name, "version": &*info.version, "description": info.description,
                "component": subject.label, "size": info.size, "sha256": digest(&octets),
                "stages": stages, "imports": interfaces.imports, "grants": grants,
            }).to_string());
            return Ok(());
        }
        let stages: Vec<&str> = info.stages.iter().map(|stage| stage.name()).collect();
        say(&format!("{} {}  {}", info.registered_name, info.version, info.description));
        say(&format!("  component {}", subject.label));
        say(&format!("  size      {} octets", info.size));
        say(&format!("  sha256    {}", digest(&octets)));
        say(&format!("  stages    {}", stages.join(" ")));
        for (interface, functions) in interfaces
            .imports
            .iter()
            .filter(|(name, functions)| !name.starts_with("wasi:") && !functions.is_empty())
        {
            say(&format!("  imports   {}: {}", short(interface), functions.join(" ")));
        }
        if wasi > 0 {
            say(&format!("  imports   {wasi} interfaces of WASI, which reach nothing"));
        }
        if interfaces.has_everything() {
            say("  grants    its tools keep all imports, used or not: grant what it says it needs");
        } else if grants.is_empty() {
            say("  grants    none");
        } else {
            say("  grants    what it imports needs these, as far as it calls them:");
            grants.iter().for_each(|line| say(&format!("            {line}")));
        }
        Ok(())
    }

    /// The scenario that says how it is configured, or one that says nothing.
    fn configured(&self, subject: &Subject) -> Result<Scenario> {
        let first = || subject.scenarios(&[]).ok()?.into_iter().next();
        if let Some(file) = self.scenario.clone().or_else(first) {
            return load(&file);
        }
        Ok(Scenario {
            file: PathBuf::new(),
            description: None,
            clock: std::time::SystemTime::UNIX_EPOCH,
            local_domains: Vec::new(),
            plugin: PluginTable {
                config: serde_json::Value::Object(serde_json::Map::new()),
                on_error: policy::OnError::Defer,
                grants: policy::Grants::default(),
                limits: policy::PluginLimits::default(),
            },
            given: crate::scenario::Given::default(),
            steps: Vec::new(),
        })
    }
}

impl Interfaces {
    fn read(octets: &[u8]) -> Result<Self, String> {
        let decoded = decode(octets).map_err(|error| format!("it is no component: {error:#}"))?;
        let DecodedWasm::Component(resolve, world) = decoded else {
            return Err("it is a WIT package, and no component".into());
        };
        let world = &resolve.worlds[world];
        let functions = |item: &WorldItem| functions(&resolve, item);
        let imports = world.imports.iter();
        Ok(Self {
            imports: imports
                .map(|(key, item)| (resolve.name_world_key(key), functions(item)))
                .collect(),
            exports: world.exports.keys().map(|key| resolve.name_world_key(key)).collect(),
        })
    }

    /// Some tools prune what is not used, others keep it all.
    fn has_everything(&self) -> bool {
        let has = |interface: &str, function: &str| {
            self.imports.iter().any(|(name, functions)| {
                short(name) == interface && functions.iter().any(|one| one == function)
            })
        };
        has("submit", "submit")
            && has("http", "send-content")
            && has("message", "content.append-body")
    }

    /// The lines of `[plugin.grants]` that the imported functions belong to.
    fn grants(&self) -> Vec<String> {
        let mut lines = BTreeSet::new();
        let mut edits = BTreeSet::new();
        for (interface, functions) in &self.imports {
            for function in functions {
                match (short(interface), function.as_str()) {
                    ("kv", _) => drop(lines.insert("kv = true".to_owned())),
                    ("metrics", _) => drop(lines.insert("metrics = true".to_owned())),
                    ("rate-limit", _) => drop(lines.insert("rate-limit = true".to_owned())),
                    ("submit", _) => drop(lines.insert("submit = true".to_owned())),
                    ("dns", _) => drop(lines.insert(
                        "dns = true               # or the domains below which it asks".to_owned(),
                    )),
                    ("lookup", _) => drop(lines.insert(
                        "lookup = [\"TABLE\"]     # the tables of its configuration".to_owned(),
                    )),
                    ("http", _) => drop(lines.insert(
                        "http = [\"HOST\"]        # the hosts of its configuration".to_owned(),
                    )),
                    ("message", "session.delay-reply") => {
                        lines.insert("delay = true".to_owned());
                    }
                    ("message", edit) => edits.extend(edit_of(edit)),
                    _ => {}
                }
            }
        }
        if edits.contains("header") {
            edits.remove("header-add");
        }
        let mut lines: Vec<String> = lines.into_iter().collect();
        if !edits.is_empty() {
            let quoted: Vec<String> = edits.iter().map(|edit| format!("\"{edit}\"")).collect();
            lines.push(format!("edit = [{}]", quoted.join(", ")));
        }
        if self.exports.iter().any(|name| short(name) == "on-auth") {
            lines.push(
                "auth = true              # if it has to see passwords, or to let clients in"
                    .to_owned(),
            );
        }
        lines
    }
}

/// The functions of an imported interface; those of resources as `resource.function`.
fn functions(resolve: &Resolve, item: &WorldItem) -> Vec<String> {
    let WorldItem::Interface { id, .. } = item else { return Vec::new() };
    let names = resolve.interfaces[*id].functions.keys();
    let plain =
        |name: &String| name.split_once(']').map_or(name.as_str(), |(_, name)| name).to_owned();
    names.map(plain).collect()
}

/// `gatepost:policy/kv@0.1.0` is `kv`.
fn short(name: &str) -> &str {
    let name = name.strip_prefix("gatepost:policy/").unwrap_or(name);
    name.split('@').next().unwrap_or(name)
}

fn edit_of(function: &str) -> Option<&'static str> {
    Some(match function {
        "transaction.set-reverse-path"
        | "transaction.set-return"
        | "transaction.set-envelope-id" => "reverse-path",
        "transaction.add-recipient"
        | "transaction.remove-recipient"
        | "transaction.replace-recipient" => "recipients",
        "transaction.set-route" | "transaction.set-tls" => "route",
        "transaction.set-not-before" | "transaction.set-expiry" | "transaction.set-priority" => {
            "schedule"
        }
        "transaction.add-tag" | "transaction.remove-tag" => "tags",
        "content.add-header" | "content.prepend-header" | "content.insert-header" => "header-add",
        "content.replace-header" | "content.remove-header" => "header",
        "content.set-body" | "content.append-body" => "body",
        _ => return None,
    })
}
