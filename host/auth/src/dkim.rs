//! DKIM (RFC 6376, 8301, 8463): whose signature is on a message, and ours.

mod record;
mod sign;
mod signature;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use message::{Field, Header, Octets};
use net::Resolver;

pub use crate::canonical::Form;
pub use crate::key::{Algorithm, KeyError, PrivateKey};
pub(crate) use sign::sign_field;
pub use sign::{SignError, Signer};

pub(crate) use record::{Key, lookup};
pub(crate) use signature::{Kind, LENIENT, Signature};

use crate::canonical::{BodyDigest, BodyPlan, digest_body};
use crate::limits::Limits;
use crate::outcome::{Dkim, DkimResult};

/// Why a signature is not good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) result: DkimResult,
    pub(crate) problem: String,
}

impl Fault {
    pub(crate) fn new(result: DkimResult, problem: impl Into<String>) -> Self {
        Self { result, problem: problem.into() }
    }

    pub(crate) fn permanent(problem: impl Into<String>) -> Self {
        Self::new(DkimResult::PermError, problem)
    }
}

/// A signature with its key, and the field it stands in.
pub(crate) struct Candidate<'a> {
    pub(crate) field: Field<'a>,
    pub(crate) signature: Signature,
    pub(crate) key: Key,
}

/// Verifies the signatures of a message, from the top (RFC 6376 §6.1).
pub(crate) async fn verify(
    resolver: &Resolver,
    limits: &Limits,
    header: &Header,
    content: &Arc<dyn Octets>,
    now: SystemTime,
) -> Vec<Dkim> {
    let fields: Vec<Field<'_>> = header.get_all("DKIM-Signature").collect();
    let read =
        fields.iter().enumerate().map(|(index, field)| read(resolver, limits, index, *field, now));
    let mut found: Vec<(Dkim, Option<Candidate<'_>>)> = join_all(read).await;
    let candidates: Vec<&Candidate<'_>> =
        found.iter().filter_map(|(_, candidate)| candidate.as_ref()).collect();
    let bodies = digest_bodies(header, content, &candidates).await;
    for (dkim, candidate) in &mut found {
        let Some(candidate) = candidate else { continue };
        let checked = match &bodies {
            Ok(bodies) => check(header, candidate, &bodies[&candidate.signature.body_plan()]),
            Err(problem) => Err(Fault::new(DkimResult::TempError, problem.clone())),
        };
        match checked {
            Ok(Coverage { partial }) => (dkim.result, dkim.partial) = (DkimResult::Pass, partial),
            Err(fault) => (dkim.result, dkim.problem) = (fault.result, Some(fault.problem)),
        }
    }
    found.into_iter().map(|(dkim, _)| dkim).collect()
}

/// Reads one signature and finds its key.
async fn read<'a>(
    resolver: &Resolver,
    limits: &Limits,
    index: usize,
    field: Field<'a>,
    now: SystemTime,
) -> (Dkim, Option<Candidate<'a>>) {
    let mut dkim = unread();
    let found = async {
        if index >= limits.dkim_signatures {
            return Err(Fault::new(DkimResult::Policy, "too many signatures"));
        }
        let signature = Signature::read(field, Kind::Dkim, limits, &mut dkim)?;
        signature.check_time(now)?;
        let key = signature.find_key(resolver, limits).await?;
        dkim.key_bits = Some(key.public.bits());
        dkim.testing = key.testing;
        signature.check_key(&key, limits)?;
        Ok(Candidate { field, signature, key })
    };
    match found.await {
        Ok(candidate) => (dkim, Some(candidate)),
        Err(fault) => {
            (dkim.result, dkim.problem) = (fault.result, Some(fault.problem));
            (dkim, None)
        }
    }
}

pub(crate) fn unread() -> Dkim {
    Dkim {
        result: DkimResult::Neutral,
        domain: String::new(),
        selector: String::new(),
        identity: String::new(),
        algorithm: String::new(),
        signature: String::new(),
        key_bits: None,
        partial: false,
        testing: false,
        problem: None,
    }
}

/// The digests that these signatures want, from one reading of the body.
pub(crate) async fn digest_bodies(
    header: &Header,
    content: &Arc<dyn Octets>,
    candidates: &[&Candidate<'_>],
) -> Result<HashMap<BodyPlan, BodyDigest>, String> {
    let mut plans: Vec<BodyPlan> = Vec::new();
    for candidate in candidates {
        let plan = candidate.signature.body_plan();
        if !plans.contains(&plan) {
            plans.push(plan);
        }
    }
    if plans.is_empty() {
        return Ok(HashMap::new());
    }
    let (content, offset) = (Arc::clone(content), header.body_offset());
    let digests = tokio::task::spawn_blocking(move || {
        digest_body(content.as_ref(), offset, &plans)
            .map(|found| plans.into_iter().zip(found).collect())
    });
    match digests.await {
        Ok(Ok(digests)) => Ok(digests),
        Ok(Err(error)) => Err(format!("the body cannot be read: {error}")),
        Err(_) => Err("the body cannot be read".to_owned()),
    }
}

/// What of the body a good signature covers.
pub(crate) struct Coverage {
    pub(crate) partial: bool,
}

/// RFC 6376 §6.1.3: the body first, then the header.
pub(crate) fn check(
    header: &Header,
    candidate: &Candidate<'_>,
    body: &BodyDigest,
) -> Result<Coverage, Fault> {
    let signature = &candidate.signature;
    // RFC 6376 §3.5: l= must not be larger than the body.
    if signature.length.is_some_and(|length| length > body.length) {
        return Err(Fault::permanent("l= says more than the body has"));
    }
    if body.digest.as_ref() != signature.body_hash {
        return Err(Fault::new(DkimResult::Fail, "the body was changed"));
    }
    let mut data = signed_fields(header, &signature.signed, signature.header_form);
    let value = crate::tags::without_signature(candidate.field.raw_value());
    data.extend_from_slice(&signature.header_form.own_field(candidate.field, &value));
    if !candidate.key.public.verifies(&data, &signature.signature) {
        return Err(Fault::new(DkimResult::Fail, "the header was changed, or the key is another"));
    }
    Ok(Coverage { partial: signature.length.is_some_and(|length| length < body.length) })
}

/// The canonical fields that `h=` names. RFC 6376 §5.4.2: of fields of one name the lowest first; a name beyond them is
/// nothing.
pub(crate) fn signed_fields(header: &Header, names: &[String], form: Form) -> Vec<u8> {
    let mut stacks: HashMap<String, Vec<Field<'_>>> = HashMap::new();
    for field in header.fields() {
        stacks.entry(field.name().to_ascii_lowercase()).or_default().push(field);
    }
    let mut data = Vec::new();
    for name in names {
        let field = stacks.get_mut(&name.to_ascii_lowercase()).and_then(Vec::pop);
        if let Some(field) = field {
            data.extend_from_slice(&form.field(field));
        }
    }
    data
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
