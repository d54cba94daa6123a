//! Messages of all kinds, well made and broken, go through the server and come out octet for octet.

use std::fs;
use std::path::{Path, PathBuf};

use tests::corpora::{report, suite};
use tests::maildir::{with_crlf, without_trace};
use tests::{Setup, eventually};

const SUITES: [&str; 6] = [
    "messages-mail-parser",
    "messages-cpython",
    "messages-mikel",
    "real-mail",
    "dsn-bounces",
    "dsn-rfc3464",
];

fn check(name: &str) {
    let Some(folder) = suite(name) else { return };
    let mut files = Vec::new();
    collect(&folder, &mut files);
    files.sort();
    let mut setup = Setup::new();
    for number in 0..files.len() {
        setup = setup.user(&format!("m{number}"));
    }
    let server = setup.start();
    let (mut client, mut passed, mut refused) = (server.session(), Vec::new(), Vec::new());
    for (number, file) in files.iter().enumerate() {
        let content = sent(&fs::read(file).unwrap());
        let to = format!("m{number}@example.test");
        let reply = client.transaction("a@client.example", &[&to], &content).unwrap();
        if reply.code == 250 {
            passed.push((number, content));
        } else {
            // RFC 5321 §2.3.8 for CR, §2.4 for NUL: refused, and nothing else is.
            let malformed = content.contains(&0) || has_bare_cr(&content);
            assert!(malformed && reply.code == 550, "{}: {reply}", file.display());
            refused.push(reply);
            client = server.session();
        }
    }
    for (number, content) in &passed {
        let stored = eventually(&files[*number].display().to_string(), || {
            server.mailbox(&format!("m{number}")).pop()
        });
        // Fields that servers add may stand at the top of the message as it was sent, too.
        let stored = with_crlf(&stored);
        let same = stored.ends_with(content) || without_trace(&stored) == content.as_slice();
        assert!(same, "{}:\n{}", files[*number].display(), String::from_utf8_lossy(&stored));
    }
    report(&format!(
        "{name}: {} of {} messages pass octet for octet, {} refused for CR or NUL",
        passed.len(),
        files.len(),
        refused.len()
    ));
}

/// As a client sends the file: lines end in CRLF, the last one, too.
fn sent(file: &[u8]) -> Vec<u8> {
    let mut content = with_crlf(file);
    if !content.ends_with(b"\r\n") {
        content.extend_from_slice(b"\r\n");
    }
    content
}

fn has_bare_cr(content: &[u8]) -> bool {
    content
        .iter()
        .enumerate()
        .any(|(at, &octet)| octet == b'\r' && content.get(at + 1) != Some(&b'\n'))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().into_string().unwrap_or_default();
        if path.is_dir() {
            collect(&path, files);
        } else if name != "README.md" && name != "LICENSE" && !name.ends_with(".json") {
            files.push(path);
        }
    }
}

#[test]
fn messages_pass_octet_for_octet() {
    SUITES.iter().for_each(|name| check(name));
}
