//! Reads TOML tables key by key and gathers every fault, so that an administrator sees all of them at once: file, line,
//! key, what is wrong, and the nearest valid key.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::value::Value;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The configuration file.
    pub(crate) file: PathBuf,
    /// The line, counted from 1.
    pub(crate) line: usize,
    /// The dotted key, as in `plugin[0].on-error`; empty if the fault is not at a key.
    pub(crate) key: String,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// The text of one file and the faults found in it so far.
#[derive(Debug)]
pub(crate) struct Source {
    file: PathBuf,
    /// Offset of the first octet of every line.
    lines: Vec<usize>,
    faults: RefCell<Vec<Fault>>,
    /// Every key that was asked for, so that a test can compare them with an example.
    #[cfg(test)]
    pub(super) asked: RefCell<std::collections::BTreeSet<String>>,
}

impl Source {
    pub(crate) fn new(file: &Path, text: &str) -> Rc<Self> {
        let ends = text.bytes().enumerate().filter(|(_, octet)| *octet == b'\n');
        let lines = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Rc::new(Self {
            file: file.to_owned(),
            lines,
            faults: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        })
    }

    pub(crate) fn fault(&self, offset: usize, key: &str, message: impl Into<String>) {
        let line = self.line(offset);
        let (file, key) = (self.file.clone(), key.to_owned());
        self.faults.borrow_mut().push(Fault { file, line, key, message: message.into() });
    }

    /// All faults, in the order of the file.
    pub(crate) fn into_faults(self: Rc<Self>) -> Vec<Fault> {
        let mut faults = self.faults.take();
        faults.sort_by_key(|fault| fault.line);
        faults
    }

    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).max(1)
    }
}

/// A value that may be written in several ways.
pub(crate) enum Node<'a> {
    Table(Reader<'a>),
    List(Vec<Self>),
    Plain(&'a DeValue<'a>),
}

/// One table. Every key that is asked for counts as known; [`Reader::finish`] reports the rest.
pub(crate) struct Reader<'a> {
    source: Rc<Source>,
    path: String,
    offset: usize,
    table: &'a DeTable<'a>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Reader<'a> {
    pub(crate) fn root(source: &Rc<Source>, table: &'a DeTable<'a>) -> Self {
        Self::new(source, String::new(), 0, table)
    }

    fn new(source: &Rc<Source>, path: String, offset: usize, table: &'a DeTable<'a>) -> Self {
        Self { source: Rc::clone(source), path, offset, table, known: RefCell::default() }
    }

    /// The value of a key, if it is there and good.
    pub(crate) fn get<T: Value>(&self, key: &'static str) -> Option<T> {
        let value = self.find(key)?;
        match T::read(value.get_ref()) {
            Ok(good) => Some(good),
            Err(message) => {
                self.source.fault(value.span().start, &self.path_of(key), message);
                None
            }
        }
    }

    pub(crate) fn get_or<T: Value>(&self, key: &'static str, default: T) -> T {
        self.get(key).unwrap_or(default)
    }

    /// The value of a key that has to be there.
    pub(crate) fn require<T: Value>(&self, key: &'static str) -> Option<T> {
        if self.find(key).is_none() {
            self.fault_here(&format!("the key \"{key}\" is missing"));
        }
        self.get(key)
    }

    /// One of several words.
    pub(crate) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&str, T)],
        default: T,
    ) -> T {
        let Some(word) = self.get::<String>(key) else { return default };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == word) {
            return *choice;
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        self.fault(
            key,
            format!("\"{word}\" is not one of {}{}", list(&names), hint(&word, &names)),
        );
        default
    }

    /// A table under this key.
    pub(crate) fn table(&self, key: &'static str) -> Option<Self> {
        let value = self.find(key)?;
        self.as_reader(value, self.path_of(key))
    }

    /// Whether there is such a key; it counts as known from now on.
    pub(crate) fn has(&self, key: &'static str) -> bool {
        self.find(key).is_some()
    }

    /// A value of any form.
    pub(crate) fn node(&self, key: &'static str) -> Option<Node<'a>> {
        Some(self.as_node(self.find(key)?, self.path_of(key)))
    }

    /// The values of a table whose keys are names that the author chose.
    pub(crate) fn named_nodes(&self, key: &'static str) -> Vec<(String, Node<'a>)> {
        let Some(outer) = self.table(key) else { return Vec::new() };
        let named = outer.table.iter().map(|(name, value)| {
            let name = name.get_ref().to_string();
            let path = format!("{}.{name}", outer.path);
            (name, outer.as_node(value, path))
        });
        named.collect()
    }

    fn as_node(&self, value: &'a Spanned<DeValue<'a>>, path: String) -> Node<'a> {
        match value.get_ref() {
            DeValue::Table(table) => {
                Node::Table(Self::new(&self.source, path, value.span().start, table))
            }
            DeValue::Array(items) => {
                let items = items.iter().enumerate();
                Node::List(
                    items.map(|(n, item)| self.as_node(item, format!("{path}[{n}]"))).collect(),
                )
            }
            plain => Node::Plain(plain),
        }
    }

    /// The tables of an array (`[[key]]`), none if there is no such key.
    pub(crate) fn tables(&self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.find(key) else { return Vec::new() };
        let path = self.path_of(key);
        let Some(array) = value.get_ref().as_array() else {
            self.source.fault(value.span().start, &path, format!("write it as [[{path}]]"));
            return Vec::new();
        };
        let items = array.iter().enumerate();
        items.filter_map(|(n, item)| self.as_reader(item, format!("{path}[{n}]"))).collect()
    }

    /// A table whose keys are names that the administrator chose.
    pub(crate) fn named_tables(&self, key: &'static str) -> Vec<(String, Self)> {
        let Some(outer) = self.table(key) else { return Vec::new() };
        let named = outer.table.iter().filter_map(|(name, value)| {
            let name = name.get_ref().to_string();
            let path = format!("{}.{name}", outer.path);
            Some((name, outer.as_reader(value, path)?))
        });
        named.collect()
    }

    /// A table whose keys are names that the administrator chose, and whose values are of one type.
    pub(crate) fn map<T: Value>(&self, key: &'static str) -> Vec<(String, T)> {
        let Some(outer) = self.table(key) else { return Vec::new() };
        let entries =
            outer.table.iter().filter_map(|(name, value)| match T::read(value.get_ref()) {
                Ok(good) => Some((name.get_ref().to_string(), good)),
                Err(message) => {
                    let path = format!("{}.{}", outer.path, name.get_ref());
                    outer.source.fault(value.span().start, &path, message);
                    None
                }
            });
        entries.collect()
    }

    /// Reports a fault at a key of this table.
    pub(crate) fn fault(&self, key: &'static str, message: impl Into<String>) {
        let offset = self.find(key).map_or(self.offset, |value| value.span().start);
        self.source.fault(offset, &self.path_of(key), message);
    }

    /// Reports a fault of the table as a whole.
    pub(crate) fn fault_here(&self, message: &str) {
        self.source.fault(self.offset, &self.path, message);
    }

    /// The line where this table begins.
    pub(crate) fn line(&self) -> usize {
        self.source.line(self.offset)
    }

    /// Ends the reading of a table: reports every key that nobody asked for.
    pub(crate) fn finish(self) {
        self.report_unknown();
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn report_unknown(&self) {
        let known = self.known.borrow();
        for (key, _) in self.table.iter() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let path = if self.path.is_empty() {
                    name.to_owned()
                } else {
                    format!("{}.{name}", self.path)
                };
                let message = format!("unknown key \"{name}\"{}", hint(name, &known));
                self.source.fault(key.span().start, &path, message);
            }
        }
    }

    fn find(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        #[cfg(test)]
        self.source.asked.borrow_mut().insert(self.path_of(key));
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.table.get(key)
    }

    fn as_reader(&self, value: &'a Spanned<DeValue<'a>>, path: String) -> Option<Self> {
        let offset = value.span().start;
        let Some(table) = value.get_ref().as_table() else {
            self.source.fault(
                offset,
                &path,
                format!("this has to be a table, and is a {}", value.get_ref().type_str()),
            );
            return None;
        };
        Some(Self::new(&self.source, path, offset, table))
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// `; did you mean "x"?` if one of the names is near, else the names.
fn hint(word: &str, names: &[&str]) -> String {
    let near = |name: &&str| (strsim::damerau_levenshtein(word, name), name.len());
    match names.iter().copied().min_by_key(near) {
        Some(name) if strsim::damerau_levenshtein(word, name) <= 1 + name.len() / 3 => {
            format!("; did you mean \"{name}\"?")
        }
        Some(name) if strsim::jaro_winkler(word, name) > 0.8 => {
            format!("; did you mean \"{name}\"?")
        }
        _ => format!("; valid here: {}", list(names)),
    }
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    quoted.join(", ")
}
