//! Builds the plugins that come with the server, for `wasm32-wasip2`, and lists them for `bundled.rs`.
//!
//! They are compiled by a cargo of its own with a target folder of its own: the one that runs this script holds the lock of
//! the other.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PLUGINS: [&str; 7] =
    ["greylist", "dnsbl", "rate-limit", "rewrite", "header-rules", "attachments", "rspamd"];
const TARGET: &str = "wasm32-wasip2";

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = here.join("../..").canonicalize().expect("the workspace is two folders up");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for watched in ["plugins/rust", "plugins/templates", "wit", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let target_dir = target_dir(&out);
    build(&root, &target_dir);
    list(&target_dir.join(TARGET).join("plugin"), &out);
    // What `gatepost plugin new` writes.
    embed(&root.join("plugins/templates"), &[], &out.join("templates.rs"));
    embed(&root.join("wit"), &["released", "README.md"], &out.join("contract.rs"));
    embed(&root.join("plugins/rust/sdk"), &["tests", "Cargo.toml"], &out.join("kit.rs"));
}

/// Lists the files below a folder with their octets, but for some, as an array for `include!`.
fn embed(folder: &Path, without: &[&str], list: &Path) {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries =
            fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display()));
        for entry in entries {
            let path = entry.expect("the folder can be read").path();
            let relative = path.strip_prefix(folder).expect("it lies in the folder");
            let is_made = relative.iter().any(|part| part == "target" || part == "node_modules");
            if is_made || without.iter().any(|name| relative == Path::new(name)) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push((relative.to_str().expect("our names are text").to_owned(), path));
            }
        }
    }
    files.sort();
    let mut code = String::from("&[\n");
    for (name, path) in files {
        writeln!(code, "    ({name:?}, include_bytes!({path:?}).as_slice()),")
            .expect("a String takes all");
    }
    code.push_str("]\n");
    fs::write(list, code).expect("OUT_DIR can be written");
}

/// `target/plugins`, so that every profile of the server shares one build of the plugins.
fn target_dir(out: &Path) -> PathBuf {
    // OUT_DIR is <target>/<profile>/build/<package>-<hash>/out.
    out.ancestors().nth(4).expect("OUT_DIR lies in the target folder").join("plugins")
}

fn build(root: &Path, target_dir: &Path) {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo.current_dir(root).args(["build", "--locked", "--profile", "plugin", "--target", TARGET]);
    cargo.arg("--target-dir").arg(target_dir);
    for name in PLUGINS {
        cargo.args(["-p", name]);
    }
    // What the outer cargo says about compilers and flags concerns the host, not the plugins.
    let foreign = [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
        "RUSTC_WORKSPACE_WRAPPER",
    ];
    for name in foreign {
        cargo.env_remove(name);
    }
    let output = cargo.output().expect("cargo runs");
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        panic!(
            "the plugins did not build. Is the target there? `rustup target add {TARGET}` adds it, and \
             rust-toolchain.toml makes rustup do so by itself.\n{said}"
        );
    }
}

/// Writes the array that `bundled.rs` includes.
fn list(built: &Path, out: &Path) {
    let mut code = String::from("&[\n");
    for name in PLUGINS {
        // Of a library cargo makes a file with its name as Rust writes it.
        let file = built.join(format!("{}.wasm", name.replace('-', "_")));
        writeln!(code, "    ({name:?}, include_bytes!({file:?}).as_slice()),")
            .expect("a String takes all");
    }
    code.push_str("]\n");
    fs::write(out.join("bundled.rs"), code).expect("OUT_DIR can be written");
}
