//! A DNS world from a literal: what a test says exists, exists, and nothing else does.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Answer, Dns, DnsError, Kind, Record, canonical};

/// All of the DNS, in a table. Clones share it, so a test can change the world under a running server.
///
/// ```
/// let zone: net::Zone = r#"
///     example.net      MX     10 mx.example.net
///     example.net      TXT    "v=spf1 -all"
///     mx.example.net   A      192.0.2.1
///     www.example.net  CNAME  example.net
///     silent.example   TIMEOUT
///     broken.example   MX     SERVFAIL        # this type only
/// "#.parse()?;
/// # Ok::<(), net::ZoneError>(())
/// ```
///
/// A name that is not in the table, and has no name below it there, does not exist.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    world: Arc<Mutex<World>>,
}

/// A line of the literal that says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the zone: {fault}")]
pub struct ZoneError {
    /// Counted from one.
    pub line: usize,
    /// What is wrong with it.
    pub fault: String,
}

impl Zone {
    /// Adds what the literal says. All of it or, with a fault in it, nothing.
    pub fn extend(&self, literal: &str) -> Result<(), ZoneError> {
        let parsed: Result<Vec<_>, _> = literal
            .lines()
            .enumerate()
            .map(|(index, line)| {
                parse_line(line).map_err(|fault| ZoneError { line: index + 1, fault })
            })
            .collect();
        let mut world = self.lock();
        for entry in parsed?.into_iter().flatten() {
            world.insert(entry);
        }
        Ok(())
    }

    /// Adds a record.
    pub fn add(&self, name: &str, kind: Kind, record: Record) {
        self.lock().insert(Entry {
            name: canonical(name),
            kind: Some(kind),
            data: Data::Record(record),
        });
    }

    /// Takes everything of this name away.
    pub fn remove(&self, name: &str) {
        self.lock().names.remove(&canonical(name));
    }

    /// The queries that came, in order: a test of lookup limits counts them.
    pub fn queries(&self) -> Vec<(String, Kind)> {
        self.lock().queries.clone()
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(literal: &str) -> Result<Self, ZoneError> {
        let zone = Self::default();
        zone.extend(literal)?;
        Ok(zone)
    }
}

impl Dns for Zone {
    fn lookup(&self, name: &str, kind: Kind) -> BoxFuture<'_, Result<Answer, DnsError>> {
        let mut world = self.lock();
        let name = canonical(name);
        world.queries.push((name.clone(), kind));
        let answer = world.answer(name, kind);
        async move { answer }.boxed()
    }
}

#[derive(Debug, Default)]
struct World {
    names: BTreeMap<String, Node>,
    queries: Vec<(String, Kind)>,
}

/// What is known of one name.
#[derive(Debug, Default)]
struct Node {
    records: Vec<(Kind, Record)>,
    /// Failures of one type, or of all.
    failures: Vec<(Option<Kind>, DnsError)>,
}

struct Entry {
    name: String,
    kind: Option<Kind>,
    data: Data,
}

enum Data {
    Record(Record),
    Failure(DnsError),
    /// The name exists, without records.
    Empty,
}

impl World {
    fn insert(&mut self, entry: Entry) {
        let node = self.names.entry(entry.name).or_default();
        match (entry.data, entry.kind) {
            (Data::Record(record), Some(kind)) => node.records.push((kind, record)),
            (Data::Failure(error), kind) => node.failures.push((kind, error)),
            (Data::Record(_), None) | (Data::Empty, _) => {}
        }
    }

    fn answer(&self, mut name: String, kind: Kind) -> Result<Answer, DnsError> {
        for _ in 0..MOST_ALIASES {
            let Some(node) = self.names.get(&name) else {
                return Ok(Answer {
                    nxdomain: !self.has_names_below(&name),
                    ttl: TTL,
                    ..Answer::default()
                });
            };
            if let Some((_, error)) =
                node.failures.iter().find(|(of, _)| of.is_none_or(|of| of == kind))
            {
                return Err(error.clone());
            }
            let records = of_kind(node, kind);
            match of_kind(node, Kind::Cname).first() {
                Some(Record::Name(target)) if records.is_empty() => name = canonical(target),
                _ => return Ok(Answer { records, nxdomain: false, ttl: TTL }),
            }
        }
        Err(DnsError::Servfail("too many aliases".to_owned()))
    }

    /// RFC 8020 §2: a name with existing names below it exists.
    fn has_names_below(&self, name: &str) -> bool {
        let suffix = format!(".{name}");
        self.names.keys().any(|other| other.ends_with(&suffix))
    }
}

fn of_kind(node: &Node, kind: Kind) -> Vec<Record> {
    node.records.iter().filter(|(of, _)| *of == kind).map(|(_, record)| record.clone()).collect()
}

/// `name [kind] data`; `#` or `;` begins a comment.
fn parse_line(line: &str) -> Result<Option<Entry>, String> {
    let line = without_comment(line).trim();
    if line.is_empty() {
        return Ok(None);
    }
    let (name, rest) = word(line);
    let (second, data) = word(rest);
    let name = canonical(name);
    if let Some(data) = failure(second) {
        return Ok(Some(Entry { name, kind: None, data }));
    }
    let kind: Kind = second.parse().map_err(|error: DnsError| error.to_string())?;
    let data = match failure(data) {
        Some(failure) => failure,
        None => Data::Record(parse_record(kind, data)?),
    };
    Ok(Some(Entry { name, kind: Some(kind), data }))
}

fn failure(word: &str) -> Option<Data> {
    match word {
        "SERVFAIL" => Some(Data::Failure(DnsError::Servfail("SERVFAIL".to_owned()))),
        "TIMEOUT" => Some(Data::Failure(DnsError::Timeout)),
        "EMPTY" => Some(Data::Empty),
        _ => None,
    }
}

fn parse_record(kind: Kind, data: &str) -> Result<Record, String> {
    let bad = |what: &str| format!("{what} expected, found {data:?}");
    let mut words = data.split_whitespace();
    let mut number =
        || words.next().and_then(|word| word.parse().ok()).ok_or_else(|| bad("a number"));
    let record = match kind {
        Kind::A => Record::A(data.parse().map_err(|_| bad("an IPv4 address"))?),
        Kind::Aaaa => Record::Aaaa(data.parse().map_err(|_| bad("an IPv6 address"))?),
        Kind::Mx => Record::Mx {
            preference: number()?,
            exchange: words.next().map(canonical).ok_or_else(|| bad("an exchange"))?,
        },
        Kind::Txt => Record::Txt(text(data)),
        Kind::Ptr | Kind::Ns | Kind::Cname => {
            Record::Name(words.next().map(canonical).ok_or_else(|| bad("a name"))?)
        }
        Kind::Srv => Record::Srv {
            priority: number()?,
            weight: number()?,
            port: number()?,
            target: words.next().map(canonical).ok_or_else(|| bad("a target"))?,
        },
    };
    Ok(record)
}

/// Strings in quotes, joined; text without quotes as it is.
fn text(data: &str) -> Vec<u8> {
    if !data.starts_with('"') {
        return data.as_bytes().to_vec();
    }
    data.split('"').skip(1).step_by(2).collect::<String>().into_bytes()
}

fn word(text: &str) -> (&str, &str) {
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

/// The line up to a comment sign outside quotes.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, character) in line.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '#' | ';' if !quoted => return &line[..at],
            _ => {}
        }
    }
    line
}

/// What every answer of a zone says about its life.
const TTL: Duration = Duration::from_secs(300);

/// More aliases in a row are a loop.
const MOST_ALIASES: usize = 8;
