//! `gatepost plugin test`: plays scenarios, and shows what went otherwise.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::subject::{Subject, load};
use crate::command::{count, say};
use crate::scenario::Scenario;
use crate::scenario::lines::Lines;
use crate::scenario::print;

#[derive(Args, Debug)]
pub(super) struct Test {
    /// A project, a .wasm file, or bundled:NAME
    #[arg(default_value = ".")]
    plugin: String,
    /// Scenario files, or folders of them [default: scenarios/ of the plugin]
    scenarios: Vec<PathBuf>,
    /// Show each conversation, whether it fits or not
    #[arg(long, short)]
    verbose: bool,
}

impl Test {
    pub(super) fn run(self) -> Result<()> {
        let lines = Lines::start();
        let subject = Subject::find(&self.plugin)?;
        let files = subject.scenarios(&self.scenarios)?;
        if files.is_empty() {
            bail!("there are no scenarios in {}", subject.scenarios.display());
        }
        let runtime = tokio::runtime::Runtime::new()?;
        let (mut steps, mut failed) = (0, 0);
        for file in &files {
            let scenario = load(file)?;
            steps += scenario.steps.len();
            let wrong = runtime.block_on(self.play(&subject, &scenario, &lines))?;
            let how = if wrong.is_empty() { "ok" } else { "FAILED" };
            let about = scenario.description.as_ref().map(|text| format!(" ({text})"));
            say(&format!("{}: {how}{}", file.display(), about.unwrap_or_default()));
            wrong.iter().for_each(|line| say(line));
            failed += usize::from(!wrong.is_empty());
        }
        let played = format!("{}, {}", count(files.len(), "scenario"), count(steps, "step"));
        if failed > 0 {
            bail!("{failed} of {played} failed");
        }
        say(&format!("{played}: all as expected"));
        Ok(())
    }

    /// Plays one file; answers with what does not fit.
    async fn play(
        &self,
        subject: &Subject,
        scenario: &Scenario,
        lines: &Lines,
    ) -> Result<Vec<String>> {
        let mut theatre = subject.stage(scenario, lines).await?;
        let mut wrong = Vec::new();
        for (n, step) in scenario.steps.iter().enumerate() {
            let keep = scenario.steps.get(n + 1).is_some_and(|next| next.same_session);
            let played = theatre.play(step, keep).await?;
            if self.verbose {
                print::transcript(step, &played).iter().for_each(|line| say(line));
            }
            wrong.extend(print::difference(n + 1, step, &played.mismatches));
        }
        Ok(wrong)
    }
}
