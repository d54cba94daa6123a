//! What we sign is verified by dkimpy, an implementation of others, where Python has it.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use message::Header;

use super::at;
use crate::arc::Sealing;
use crate::canonical::Form;
use crate::dkim::{Algorithm, PrivateKey, Signer};
use crate::outcome::ArcResult;

/// Verifies the files that are named, with the records in `dns.json`, and prints a line for each.
const VERIFY: &str = r#"
import json, sys, dkim
records = json.load(open(sys.argv[1] + "/dns.json"))
def dns(name, timeout=5):
    return records.get(name.decode().rstrip(".").lower(), "").encode() or None
for name in json.load(open(sys.argv[1] + "/files.json")):
    content = open(sys.argv[1] + "/" + name, "rb").read()
    if name.startswith("arc"):
        good = dkim.arc_verify(content, dnsfunc=dns)[0] == b"pass"
    else:
        one = dkim.DKIM(content)
        good = all(one.verify(idx=index, dnsfunc=dns) for index in range(content.count(b"DKIM-Signature:")))
    print(name, "good" if good else "bad")
"#;

fn is_there() -> bool {
    let found = Command::new("python3").args(["-c", "import dkim, nacl"]).output();
    let there = found.is_ok_and(|output| output.status.success());
    let required = std::env::var_os("GATEPOST_REQUIRE_FOREIGN").is_some();
    assert!(there || !required, "dkimpy with Ed25519 is absent: pip install 'dkimpy[ed25519]'");
    if !there {
        eprintln!("skipped: what_we_sign_is_verified_by_dkimpy: dkimpy is absent");
    }
    there
}

#[test]
fn what_we_sign_is_verified_by_dkimpy() {
    if !is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let keys = [Algorithm::RsaSha256, Algorithm::Ed25519Sha256]
        .map(|algorithm| Arc::new(PrivateKey::generate(algorithm).unwrap()));
    let mut dns = serde_json::Map::new();
    for key in &keys {
        let name = format!("{}._domainkey.example.org", key.algorithm().key_type());
        dns.insert(name, key.record().unwrap().into());
    }
    let mut files = Vec::new();
    let mut write = |name: String, content: &[u8]| {
        fs::write(folder.path().join(&name), content).unwrap();
        files.push(name);
    };
    for (index, message) in MESSAGES.iter().enumerate() {
        let message = message.replace('\n', "\r\n").into_bytes();
        let header = Header::parse(message.clone());
        let body = &message[usize::try_from(header.body_offset()).unwrap()..];
        for (forms, word) in FORMS {
            // Both keys at once, as a domain has it that changes from one to the other.
            let edits = keys.each_ref().map(|key| {
                let mut signer =
                    Signer::new("example.org", key.algorithm().key_type(), Arc::clone(key))
                        .unwrap();
                signer.forms = forms;
                signer.sign(&header, &message, header.body_offset(), at(1_700_000_000)).unwrap()
            });
            let signed = message::compose(&header, &edits);
            write(format!("dkim-{index}-{word}"), &[&signed.head[..], body].concat());
        }
        let sealing = Sealing::new("example.org", "rsa", Arc::clone(&keys[0])).unwrap();
        let results = "mx.example.org; spf=pass smtp.mailfrom=example.net";
        let mut sealed = (message.clone(), ArcResult::None);
        for hop in 1..=3 {
            let header = Header::parse(sealed.0.clone());
            let edits = sealing
                .seal(
                    &header,
                    &sealed.0,
                    header.body_offset(),
                    sealed.1,
                    results,
                    at(1_700_000_000),
                )
                .unwrap();
            sealed =
                ([&message::compose(&header, &edits).head[..], body].concat(), ArcResult::Pass);
            write(format!("arc-{index}-{hop}"), &sealed.0);
        }
    }
    fs::write(folder.path().join("dns.json"), serde_json::to_vec(&dns).unwrap()).unwrap();
    fs::write(folder.path().join("files.json"), serde_json::to_vec(&files).unwrap()).unwrap();
    let output = Command::new("python3").args(["-c", VERIFY]).arg(folder.path()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let bad: Vec<&str> = said.lines().filter(|line| !line.ends_with(" good")).collect();
    assert!(bad.is_empty(), "{bad:?} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().count(), files.len(), "{}", String::from_utf8_lossy(&output.stderr));
    println!(
        "dkimpy: {} messages of ours verified, {} of them sealed",
        files.len(),
        MESSAGES.len() * 3
    );
}

const FORMS: [((Form, Form), &str); 4] = [
    ((Form::Simple, Form::Simple), "ss"),
    ((Form::Simple, Form::Relaxed), "sr"),
    ((Form::Relaxed, Form::Simple), "rs"),
    ((Form::Relaxed, Form::Relaxed), "rr"),
];

const MESSAGES: [&str; 4] = [
    "From: a@example.org\nTo: b@example.net\nSubject: Hello\n\nHello!\n",
    "From: A <a@example.org>\nReceived: x\nTo: b@example.net,\n\tc@example.net\nto: d@example.net\nSubject:  many   spaces \n\n\nbody \t with  \n\nspaces\n\n\n",
    "From: a@example.org\nSubject: nothing\n\n",
    "From: a@example.org\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nJ\u{fc}rgen\n..\n.\n",
];
