//! Programs that others wrote. A machine without one of them skips the tests that need it, and says so.

use std::io::Write as _;
use std::path::PathBuf;

use crate::process::run;

/// A program of others, found on this machine.
#[derive(Clone, Debug)]
pub struct Foreign {
    /// Where it is.
    pub path: PathBuf,
}

impl Foreign {
    /// Finds `program` in `PATH` and in the folders of system programs. If it is absent, the test
    /// `test` is recorded as skipped on the uncaptured standard error; it fails instead where the
    /// environment says `GATEPOST_REQUIRE_FOREIGN=1`.
    pub fn need(test: &str, program: &str) -> Option<Self> {
        let found = find(program);
        if found.is_none() {
            skip(test, program);
        }
        found.map(|path| Self { path })
    }

    /// All of `programs`, or none.
    pub fn need_all(test: &str, programs: &[&str]) -> Option<Vec<Self>> {
        let missing: Vec<&str> =
            programs.iter().copied().filter(|program| find(program).is_none()).collect();
        if !missing.is_empty() {
            skip(test, &missing.join(", "));
            return None;
        }
        programs.iter().map(|program| Self::need(test, program)).collect()
    }

    /// True if this process is root in a machine that lets it make a mount namespace: Postfix and
    /// Dovecot change their user, and low ports and another `/etc/resolv.conf` need it.
    pub fn need_root(test: &str) -> bool {
        let may = find("unshare")
            .is_some_and(|unshare| run(&unshare, ["--mount", "true"]).status.success());
        if !may {
            skip(test, "root and mount namespaces");
        }
        may
    }
}

/// Where a program is.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/libexec/dovecot"];
    std::env::split_paths(&path)
        .chain(system.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Records that a test was skipped.
pub fn skip(test: &str, needs: &str) {
    // The print macros are captured by the test runner; the stream itself is not.
    let _ = writeln!(std::io::stderr(), "skipped: {test} (needs {needs})");
    let required = std::env::var("GATEPOST_REQUIRE_FOREIGN").is_ok_and(|value| value == "1");
    assert!(!required, "{test} needs {needs}, and GATEPOST_REQUIRE_FOREIGN=1");
}
