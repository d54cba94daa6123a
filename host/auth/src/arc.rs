//! ARC (RFC 8617): who handled a message on its way, and what each of them had found.

mod seal;
mod set;

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::join_all;
use message::{Header, Octets};
use net::Resolver;

pub use seal::Sealing;

use crate::canonical::Form;
use crate::dkim::{self, Candidate, Fault, lookup};
use crate::limits::Limits;
use crate::outcome::{ArcChain, ArcResult, DkimResult, Sealer};
use crate::tags::without_signature;
use set::{ChainValidation, Set};

/// Validates the chain of a message (RFC 8617 §5.2).
pub(crate) async fn verify(
    resolver: &Resolver,
    limits: &Limits,
    header: &Header,
    content: &Arc<dyn Octets>,
    _now: SystemTime,
) -> ArcChain {
    let sets = match set::collect(header, limits) {
        Ok(sets) if sets.is_empty() => return ArcChain::none(),
        Ok(sets) => sets,
        Err(fault) => return chain(&[], Err(fault)),
    };
    let validated = validate(resolver, limits, header, content, &sets).await;
    chain(&sets, validated)
}

fn chain(sets: &[Set<'_>], validated: Result<(), Fault>) -> ArcChain {
    let sealers = sets
        .iter()
        .map(|set| Sealer {
            domain: set.seal.domain.clone(),
            selector: set.seal.selector.clone(),
            results: set.results.clone(),
        })
        .collect();
    let (result, problem) = match validated {
        Ok(()) => (ArcResult::Pass, None),
        Err(Fault { result: DkimResult::TempError, problem }) => {
            (ArcResult::TempError, Some(problem))
        }
        Err(fault) => (ArcResult::Fail, Some(fault.problem)),
    };
    ArcChain { result, sealers, problem }
}

async fn validate(
    resolver: &Resolver,
    limits: &Limits,
    header: &Header,
    content: &Arc<dyn Octets>,
    sets: &[Set<'_>],
) -> Result<(), Fault> {
    // RFC 8617 §5.2 step 3: the first seal says "none", all others "pass".
    for (index, set) in sets.iter().enumerate() {
        let expected = if index == 0 { ChainValidation::None } else { ChainValidation::Pass };
        if set.seal.validation != expected {
            return Err(Fault::permanent(format!("the seal {} says another cv=", index + 1)));
        }
    }
    let newest = sets.last().ok_or_else(|| Fault::permanent("there is no set"))?;
    validate_message(resolver, limits, header, content, newest).await?;
    let seals = (0..sets.len()).map(|index| validate_seal(resolver, limits, &sets[..=index]));
    join_all(seals).await.into_iter().collect()
}

/// RFC 8617 §5.2 step 4: the newest message signature.
async fn validate_message(
    resolver: &Resolver,
    limits: &Limits,
    header: &Header,
    content: &Arc<dyn Octets>,
    set: &Set<'_>,
) -> Result<(), Fault> {
    let signature = set.signature.clone();
    let key = signature.find_key(resolver, limits).await?;
    signature.check_key(&key, limits)?;
    let candidate = Candidate { field: set.signature_field, signature, key };
    let bodies = dkim::digest_bodies(header, content, &[&candidate])
        .await
        .map_err(|problem| Fault::new(DkimResult::TempError, problem))?;
    let body = &bodies[&candidate.signature.body_plan()];
    dkim::check(header, &candidate, body).map(|_| ())
}

/// RFC 8617 §5.2 step 6, §5.1.1: a seal covers all sets up to its own.
async fn validate_seal(
    resolver: &Resolver,
    limits: &Limits,
    sets: &[Set<'_>],
) -> Result<(), Fault> {
    let (set, older) = sets.split_last().ok_or_else(|| Fault::permanent("there is no set"))?;
    let seal = &set.seal;
    let names = (seal.selector.as_str(), seal.domain.as_str());
    let key = lookup(resolver, limits, names, seal.algorithm).await?;
    let bits = key.public.bits();
    if seal.algorithm == dkim::Algorithm::RsaSha256
        && !(limits.rsa_minimum_bits..=limits.rsa_maximum_bits).contains(&bits)
    {
        return Err(Fault::permanent(format!("the key has {bits} bits")));
    }
    let mut data = sealed_fields(older);
    data.extend_from_slice(&Form::Relaxed.field(set.results_field));
    data.extend_from_slice(&Form::Relaxed.field(set.signature_field));
    let value = without_signature(set.seal_field.raw_value());
    data.extend_from_slice(&Form::Relaxed.own_field(set.seal_field, &value));
    if key.public.verifies(&data, &seal.signature) {
        Ok(())
    } else {
        Err(Fault::new(DkimResult::Fail, format!("the seal {} does not hold", sets.len())))
    }
}

/// The fields of whole sets, the oldest first.
fn sealed_fields(sets: &[Set<'_>]) -> Vec<u8> {
    let mut data = Vec::new();
    for set in sets {
        for field in [set.results_field, set.signature_field, set.seal_field] {
            data.extend_from_slice(&Form::Relaxed.field(field));
        }
    }
    data
}
