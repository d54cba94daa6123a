//! The PROXY protocol: who the client is, told by a balancer in front of us
//! (HAProxy's "The PROXY protocol", versions 1 and 2).
//!
//! The crate `proxy-header` reads the fields. This module finds where the header ends without
//! reading past it (a TLS handshake may follow), and refuses what the crate lets through although
//! the specification does not.

use std::net::SocketAddr;

use proxy_header::{Error as HeaderError, ParseConfig, Protocol, ProxyHeader, Tlv};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proxied {
    /// The balancer speaks for itself, or does not know: the socket's own addresses hold.
    Local,
    /// The client, and the address that it connected to.
    Client { source: SocketAddr, destination: SocketAddr },
}

/// Why there is no usable header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("the peer closed or broke the connection inside the PROXY header")]
    Read(#[from] std::io::Error),
    #[error("the octets are no PROXY header")]
    NotAHeader,
    #[error("the PROXY header is malformed")]
    Malformed,
}

/// Reads one header and not an octet more.
pub(crate) async fn read_header(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Proxied, ProxyError> {
    let mut header = Vec::with_capacity(V2_FIXED_OCTETS);
    loop {
        match wanted(&header)? {
            0 => return parse(&header),
            missing => read_some(stream, &mut header, missing).await?,
        }
    }
}

async fn read_some(
    stream: &mut (impl AsyncRead + Unpin),
    header: &mut Vec<u8>,
    missing: usize,
) -> Result<(), ProxyError> {
    let octets = stream.take(missing as u64).read_buf(header).await?;
    if octets == 0 {
        return Err(ProxyError::Read(std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}

/// How many more octets surely belong to the header; 0 when it is complete.
fn wanted(header: &[u8]) -> Result<usize, ProxyError> {
    if header.is_empty() {
        return Ok(V1_SHORTEST_OCTETS);
    }
    if V2_SIGNATURE.starts_with(&header[..header.len().min(V2_SIGNATURE.len())]) {
        return wanted_v2(header);
    }
    if V1_SIGNATURE.starts_with(&header[..header.len().min(V1_SIGNATURE.len())]) {
        return wanted_v1(header);
    }
    Err(ProxyError::NotAHeader)
}

fn wanted_v1(header: &[u8]) -> Result<usize, ProxyError> {
    // PROXY protocol §2.1: the line ends with CRLF, and 107 octets hold the longest.
    if header.len() < V1_SHORTEST_OCTETS {
        return Ok(V1_SHORTEST_OCTETS - header.len());
    }
    match header {
        [.., b'\r', b'\n'] => Ok(0),
        [.., b'\n'] => Err(ProxyError::Malformed),
        _ if header.len() >= V1_LONGEST_OCTETS => Err(ProxyError::Malformed),
        _ => Ok(1),
    }
}

fn wanted_v2(header: &[u8]) -> Result<usize, ProxyError> {
    let Some(fixed) = header.first_chunk::<V2_FIXED_OCTETS>() else {
        return Ok(V2_FIXED_OCTETS - header.len());
    };
    let total = V2_FIXED_OCTETS + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if total > V2_LONGEST_OCTETS {
        return Err(ProxyError::Malformed);
    }
    Ok(total - header.len())
}

fn parse(header: &[u8]) -> Result<Proxied, ProxyError> {
    // PROXY protocol §2.2: LOCAL is valid whatever addresses stand behind it, and they are ignored.
    if header.starts_with(&V2_SIGNATURE) && header[V2_SIGNATURE.len()] == V2_LOCAL {
        return Ok(Proxied::Local);
    }
    let config = ParseConfig { include_tlvs: true, allow_v1: true, allow_v2: true };
    let (parsed, octets) =
        ProxyHeader::parse(header, config).map_err(|_: HeaderError| ProxyError::Malformed)?;
    if octets != header.len() || parsed.tlvs().any(|tlv| tlv.is_err()) {
        return Err(ProxyError::Malformed);
    }
    let version_1 = header.starts_with(V1_SIGNATURE);
    if version_1 && !is_strict_v1(header, &parsed) {
        return Err(ProxyError::Malformed);
    }
    // PROXY protocol §2.2.3: a receiver that knows the checksum MUST verify it.
    if parsed.tlvs().flatten().any(|tlv| matches!(tlv, Tlv::Crc32c(_))) && !checksum_holds(header) {
        return Err(ProxyError::Malformed);
    }
    Ok(match parsed.proxied_address() {
        Some(address) if address.protocol == Protocol::Stream => {
            Proxied::Client { source: address.source, destination: address.destination }
        }
        // A datagram does not carry SMTP.
        Some(_) => return Err(ProxyError::Malformed),
        None => Proxied::Local,
    })
}

/// PROXY protocol §2.1: exactly one space between fields, numbers without leading zeros or signs.
/// The crate takes `+25`, `00025` and `PROXY_TCP4`.
fn is_strict_v1(header: &[u8], parsed: &ProxyHeader<'_>) -> bool {
    let Ok(line) = std::str::from_utf8(header) else { return false };
    let fields: Vec<&str> = line.trim_end_matches("\r\n").split(' ').collect();
    match (parsed.proxied_address(), fields.as_slice()) {
        (None, ["PROXY", "UNKNOWN", ..]) => true,
        (Some(address), ["PROXY", _, _, _, source_port, destination_port]) => {
            *source_port == address.source.port().to_string()
                && *destination_port == address.destination.port().to_string()
        }
        _ => false,
    }
}

/// The CRC-32C of the header, taken with the checksum's own four octets as zero.
fn checksum_holds(header: &[u8]) -> bool {
    let mut position = V2_FIXED_OCTETS
        + match header[13] >> 4 {
            1 => 12,
            2 => 36,
            3 => 216,
            _ => 0,
        };
    while let Some(&[kind, high, low]) = header.get(position..).and_then(|rest| rest.first_chunk())
    {
        let value = position + 3;
        if kind == TLV_CRC32C {
            let (before, rest) = header.split_at(value);
            let Some((sent, after)) = rest.split_first_chunk::<4>() else { return false };
            let checksum = [&[0; 4], after]
                .iter()
                .fold(crc32c::crc32c(before), |sum, octets| crc32c::crc32c_append(sum, octets));
            return checksum == u32::from_be_bytes(*sent);
        }
        position = value + usize::from(u16::from_be_bytes([high, low]));
    }
    false
}

const V1_SIGNATURE: &[u8] = b"PROXY ";
/// `PROXY UNKNOWN` and CRLF.
const V1_SHORTEST_OCTETS: usize = 15;
const V1_LONGEST_OCTETS: usize = 107;
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED_OCTETS: usize = 16;
/// Room for the Unix addresses (216 octets) and a few kilobytes of extensions; balancers send some hundred octets.
const V2_LONGEST_OCTETS: usize = 4096;
/// Version 2, command LOCAL.
const V2_LOCAL: u8 = 0x20;
const TLV_CRC32C: u8 = 0x03;

#[cfg(test)]
mod tests;
