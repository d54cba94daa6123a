//! Standards are cited in one form, `RFC nnnn §x.y`, so that a reader can search for the line that obeys
//! a section. This lists what is cited in the code and what in the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tests::root;

/// A section of a standard: "5321 §4.1.4".
type Section = String;

#[test]
fn citations_have_one_form() {
    let mut faults = Vec::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let place = file.strip_prefix(root()).unwrap_or(&file).display();
            faults.extend(
                wrong_forms(line).iter().map(|form| format!("{place}:{}: {form}", number + 1)),
            );
        }
    }
    assert!(faults.is_empty(), "write `RFC 5321 §4.1.4`:\n{}", faults.join("\n"));
}

#[test]
fn what_is_cited_is_counted() {
    let mut code: BTreeMap<String, BTreeSet<Section>> = BTreeMap::new();
    let mut tested: BTreeSet<Section> = BTreeSet::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap_or_default();
        for citation in text.lines().flat_map(citations) {
            if is_test(&file) {
                tested.insert(citation.clone());
            } else {
                let rfc = citation.split(' ').next().unwrap_or_default().to_owned();
                code.entry(rfc).or_default().insert(citation);
            }
        }
    }
    for (rfc, sections) in &code {
        let count = sections.iter().filter(|section| tested.contains(*section)).count();
        println!("RFC {rfc}: {} places cited in code, {count} of them in tests", sections.len());
    }
    assert!(code.contains_key("5321"), "a mail server cites RFC 5321");
}

#[test]
fn forms_are_told_apart() {
    let check = |line: &str, wrong: usize, right: &[&str]| {
        assert_eq!(wrong_forms(line).len(), wrong, "{line}");
        assert_eq!(citations(line), right, "{line}");
    };
    check("// RFC 5321 §4.1.4: out of order", 0, &["5321 §4.1.4"]);
    check("// RFC 5321 §4.1.1.2–3 and RFC 3463", 0, &["5321 §4.1.1.2", "3463"]);
    check("// RFC 5321 §4.1, §4.2", 0, &["5321 §4.1"]);
    check("// RFC5321", 1, &[]); // wrong on purpose
    check("// rfc 5321", 1, &[]); // wrong on purpose
    check("// RFC 5321, section 4.1", 1, &["5321"]); // wrong on purpose
    check("// RFC 5321 4.1.4", 1, &["5321"]); // wrong on purpose
    check("// RFC 5321 § 4.1.4", 1, &["5321"]); // wrong on purpose
    check("Reply::new(550, \"see RFC 5321 section 2.3.8\")", 0, &["5321"]);
    check("// the rfc822 type and message/rfc822; rfc822;user@example", 0, &[]);
    check("// tests/transcripts/rfc5321/4.1.4-rcpt.smtp", 0, &[]);
}

/// The citations of a line, in the right form.
fn citations(line: &str) -> Vec<Section> {
    let mut found = Vec::new();
    for after in line.split("RFC ").skip(1) {
        let number: String = after.chars().take_while(char::is_ascii_digit).collect();
        if number.len() < 3 {
            continue;
        }
        let section = after[number.len()..].strip_prefix(" §").map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            rest[..end.unwrap_or(rest.len())].trim_end_matches('.')
        });
        found.push(match section {
            Some(section) if !section.is_empty() => format!("{number} §{section}"),
            _ => number,
        });
    }
    found
}

/// What looks like a citation in another form, in a comment. Replies are ASCII and write «section».
fn wrong_forms(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Some(comment) = line.find("//").or_else(|| line.find('#')) else { return found };
    let line = &line[comment..];
    let lower = line.to_ascii_lowercase();
    for (at, _) in lower.match_indices("rfc") {
        let before = line[..at].chars().next_back();
        // A part of a word or of a path: "rfc5321/4.1.4", "message/rfc822", `parse_rfc3339`.
        if before.is_some_and(|c| c.is_alphanumeric() || "_/-:.\"'`".contains(c)) {
            continue;
        }
        let after = &line[at + 3..];
        let digits = after.trim_start().chars().take_while(char::is_ascii_digit).count();
        if digits < 4 {
            continue;
        }
        let well_begun =
            line[at..].starts_with("RFC ") && after[1..].starts_with(|c: char| c.is_ascii_digit());
        let rest = if well_begun { &after[1 + digits..] } else { "" };
        let section_in_words = rest.trim_start_matches(',').trim_start().to_ascii_lowercase();
        let bare_number = rest.strip_prefix(' ').is_some_and(|rest| {
            let number: String =
                rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            number.trim_end_matches('.').contains('.')
        });
        if !well_begun
            || section_in_words.starts_with("section")
            || section_in_words.starts_with("sec.")
            || rest.starts_with(" § ")
            || bare_number
        {
            found.push(line.trim().to_owned());
        }
    }
    found
}

fn is_test(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "tests") || file.ends_with("tests.rs")
}

/// All that people write: code, contracts, conversations, pages.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["host", "plugins", "wit", "tests", "config"]
        .iter()
        .map(|name| root().join(name))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if !path.ends_with("target") && !path.ends_with("vectors") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| {
                ["rs", "wit", "smtp", "toml"].iter().any(|known| extension == *known)
            }) && !path.ends_with("tests/tests/citations.rs")
            {
                found.push(path);
            }
        }
    }
    found
}
