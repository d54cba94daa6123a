//! The suite of ValiMail: validation of chains, and sealing.

use std::sync::Arc;

use bytes::Bytes;
use message::{Edit, Header, Octets};
use serde_json::Value;

use super::{World, at, json, list, runtime, suite, text};
use crate::arc::{Sealing, verify};
use crate::key::tests::small;
use crate::limits::Limits;
use crate::outcome::{ArcChain, ArcResult};
use crate::results::Results;

#[test]
fn the_suite_of_validation_is_met() {
    let Some(folder) = suite("arc-valimail") else { return };
    let mut faults = Vec::new();
    let mut cases = 0;
    for scenario in list(&json(&folder.join("validation.json"))) {
        let world = World::of_keys(&scenario["dns"]);
        for case in list(&scenario["tests"]) {
            cases += 1;
            let content = message::with_crlf(text(case, "message").as_bytes());
            let found = validated(content, &world);
            let wanted = text(case, "cv");
            if !wanted.is_empty() && ArcResult::parse(wanted) != Some(found.result) {
                faults.push(format!("{}: {wanted} is wanted, found {found:?}", text(case, "id")));
            }
        }
    }
    println!("corpora: arc-valimail validation: {} of {cases}", cases - faults.len());
    assert_eq!((cases, faults), (171, Vec::<String>::new()));
}

fn validated(content: Vec<u8>, world: &World) -> ArcChain {
    let header = Header::parse(content.clone());
    let content: Arc<dyn Octets> = Arc::new(Bytes::from(content));
    runtime().block_on(verify(
        &world.resolver(),
        &Limits::default(),
        &header,
        &content,
        at(1_700_000_000),
    ))
}

#[test]
fn the_suite_of_sealing_is_met() {
    let Some(folder) = suite("arc-valimail") else { return };
    let mut faults = Vec::new();
    let mut cases = 0;
    for scenario in list(&json(&folder.join("signing.json"))) {
        let key = Arc::new(small(text(scenario, "privatekey")));
        let world = World::of_keys(&scenario["dns"]);
        for case in list(&scenario["tests"]) {
            cases += 1;
            let mut sealing =
                Sealing::new(text(scenario, "domain"), text(scenario, "sel"), Arc::clone(&key))
                    .unwrap();
            sealing.fields = text(case, "sig-headers").split(':').map(str::to_owned).collect();
            faults.extend(sealing_fault(&sealing, case, &world));
        }
    }
    println!("corpora: arc-valimail sealing: {} of {cases}", cases - faults.len());
    assert_eq!((cases, faults), (17, Vec::<String>::new()));
}

/// Seals a message of the suite and compares the tags as its own runner does: as sets, without white space.
fn sealing_fault(sealing: &Sealing, case: &Value, world: &World) -> Option<String> {
    let content = message::with_crlf(text(case, "message").as_bytes());
    let header = Header::parse(content.clone());
    let ours = text(case, "srv-id");
    // The suite says what validation came to in the message's own Authentication-Results.
    let fields: Vec<String> =
        header.get_all("Authentication-Results").map(|field| field.value()).collect();
    let mine: Vec<Results> = fields
        .iter()
        .filter_map(|value| Results::parse(value))
        .filter(|one| one.authserv_id == ours)
        .collect();
    let found = (mine.iter().flat_map(|one| &one.methods))
        .find(|one| one.method == "arc")
        .and_then(|one| ArcResult::parse(&one.result))
        .unwrap_or(ArcResult::None);
    let results = consolidated(&fields, ours);
    let now = at(case["t"].as_u64().unwrap());
    let edits =
        sealing.seal(&header, &content, header.body_offset(), found, &results, now).unwrap();
    if edits.is_empty() {
        let nothing = ["AS", "AMS", "AAR"].iter().all(|name| text(case, name).is_empty());
        return (!nothing).then(|| format!("{}: not sealed", text(case, "id")));
    }
    for (edit, name) in edits.iter().zip(["AAR", "AMS", "AS"]) {
        let Edit::Prepend(field) = edit else { panic!("a seal is put on top") };
        let (found, wanted) = (tag_set(&field.value()), tag_set(text(case, name)));
        if found != wanted {
            return Some(format!(
                "{} {name}: {wanted:#?} is wanted, found {found:#?}",
                text(case, "id")
            ));
        }
    }
    if found != ArcResult::Fail {
        let sealed = message::compose(&header, &edits);
        let body = &content[usize::try_from(header.body_offset()).unwrap()..];
        let again = validated([&sealed.head[..], body].concat(), world);
        if again.result != ArcResult::Pass {
            return Some(format!(
                "{}: what was sealed does not validate: {again:?}",
                text(case, "id")
            ));
        }
    }
    None
}

/// The results of all our fields, one behind the other.
fn consolidated(fields: &[String], ours: &str) -> String {
    let mut all = vec![ours.to_owned()];
    for field in fields {
        let mut parts = field.split(';').map(str::trim);
        if parts.next() == Some(ours) {
            all.extend(parts.filter(|part| !part.is_empty()).map(str::to_owned));
        }
    }
    all.join("; ")
}

fn tag_set(value: &str) -> Vec<String> {
    let squeezed: String = value.chars().filter(|c| !c.is_whitespace()).collect();
    let mut tags: Vec<String> =
        squeezed.split(';').filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
    tags.sort();
    tags
}
