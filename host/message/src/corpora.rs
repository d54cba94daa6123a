//! Messages and reports that others wrote: the suites of `CORPORA_DIR`, or of `shared/corpora` beside the project.
//! A suite that is absent is named and passed over.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;

use crate::mime::Parts;
use crate::report::{self, Action, ParsedRecipient, ParsedReport};
use crate::{Body, Edit, Header, Limits, Watch, compose};

fn suite(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    let folder = std::env::var_os("CORPORA_DIR").map_or(beside, PathBuf::from).join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED: the suite {name} is not there");
    None
}

/// All files below a folder that are no papers about it.
fn messages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(messages(&path));
        } else if !["LICENSE", "README.md", "cases.json"].contains(&name.as_str()) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn watched(content: &[u8], chunk: usize) -> Header {
    let mut watch = Watch::new(Limits::default());
    content.chunks(chunk).for_each(|piece| watch.update(piece));
    watch.finish().unwrap()
}

fn body_of(body: &Body, content: &[u8]) -> Bytes {
    match body {
        Body::Received { offset } => {
            Bytes::copy_from_slice(&content[usize::try_from(*offset).unwrap()..])
        }
        Body::Replaced(body) => body.clone(),
    }
}

#[test]
fn real_messages_pass_octet_for_octet() {
    for name in ["messages-cpython", "messages-mail-parser", "messages-mikel", "real-mail"] {
        let Some(folder) = suite(name) else { continue };
        let paths = messages(&folder);
        let mut parts = 0;
        for path in &paths {
            let content = fs::read(path).unwrap();
            for content in [content.clone(), crate::with_crlf(&content)] {
                for chunk in [1, 7, 4096] {
                    let header = watched(&content, chunk);
                    let composed = compose(&header, &[]);
                    let out = [composed.head, body_of(&composed.body, &content)].concat();
                    assert!(out == content, "{} in pieces of {chunk}", path.display());
                }
                // Through SMTP each line comes with its end.
                if content.ends_with(b"\n") {
                    one_more_field_changes_nothing_else(&content, path);
                }
                parts += every_leaf_can_be_read(&content);
            }
        }
        println!("{name}: {} messages, twice, {parts} leaves", paths.len());
        assert!(!paths.is_empty());
    }
}

fn one_more_field_changes_nothing_else(content: &[u8], path: &Path) {
    let header = watched(content, 4096);
    let composed = compose(&header, &[Edit::prepend("X-Test", "1").unwrap()]);
    let out = [composed.head, body_of(&composed.body, content)].concat();
    let rest = out.strip_prefix(b"X-Test: 1\r\n").unwrap();
    // Text without a header has an empty line before it now.
    let expected = if header.is_empty() && header.raw().is_empty() { b"\r\n" } else { &b""[..] };
    assert!(rest.strip_prefix(expected) == Some(content), "{}", path.display());
    let again = watched(&out, 4096);
    assert_eq!(again.len(), header.len() + 1, "{}", path.display());
}

fn every_leaf_can_be_read(content: &[u8]) -> usize {
    let parts = Parts::parse(content, &Limits::default());
    for (index, part) in parts.list().iter().enumerate() {
        let decoded = parts.decoded(&content, index).unwrap().unwrap();
        assert_eq!(decoded.len() as u64, part.size);
    }
    parts.list().len()
}

#[test]
fn reports_of_the_rfcs_are_read() {
    let Some(folder) = suite("dsn-rfc3464") else { return };
    let expected = [
        ("1.eml", vec![("louisl@larry.slip.umd.edu", Action::Failed)]),
        (
            "2.eml",
            vec![
                ("arathib@vnet.ibm.com", Action::Failed),
                ("johnh@hpnjld.njd.hp.com", Action::Delayed),
                ("wsnell@sdcc13.ucsd.edu", Action::Failed),
            ],
        ),
        ("3.eml", vec![("nair_s", Action::Failed)]),
        ("4.eml", vec![("thomas@de-montfort.ac.uk", Action::Delayed)]),
    ];
    for (file, recipients) in &expected {
        let content = fs::read(folder.join("rfc3464").join(file)).unwrap();
        let report = report::parse(&content).unwrap();
        let found: Vec<_> =
            report.recipients.iter().map(|one| (address(one), one.action.unwrap())).collect();
        let recipients: Vec<_> =
            recipients.iter().map(|(address, action)| ((*address).to_owned(), *action)).collect();
        assert_eq!(found, recipients, "{file}");
        assert!(report.reporting_mta.is_some(), "{file}");
    }
    let all = messages(&folder);
    let read = all.iter().filter(|path| report::parse(&fs::read(path).unwrap()).is_ok()).count();
    println!("dsn-rfc3464: {} messages, {read} of them delivery reports", all.len());
    // RFC 5965 has feedback reports: another kind, with no delivery-status part.
    assert_eq!(all.len() - read, 4);
}

#[test]
fn bounces_of_many_systems_name_their_recipients() {
    let Some(folder) = suite("dsn-bounces") else { return };
    let cases: Vec<Value> =
        serde_json::from_slice(&fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let (mut reports, mut others, mut faults) = (0, 0, Vec::new());
    for case in &cases {
        let file = case["file"].as_str().unwrap();
        let content = fs::read(folder.join(file)).unwrap();
        let report = report::parse(without_mbox_line(&content));
        if case["detector"] != "dsn" {
            others += 1;
            continue;
        }
        reports += 1;
        let action = if case["temporary"] == true { Action::Delayed } else { Action::Failed };
        let expected: BTreeSet<_> = case["addresses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|address| address.as_str().unwrap().to_owned())
            .collect();
        let found = report.map(|report| told(&report, action));
        if found.as_ref() != Ok(&expected) {
            faults.push(format!("{file}: {found:?}, not {expected:?}"));
        }
    }
    println!(
        "dsn-bounces: {} of {reports} reports as expected, {others} free forms without harm",
        reports - faults.len()
    );
    assert!(reports > 0 && faults.is_empty(), "{faults:#?}");
}

/// What a mailbox file puts before each message.
fn without_mbox_line(content: &[u8]) -> &[u8] {
    match content.iter().position(|octet| *octet == b'\n') {
        Some(end) if content.starts_with(b"From ") => &content[end + 1..],
        _ => content,
    }
}

/// Addresses with this action; the one that the sender wrote counts, if it is one of the Internet.
fn told(report: &ParsedReport, action: Action) -> BTreeSet<String> {
    report.recipients.iter().filter(|one| one.action == Some(action)).map(address).collect()
}

fn address(recipient: &ParsedRecipient) -> String {
    let original = recipient.original.iter().filter(|address| address.address_type == "rfc822");
    let chosen = original.chain(&recipient.final_recipient).next();
    chosen.map(|address| address.address.clone()).unwrap_or_default()
}
