//! What a server that forwards needs of the scheme: its secrets, and the domain that answers for what it forwards.

use std::fmt;
use std::time::SystemTime;

use smtp::{Domain, Host, Mailbox};

use super::{Srs, SrsError, is_rewritten};

/// Rewrites the reverse-paths of what is forwarded into a domain of ours, and restores them when a report comes back.
#[derive(Clone)]
pub struct Forwarder {
    srs: Srs,
    domain: Domain,
}

// Secrets are not printed.
impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl Forwarder {
    /// `domain` has its MX here and an SPF record that names our addresses.
    pub fn new(srs: Srs, domain: Domain) -> Self {
        Self { srs, domain }
    }

    /// The reverse-path to forward with.
    ///
    /// # Errors
    /// The address would be too long, or is no address any more.
    pub fn rewrite(&self, mailbox: &Mailbox, now: SystemTime) -> Result<Mailbox, SrsError> {
        let text = self.srs.forward(&mailbox.to_string(), &self.domain.to_ascii(), now)?;
        Mailbox::parse(&text).map_err(|_| SrsError::Malformed)
    }

    /// The reverse-path that was rewritten; `None` for an address that is an ordinary one, or of another domain.
    pub fn restore(&self, mailbox: &Mailbox, now: SystemTime) -> Option<Result<Mailbox, SrsError>> {
        let is_ours = |domain: &Domain| domain.to_ascii() == self.domain.to_ascii();
        let of_us = matches!(mailbox.host(), Host::Domain(domain) if is_ours(domain));
        if !of_us || !is_rewritten(mailbox.local_part().as_str()) {
            return None;
        }
        let restored = self.srs.reverse(&mailbox.to_string(), now);
        Some(restored.and_then(|text| Mailbox::parse(&text).map_err(|_| SrsError::Malformed)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn forwarder(secrets: &[&str]) -> Forwarder {
        let secrets = secrets.iter().map(|&secret| secret.to_owned()).collect();
        Forwarder::new(Srs::new(secrets).unwrap(), "example.org".parse().unwrap())
    }

    #[test]
    fn what_was_rewritten_is_restored_with_the_old_secret_too() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let sender: Mailbox = "carol@example.net".parse().unwrap();
        let rewritten = forwarder(&["first"]).rewrite(&sender, now).unwrap();
        assert!(rewritten.to_string().ends_with("=example.net=carol@example.org"), "{rewritten}");
        for secrets in [vec!["first"], vec!["second", "first"]] {
            assert_eq!(forwarder(&secrets).restore(&rewritten, now), Some(Ok(sender.clone())));
        }
        assert_eq!(forwarder(&["second"]).restore(&rewritten, now), Some(Err(SrsError::Hash)));
        let later = now + Duration::from_secs(30 * 24 * 3600);
        assert_eq!(forwarder(&["first"]).restore(&rewritten, later), Some(Err(SrsError::Expired)));
    }

    #[test]
    fn other_addresses_are_left_alone() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let ours = forwarder(&["secret"]);
        for address in ["alice@example.org", "SRS0=AAAA=BB=example.net=carol@example.com"] {
            assert_eq!(ours.restore(&address.parse().unwrap(), now), None, "{address}");
        }
        let forged = "SRS0=AAAA=BB=example.net=carol@EXAMPLE.org".parse().unwrap();
        assert!(matches!(ours.restore(&forged, now), Some(Err(_))));
    }
}
