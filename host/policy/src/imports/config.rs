//! `config`: the plugin's own table.

use serde_json::Value;

use crate::bindings::imports::config::Host;
use crate::guest::Guest;

impl Host for Guest {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        self.charge()?;
        Ok(find(&self.core.config, &key))
    }

    fn json(&mut self) -> wasmtime::Result<String> {
        self.charge()?;
        Ok(self.core.config_json.clone())
    }
}

fn find(config: &Value, key: &str) -> Option<String> {
    // A key that itself holds a dot wins over the path.
    let value = config.get(key).or_else(|| key.split('.').try_fold(config, step))?;
    Some(match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    })
}

fn step<'a>(value: &'a Value, part: &str) -> Option<&'a Value> {
    value.as_array().map_or_else(|| value.get(part), |list| list.get(part.parse::<usize>().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, expected: Option<&str>) {
        let config = serde_json::json!({"a": "text", "n": 5, "t": {"b": true, "l": [1, "x"]}, "x.y": "dotted"});
        assert_eq!(find(&config, key).as_deref(), expected, "{key}");
    }

    #[test]
    fn keys_reach_into_tables_and_lists() {
        check("a", Some("text"));
        check("n", Some("5"));
        check("t.b", Some("true"));
        check("t.l", Some(r#"[1,"x"]"#));
        check("x.y", Some("dotted"));
        check("t.l.0", Some("1"));
        check("t.l.1", Some("x"));
        check("t.l.2", None);
        check("t.l.x", None);
        check("t.none", None);
        check("a.b", None);
        check("", None);
    }
}
