//! The plugins that only tests load, built for WebAssembly as an author would build them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place::root;
use crate::process::finish;

/// Builds the plugin of `tests/plugins/stamp` into `folder` twice, with two names: `a.wasm` and `b.wasm`.
pub fn stamps(folder: &Path) -> [PathBuf; 2] {
    [("a.wasm", ""), ("b.wasm", "second")].map(|(name, feature)| {
        let built = build("stamp", feature);
        let path = folder.join(name);
        std::fs::copy(&built, &path).unwrap_or_else(|e| panic!("{}: {e}", built.display()));
        path
    })
}

/// Builds the plugin of `tests/plugins/signpost`.
pub fn signpost(folder: &Path) -> PathBuf {
    let built = build("signpost", "");
    let path = folder.join("signpost.wasm");
    std::fs::copy(&built, &path).unwrap_or_else(|e| panic!("{}: {e}", built.display()));
    path
}

/// The component of `tests/guests`, which does at each stage what its configuration says, and builds for nothing else.
pub fn guest() -> PathBuf {
    let target = root().join("target/guests");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args(["build", "--release", "--target", TARGET]);
    cargo.args(["--manifest-path", "tests/guests/Cargo.toml", "--target-dir"]).arg(&target);
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
        cargo.env_remove(name);
    }
    finish(&mut cargo).expect_success("building the guest");
    target.join(TARGET).join("release/guests.wasm")
}

fn build(package: &str, features: &str) -> PathBuf {
    // The folder in which the server's own plugins are built, so that the kit is compiled once.
    let this = std::env::current_exe().expect("a test knows where it is");
    let target = this.ancestors().nth(3).expect("target/PROFILE/deps/test").join("plugins");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args(["build", "--locked", "--profile", "plugin"]);
    cargo.args(["--target", TARGET, "--package", package, "--features", features]);
    cargo.arg("--target-dir").arg(&target);
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
        cargo.env_remove(name);
    }
    finish(&mut cargo).expect_success("building a plugin");
    target.join(TARGET).join("plugin").join(format!("{package}.wasm"))
}

const TARGET: &str = "wasm32-wasip2";
