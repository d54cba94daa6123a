//! The table of a plugin's configuration: JSON as the host writes it, read into values, with the path of a key at
//! fault.
//!
//! serde_json with serde_path_to_error does the same, and makes a component 30 to 50 KB larger: each is generic over the
//! other, for each type of a plugin. Here one small type stands between JSON and a plugin's types.

use std::fmt::{self, Display};

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

/// A value of the configuration.
#[derive(Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    Truth(bool),
    /// As it is written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

/// What is wrong, and the path to where it is.
#[derive(Debug)]
pub(crate) struct Fault {
    path: String,
    text: String,
}

impl Node {
    /// Reads JSON (RFC 8259). None for what is no JSON: the host writes nothing else.
    pub(crate) fn parse(json: &str) -> Option<Self> {
        let mut reader = Reader { json, at: 0 };
        let node = reader.value(0)?;
        reader.skip_space();
        (reader.at == json.len()).then_some(node)
    }
}

struct Reader<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<Node> {
        if depth > DEEPEST {
            return None;
        }
        self.skip_space();
        match self.peek()? {
            b'"' => self.text().map(Node::Text),
            b'[' => self.list(depth),
            b'{' => self.table(depth),
            b't' => self.word("true", Node::Truth(true)),
            b'f' => self.word("false", Node::Truth(false)),
            b'n' => self.word("null", Node::Null),
            _ => {
                let rest = self.rest();
                let is_in_number = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
                let length = rest.find(|c| !is_in_number(c)).unwrap_or(rest.len());
                let number = rest.get(..length).filter(|number| !number.is_empty())?.to_owned();
                self.at += length;
                Some(Node::Number(number))
            }
        }
    }

    fn list(&mut self, depth: usize) -> Option<Node> {
        self.at += 1;
        let mut list = Vec::new();
        while !self.takes(b']') {
            if !list.is_empty() && !self.takes(b',') {
                return None;
            }
            list.push(self.value(depth + 1)?);
        }
        Some(Node::List(list))
    }

    fn table(&mut self, depth: usize) -> Option<Node> {
        self.at += 1;
        let mut table = Vec::new();
        while !self.takes(b'}') {
            if !table.is_empty() && !self.takes(b',') {
                return None;
            }
            self.skip_space();
            let key = self.text()?;
            if !self.takes(b':') {
                return None;
            }
            table.push((key, self.value(depth + 1)?));
        }
        Some(Node::Table(table))
    }

    fn text(&mut self) -> Option<String> {
        if !self.takes(b'"') {
            return None;
        }
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let plain = rest.find(['"', '\\'])?;
            text += rest.get(..plain)?;
            self.at += plain + 1;
            if rest.as_bytes().get(plain) == Some(&b'"') {
                return Some(text);
            }
            let escape = self.peek()?;
            self.at += 1;
            text.push(match escape {
                b'n' => '\n',
                b't' => '\t',
                b'r' => '\r',
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'u' => self.escaped()?,
                other => char::from(other),
            });
        }
    }

    /// §7: characters beyond the basic plane are two escapes.
    fn escaped(&mut self) -> Option<char> {
        let first = self.digits()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first);
        }
        if !self.rest().starts_with("\\u") {
            return None;
        }
        self.at += 2;
        let second = self.digits()?.checked_sub(0xdc00)?;
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + second)
    }

    fn digits(&mut self) -> Option<u32> {
        let digits = self.json.get(self.at..self.at + 4)?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    fn word(&mut self, word: &str, node: Node) -> Option<Node> {
        self.rest().starts_with(word).then(|| {
            self.at += word.len();
            node
        })
    }

    fn takes(&mut self, octet: u8) -> bool {
        self.skip_space();
        let is_there = self.peek() == Some(octet);
        self.at += usize::from(is_there);
        is_there
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        self.json.get(self.at..).unwrap_or("")
    }
}

impl Fault {
    /// The same, seen from the table or list around it.
    fn within(mut self, step: &str) -> Self {
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = [step, joint, &self.path].concat();
        self
    }

    /// For the administrator.
    pub(crate) fn tell(self) -> String {
        if self.path.is_empty() { self.text } else { ["`", &self.path, "`: ", &self.text].concat() }
    }
}

impl de::Error for Fault {
    fn custom<T: Display>(text: T) -> Self {
        Self { path: String::new(), text: text.to_string() }
    }

    // The two of serde would bring all that prints a floating-point number into every plugin: 20 KB.
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(
            ["invalid type: ", &name(found), ", expected ", &expected.to_string()].concat(),
        )
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(
            ["invalid value: ", &name(found), ", expected ", &expected.to_string()].concat(),
        )
    }
}

fn name(found: Unexpected<'_>) -> String {
    let named = |kind: &str, value: &str| [kind, " `", value, "`"].concat();
    match found {
        Unexpected::Bool(truth) => named("boolean", if truth { "true" } else { "false" }),
        Unexpected::Unsigned(number) => named("integer", &number.to_string()),
        Unexpected::Signed(number) => named("integer", &number.to_string()),
        Unexpected::Str(text) => ["string \"", text, "\""].concat(),
        Unexpected::Float(_) => "a number with a point".to_owned(),
        Unexpected::Unit | Unexpected::Option => "null".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        _ => "something else".to_owned(),
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Node::Null => visitor.visit_unit(),
            Node::Truth(truth) => visitor.visit_bool(*truth),
            Node::Number(number) => {
                if let Ok(number) = number.parse::<u64>() {
                    visitor.visit_u64(number)
                } else if let Ok(number) = number.parse::<i64>() {
                    visitor.visit_i64(number)
                } else {
                    visitor.visit_f64(decimal(number))
                }
            }
            Node::Text(text) => visitor.visit_borrowed_str(text),
            Node::List(list) => visitor.visit_seq(Elements { list, next: 0 }),
            Node::Table(table) => visitor.visit_map(Entries { table, next: 0 }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self {
            Node::Text(text) => visitor.visit_enum(Variant { name: text, content: None }),
            Node::Table(table) => match table.as_slice() {
                [(name, content)] => visitor.visit_enum(Variant { name, content: Some(content) }),
                _ => {
                    Err(Fault::invalid_type(Unexpected::Map, &"one word, or a table with one key"))
                }
            },
            _ => Err(Fault::custom("a word belongs here")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Elements<'de> {
    list: &'de [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some(node) = self.list.get(self.next) else { return Ok(None) };
        let place = self.next;
        self.next += 1;
        seed.deserialize(node)
            .map(Some)
            .map_err(|fault| fault.within(&["[", &place.to_string(), "]"].concat()))
    }
}

struct Entries<'de> {
    table: &'de [(String, Node)],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((key, _)) = self.table.get(self.next) else { return Ok(None) };
        let name: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|fault| fault.within(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (key, node) = self.table.get(self.next).expect("serde asks for the key first");
        self.next += 1;
        seed.deserialize(node).map_err(|fault| fault.within(key))
    }
}

/// A variant of an enum: a word, or a table with the word as its only key.
struct Variant<'de> {
    name: &'de str,
    content: Option<&'de Node>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let name: StrDeserializer<'_, Fault> = self.name.into_deserializer();
        seed.deserialize(name).map(|value| (value, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.content {
            None | Some(Node::Null) => Ok(()),
            Some(_) => Err(Fault::custom("this word stands alone")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self.content.unwrap_or(&Node::Null))
            .map_err(|fault| fault.within(self.name))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        let content = self.content.unwrap_or(&Node::Null);
        content.deserialize_any(visitor).map_err(|fault| fault.within(self.name))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.tuple_variant(fields.len(), visitor)
    }
}

/// A number with a point or an exponent. Exact up to 15 digits and 22 places (W. D. Clinger, "How to read floating point
/// numbers accurately"), which is more than anybody configures, and within the last digit beyond.
fn decimal(text: &str) -> f64 {
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, places) = number.split_once('.').unwrap_or((number, ""));
    let mut digits = 0.0_f64;
    for digit in whole.bytes().chain(places.bytes()).filter(u8::is_ascii_digit) {
        digits = digits * 10.0 + f64::from(digit - b'0');
    }
    let exponent = exponent.parse::<i32>().unwrap_or(0);
    let power = exponent.saturating_sub(i32::try_from(places.len()).unwrap_or(i32::MAX));
    let factor = (0..power.unsigned_abs().min(400)).fold(1.0_f64, |factor, _| factor * 10.0);
    let value = if power < 0 { digits / factor } else { digits * factor };
    if whole.starts_with('-') { -value } else { value }
}

/// TOML itself has no deeper tables that somebody wrote.
const DEEPEST: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::{Node, decimal};

    #[test]
    fn json_is_read_as_a_well_known_reader_reads_it() {
        check("{}");
        check(r#" { "a" : [ 1 , -2, 1.5, true, false, null ] , "b": {"c":"d"} } "#);
        check(r#""quotes \" \\ \/ \n\t\r\b\f \u00fc \ud83d\ude00 ü""#);
        check("[]");
        check("[[[[]]]]");
        check("18446744073709551615");
        check("-9223372036854775808");
        check("0.001");
        check("12.5e3");
        check("-0.25");

        fn check(json: &str) {
            let node = Node::parse(json).unwrap();
            let ours = serde_json::Value::deserialize(&node).unwrap();
            assert_eq!(ours, serde_json::from_str::<serde_json::Value>(json).unwrap(), "{json}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for json in [
            "",
            "{",
            "[1",
            "[1 2]",
            "{\"a\" 1}",
            "{a:1}",
            "\"a",
            "\"\\u12\"",
            "tru",
            "1 2",
            "\"\\ud83d\"",
        ] {
            assert_eq!(Node::parse(json), None, "{json}");
        }
        assert_eq!(Node::parse(&"[".repeat(10_000)), None);
    }

    #[test]
    fn decimals_are_those_of_the_standard_library() {
        for text in
            ["1.5", "0.1", "-2.25", "1e3", "1.25e-7", "123456.789012", "0.0", "1e22", "7e-22"]
        {
            assert_eq!(decimal(text), text.parse::<f64>().unwrap(), "{text}");
        }
    }

    #[test]
    fn all_kinds_of_types_are_filled() {
        #[derive(Debug, PartialEq, Deserialize)]
        enum Shape {
            Point,
            Circle(u8),
            Square { side: f32 },
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct All {
            shapes: Vec<Shape>,
            pair: (i8, Option<char>),
            map: BTreeMap<String, bool>,
            #[serde(default)]
            missing: Option<String>,
        }

        let json = r#"{"shapes":["Point",{"Circle":3},{"Square":{"side":1.5}}],"pair":[-1,"x"],"map":{"a":true}}"#;
        let all = All::deserialize(&Node::parse(json).unwrap()).unwrap();
        assert_eq!(all.shapes, [Shape::Point, Shape::Circle(3), Shape::Square { side: 1.5 }]);
        assert_eq!((all.pair, all.map["a"], all.missing), ((-1, Some('x')), true, None));

        check(r#"{"shapes":["Line"]}"#, "`shapes[0]`: unknown variant `Line`, expected one of");
        check(r#"{"shapes":[{"Circle":300}]}"#, "`shapes[0].Circle`: invalid value: integer `300`");
        check(r#"{"shapes":[{"Square":{"side":"a"}}]}"#, "`shapes[0].Square.side`: invalid type");
        check(r#"{"shapes":[1]}"#, "`shapes[0]`: a word belongs here");
        check(r#"{"map":{"a":1}}"#, "`map.a`: invalid type: integer `1`, expected a boolean");
        check("[]", "invalid length 0, expected struct All with 4 elements");
        check(r#"{"shapes":{}}"#, "`shapes`: invalid type: a table, expected a sequence");
        check(r#"{"pair":[1.5]}"#, "`pair[0]`: invalid type: a number with a point, expected i8");

        fn check(json: &str, expected: &str) {
            let fault = All::deserialize(&Node::parse(json).unwrap()).unwrap_err().tell();
            assert!(fault.starts_with(expected), "{fault}");
        }
    }
}
