//! `gatepost plugin build`: calls the tools of the language, and says which of them are missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use sha2::{Digest as _, Sha256};

use super::project::{BuildStep, Project, Tool};
use crate::command::{count, say};

#[derive(Args, Debug)]
pub(super) struct Build {
    /// The folder of the project
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Only say whether all tools are there
    #[arg(long)]
    tools: bool,
}

impl Build {
    pub(super) fn run(self) -> Result<()> {
        let project = Project::open(&self.folder)?;
        let missing: Vec<&Tool> =
            project.tools.iter().filter(|tool| !is_there(tool, &project.folder)).collect();
        if !missing.is_empty() {
            for tool in &missing {
                say(&format!("missing: {}\n    {}", tool.name, tool.install));
            }
            bail!("{} for {} missing", count(missing.len(), "tool"), project.language);
        }
        if self.tools {
            say(&format!("all tools for {} are there", project.language));
            return Ok(());
        }
        for step in &project.steps {
            if is_done(step, &project.folder) {
                continue;
            }
            run(step, &project.folder)?;
        }
        let component = project.component();
        let octets = std::fs::read(&component).with_context(|| {
            format!(
                "the build made no {}; gatepost-plugin.toml says where it is",
                component.display()
            )
        })?;
        say(&format!("{} ({} octets)", component.display(), octets.len()));
        say(&format!("sha256 {}", digest(&octets)));
        Ok(())
    }
}

fn is_there(tool: &Tool, folder: &Path) -> bool {
    let mut command = command(&tool.run, folder);
    let output = command.stdin(Stdio::null()).output();
    output.is_ok_and(|output| {
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        output.status.success() && tool.output.as_ref().is_none_or(|wanted| text.contains(wanted))
    })
}

fn run(step: &BuildStep, folder: &Path) -> Result<()> {
    let line = step.run.join(" ");
    say(&format!("$ {line}"));
    let mut command = command(&step.run, folder);
    command.envs(step.env.iter().map(|(name, value)| (name, filled(value, folder))));
    let status = command.status().with_context(|| format!("can't start {}", step.run[0]))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// The command, in the folder, with what only this machine knows filled in.
fn command(run: &[String], folder: &Path) -> Command {
    let (program, arguments) = run.split_first().expect("a command begins with a program");
    let program = match program.as_str() {
        "python" => python(folder),
        // A path is relative to the project, and not to where we were called.
        path if path.contains('/') => {
            let at = folder.join(path);
            at.canonicalize().unwrap_or(at)
        }
        name => name.into(),
    };
    let mut command = Command::new(program);
    command.args(arguments.iter().map(|argument| filled(argument, folder))).current_dir(folder);
    command
}

fn python(folder: &Path) -> PathBuf {
    if let Some(python) = std::env::var_os("PYTHON") {
        return python.into();
    }
    let own = folder.join(".venv/bin/python");
    // Not followed: what makes it the one of its folder is its path.
    if own.exists() { std::path::absolute(&own).unwrap_or(own) } else { "python3".into() }
}

fn filled(text: &str, folder: &Path) -> String {
    let mut text = text.to_owned();
    if text.contains("{{home}}") {
        let home = std::env::var("HOME").unwrap_or_default();
        text = text.replace("{{home}}", &home);
    }
    if text.contains("{{python-prefix}}") {
        let asked =
            Command::new(python(folder)).args(["-c", "import sys; print(sys.prefix)"]).output();
        let prefix = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text = text.replace("{{python-prefix}}", &prefix.unwrap_or_default());
    }
    text
}

/// SHA-256 in hexadecimal, as a configuration pins it.
pub(super) fn digest(octets: &[u8]) -> String {
    Sha256::digest(octets).iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Whether the output is newer than all inputs.
fn is_done(step: &BuildStep, folder: &Path) -> bool {
    let (Some(output), false) = (&step.output, step.inputs.is_empty()) else { return false };
    let time = |path: &Path| -> Option<SystemTime> { path.metadata().ok()?.modified().ok() };
    let Some(made) = time(&folder.join(output)) else { return false };
    let inputs: Vec<PathBuf> = step.inputs.iter().flat_map(|glob| expand(folder, glob)).collect();
    !inputs.is_empty()
        && inputs.iter().all(|input| time(input).is_some_and(|changed| changed < made))
}

/// `src/*.c`: a star stands for any text in the last part of a path.
fn expand(folder: &Path, glob: &str) -> Vec<PathBuf> {
    let path = folder.join(glob);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let name = name.to_string_lossy();
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let fits = |path: &PathBuf| {
        let own = path.file_name().unwrap_or_default().to_string_lossy();
        crate::scenario::compare::matches(&name, &own)
    };
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(fits).collect()
}
