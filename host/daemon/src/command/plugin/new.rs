//! `gatepost plugin new`: a project that builds as it stands.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::project::{FILE, Project};
use super::template::{self, Values};
use crate::command::say;

#[derive(Args, Debug)]
pub(super) struct New {
    /// The plugin's name, and the folder that is made
    name: PathBuf,
    /// The language; `--lang list` lists them
    #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
    lang: String,
}

impl New {
    pub(super) fn run(self) -> Result<()> {
        let Some(template) = template::find(&self.lang) else {
            let languages =
                template::all().map(|one| format!("  {:<15} {}", one.language, one.summary));
            let languages: Vec<String> = languages.collect();
            if self.lang == "list" {
                languages.iter().for_each(|line| say(line));
                return Ok(());
            }
            bail!(
                "there is no template for \"{}\"; there are:\n{}",
                self.lang,
                languages.join("\n")
            );
        };
        let folder = &self.name;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        check(&name)?;
        if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!("the folder {} is there already, and not empty", folder.display());
        }
        let values = Values::new(&name, &template);
        for (path, octets) in template.files(&values) {
            write(&folder.join(path), &octets)?;
        }
        let project = Project::of(folder, &template, &values);
        write(&folder.join(FILE), project.to_toml().as_bytes())?;
        say(&format!("{} is a plugin in {}. Next:", folder.display(), template.summary));
        for action in ["build", "check", "test"] {
            say(&format!("  gatepost plugin {action} {}", folder.display()));
        }
        Ok(())
    }
}

/// A name that every language takes.
fn check(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = name.chars().next().is_some_and(|first| first.is_ascii_lowercase());
    if !begins || !name.chars().all(good) || name.len() > 50 || name.ends_with('-') {
        bail!(
            "\"{name}\" is no name for a plugin: up to 50 small letters, digits and '-', and a letter first"
        );
    }
    Ok(())
}

fn write(path: &Path, octets: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("can't make {}", folder.display()))?;
    }
    std::fs::write(path, octets).with_context(|| format!("can't write {}", path.display()))
}
