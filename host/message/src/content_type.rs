//! Values of Content-Type and Content-Disposition, read by mail-parser within bounds.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mail_parser::HeaderValue;
use mail_parser::parsers::MessageStream;

/// A type or disposition with its parameters (RFC 2045 §5.1, RFC 2183, RFC 2231).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContentType {
    /// "text/plain", "attachment": lower case; empty if there is none.
    pub(crate) value: String,
    parameters: Vec<(String, String)>,
}

impl ContentType {
    /// Reads a raw field value. What cannot be read is empty.
    pub(crate) fn parse(raw: &[u8]) -> Self {
        // The parser wants the line end of the field.
        let mut value = raw[..raw.len().min(LONGEST)].to_vec();
        while value.last().is_some_and(u8::is_ascii_whitespace) {
            value.pop();
        }
        value.extend_from_slice(b"\r\n");
        // A value from the network must not end more than itself, whatever a parser we did not write makes of it.
        match catch_unwind(AssertUnwindSafe(|| read(&value))) {
            Ok(parsed) => parsed.unwrap_or_default(),
            Err(_) => Self::default(),
        }
    }

    /// What a part is that does not say what it is.
    pub(crate) fn plain() -> Self {
        Self { value: "text/plain".to_owned(), parameters: Vec::new() }
    }

    /// Whether the value is this one, given in lower case.
    pub(crate) fn is(&self, value: &str) -> bool {
        self.value == value
    }

    /// A parameter by its lower-case name, continuations joined and decoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

fn read(value: &[u8]) -> Option<ContentType> {
    let HeaderValue::ContentType(parsed) = MessageStream::new(value).parse_content_type() else {
        return None;
    };
    let main = match &parsed.c_subtype {
        Some(subtype) => format!("{}/{subtype}", parsed.c_type),
        None => parsed.c_type.into_owned(),
    };
    let parameters = parsed.attributes.unwrap_or_default().into_iter();
    let parameters =
        parameters.map(|parameter| (lower(parameter.name), parameter.value.into_owned()));
    Some(ContentType { value: main.to_ascii_lowercase(), parameters: parameters.collect() })
}

fn lower(name: Cow<'_, str>) -> String {
    name.to_ascii_lowercase()
}

/// What is read of a value; its parser is not linear in the number of parameters.
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_parameters_are_read() {
        let check = |raw: &str, value: &str, parameters: &[(&str, &str)]| {
            let parsed = ContentType::parse(raw.as_bytes());
            assert_eq!(parsed.value, value, "{raw}");
            for (name, expected) in parameters {
                assert_eq!(parsed.parameter(name), Some(*expected), "{raw}");
            }
        };
        check(" Text/PLAIN; Charset=US-ascii", "text/plain", &[("charset", "US-ascii")]);
        check(
            "multipart/mixed;\r\n\tboundary=\"a b\"\r\n",
            "multipart/mixed",
            &[("boundary", "a b")],
        );
        check("attachment; filename*=utf-8''%C3%BC.txt", "attachment", &[("filename", "ü.txt")]);
        check(
            "attachment; filename*0=\"a\"; filename*1=\"b\"",
            "attachment",
            &[("filename", "ab")],
        );
        check("text/plain (a (nested) comment)", "text/plain", &[]);
        check("", "", &[]);
        check("text", "text", &[]);
    }

    #[test]
    fn hostile_values_are_read_in_bounds() {
        for pattern in [
            "(", ";", "a=", ";a*1=b", "\"", "\\", "=?", "*", "'", "%", "/", "\r\n ", "\0", "a*0*='",
        ] {
            let hostile = pattern.repeat(1 << 16);
            ContentType::parse(hostile.as_bytes());
            ContentType::parse(format!("text/plain;{hostile}").as_bytes());
            ContentType::parse(format!("text/plain; a=\"{hostile}").as_bytes());
        }
    }
}
