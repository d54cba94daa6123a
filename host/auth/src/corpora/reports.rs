//! Aggregate reports: those of others are read, those of ours are read by others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{at, json, list, suite, text};
use crate::report::tests::sample;
use crate::report::{Carrier, Limits, ReadError, Report, unpack};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn read(file: &Path) -> Result<Report, ReadError> {
    unpack(&fs::read(file).unwrap(), &Limits::default())
}

#[test]
fn aggregate_reports_of_others_are_read() {
    let Some(folder) = suite("reports") else { return };
    let mut count = 0;
    for file in files(&folder.join("dmarc-aggregate")) {
        let found = read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(!found.published.domain.is_empty() && !found.rows.is_empty(), "{file:?} {found:?}");
        // One author is "bad<xml.net", which nobody can read.
        let is_whole = |author: &str| !author.is_empty() || file.ends_with("invalid_xml.xml");
        assert!(
            found.rows.iter().all(|(row, n)| *n > 0 && is_whole(&row.header_from)),
            "{file:?} {found:?}"
        );
        count += 1;
    }
    assert_eq!(count, 18);
    println!("corpora: reports dmarc-aggregate: {count} of 18 read");
    // Of the two that are called invalid one is empty, and one has words in capitals, which we understand.
    let invalid = folder.join("dmarc-aggregate-invalid");
    assert!(matches!(read(&invalid.join("empty.xml")), Err(ReadError::None)));
    let capitals = read(&invalid.join("report_with_upper_cased_pass.xml")).unwrap();
    assert!(capitals.rows[0].0.spf_aligned);
    // What is packed is the same as what is not.
    let extract = folder.join("extract");
    let plain = read(&extract.join("nice-input.xml")).map_err(|error| error.to_string());
    for packed in ["nice-input.xml.gz", "nice-input.xml.zip"] {
        let found = read(&extract.join(packed)).map_err(|error| error.to_string());
        assert_eq!(found, plain, "{packed}");
    }
    println!("corpora: reports dmarc-aggregate-invalid: 2 of 2; extract: 3 of 3");
}

#[test]
fn what_is_no_aggregate_report_is_told_so() {
    let Some(folder) = suite("reports") else { return };
    let mut count = 0;
    for kind in ["dmarc-failure", "tlsrpt", "mail-auth/arf", "mail-auth/tlsrpt"] {
        for file in files(&folder.join(kind)) {
            assert!(read(&file).is_err(), "{}", file.display());
            count += 1;
        }
    }
    // Failure reports (RFC 6591), TLS reports (RFC 8460) and complaints (RFC 5965) are not DMARC's aggregates.
    println!("corpora: reports of other kinds: {count} told apart");
}

#[test]
fn facts_of_reports_are_those_that_mail_auth_reads() {
    let Some(folder) = suite("reports") else { return };
    let mut count = 0;
    for file in files(&folder.join("mail-auth/dmarc")) {
        if file.extension().is_some_and(|extension| extension == "json") {
            continue;
        }
        let found = read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert_eq!(
            facts(&found),
            wanted(&json(&file.with_extension("json"))),
            "{}",
            file.display()
        );
        count += 1;
    }
    assert_eq!(count, 10);
    println!("corpora: reports mail-auth/dmarc: {count} of 10");
}

/// What both of us tell, in their words.
fn facts(report: &Report) -> Vec<String> {
    let published = &report.published;
    let mut facts = vec![format!(
        "{} {} {} {} {} {} {}",
        report.reporter,
        report.email,
        report.id,
        report.begin,
        report.end,
        published.domain,
        published.policy
    )];
    for (row, count) in &report.rows {
        facts.push(format!(
            "{} {count} {} {} {} {} {:?}",
            row.source,
            row.disposition.as_str(),
            row.dkim_aligned,
            row.spf_aligned,
            row.header_from,
            row.envelope_to
        ));
        let of_dkim = |one: &crate::report::Signature| {
            format!("dkim {} {} {}", one.domain, one.selector, one.result)
        };
        facts.extend(row.dkim.iter().map(of_dkim));
        facts.extend(row.reasons.iter().map(|reason| format!("reason {}", reason.comment)));
    }
    facts
}

fn wanted(report: &Value) -> Vec<String> {
    let lower = |value: &Value| match value.as_str().unwrap_or_default() {
        "Unspecified" => "none".to_owned(),
        other => other.to_ascii_lowercase(),
    };
    let metadata = &report["report_metadata"];
    let published = &report["policy_published"];
    let mut facts = vec![format!(
        "{} {} {} {} {} {} {}",
        text(metadata, "org_name"),
        text(metadata, "email"),
        text(metadata, "report_id"),
        metadata["date_range"]["begin"],
        metadata["date_range"]["end"],
        text(published, "domain"),
        lower(&published["p"])
    )];
    for record in list(&report["record"]) {
        let row = &record["row"];
        let evaluated = &row["policy_evaluated"];
        facts.push(format!(
            "{} {} {} {} {} {} {:?}",
            text(row, "source_ip"),
            row["count"],
            lower(&evaluated["disposition"]),
            lower(&evaluated["dkim"]) == "pass",
            lower(&evaluated["spf"]) == "pass",
            text(&record["identifiers"], "header_from").to_ascii_lowercase(),
            record["identifiers"]["envelope_to"].as_str()
        ));
        for one in list(&record["auth_results"]["dkim"]) {
            let result = lower(&one["result"]);
            facts.push(format!("dkim {} {} {result}", text(one, "domain"), text(one, "selector")));
        }
        for reason in list(&evaluated["reason"]) {
            facts.push(format!("reason {}", text(reason, "comment")));
        }
    }
    facts
}

/// Reads the report in a file by a program of others, and prints what it has read.
const PARSE: &str = r#"
import json, sys, parsedmarc
found = parsedmarc.parse_report_file(sys.argv[1], offline=True)
report = found["report"]
print(json.dumps([found["report_type"], report["policy_published"]["domain"], sum(one["count"] for one in report["records"])]))
"#;

#[test]
fn reports_of_ours_are_read_by_parsedmarc() {
    let there = Command::new("python3").args(["-c", "import parsedmarc"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        let required = std::env::var_os("GATEPOST_REQUIRE_FOREIGN").is_some();
        assert!(!required, "parsedmarc is absent: pip install parsedmarc");
        eprintln!("skipped: reports_of_ours_are_read_by_parsedmarc: parsedmarc is absent");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let carrier =
        Carrier { from: "dmarc@mx.example", submitter: "mx.example", now: at(1_700_090_000) };
    let mail = sample().mail(&carrier, &["reports@example.org"]).unwrap();
    for (name, content) in [("report.eml", mail), ("report.xml", sample().to_xml())] {
        let file = folder.path().join(name);
        fs::write(&file, content).unwrap();
        let output = Command::new("python3").args(["-c", PARSE]).arg(&file).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let read: Value = serde_json::from_str(said.lines().last().unwrap_or_default())
            .unwrap_or_else(|_| panic!("{name}: {}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(read, serde_json::json!(["aggregate", "example.org", 8]), "{name}");
    }
    println!("parsedmarc: 2 of 2 reports of ours read");
}
