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
