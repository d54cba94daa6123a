//! The field of a signature: DKIM-Signature (RFC 6376 §3.5) and ARC-Message-Signature (RFC 8617 §4.1.2).

use std::time::SystemTime;

use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use message::Field;
use net::Resolver;

use super::record::{Key, lookup};
use super::{Fault, seconds};
use crate::canonical::{BodyPlan, Form};
use crate::key::Algorithm;
use crate::limits::Limits;
use crate::name;
use crate::outcome::{Dkim, DkimResult};
use crate::tags::{Tags, colon_list, without_space};

/// Which field it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Dkim,
    /// Without `v=`, and with an `i=` that counts.
    Arc,
}

/// A signature that can be verified once its key is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) algorithm: Algorithm,
    pub(crate) signature: Vec<u8>,
    pub(crate) body_hash: Vec<u8>,
    pub(crate) domain: String,
    pub(crate) selector: String,
    pub(crate) header_form: Form,
    pub(crate) body_form: Form,
    pub(crate) signed: Vec<String>,
    pub(crate) length: Option<u64>,
    /// The domain of `i=`; the domain of the signature if there is none.
    pub(crate) identity_domain: String,
    pub(crate) time: Option<u64>,
    pub(crate) expires: Option<u64>,
}

impl Signature {
    /// Reads the field, and tells what could be read of it even if all of it cannot (RFC 6376 §6.1.1).
    pub(crate) fn read(
        field: Field<'_>,
        kind: Kind,
        limits: &Limits,
        told: &mut Dkim,
    ) -> Result<Self, Fault> {
        let value = field.raw_value();
        if value.len() > limits.field_octets {
            return Err(Fault::new(DkimResult::Neutral, "the signature is too long"));
        }
        let text = std::str::from_utf8(value)
            .map_err(|_| Fault::new(DkimResult::Neutral, "the signature cannot be read"))?;
        let tags = Tags::parse(text)
            .map_err(|error| Fault::new(DkimResult::Neutral, error.to_string()))?;
        Self::from_tags(&tags, kind, told)
    }

    fn from_tags(tags: &Tags<'_>, kind: Kind, told: &mut Dkim) -> Result<Self, Fault> {
        let required = |name: &str| {
            tags.get(name).ok_or_else(|| Fault::permanent(format!("{name}= is missing")))
        };
        if kind == Kind::Dkim && required("v")? != "1" {
            return Err(Fault::new(DkimResult::Neutral, "the version is unknown"));
        }
        let domain = name::canonical(required("d")?)
            .ok_or_else(|| Fault::permanent("d= is no domain name"))?;
        told.domain.clone_from(&domain);
        let selector =
            name::canonical(required("s")?).ok_or_else(|| Fault::permanent("s= is no selector"))?;
        told.selector.clone_from(&selector);
        let algorithm = algorithm(required("a")?, told)?;
        let written = without_space(required("b")?);
        told.signature = written.chars().take(8).collect();
        // RFC 6376 §3.5: simple. For ARC RFC 8617 is silent; its suite and its signers mean relaxed.
        let default = if kind == Kind::Arc { "relaxed/relaxed" } else { "simple/simple" };
        let (header_form, body_form) = forms(tags.get("c").unwrap_or(default))?;
        check_query(tags)?;
        let (time, expires) = (number(tags, "t")?, number(tags, "x")?);
        // RFC 6376 §3.5: x= must be greater than t=.
        if time.zip(expires).is_some_and(|(time, expires)| expires <= time) {
            return Err(Fault::permanent("x= is not after t="));
        }
        let identity = if kind == Kind::Dkim { tags.get("i") } else { None };
        Ok(Self {
            algorithm,
            signature: octets(&written, "b")?,
            body_hash: octets(&without_space(required("bh")?), "bh")?,
            signed: signed(required("h")?, kind)?,
            identity_domain: identity_domain(identity, &domain, told)?,
            length: number(tags, "l")?,
            domain,
            selector,
            header_form,
            body_form,
            time,
            expires,
        })
    }

    pub(crate) fn body_plan(&self) -> BodyPlan {
        BodyPlan { form: self.body_form, length: self.length }
    }

    /// RFC 6376 §3.5: a signature that has expired may be considered invalid.
    pub(crate) fn check_time(&self, now: SystemTime) -> Result<(), Fault> {
        match self.expires {
            Some(expires) if expires < seconds(now) => {
                Err(Fault::new(DkimResult::Policy, "the signature has expired"))
            }
            _ => Ok(()),
        }
    }

    /// The key under the name that the signature gives (RFC 6376 §3.6.2).
    pub(crate) async fn find_key(
        &self,
        resolver: &Resolver,
        limits: &Limits,
    ) -> Result<Key, Fault> {
        lookup(resolver, limits, (&self.selector, &self.domain), self.algorithm).await
    }

    /// Whether this key may speak for this signature (RFC 6376 §6.1.2).
    pub(crate) fn check_key(&self, key: &Key, limits: &Limits) -> Result<(), Fault> {
        // RFC 6376 §3.6.1 "s": no subdomain in i=.
        if key.strict && self.identity_domain != self.domain {
            return Err(Fault::permanent("the key is not for subdomains"));
        }
        if self.algorithm == Algorithm::RsaSha256 {
            let bits = key.public.bits();
            // RFC 8301 §3.2: verifiers must not consider signatures with keys of less than 1024 bits valid.
            if bits < limits.rsa_minimum_bits {
                return Err(Fault::permanent(format!("the key has only {bits} bits")));
            }
            if bits > limits.rsa_maximum_bits {
                return Err(Fault::new(DkimResult::Policy, format!("the key has {bits} bits")));
            }
        }
        Ok(())
    }
}

fn algorithm(written: &str, told: &mut Dkim) -> Result<Algorithm, Fault> {
    // What is not one of the words of the standard is not repeated to anybody.
    let known = Algorithm::parse(written);
    let old = if written == "rsa-sha1" { "rsa-sha1" } else { "" };
    told.algorithm = known.map_or(old, Algorithm::as_str).to_owned();
    // RFC 8301 §3.1: rsa-sha1 must not be used; such a signature has permanently failed.
    known.ok_or_else(|| match written {
        "rsa-sha1" => Fault::permanent("rsa-sha1 is no longer a signature (RFC 8301)"),
        _ => Fault::permanent("the algorithm is unknown"),
    })
}

fn forms(written: &str) -> Result<(Form, Form), Fault> {
    let (header, body) = written.split_once('/').unwrap_or((written, "simple"));
    Form::parse(header.trim())
        .zip(Form::parse(body.trim()))
        .ok_or_else(|| Fault::permanent("the canonicalization is unknown"))
}

/// RFC 6376 §3.5 "q": of the ways to the key one must be known.
fn check_query(tags: &Tags<'_>) -> Result<(), Fault> {
    let known = tags.get("q").is_none_or(|query| colon_list(query).any(|way| way == "dns/txt"));
    if known { Ok(()) } else { Err(Fault::permanent("the way to the key is unknown")) }
}

fn signed(written: &str, kind: Kind) -> Result<Vec<String>, Fault> {
    // An empty name stands for no field: sealers of ARC write such, and a list may then be empty.
    let names: Vec<String> = colon_list(written)
        .filter(|name| kind == Kind::Dkim || !name.is_empty())
        .map(str::to_owned)
        .collect();
    let valid = names.iter().all(|name| {
        !name.is_empty() && name.bytes().all(|octet| matches!(octet, 33..=57 | 59..=126))
    });
    let has = |wanted: &str| names.iter().any(|name| name.eq_ignore_ascii_case(wanted));
    match kind {
        _ if !valid => Err(Fault::permanent("h= is no list of field names")),
        // RFC 6376 §5.4: the From field must be signed.
        Kind::Dkim if !has("From") => Err(Fault::permanent("the From field is not signed")),
        // RFC 8617 §4.1.2: ARC-Seal must never be in h=.
        Kind::Arc if has("ARC-Seal") => Err(Fault::permanent("h= has ARC-Seal")),
        Kind::Dkim | Kind::Arc => Ok(names),
    }
}

/// RFC 6376 §3.5 "i": the domain of the signature or one below it.
fn identity_domain(written: Option<&str>, domain: &str, told: &mut Dkim) -> Result<String, Fault> {
    let Some(written) = written else { return Ok(domain.to_owned()) };
    let identity = written.rsplit_once('@').and_then(|(_, of)| name::canonical(of));
    match identity.filter(|identity| name::is_within(identity, domain)) {
        Some(identity) => {
            told.identity = without_space(written);
            Ok(identity)
        }
        None => Err(Fault::permanent("i= is not within d=")),
    }
}

fn number(tags: &Tags<'_>, name: &str) -> Result<Option<u64>, Fault> {
    let Some(written) = tags.get(name) else { return Ok(None) };
    let valid = !written.is_empty() && written.bytes().all(|octet| octet.is_ascii_digit());
    let number = written.parse().ok().filter(|_| valid);
    number.map(Some).ok_or_else(|| Fault::permanent(format!("{name}= is no number")))
}

fn octets(written: &str, name: &str) -> Result<Vec<u8>, Fault> {
    match LENIENT.decode(written) {
        Ok(octets) if !octets.is_empty() => Ok(octets),
        _ => Err(Fault::permanent(format!("{name}= is no Base64"))),
    }
}

/// Base64 with or without its padding: signers exist that leave it out.
pub(crate) const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
