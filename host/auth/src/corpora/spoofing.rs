//! The attacks of espoofer: what gets past the parsers must not pass for the author that it pretends.

use std::sync::Arc;

use bytes::Bytes;
use message::{Edit, Header, Octets, Watch};
use net::{Kind, Record};
use serde_json::Value;
use smtp::ReversePath;
use smtp::command::{Command, Offer};

use super::{World, at, json, list, octets, runtime, suite, text};
use crate::canonical::Form;
use crate::dkim::{Algorithm, PrivateKey, sign_field, signed_fields};
use crate::outcome::{Authentication, DmarcResult};
use crate::results::{self, Results};
use crate::{Decision, Facts, Options, Trust, Verifier, decide, sole_author};

#[test]
fn no_attack_passes_for_its_victim() {
    let Some(folder) = suite("auth-spoofing") else { return };
    let key = PrivateKey::generate(Algorithm::Ed25519Sha256).unwrap();
    let cases = json(&folder.join("cases.json"));
    let mut ends = Vec::new();
    for case in list(&cases) {
        let id = text(case, "id");
        let end = if id.starts_with("client_") { submitted(case) } else { received(case, &key) };
        ends.push(format!("{id}: {end}"));
    }
    assert_eq!(ends.len(), 22);
    println!("corpora: auth-spoofing: {} of 22: {}", ends.len(), ends.join("; "));
}

/// How an attack from outside ends. It fails the test if the victim's domain passes.
fn received(case: &Value, key: &PrivateKey) -> &'static str {
    let id = text(case, "id");
    let Some(reverse_path) = reverse_path(case) else { return "refused at MAIL" };
    let (content, world) = staged(case, key);
    let mut watch = Watch::new(message::Limits::default());
    watch.update(&content);
    let Ok(header) = watch.finish() else { return "refused for its content" };
    let facts = Facts {
        client: "192.0.2.66".parse().unwrap(),
        helo: text(case, "helo"),
        reverse_path: &reverse_path,
        receiver: "mx.victim.com",
        now: at(1_700_000_000),
    };
    let verifier = Verifier::new(world.resolver(), Options::default());
    let content: Arc<dyn Octets> = Arc::new(Bytes::from(content));
    let found = runtime().block_on(verifier.verify(&facts, &header, &content));
    assert_ne!(found.dmarc.result, DmarcResult::Pass, "{id}: {found:#?}");
    nothing_is_injected(id, &found);
    match decide(&found, &Trust::default(), &header) {
        Decision::Reject => "refused by the victim's policy",
        Decision::Quarantine => "quarantined",
        Decision::Deliver(_) => {
            // Only a message that names no author at all is let through, as one that nobody vouches for.
            assert_eq!(found.dmarc.result, DmarcResult::PermError, "{id}: {found:#?}");
            assert!(header.get("From").is_none(), "{id}");
            "let through without an author, dmarc=permerror"
        }
    }
}

fn nothing_is_injected(id: &str, found: &Authentication) {
    let written = results::field("mx.victim.com", found);
    let read = Results::parse(&written).unwrap_or_else(|| panic!("{id}: {written}"));
    assert_eq!(
        read.methods.len(),
        Results::new("mx.victim.com", found).methods.len(),
        "{id}: {written}"
    );
    let legitimate = |value: &str| value == "legitimate.com" || value.ends_with("@legitimate.com");
    let passes = read.methods.iter().filter(|one| one.result == "pass");
    for property in passes.flat_map(|one| &one.properties) {
        assert!(!legitimate(&property.value), "{id}: {written}");
    }
}

fn reverse_path(case: &Value) -> Option<ReversePath> {
    let line = format!("MAIL FROM:{}", text(case, "mailfrom"));
    match Command::parse(line.as_bytes(), &Offer::default()) {
        Ok(Command::Mail(path, _)) => Some(path),
        _ => None,
    }
}

/// The message as sent, and the world it is sent in.
fn staged(case: &Value, key: &PrivateKey) -> (Vec<u8>, World) {
    let mut world = World::default();
    let own = ["attack.com", "helo.attack.com", "33.attack.com", "any.attack.com"];
    for name in own {
        world.txt(name, "v=spf1 ip4:192.0.2.66 -all");
        world.add(name, Kind::A, Record::A("192.0.2.66".parse().unwrap()));
    }
    world.txt("legitimate.com", "v=spf1 -all");
    world.txt("_dmarc.legitimate.com", "v=DMARC1; p=reject");
    let record = key.record().unwrap();
    world.txt("selector._domainkey.attack.com", &record);
    let mut content = Vec::new();
    for part in ["from_header", "to_header", "subject_header", "other_headers", "body"] {
        content.extend(octets(&case[part]));
    }
    if case["dkim"].is_object() {
        let (domain, selector) = (text(&case["dkim"], "d"), octets(&case["dkim"]["s"]));
        let selector = String::from_utf8(selector).unwrap();
        world.txt(&format!("{selector}._domainkey.{domain}"), &record);
        let field = signed(&content, domain, &selector.replace('\0', "!"), key);
        let field = field.replace(
            "s=selector._domainkey.attack.com.!.any",
            "s=selector._domainkey.attack.com.\0.any",
        );
        content.splice(0..0, field.into_bytes());
    }
    (content, world)
}

/// A signature with a domain and a selector that no signer of ours would take.
fn signed(content: &[u8], domain: &str, selector: &str, key: &PrivateKey) -> String {
    let header = Header::parse(content.to_vec());
    let body = &content[usize::try_from(header.body_offset()).unwrap()..];
    let plan = crate::canonical::BodyPlan { form: Form::Relaxed, length: None };
    let digest = crate::canonical::digest_body(&body, 0, &[plan]).unwrap()[0].digest;
    let hash = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest.as_ref());
    let data = signed_fields(&header, &["From".to_owned()], Form::Relaxed);
    let edit = sign_field("DKIM-Signature", key, Form::Relaxed, data, |signature| {
        format!(
            "v=1; a=ed25519-sha256; c=relaxed/relaxed; d={domain}; s={selector}; h=from; bh={hash}; b={signature}"
        )
    });
    let Edit::Prepend(field) = edit.unwrap() else { panic!("a signature is put on top") };
    String::from_utf8(field.raw().to_vec()).unwrap()
}

/// A user of ours writes in another's name: there is no author of his for whom we could sign.
fn submitted(case: &Value) -> &'static str {
    let mut content = Vec::new();
    for part in ["from_header", "to_header", "subject_header", "other_headers", "body"] {
        content.extend(octets(&case[part]));
    }
    let user = reverse_path(case).unwrap();
    let author = sole_author(&Header::parse(content));
    assert!(author.as_ref() != user.mailbox(), "{}: {author:?}", text(case, "id"));
    "not signed"
}
