//! Haraka from npm.

use std::fs;
use std::process::Command;

use super::foreign::{Ground, Recipe, word, words};
use crate::foreign::find;
use crate::place::root;
use crate::process::finish;

/// How it is run.
pub fn recipe(ground: &Ground<'_>) -> Recipe {
    let script = installed();
    let config = ground.work.join("config");
    let plugins = ground.work.join("plugins");
    let queue = ground.disk.join("queue");
    for folder in [&config, &plugins, &queue] {
        fs::create_dir_all(folder).expect("a folder of ours");
    }
    let write = |name: &str, text: &str| fs::write(config.join(name), text).expect("our own file");
    // It can't do without this one.
    let defaults = root().join("target/subjects/haraka/node_modules/Haraka/config");
    fs::copy(defaults.join("connection.ini"), config.join("connection.ini")).expect("Haraka's own");
    write("me", "haraka.test\n");
    write("plugins", "all\n");
    write("queue_dir", &word(&queue));
    write("smtp.ini", &format!("listen=127.0.0.1:{}\nnodes=0\n", ground.port));
    write(
        "outbound.ini",
        "local_mx_ok=true\nenable_tls=false\ntemp_fail_intervals=5s*300\nconcurrency_max=100\n",
    );
    write("loglevel", "WARN\n");
    // Takes everything, and sends it to the next host.
    let all = format!(
        "exports.hook_connect = (next, connection) => {{ connection.relaying = true; next(); }};
exports.hook_rcpt = (next) => next(OK);
exports.hook_get_mx = (next) => next(OK, {{ priority: 0, exchange: '127.0.0.1', port: {} }});
",
        ground.next
    );
    fs::write(plugins.join("all.js"), all).expect("our own file");
    let node = word(&find("node").expect("node is installed"));
    Recipe {
        name: format!("Haraka {VERSION}"),
        run: words(&[&node, &script, "-c", &word(ground.work)]),
        hurry: Vec::new(),
        is_message: |path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !name.starts_with('.') && !name.starts_with("__tmp__")
        },
        queue,
        environment: Vec::new(),
    }
}

/// Its program, installed once.
fn installed() -> String {
    let folder = root().join("target/subjects/haraka");
    let program = folder.join("node_modules/Haraka/bin/haraka");
    if !program.is_file() {
        fs::create_dir_all(&folder).expect("a folder under target");
        // One of its dependencies asks for a version that was never published.
        let package = format!(
            r#"{{"name":"subject","private":true,"dependencies":{{"Haraka":"{VERSION}"}},
               "overrides":{{"encoding-japanese":"2.2.0","libqp":"2.1.1"}}}}"#
        );
        fs::write(folder.join("package.json"), package).expect("our own file");
        let mut npm = Command::new("npm");
        npm.args(["install", "--omit=optional", "--no-audit", "--no-fund"]).current_dir(&folder);
        finish(&mut npm).expect_success("npm install Haraka");
    }
    word(&program)
}

const VERSION: &str = "3.3.4";
