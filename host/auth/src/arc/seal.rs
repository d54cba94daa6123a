//! Sealing (RFC 8617 §5.1): what a forwarder adds, so that the next one may believe what we had found.

use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use message::{Edit, Header, NewField, Octets};

use super::sealed_fields;
use super::set::{self, RESULTS, SEAL, SIGNATURE, Set};
use crate::canonical::{BodyDigest, BodyPlan, Form, digest_body};
use crate::dkim::{PrivateKey, SignError, seconds, signed_fields};
use crate::limits::Limits;
use crate::name;
use crate::outcome::ArcResult;

/// Seals for one domain with one key.
#[derive(Clone, Debug)]
pub struct Sealing {
    domain: String,
    selector: String,
    key: Arc<PrivateKey>,
    /// The fields that the message signature covers, each as often as it is there.
    pub fields: Vec<String>,
}

impl Sealing {
    /// Seals for this domain with the key that is published at this selector.
    pub fn new(domain: &str, selector: &str, key: Arc<PrivateKey>) -> Result<Self, SignError> {
        let canonical =
            |text: &str| name::canonical(text).ok_or_else(|| SignError::Name(text.to_owned()));
        Ok(Self {
            domain: canonical(domain)?,
            selector: canonical(selector)?,
            key,
            fields: FIELDS.iter().map(|name| (*name).to_owned()).collect(),
        })
    }

    /// The three fields of a new set, to be put on top in this order, or nothing where the chain must not grow: it has
    /// failed before us, or it is full (RFC 8617 §5.1, §5.1.2). `found` is what validation of the chain came to, `results`
    /// the value of our Authentication-Results field. It waits for the disk while it reads the body.
    pub fn seal(
        &self,
        header: &Header,
        body: &dyn Octets,
        body_offset: u64,
        found: ArcResult,
        results: &str,
        now: SystemTime,
    ) -> Result<Vec<Edit>, SignError> {
        let limits = Limits::default();
        let Ok(sets) = set::collect(header, &limits) else { return Ok(Vec::new()) };
        let validation = match (found, sets.len()) {
            (_, count) if count >= limits.arc_sets => return Ok(Vec::new()),
            (ArcResult::None, 0) => "none",
            (ArcResult::Pass, 1..) => "pass",
            // RFC 8617 §5.1.2: a chain that has failed is sealed once more, with "fail"; one that we could not judge is
            // left as it is.
            (ArcResult::Fail, 1..) if !sets.iter().any(Set::has_failed) => "fail",
            _ => return Ok(Vec::new()),
        };
        let instance = sets.len() + 1;
        let results = Edit::prepend(RESULTS, &format!("i={instance}; {results}"))?;
        let plan = BodyPlan { form: Form::Relaxed, length: None };
        let digests = digest_body(body, body_offset, &[plan])?;
        let digest = digests.first().ok_or(SignError::Key)?;
        let signature = self.message_signature(header, digest, instance, now)?;
        // RFC 8617 §5.1.2: a seal of a failed chain covers its own set only.
        let mut data = if validation == "fail" { Vec::new() } else { sealed_fields(&sets) };
        data.extend_from_slice(&canonical(&results));
        data.extend_from_slice(&canonical(&signature));
        let time = seconds(now);
        let seal = crate::dkim::sign_field(SEAL, &self.key, Form::Relaxed, data, |signature| {
            format!(
                "a={}; b={signature}; cv={validation}; d={}; i={instance}; s={}; t={time}",
                self.key.algorithm().as_str(),
                self.domain,
                self.selector,
            )
        })?;
        Ok(vec![results, signature, seal])
    }

    fn message_signature(
        &self,
        header: &Header,
        body: &BodyDigest,
        instance: usize,
        now: SystemTime,
    ) -> Result<Edit, SignError> {
        let names: Vec<String> = (self.fields.iter())
            .flat_map(|name| {
                let count = header.get_all(name).count().min(MOST_INSTANCES);
                std::iter::repeat_n(name.to_ascii_lowercase(), count)
            })
            .collect();
        let data = signed_fields(header, &names, Form::Relaxed);
        let time = seconds(now);
        crate::dkim::sign_field(SIGNATURE, &self.key, Form::Relaxed, data, |signature| {
            format!(
                "a={}; b={signature}; bh={}; c=relaxed/relaxed; d={}; h={}; i={instance}; s={}; t={time}",
                self.key.algorithm().as_str(),
                STANDARD.encode(body.digest.as_ref()),
                self.domain,
                names.join(":"),
                self.selector,
            )
        })
    }
}

fn canonical(edit: &Edit) -> Vec<u8> {
    let raw = match edit {
        Edit::Prepend(field) => NewField::raw(field).clone(),
        _ => return Vec::new(),
    };
    let header = Header::parse(raw);
    header.fields().next().map(|field| Form::Relaxed.field(field)).unwrap_or_default()
}

/// RFC 8617 §4.1.2: as DKIM has it, DKIM-Signature included, Authentication-Results not.
const FIELDS: [&str; 17] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "List-Id",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "DKIM-Signature",
];

/// As many instances of one field are signed.
const MOST_INSTANCES: usize = 50;
