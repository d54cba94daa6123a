//! `gatepost user`: those who may log in, in the users' file. A running server sees the change.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use inbound::{Secret, SendAs, Users};
use serde::{Deserialize, Serialize};
use smtp::sasl::{ITERATIONS, SALT, ScramVerifier};

use super::{At, say, say_error};
use crate::wiring::write_private;

#[derive(Args, Debug)]
pub(crate) struct User {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add one who may log in; the password is read from standard input
    Add {
        /// The name to log in with, usually the whole address
        name: String,
        /// An address that this user may send as besides its own: user@domain, @domain or * (several times)
        #[arg(long, value_name = "ADDRESS")]
        may_send_as: Vec<String>,
        /// A hash that another server made (bcrypt, sha512-crypt, argon2), instead of a password; without SCRAM then
        #[arg(long, value_name = "HASH")]
        hash: Option<String>,
    },
    /// Give a user another password, read from standard input
    Passwd {
        /// The name to log in with
        name: String,
    },
    /// List who may log in, and how
    List,
    /// Remove one who may log in
    Remove {
        /// The name to log in with
        name: String,
    },
    /// Read a password from standard input and print its argon2 hash, for [[user]] of a configuration
    Hash,
}

impl User {
    pub(crate) fn run(self) -> Result<()> {
        if let Action::Hash = self.action {
            say(&Secret::hash(&read_password()?)?);
            return Ok(());
        }
        let config = self.at.load()?;
        let file = config.logins.file.as_path();
        let mut accounts = Accounts::read(file)?;
        match self.action {
            Action::Hash => {}
            Action::List => {
                for user in &config.users {
                    let scram =
                        if user.scram.is_some() { "PLAIN LOGIN SCRAM" } else { "PLAIN LOGIN" };
                    say(&format!("{:<40}{scram}", user.name));
                }
            }
            Action::Add { name, may_send_as, hash } => {
                if config.users.iter().any(|user| user.name.eq_ignore_ascii_case(&name)) {
                    bail!(
                        "{name} is there already; `gatepost user passwd {name}` changes the password"
                    );
                }
                for pattern in &may_send_as {
                    pattern
                        .parse::<SendAs>()
                        .with_context(|| format!("--may-send-as {pattern}"))?;
                }
                let mut account = Account { name, may_send_as, ..Account::default() };
                match hash {
                    Some(hash) => {
                        hash.parse::<Secret>().context("--hash")?;
                        account.password = hash;
                    }
                    None => account.set_password(&read_password()?)?,
                }
                accounts.user.push(account);
                accounts.write(file)?;
            }
            Action::Passwd { name } => {
                let password = read_password()?;
                accounts.find(&name, file)?.set_password(&password)?;
                accounts.write(file)?;
            }
            Action::Remove { name } => {
                accounts.find(&name, file)?;
                accounts.user.retain(|account| !account.name.eq_ignore_ascii_case(&name));
                accounts.write(file)?;
            }
        }
        Ok(())
    }
}

/// The users' file as it is written.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Accounts {
    #[serde(default)]
    user: Vec<Account>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Account {
    name: String,
    password: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scram: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    may_send_as: Vec<String>,
}

impl Accounts {
    fn read(file: &Path) -> Result<Self> {
        match std::fs::read_to_string(file) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("{}", file.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("can't read {}", file.display())),
        }
    }

    fn write(&self, file: &Path) -> Result<()> {
        let text = format!("{HEAD}\n{}", toml::to_string(self)?);
        write_private(file, text.as_bytes())
            .with_context(|| format!("can't write {}", file.display()))
    }

    fn find(&mut self, name: &str, file: &Path) -> Result<&mut Account> {
        let found = self.user.iter_mut().find(|account| account.name.eq_ignore_ascii_case(name));
        found.with_context(|| {
            format!(
                "there is no {name} in {}; users of the configuration itself are changed there",
                file.display()
            )
        })
    }
}

impl Account {
    fn set_password(&mut self, password: &str) -> Result<()> {
        self.password = Secret::hash(password)?;
        let salt = &Users::new_secret()[..SALT];
        self.scram = match ScramVerifier::derive(password, salt, ITERATIONS) {
            Ok(verifier) => Some(verifier.to_string()),
            Err(_) => {
                say_error(
                    "this password has characters that SCRAM can't carry (RFC 4013); PLAIN and LOGIN take it",
                );
                None
            }
        };
        Ok(())
    }
}

fn read_password() -> Result<String> {
    if std::io::stdin().is_terminal() {
        say_error("Password (it is shown while you type; pipe it in to avoid that):");
    }
    let mut password = String::new();
    std::io::stdin().lock().read_line(&mut password).context("can't read the password")?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("an empty password would let everybody in");
    }
    Ok(password.to_owned())
}

const HEAD: &str = "# Who may log in. `gatepost user add|passwd|remove` write this file; a running server takes a change in at once.\n";
