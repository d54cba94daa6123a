//! The suite of openspf for RFC 7208, and the cases of pyspf.

use serde_json::Value;

use super::{World, at, json, list, record, runtime, suite, text};
use crate::limits::Limits;
use crate::outcome::SpfResult;
use crate::spf::{Answer, Question, check};

/// Cases of modes that pyspf has beside the standard. RFC 7208 §6: `default=` is an unrecognized modifier and ignored, so
/// the result is "neutral" (§4.7), not the "fail" of its lax mode nor the "ambiguous" of its harsh one. The suite for RFC
/// 7208 itself wants "neutral" of such records (`default-modifier-obsolete`).
const OTHER_MODES: [&str; 2] = ["default-modifier", "default-modifier-harsh"];

#[test]
fn the_suite_of_openspf_is_met() {
    let Some(folder) = suite("spf-openspf") else { return };
    for (file, count) in [("cases-rfc7208.json", 203), ("cases-pyspf.json", 16)] {
        let mut faults = Vec::new();
        let (mut cases, mut others) = (0, 0);
        for scenario in list(&json(&folder.join(file))) {
            let world = world(&scenario["zone"]);
            for case in scenario_tests(&scenario["tests"]) {
                cases += 1;
                let found = answer(&world, case);
                if OTHER_MODES.contains(&text(case, "id")) {
                    assert_eq!(found.result, SpfResult::Neutral, "{case}");
                    others += 1;
                } else if !conforms(&found, case) {
                    faults
                        .push(format!("{}: {case}\n  found {found:?}", text(scenario, "scenario")));
                }
            }
        }
        let met = cases - others - faults.len();
        println!(
            "corpora: spf-openspf {file}: {met} of {cases}; {others} of other modes, by RFC 7208 §6 and §4.7"
        );
        assert_eq!((cases, faults), (count, Vec::<String>::new()), "{file}");
    }
}

pub(super) fn scenario_tests(tests: &Value) -> Vec<&Value> {
    match tests {
        Value::Object(map) => map.values().collect(),
        other => list(other).iter().collect(),
    }
}

pub(super) fn world(zone: &Value) -> World {
    let mut world = World::default();
    for (name, entries) in zone.as_object().unwrap() {
        world.exists(name);
        for entry in list(entries) {
            let kind = text(entry, "type");
            if let Some(code) = entry["rcode"].as_str() {
                world.fail(name, kind.parse().ok(), code);
            } else if let Some((kind, record)) = record(kind, &entry["data"]) {
                world.add(name, kind, record);
            }
        }
    }
    world
}

fn answer(world: &World, case: &Value) -> Answer {
    let (helo, mail_from) = (text(case, "helo"), text(case, "mailfrom"));
    let (local_part, domain) = match mail_from {
        "" => ("postmaster", helo),
        other => other.rsplit_once('@').unwrap_or(("", other)),
    };
    let client: std::net::IpAddr = text(case, "ip").parse().unwrap();
    let question = Question {
        client: client.to_canonical(),
        local_part,
        domain,
        helo,
        receiver: "receiver.example",
        now: at(1_700_000_000),
    };
    runtime().block_on(check(&world.resolver(), &Limits::default(), &question))
}

pub(super) fn conforms(answer: &Answer, case: &Value) -> bool {
    let conforming = list(&case["results"]).iter().any(|one| one == answer.result.as_str());
    let explained = match case["explanation"].as_str() {
        None => true,
        Some("DEFAULT") => answer.explanation.is_none(),
        Some(wanted) => answer.explanation.as_deref() == Some(wanted),
    };
    conforming && explained
}
