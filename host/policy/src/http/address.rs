//! Which addresses belong to the public internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is one of the public internet: none of the special purposes that IANA lists (RFC 6890 and its
/// successors), and none that hides such an IPv4 address inside of it.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let bits = u32::from(address);
    !SPECIAL_V4.iter().any(|(network, length)| {
        let network = u32::from_be_bytes(*network);
        bits >> (32 - length) == network >> (32 - length)
    })
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let bits = u128::from(address);
    let within = |network: u128, length: u32| bits >> (128 - length) == network >> (128 - length);
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    // RFC 6052: a translator would send these to the IPv4 address at their end; RFC 3056: 6to4 has it in front.
    if within(0x0064_ff9b << 96, 96) {
        return is_public_v4(Ipv4Addr::from(bits as u32));
    }
    if within(0x2002 << 112, 16) {
        return is_public_v4(Ipv4Addr::from((bits >> 80) as u32));
    }
    // RFC 4291 §2.4: global unicast is 2000::/3. What lies outside is loopback, unspecified, unique local (RFC 4193),
    // link-local, site-local (RFC 3879), multicast, or nobody's.
    within(0x2000 << 112, 3)
        && !SPECIAL_V6.iter().any(|(network, length)| within(*network, *length))
}

/// IANA IPv4 Special-Purpose Address Registry, multicast (RFC 5771), and the class E (RFC 1112 §4).
const SPECIAL_V4: [([u8; 4], u32); 16] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 31, 196, 0], 24),
    ([192, 52, 193, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 3),
];

/// IANA IPv6 Special-Purpose Address Registry, as far as it lies within 2000::/3: protocol assignments with Teredo
/// (RFC 2928, RFC 4380), documentation (RFC 3849, RFC 9637), AS112 (RFC 7535).
const SPECIAL_V6: [(u128, u32); 4] = [
    (0x2001 << 112, 23),
    (0x2001_0db8 << 96, 32),
    (0x2620_004f_8000 << 80, 48),
    (0x3fff << 112, 20),
];
