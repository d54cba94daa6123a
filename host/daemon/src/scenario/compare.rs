//! What is expected beside what was found.

use serde_json::{Map, Value as Json};

use super::expect::{Expected, Said};

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// A stage, with its recipient, or "result".
    pub(crate) place: String,
    pub(crate) key: String,
    pub(crate) expected: String,
    pub(crate) found: String,
    /// What else was said there, for who has to find out why.
    pub(crate) context: Vec<(String, String)>,
}

/// What was said at one question of a stage, by the keys of `expect`.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) stage: &'static str,
    /// Which one of several.
    pub(crate) about: Option<String>,
    /// Empty if nobody was asked.
    pub(crate) keys: Map<String, Json>,
}

/// Everything that does not fit.
pub(crate) fn compare(
    expected: &Expected,
    answered: &[Answered],
    outcome: &Map<String, Json>,
) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    for (stage, said) in &expected.stages {
        let asked: Vec<&Answered> = answered.iter().filter(|one| one.stage == *stage).collect();
        stage_fits(stage, said, &asked, &mut mismatches);
    }
    for one in answered.iter().filter(|one| one.keys.get("verdict") == Some(&"error".into())) {
        let named = expected.stages.iter().any(|(stage, _)| *stage == one.stage);
        if !named {
            mismatches.push(mismatch(
                one,
                "verdict",
                "a call that does not fail",
                Some(&"error".into()),
            ));
        }
    }
    for (key, wanted) in &expected.outcome {
        let found = outcome.get(key).unwrap_or(&Json::Null);
        if !outcome_fits(key, wanted, found) {
            mismatches.push(Mismatch {
                place: "result".into(),
                key: key.clone(),
                expected: show(wanted),
                found: show(&relevant(key, wanted, found)),
                context: Vec::new(),
            });
        }
    }
    mismatches
}

fn stage_fits(stage: &str, said: &Said, asked: &[&Answered], mismatches: &mut Vec<Mismatch>) {
    let nobody = Answered { stage: "", about: None, keys: Map::new() };
    let pairs: Vec<(&Map<String, Json>, &Answered)> = match said {
        Said::Always(keys) if asked.is_empty() => vec![(keys, &nobody)],
        Said::Always(keys) => asked.iter().map(|one| (keys, *one)).collect(),
        Said::Each(list) => {
            if list.len() != asked.len() {
                mismatches.push(Mismatch {
                    place: stage.to_owned(),
                    key: "questions".into(),
                    expected: list.len().to_string(),
                    found: asked.len().to_string(),
                    context: Vec::new(),
                });
            }
            list.iter().zip(asked.iter().copied()).collect()
        }
    };
    for (keys, one) in pairs {
        let is_asked = one.keys.contains_key("verdict");
        if keys.get("not-asked") == Some(&true.into()) {
            if is_asked {
                mismatches.push(mismatch(one, "not-asked", "true", one.keys.get("verdict")));
            }
            continue;
        }
        for (key, wanted) in keys.iter().filter(|(key, _)| *key != "not-asked") {
            let found = one.keys.get(key).unwrap_or(&Json::Null);
            if !fits(wanted, found) {
                let mut wrong = mismatch(one, key, &show(wanted), Some(found));
                if !is_asked {
                    wrong.place = stage.to_owned();
                    wrong.found = "it was not asked".into();
                }
                mismatches.push(wrong);
            }
        }
    }
}

fn mismatch(one: &Answered, key: &str, expected: &str, found: Option<&Json>) -> Mismatch {
    let place = match &one.about {
        Some(about) => format!("{} {about}", one.stage),
        None => one.stage.to_owned(),
    };
    let context = ["verdict", "text", "reason", "rule", "error"]
        .into_iter()
        .filter(|other| *other != key)
        .filter_map(|other| Some((other.to_owned(), show(one.keys.get(other)?))));
    Mismatch {
        place,
        key: key.to_owned(),
        expected: expected.to_owned(),
        found: show(found.unwrap_or(&Json::Null)),
        context: context.collect(),
    }
}

/// Some keys of the outcome are compared in a way of their own.
fn outcome_fits(key: &str, wanted: &Json, found: &Json) -> bool {
    match (key, wanted, found) {
        // In any order.
        ("recipients" | "tags", Json::Array(wanted), Json::Array(found)) => {
            wanted.len() == found.len()
                && wanted.iter().all(|one| found.iter().any(|other| fits(one, other)))
                && found.iter().all(|one| wanted.iter().any(|other| fits(other, one)))
        }
        // Among others.
        ("log" | "asked", Json::Array(wanted), Json::Array(found)) => {
            wanted.iter().all(|one| found.iter().any(|other| fits(one, other)))
        }
        ("log" | "asked", Json::String(_), Json::Array(found)) => {
            found.iter().any(|other| fits(wanted, other))
        }
        ("not-before" | "expiry", Json::String(wanted), Json::Object(found)) => {
            let form = if wanted.starts_with('+') { "relative" } else { "absolute" };
            found.get(form).is_some_and(|found| found == wanted)
        }
        ("body", Json::String(wanted), Json::String(found)) => {
            matches(wanted.strip_suffix('\n').unwrap_or(wanted), found)
        }
        _ => fits(wanted, found),
    }
}

/// Of a table, what was asked for: nobody wants to read all the header to see one field.
fn relevant(key: &str, wanted: &Json, found: &Json) -> Json {
    match (key, wanted, found) {
        ("header" | "kv" | "notes" | "routes", Json::Object(wanted), Json::Object(found)) => {
            let same = |name: &str| {
                let by_name = |(other, _): &(&String, &Json)| {
                    if key == "header" { other.eq_ignore_ascii_case(name) } else { *other == name }
                };
                found.iter().find(by_name).map_or(Json::Null, |(_, value)| value.clone())
            };
            wanted.keys().map(|name| (name.clone(), same(name))).collect::<Map<_, _>>().into()
        }
        _ => found.clone(),
    }
}

/// Whether what was found is what a scenario names.
pub(crate) fn fits(wanted: &Json, found: &Json) -> bool {
    match (wanted, found) {
        (Json::String(pattern), Json::String(text)) => matches(pattern, text),
        (Json::String(pattern), Json::Number(number)) => matches(pattern, &number.to_string()),
        (Json::Number(number), Json::String(text)) => number.to_string() == *text,
        (Json::Bool(false), Json::Null) => true,
        (Json::Array(wanted), Json::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(w, f)| fits(w, f))
        }
        (Json::Array(wanted), Json::Null) => wanted.is_empty(),
        (one, Json::Array(found)) => found.len() == 1 && fits(one, &found[0]),
        (Json::Object(wanted), Json::Object(found)) => wanted.iter().all(|(name, wanted)| {
            let same = found.get(name).or_else(|| {
                let by_name = found.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
                by_name.map(|(_, value)| value)
            });
            fits(wanted, same.unwrap_or(&Json::Null))
        }),
        (wanted, found) => wanted == found,
    }
}

/// Whether a text is what a pattern says; `*` stands for any text.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, between)) = pieces.split_last() else { return rest.is_empty() };
    for piece in between {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// A value as it is printed.
pub(crate) fn show(value: &Json) -> String {
    match value {
        Json::Null => "(nothing)".into(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}
