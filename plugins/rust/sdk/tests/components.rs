//! Builds our plugins as the server does, and looks at the components that come out: exactly the
//! stages that they name, no import that they do not need, and no more octets than agreed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{Resolve, WorldKey};

#[test]
fn components_export_their_stages_and_nothing_else() {
    let folder = build();
    for (name, stages, services) in PLUGINS {
        check(&folder, name, stages, services);
    }
}

fn check(folder: &Path, name: &str, stages: &[&str], services: &[&str]) {
    let file = folder.join(format!("{}.wasm", name.replace('-', "_")));
    let octets = std::fs::read(file).expect("the component was built");
    assert!(octets.len() <= MOST_OCTETS, "{name} has {} octets", octets.len());
    let Ok(DecodedWasm::Component(resolve, world)) = decode(&octets) else {
        panic!("{name} is no component")
    };
    let world = &resolve.worlds[world];

    let exports = names(&resolve, world.exports.keys());
    let stages = stages.iter().map(|stage| format!("gatepost:policy/on-{stage}@0.1.0"));
    let expected: BTreeSet<_> =
        stages.chain(["gatepost:policy/configure@0.1.0".to_owned()]).collect();
    assert_eq!(exports, expected, "{name}");

    let (ours, others): (BTreeSet<_>, BTreeSet<_>) = names(&resolve, world.imports.keys())
        .into_iter()
        .partition(|import| import.starts_with("gatepost:policy/"));
    let services = services
        .iter()
        .chain(&["message", "types"])
        .map(|service| format!("gatepost:policy/{service}@0.1.0"));
    assert_eq!(ours, services.collect(), "{name}");
    // What the standard library wants for a panic, and nothing with which to reach out.
    let inert = |import: &String| import.starts_with("wasi:cli/") || import.starts_with("wasi:io/");
    assert!(others.iter().all(inert), "{name}: {others:?}");
}

fn names<'a>(resolve: &Resolve, keys: impl Iterator<Item = &'a WorldKey>) -> BTreeSet<String> {
    keys.map(|key| resolve.name_world_key(key)).collect()
}

/// The command of the server's own build, in the folder that it uses too.
fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("plugins");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--profile", "plugin", "--target", "wasm32-wasip2", "--locked"])
        .args(PLUGINS.iter().flat_map(|(name, ..)| ["-p", name]))
        .arg("--target-dir")
        .arg(&target)
        .current_dir(root)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the plugins do not build");
    target.join("wasm32-wasip2/plugin")
}

/// The name of each, its stages, and the services that it asks.
const PLUGINS: [(&str, &[&str], &[&str]); 7] = [
    ("greylist", &["rcpt", "data"], &["clock", "config", "kv", "log", "lookup"]),
    ("dnsbl", &["connect", "helo", "mail", "rcpt", "data"], &["config", "dns", "log", "lookup"]),
    ("rate-limit", &["mail", "rcpt"], &["config", "kv", "log", "lookup", "rate-limit"]),
    ("rewrite", &["rcpt", "data", "route"], &["config", "log", "lookup"]),
    ("header-rules", &["mail", "rcpt", "data"], &["authentication", "config", "log", "lookup"]),
    ("attachments", &["data"], &["config", "log"]),
    ("rspamd", &["data"], &["config", "http", "log"]),
];
/// Half of this is the standard library, formatting and reading of the configuration.
const MOST_OCTETS: usize = 300_000;
