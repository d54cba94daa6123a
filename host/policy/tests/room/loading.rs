//! What does not load says why, all of it, and changes nothing.

use crate::support::{World, agreeable, minimal, plugin, session, written};
use policy::{Component, PluginConfig, Stage};

#[track_caller]
fn names(faults: &[policy::LoadError], plugin: &str, word: &str) {
    let fault = faults
        .iter()
        .find(|fault| fault.plugin == plugin)
        .unwrap_or_else(|| panic!("{plugin}: {faults:?}"));
    assert!(fault.message.contains(word), "{plugin}: {}", fault.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_tells_what_it_is() {
    let world = World::new();
    let chain = world.chain(vec![plugin("guest", &[])]).await;
    let info = &chain.plugins()[0];
    assert_eq!(
        (&*info.name, info.registered_name.as_str(), &*info.version),
        ("guest", "guest", "0.1.0")
    );
    assert_eq!(info.stages, Stage::ALL);
    assert_eq!(info.digest.len(), 64);
    assert!(
        info.imports.iter().any(|import| import == "gatepost:policy/kv@0.1.0"),
        "{:?}",
        info.imports
    );
    assert_eq!(chain.generation(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_with_configure_alone_loads_and_is_asked_nowhere() {
    let world = World::new();
    let chain = world.chain(vec![written("small", minimal(&agreeable(""), ""))]).await;
    assert_eq!(chain.plugins()[0].stages, [Stage::Configure]);
    assert!(!chain.asks(Stage::Rcpt));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_faults_of_all_plugins_are_told_at_once() {
    let world = World::new();
    let unknown = r#"(import "wasi:http/types@0.2.0" (instance (export "f" (func))))
        (import "wasi:keyvalue/store@0.2.0" (instance (export "f" (func))))
        (import "gatepost:policy/teleport@0.1.0" (instance (export "f" (func))))"#;
    let mut pinned = plugin("pinned", &[]);
    pinned.sha256 = Some("00".repeat(32));
    let mut table = plugin("table", &[]);
    table.grants.lookup = vec!["nowhere".into()];
    let faults = world
        .faults(vec![
            written("module", wat::parse_str("(module)").unwrap()),
            written("text", b"hello".to_vec()),
            written("unknown", minimal(&agreeable(""), unknown)),
            written("no-configure", wat::parse_str("(component)").unwrap()),
            plugin("stubborn", &[("configure", "reject")]),
            plugin("crash", &[("configure", "panic")]),
            pinned,
            table,
            PluginConfig::new("gone", Component::File("no/such/file.wasm".into())),
            plugin("twice", &[]),
            plugin("twice", &[]),
            plugin("a/b", &[]),
        ])
        .await;
    names(&faults, "module", "core module");
    names(&faults, "text", "no WebAssembly");
    names(&faults, "unknown", "wasi:http/types@0.2.0");
    names(&faults, "no-configure", "gatepost:policy/configure");
    names(&faults, "stubborn", "not to my taste");
    names(&faults, "crash", "trap");
    names(&faults, "pinned", "sha256");
    names(&faults, "table", "nowhere");
    names(&faults, "gone", "no/such/file.wasm");
    names(&faults, "twice", "second plugin");
    names(&faults, "a/b", "a name has");
    let of_unknown: Vec<_> = faults.iter().filter(|fault| fault.plugin == "unknown").collect();
    assert_eq!(of_unknown.len(), 3, "{of_unknown:?}");
    assert_eq!(world.host.current().generation(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_starts_is_given_up() {
    let world = World::new();
    let mut spin = written("spin", minimal(&agreeable("(func $s (loop (br 0))) (start $s)"), ""));
    spin.limits.cpu = std::time::Duration::from_millis(20);
    let greedy = agreeable("").replace("\"memory\") 1", "\"memory\") 1024");
    let faults = world
        .faults(vec![
            spin,
            written("greedy", minimal(&greedy, "")),
            written("tables", minimal(&agreeable("(table 50000 funcref)"), "")),
            written("wrong-type", wrong_type()),
        ])
        .await;
    names(&faults, "spin", "execution time used up");
    names(&faults, "greedy", "memory");
    names(&faults, "tables", "table");
    names(&faults, "wrong-type", "configure");
}

/// `configure` is there and is something else.
fn wrong_type() -> Vec<u8> {
    let text = r#"(component
        (core module $m (func (export "configure") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $configure (result u32) (canon lift (core func $i "configure")))
        (instance $out (export "configure" (func $configure)))
        (export "gatepost:policy/configure@0.1.0" (instance $out)))"#;
    wat::parse_str(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_keep_the_chain_they_began_with() {
    let world = World::new();
    let old = world.chain(vec![plugin("guest", &[("helo", "reject")])]).await;
    let mut before = session(old, 1);
    assert_ne!(before.helo("one", true).await.verdict, policy::Verdict::Pass);
    let new = world.chain(vec![plugin("guest", &[])]).await;
    assert_eq!(new.generation(), 2);
    let mut after = session(new, 2);
    assert_ne!(before.helo("one", true).await.verdict, policy::Verdict::Pass);
    assert_eq!(after.helo("one", true).await.verdict, policy::Verdict::Pass);
    world.faults(vec![plugin("broken", &[("configure", "panic")])]).await;
    assert_eq!(world.host.current().generation(), 2, "a set that fails changes nothing");
}
