//! What rspamd says.

use gatepost_plugin::{Error, Response, Transaction};
use serde_json::{Map, Value};

/// Its answer, as far as it concerns us.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// "no action", "greylist", "add header", "rewrite subject", "soft reject", "reject", or one of its
    /// administrator's own.
    pub(crate) action: String,
    score: f64,
    required: f64,
    /// The symbols, those that count most first: `GTUBE(0.00)`.
    symbols: Vec<String>,
    /// What is to be said to the client.
    pub(crate) message: Option<String>,
    /// The subject that it wants.
    pub(crate) subject: Option<String>,
    pub(crate) milter: Milter,
}

/// The block that is meant for a mail server.
#[derive(Debug, Default)]
pub(crate) struct Milter {
    /// Name, value and place of each: from the top, or from the end if it is below 0; none is the end.
    pub(crate) add: Vec<(String, String, Option<i64>)>,
    /// Name and number of each: the n-th from 1, from the end if it is below 0, all for 0.
    pub(crate) remove: Vec<(String, i64)>,
    pub(crate) change_from: Option<String>,
    pub(crate) add_recipients: Vec<String>,
    pub(crate) remove_recipients: Vec<String>,
    /// In the place of our own field for spam.
    pub(crate) spam_header: Vec<(String, String)>,
    pub(crate) spam_value: Option<String>,
    pub(crate) on_reject: Option<OnReject>,
    /// The action is not to be carried out.
    pub(crate) no_action: bool,
}

/// What a refusal is softened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnReject {
    Discard,
    Quarantine,
}

impl Answer {
    pub(crate) fn read(response: &Response) -> Result<Self, Error> {
        let value: Option<Value> = serde_json::from_slice(&response.body).ok();
        let value = value.as_ref().and_then(Value::as_object);
        if let Some(error) = value.and_then(|value| text(value, "error")) {
            return Err(Error::new(["it says: ", &error].concat()));
        }
        if response.status != 200 {
            return Err(Error::new(["HTTP status ", &response.status.to_string()].concat()));
        }
        let Some(value) = value else { return Err("its answer is no JSON".into()) };
        let Some(action) = text(value, "action") else {
            return Err("its answer has no `action`; was it skipped?".into());
        };
        Ok(Self {
            action,
            score: value.get("score").and_then(Value::as_f64).unwrap_or(0.0),
            required: value.get("required_score").and_then(Value::as_f64).unwrap_or(0.0),
            symbols: symbols(value.get("symbols")),
            message: value
                .get("messages")
                .and_then(Value::as_object)
                .and_then(|messages| text(messages, "smtp_message")),
            subject: text(value, "subject"),
            milter: value
                .get("milter")
                .and_then(Value::as_object)
                .map(Milter::read)
                .unwrap_or_default(),
        })
    }

    /// For `gatepost why`: `score 15.20 of 15.00: GTUBE(0.00), R_SPF_FAIL(1.00)`.
    pub(crate) fn reason(&self) -> String {
        let mut reason =
            ["score ", &hundredths(self.score), " of ", &hundredths(self.required)].concat();
        for (index, symbol) in self.symbols.iter().take(MOST_SYMBOLS).enumerate() {
            reason += if index == 0 { ": " } else { ", " };
            reason += symbol;
        }
        reason
    }

    /// For later plugins, the mailbox and whoever looks later.
    pub(crate) fn note(&self, transaction: &Transaction) -> Result<(), Error> {
        transaction.set_note("action", Some(&self.action))?;
        transaction.set_note("score", Some(&hundredths(self.score)))?;
        let symbols: Vec<&str> =
            self.symbols.iter().map(String::as_str).take(MOST_SYMBOLS).collect();
        Ok(transaction.set_note("symbols", Some(&symbols.join(" ")))?)
    }
}

impl Milter {
    fn read(block: &Map<String, Value>) -> Self {
        let mut milter = Self::default();
        for (name, value) in object(block, "add_headers") {
            milter.add_field(name, value);
        }
        for (name, value) in object(block, "remove_headers") {
            milter.remove.extend(value.as_i64().map(|number| (name.clone(), number)));
        }
        match block.get("spam_header") {
            Some(Value::String(value)) => milter.spam_value = Some(value.clone()),
            Some(Value::Object(fields)) => {
                let field = |(name, value): (&String, &Value)| {
                    Some((name.clone(), value.as_str()?.to_owned()))
                };
                milter.spam_header = fields.iter().filter_map(field).collect();
            }
            _ => {}
        }
        milter.change_from = text(block, "change_from");
        milter.add_recipients = list(block, "add_rcpt");
        milter.remove_recipients = list(block, "del_rcpt");
        milter.on_reject = match block.get("reject").and_then(Value::as_str) {
            Some("discard") => Some(OnReject::Discard),
            Some("quarantine") => Some(OnReject::Quarantine),
            _ => None,
        };
        milter.no_action = block.get("no_action").and_then(Value::as_bool).unwrap_or(false);
        milter
    }

    /// A value is a text, `{ value, order }`, or a list of such.
    fn add_field(&mut self, name: &str, value: &Value) {
        match value {
            Value::String(value) => self.add.push((name.to_owned(), value.clone(), None)),
            Value::Object(field) => {
                let order = field.get("order").or_else(|| field.get("index"));
                let order = order.and_then(Value::as_i64);
                self.add.extend(text(field, "value").map(|value| (name.to_owned(), value, order)));
            }
            Value::Array(values) => values.iter().for_each(|value| {
                if !value.is_array() {
                    self.add_field(name, value);
                }
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Those that moved the score most come first.
fn symbols(value: Option<&Value>) -> Vec<String> {
    let Some(symbols) = value.and_then(Value::as_object) else { return Vec::new() };
    let score = |value: &Value| value.get("score").and_then(Value::as_f64).unwrap_or(0.0);
    let mut symbols: Vec<(&String, f64)> =
        symbols.iter().map(|(name, value)| (name, score(value))).collect();
    symbols.sort_by(|(_, one), (_, other)| other.abs().total_cmp(&one.abs()));
    symbols
        .iter()
        .map(|(name, score)| [name.as_str(), "(", &hundredths(*score), ")"].concat())
        .collect()
}

/// Two digits behind the point, without the machinery that prints any number.
fn hundredths(number: f64) -> String {
    let whole = (number * 100.0).round().clamp(-1e12, 1e12);
    #[expect(clippy::cast_possible_truncation, reason = "clamped")]
    let whole = whole as i64;
    let sign = if whole < 0 { "-" } else { "" };
    let whole = whole.unsigned_abs();
    let rest = (whole % 100).to_string();
    let zero = if rest.len() < 2 { "0" } else { "" };
    [sign, &(whole / 100).to_string(), ".", zero, &rest].concat()
}

fn text(object: &Map<String, Value>, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn list(object: &Map<String, Value>, key: &str) -> Vec<String> {
    let list = object.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn object<'a>(
    block: &'a Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    block.get(key).and_then(Value::as_object).into_iter().flatten()
}

/// A reason has 500 octets.
const MOST_SYMBOLS: usize = 15;

#[cfg(test)]
mod tests {
    use super::hundredths;

    #[test]
    fn scores_have_two_digits() {
        check(0.0, "0.00");
        check(15.2, "15.20");
        check(-0.1, "-0.10");
        check(1.005, "1.00");
        check(2.999, "3.00");
        check(-12.34, "-12.34");
        check(f64::NAN, "0.00");

        fn check(number: f64, expected: &str) {
            assert_eq!(hundredths(number), expected);
        }
    }
}
