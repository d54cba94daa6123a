//! What was released stays as it was, and what was built for it runs.

use std::path::Path;

use policy::{Component, PluginConfig, Stage, Verdict};
use sha2::{Digest, Sha256};

use crate::support::{World, addressed, build, content, granted, transaction};

/// Of `wit/released/0.1.0/`: each name and content, in order of the names.
const DIGEST_0_1_0: &str = "b0552305319755f23b2f0594cd80564b535130db15d63a92fb234615ce1a1dad";

fn digest(folder: &Path) -> String {
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut digest = Sha256::new();
    for file in files {
        digest.update(file.file_name().unwrap().as_encoded_bytes());
        digest.update([0]);
        digest.update(std::fs::read(&file).unwrap());
        digest.update([0]);
    }
    digest.finalize().iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn the_frozen_contract_has_not_changed() {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/released/0.1.0");
    assert_eq!(digest(&wit), DIGEST_0_1_0, "a release is never edited: see wit/README.md");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_built_for_the_release_runs_on_this_host() {
    let world = World::new();
    let component = build("tests/guests/released/Cargo.toml", "guests_released");
    let old = |acts: &[(&str, &str)]| PluginConfig {
        component: Component::File(component.clone()),
        ..granted("old", acts)
    };
    let acts = [
        ("connect", "note-session"),
        ("mail", "read-note"),
        ("data", "edit-all"),
        ("deliver", "file"),
    ];
    let chain = world.chain(vec![old(&acts)]).await;
    assert_eq!(chain.plugins()[0].stages, Stage::ALL);
    let mut session = crate::support::session(chain, 1);
    assert_eq!(session.connect().await.verdict, Verdict::Pass);
    let mut mail = transaction();
    session.mail(&mut mail).await;
    assert_eq!(mail.trace[0].reason.as_deref(), Some(r#"Some("at 192.0.2.1")"#));
    let mut edited = addressed();
    session.data(&mut edited, content()).await;
    assert_eq!((edited.trace[0].error.as_deref(), edited.priority), (None, -3));
    // The imports, each once.
    for (act, expected) in [
        ("metrics", "ok; ok; ok; invalid; invalid"),
        ("take", "true 1"),
        ("keys", r#"Ok(["a/1", "a/2"]) Ok(["a/2"])"#),
        ("resolve", "192.0.2.7|10 mail.example|nx|invalid"),
        ("submit", "ok"),
    ] {
        let mut session = world.session(old(&[("data", act)])).await;
        let mut transaction = addressed();
        session.data(&mut transaction, content()).await;
        assert_eq!(transaction.trace[0].reason.as_deref(), Some(expected), "{act}");
    }
}
