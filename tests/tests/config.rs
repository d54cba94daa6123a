//! The files in `config/` are complete and right, and a wrong one is told all its faults at once.

use std::fs;
use std::path::Path;
use std::process::Command;

use tests::process::{Finished, finish};
use tests::root;
use tests::server::program;

fn check(folder: &Path, file: &Path) -> Finished {
    finish(Command::new(program()).args(["check", "--config"]).arg(file).current_dir(folder))
}

#[test]
fn every_file_in_config_passes_check() {
    let files: Vec<_> = fs::read_dir(root().join("config"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    assert!(files.iter().any(|file| file.ends_with("dev.toml")));
    for file in files {
        // What it names relative to the working folder is there, as after a checkout.
        let folder = tempfile::tempdir().unwrap();
        let copied = folder.path().join("config");
        fs::create_dir(&copied).unwrap();
        for entry in fs::read_dir(root().join("config")).unwrap().flatten() {
            if entry.path().is_file() {
                fs::copy(entry.path(), copied.join(entry.file_name())).unwrap();
            }
        }
        check(folder.path(), &file).expect_success(&file.display().to_string());
    }
}

const WRONG: &str = r#"hostnam = "mx.example.test"
data = "var"

[[listener]]
name = "mx"
role = "mx"
adress = "127.0.0.1:2525"

[[listener]]
name = "other"
role = "mailbox"
address = "127.0.0.1:2526"

[limits]
message = "50 MeB"
recipient = 1000

[queue]
first-retry = "5 fortnights"

[[domain]]
name = "example.test"
users = ["alice"]
deliver = "carrier-pigeon:coop"

[[plugin]]
name = "greylist"
component = "absent.wasm"
"#;

#[test]
fn a_wrong_file_is_told_every_fault_with_its_line_and_the_nearest_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    fs::write(&file, WRONG).unwrap();
    let said = check(folder.path(), Path::new("wrong.toml"));
    assert!(!said.status.success());
    let text = said.stdout + &said.stderr;
    let faults = [
        (1, "hostnam", "hostname"),
        (7, "adress", "address"),
        (11, "role", "mailbox"),
        (15, "message", "50 MeB"),
        (16, "recipient", "recipients"),
        (19, "first-retry", "5 fortnights"),
        (24, "deliver", "carrier-pigeon"),
    ];
    for (line, key, hint) in faults {
        let place = format!("wrong.toml:{line}");
        assert!(
            text.lines().any(|l| l.contains(&place) && l.contains(key) && l.contains(hint)),
            "line {line}: {key}, {hint} not in\n{text}"
        );
    }
    assert!(text.contains("absent.wasm"), "{text}");
}

#[test]
fn a_server_does_not_start_with_a_wrong_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("wrong.toml"), WRONG).unwrap();
    let mut command = Command::new(program());
    command.args(["run", "--config", "wrong.toml"]).current_dir(folder.path());
    assert!(!finish(&mut command).status.success());
}
