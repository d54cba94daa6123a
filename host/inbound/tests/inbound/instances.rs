//! How long a session holds the instances of its plugins.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use policy::{Component, PluginConfig};

use crate::world::World;

/// The component of `tests/guests`, which does at each stage what its configuration says.
fn guest() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = root.join("target/guests");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--target", "wasm32-wasip2", "--manifest-path"])
        .arg(root.join("tests/guests/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        // What a build of the workspace sets for its own target has no meaning for this one.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "tests/guests is built for wasm32-wasip2");
    target.join("wasm32-wasip2/release/guests.wasm")
}

/// A plugin that tells at MAIL and RCPT how often its instance was asked: by one word for each time.
fn remembering() -> PluginConfig {
    let mut plugin = PluginConfig::new("guest", Component::File(guest()));
    plugin.config = serde_json::json!({ "act": { "mail": "remember", "rcpt": "remember" } });
    // A debug build on a busy machine.
    plugin.limits.cpu = Duration::from_secs(10);
    plugin
}

fn live(world: &World) -> usize {
    world.policy.current().instances().sum()
}

/// How often the instance had been asked, each time that a transaction of this sender asked it.
async fn remembered(world: &World, sender: &str) -> Vec<usize> {
    let entries = world.journal_about(sender).await;
    let stages = entries.iter().flat_map(|entry| &entry.stages);
    // Only where it is told to does it say something.
    let said = stages.filter_map(|stage| stage.reason.as_deref());
    said.map(|reason| reason.matches("secret").count()).filter(|count| *count > 0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_memory_is_short_instances_go_between_transactions_and_not_within() {
    let world = World::start_with(|config| {
        for listener in &mut config.listeners {
            (listener.limits.junk_commands, listener.limits.commands) = (u64::MAX, u64::MAX);
        }
    })
    .await;
    let chain = world.policy.load(vec![remembering()]).await.unwrap_or_else(|e| panic!("{e:?}"));
    world.policy.install(chain);
    let mut within = world.client("mx").await;
    within.begin().await;
    assert_eq!(live(&world), 1);

    // A session whose client does not pause for as long as instances rest keeps its own.
    let mut between = world.client("mx").await;
    between.say("EHLO client.example.net", "250").await;
    loop {
        between.say("MAIL FROM:<before@example.net>", "250").await;
        between.say("RSET", "250").await;
        if live(&world) == 2 {
            break;
        }
    }

    world.inbound.pressure().set_short(true);
    while live(&world) != 1 {
        // Never a pause of a second: what takes the instance is the want of memory.
        between.say("NOOP", "250").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The next command is judged as ever, by an instance that knows nothing.
    between.say("MAIL FROM:<after@example.net>", "250").await;
    between.say("RCPT TO:<alice@example.test>", "250").await;
    between.say("RSET", "250").await;
    assert_eq!(remembered(&world, "after@example.net").await, [1, 2]);

    // The other one kept what it had, through all of this.
    within.say("RCPT TO:<bob@example.test>", "250").await;
    within.say("DATA", "354").await;
    within.say("Subject: one\r\n\r\ntext\r\n.", "250").await;
    assert_eq!(remembered(&world, "carol@example.net").await, [1, 2, 3]);
    while live(&world) != 0 {
        within.say("NOOP", "250").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    // With memory free again, they are held as before.
    world.inbound.pressure().set_short(false);
    loop {
        within.say("MAIL FROM:<later@example.net>", "250").await;
        within.say("RSET", "250").await;
        if live(&world) == 1 {
            break;
        }
    }
}
