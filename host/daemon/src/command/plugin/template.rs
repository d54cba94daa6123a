//! The projects that `gatepost plugin new` makes, one for each language. They are files of `plugins/templates`, inside the
//! program; `template.toml` says how a project of the language is built.

use std::path::{Path, PathBuf};

use super::project::{BuildStep, Tool, build_step, tool};
use crate::config::reader::{Reader, Source};
use crate::config::table;
use crate::config::value::ByteSize;

/// Path below `plugins/templates`, and octets.
static TEMPLATES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/templates.rs"));
/// The contract: path below `wit`, and octets.
static CONTRACT: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/contract.rs"));
/// The kit for Rust: path below `plugins/rust/sdk`, and octets.
static KIT: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/kit.rs"));

/// A language.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) language: String,
    pub(super) aliases: Vec<String>,
    /// One line for people.
    pub(super) summary: String,
    /// Files by which a project of the language is known.
    pub(super) detect: Vec<String>,
    /// What a build makes.
    pub(super) component: String,
    pub(super) memory: ByteSize,
    pub(super) isolation: String,
    pub(super) tools: Vec<Tool>,
    pub(super) steps: Vec<BuildStep>,
}

/// All languages, in order.
pub(super) fn all() -> impl Iterator<Item = Template> {
    TEMPLATES.iter().filter_map(|(path, octets)| {
        let language = path.strip_suffix("/template.toml")?;
        Some(Template::read(language, std::str::from_utf8(octets).unwrap_or_default()))
    })
}

/// The language of this name.
pub(super) fn find(name: &str) -> Option<Template> {
    all().find(|template| template.language == name || template.aliases.iter().any(|a| a == name))
}

/// The language whose files lie in this folder.
pub(super) fn detect(folder: &Path) -> Option<Template> {
    all().find(|template| template.detect.iter().any(|file| folder.join(file).exists()))
}

impl Template {
    /// What is wrong with a template is a fault of the program; a test reads them all.
    fn read(language: &str, text: &str) -> Self {
        let file = PathBuf::from(format!("plugins/templates/{language}/template.toml"));
        let source = Source::new(&file, text);
        let parsed = table(&source, text);
        let root = Reader::root(&source, parsed.get_ref());
        let template = Self {
            language: root.require("language").unwrap_or_default(),
            aliases: root.get_or("aliases", Vec::new()),
            summary: root.require("summary").unwrap_or_default(),
            detect: root.get_or("detect", Vec::new()),
            component: root.require("component").unwrap_or_default(),
            memory: root.get_or("memory", ByteSize(16 << 20)),
            isolation: root.get_or("isolation", "session".to_owned()),
            tools: root.tables("tool").into_iter().map(tool).collect(),
            steps: root.tables("build").into_iter().map(build_step).collect(),
        };
        root.finish();
        let faults = source.into_faults();
        assert!(faults.is_empty(), "a template is as it should be: {faults:?}");
        template
    }

    /// The files of a project: those of the template, the contract, and for Rust the kit.
    pub(super) fn files(&self, values: &Values) -> Vec<(String, Vec<u8>)> {
        let folder = format!("{}/", self.language);
        let own = TEMPLATES.iter().filter_map(|(path, octets)| {
            let path = path.strip_prefix(&folder)?;
            (path != "template.toml")
                .then(|| (values.fill(&plain_name(path)), values.fill_octets(octets)))
        });
        let mut files: Vec<_> = own.collect();
        let common = TEMPLATES.iter().filter_map(|(path, octets)| {
            Some((
                values.fill(&plain_name(path.strip_prefix("common/")?)),
                values.fill_octets(octets),
            ))
        });
        for (path, octets) in common {
            if files.iter().all(|(own, _)| *own != path) {
                files.push((path, octets));
            }
        }
        let contract =
            CONTRACT.iter().map(|(path, octets)| (format!("wit/{path}"), octets.to_vec()));
        files.extend(contract);
        if self.language == "rust" {
            files.extend(KIT.iter().map(|(path, octets)| (format!("kit/{path}"), kit(octets))));
        }
        files
    }
}

/// `Cargo.toml.in` would be a package of ours under its own name, `gitignore.in` would hide files of ours.
fn plain_name(path: &str) -> String {
    let path = path.strip_suffix(".in").unwrap_or(path);
    match path.rsplit_once('/') {
        Some((folder, "gitignore")) => format!("{folder}/.gitignore"),
        None if path == "gitignore" => ".gitignore".to_owned(),
        _ => path.to_owned(),
    }
}

/// In a project the contract lies beside the kit.
fn kit(octets: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(octets) {
        Ok(text) => text.replace("../../../wit", "../wit").into_bytes(),
        Err(_) => octets.to_vec(),
    }
}

/// What stands in the place of `{{…}}`.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) name: String,
    pairs: Vec<(&'static str, String)>,
}

impl Values {
    pub(super) fn new(name: &str, template: &Template) -> Self {
        let ident = name.replace(['-', '.'], "_");
        let camel: String = ident
            .split('_')
            .flat_map(|word| {
                let (first, rest) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
                [first.to_ascii_uppercase(), rest.to_owned()]
            })
            .collect();
        let mut pairs = vec![
            ("{{name}}", name.to_owned()),
            ("{{ident}}", ident),
            ("{{Name}}", camel),
            ("{{version}}", CONTRACT_VERSION.to_owned()),
            ("{{memory}}", format!("{} MiB", template.memory.0 >> 20)),
            ("{{isolation}}", template.isolation.clone()),
        ];
        let component = replace(&template.component, &pairs);
        pairs.push(("{{component}}", component));
        Self { name: name.to_owned(), pairs }
    }

    pub(super) fn fill(&self, text: &str) -> String {
        replace(text, &self.pairs)
    }

    fn fill_octets(&self, octets: &[u8]) -> Vec<u8> {
        match std::str::from_utf8(octets) {
            Ok(text) => self.fill(text).into_bytes(),
            Err(_) => octets.to_vec(),
        }
    }
}

fn replace(text: &str, pairs: &[(&str, String)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// Of the package in `wit/`.
const CONTRACT_VERSION: &str = "0.1.0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_whole() {
        let mut languages = Vec::new();
        for template in all() {
            let values = Values::new("my-plugin", &template);
            let files = template.files(&values);
            let has = |wanted: &str| files.iter().any(|(path, _)| path == wanted);
            assert!(has("README.md") && has(".gitignore"), "{}", template.language);
            assert!(has("wit/types.wit") && has("wit/stages.wit"), "{}", template.language);
            let scenario =
                |path: &String| path.starts_with("scenarios/") && path.ends_with(".toml");
            assert!(files.iter().any(|(path, _)| scenario(path)), "{}", template.language);
            assert!(!template.steps.is_empty() && !template.tools.is_empty());
            for (path, octets) in &files {
                let text = String::from_utf8_lossy(octets);
                assert!(!text.contains("{{name}}") && !path.contains("{{"), "{path}");
            }
            assert!(find(&template.language).is_some());
            languages.push(template.language);
        }
        assert!(languages.contains(&"rust".to_owned()), "{languages:?}");
    }

    #[test]
    fn names_take_the_form_that_a_language_wants() {
        let template = find("rust").unwrap();
        let values = Values::new("my-first.plugin", &template);
        assert_eq!(
            values.fill("{{name}} {{ident}} {{Name}}"),
            "my-first.plugin my_first_plugin MyFirstPlugin"
        );
        assert_eq!(plain_name("src/gitignore.in"), "src/.gitignore");
        assert_eq!(plain_name("Cargo.toml.in"), "Cargo.toml");
    }
}
