//! The suites of DKIM: verification, canonical forms, and signatures made with the keys of dkimpy.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use message::{Header, Octets};
use serde_json::Value;

use super::{World, at, json, list, runtime, suite, text};
use crate::canonical::{Body, Form};
use crate::dkim::{PrivateKey, Signer, verify};
use crate::key::tests::small;
use crate::limits::Limits;
use crate::outcome::{Dkim, DkimResult};

#[test]
fn the_suites_of_verification_are_met() {
    for (name, count) in
        [("dkim-dkimpy", 11), ("dkim-mail-auth", 6), ("dkim-chasquid", 11), ("dkim-matrix", 344)]
    {
        let Some(folder) = suite(name) else { continue };
        let cases = json(&folder.join("cases.json"));
        let faults: Vec<String> =
            list(&cases).iter().filter_map(|case| fault(&folder, case)).collect();
        println!(
            "corpora: {name}: {} of {}",
            list(&cases).len() - faults.len(),
            list(&cases).len()
        );
        assert_eq!((list(&cases).len(), faults), (count, Vec::new()), "{name}");
    }
}

fn fault(folder: &Path, case: &Value) -> Option<String> {
    let content = fs::read(folder.join(text(case, "file"))).unwrap();
    let content = if text(case, "eol") == "lf" { message::with_crlf(&content) } else { content };
    let dns = match case["dns"].as_str() {
        Some(file) => json(&folder.join(file)),
        None => case["dns"].clone(),
    };
    let found =
        verified(content, &World::of_keys(&dns), case["now"].as_u64().unwrap_or(1_528_637_909));
    let class = |result: DkimResult| match result {
        DkimResult::Neutral | DkimResult::Policy => "permerror",
        other => other.as_str(),
    };
    let words: Vec<&str> = found.iter().map(|one| class(one.result)).collect();
    (!conforms(folder, case, &words)).then(|| format!("{case}: {found:#?}"))
}

/// Whether these are the results that the suite wants, in the classes that it has.
pub(super) fn conforms(folder: &Path, case: &Value, found: &[&str]) -> bool {
    let best = ["pass", "temperror", "fail", "permerror"]
        .into_iter()
        .find(|word| found.contains(word))
        .unwrap_or("none");
    let as_wanted = match (text(case, "expect"), folder.ends_with("dkim-matrix")) {
        ("fail", true) => best != "pass",
        (wanted, _) => best == wanted,
    };
    let wanted = list(&case["signatures"]);
    let each = wanted.iter().zip(found).all(|(wanted, found)| wanted == found);
    // The case of too many signatures says what is verified, up to five; ours are ten.
    let all =
        wanted.is_empty() || wanted.len() == found.len() || text(case, "id").contains("too_many");
    as_wanted && each && all
}

fn verified(content: Vec<u8>, world: &World, now: u64) -> Vec<Dkim> {
    let header = Header::parse(content.clone());
    let content: Arc<dyn Octets> = Arc::new(Bytes::from(content));
    runtime().block_on(verify(&world.resolver(), &Limits::default(), &header, &content, at(now)))
}

#[test]
fn canonical_forms_are_met() {
    let Some(folder) = suite("dkim-canonicalisation") else { return };
    let mut faults = Vec::new();
    let mut cases = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(number) = name.strip_prefix("email.") else { continue };
        let content = message::with_crlf(&fs::read(folder.join(&name)).unwrap());
        for form in [Form::Simple, Form::Relaxed] {
            cases += 1;
            let file = format!("{}.expected.{number}", form.as_str());
            let expected = message::with_crlf(&fs::read(folder.join(&file)).unwrap());
            let found = canonical(form, &content);
            if found != expected {
                faults.push(format!(
                    "{file}: {:?} is wanted for {:?}, found {:?}",
                    String::from_utf8_lossy(&expected),
                    String::from_utf8_lossy(&content),
                    String::from_utf8_lossy(&found)
                ));
            }
        }
    }
    let example = json(&folder.join("rfc6376.json"));
    let input = text(&example, "input").as_bytes();
    for form in [Form::Simple, Form::Relaxed] {
        let part = |part: &str| text(&example, &format!("{}_{part}", form.as_str())).to_owned();
        cases += 1;
        let (header, body) = parts(form, input);
        if (part("header").as_bytes(), part("body").as_bytes()) != (&header, &body) {
            faults.push(format!("RFC 6376 §3.4.5 {}", form.as_str()));
        }
    }
    println!("corpora: dkim-canonicalisation: {} of {cases}", cases - faults.len());
    assert_eq!((cases, faults), (44, Vec::<String>::new()));
}

fn parts(form: Form, content: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let header = Header::parse(content.to_vec());
    let fields = header.fields().flat_map(|field| form.field(field)).collect();
    let mut body = Body::new(form, Vec::new());
    body.update(&content[usize::try_from(header.body_offset()).unwrap()..]);
    (fields, body.finish())
}

/// Header, an empty line, body.
fn canonical(form: Form, content: &[u8]) -> Vec<u8> {
    let (header, body) = parts(form, content);
    [header, b"\r\n".to_vec(), body].concat()
}

#[test]
fn what_is_signed_with_the_keys_of_dkimpy_verifies() {
    let Some(folder) = suite("dkim-dkimpy") else { return };
    let read = |name: &str| fs::read_to_string(folder.join("keys").join(name)).unwrap();
    let message = message::with_crlf(&fs::read(folder.join("messages/test.message")).unwrap());
    let seed = |name: &str| {
        use base64::Engine;
        let seed = base64::engine::general_purpose::STANDARD.decode(read(name).trim()).unwrap();
        PrivateKey::from_ed25519_seed(&seed).unwrap()
    };
    let keys = [
        (small(&read("1024_testkey.key")), read("1024_testkey_wo_markers.pub.rsa.txt")),
        (small(&read("1024_testkey.key")), read("1024_testkey_wo_markers.pub.txt")),
        (
            PrivateKey::from_pem(&read("2048_testkey.key")).unwrap(),
            read("2048_testkey_wo_markers.pub.rsa.txt"),
        ),
        (
            PrivateKey::from_pem(&read("2048_testkey_PKCS8.key")).unwrap(),
            read("2048_testkey_PKCS8.key.pub.txt"),
        ),
        (small(&read("test.private")), read("test.txt")),
        (seed("ed25519test.key"), read("ed25519test.dns")),
    ];
    let mut signed = 0;
    for (key, record) in keys {
        let key = Arc::new(key);
        for forms in [
            (Form::Simple, Form::Simple),
            (Form::Simple, Form::Relaxed),
            (Form::Relaxed, Form::Simple),
            (Form::Relaxed, Form::Relaxed),
        ] {
            let mut signer = Signer::new("example.com", "test", Arc::clone(&key)).unwrap();
            signer.forms = forms;
            let header = Header::parse(message.clone());
            let edit =
                signer.sign(&header, &message, header.body_offset(), at(1_700_000_000)).unwrap();
            let composed = message::compose(&header, &[edit]);
            let body = &message[usize::try_from(header.body_offset()).unwrap()..];
            let content = [&composed.head[..], body].concat();
            let mut world = World::default();
            world.txt("test._domainkey.example.com", record.trim());
            let found = verified(content, &world, 1_700_000_001);
            assert_eq!(found[0].result, DkimResult::Pass, "{key:?} {forms:?} {found:?}");
            signed += 1;
        }
    }
    println!("corpora: dkim-dkimpy: {signed} signatures made and verified");
}
