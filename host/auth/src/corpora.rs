//! Suites that others wrote: those of `CORPORA_DIR`, or of `shared/corpora` beside the project. Each is run in full and its
//! count printed; a suite that is absent is named and passed over.

mod arc;
mod dkim;
mod dkimpy;
mod dmarc;
mod fields;
mod library;
mod reports;
mod spf;
mod spoofing;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use net::{Answer, Dns, DnsError, Kind, Record};
use serde_json::Value;

pub(crate) fn suite(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    let folder = std::env::var_os("CORPORA_DIR").map_or(beside, PathBuf::from).join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED: the suite {name} is not there");
    None
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

pub(crate) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Octets, of which JSON has those that are no text in Base64.
pub(crate) fn octets(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.as_bytes().to_vec(),
        other => STANDARD.decode(text(other, "b64")).unwrap(),
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The DNS of a case.
#[derive(Clone, Default)]
pub(crate) struct World {
    names: BTreeMap<String, Vec<Entry>>,
    queries: Arc<Mutex<Vec<(String, Kind)>>>,
}

#[derive(Clone)]
enum Entry {
    Record(Kind, Record),
    /// Of this type or, without one, of any that no entry before it has.
    Failure(Option<Kind>, DnsError),
    /// A record of a type that nobody asks for.
    Other,
}

impl World {
    pub(crate) fn resolver(&self) -> net::Resolver {
        net::Resolver::new(self.clone())
    }

    pub(crate) fn queries(&self) -> Vec<(String, Kind)> {
        self.queries.lock().unwrap().clone()
    }

    pub(crate) fn add(&mut self, name: &str, kind: Kind, record: Record) {
        self.names.entry(canonical(name)).or_default().push(Entry::Record(kind, record));
    }

    pub(crate) fn txt(&mut self, name: &str, text: &str) {
        self.add(name, Kind::Txt, Record::Txt(text.as_bytes().to_vec()));
    }

    pub(crate) fn exists(&mut self, name: &str) {
        self.names.entry(canonical(name)).or_default().push(Entry::Other);
    }

    pub(crate) fn fail(&mut self, name: &str, kind: Option<Kind>, word: &str) {
        let error = if word.contains("TIMEOUT") {
            DnsError::Timeout
        } else {
            DnsError::Servfail(word.to_owned())
        };
        self.names.entry(canonical(name)).or_default().push(Entry::Failure(kind, error));
    }

    /// Names and their TXT records, as the suites of DKIM and ARC have them.
    pub(crate) fn of_keys(keys: &Value) -> Self {
        let mut world = Self::default();
        for (name, record) in keys.as_object().into_iter().flatten() {
            match record.as_str() {
                None | Some("NXDOMAIN") => {}
                Some(word @ ("SERVFAIL" | "TIMEOUT")) => world.fail(name, None, word),
                Some(text) => world.txt(name, text),
            }
        }
        world
    }

    pub(crate) fn answer(&self, name: &str, kind: Kind) -> Result<Answer, DnsError> {
        let mut name = canonical(name);
        for _ in 0..8 {
            let Some(entries) = self.names.get(&name) else {
                let below = format!(".{name}");
                let nxdomain = !self.names.keys().any(|other| other.ends_with(&below));
                return Ok(Answer { nxdomain, ..Answer::default() });
            };
            let mut records = Vec::new();
            let mut alias = None;
            for entry in entries {
                match entry {
                    Entry::Record(of, record) if *of == kind => records.push(record.clone()),
                    Entry::Record(Kind::Cname, Record::Name(target)) => {
                        alias = Some(canonical(target))
                    }
                    Entry::Failure(of, error)
                        if of.is_none_or(|of| of == kind) && records.is_empty() =>
                    {
                        return Err(error.clone());
                    }
                    Entry::Record(..) | Entry::Failure(..) | Entry::Other => {}
                }
            }
            match alias {
                Some(target) if records.is_empty() => name = target,
                _ => return Ok(Answer { records, ..Answer::default() }),
            }
        }
        Err(DnsError::Servfail("too many aliases".to_owned()))
    }
}

impl Dns for World {
    fn lookup(&self, name: &str, kind: Kind) -> BoxFuture<'_, Result<Answer, DnsError>> {
        self.queries.lock().unwrap().push((canonical(name), kind));
        let answer = self.answer(name, kind);
        async move { answer }.boxed()
    }
}

fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// A record of a zone in JSON.
pub(crate) fn record(kind: &str, data: &Value) -> Option<(Kind, Record)> {
    let name = || canonical(data.as_str().unwrap());
    let address = || data.as_str().unwrap().parse::<IpAddr>().unwrap();
    Some(match kind {
        "A" | "AAAA" => match address() {
            IpAddr::V4(address) => (Kind::A, Record::A(address)),
            IpAddr::V6(address) => (Kind::Aaaa, Record::Aaaa(address)),
        },
        "MX" => {
            let number = data["preference"].as_u64().or(data["priority"].as_u64()).unwrap();
            let preference = u16::try_from(number).unwrap();
            let exchange = canonical(text(data, "exchange"));
            (Kind::Mx, Record::Mx { preference, exchange })
        }
        "TXT" => (
            Kind::Txt,
            Record::Txt(match data {
                Value::Array(strings) => strings.iter().flat_map(octets).collect(),
                other => octets(other),
            }),
        ),
        "PTR" => (Kind::Ptr, Record::Name(name())),
        "CNAME" => (Kind::Cname, Record::Name(name())),
        _ => return None,
    })
}
