//! The organization of a domain by the Public Suffix List (RFC 7489 §3.2).

/// The domain one label below its public suffix; the domain itself if it is a public suffix. The name is canonical.
pub fn organizational_domain(domain: &str) -> String {
    registrable(domain).unwrap_or(domain).to_owned()
}

/// One label below the public suffix. `None` for a public suffix.
pub(crate) fn registrable(domain: &str) -> Option<&str> {
    psl::domain_str(domain)
}
