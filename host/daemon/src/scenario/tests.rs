use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::compare::{fits, matches};
use super::{endpoint, load, moment};

#[test]
fn a_star_stands_for_any_text() {
    for (pattern, text) in [
        ("", ""),
        ("a", "a"),
        ("*", ""),
        ("*", "abc"),
        ("a*", "abc"),
        ("*c", "abc"),
        ("a*b*c", "axxbyyc"),
        ("*b*", "abc"),
    ] {
        assert!(matches(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in
        [("", "a"), ("a", "b"), ("a", "ab"), ("a*", "ba"), ("a*a", "a"), ("*ab*ab*", "xaby")]
    {
        assert!(!matches(pattern, text), "{pattern} {text}");
    }
}

#[test]
fn values_fit_as_people_write_them() {
    assert!(fits(&json!("45*"), &json!(451)));
    assert!(fits(&json!(451), &json!(451)));
    assert!(fits(&json!("x"), &json!(["x"])));
    assert!(fits(&json!([]), &json!(null)));
    assert!(fits(&json!({ "Subject": "a*" }), &json!({ "subject": ["ab"], "from": ["c"] })));
    assert!(fits(&json!({ "gone": false }), &json!({})));
    assert!(!fits(&json!({ "gone": false }), &json!({ "gone": "1" })));
    assert!(!fits(&json!(["x"]), &json!(["x", "y"])));
}

#[test]
fn times_and_addresses_are_read_as_they_are_usually_written() {
    let seconds = |text: &str| {
        moment(text).map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
    };
    assert_eq!(seconds("1970-01-01T00:00:00Z"), Ok(0));
    assert_eq!(seconds("2000-02-29T23:59:59Z"), Ok(951_868_799));
    assert_eq!(seconds("2026-11-22T05:00:00Z"), Ok(1_795_323_600));
    for text in ["", "2026-11-22", "2026-13-22T05:00:00Z", "2026-11-22T25:00:00Z", "now"] {
        assert!(moment(text).is_err(), "{text}");
    }
    assert_eq!(endpoint("192.0.2.1").unwrap().to_string(), "192.0.2.1:40000");
    assert_eq!(endpoint("[2001:db8::1]:25").unwrap().to_string(), "[2001:db8::1]:25");
    assert!(endpoint("mx.example.org").is_err());
}

fn faults(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.toml");
    std::fs::write(&file, text).unwrap();
    let faults = load(&file).map(|_| Vec::new()).unwrap_or_else(|faults| faults);
    faults.iter().map(|fault| format!("{}: {}: {}", fault.line, fault.key, fault.message)).collect()
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let found = faults(text);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(matches(expected, found), "{found}\n is not {expected}");
    }
}

#[test]
fn all_faults_of_a_scenario_are_told_with_line_and_key() {
    check("[[step]]\nfrom = 1\nto = []\n", &["2: step[0].from: this has to be a string*"]);
    check(
        "[session]\nclint = \"192.0.2.1\"\n[[step]]\n[step.expect]\nrcpt = \"rejct\"\nresult = \"fine\"\n",
        &[
            "2: session.clint: unknown key*did you mean \"client\"?",
            "5: step[0].expect.rcpt: \"rejct\" is no verdict*",
            "6: step[0].expect.result: a result is one of accepted,*",
        ],
    );
    check(
        "dns = \"a.example A not-an-address\"\nclock = \"later\"\n[[http]]\nfault = \"odd\"\n",
        &[
            "1: dns: line 1 of the zone: *",
            "2: clock: \"later\" is no time*",
            "3: http[0]: the key \"url\" is missing",
            "4: http[0].fault: a fault is*",
        ],
    );
    check(
        "[plugin.grants]\nlookup = [\"absent\"]\n[kv]\nk = { value = \"1\", tll = \"1h\" }\n[[step]]\nauthentication = { spf = \"perhaps\" }\n",
        &[
            "2: plugin.grants.lookup: there is no [[table]]*",
            "4: kv.k.tll: unknown key*\"ttl\"?",
            "6: step[0].authentication.spf: an outcome is one of none, neutral, pass,*",
        ],
    );
}

#[test]
fn a_scenario_takes_from_its_base_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let base = "clock = 2000-02-29T00:00:00Z\n[plugin]\non-error = \"pass\"\n[session]\nhelo = \"base.example\"\n";
    std::fs::write(folder.path().join("base.toml"), base).unwrap();
    let file = folder.path().join("own.toml");
    let own = "base = \"base.toml\"\n[session]\nclient = \"198.51.100.7\"\n[[step]]\nafter = \"5m\"\n[[step]]\nhelo = \"own.example\"\nto = \"bob@example.org\"\n";
    std::fs::write(&file, own).unwrap();
    let scenario = load(&file).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(scenario.plugin.on_error, policy::OnError::Pass);
    assert_eq!(scenario.clock, moment("2000-02-29T00:00:00Z").unwrap());
    let [first, second] = &scenario.steps[..] else { panic!("two steps") };
    // A table is taken whole or not at all.
    assert_eq!(first.visit.helo, "client.example.net");
    assert_eq!(first.visit.client.to_string(), "198.51.100.7:40000");
    assert_eq!(first.after, Duration::from_secs(300));
    assert_eq!(second.visit.helo, "own.example");
    assert_eq!(second.visit.to[0].address, "bob@example.org");
    assert!(load(Path::new("absent.toml")).is_err());
}
