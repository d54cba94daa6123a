//! `gatepost dns`: the records that a domain needs, beside what the DNS says now.

mod wanted;

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use net::{Kind, Record, Resolver};

use self::wanted::{Need, Wanted};
use super::{At, count, dkim, say};
use crate::config::Config;
use crate::wiring;

#[derive(Args, Debug)]
pub(crate) struct Dns {
    /// The domain; one of [[domain]]
    domain: smtp::Domain,
    /// An address by which the world reaches this server (several times); what the DNS has is taken if none is named
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<IpAddr>,
    #[command(flatten)]
    at: At,
}

/// What the DNS has of a record.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// It is there.
    Right,
    /// Something else that will do is there.
    Another(Vec<String>),
    Missing,
    /// Something is there that has to go.
    Wrong(Vec<String>),
    /// Nobody answered.
    Unknown(String),
}

impl Dns {
    pub(crate) fn run(self) -> Result<()> {
        let config = self.at.load()?;
        let name = self.domain.to_ascii().into_owned();
        if !config.domains.iter().any(|domain| domain.name.to_ascii() == name) {
            bail!("{} is no [[domain]] of {}", self.domain, config.file.display());
        }
        let resolver = wiring::resolver(&config)?;
        let runtime = tokio::runtime::Runtime::new()?;
        let faults = runtime.block_on(tell(&config, &resolver, &name, &self.address))?;
        if faults > 0 {
            bail!("{} of {name} are not as they should be", count(faults, "record"));
        }
        Ok(())
    }
}

/// Prints all records; gives how many that are needed are not there.
async fn tell(
    config: &Config,
    resolver: &Resolver,
    domain: &str,
    addresses: &[IpAddr],
) -> Result<usize> {
    let known = resolver.addresses(&config.hostname).await.unwrap_or_default();
    let ours = if addresses.is_empty() { &known } else { addresses };
    let mut faults = 0;
    say(&format!("; {domain}, served by {} ({})", config.hostname, config.file.display()));
    if ours.is_empty() {
        faults += 1;
        say(&format!(
            "; MISSING {}. A your address here; name it by --address to see it checked",
            config.hostname
        ));
    }
    for section in wanted::records(config, domain, ours) {
        say(&format!("\n; {}", section.title));
        for record in &section.records {
            let state = state(resolver, record).await;
            faults += usize::from(show(record, &state));
        }
    }
    faults += tell_keys(config, resolver, domain).await?;
    say(NOTES);
    Ok(faults)
}

/// Our signatures' keys.
async fn tell_keys(config: &Config, resolver: &Resolver, domain: &str) -> Result<usize> {
    say("\n; DKIM: others verify our signature with these keys (RFC 6376)");
    let signers = wiring::authentication::signers(config).context("[[dkim]]")?;
    let mut faults = 0;
    let mut any = false;
    for signer in signers.iter().filter(|signer| signer.domain().eq_ignore_ascii_case(domain)) {
        any = true;
        let fault = dkim::fault(resolver, signer).await?;
        let line = dkim::record_line(signer)?;
        faults += usize::from(fault.is_some());
        match fault {
            None => say(&format!("; ok\n{line}")),
            Some(fault) => say(&format!("; MISSING: {fault}\n{line}")),
        }
    }
    if !any {
        faults += 1;
        say(&format!(
            "; MISSING: no key yet; make one: gatepost dkim new {domain} --selector s1 --key dkim-s1.pem"
        ));
    }
    Ok(faults)
}

/// Prints a record with its mark; true if it is a fault.
fn show(record: &Wanted, state: &State) -> bool {
    let line = record.line();
    let now = |found: &[String]| {
        found.iter().for_each(|text| say(&format!(";   now: {text}")));
    };
    match state {
        State::Right => say(&format!("; ok\n{line}")),
        State::Another(found) => {
            say("; ok, with a content of its own");
            now(found);
            say(&format!("; {line}"));
        }
        State::Missing if record.need == Need::Optional => {
            say(&format!("; not there, optional\n{line}"))
        }
        State::Missing => say(&format!("; MISSING\n{line}")),
        State::Wrong(found) => {
            say("; DIFFERS");
            now(found);
            say(&line);
        }
        State::Unknown(why) => say(&format!("; NOT KNOWN: {why}\n{line}")),
    }
    !matches!(state, State::Right | State::Another(_)) && record.need != Need::Optional
}

/// Compares a record with what the DNS says.
async fn state(resolver: &Resolver, wanted: &Wanted) -> State {
    let answer = match resolver.lookup(&wanted.name, wanted.kind).await {
        Ok(answer) => answer,
        Err(error) => return State::Unknown(error.to_string()),
    };
    let texts = answer.records.iter().filter_map(text_of);
    // At one name can be texts for others, too.
    let found: Vec<String> = texts.filter(|text| wanted.concerns(text)).collect();
    if found.iter().any(|text| wanted.is_met_by(text)) {
        // RFC 7208 §4.5 and RFC 9989 §4.10 allow one record and no more.
        let is_single = wanted.kind != Kind::Txt || found.len() == 1;
        return if is_single { State::Right } else { State::Wrong(found) };
    }
    match found.as_slice() {
        [] => State::Missing,
        [_] if wanted.need != Need::Exact && wanted.kind == Kind::Txt => State::Another(found),
        _ => State::Wrong(found),
    }
}

/// A record as zone files have it, without its name and type.
fn text_of(record: &Record) -> Option<String> {
    Some(match record {
        Record::A(address) => address.to_string(),
        Record::Aaaa(address) => address.to_string(),
        Record::Mx { preference, exchange } => format!("{preference} {}", dotted(exchange)),
        Record::Txt(text) => String::from_utf8_lossy(text).into_owned(),
        Record::Name(name) => dotted(name),
        Record::Srv { priority, weight, port, target } => {
            format!("{priority} {weight} {port} {}", dotted(target))
        }
    })
}

/// An absolute name, in lower case.
fn dotted(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.').to_ascii_lowercase())
}

const NOTES: &str = "
; Beyond these, when the domain works:
;   SRV for IMAP (_imaps._tcp) belongs to the IMAP server's host (RFC 6186 §3.2)
;   MTA-STS (RFC 8461): TXT at _mta-sts and a policy at https://mta-sts.DOMAIN/.well-known/mta-sts.txt tell others to
;   demand TLS; it needs a certificate that the world trusts
;   DANE (RFC 7672): TLSA at _25._tcp of the host does the same where the zone is signed (DNSSEC)
;   the PTR record is set by who gave you the address, not in your own zone";
