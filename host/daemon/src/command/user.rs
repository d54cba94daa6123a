//! `gatepost user`: hashes for `[[user]]`.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};

use super::say;

#[derive(Args, Debug)]
pub(crate) struct User {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Read a password from standard input and print its argon2 hash
    Hash,
}

impl User {
    pub(crate) fn run(self) -> Result<()> {
        let Action::Hash = self.action;
        if std::io::stdin().is_terminal() {
            super::say_error("Password (it is shown while you type; pipe it in to avoid that):");
        }
        let mut password = String::new();
        std::io::stdin().lock().read_line(&mut password).context("can't read the password")?;
        let password = password.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            bail!("an empty password would let everybody in");
        }
        say(&inbound::Credentials::hash(password)
            .map_err(|error| anyhow::anyhow!("can't hash it: {error}"))?);
        Ok(())
    }
}
