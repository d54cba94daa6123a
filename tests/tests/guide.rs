//! `plugins/README.md`, as a reader follows it: in an empty folder, with the program and nothing else of ours. Every command of
//! its first chapter is run, and what it says is shown is shown.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use tests::process::finish;
use tests::server::program;
use tests::{free_port, root};

/// A block of code.
#[derive(Debug, PartialEq, Eq)]
enum Block {
    /// Run by a shell, all of them by the same.
    Commands(String),
    /// What the commands before it show: each line, with `…` for any text.
    Shown(Vec<String>),
    /// Written to a file.
    File { name: String, text: String },
}

#[test]
fn every_command_of_the_guide_works_and_shows_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // All that is published: the program.
    std::fs::create_dir(at.join("bin")).unwrap();
    symlink(program(), at.join("bin/gatepost")).unwrap();

    let text = std::fs::read_to_string(root().join("plugins/README.md")).unwrap();
    let text = text.replace("127.0.0.1:2525", &format!("127.0.0.1:{}", free_port()));
    let blocks = blocks(&text);
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &script(&blocks)])
        .current_dir(at)
        .stdin(Stdio::null())
        .env("PATH", format!("{}:{path}", at.join("bin").display()))
        // What cargo compiles besides the project itself is kept for the next time.
        .env("CARGO_BUILD_BUILD_DIR", root().join("target/guide"));
    // What the cargo and the rustup that run this test say to their children.
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_TARGET_DIR",
        "RUSTUP_FORCE_ARG0",
        "CARGO",
        "RUSTUP_TOOLCHAIN",
    ] {
        shell.env_remove(name);
    }
    let ended = finish(&mut shell);
    let log = std::fs::read_to_string(at.join("server.log")).unwrap_or_default();
    let ended = ended.expect_success(&format!("the guide (the log of its server: {log})"));
    check_shown(&blocks, &ended.stdout);
    nothing_points_to_our_sources(at);
}

/// A user's repository is separate from ours: no file of the project knows where ours is.
fn nothing_points_to_our_sources(at: &std::path::Path) {
    let ours = root().canonicalize().unwrap();
    let ours = ours.to_str().unwrap();
    for file in [
        "Cargo.toml",
        "Cargo.lock",
        "gatepost-plugin.toml",
        "kit/Cargo.toml",
        "kit/src/wit.rs",
        "src/lib.rs",
    ] {
        let text = std::fs::read_to_string(at.join("no-left").join(file)).unwrap();
        assert!(!text.contains(ours) && !text.contains("../.."), "{file}");
    }
}

fn check_shown(blocks: &[Block], stdout: &str) {
    let mut sections = stdout.split(MARK).skip(1);
    let mut shown = "";
    let mut checked = 0;
    for block in blocks {
        match block {
            Block::Commands(_) => shown = sections.next().unwrap_or_default(),
            Block::Shown(lines) => {
                for line in lines {
                    assert!(
                        shown.lines().any(|one| fits(line, one)),
                        "{line:?} is not shown by:\n{shown}"
                    );
                    checked += 1;
                }
            }
            Block::File { .. } => {}
        }
    }
    assert!(checked > 20, "{checked} lines");
}

/// Whether a line holds all pieces between `…`, in order.
fn fits(pattern: &str, line: &str) -> bool {
    let mut rest = line;
    pattern.split('…').all(|piece| match rest.find(piece) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let inside: Vec<String> =
            lines.by_ref().take_while(|line| *line != "```").map(str::to_owned).collect();
        blocks.push(match info.split_once(' ').unwrap_or((info, "")) {
            ("sh", "") => Block::Commands(inside.join("\n")),
            ("text", "") => Block::Shown(inside),
            (_, "") => panic!("a block that is neither run, nor shown, nor a file: {info}"),
            (_, name) => Block::File { name: name.to_owned(), text: inside.join("\n") },
        });
    }
    blocks
}

fn script(blocks: &[Block]) -> String {
    let mut script = "set -e -m\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n".to_owned();
    for block in blocks {
        match block {
            Block::Commands(commands) => {
                script.push_str(&format!("echo '{MARK}'\n{commands}\n"));
            }
            Block::File { name, text } => {
                script.push_str(&format!("cat > {name} <<'END_OF_FILE'\n{text}\nEND_OF_FILE\n"));
            }
            Block::Shown(_) => {}
        }
    }
    script
}

/// Between the outputs of two blocks.
const MARK: &str = "=== a block of the guide ===";
