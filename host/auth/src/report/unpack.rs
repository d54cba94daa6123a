//! Reports as they come: XML, gzip, ZIP, or a message with one of them in it.

use std::io::Read;

use flate2::read::{DeflateDecoder, GzDecoder};
use message::mime::Parts;

use super::{ReadError, Report};

/// How much one file of a stranger may become.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Octets of the XML, inflated. The largest of real reports have some megabytes; a bomb has no end.
    pub inflated: u64,
    /// Files in one archive that are looked at.
    pub files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { inflated: 64 << 20, files: 16 }
    }
}

/// The first report in a file of any of these kinds. The kind is told by what it begins with: names and types of mail lie.
///
/// # Errors
/// When there is none, and why.
pub fn unpack(octets: &[u8], limits: &Limits) -> Result<Report, ReadError> {
    if let Some(report) = packed(octets, limits) {
        return report;
    }
    let parts = Parts::parse(octets, &message::Limits::default());
    let mut fault = ReadError::None;
    for index in 0..parts.list().len() {
        let Ok(Some(part)) = parts.decoded(&octets, index) else { continue };
        match packed(&part, limits) {
            Some(Ok(report)) => return Ok(report),
            Some(Err(error)) => fault = error,
            None => {}
        }
    }
    Err(fault)
}

/// A report that is no message; none if it begins as nothing that may hold one.
fn packed(octets: &[u8], limits: &Limits) -> Option<Result<Report, ReadError>> {
    let text = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets).trim_ascii_start();
    match octets {
        [0x1f, 0x8b, ..] => {
            Some(inflate(GzDecoder::new(octets), limits).and_then(|xml| Report::from_xml(&xml)))
        }
        [b'P', b'K', 3, 4, ..] => Some(archive(octets, limits)),
        _ if text.starts_with(b"<") => Some(Report::from_xml(text)),
        _ => None,
    }
}

fn archive(octets: &[u8], limits: &Limits) -> Result<Report, ReadError> {
    let broken = |error: rawzip::Error| ReadError::Packed(error.to_string());
    let archive = rawzip::ZipArchive::from_slice(octets).map_err(broken)?;
    let mut fault = ReadError::None;
    for entry in archive.entries().take(limits.files) {
        let entry = entry.map_err(broken)?;
        if entry.is_dir() {
            continue;
        }
        let data = archive.get_entry(entry.wayfinder()).map_err(broken)?.data();
        let xml = match entry.compression_method() {
            rawzip::CompressionMethod::STORE => inflate(data, limits),
            rawzip::CompressionMethod::DEFLATE => inflate(DeflateDecoder::new(data), limits),
            other => Err(ReadError::Packed(format!("the method {other:?} is unknown"))),
        };
        match xml.and_then(|xml| Report::from_xml(&xml)) {
            Ok(report) => return Ok(report),
            Err(error) => fault = error,
        }
    }
    Err(fault)
}

/// All of it, or an error once it is larger than it may be.
fn inflate(packed: impl Read, limits: &Limits) -> Result<Vec<u8>, ReadError> {
    let mut out = Vec::new();
    let read = packed.take(limits.inflated.saturating_add(1)).read_to_end(&mut out);
    if out.len() as u64 > limits.inflated {
        return Err(ReadError::TooLarge(limits.inflated));
    }
    match read {
        Ok(_) => Ok(out),
        // Some end without the trailer of gzip, or with garbage behind it: the XML tells whether it is whole.
        Err(_) if !out.is_empty() => Ok(out),
        Err(error) => Err(ReadError::Packed(error.to_string())),
    }
}
