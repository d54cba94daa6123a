//! Signing (RFC 6376 §5).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use message::{Edit, Header, Octets};

use super::{PrivateKey, seconds, signed_fields};
use crate::canonical::{BodyDigest, BodyPlan, Form, digest_body};
use crate::name;

/// Signs for one domain with one key.
#[derive(Clone, Debug)]
pub struct Signer {
    domain: String,
    selector: String,
    key: Arc<PrivateKey>,
    /// Canonical forms of header and body; relaxed both, so that a refolded field or a space at a line's end does no harm.
    pub forms: (Form, Form),
    /// The fields that are signed. Each is signed as often as it is there, and some once more: see [`Signer::oversigned`].
    pub fields: Vec<String>,
    /// The fields that are signed once more than they are there, so that none can be added (RFC 6376 §8.15).
    pub oversigned: Vec<String>,
    /// How long a signature holds (`x=`); for ever without it.
    pub lifetime: Option<Duration>,
}

/// Why a message is not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The domain of a signer, or its selector.
    #[error("{0:?} is no domain name")]
    Name(String),
    /// RFC 6376 §5.4: the From field must be signed; without one there is nothing to say.
    #[error("the message has no From field")]
    NoAuthor,
    /// The body cannot be read.
    #[error("the body cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The provider failed.
    #[error("the key does not sign")]
    Key,
    /// The field would not be one.
    #[error("the signature makes no field: {0}")]
    Field(#[from] message::EditError),
}

impl Signer {
    /// Signs for this domain with the key that is published at this selector.
    pub fn new(domain: &str, selector: &str, key: Arc<PrivateKey>) -> Result<Self, SignError> {
        let canonical =
            |text: &str| name::canonical(text).ok_or_else(|| SignError::Name(text.to_owned()));
        Ok(Self {
            domain: canonical(domain)?,
            selector: canonical(selector)?,
            key,
            forms: (Form::Relaxed, Form::Relaxed),
            fields: FIELDS.iter().map(|name| (*name).to_owned()).collect(),
            oversigned: OVERSIGNED.iter().map(|name| (*name).to_owned()).collect(),
            lifetime: None,
        })
    }

    /// The domain that it signs for.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The name under which its key is published.
    pub fn selector(&self) -> &str {
        &self.selector
    }

    /// The key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// A DKIM-Signature field for this message. It waits for the disk while it reads the body.
    pub fn sign(
        &self,
        header: &Header,
        body: &dyn Octets,
        body_offset: u64,
        now: SystemTime,
    ) -> Result<Edit, SignError> {
        let plan = BodyPlan { form: self.forms.1, length: None };
        let digests = digest_body(body, body_offset, &[plan])?;
        let digest = digests.first().ok_or(SignError::Key)?;
        self.sign_digest(header, digest, now)
    }

    fn sign_digest(
        &self,
        header: &Header,
        body: &BodyDigest,
        now: SystemTime,
    ) -> Result<Edit, SignError> {
        if header.get("From").is_none() {
            return Err(SignError::NoAuthor);
        }
        let names = self.names(header);
        let time = seconds(now);
        let expires = self
            .lifetime
            .map_or_else(String::new, |lifetime| format!("; x={}", time + lifetime.as_secs()));
        let value = |signature: &str| {
            format!(
                "v=1; a={}; c={}/{}; d={}; s={}; t={time}{expires}; h={}; bh={}; b={signature}",
                self.key.algorithm().as_str(),
                self.forms.0.as_str(),
                self.forms.1.as_str(),
                self.domain,
                self.selector,
                names.join(" : "),
                STANDARD.encode(body.digest.as_ref()),
            )
        };
        let data = signed_fields(header, &names, self.forms.0);
        sign_field("DKIM-Signature", &self.key, self.forms.0, data, |signature| {
            value(&in_pieces(signature))
        })
    }

    /// RFC 6376 §5.4.2: a name for each instance, and one more for those to which nobody may add.
    fn names(&self, header: &Header) -> Vec<String> {
        let mut names = Vec::new();
        for name in &self.fields {
            let more =
                usize::from(self.oversigned.iter().any(|other| other.eq_ignore_ascii_case(name)));
            let count = header.get_all(name).count().min(MOST_INSTANCES) + more;
            names.extend(std::iter::repeat_n(name.clone(), count));
        }
        names
    }
}

/// Makes a field whose value holds its own signature. The lines break where they will break with the signature in its
/// place, for the placeholder is as long.
pub(crate) fn sign_field(
    name: &str,
    key: &PrivateKey,
    form: Form,
    mut data: Vec<u8>,
    value: impl Fn(&str) -> String,
) -> Result<Edit, SignError> {
    let placeholder = STANDARD.encode(vec![0; key.signature_length()]);
    let unsigned = Edit::prepend(name, &value(&placeholder))?;
    let Edit::Prepend(field) = &unsigned else { return Err(SignError::Key) };
    let header = Header::parse(field.raw().clone());
    let field = header.fields().next().ok_or(SignError::Key)?;
    data.extend_from_slice(
        &form.own_field(field, &crate::tags::without_signature(field.raw_value())),
    );
    let signature = STANDARD.encode(key.sign(&data).ok_or(SignError::Key)?);
    Ok(Edit::prepend(name, &value(&signature))?)
}

/// Base64 with spaces, where lines may break.
fn in_pieces(text: &str) -> String {
    let pieces: Vec<&str> = text
        .as_bytes()
        .chunks(72)
        .map(|piece| std::str::from_utf8(piece).unwrap_or_default())
        .collect();
    pieces.join(" ")
}

/// RFC 6376 §5.4.1: the fields that make a message what it is. Received and Return-Path change on the way.
const FIELDS: [&str; 22] = [
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
    "Content-Disposition",
    "Content-ID",
    "List-Id",
    "List-Help",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Post",
    "List-Owner",
    "List-Archive",
];

/// A second one of these would be shown by some readers in the place of the first.
const OVERSIGNED: [&str; 7] = ["From", "To", "Cc", "Subject", "Date", "Message-ID", "Content-Type"];

/// More instances of one field than this stay unsigned: the signature must stay a field of readable size.
const MOST_INSTANCES: usize = 50;
