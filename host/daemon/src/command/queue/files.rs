//! `gatepost queue export`, `import` and `fsck`: the spool while no server runs.

use std::path::PathBuf;
use std::time::SystemTime;

use ::queue::offline::{self, Finding, PlainEnvelope};
use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::super::{count, say, say_error};
use super::progress::Progress;
use super::which::Which;
use crate::config::Config;
use crate::wiring;

/// Write messages to a folder: ID.eml, and the envelope as ID.json; they stay in the queue
#[derive(Args, Debug)]
pub(super) struct Export {
    /// The folder; made if absent
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    #[command(flatten)]
    which: Which,
}

/// Put messages into the queue: what `export` wrote, or plain .eml files
#[derive(Args, Debug)]
pub(super) struct Import {
    /// .eml files, or folders of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Reverse-path of messages without an envelope beside them ("" for the null path)
    #[arg(long, requires = "to")]
    from: Option<String>,
    /// Recipients of messages without an envelope beside them
    #[arg(long, requires = "from")]
    to: Vec<String>,
}

/// Check every record and file of the queue, and say what is wrong, where, and what to do
#[derive(Args, Debug)]
pub(super) struct Fsck {
    /// Set aside what is damaged or belongs to no message, in corrupt/ of the queue
    #[arg(long)]
    repair: bool,
}

impl Export {
    pub(super) fn run(self, config: &Config, json: bool) -> Result<()> {
        let directory = wiring::queue(config).directory;
        let filter = self.which.filter(false)?;
        let mut progress = Progress::new("looked at");
        let show = |done, of| progress.show(done, of);
        let exported = offline::export(&directory, &filter, now(), &self.folder, show)?;
        drop(progress);
        if json {
            let damaged: Vec<_> = exported.damaged.iter().map(|(id, _)| id).collect();
            say(&serde_json::json!({ "exported": exported.messages, "damaged": damaged })
                .to_string());
        } else {
            say(&format!("exported {}", count(exported.messages.len(), "message")));
        }
        for (id, what) in &exported.damaged {
            say_error(&format!("{id} was left out: {what}"));
        }
        if !exported.damaged.is_empty() {
            bail!(
                "{} could not be exported; see `gatepost queue fsck`",
                count(exported.damaged.len(), "message")
            );
        }
        Ok(())
    }
}

impl Import {
    pub(super) async fn run(self, config: &Config, json: bool) -> Result<()> {
        let plain = match &self.from {
            Some(from) => Some(PlainEnvelope {
                reverse_path: from
                    .parse()
                    .with_context(|| format!("\"{from}\" is no reverse-path"))?,
                forward_paths: self
                    .to
                    .iter()
                    .map(|to| to.parse().with_context(|| format!("\"{to}\" is no forward-path")))
                    .collect::<Result<_>>()?,
            }),
            None => None,
        };
        let queue = wiring::queue(config);
        let mut progress = Progress::new("imported");
        let show = |done, of| progress.show(done, of);
        let (taken, result) =
            offline::import(queue, &self.paths, plain.as_ref(), now(), show).await;
        drop(progress);
        for (path, id) in &taken {
            if json {
                say(&serde_json::json!({ "file": path, "id": id }).to_string());
            } else {
                say(&format!("{id}  {}", path.display()));
            }
        }
        // What was taken is in the queue, whatever came then.
        result.with_context(|| format!("stopped after {}", count(taken.len(), "message")))?;
        if !json {
            say(&format!("imported {}", count(taken.len(), "message")));
        }
        Ok(())
    }
}

impl Fsck {
    pub(super) async fn run(self, config: &Config, json: bool) -> Result<()> {
        let queue = wiring::queue(config);
        let directory = queue.directory.clone();
        let mut progress = Progress::new("checked");
        let show = move |done, of| progress.show(done, of);
        let report = if self.repair {
            offline::repair(queue, show).await
        } else {
            offline::fsck(&directory, show)
        }?;
        for finding in &report.findings {
            if json {
                say(&as_json(finding).to_string());
            } else {
                say(&format!("{}: {}", directory.join(&finding.place).display(), finding.fault));
                say(&format!("    {}", finding.fault.advice()));
            }
        }
        let faults = report.findings.iter().filter(|finding| !finding.fault.is_harmless()).count();
        if !json {
            let (messages, octets) = (count(report.messages, "message"), report.octets);
            say(&format!(
                "{messages}, {octets} octets of content read, {}",
                count(faults, "fault")
            ));
        }
        match (report.is_clean(), self.repair) {
            (true, _) => Ok(()),
            (false, true) => {
                say("repaired: what was damaged lies in corrupt/ of the queue");
                Ok(())
            }
            (false, false) => bail!("the queue is not as it should be; nothing was changed"),
        }
    }
}

fn as_json(finding: &Finding) -> serde_json::Value {
    serde_json::json!({
        "place": finding.place,
        "fault": finding.fault.to_string(),
        "advice": finding.fault.advice(),
        "harmless": finding.fault.is_harmless(),
    })
}

#[expect(clippy::disallowed_methods, reason = "a command asks for the time once")]
fn now() -> SystemTime {
    SystemTime::now()
}
