//! One policy in every language of `plugins/templates`: `gatepost plugin new` begins a project, `plugin build` calls the tools
//! that `plugins/toolchains/install` has put into `target/toolchains`, and the same scenarios are played to each component. So
//! all decide alike, word for word.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use tests::foreign::skip;
use tests::process::{Finished, finish};
use tests::root;
use tests::server::program;

/// Two are built at once: the tools of most languages use one core.
const AT_ONCE: usize = 2;

#[test]
fn all_languages_decide_alike() {
    let folder = root().join("target/languages");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    let waiting = Mutex::new(languages());
    let rows = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(language) = { waiting.lock().unwrap().pop() } {
                    if let Some(row) = Project::begin(&language, &folder).measured() {
                        let _ = writeln!(std::io::stderr(), "{language}: decides as expected");
                        rows.lock().unwrap().insert(language, row);
                    }
                }
            });
        }
    });
    print(&rows.into_inner().unwrap());
}

/// The folders that have a `template.toml`, or those that `GATEPOST_LANGUAGES` names; those that take longest come last, and so
/// are taken first.
fn languages() -> Vec<String> {
    let templates = root().join("plugins/templates");
    let mut names: Vec<String> = std::fs::read_dir(templates)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("template.toml").exists())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    for named in ["rust", "js", "ts", "python", "go", "c", "cpp", "zig"] {
        assert!(names.iter().any(|name| name == named), "no template for {named}");
    }
    if let Ok(wanted) = std::env::var("GATEPOST_LANGUAGES") {
        names.retain(|name| wanted.split(',').any(|wanted| wanted == name));
    }
    let is_long = |name: &str| ["js", "ts", "python", "rust", "zig"].contains(&name);
    names.sort_by_key(|name| (is_long(name), name.clone()));
    names
}

struct Project {
    language: String,
    folder: PathBuf,
}

/// What is told of a language.
struct Row {
    built_in: f64,
    octets: u64,
    /// Of `plugin bench`, by its first word.
    figures: BTreeMap<String, Vec<String>>,
    resident: String,
}

impl Project {
    fn begin(language: &str, folder: &Path) -> Self {
        let folder = folder.join(language);
        std::fs::create_dir(&folder).unwrap();
        let mut new = gatepost(&["new", "recipient-policy", "--lang", language]);
        finish(new.current_dir(&folder)).expect_success("plugin new");
        let folder = folder.join("recipient-policy");
        let project = Self { language: language.to_owned(), folder };
        // What a template can't find in PATH, it wants in its own folder.
        let tools = root().join("target/toolchains");
        let modules = tools.join("node").join("node_modules");
        if project.folder.join("package.json").exists() && modules.exists() {
            std::os::unix::fs::symlink(modules, project.folder.join("node_modules")).unwrap();
        }
        let adapter = "wasi_snapshot_preview1.reactor.wasm";
        // The sources of an interpreter.
        let sources = BTreeMap::from([("lua", "lua"), ("ruby", "mruby")]);
        if let Some(name) = sources.get(language).filter(|name| tools.join(name).exists()) {
            std::os::unix::fs::symlink(tools.join(name), project.folder.join(name)).unwrap();
        }
        if ["go", "lua", "nim", "ruby"].contains(&language) && tools.join(adapter).exists() {
            std::fs::copy(tools.join(adapter), project.folder.join(adapter)).unwrap();
        }
        project
    }

    /// Builds it, plays the scenarios, and measures. None if a tool is missing.
    fn measured(&self) -> Option<Row> {
        let tools = self.run("build", &["--tools"]);
        if !tools.status.success() {
            let missing = tools.stdout.lines().filter_map(|line| line.strip_prefix("missing: "));
            let missing: Vec<&str> = missing.collect();
            assert!(!missing.is_empty(), "{}: {}", self.language, tools.stderr);
            let missing = missing.join(", ");
            skip(&format!("languages.rs: {}", self.language), &missing);
            return None;
        }
        let start = Instant::now();
        let built = self.succeed("build", &[]);
        let built_in = start.elapsed().as_secs_f64();
        let played = self.succeed("test", &[]);
        assert!(played.stdout.contains("all as expected"), "{}: {}", self.language, played.stdout);
        let bench = self.succeed("bench", &["--rounds", "200"]);
        let octets = built
            .stdout
            .lines()
            .find_map(|line| line.strip_suffix(" octets)")?.rsplit_once('(')?.1.parse().ok());
        Some(Row {
            built_in,
            octets: octets.expect("the build says how large the component is"),
            figures: bench.stdout.lines().filter_map(figures).collect(),
            resident: bench.stdout.lines().find_map(resident).expect("it says what sessions cost"),
        })
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Finished {
        finish(gatepost(&[command]).args(arguments).arg(&self.folder))
    }

    fn succeed(&self, command: &str, arguments: &[&str]) -> Finished {
        let what = format!("{}: plugin {command}", self.language);
        self.run(command, arguments).expect_success(&what)
    }
}

/// `gatepost plugin …`, in the environment of the tool chains, if they are installed.
fn gatepost(arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", r#"if [ -e "$0" ]; then . "$0"; fi; exec "$@""#]);
    command.arg(root().join("target/toolchains/env")).arg(program()).arg("plugin").args(arguments);
    command.env("XDG_CACHE_HOME", root().join("target/languages/cache"));
    // What cargo says about this test concerns no plugin in Rust.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
        command.env_remove(name);
    }
    command
}

/// `rcpt   108.1 µs   11090.2 µs   448 KiB` as "rcpt", ["108.1", "448"].
fn figures(line: &str) -> Option<(String, Vec<String>)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [what, median, "µs", _, "µs", memory, "KiB"] = words[..] else { return None };
    Some((what.to_owned(), vec![median.to_owned(), memory.to_owned()]))
}

/// `32 sessions at once have 54 KiB of resident memory each`.
fn resident(line: &str) -> Option<String> {
    Some(line.split_once("at once have ")?.1.split_once(" KiB")?.0.to_owned())
}

fn print(rows: &BTreeMap<String, Row>) {
    // The print macros are captured by the test runner; the stream itself is not.
    let mut out = std::io::stderr();
    let _ = writeln!(
        out,
        "{:<10}{:>9}{:>12}{:>13}{:>9}{:>9}{:>12}{:>14}",
        "language",
        "built, s",
        "octets",
        "instance, µs",
        "rcpt, µs",
        "data, µs",
        "memory, KiB",
        "resident, KiB"
    );
    for (language, row) in rows {
        let figure = |what: &str, place: usize| row.figures[what][place].clone();
        let _ = writeln!(
            out,
            "{language:<10}{:>9.1}{:>12}{:>13}{:>9}{:>9}{:>12}{:>14}",
            row.built_in,
            row.octets,
            figure("instance", 0),
            figure("rcpt", 0),
            figure("data", 0),
            figure("data", 1),
            row.resident
        );
    }
}
