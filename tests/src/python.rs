//! Small programs in Python, whose standard library has clients of its own making.

use std::path::Path;
use std::process::Command;

use crate::foreign::find;
use crate::process::{Finished, finish};

/// Runs a script to its end with `arguments` in `sys.argv[1:]`.
pub fn python(script: &str, arguments: &[&str], folder: &Path) -> Finished {
    let python = find("python3").expect("asked for before");
    finish(Command::new(python).arg("-c").arg(script).args(arguments).current_dir(folder))
}
