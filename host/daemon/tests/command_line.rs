//! The program as its caller sees it. That this test exists makes `cargo test` build the program, with the
//! same features as everything else; the tests of the whole house (`tests/`) then start it.

use std::process::Command;

#[test]
fn the_program_says_which_version_it_is() {
    let output = Command::new(env!("CARGO_BIN_EXE_gatepost")).arg("--version").output().unwrap();
    let expected = concat!("gatepost ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn a_configuration_that_is_not_there_is_an_error_with_its_name() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatepost"));
    let output = command.args(["run", "--config", "absent.toml"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("absent.toml"));
}

/// Runs `gatepost queue …` in a folder without a configuration: its queue is `var/queue`.
fn queue(folder: &std::path::Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatepost"));
    let output = command.arg("queue").args(arguments).current_dir(folder).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_queue_is_filled_checked_exported_and_mended_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("one.eml"), "Subject: one\n\nhello\n").unwrap();
    let (ok, said) = queue(at, &["import", "one.eml"]);
    assert!(!ok && said.contains("--from and --to"), "{said}");
    let envelope = ["--from", "a@one.test", "--to", "b@two.test"];
    for _ in 0..2 {
        let (ok, said) = queue(at, &[&["import", "one.eml"], &envelope[..]].concat());
        assert!(ok && said.contains("imported 1 message"), "{said}");
    }
    let (ok, said) = queue(at, &["fsck"]);
    assert!(ok && said.contains("2 messages") && said.contains("0 faults"), "{said}");
    let (ok, said) = queue(at, &["export", "out", "--domain", "two.test"]);
    assert!(ok && said.contains("exported 2 messages"), "{said}");
    let names: Vec<_> =
        std::fs::read_dir(at.join("out")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(names.len(), 4);
    let eml = names.iter().find(|name| name.extension().is_some_and(|e| e == "eml")).unwrap();
    assert_eq!(std::fs::read(eml).unwrap(), b"Subject: one\r\n\r\nhello\r\n");
    let (ok, said) = queue(at, &["import", "out"]);
    assert!(ok && said.contains("imported 2 messages"), "{said}");

    let log = std::fs::read_dir(at.join("var/queue/log")).unwrap().map(|e| e.unwrap().path());
    let segment = log.filter(|name| name.extension().is_some_and(|e| e == "seg")).min().unwrap();
    let mut octets = std::fs::read(&segment).unwrap();
    octets[30] ^= 1;
    std::fs::write(&segment, octets).unwrap();
    let (ok, said) = queue(at, &["fsck"]);
    assert!(!ok && said.contains(".seg at 0") && said.contains("1 fault"), "{said}");
    let (ok, said) = queue(at, &["fsck", "--repair"]);
    assert!(ok && said.contains("repaired"), "{said}");
    let (ok, said) = queue(at, &["fsck"]);
    // What was set aside stands in its segment until that is used again, and says nothing new.
    assert!(said.contains("3 messages") && said.contains("was set aside earlier"), "{said}");
    assert!(ok && said.contains("0 faults"), "{said}");
}
