//! The three fields of an ARC set (RFC 8617 §4.1), and sets in their order.

use base64::Engine;
use message::{Field, Header};

use crate::dkim::{Algorithm, Fault, Kind, LENIENT, Signature};
use crate::limits::Limits;
use crate::name;
use crate::outcome::DkimResult;
use crate::tags::{Tags, without_space};

/// One set that has the form of one.
#[derive(Clone, Debug)]
pub(super) struct Set<'a> {
    pub(super) results_field: Field<'a>,
    pub(super) signature_field: Field<'a>,
    pub(super) seal_field: Field<'a>,
    /// What stands in ARC-Authentication-Results behind `i=`.
    pub(super) results: String,
    pub(super) signature: Signature,
    pub(super) seal: Seal,
}

/// An ARC-Seal (RFC 8617 §4.1.3).
#[derive(Clone, Debug)]
pub(super) struct Seal {
    pub(super) algorithm: Algorithm,
    pub(super) signature: Vec<u8>,
    pub(super) domain: String,
    pub(super) selector: String,
    pub(super) validation: ChainValidation,
}

/// `cv=`: what the sealer had found of the chain before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChainValidation {
    None,
    Pass,
    Fail,
}

/// The sets of a message, the oldest first (RFC 8617 §5.2 steps 1 and 2). None is a message without a chain.
pub(super) fn collect<'a>(header: &'a Header, limits: &Limits) -> Result<Vec<Set<'a>>, Fault> {
    let results: Vec<Field<'_>> = header.get_all(RESULTS).collect();
    let signatures: Vec<Field<'_>> = header.get_all(SIGNATURE).collect();
    let seals: Vec<Field<'_>> = header.get_all(SEAL).collect();
    let count = results.len().max(signatures.len()).max(seals.len());
    // RFC 8617 §4.2.1: fifty sets at most.
    if count > limits.arc_sets {
        return Err(Fault::permanent("there are too many sets"));
    }
    let results = in_order(results, count, "ARC-Authentication-Results", limits)?;
    let signatures = in_order(signatures, count, "ARC-Message-Signature", limits)?;
    let seals = in_order(seals, count, "ARC-Seal", limits)?;
    results
        .into_iter()
        .zip(signatures)
        .zip(seals)
        .map(|((a, b), c)| read(a, b, c, limits))
        .collect()
}

/// Each instance from 1 to `count` once.
fn in_order<'a>(
    fields: Vec<Field<'a>>,
    count: usize,
    name: &str,
    limits: &Limits,
) -> Result<Vec<Field<'a>>, Fault> {
    let mut ordered: Vec<Option<Field<'a>>> = vec![None; count];
    for field in fields {
        let place = instance(field, limits)
            .and_then(|instance| ordered.get_mut(instance.checked_sub(1)?))
            .ok_or_else(|| Fault::permanent(format!("an {name} has a wrong i=")))?;
        if place.replace(field).is_some() {
            return Err(Fault::permanent(format!("two {name} have the same i=")));
        }
    }
    let complete: Option<Vec<_>> = ordered.into_iter().collect();
    complete.ok_or_else(|| Fault::permanent(format!("an {name} is missing")))
}

/// `i=` of a field, wherever in its tags it stands; in results it comes first.
fn instance(field: Field<'_>, limits: &Limits) -> Option<usize> {
    let text = text(field, limits)?;
    let written = if field.is(RESULTS) {
        let (name, value) = text.split(';').next()?.split_once('=')?;
        (name.trim() == "i").then_some(value.trim())?
    } else {
        Tags::parse(text).ok()?.get("i")?
    };
    written.parse().ok().filter(|_| written.bytes().all(|octet| octet.is_ascii_digit()))
}

fn text<'a>(field: Field<'a>, limits: &Limits) -> Option<&'a str> {
    let value = field.raw_value();
    std::str::from_utf8(value).ok().filter(|_| value.len() <= limits.field_octets)
}

fn read<'a>(
    results_field: Field<'a>,
    signature_field: Field<'a>,
    seal_field: Field<'a>,
    limits: &Limits,
) -> Result<Set<'a>, Fault> {
    let unread = || Fault::permanent("an ARC field cannot be read");
    let results = text(results_field, limits).ok_or_else(unread)?;
    let (_, results) = results.split_once(';').ok_or_else(unread)?;
    let mut told = crate::dkim::unread();
    let signature = Signature::read(signature_field, Kind::Arc, limits, &mut told)?;
    let tags = Tags::parse(text(seal_field, limits).ok_or_else(unread)?);
    let seal = Seal::from_tags(&tags.map_err(|error| Fault::permanent(error.to_string()))?)?;
    let results = results.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Set { results_field, signature_field, seal_field, results, signature, seal })
}

impl Set<'_> {
    /// Its sealer had found the chain broken.
    pub(super) fn has_failed(&self) -> bool {
        self.seal.validation == ChainValidation::Fail
    }
}

impl Seal {
    fn from_tags(tags: &Tags<'_>) -> Result<Self, Fault> {
        let required = |name: &str| {
            tags.get(name).ok_or_else(|| Fault::permanent(format!("a seal has no {name}=")))
        };
        // RFC 8617 §4.1.3: a seal has no h= and no bh=; with h= the chain has failed.
        if tags.get("h").is_some() {
            return Err(Fault::permanent("a seal has h="));
        }
        let named = |tag: &str| {
            name::canonical(required(tag)?)
                .ok_or_else(|| Fault::permanent(format!("a seal has a bad {tag}=")))
        };
        let validation = match required("cv")? {
            "none" => ChainValidation::None,
            "pass" => ChainValidation::Pass,
            "fail" => ChainValidation::Fail,
            _ => return Err(Fault::permanent("a seal has a bad cv=")),
        };
        let algorithm = Algorithm::parse(required("a")?);
        let time =
            tags.get("t").is_none_or(|time| time.bytes().all(|octet| octet.is_ascii_digit()));
        if !time {
            return Err(Fault::permanent("a seal has a bad t="));
        }
        Ok(Self {
            algorithm: algorithm.ok_or_else(|| Fault::permanent("a seal has an unknown a="))?,
            signature: LENIENT
                .decode(without_space(required("b")?))
                .map_err(|_| Fault::new(DkimResult::Fail, "a seal has a bad b="))?,
            domain: named("d")?,
            selector: named("s")?,
            validation,
        })
    }
}

pub(super) const RESULTS: &str = "ARC-Authentication-Results";
pub(super) const SIGNATURE: &str = "ARC-Message-Signature";
pub(super) const SEAL: &str = "ARC-Seal";
