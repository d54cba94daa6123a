//! Reads an expression.
//!
//! ```text
//! expression = both *( "or" both )
//! both       = one *( "and" one )
//! one        = "not" one / "(" expression ")" / test
//! test       = value [ ( "==" / "!=" / "<" / "<=" / ">" / ">=" ) value
//!                    / ( "~" / "!~" ) ( text / list )
//!                    / "contains" ( text / list )
//!                    / [ "not" ] "in" ( list / "table" "(" text ")" ) ]
//! value      = text / number / variable / function "(" value ")"
//!            / "note" "(" text ")" / "table" "(" text "," value ")"
//! list       = "[" text *( "," text ) "]"
//! ```

use gatepost_plugin::config::{Addresses, Glob, Networks};

use crate::expression::{Expression, Function, Kind, List, Order, Test, Value};
use crate::lex::{Token, tokens};
use crate::variable::Variable;

/// What is wrong, and where: the character from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    at: usize,
    what: String,
}

impl Fault {
    pub(crate) fn at(at: usize, what: &str) -> Self {
        Self { at, what: what.to_owned() }
    }

    /// With the text before the fault, so that it is found in a long expression.
    pub(crate) fn tell(&self, text: &str) -> String {
        let before: String = text.chars().take(self.at.saturating_sub(1)).collect();
        let near: Vec<&str> = before.split_whitespace().rev().take(3).collect();
        let near: Vec<&str> = near.into_iter().rev().collect();
        let near = if near.is_empty() {
            String::new()
        } else {
            [" behind `", &near.join(" "), "`"].concat()
        };
        ["at character ", &self.at.to_string(), &near, ": ", &self.what].concat()
    }
}

/// A whole expression.
pub(crate) fn expression(text: &str) -> Result<Expression, Fault> {
    let mut parser = Parser::new(text)?;
    let expression = parser.either()?;
    parser.end()?;
    Ok(expression)
}

/// A value alone, as it stands in a template.
pub(crate) fn value(text: &str) -> Result<Value, Fault> {
    let mut parser = Parser::new(text)?;
    let value = parser.value()?;
    parser.end()?;
    Ok(value)
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn new(text: &str) -> Result<Self, Fault> {
        Ok(Self { tokens: tokens(text)?, next: 0, depth: 0 })
    }

    fn either(&mut self) -> Result<Expression, Fault> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.fault("there are too many brackets in brackets"));
        }
        let mut alternatives = vec![self.both()?];
        while self.takes_word("or") {
            alternatives.push(self.both()?);
        }
        self.depth -= 1;
        Ok(one_or(alternatives, Expression::Any))
    }

    fn both(&mut self) -> Result<Expression, Fault> {
        let mut all = vec![self.one()?];
        while self.takes_word("and") {
            all.push(self.one()?);
        }
        Ok(one_or(all, Expression::All))
    }

    fn one(&mut self) -> Result<Expression, Fault> {
        let mut negative = false;
        while self.takes_word("not") {
            negative = !negative;
        }
        let one = if self.takes_sign("(") {
            let inner = self.either()?;
            self.expect(")")?;
            inner
        } else {
            self.test()?
        };
        Ok(if negative { Expression::Not(Box::new(one)) } else { one })
    }

    fn test(&mut self) -> Result<Expression, Fault> {
        let start = self.position();
        let left = self.value()?;
        let is_truth = left.kind() == Kind::Truth;
        let (test, negative) = match self.peek().clone() {
            Token::Sign(sign @ ("==" | "!=")) => {
                self.next += 1;
                (self.equal(&left)?, sign == "!=")
            }
            Token::Sign(sign @ ("<" | "<=" | ">" | ">=")) => {
                self.next += 1;
                (self.order(&left, sign, start)?, false)
            }
            Token::Sign(sign @ ("~" | "!~")) => {
                self.next += 1;
                let globs = self.texts()?.iter().map(|text| Glob::from(text.as_str())).collect();
                (Test::Fits(globs), sign == "!~")
            }
            Token::Word(word) if word == "contains" => {
                self.next += 1;
                let texts = self.texts()?.iter().map(|text| text.to_ascii_lowercase()).collect();
                (Test::Contains(texts), false)
            }
            Token::Word(word) if word == "in" || word == "not" => {
                self.next += 1;
                if word == "not" && !self.takes_word("in") {
                    return Err(self.fault("`in` belongs behind this `not`"));
                }
                (Test::In(self.list(left.kind())?), word == "not")
            }
            _ => return Ok(Expression::Is(left)),
        };
        if is_truth {
            return Err(Fault::at(
                start,
                "this is true or false already: write it alone, or `not` before it",
            ));
        }
        if left.kind() == Kind::Number && !matches!(test, Test::Equal(_) | Test::Order(..)) {
            return Err(Fault::at(
                start,
                "this is a number, and a number is compared with == != < <= > >=",
            ));
        }
        let compared = Expression::Compare(left, test);
        Ok(if negative { Expression::Not(Box::new(compared)) } else { compared })
    }

    fn equal(&mut self, left: &Value) -> Result<Test, Fault> {
        let at = self.position();
        let right = self.value()?;
        let numbers = [left.kind(), right.kind()].map(|kind| kind == Kind::Number);
        if numbers == [true, true] || numbers == [false, false] && right.kind() != Kind::Truth {
            return Ok(Test::Equal(right));
        }
        Err(Fault::at(
            at,
            "a number is compared with a number, and a text with a text: number(…) makes one of the other",
        ))
    }

    fn order(&mut self, left: &Value, sign: &str, start: usize) -> Result<Test, Fault> {
        let at = self.position();
        let right = self.value()?;
        for (value, at) in [(left, start), (&right, at)] {
            if value.kind() != Kind::Number {
                return Err(Fault::at(
                    at,
                    "`<` and `>` compare numbers: number(…) makes one of a text, count(…) counts",
                ));
            }
        }
        let order = match sign {
            "<" => Order::Less,
            "<=" => Order::AtMost,
            ">" => Order::More,
            _ => Order::AtLeast,
        };
        Ok(Test::Order(order, right))
    }

    fn value(&mut self) -> Result<Value, Fault> {
        let at = self.position();
        match self.take() {
            Token::Text(text) => Ok(Value::Text(text)),
            Token::Number(number) => Ok(Value::Number(number)),
            Token::Word(word) if self.takes_sign("(") => {
                let value = self.call(&word, at)?;
                self.expect(")")?;
                Ok(value)
            }
            Token::Word(word) => Variable::named(&word).map(Value::Variable).ok_or_else(|| {
                let known = Variable::names();
                Fault::at(at, &["there is no `", &word, "`; there are ", &known].concat())
            }),
            Token::End => Err(Fault::at(at, "something is missing at the end")),
            Token::Sign(sign) => {
                Err(Fault::at(at, &["a value belongs here, not `", sign, "`"].concat()))
            }
        }
    }

    fn call(&mut self, name: &str, at: usize) -> Result<Value, Fault> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.fault("there are too many brackets in brackets"));
        }
        let value = match name {
            "note" => Value::Note(self.text()?),
            "table" => {
                let table = self.text()?;
                self.expect(",")?;
                Value::Table(table, Box::new(self.value()?))
            }
            _ => {
                let function = Function::named(name).ok_or_else(|| {
                    let known = "address, count, domain, local, note, number, table";
                    Fault::at(
                        at,
                        &["there is no function `", name, "`; there are ", known].concat(),
                    )
                })?;
                Value::Call(function, Box::new(self.value()?))
            }
        };
        self.depth -= 1;
        Ok(value)
    }

    fn list(&mut self, kind: Kind) -> Result<List, Fault> {
        if self.takes_word("table") {
            self.expect("(")?;
            let table = self.text()?;
            self.expect(")")?;
            return Ok(List::Table(table));
        }
        let at = self.position();
        let texts = self.texts()?;
        match kind {
            Kind::Ip => {
                let mut networks = Networks::default();
                match texts.iter().find(|text| !networks.add(text)) {
                    None => Ok(List::Networks(networks)),
                    Some(text) => {
                        Err(Fault::at(at, &["`", text, "` is no address or network"].concat()))
                    }
                }
            }
            Kind::Address | Kind::Domain => {
                let mut addresses = Addresses::default();
                match texts.iter().find(|text| !addresses.add(text)) {
                    None => Ok(List::Addresses(addresses)),
                    Some(text) => Err(Fault::at(
                        at,
                        &["`", text, "` is none of user@domain, domain, .domain, user@"].concat(),
                    )),
                }
            }
            Kind::Text | Kind::Number | Kind::Truth => Ok(List::Texts(texts)),
        }
    }

    /// One text, or a list of them.
    fn texts(&mut self) -> Result<Vec<String>, Fault> {
        if !self.takes_sign("[") {
            return self.text().map(|text| vec![text]);
        }
        let mut texts = vec![self.text()?];
        while self.takes_sign(",") {
            if self.peek() == &Token::Sign("]") {
                break;
            }
            texts.push(self.text()?);
        }
        self.expect("]")?;
        Ok(texts)
    }

    fn text(&mut self) -> Result<String, Fault> {
        let at = self.position();
        match self.take() {
            Token::Text(text) => Ok(text),
            _ => Err(Fault::at(at, "a text in quotes belongs here")),
        }
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(token, _)| token)
    }

    fn position(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(1, |(_, at)| *at)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is_there = matches!(self.peek(), Token::Word(found) if found == word);
        self.next += usize::from(is_there);
        is_there
    }

    fn takes_sign(&mut self, sign: &'static str) -> bool {
        let is_there = self.peek() == &Token::Sign(sign);
        self.next += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Fault> {
        if self.takes_sign(sign) {
            return Ok(());
        }
        Err(self.fault(&["`", sign, "` belongs here"].concat()))
    }

    fn end(&self) -> Result<(), Fault> {
        match self.peek() {
            Token::End => Ok(()),
            _ => Err(self.fault("`and` or `or` belongs here, or nothing")),
        }
    }

    fn fault(&self, what: &str) -> Fault {
        Fault::at(self.position(), what)
    }
}

fn one_or(mut list: Vec<Expression>, more: fn(Vec<Expression>) -> Expression) -> Expression {
    match (list.len(), list.pop()) {
        (1, Some(only)) => only,
        (_, Some(last)) => {
            list.push(last);
            more(list)
        }
        (_, None) => more(list),
    }
}

/// The parser calls itself for each bracket.
const DEEPEST: usize = 32;
