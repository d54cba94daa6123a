//! Tables of the configuration that plugins may look things up in.
//!
//! A file holds one entry a line: a key, white space, and the value, which may be empty; `#` at the beginning of a line
//! or behind white space begins a comment. The kind of the table says how keys are read.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The tables by name. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    sources: Arc<Vec<TableSource>>,
    tables: Arc<BTreeMap<String, Table>>,
}

/// A table of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSource {
    /// Its name for plugins.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// How keys are read.
    pub kind: TableKind,
}

/// How the keys of a table are read and matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// Any text, without regard to case.
    Exact,
    /// Addresses and prefixes; the longest that holds the address wins.
    Cidr,
    /// `user@domain`, `@domain`, `.parent-domain`; the nearest wins.
    Address,
    /// `domain`, `.parent-domain`; the nearest wins.
    Domain,
}

impl std::fmt::Display for TableKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::Cidr => "cidr",
            Self::Address => "address",
            Self::Domain => "domain",
        })
    }
}

/// What is wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table {table}: {}{}: {message}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct TableError {
    /// Its name.
    pub table: String,
    /// The file.
    pub path: PathBuf,
    /// The line, if it is about one.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl Tables {
    /// Reads all files. All faults are told at once.
    pub fn load(sources: Vec<TableSource>) -> Result<Self, Vec<TableError>> {
        let mut tables = BTreeMap::new();
        let mut faults = Vec::new();
        for source in &sources {
            match read(source) {
                Ok(table) if tables.contains_key(&source.name) => {
                    drop(table);
                    faults.push(source.fault(None, "a second table of this name"));
                }
                Ok(table) => drop(tables.insert(source.name.clone(), table)),
                Err(found) => faults.extend(found),
            }
        }
        if faults.is_empty() {
            Ok(Self { sources: Arc::new(sources), tables: Arc::new(tables) })
        } else {
            Err(faults)
        }
    }

    /// Reads the same files again.
    pub fn reload(&self) -> Result<Self, Vec<TableError>> {
        Self::load(self.sources.as_ref().clone())
    }

    /// A table by its name.
    pub fn get(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }
}

impl TableSource {
    fn fault(&self, line: Option<usize>, message: impl Into<String>) -> TableError {
        TableError {
            table: self.name.clone(),
            path: self.path.clone(),
            line,
            message: message.into(),
        }
    }
}

/// One table in memory.
#[derive(Debug)]
pub struct Table {
    kind: TableKind,
    /// All but CIDR tables: keys in lower case.
    keys: HashMap<Box<str>, Box<str>>,
    /// CIDR tables: for each prefix length that occurs, longest first, the networks. IPv4 is kept as IPv4-mapped IPv6.
    networks: Vec<(u8, HashMap<u128, Box<str>>)>,
}

impl Table {
    /// A table from the text of its file. Faults come with their line.
    pub fn parse(kind: TableKind, text: &str) -> Result<Self, Vec<(usize, String)>> {
        let mut table = Self { kind, keys: HashMap::new(), networks: Vec::new() };
        let mut faults = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let Some((key, value)) = entry(line) else { continue };
            if let Err(message) = table.insert(key, value) {
                faults.push((number + 1, message));
            }
        }
        table.networks.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        if faults.is_empty() { Ok(table) } else { Err(faults) }
    }

    /// How its keys are read.
    pub fn kind(&self) -> TableKind {
        self.kind
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.keys.len() + self.networks.iter().map(|(_, networks)| networks.len()).sum::<usize>()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of exactly this key, without regard to case.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.keys.get(key.to_lowercase().as_str()).map(AsRef::as_ref)
    }

    /// The value of the longest prefix that holds the address.
    pub fn match_ip(&self, address: IpAddr) -> Option<&str> {
        let bits = bits(address);
        self.networks
            .iter()
            .find_map(|(length, networks)| networks.get(&masked(bits, *length)).map(AsRef::as_ref))
    }

    /// The value of the whole address, else of `@domain`, else of the nearest `.parent-domain`.
    pub fn match_address(&self, address: &str) -> Option<&str> {
        let address = address.to_lowercase();
        let find = |key: &str| self.keys.get(key).map(AsRef::as_ref);
        if let Some(value) = find(&address) {
            return Some(value);
        }
        let at = address.rfind('@')?;
        if let Some(value) = find(&address[at..]) {
            return Some(value);
        }
        let domain = &address[at + 1..];
        domain.match_indices('.').find_map(|(dot, _)| find(&domain[dot..]))
    }

    /// The value of the domain itself, else of the nearest `.parent-domain`.
    pub fn match_domain(&self, domain: &str) -> Option<&str> {
        let domain = domain.strip_suffix('.').unwrap_or(domain).to_lowercase();
        let find = |key: &str| self.keys.get(key).map(AsRef::as_ref);
        find(&domain)
            .or_else(|| domain.match_indices('.').find_map(|(dot, _)| find(&domain[dot..])))
    }

    fn insert(&mut self, key: &str, value: &str) -> Result<(), String> {
        let doubled = match self.kind {
            TableKind::Exact => self.keys.insert(key.to_lowercase().into(), value.into()).is_some(),
            TableKind::Address => {
                if !key.contains('@') && !key.starts_with('.') {
                    return Err(format!(
                        "{key:?} is neither user@domain nor @domain nor .parent-domain"
                    ));
                }
                self.keys.insert(key.to_lowercase().into(), value.into()).is_some()
            }
            TableKind::Domain => {
                if key.contains(['@', '/']) || key.trim_matches('.').is_empty() {
                    return Err(format!("{key:?} is neither domain nor .parent-domain"));
                }
                let key = key.strip_suffix('.').unwrap_or(key).to_lowercase();
                self.keys.insert(key.into(), value.into()).is_some()
            }
            TableKind::Cidr => {
                let (network, length) = prefix(key)?;
                let index =
                    self.networks.iter().position(|(have, _)| *have == length).unwrap_or_else(
                        || {
                            self.networks.push((length, HashMap::new()));
                            self.networks.len() - 1
                        },
                    );
                self.networks[index].1.insert(network, value.into()).is_some()
            }
        };
        if doubled { Err(format!("{key:?} stands twice in this table")) } else { Ok(()) }
    }
}

fn read(source: &TableSource) -> Result<Table, Vec<TableError>> {
    let text = read_text(&source.path).map_err(|message| vec![source.fault(None, message)])?;
    Table::parse(source.kind, &text).map_err(|faults| {
        faults.into_iter().map(|(line, message)| source.fault(Some(line), message)).collect()
    })
}

fn read_text(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_FILE_OCTETS {
        return Err(format!("{size} octets, at most {MAX_FILE_OCTETS} are read"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

fn entry(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (key, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let end = rest
        .match_indices('#')
        .find(|(at, _)| *at == 0 || rest[..*at].ends_with(char::is_whitespace));
    Some((key, rest[..end.map_or(rest.len(), |(at, _)| at)].trim()))
}

/// `192.0.2.0/24`, `2001:db8::/32`, or an address alone; answers with the network and its length in 128 bits.
fn prefix(key: &str) -> Result<(u128, u8), String> {
    let (address, length) =
        key.split_once('/').map_or((key, None), |(address, length)| (address, Some(length)));
    let address: IpAddr =
        address.parse().map_err(|_| format!("{key:?} is no IP address or prefix"))?;
    let (most, offset) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
    let length: u8 = match length {
        None => most,
        Some(text) => text
            .parse()
            .ok()
            .filter(|length| *length <= most)
            .ok_or_else(|| format!("{key:?}: the prefix length is a number up to {most}"))?,
    };
    let network = bits(address);
    let length = length + offset;
    if masked(network, length) != network {
        return Err(format!("{key:?} has bits set behind its prefix"));
    }
    Ok((network, length))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn masked(bits: u128, length: u8) -> u128 {
    if length == 0 { 0 } else { bits & (u128::MAX << (128 - u32::from(length))) }
}

/// A table of ten million short lines; larger ones belong into a database.
const MAX_FILE_OCTETS: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: TableKind, text: &str, key: &str, expected: Option<&str>) {
        let table = Table::parse(kind, text).expect("a good table");
        let found = match kind {
            TableKind::Exact => table.get(key),
            TableKind::Cidr => table.match_ip(key.parse().expect("an address")),
            TableKind::Address => table.match_address(key),
            TableKind::Domain => table.match_domain(key),
        };
        assert_eq!(found, expected, "{key} in {text:?}");
    }

    #[test]
    fn exact_keys_match_without_regard_to_case() {
        let text = "# people\nBob  bob@example.org # the first\ncarol\n\n dave#1 a#b\n";
        check(TableKind::Exact, text, "bob", Some("bob@example.org"));
        check(TableKind::Exact, text, "BOB", Some("bob@example.org"));
        check(TableKind::Exact, text, "carol", Some(""));
        check(TableKind::Exact, text, "dave#1", Some("a#b"));
        check(TableKind::Exact, text, "eve", None);
    }

    #[test]
    fn the_longest_prefix_wins() {
        let text =
            "10.0.0.0/8 wide\n10.1.0.0/16 narrow\n10.1.2.3 one\n2001:db8::/32 six\n0.0.0.0/0 any4";
        check(TableKind::Cidr, text, "10.1.2.3", Some("one"));
        check(TableKind::Cidr, text, "10.1.2.4", Some("narrow"));
        check(TableKind::Cidr, text, "10.2.0.0", Some("wide"));
        check(TableKind::Cidr, text, "192.0.2.1", Some("any4"));
        check(TableKind::Cidr, text, "::ffff:10.1.2.3", Some("one"));
        check(TableKind::Cidr, text, "2001:db8::1", Some("six"));
        check(TableKind::Cidr, text, "2001:db9::1", None);
        check(TableKind::Cidr, "::/0 all", "192.0.2.1", Some("all"));
    }

    #[test]
    fn the_nearest_address_wins() {
        let text = "bob@example.org whole\n@example.org domain\n.example.org below\n.org top";
        check(TableKind::Address, text, "Bob@Example.ORG", Some("whole"));
        check(TableKind::Address, text, "eve@example.org", Some("domain"));
        check(TableKind::Address, text, "eve@a.b.example.org", Some("below"));
        check(TableKind::Address, text, "eve@other.org", Some("top"));
        check(TableKind::Address, text, "eve@org", None);
        check(TableKind::Address, text, "postmaster", None);
    }

    #[test]
    fn the_nearest_domain_wins() {
        let text = "example.org itself\n.example.org below\n.org top\nexample.net. dotted";
        check(TableKind::Domain, text, "Example.ORG", Some("itself"));
        check(TableKind::Domain, text, "example.org.", Some("itself"));
        check(TableKind::Domain, text, "a.b.example.org", Some("below"));
        check(TableKind::Domain, text, "notexample.org", Some("top"));
        check(TableKind::Domain, text, "example.net", Some("dotted"));
        check(TableKind::Domain, text, "a.example.net", None);
        check(TableKind::Domain, text, "org", None);
        assert!(Table::parse(TableKind::Domain, "a@example.org x").is_err());
    }

    #[test]
    fn all_faults_are_told_with_their_lines() {
        let faults = Table::parse(
            TableKind::Cidr,
            "10.0.0.1/8 x\n10.0.0.0/8 y\n10.0.0.0/8 z\nhello\n::/129 v",
        )
        .unwrap_err();
        let lines: Vec<usize> = faults.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 3, 4, 5], "{faults:?}");
        assert!(Table::parse(TableKind::Address, "example.org x").is_err());
    }
}
