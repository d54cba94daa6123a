//! Keys and rules of `[authentication]` and `[[dkim]]`, as the room `inbound` takes them.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use auth::arc::Sealing;
use auth::dkim::{PrivateKey, Signer};
use auth::{Discovery, Options, Trust};
use inbound::{Authentication, Quarantine};

use crate::config::{Config, DkimKey};

/// How mail is verified and signed. Reads the keys.
pub(crate) fn authentication(config: &Config) -> Result<Authentication> {
    let from = &config.authentication;
    let signers = signers(config)?;
    let sealing = match &from.seal {
        Some(domain) => sealing(config, domain)?,
        None => None,
    };
    let discovery =
        if from.public_suffix_list { Discovery::PublicSuffixList } else { Discovery::TreeWalk };
    Ok(Authentication {
        verify: from.verify,
        except_from: from.except_from.iter().copied().collect(),
        authserv_id: from.name.clone(),
        options: Options { discovery, ..Options::default() },
        trust: Trust {
            enforce: from.enforce,
            mailing_lists: from.mailing_lists.clone(),
            arc_sealers: from.arc_sealers.clone(),
        },
        quarantine: if from.hold { Quarantine::Hold } else { Quarantine::Mark },
        signers: signers.into_iter().map(Arc::new).collect(),
        // Filled in where those who report are started.
        seen: None,
        sealing: sealing.map(Arc::new),
    })
}

/// A signer for each `[[dkim]]`.
pub(crate) fn signers(config: &Config) -> Result<Vec<Signer>> {
    let signers = config.dkim.iter().map(|entry| {
        let signer = Signer::new(entry.domain.as_str(), &entry.selector, Arc::new(key(entry)?));
        signer.with_context(|| format!("[[dkim]] {}", entry.domain))
    });
    signers.collect()
}

fn sealing(config: &Config, domain: &str) -> Result<Option<Sealing>> {
    let Some(entry) = config.dkim.iter().find(|entry| entry.domain.as_str() == domain) else {
        return Ok(None);
    };
    Sealing::new(domain, &entry.selector, Arc::new(key(entry)?))
        .map(Some)
        .context("[authentication] seal")
}

fn key(entry: &DkimKey) -> Result<PrivateKey> {
    let place = || format!("[[dkim]] {}: {}", entry.domain, entry.key.display());
    let text = std::fs::read_to_string(&entry.key).with_context(place)?;
    PrivateKey::from_pem(&text).with_context(place)
}
