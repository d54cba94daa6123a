//! A plugin's project: a folder with `gatepost-plugin.toml` in it, or one that a template knows by its files.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use super::template::{self, Template, Values};
use crate::command::{count, say_error};
use crate::config::reader::{Fault, Reader, Source};
use crate::config::table;
use crate::config::value::ByteSize;

/// The file that says how a project is built.
pub(super) const FILE: &str = "gatepost-plugin.toml";

/// A project, and how it is built.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) folder: PathBuf,
    pub(super) name: String,
    pub(super) language: String,
    /// What comes out, below the folder.
    component: String,
    /// Linear memory that its runtime needs, where a scenario says nothing about it.
    pub(super) memory: Option<ByteSize>,
    /// What its administrator is to choose; for people.
    isolation: Option<String>,
    pub(super) tools: Vec<Tool>,
    pub(super) steps: Vec<BuildStep>,
}

/// A program that the build needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    pub(super) name: String,
    /// Has to succeed.
    pub(super) run: Vec<String>,
    /// And to print this.
    pub(super) output: Option<String>,
    /// How people get it.
    pub(super) install: String,
}

/// A command of the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BuildStep {
    pub(super) run: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    /// It is left out if `output` is newer than all of these.
    pub(super) inputs: Vec<String>,
    pub(super) output: Option<String>,
}

impl Project {
    /// The project in this folder.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let file = folder.join(FILE);
        if let Ok(text) = std::fs::read_to_string(&file) {
            return Self::parse(folder, &file, &text).map_err(|faults| {
                faults.iter().for_each(|fault| say_error(&fault.to_string()));
                anyhow!("{} in {}", count(faults.len(), "fault"), file.display())
            });
        }
        let Some(template) = template::detect(folder) else {
            let known: Vec<String> = template::all().flat_map(|template| template.detect).collect();
            bail!(
                "{} is no project: neither {FILE} nor one of {} is there; `gatepost plugin new NAME` makes one",
                folder.display(),
                known.join(", "),
            );
        };
        let whole = folder.canonicalize()?;
        let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self::of(folder, &template, &Values::new(&name, &template)))
    }

    /// A project as its template makes it.
    pub(super) fn of(folder: &Path, template: &Template, values: &Values) -> Self {
        let fill = |text: &String| values.fill(text);
        let all = |texts: &Vec<String>| texts.iter().map(fill).collect();
        Self {
            folder: folder.to_owned(),
            name: values.name.clone(),
            language: template.language.clone(),
            component: values.fill(&template.component),
            memory: Some(template.memory),
            isolation: Some(template.isolation.clone()),
            tools: template
                .tools
                .iter()
                .map(|tool| Tool { run: all(&tool.run), ..tool.clone() })
                .collect(),
            steps: template
                .steps
                .iter()
                .map(|step| BuildStep {
                    run: all(&step.run),
                    env: step.env.iter().map(|(k, v)| (k.clone(), values.fill(v))).collect(),
                    inputs: all(&step.inputs),
                    output: step.output.as_ref().map(fill),
                })
                .collect(),
        }
    }

    /// The file that comes out of a build.
    pub(super) fn component(&self) -> PathBuf {
        // Where cargo's target folder is elsewhere, so is what it makes.
        let elsewhere = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        match (self.component.strip_prefix("target/"), elsewhere) {
            (Some(rest), Some(target)) if self.language == "rust" => {
                self.folder.join(target).join(rest)
            }
            _ => self.folder.join(&self.component),
        }
    }

    fn parse(folder: &Path, file: &Path, text: &str) -> Result<Self, Vec<Fault>> {
        let source = Source::new(file, text);
        let parsed = table(&source, text);
        let root = Reader::root(&source, parsed.get_ref());
        let project = Self {
            folder: folder.to_owned(),
            name: root.require("name").unwrap_or_default(),
            language: root.require("language").unwrap_or_default(),
            component: root.require("component").unwrap_or_default(),
            memory: root.get("memory"),
            isolation: root.get("isolation"),
            tools: root.tables("tool").into_iter().map(tool).collect(),
            steps: root.tables("build").into_iter().map(build_step).collect(),
        };
        root.finish();
        let faults = source.into_faults();
        if faults.is_empty() { Ok(project) } else { Err(faults) }
    }

    /// The text of [`FILE`].
    pub(super) fn to_toml(&self) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let list = |texts: &[String]| {
            let items: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            format!("[{}]", items.join(", "))
        };
        let mut text = format!(
            "# How `gatepost plugin build` makes the component. Change it as your project grows.\nname = {}\nlanguage = {}\ncomponent = {}\n",
            quoted(&self.name),
            quoted(&self.language),
            quoted(&self.component),
        );
        if let Some(memory) = self.memory {
            text.push_str(&format!("memory = \"{} MiB\"           # of an instance: the limit that scenarios are played with\n", memory.0 >> 20));
        }
        if let Some(isolation) = &self.isolation {
            text.push_str(&format!(
                "isolation = {}       # what a server is best told\n",
                quoted(isolation)
            ));
        }
        for tool in &self.tools {
            text.push_str(&format!(
                "\n[[tool]]\nname = {}\nrun = {}\n",
                quoted(&tool.name),
                list(&tool.run)
            ));
            if let Some(output) = &tool.output {
                text.push_str(&format!("output = {}\n", quoted(output)));
            }
            text.push_str(&format!("install = {}\n", quoted(&tool.install)));
        }
        for step in &self.steps {
            text.push_str(&format!("\n[[build]]\nrun = {}\n", list(&step.run)));
            if !step.env.is_empty() {
                let env = step.env.iter().map(|(k, v)| format!("{} = {}", quoted(k), quoted(v)));
                text.push_str(&format!("env = {{ {} }}\n", env.collect::<Vec<_>>().join(", ")));
            }
            if !step.inputs.is_empty() {
                text.push_str(&format!("inputs = {}\n", list(&step.inputs)));
            }
            if let Some(output) = &step.output {
                text.push_str(&format!("output = {}\n", quoted(output)));
            }
        }
        text
    }
}

pub(super) fn tool(section: Reader<'_>) -> Tool {
    let tool = Tool {
        name: section.require("name").unwrap_or_default(),
        run: command(&section),
        output: section.get("output"),
        install: section.require("install").unwrap_or_default(),
    };
    section.finish();
    tool
}

pub(super) fn build_step(section: Reader<'_>) -> BuildStep {
    let step = BuildStep {
        run: command(&section),
        env: section.map("env"),
        inputs: section.get_or("inputs", Vec::new()),
        output: section.get("output"),
    };
    section.finish();
    step
}

fn command(section: &Reader<'_>) -> Vec<String> {
    let run: Vec<String> = section.require("run").unwrap_or_default();
    if run.is_empty() {
        section.fault("run", "a command is a list that begins with a program");
    }
    run
}
