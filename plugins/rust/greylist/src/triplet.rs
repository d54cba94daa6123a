//! What counts as the same mail: client, reverse-path and recipient, each without what changes
//! from one attempt to the next.

use std::net::IpAddr;

use gatepost_plugin::config::{network_of, split};

use crate::config::Config;

/// The network of the client, the reverse-path and the recipient.
pub(crate) struct Triplet {
    network: String,
    sender: String,
    recipient: String,
}

impl Triplet {
    /// An empty sender is the null reverse-path.
    pub(crate) fn new(config: &Config, client: IpAddr, sender: &str, recipient: &str) -> Self {
        Self {
            // Large senders try again from another address of the same network.
            network: network_of(client, config.ipv4_prefix, config.ipv6_prefix),
            sender: stable(sender),
            recipient: recipient.to_ascii_lowercase(),
        }
    }

    /// The key of what is remembered about this triplet.
    pub(crate) fn key(&self) -> String {
        bounded(["t/", &self.network, "/", &self.sender, "/", &self.recipient].concat())
    }

    /// The key of what is remembered about the client.
    pub(crate) fn client_key(&self) -> String {
        ["c/", &self.network].concat()
    }
}

/// A reverse-path without the parts that lists and servers make anew for each message: the tag of
/// BATV (`prvs=0123ABCDEF=bob`), what follows `+`, and every run of digits (VERP, SRS).
fn stable(sender: &str) -> String {
    let sender = sender.to_ascii_lowercase();
    let (local_part, domain) = split(&sender);
    let untagged = local_part
        .strip_prefix("prvs=")
        .and_then(|rest| rest.split_once('='))
        .map_or(local_part, |(_, local)| local);
    let base = match untagged.split_once('+') {
        Some((base, _)) if !base.is_empty() => base,
        _ => untagged,
    };
    let mut stable = String::with_capacity(sender.len());
    for letter in base.chars() {
        if !letter.is_ascii_digit() {
            stable.push(letter);
        } else if !stable.ends_with('#') {
            stable.push('#');
        }
    }
    if !domain.is_empty() {
        stable.push('@');
        stable.push_str(domain);
    }
    stable
}

/// Keys of the store are short. What is longer keeps its beginning, for those who look, and a
/// checksum of the whole; whoever makes two of them collide has gained one delay.
fn bounded(key: String) -> String {
    if key.len() <= KEY_OCTETS {
        return key;
    }
    // FNV-1a, 64 bits.
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut end = KEY_OCTETS - 17;
    while !key.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{hash:016x}", key.get(..end).unwrap_or(""))
}

/// Far below every limit of the store; nearly all triplets fit.
const KEY_OCTETS: usize = 200;

#[cfg(test)]
mod tests {
    use super::{bounded, stable};

    #[test]
    fn a_sender_keeps_what_does_not_change() {
        check("Bob@Example.org", "bob@example.org");
        check("bounce-12345-678@lists.example", "bounce-#-#@lists.example");
        check(
            "bounce-12345=bob=example.org@lists.example",
            "bounce-#=bob=example.org@lists.example",
        );
        check("list+bob=example.org@lists.example", "list@lists.example");
        check("prvs=0123abcdef=bob@example.org", "bob@example.org");
        check("SRS0=HHH=TT=example.org=bob@fwd.example", "srs#=hhh=tt=example.org=bob@fwd.example");
        check("+only@example.org", "+only@example.org");
        check("prvs=broken@example.org", "prvs=broken@example.org");
        check("12345@example.org", "#@example.org");
        check("", "");

        fn check(sender: &str, expected: &str) {
            assert_eq!(stable(sender), expected, "{sender}");
        }
    }

    #[test]
    fn long_keys_stay_apart() {
        let (a, b) = (bounded("ü".repeat(300) + "a"), bounded("ü".repeat(300) + "b"));
        assert!(a.len() <= super::KEY_OCTETS && a != b, "{a} {b}");
    }
}
