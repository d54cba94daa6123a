//! The workbench of those who write plugins, and the simulation of those who run them: the program as its caller sees it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::Command;

use tests::plugins::guest;
use tests::process::{Finished, finish};
use tests::root;
use tests::server::program;

/// Runs the program in a folder.
fn gatepost(folder: &Path, arguments: &[&str]) -> Finished {
    finish(Command::new(program()).args(arguments).current_dir(folder))
}

fn scenarios(name: &str) -> String {
    root().join("tests/scenarios").join(name).display().to_string()
}

#[test]
fn scenarios_of_a_bundled_plugin_fit() {
    let arguments = ["plugin", "test", "bundled:greylist", &scenarios("greylist")];
    let said = gatepost(&root(), &arguments).expect_success("the scenarios").stdout;
    assert!(said.contains("1 scenario, 6 steps: all as expected"), "{said}");
}

/// Each file shows one thing that a scenario can say.
#[test]
fn a_scenario_can_say_what_happens_at_every_stage() {
    let component = guest().display().to_string();
    let arguments = ["plugin", "test", &component, &scenarios("guest")];
    let said = gatepost(&root(), &arguments).expect_success("the scenarios").stdout;
    assert!(said.contains("all as expected"), "{said}");
}

#[test]
fn what_does_not_fit_is_shown_as_a_difference() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(scenarios("greylist/returning.toml")).unwrap();
    let wrong =
        text.replace("rule = \"early\"", "rule = \"late\"").replace("\"accepted\"", "\"rejected\"");
    std::fs::write(folder.path().join("wrong.toml"), wrong).unwrap();
    let found = gatepost(folder.path(), &["plugin", "test", "bundled:greylist", "wrong.toml"]);
    assert!(!found.status.success());
    let lines: Vec<&str> = found.stdout.lines().collect();
    let expected = [
        "wrong.toml: FAILED (who is new waits, and is known when back)",
        "  step 2 \"back too early\": rcpt bob@example.org",
        "    rule       - late",
        "               + early",
        "    verdict      defer",
    ];
    assert_eq!(&lines[..expected.len()], expected, "{}", found.stdout);
    assert!(
        found.stdout.contains("    result     - rejected\n               + accepted"),
        "{}",
        found.stdout
    );
    assert!(found.stderr.contains("1 of 1 scenario, 6 steps failed"), "{}", found.stderr);
}

#[test]
fn faults_of_a_scenario_name_file_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("odd.toml"), "[sesion]\n[[step]]\nform = \"a@b.example\"\n")
        .unwrap();
    let found = gatepost(folder.path(), &["plugin", "test", "bundled:greylist", "odd.toml"]);
    assert!(!found.status.success());
    assert!(
        found
            .stderr
            .contains("odd.toml:1: sesion: unknown key \"sesion\"; did you mean \"session\"?"),
        "{}",
        found.stderr
    );
    assert!(found.stderr.contains("odd.toml:3: step[0].form:"), "{}", found.stderr);
    assert!(found.stderr.contains("did you mean \"from\"?"), "{}", found.stderr);
}

#[test]
fn a_check_tells_stages_size_and_the_grants_that_a_component_needs() {
    let scenario = scenarios("greylist/returning.toml");
    let arguments = ["plugin", "check", "bundled:greylist", "--scenario", &scenario];
    let said = gatepost(&root(), &arguments).expect_success("the check").stdout;
    for expected in
        ["stages    configure rcpt data", "imports   kv: get set compare-and-set", "kv = true"]
    {
        assert!(said.contains(expected), "{expected} in {said}");
    }
    assert!(!said.contains("edit ="), "{said}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("odd.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let found = gatepost(folder.path(), &["plugin", "check", "odd.wasm"]);
    assert!(!found.status.success());
    assert!(
        found.stderr.contains("odd.wasm: this is a core module, not a component"),
        "{}",
        found.stderr
    );
}

#[test]
fn a_measurement_has_a_line_for_each_stage() {
    let scenario = scenarios("greylist/returning.toml");
    let arguments =
        ["plugin", "bench", "bundled:greylist", "--scenario", &scenario, "--rounds", "20"];
    let said = gatepost(&root(), &arguments).expect_success("the measurement").stdout;
    for expected in ["instance ", "rcpt ", "data ", " KiB of resident memory each"] {
        assert!(said.contains(expected), "{expected} in {said}");
    }
}

const SERVER: &str = r#"
hostname = "mx.example.org"
data = "state"
[[listener]]
name = "front"
role = "mx"
address = "127.0.0.1:25"
[tls]
self-signed = true
[[domain]]
name = "example.org"
users = ["bob"]
deliver = "maildir:mail/{user}"
[[plugin]]
name = "grey"
component = "bundled:greylist"
grants = { kv = true }
"#;

#[test]
fn a_simulation_shows_every_answer_of_the_configured_server_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("server.toml"), SERVER).unwrap();
    std::fs::write(folder.path().join("spam.eml"), "From: carol@example.net\nSubject: x\n\nx\n")
        .unwrap();
    let simulate = |more: &[&str]| {
        let always = [
            "simulate",
            "--config",
            "server.toml",
            "--offline",
            "--listener",
            "front",
            "--client",
            "198.51.100.7",
        ];
        gatepost(folder.path(), &[&always, more].concat())
    };
    let envelope = [
        "--from",
        "carol@example.net",
        "--to",
        "bob@example.org",
        "--to",
        "eve@example.com",
        "--to",
        "nobody@example.org",
    ];
    let said = simulate(&envelope).expect_success("the simulation").stdout;
    for expected in [
        "S: 220 mx.example.org ",
        "   rcpt <bob@example.org>: grey@",
        "defer, rule new, because never seen before (",
        "S: 451 4.7.1 Greylisted:",
        // The rules of the host stand beside the plugins.
        "   rcpt <eve@example.com>: host reject, rule relay",
        "=> deferred",
    ] {
        assert!(said.contains(expected), "{expected:?} in {said}");
    }
    assert!(!folder.path().join("state").exists(), "nothing is written");

    // The same file as for `plugin test`: its steps, its time, its expectations.
    let scenario = scenarios("greylist/returning.toml");
    let said = simulate(&["--scenario", &scenario, "--message", "spam.eml"]);
    let said = said.expect_success("the scenario").stdout;
    assert!(said.contains("S: 250 2.0.0 Ok: queued as ") && said.contains("=> accepted"), "{said}");
    let json =
        simulate(&["--json", "--from", "", "--to", "bob@example.org"]).expect_success("JSON");
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["outcome"]["result"], "deferred");
    let exchanges = json["session"].as_array().unwrap().iter();
    let answers = exchanges.flat_map(|exchange| exchange["decided"].as_array().unwrap());
    let of_grey: Vec<_> = answers.filter(|answer| answer["plugin"] == "grey").collect();
    // A null reverse-path is judged once its content is here.
    assert_eq!(of_grey.last().unwrap()["stage"], "data", "{of_grey:?}");
}

#[test]
fn a_simulation_verifies_the_sender_as_the_server_does() {
    let folder = tempfile::tempdir().unwrap();
    let server = SERVER.split("[[plugin]]").next().unwrap();
    std::fs::write(folder.path().join("server.toml"), server).unwrap();
    let scenario = "dns = \"\"\"\nexample.net TXT \"v=spf1 -all\"\n_dmarc.example.net TXT \"v=DMARC1; p=reject\"\n\"\"\"\n\
        [[step]]\nclient = \"198.51.100.7\"\nfrom = \"carol@example.net\"\nto = [\"bob@example.org\"]\n\
        [step.expect]\ndata = { plugin = \"host\", rule = \"dmarc\", code = 550 }\nresult = \"rejected\"\n";
    std::fs::write(folder.path().join("forged.toml"), scenario).unwrap();
    let arguments = ["simulate", "--config", "server.toml", "--scenario", "forged.toml"];
    let said = gatepost(folder.path(), &arguments).expect_success("the simulation").stdout;
    assert!(said.contains("rule authentication") && said.contains("spf=fail"), "{said}");
}

/// The kit that `new` writes into a Rust project has a manifest of its own, because ours is part of a workspace.
#[test]
fn the_kit_in_a_project_wants_what_ours_wants() {
    let read = |path: &str| -> toml::Table {
        std::fs::read_to_string(root().join(path)).unwrap().parse().unwrap()
    };
    let ours = read("plugins/rust/sdk/Cargo.toml");
    let workspace = read("Cargo.toml");
    let theirs = read("plugins/templates/rust/kit/Cargo.toml.in");
    let wanted = |(name, wanted): (&String, &toml::Value)| {
        let shared = wanted.get("workspace").is_some();
        let shared = shared.then(|| workspace["workspace"]["dependencies"][name].clone());
        (name.clone(), shared.unwrap_or_else(|| wanted.clone()))
    };
    let ours: toml::Table = ours["dependencies"].as_table().unwrap().iter().map(wanted).collect();
    assert_eq!(theirs["dependencies"].as_table().unwrap(), &ours);
    assert_eq!(theirs["package"]["version"], workspace["workspace"]["package"]["version"]);
}

#[test]
fn a_project_of_every_language_can_be_begun_and_says_what_its_tools_are() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let list =
        gatepost(at, &["plugin", "new", "x", "--lang", "list"]).expect_success("the list").stdout;
    let languages: Vec<&str> =
        list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(languages.contains(&"rust"), "{list}");
    for language in languages {
        let name = format!("my-{language}");
        gatepost(at, &["plugin", "new", &name, "--lang", language]).expect_success(language);
        let project = at.join(&name);
        for file in ["gatepost-plugin.toml", "README.md", "wit/stages.wit", "scenarios"] {
            assert!(project.join(file).exists(), "{language}: {file}");
        }
        // Where no tool is, each is named, with what brings it.
        let mut build = Command::new(program());
        build
            .args(["plugin", "build", &name])
            .current_dir(at)
            .env("PATH", "/nowhere")
            .env_remove("PYTHON");
        let found = finish(&mut build);
        assert!(!found.status.success());
        assert!(found.stdout.contains("missing: "), "{language}: {}", found.stdout);
    }
    let again = gatepost(at, &["plugin", "new", "my-rust"]);
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
    let odd = gatepost(at, &["plugin", "new", "My_Plugin"]);
    assert!(odd.stderr.contains("no name for a plugin"), "{}", odd.stderr);
    let unknown = gatepost(at, &["plugin", "new", "x", "--lang", "cobol"]);
    assert!(unknown.stderr.contains("no template for \"cobol\""), "{}", unknown.stderr);
}
