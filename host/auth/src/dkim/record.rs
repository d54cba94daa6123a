//! Key records (RFC 6376 §3.6).

use base64::Engine;
use net::{Kind as DnsKind, Record as DnsRecord, Resolver};

use super::Fault;
use super::signature::LENIENT;
use crate::key::{Algorithm, PublicKey};
use crate::limits::Limits;
use crate::outcome::DkimResult;
use crate::tags::{Tags, colon_list, without_space};

/// A key that was published.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) public: PublicKey,
    /// `t=y`
    pub(crate) testing: bool,
    /// `t=s`
    pub(crate) strict: bool,
}

/// Finds the key of a signature (RFC 6376 §3.6.2).
pub(crate) async fn lookup(
    resolver: &Resolver,
    limits: &Limits,
    (selector, domain): (&str, &str),
    algorithm: Algorithm,
) -> Result<Key, Fault> {
    let name = format!("{selector}._domainkey.{domain}");
    let answer = tokio::time::timeout(limits.time, resolver.lookup(&name, DnsKind::Txt)).await;
    let answer = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(Fault::new(DkimResult::TempError, error.to_string())),
        Err(_) => return Err(Fault::new(DkimResult::TempError, "the DNS did not answer")),
    };
    let texts = answer.records.iter().filter_map(|record| match record {
        DnsRecord::Txt(text) => Some(text.as_slice()),
        _ => None,
    });
    let mut fault = Fault::permanent("no key is published");
    // RFC 6376 §3.6.2.2: with several records it is ours to choose; the first that can be used, of a few.
    for text in texts.take(MOST_KEYS) {
        match parse(text, algorithm, limits) {
            Ok(key) => return Ok(key),
            Err(found) => fault = found,
        }
    }
    Err(fault)
}

/// Reads a record that is to be used with this algorithm (RFC 6376 §6.1.2).
pub(super) fn parse(text: &[u8], algorithm: Algorithm, limits: &Limits) -> Result<Key, Fault> {
    if text.len() > limits.field_octets {
        return Err(Fault::permanent("the key record is too long"));
    }
    let text =
        std::str::from_utf8(text).map_err(|_| Fault::permanent("the key record cannot be read"))?;
    let tags =
        Tags::parse(text).map_err(|error| Fault::permanent(format!("the key record: {error}")))?;
    // RFC 6376 §3.6.1: the version comes first, if there is one.
    if tags.get("v").is_some_and(|version| version != "DKIM1" || tags.first() != Some("v")) {
        return Err(Fault::permanent("the version of the key record is unknown"));
    }
    if tags.get("k").unwrap_or("rsa") != algorithm.key_type() {
        return Err(Fault::permanent("the key is of another type than the signature"));
    }
    let allows = |name: &str, wanted: &[&str]| {
        tags.get(name).is_none_or(|list| colon_list(list).any(|one| wanted.contains(&one)))
    };
    if !allows("h", &["sha256"]) {
        return Err(Fault::permanent("the key is not for this hash"));
    }
    if !allows("s", &["*", "email"]) {
        return Err(Fault::permanent("the key is not for mail"));
    }
    let written =
        without_space(tags.get("p").ok_or_else(|| Fault::permanent("the key record has no key"))?);
    // RFC 6376 §3.6.1: an empty value means that the key was revoked.
    if written.is_empty() {
        return Err(Fault::permanent("the key was revoked"));
    }
    let octets = LENIENT.decode(written).map_err(|_| Fault::permanent("the key is no Base64"))?;
    let public = PublicKey::new(algorithm, &octets)
        .ok_or_else(|| Fault::permanent("the key is no key of its type"))?;
    let flag = |wanted: &str| {
        tags.get("t").is_some_and(|flags| colon_list(flags).any(|one| one == wanted))
    };
    Ok(Key { public, testing: flag("y"), strict: flag("s") })
}

/// Records at one name that are tried.
const MOST_KEYS: usize = 4;
