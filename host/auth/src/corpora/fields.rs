//! Authentication-Results fields as authres reads them, and rewritten addresses as Mail::SRS writes them.

use message::{Edit, Header};
use serde_json::Value;

use super::{at, json, list, suite, text};
use crate::results::{Results, forged};
use crate::srs::Srs;

#[test]
fn fields_of_authentication_results_are_read_written_and_taken_away() {
    let Some(folder) = suite("authentication-results") else { return };
    let cases = json(&folder.join("cases.json"));
    let mut faults = Vec::new();
    for case in list(&cases) {
        let written = text(case, "header");
        let header = Header::parse(format!("{written}\r\n").into_bytes());
        let value = header.fields().next().unwrap().value();
        let found = Results::parse(&value);
        let wanted = (case["error"] != true).then(|| wanted(case));
        let read = found.as_ref().map(facts);
        if read != wanted {
            faults.push(format!("{written}: {wanted:?} is wanted, found {read:?}"));
        }
        if let Some(found) = found {
            let again = Results::parse(&found.to_string());
            if again.as_ref().map(facts) != wanted {
                faults.push(format!("{written}: written as {found}"));
            }
        }
        let id = value.split([' ', ';']).next().unwrap().to_ascii_uppercase();
        assert_eq!(
            forged(&id, &header),
            [Edit::remove("Authentication-Results", Some(0)).unwrap()],
            "{written}"
        );
        assert_eq!(forged("other.example", &header), [], "{written}");
    }
    println!(
        "corpora: authentication-results: {} of {}",
        list(&cases).len() - faults.len(),
        list(&cases).len()
    );
    assert_eq!((list(&cases).len(), faults), (23, Vec::<String>::new()));
}

type Facts = (String, Vec<(String, String, Option<String>, Vec<[String; 3]>)>);

fn facts(results: &Results) -> Facts {
    let methods = results.methods.iter().map(|one| {
        let properties = one.properties.iter().map(|property| {
            [property.ptype.clone(), property.property.clone(), property.value.clone()]
        });
        (one.method.clone(), one.result.clone(), one.reason.clone(), properties.collect())
    });
    (results.authserv_id.clone(), methods.collect())
}

fn wanted(case: &Value) -> Facts {
    let methods = list(&case["results"]).iter().map(|one| {
        let properties = list(&one["properties"])
            .iter()
            .map(|property| [0, 1, 2].map(|index| property[index].as_str().unwrap().to_owned()));
        let reason = one["reason"].as_str().map(str::to_owned);
        (
            text(one, "method").to_owned(),
            text(one, "result").to_owned(),
            reason,
            properties.collect(),
        )
    });
    (text(case, "authserv_id").to_owned(), methods.collect())
}

#[test]
fn addresses_are_rewritten_and_restored_as_by_mail_srs() {
    let Some(folder) = suite("srs") else { return };
    let cases = json(&folder.join("cases.json"));
    let mut faults = Vec::new();
    for case in list(&cases) {
        assert_eq!(case["hash_length"], 4);
        let srs = Srs::new(vec![text(case, "secret").to_owned()])
            .unwrap()
            .with_separator(text(case, "separator").chars().next().unwrap())
            .with_max_age_days(case["max_age_days"].as_u64().unwrap());
        let now = at(case["time"].as_u64().unwrap());
        let as_wanted = if case["forward"].is_string() {
            let found = srs.forward(text(case, "input"), text(case, "forwarder"), now);
            found.as_deref() == Ok(text(case, "forward"))
        } else {
            let found = srs.reverse(text(case, "address"), now);
            match case["reverse"].as_str() {
                Some(wanted) => found.as_deref() == Ok(wanted),
                None => found.is_err(),
            }
        };
        if !as_wanted {
            faults.push(case.to_string());
        }
    }
    println!("corpora: srs: {} of {}", list(&cases).len() - faults.len(), list(&cases).len());
    assert_eq!((list(&cases).len(), faults), (359, Vec::new()));
}
