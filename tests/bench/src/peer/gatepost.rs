//! Gatepost, with the files of `config/` as they are but for the ports.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::install::run;
use super::{Place, Workshop};

pub(super) fn install(workshop: &Workshop) -> Result<()> {
    if std::env::var_os("GATEPOST").is_some() {
        return Ok(());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--bin", "gatepost"]).current_dir(&workshop.root);
    ensure!(build.status()?.success(), "cargo build --release failed");
    Ok(())
}

pub(super) fn version(workshop: &Workshop) -> Result<String> {
    let version = run(&workshop.gatepost, &["--version"], Path::new("/"))?;
    if std::env::var_os("GATEPOST").is_some() {
        return Ok(format!("{}, a program from elsewhere", version.trim()));
    }
    let commit = run("git", &["rev-parse", "--short", "HEAD"], &workshop.root);
    Ok(format!("{}, {}", version.trim(), commit.unwrap_or_default().trim()))
}

pub(super) fn script(place: &Place<'_>) -> Result<String> {
    let file = match (place.subject.relay, place.subject.policies) {
        (Some(_), _) => "bench-relay.toml",
        (None, 0) => "bench-plain.toml",
        (None, _) => "bench.toml",
    };
    let shipped = place.workshop.root.join("config").join(file);
    let text = fs::read_to_string(&shipped).with_context(|| shipped.display().to_string())?;
    let mut text = with_plugins(&text, place.subject.policies);
    text = text.replace(LISTENER, &place.address.to_string());
    if let Some(relay) = place.subject.relay {
        text = text.replace(NEXT_HOP, &relay.to_string());
    }
    fs::write(place.folder.join(file), text)?;
    Ok(format!("exec {} run --config {file}", place.workshop.gatepost.display()))
}

/// So many plugins: those of the file, again and again under other names.
fn with_plugins(text: &str, count: usize) -> String {
    let mut parts = text.split("[[plugin]]");
    let mut made = parts.next().unwrap_or_default().to_owned();
    let plugins: Vec<&str> = parts.collect();
    for (number, plugin) in plugins.iter().cycle().take(count).enumerate() {
        let round = number / plugins.len();
        made += "[[plugin]]";
        if round == 0 {
            made += plugin;
        } else {
            made += &plugin.replacen("name = \"", &format!("name = \"again{round}-"), 1);
        }
    }
    made
}

/// As in the files.
const LISTENER: &str = "127.0.0.1:2525";
const NEXT_HOP: &str = "127.0.0.1:18025";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_repeated_under_other_names() {
        let text = "a = 1\n[[plugin]]\nname = \"x\"\n[[plugin]]\nname = \"y\"\n";
        let names = |count| -> Vec<String> {
            let made = with_plugins(text, count);
            assert!(made.starts_with("a = 1\n"));
            let lines = made.lines().filter_map(|line| line.strip_prefix("name = "));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(names(0), [""; 0]);
        assert_eq!(names(1), ["\"x\""]);
        assert_eq!(names(3), ["\"x\"", "\"y\"", "\"again1-x\""]);
    }
}
