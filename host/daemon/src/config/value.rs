//! What a key may hold, and how it is written.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeValue;

/// A value that can be read from TOML; the error says what is expected.
pub(crate) trait Value: Sized {
    fn read(value: &DeValue<'_>) -> Result<Self, String>;
}

/// Octets: `"16 MiB"`, `"512 KiB"`, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u64);

/// Anything that is written as a string and has a grammar of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text<T>(pub(crate) T);

impl Value for bool {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| wrong(value, "true or false"))
    }
}

impl Value for u64 {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let expected = "a whole number that is not negative";
        let number = value.as_integer().ok_or_else(|| wrong(value, expected))?;
        Self::from_str_radix(number.as_str(), number.radix())
            .map_err(|_| format!("this has to be {expected}"))
    }
}

impl Value for usize {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        Self::try_from(u64::read(value)?).map_err(|_| "this number is too large".to_owned())
    }
}

impl Value for u16 {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        Self::try_from(u64::read(value)?)
            .map_err(|_| format!("this has to be at most {}", Self::MAX))
    }
}

impl Value for u32 {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        Self::try_from(u64::read(value)?)
            .map_err(|_| format!("this has to be at most {}", Self::MAX))
    }
}

impl Value for f64 {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_float().map(|float| float.as_str().to_owned());
        let text = text.or_else(|| value.as_integer().map(|integer| integer.as_str().to_owned()));
        let number =
            text.and_then(|text| text.parse().ok()).filter(|number: &Self| number.is_finite());
        number.ok_or_else(|| wrong(value, "a number"))
    }
}

impl Value for String {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| wrong(value, "a string"))
    }
}

impl Value for PathBuf {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match String::read(value)? {
            path if path.is_empty() => Err("a path can't be empty".to_owned()),
            path => Ok(path.into()),
        }
    }
}

impl Value for SocketAddr {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = String::read(value)?;
        text.parse().map_err(|_| {
            format!(
                "\"{text}\" is not an address with a port, as in \"127.0.0.1:25\" or \"[::1]:25\""
            )
        })
    }
}

impl<T: FromStr<Err: Display>> Value for Text<T> {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = String::read(value)?;
        text.parse().map(Self).map_err(|error| format!("\"{text}\": {error}"))
    }
}

impl<T: Value> Value for Vec<T> {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let array = value.as_array().ok_or_else(|| wrong(value, "a list, as in [\"a\", \"b\"]"))?;
        array.iter().map(|item| T::read(item.get_ref())).collect()
    }
}

impl Value for Duration {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text =
            value.as_str().ok_or_else(|| wrong(value, "a duration, as in \"30s\" or \"4h\""))?;
        let (number, unit) = split(text);
        let millis = match unit {
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            _ => {
                return Err(format!(
                    "\"{text}\" is not a duration; write a number and ms, s, m, h or d"
                ));
            }
        };
        let number: f64 =
            number.parse().map_err(|_| format!("\"{text}\" is not a duration, as in \"30s\""))?;
        Self::try_from_secs_f64(number * millis / 1_000.0)
            .map_err(|_| format!("\"{text}\" is out of range"))
    }
}

impl Value for ByteSize {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        if value.is_integer() {
            return u64::read(value).map(Self);
        }
        let text = value.as_str().ok_or_else(|| wrong(value, "a size, as in \"16 MiB\""))?;
        let (number, unit) = split(text);
        let factor: u64 = match unit {
            "" | "B" => 1,
            "KiB" | "K" => 1 << 10,
            "MiB" | "M" => 1 << 20,
            "GiB" | "G" => 1 << 30,
            _ => {
                return Err(format!(
                    "\"{text}\" is not a size; write a number and KiB, MiB or GiB"
                ));
            }
        };
        let number: u64 =
            number.parse().map_err(|_| format!("\"{text}\" is not a size, as in \"16 MiB\""))?;
        number.checked_mul(factor).map(Self).ok_or_else(|| format!("\"{text}\" is too large"))
    }
}

/// The number and the unit behind it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

fn wrong(value: &DeValue<'_>, expected: &str) -> String {
    format!("this has to be {expected}, and is a {}", value.type_str())
}

/// The value as JSON, for the table that goes to a plugin.
pub(crate) fn to_json(value: &DeValue<'_>) -> serde_json::Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(truth) => (*truth).into(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(serde_json::Value::Null, Into::into),
        DeValue::Float(number) => {
            number.as_str().parse::<f64>().map_or(serde_json::Value::Null, Into::into)
        }
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(array) => {
            array.iter().map(|item| to_json(item.get_ref())).collect::<Vec<_>>().into()
        }
        DeValue::Table(table) => {
            let entries = table
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), to_json(value.get_ref())));
            serde_json::Value::Object(entries.collect())
        }
    }
}

impl Value for serde_json::Value {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        Ok(to_json(value))
    }
}
