//! An expression, and whether it is true of a message.

use std::net::IpAddr;

use gatepost_plugin::HostError;
use gatepost_plugin::config::{Addresses, Glob, Networks, split};

use crate::address::addresses;
use crate::config::Stage;
use crate::variable::{Scene, Variable};

/// What is true or false of a message.
#[derive(Debug)]
pub(crate) enum Expression {
    Any(Vec<Expression>),
    All(Vec<Expression>),
    Not(Box<Expression>),
    /// The value is there: not empty, not 0, not false.
    Is(Value),
    Compare(Value, Test),
}

/// A comparison. Of several values one has to pass.
#[derive(Debug)]
pub(crate) enum Test {
    Equal(Value),
    Order(Order, Value),
    Fits(Vec<Glob>),
    /// In lower case.
    Contains(Vec<String>),
    In(List),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Less,
    AtMost,
    More,
    AtLeast,
}

/// What a value may be one of.
#[derive(Debug)]
pub(crate) enum List {
    Texts(Vec<String>),
    Networks(Networks),
    Addresses(Addresses),
    Table(String),
}

/// Where a value comes from.
#[derive(Debug)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
    Variable(Variable),
    Call(Function, Box<Value>),
    Note(String),
    Table(String, Box<Value>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    /// Addresses in the value of a header field.
    Address,
    Count,
    /// What stands behind the `@`.
    Domain,
    /// What stands before it.
    Local,
    Number,
}

/// What a value is, so that it is known at once how it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Address,
    Domain,
    Ip,
    Number,
    Truth,
}

/// What a value is for one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Texts(Vec<String>),
    /// None is greater, less or equal to nothing.
    Number(Option<i64>),
    Truth(bool),
}

impl Expression {
    pub(crate) fn is_true(&self, scene: &Scene<'_>) -> Result<bool, HostError> {
        Ok(match self {
            Self::Any(list) => {
                for one in list {
                    if one.is_true(scene)? {
                        return Ok(true);
                    }
                }
                false
            }
            Self::All(list) => {
                for one in list {
                    if !one.is_true(scene)? {
                        return Ok(false);
                    }
                }
                true
            }
            Self::Not(inner) => !inner.is_true(scene)?,
            Self::Is(value) => match value.find(scene)? {
                Found::Texts(texts) => !texts.is_empty(),
                Found::Number(number) => number.is_some_and(|number| number != 0),
                Found::Truth(truth) => truth,
            },
            Self::Compare(value, test) => test.passes(&value.find(scene)?, value.kind(), scene)?,
        })
    }

    /// All values in it, so that they are checked when it is configured.
    pub(crate) fn values(&self) -> Vec<&Value> {
        match self {
            Self::Any(list) | Self::All(list) => list.iter().flat_map(Self::values).collect(),
            Self::Not(inner) => inner.values(),
            Self::Is(value) => vec![value],
            Self::Compare(value, Test::Equal(other) | Test::Order(_, other)) => vec![value, other],
            Self::Compare(value, _) => vec![value],
        }
    }

    /// The tables that are asked, and what about.
    pub(crate) fn tables(&self) -> Vec<(&str, Kind)> {
        match self {
            Self::Any(list) | Self::All(list) => list.iter().flat_map(Self::tables).collect(),
            Self::Not(inner) => inner.tables(),
            Self::Is(_) => Vec::new(),
            Self::Compare(value, Test::In(List::Table(table))) => vec![(table, value.kind())],
            Self::Compare(..) => Vec::new(),
        }
    }
}

impl Test {
    fn passes(&self, found: &Found, kind: Kind, scene: &Scene<'_>) -> Result<bool, HostError> {
        Ok(match (self, found) {
            (Self::Equal(value), _) => equal(found, &value.find(scene)?),
            (Self::Order(order, value), Found::Number(Some(left))) => {
                let Found::Number(Some(right)) = value.find(scene)? else { return Ok(false) };
                match order {
                    Order::Less => *left < right,
                    Order::AtMost => *left <= right,
                    Order::More => *left > right,
                    Order::AtLeast => *left >= right,
                }
            }
            (Self::Fits(globs), Found::Texts(texts)) => {
                texts.iter().any(|text| globs.iter().any(|glob| glob.matches(text)))
            }
            (Self::Contains(pieces), Found::Texts(texts)) => texts.iter().any(|text| {
                let text = text.to_ascii_lowercase();
                pieces.iter().any(|piece| text.contains(piece.as_str()))
            }),
            (Self::In(list), Found::Texts(texts)) => {
                for text in texts {
                    if list.has(text, kind, scene)? {
                        return Ok(true);
                    }
                }
                false
            }
            _ => false,
        })
    }
}

fn equal(one: &Found, other: &Found) -> bool {
    match (one, other) {
        (Found::Texts(one), Found::Texts(other)) => {
            one.iter().any(|one| other.iter().any(|other| one.eq_ignore_ascii_case(other)))
        }
        (Found::Number(Some(one)), Found::Number(Some(other))) => one == other,
        _ => false,
    }
}

impl List {
    fn has(&self, text: &str, kind: Kind, scene: &Scene<'_>) -> Result<bool, HostError> {
        Ok(match self {
            Self::Texts(texts) => texts.iter().any(|one| one.eq_ignore_ascii_case(text)),
            Self::Networks(networks) => text.parse().is_ok_and(|ip| networks.contains(ip)),
            Self::Addresses(addresses) if kind == Kind::Domain => addresses.matches_domain(text),
            Self::Addresses(addresses) => addresses.matches(text),
            Self::Table(table) => look_up(scene, table, text, kind)?.is_some(),
        })
    }
}

/// The question that fits what is asked about.
fn look_up(
    scene: &Scene<'_>,
    table: &str,
    text: &str,
    kind: Kind,
) -> Result<Option<String>, HostError> {
    let lookup = scene.host.lookup(table);
    match kind {
        Kind::Ip => text.parse::<IpAddr>().map_or(Ok(None), |ip| lookup.match_ip(ip)),
        Kind::Address => lookup.match_address(text),
        Kind::Domain => lookup.match_domain(text),
        Kind::Text | Kind::Number | Kind::Truth => lookup.get(text),
    }
}

impl Function {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "address" => Self::Address,
            "count" => Self::Count,
            "domain" => Self::Domain,
            "local" => Self::Local,
            "number" => Self::Number,
            _ => return None,
        })
    }
}

impl Value {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Text(_) | Self::Note(_) | Self::Table(..) | Self::Call(Function::Local, _) => {
                Kind::Text
            }
            Self::Number(_) | Self::Call(Function::Count | Function::Number, _) => Kind::Number,
            Self::Variable(variable) => variable.kind(),
            Self::Call(Function::Address, _) => Kind::Address,
            Self::Call(Function::Domain, _) => Kind::Domain,
        }
    }

    /// What is not known at this stage, if there is something.
    pub(crate) fn too_early(&self, stage: Stage) -> Option<&Variable> {
        match self {
            Self::Variable(variable) => Some(variable).filter(|variable| variable.stage() > stage),
            Self::Call(_, inner) | Self::Table(_, inner) => inner.too_early(stage),
            Self::Text(_) | Self::Number(_) | Self::Note(_) => None,
        }
    }

    /// The tables that are asked, and what about.
    pub(crate) fn tables(&self) -> Vec<(&str, Kind)> {
        match self {
            Self::Table(table, inner) => {
                let mut tables = inner.tables();
                tables.push((table, inner.kind()));
                tables
            }
            Self::Call(_, inner) => inner.tables(),
            Self::Variable(_) | Self::Text(_) | Self::Number(_) | Self::Note(_) => Vec::new(),
        }
    }

    pub(crate) fn find(&self, scene: &Scene<'_>) -> Result<Found, HostError> {
        Ok(match self {
            Self::Text(text) => Found::Texts(vec![text.clone()]),
            Self::Number(number) => Found::Number(Some(*number)),
            Self::Variable(variable) => variable.find(scene),
            Self::Note(key) => Found::Texts(scene.note(key).into_iter().collect()),
            Self::Table(table, inner) => {
                let mut values = Vec::new();
                for text in inner.texts(scene)? {
                    values.extend(look_up(scene, table, &text, inner.kind())?);
                }
                Found::Texts(values)
            }
            Self::Call(function, inner) => {
                let texts = inner.texts(scene)?;
                match function {
                    Function::Count => Found::Number(i64::try_from(texts.len()).ok()),
                    Function::Number => {
                        let number = texts.first().and_then(|text| whole_number(text));
                        Found::Number(number)
                    }
                    Function::Address => {
                        Found::Texts(texts.iter().flat_map(|text| addresses(text)).collect())
                    }
                    Function::Domain => {
                        let domain = |text: &String| split(text).1.to_ascii_lowercase();
                        Found::Texts(
                            texts.iter().map(domain).filter(|one| !one.is_empty()).collect(),
                        )
                    }
                    Function::Local => {
                        Found::Texts(texts.iter().map(|text| split(text).0.to_owned()).collect())
                    }
                }
            }
        })
    }

    /// The values as texts: for templates, and for functions.
    pub(crate) fn texts(&self, scene: &Scene<'_>) -> Result<Vec<String>, HostError> {
        Ok(match self.find(scene)? {
            Found::Texts(texts) => texts,
            Found::Number(number) => number.map(|number| number.to_string()).into_iter().collect(),
            Found::Truth(truth) => vec![if truth { "yes" } else { "no" }.to_owned()],
        })
    }
}

/// The number at the beginning: `7.5 (of 15)` is 7.
fn whole_number(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let digits = text.trim_start_matches('-');
    let sign = text.len() - digits.len();
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    text.get(..sign + length)?.parse().ok()
}
