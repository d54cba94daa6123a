//! Plugins under the hands of an administrator: switched on and off, pinned, verified, shown, while the server runs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use serde_json::Value;
use tests::plugins::{guest, stamps};
use tests::process::Finished;
use tests::{Gatepost, Setup, eventually, letter};

const FROM: &str = "sender@client.example";
const TO: &str = "alice@example.test";

/// A server with a plugin that refuses every recipient.
fn refusing() -> Gatepost {
    let component = guest();
    Setup::new()
        .with(&format!(
            "[[plugin]]\nname = \"guest\"\ncomponent = {component:?}\n\
             [plugin.limits]\ncpu = \"2s\"\n[plugin.config]\ntag = \"guest\"\n[plugin.config.act]\nrcpt = \"reject\"\n"
        ))
        .start()
}

/// A plugin from a file, which leaves a note with each message.
fn stamp(component: &Path, more: &str) -> String {
    format!(
        "[[plugin]]\nname = \"stamp\"\ncomponent = {component:?}\ngrants = {{ edit = [\"header\"] }}\n{more}\n\
         [plugin.config]\nname = \"stamp\"\nset = \"1\"\n"
    )
}

/// A server with it.
fn stamping(more: &str) -> (Gatepost, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let [first, _] = stamps(folder.path());
    (Setup::new().with(&stamp(&first, more)).start(), folder)
}

fn plugin(server: &Gatepost, arguments: &[&str]) -> Finished {
    server.command(&[&["plugin"], arguments, &["--config", "gatepost.toml"]].concat())
}

/// What a new session hears to RCPT.
fn answer(server: &Gatepost) -> u16 {
    let mut client = server.session();
    client.command(&format!("MAIL FROM:<{FROM}>")).unwrap();
    client.command(&format!("RCPT TO:<{TO}>")).unwrap().code
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_plugin_is_switched_off_and_on_without_a_restart() {
    let server = refusing();
    let file = server.folder().join("gatepost.toml");
    let before = text(&file);
    assert_eq!(answer(&server), 550);
    let mut old = server.session();

    let said = plugin(&server, &["disable", "guest"]).expect_success("disable").stdout;
    assert!(said.contains("guest is disabled"), "{said}");
    assert_eq!(answer(&server), 250, "it is in force when the command has ended");
    old.command(&format!("MAIL FROM:<{FROM}>")).unwrap();
    let still = old.command(&format!("RCPT TO:<{TO}>")).unwrap().code;
    assert_eq!(still, 550, "a session keeps the plugins it began with");
    let off = text(&file);
    assert_eq!(off.replacen("enabled = false\n", "", 1), before, "one line is new");
    let listed = plugin(&server, &["list"]).expect_success("list").stdout;
    assert!(listed.contains("guest  disabled (gatepost.toml:"), "{listed}");
    let shown = plugin(&server, &["show", "guest"]).expect_success("show").stdout;
    assert!(shown.contains("guest  disabled"), "{shown}");

    plugin(&server, &["enable", "guest"]).expect_success("enable");
    assert_eq!(answer(&server), 550);
    assert_eq!(text(&file), off.replacen("enabled = false", "enabled = true", 1));
    let listed = plugin(&server, &["list", "--json"]).expect_success("list").stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["plugins"][0]["name"], "guest");
    assert_eq!(listed["disabled"], serde_json::json!([]));

    let unknown = plugin(&server, &["disable", "guess"]);
    assert!(!unknown.status.success());
    assert!(unknown.stderr.contains("no plugin \"guess\" in gatepost.toml; there are guest"));
}

#[test]
fn what_does_not_load_is_not_switched_on() {
    let (server, folder) = stamping("enabled = false\n");
    let component = folder.path().join("a.wasm");
    std::fs::write(&component, "no component").unwrap();
    let before = text(&server.folder().join("gatepost.toml"));
    let refused = plugin(&server, &["enable", "stamp"]);
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("stamp") && refused.stderr.contains("nothing was changed"));
    assert_eq!(text(&server.folder().join("gatepost.toml")), before);
    assert_eq!(answer(&server), 250, "the server goes on as it was");
}

#[test]
fn a_pin_keeps_another_component_out_and_verify_says_so() {
    let (mut server, folder) = stamping("");
    let verified = |server: &Gatepost| {
        let finished = plugin(server, &["verify", "--json"]);
        let found: Value = serde_json::from_str(&finished.stdout).unwrap();
        (finished.status.success(), found[0].clone())
    };
    let (good, found) = verified(&server);
    assert!(good, "{found}");
    assert_eq!(found["digest"], found["live"]);
    assert_eq!(found["pin"], Value::Null);
    let digest = found["digest"].as_str().unwrap().to_owned();

    // Pinned, it goes on; with another component in its place, the one that was loaded stays.
    let component = folder.path().join("a.wasm");
    let pin = format!("sha256 = \"{digest}\"");
    let pinned = Setup::new().with_port_of(server.setup()).with(&stamp(&component, &pin));
    server.reconfigure(pinned);
    server.wait_log("a new plugin set is live", 0);
    assert!(verified(&server).0);
    std::fs::copy(folder.path().join("b.wasm"), folder.path().join("new")).unwrap();
    std::fs::rename(folder.path().join("new"), &component).unwrap();
    server.wait_log("the configuration wants", 0);
    let (good, found) = verified(&server);
    assert!(!good);
    assert_eq!(found["live"], digest.as_str(), "what runs is what was pinned");
    assert!(found["faults"].to_string().contains("it does not load"), "{found}");

    // The trace says by whom each message was judged.
    let mut client = server.session();
    let reply = client.transaction(FROM, &[TO], &letter::plain("pinned")).unwrap();
    let reply = reply.to_string();
    let id = reply.rsplit(' ').next().unwrap().trim();
    eventually("the digest in the trace", || {
        let told = server.command(&["why", id, "--config", "gatepost.toml"]).stdout;
        told.contains(&digest[..12]).then_some(())
    });
}
