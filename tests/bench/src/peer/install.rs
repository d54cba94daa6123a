//! Programs of others, from Debian and npm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::Workshop;

/// Runs a program to its end and gives what it printed.
pub(super) fn run(program: impl AsRef<Path>, arguments: &[&str], folder: &Path) -> Result<String> {
    let program = program.as_ref();
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .with_context(|| format!("running {}", program.display()))?;
    ensure!(
        output.status.success(),
        "{} {}: {}",
        program.display(),
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Installs packages that do not get in the way of others.
pub(super) fn debian(packages: &[&str]) -> Result<()> {
    let here = Path::new("/");
    let absent: Vec<&str> =
        packages.iter().copied().filter(|package| debian_version(package).is_err()).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let install = [&["install", "-qq", "-y", "--no-install-recommends"], &*absent].concat();
    run("apt-get", &install, here).map(drop)
}

/// The version of an installed package.
pub(super) fn debian_version(package: &str) -> Result<String> {
    let said =
        run("dpkg-query", &["-W", "-f", "${db:Status-Abbrev}${Version}", package], Path::new("/"))?;
    let version = said.strip_prefix("ii ").context("not installed")?;
    Ok(version.to_owned())
}

/// Unpacks packages of which Debian lets only one be installed, each server in a tree of its own.
pub(super) fn unpacked(workshop: &Workshop, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = workshop.folder.join("peers").join(name);
    let tree = folder.join("tree");
    if folder.join("version").exists() {
        return Ok(tree);
    }
    fs::create_dir_all(&tree)?;
    run("apt-get", &[&["download"], packages].concat(), &folder)?;
    let mut version = String::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let Some(file) = path.file_name().and_then(|file| file.to_str()) else { continue };
        if !file.ends_with(".deb") {
            continue;
        }
        run("dpkg-deb", &["-x", file, "tree"], &folder)?;
        if file.starts_with(packages[0]) {
            version = run("dpkg-deb", &["-f", file, "Version"], &folder)?;
        }
    }
    fs::write(folder.join("version"), version)?;
    Ok(tree)
}

/// The version of what [`unpacked`] made.
pub(super) fn unpacked_version(workshop: &Workshop, name: &str) -> Result<String> {
    let file = workshop.folder.join("peers").join(name).join("version");
    Ok(fs::read_to_string(file)?.trim().to_owned())
}

/// A user without a login, as the package would make it.
pub(super) fn user(name: &str) -> Result<()> {
    if run("id", &["-u", name], Path::new("/")).is_ok() {
        return Ok(());
    }
    let options = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"];
    run("useradd", &[&options, &[name][..]].concat(), Path::new("/")).map(drop)
}
