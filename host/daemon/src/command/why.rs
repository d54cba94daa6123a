//! `gatepost why`: the trace of a message, from the journal, with or without a running server.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use policy::TraceEntry;
use policy::trace::{Entry, Query, search};

use super::{At, count, say};

#[derive(Args, Debug)]
pub(crate) struct Why {
    /// The id of a message or of a refused transaction (it ends the reply to a refusal), a sender, a recipient, or the IP address of a client
    what: String,
    /// The newest so many entries
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

impl Why {
    pub(crate) fn run(self) -> Result<()> {
        let config = self.at.load()?;
        let folder = config.folder("trace");
        let what = self.what.trim_matches(['(', ')', '<', '>']);
        let query = match what.parse() {
            Ok(id) => Query::Id(id),
            Err(_) if what.contains('@') => Query::Address(what.to_owned()),
            Err(_) => match what.parse() {
                Ok(client) => Query::Client(client),
                Err(_) => bail!(
                    "\"{what}\" is neither an id (16 letters and digits) nor an address of mail or of a client"
                ),
            },
        };
        let entries = search(&folder, &query, self.limit)
            .with_context(|| format!("can't read the trace in {}", folder.display()))?;
        if entries.is_empty() {
            bail!(
                "nothing is known about {what} in {}; the trace is kept for {} and up to {} MiB ([trace])",
                folder.display(),
                spoken(config.trace.keep),
                config.trace.size >> 20,
            );
        }
        for entry in &entries {
            if self.json { say(&serde_json::to_string(entry)?) } else { print(entry) }
        }
        Ok(())
    }
}

fn print(entry: &Entry) {
    let peer = entry.peer.as_deref().map_or_else(String::new, |peer| format!(" with {peer}"));
    say(&format!("{}  {} {}{peer}: {}", date(entry.time), entry.kind, entry.id, entry.fate));
    if let Some(helo) = &entry.helo {
        say(&format!("    helo {helo}"));
    }
    if let Some(path) = &entry.reverse_path {
        say(&format!("    from <{path}>"));
    }
    for recipient in &entry.recipients {
        say(&format!("    to   <{recipient}>"));
    }
    for stage in &entry.stages {
        print_stage(stage);
    }
    if let Some(reply) = &entry.reply {
        say(&format!("    reply {reply}"));
    }
}

fn print_stage(entry: &TraceEntry) {
    let recipient =
        entry.recipient.as_deref().map_or_else(String::new, |address| format!(" <{address}>"));
    let digest = entry.digest.get(..12).unwrap_or(&entry.digest);
    let who = format!("{} {}@{digest}", entry.plugin, entry.version);
    say(&format!(
        "    {:<8}{who}: {}{recipient}  {}",
        entry.stage.name(),
        entry.verdict,
        entry.effort()
    ));
    let details = [
        ("reply", &entry.reply),
        ("reason", &entry.reason),
        ("rule", &entry.rule),
        ("error", &entry.error),
    ];
    for (name, text) in details {
        if let Some(text) = text {
            say(&format!("            {name} {text}"));
        }
    }
    for asked in &entry.asked {
        say(&format!("            asked {asked}"));
    }
    for edit in &entry.edits {
        say(&format!("            edit {edit}"));
    }
}

/// `14 days`, `36 hours`
fn spoken(keep: Duration) -> String {
    match keep.as_secs() / 3600 {
        hours if hours % 24 == 0 => count((hours / 24) as usize, "day"),
        hours => count(hours as usize, "hour"),
    }
}

fn date(time: SystemTime) -> String {
    message::date::rfc5322(time)
}
