//! Haraka of npm with two workers and its outbound queue. Policies are plugins of four files each.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::install::run;
use super::{Place, Workshop};

/// The version that the figures in `design/PERFORMANCE.md` were taken with.
const PACKAGE: &str = "Haraka@3.3.4";

/// It asks for versions of these that registries do not have any more, or not yet.
const OVERRIDES: &str =
    r#"{"private": true, "overrides": {"encoding-japanese": "2.4.0", "libqp": "2.1.2"}}"#;

pub(super) fn install(workshop: &Workshop) -> Result<()> {
    let folder = workshop.folder.join("peers/haraka");
    if folder.join("node_modules/Haraka/package.json").exists() {
        return Ok(());
    }
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("package.json"), OVERRIDES)?;
    let options = ["install", "--no-audit", "--no-fund", "--omit=optional", "--prefix", "."];
    run("npm", &[&options, &[PACKAGE][..]].concat(), &folder).map(drop)
}

pub(super) fn version(workshop: &Workshop) -> Result<String> {
    let folder = workshop.folder.join("peers/haraka");
    let haraka = run("node", &["-p", "require('Haraka/package.json').version"], &folder)?;
    let node = run("node", &["--version"], &folder)?;
    Ok(format!("{}, node {}", haraka.trim(), node.trim()))
}

pub(super) fn script(place: &Place<'_>) -> Result<String> {
    let config = place.folder.join("config");
    let plugins = place.folder.join("plugins");
    for folder in [&config, &plugins, &place.folder.join("queue")] {
        fs::create_dir_all(folder)?;
    }
    let write = |name: &str, text: &str| fs::write(config.join(name), text);
    write("smtp.ini", &format!("listen={}\nnodes=2\n", place.address))?;
    write("host_list", "")?;
    write("me", "haraka.bench.test\n")?;
    write("loglevel", "WARN\n")?;
    // Its own settings, which it does not look for when there is a folder of ours.
    let package = place.workshop.folder.join("peers/haraka/node_modules/Haraka");
    fs::copy(package.join("config/connection.ini"), config.join("connection.ini"))?;
    write(
        "outbound.ini",
        "disabled=HOLD\nconcurrency_max=100\nenable_tls=false\nlocal_mx_ok=true\n"
            .replace("HOLD", if place.subject.relay.is_none() { "true" } else { "false" })
            .as_str(),
    )?;
    let mut list = String::from("bench_take\n");
    fs::write(plugins.join("bench_take.js"), take(place))?;
    for n in 0..place.subject.policies {
        for (stage, code) in STAGES {
            let name = format!("bench_{stage}{n}");
            fs::write(plugins.join(format!("{name}.js")), code.replace("NUMBER", &n.to_string()))?;
            list += &format!("{name}\n");
        }
    }
    write("plugins", &list)?;
    let haraka = package.join("bin/haraka");
    run("test", &["-e", &haraka.display().to_string()], Path::new("/"))?;
    Ok(format!("exec node {} -c {}", haraka.display(), place.folder.display()))
}

/// Takes every recipient into the outbound queue.
fn take(place: &Place<'_>) -> String {
    let next = place.subject.relay.map_or_else(String::new, |relay| {
        format!(
            "exports.hook_get_mx = (next) => next(OK, {{ priority: 0, exchange: '{}', port: {} }});\n",
            relay.ip(),
            relay.port()
        )
    });
    format!(
        "'use strict';\nexports.hook_rcpt = (next, connection) => {{ connection.relaying = true; next(OK); }};\n{next}"
    )
}

const STAGES: [(&str, &str); 4] = [
    (
        "connect",
        "'use strict';\nconst set = new Set(['192.0.2.NUMBER']);\nexports.hook_connect = (next, connection) => next(set.has(connection.remote.ip) ? DENY : CONT);\n",
    ),
    (
        "mail",
        "'use strict';\nconst set = new Set(['listedNUMBER.bench.test']);\nexports.hook_mail = (next, connection, params) => next(set.has(params[0].host) ? DENY : CONT);\n",
    ),
    (
        "rcpt",
        "'use strict';\nconst set = new Set(['listedNUMBER.bench.test']);\nexports.hook_rcpt = (next, connection, params) => next(set.has(params[0].host) ? DENY : CONT);\n",
    ),
    (
        "data",
        "'use strict';\nexports.hook_data_post = (next, connection) => { connection.transaction.add_header('X-Policy-NUMBER', 'seen'); next(); };\n",
    ),
];
