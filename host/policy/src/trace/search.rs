//! Finding things in a journal, while the server writes it or long after.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use message::Id;

use super::{Entry, journal};

/// What to look for in a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// A transaction or message.
    Id(Id),
    /// A reverse-path or forward-path, without regard to case.
    Address(String),
    /// The address of a client or of a host that was delivered to.
    Client(IpAddr),
}

/// Reads the files of a journal, of a running server or not; oldest entries first, at most the last `limit`. A line that
/// is no entry (cut by a crash, written by another version) is passed over.
pub fn search(directory: &Path, query: &Query, limit: usize) -> std::io::Result<Vec<Entry>> {
    let needle = match query {
        Query::Id(id) => id.to_string(),
        Query::Address(address) => address.to_lowercase(),
        Query::Client(address) => address.to_string(),
    };
    let mut found = std::collections::VecDeque::new();
    for (_, path) in journal::files(directory)? {
        let mut lines = BufReader::new(std::fs::File::open(path)?);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            if let Some(entry) = entry(&line, query, &needle) {
                if found.len() == limit {
                    found.pop_front();
                }
                found.push_back(entry);
            }
            line.clear();
        }
    }
    Ok(found.into())
}

fn entry(line: &[u8], query: &Query, needle: &str) -> Option<Entry> {
    let text = std::str::from_utf8(line).ok()?;
    // Most lines are about something else: they are not worth a parser. In JSON, text outside of ASCII stands as it is.
    let maybe = match query {
        Query::Id(_) | Query::Client(_) => text.contains(needle),
        Query::Address(_) => text.to_lowercase().contains(needle),
    };
    if !maybe {
        return None;
    }
    let entry: Entry = serde_json::from_str(text).ok()?;
    let same = |address: &str| address.to_lowercase() == needle;
    let matches = match query {
        Query::Id(id) => entry.id == *id,
        Query::Client(address) => entry.peer.as_deref().and_then(ip).as_ref() == Some(address),
        Query::Address(_) => {
            entry.reverse_path.as_deref().is_some_and(same)
                || entry.recipients.iter().any(|recipient| same(recipient))
                || entry.stages.iter().any(|stage| stage.recipient.as_deref().is_some_and(same))
        }
    };
    matches.then_some(entry)
}

/// `192.0.2.1`, and of a host that was delivered to `name [192.0.2.1]:25` or `192.0.2.1:25`.
fn ip(peer: &str) -> Option<IpAddr> {
    let inside = peer.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    let text = inside.map_or(peer, |(inside, _)| inside);
    text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}
