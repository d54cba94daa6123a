//! Bounds of everything that a stranger's message or record makes us do.

use std::time::Duration;

/// How much work one message may cause.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Terms of SPF that look something up, for one identity (RFC 7208 §4.6.4: ten).
    pub spf_lookups: usize,
    /// Lookups of SPF that found nothing (RFC 7208 §4.6.4: two).
    pub spf_void_lookups: usize,
    /// Host names that one `mx` or `ptr` looks at (RFC 7208 §4.6.4: ten).
    pub spf_names: usize,
    /// For one identity of SPF with all its lookups (RFC 7208 §4.6.4: at least 20 s).
    pub spf_time: Duration,
    /// Signatures that are verified, from the top; further ones are reported as `policy`. Each costs a lookup and an
    /// RSA operation (RFC 6376 §6.1 allows a bound).
    pub dkim_signatures: usize,
    /// Sets of an ARC chain (RFC 8617 §4.2.1: 50).
    pub arc_sets: usize,
    /// Smallest RSA key (RFC 8301 §3.2: 1024 bits).
    pub rsa_minimum_bits: usize,
    /// Largest RSA key (RFC 8301 §3.2: verifiers must take up to 4096 bits).
    pub rsa_maximum_bits: usize,
    /// Domains in one From field whose policy is looked up.
    pub authors: usize,
    /// Octets of one signature field, of one record: more is nobody's signature.
    pub field_octets: usize,
    /// For all keys and policies of one message. The peer waits for the reply to its final dot for ten minutes
    /// (RFC 5321 §4.5.3.2.6), but plugins and the disk want their share.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            spf_lookups: 10,
            spf_void_lookups: 2,
            spf_names: 10,
            spf_time: Duration::from_secs(20),
            dkim_signatures: 10,
            arc_sets: 50,
            rsa_minimum_bits: 1024,
            rsa_maximum_bits: 4096,
            authors: 4,
            field_octets: 16 * 1024,
            time: Duration::from_secs(60),
        }
    }
}
