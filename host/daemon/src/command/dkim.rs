//! `gatepost dkim`: keys for our signature, and the records that make them known.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use auth::dkim::{Algorithm, PrivateKey, Signer};
use clap::{Args, Subcommand, ValueEnum};
use net::{Kind, Record, Resolver};

use super::{At, count, say};
use crate::wiring;

#[derive(Args, Debug)]
pub(crate) struct Dkim {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key and print its record and its [[dkim]] section
    New {
        /// The domain whose mail is to be signed
        domain: smtp::Domain,
        /// The name of the key; for a rotation one that was not used before
        #[arg(long)]
        selector: String,
        /// The kind of key; a domain can sign with one of each
        #[arg(long, value_enum, default_value = "rsa")]
        algorithm: Kinds,
        /// The file for the private key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Print the records of all keys of the configuration
    Show(At),
    /// Compare the records of all keys with what the DNS says now
    Check(At),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kinds {
    /// RSA with 2048 bits: everybody verifies it
    Rsa,
    /// Ed25519: small and quick; use it beside RSA
    Ed25519,
}

impl Dkim {
    pub(crate) fn run(self) -> Result<()> {
        match self.action {
            Action::New { domain, selector, algorithm, key } => {
                let algorithm = match algorithm {
                    Kinds::Rsa => Algorithm::RsaSha256,
                    Kinds::Ed25519 => Algorithm::Ed25519Sha256,
                };
                new(&domain, &selector, algorithm, &key)
            }
            Action::Show(at) => show(&at),
            Action::Check(at) => check(&at),
        }
    }
}

fn new(domain: &smtp::Domain, selector: &str, algorithm: Algorithm, file: &Path) -> Result<()> {
    let key = PrivateKey::generate(algorithm)?;
    let pem = key.to_pem()?;
    let signer = Signer::new(domain.as_str(), selector, std::sync::Arc::new(key))?;
    write_secret(file, &pem).with_context(|| file.display().to_string())?;
    say("; 1. Publish this record, and wait until it is seen everywhere: gatepost dkim check");
    say(&record_line(&signer)?);
    say("# 2. Then sign with it: put this into the configuration and restart.");
    say(
        "# 3. The key before it stays published for a week after its last use, then with an empty p=.",
    );
    say(&format!(
        "[[dkim]]\ndomain = \"{domain}\"\nselector = \"{selector}\"\nkey = \"{}\"",
        file.display()
    ));
    Ok(())
}

/// A new file that nobody else may read. An old key is never overwritten.
fn write_secret(file: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut written = options.write(true).create_new(true).mode(0o600).open(file)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()
}

fn show(at: &At) -> Result<()> {
    for signer in signers(at)? {
        say(&record_line(&signer)?);
    }
    Ok(())
}

fn check(at: &At) -> Result<()> {
    let resolver = wiring::resolver(&at.load()?)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut missing = 0;
    for signer in signers(at)? {
        let fault = runtime.block_on(fault(&resolver, &signer))?;
        missing += usize::from(fault.is_some());
        say(&format!("{}: {}", name(&signer), fault.as_deref().unwrap_or("published")));
    }
    if missing > 0 {
        bail!("{} of the configuration cannot be verified by others", count(missing, "key"));
    }
    Ok(())
}

/// What is wrong with the published record of a key.
pub(super) async fn fault(resolver: &Resolver, signer: &Signer) -> Result<Option<String>> {
    let answer = match resolver.lookup(&name(signer), Kind::Txt).await {
        Ok(answer) => answer,
        Err(error) => return Ok(Some(format!("not known: {error}"))),
    };
    let texts: Vec<String> = (answer.records.iter())
        .filter_map(|record| match record {
            Record::Txt(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        })
        .collect();
    let ours = signer.key().public()?;
    let squeezed = |text: &String| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let same = |text: &String| {
        squeezed(text).split(';').any(|tag| tag.strip_prefix("p=") == Some(ours.as_str()))
    };
    Ok(match texts.len() {
        0 => Some("not published".to_owned()),
        _ if texts.iter().any(same) => None,
        _ => Some(format!("another key is published: {}", texts.join(" | "))),
    })
}

fn signers(at: &At) -> Result<Vec<Signer>> {
    let signers = wiring::authentication::signers(&at.load()?)?;
    if signers.is_empty() {
        bail!("there is no [[dkim]] in the configuration; see gatepost dkim new");
    }
    Ok(signers)
}

fn name(signer: &Signer) -> String {
    format!("{}._domainkey.{}", signer.selector(), signer.domain())
}

/// The record as zone files have it: in strings of 255 octets at most (RFC 1035 §3.3, RFC 6376 §3.6.2.2).
pub(super) fn record_line(signer: &Signer) -> Result<String> {
    let record = signer.key().record()?;
    let mut line = format!("{}. TXT (", name(signer));
    let mut rest = record.as_str();
    while !rest.is_empty() {
        let (string, after) = rest.split_at(rest.len().min(250));
        line.push_str(&format!(" \"{string}\""));
        rest = after;
    }
    Ok(line + " )")
}
