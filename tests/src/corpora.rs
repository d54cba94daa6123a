//! Test material written by others: `CORPORA_DIR`, or `../shared/corpora` seen from the project; what may be
//! copied freely is in `tests/vectors`, too.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::place::root;

/// The folder of one suite, if it is on this machine; says so if not.
pub fn suite(name: &str) -> Option<PathBuf> {
    let folders = [folder(), root().join("tests/vectors")];
    let found = folders.iter().map(|folder| folder.join(name)).find(|folder| folder.is_dir());
    if found.is_none() {
        report(&format!("absent: {name} (not in {})", folders[0].display()));
    }
    found
}

/// A JSON file of a suite.
pub fn json(suite: &Path, file: &str) -> Value {
    let path = suite.join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A line of results on the uncaptured standard error.
pub fn report(line: &str) {
    use std::io::Write as _;
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "corpora: {line}");
}

/// Where the suites are.
pub fn folder() -> PathBuf {
    std::env::var_os("CORPORA_DIR").map_or_else(|| root().join("../shared/corpora"), PathBuf::from)
}
