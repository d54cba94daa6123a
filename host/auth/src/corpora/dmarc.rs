//! The suites of DMARC: the rules of RFC 9989, records, and the Public Suffix List.

use net::Kind;
use serde_json::Value;

use super::{World, json, list, record, runtime, suite, text};
use crate::dmarc::{Alignment, Evidence, Record, of_author, organizational_domain_by_list};
use crate::name;
use crate::outcome::Dmarc;
use crate::verify::Discovery;

pub(super) fn world(zone: &Value) -> World {
    let mut world = World::default();
    for (name, types) in zone.as_object().unwrap() {
        world.exists(name);
        if let Some(code) = types["rcode"].as_str() {
            world.fail(name, None, code);
        }
        for (kind, records) in types.as_object().unwrap() {
            for (kind, record) in list(records).iter().filter_map(|data| record(kind, data)) {
                world.add(name, kind, record);
            }
        }
    }
    world
}

#[test]
fn the_rules_of_rfc_9989_are_met() {
    let Some(folder) = suite("dmarc-rfc9989") else { return };
    let cases = json(&folder.join("cases.json"));
    let mut faults = Vec::new();
    for case in list(&cases) {
        let world = world(&case["zone"]);
        let domains = |key: &str| {
            list(&case["input"][key])
                .iter()
                .map(|one| text(one, "domain").to_owned())
                .collect::<Vec<_>>()
        };
        let evidence = Evidence {
            spf: domains("spfDomains").pop(),
            dkim: domains("dkimDomains"),
            silent: Vec::new(),
        };
        let author = text(&case["input"], "headerFrom").rsplit_once('@').unwrap().1;
        let found = runtime().block_on(of_author(
            &world.resolver(),
            Discovery::TreeWalk,
            author,
            &evidence,
        ));
        let unmet: Vec<&Value> =
            list(&case["expect"]).iter().filter(|wanted| !meets(&found, &world, wanted)).collect();
        if !unmet.is_empty() {
            faults.push(format!("{}: {unmet:?} {found:#?}", text(case, "id")));
        }
    }
    println!(
        "corpora: dmarc-rfc9989: {} of {}",
        list(&cases).len() - faults.len(),
        list(&cases).len()
    );
    assert_eq!((list(&cases).len(), faults), (30, Vec::new()));
}

fn meets(found: &Dmarc, world: &World, wanted: &Value) -> bool {
    let (field, op, value) = (text(wanted, "field"), text(wanted, "op"), &wanted["value"]);
    let published = found.record.as_ref();
    match (field, op) {
        ("result", "equal") => value == found.result.as_str(),
        ("policy", "equal") => value == found.policy.as_str(),
        ("org_or_policy_domain", "equal") => *value == found.organizational_domain,
        ("alignment.spf.result", "equal") => {
            let aligned = found.spf_aligned.as_deref();
            // They name the organization, we the domain that speaks for it.
            aligned.is_some_and(|domain| name::is_within(domain, value.as_str().unwrap()))
        }
        ("alignment.dkim.result", "not is ok") => found.dkim_aligned.is_none(),
        ("alignment.dkim.strict", "is true") => {
            published.is_some_and(|one| one.adkim == Alignment::Strict)
        }
        ("rr", "contain") => {
            published.is_some_and(|one| one.text.contains(value.as_str().unwrap()))
        }
        // We surface no pct at all; and no policy where there is no record.
        ("record", "not property") => value == "pct" || published.is_none(),
        ("dmarc_txt_queries", "equal") => {
            let asked: Vec<String> = world
                .queries()
                .into_iter()
                .filter(|(_, kind)| *kind == Kind::Txt)
                .map(|(name, _)| name)
                .collect();
            *value == Value::from(asked)
        }
        _ => panic!("the suite asks for {field} {op}"),
    }
}

/// Records that RFC 7489 rejects and RFC 9989 takes.
const RELAXED: [&str; 1] = [
    // RFC 9989 §4.8: only v= has its place, the other tags come in any order.
    "v=DMARC1; sp=reject; p=reject",
];

#[test]
fn records_are_taken_or_not() {
    let Some(folder) = suite("dmarc-records") else { return };
    let cases = json(&folder.join("records.json"));
    let mut relaxed = 0;
    for case in list(&cases) {
        let written = text(case, "record");
        let taken = Record::parse(written.as_bytes()).is_some();
        if RELAXED.contains(&written) {
            assert!(taken && case["valid"] == false, "{written}");
            relaxed += 1;
            continue;
        }
        assert_eq!(Value::from(taken), case["valid"], "{written}");
    }
    assert_eq!((list(&cases).len(), relaxed), (41, RELAXED.len()));
    println!(
        "corpora: dmarc-records: {} of 41 records; taken by RFC 9989 §4.8: {RELAXED:?}",
        41 - relaxed
    );
}

/// Fields of mailauth's parse that we have no counterpart for: RFC 9989 §A.6 drops pct and ri, unknown tags are ignored
/// (§4.7), and "v" is the same in every record.
const WITHOUT_COUNTERPART: [&str; 5] = ["pct", "ri", "v", "tagonly", "false"];

#[test]
fn records_are_found() {
    let Some(folder) = suite("dmarc-records") else { return };
    let cases = json(&folder.join("lookup.json"));
    let (mut checked, mut passed_over) = (0, 0);
    for case in list(&cases) {
        let world = world(&case["zone"]);
        let domain = text(&case["input"], "domain");
        let evidence = Evidence::default();
        let found = runtime().block_on(of_author(
            &world.resolver(),
            Discovery::TreeWalk,
            domain,
            &evidence,
        ));
        for wanted in list(&case["expect"]) {
            if WITHOUT_COUNTERPART.contains(&text(wanted, "field")) {
                passed_over += 1;
                assert!(found.record.is_some());
                continue;
            }
            checked += 1;
            assert!(is_found(&found, wanted), "{}: {wanted} {found:#?}", text(case, "id"));
        }
    }
    assert_eq!(list(&cases).len(), 25);
    println!(
        "corpora: dmarc-records: 25 of 25 lookups, {checked} facts; {passed_over} facts have no counterpart: {WITHOUT_COUNTERPART:?}"
    );
}

fn is_found(found: &Dmarc, wanted: &Value) -> bool {
    let value = &wanted["value"];
    let Some(published) = &found.record else {
        return text(wanted, "field") == "record" && text(wanted, "op") == "is false";
    };
    let uri = |list: &[crate::dmarc::ReportAddress]| list.iter().any(|one| *value == one.uri);
    match (text(wanted, "field"), text(wanted, "op")) {
        ("record", "type") => true,
        ("p", _) => value == published.policy.as_str(),
        ("sp", _) => published.subdomain_policy.is_some_and(|policy| value == policy.as_str()),
        ("adkim", _) => value == published.adkim.as_str(),
        ("aspf", _) => value == published.aspf.as_str(),
        ("fo", _) => *value == published.failure_options,
        ("rua", _) => uri(&published.aggregate_reports),
        ("ruf", _) => uri(&published.failure_reports),
        ("rr", _) => *value == published.text,
        ("isOrgRecord", "is true") => found.policy_domain.as_deref() != Some(&found.author_domain),
        ("isOrgRecord", "is false") => found.policy_domain.as_deref() == Some(&found.author_domain),
        _ => false,
    }
}

#[test]
fn organizations_are_found_by_the_public_suffix_list() {
    let Some(folder) = suite("psl") else { return };
    let cases = json(&folder.join("cases.json"));
    let mut faults = Vec::new();
    for case in list(&cases) {
        // A name that is none, as one with a leading dot, has no organization; a public suffix is its own.
        let found = case[0].as_str().and_then(name::canonical).and_then(|name| {
            let organization = organizational_domain_by_list(&name);
            crate::dmarc::registrable(&name).map(|_| organization)
        });
        let wanted = case[1].as_str().and_then(name::canonical);
        if found != wanted {
            faults.push(format!("{case}: {found:?}"));
        }
    }
    println!("corpora: psl: {} of {}", list(&cases).len() - faults.len(), list(&cases).len());
    assert_eq!((list(&cases).len(), faults), (78, Vec::new()));
}
