//! `gatepost dmarc`: what others report about our mail, and what we are about to report about theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use auth::report::{Disposition, Limits, Report, unpack};
use clap::{Args, Subcommand};

use super::{At, count, say, say_error};
use crate::house::reports;

#[derive(Args, Debug)]
pub(crate) struct Dmarc {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Sum up reports that came: mails, XML, gzip or ZIP files, or folders of them, as a Maildir
    Read {
        /// Files and folders
        #[arg(required = true)]
        from: Vec<PathBuf>,
        /// Show the sources whose mail all passed, too
        #[arg(long)]
        all: bool,
    },
    /// Show what was seen and will be reported to the owners of the domains
    Pending(At),
}

impl Dmarc {
    pub(crate) fn run(self) -> Result<()> {
        match self.action {
            Action::Read { from, all } => read(&from, all),
            Action::Pending(at) => pending(&at),
        }
    }
}

/// The largest file that is read: reports are packed, and a mail has limits of its own.
const LARGEST: u64 = 64 << 20;

/// Folders within folders.
const DEEPEST: usize = 16;

/// What all reports say about one domain.
#[derive(Default)]
struct Sum {
    reporters: BTreeSet<String>,
    reports: usize,
    first: u64,
    last: u64,
    policy: String,
    sources: BTreeMap<IpAddr, Source>,
}

/// What they say about one source.
#[derive(Default)]
struct Source {
    messages: u64,
    passed: u64,
    by_dkim: u64,
    by_spf: u64,
    dispositions: BTreeMap<Disposition, u64>,
    authors: BTreeSet<String>,
}

fn read(from: &[PathBuf], all: bool) -> Result<()> {
    let mut files = Vec::new();
    for path in from {
        collect(path, 0, &mut files).with_context(|| path.display().to_string())?;
    }
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    // RFC 9990 §3.5.4: a report may come twice.
    let mut known = BTreeSet::new();
    let (mut twice, mut others) = (0, 0);
    for file in &files {
        match report(file) {
            Ok(report) if !known.insert((report.reporter.clone(), report.id.clone())) => twice += 1,
            Ok(report) => sums.entry(report.published.domain.clone()).or_default().add(&report),
            Err(error) => {
                others += 1;
                say_error(&format!("{}: {error:#}", file.display()));
            }
        }
    }
    for (domain, sum) in &sums {
        sum.print(domain, all);
    }
    say(&format!(
        "{} read, {twice} of them twice; {} not a report",
        count(known.len() + twice, "report"),
        count(others, "file")
    ));
    if known.is_empty() { bail!("there is no report there") } else { Ok(()) }
}

/// All files below a path.
fn collect(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    if depth > DEEPEST {
        bail!("the folders are nested too deep");
    }
    let mut inside: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path)? {
        inside.push(entry?.path());
    }
    inside.sort();
    inside.iter().try_for_each(|path| collect(path, depth + 1, files))
}

fn report(file: &Path) -> Result<Report> {
    let size = std::fs::metadata(file)?.len();
    if size > LARGEST {
        bail!("it has {size} octets, more than any report");
    }
    Ok(unpack(&std::fs::read(file)?, &Limits::default())?)
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.first = if self.reports == 0 { report.begin } else { self.first.min(report.begin) };
        if report.end >= self.last {
            (self.last, self.policy) = (report.end, report.published.policy.clone());
        }
        self.reports += 1;
        self.reporters.insert(report.reporter.clone());
        for (row, count) in &report.rows {
            let source = self.sources.entry(row.source).or_default();
            source.messages += count;
            source.passed += if row.dkim_aligned || row.spf_aligned { *count } else { 0 };
            source.by_dkim += if row.dkim_aligned { *count } else { 0 };
            source.by_spf += if row.spf_aligned { *count } else { 0 };
            *source.dispositions.entry(row.disposition).or_default() += count;
            source.authors.insert(row.header_from.clone());
        }
    }

    fn print(&self, domain: &str, all: bool) {
        let messages: u64 = self.sources.values().map(|source| source.messages).sum();
        let passed: u64 = self.sources.values().map(|source| source.passed).sum();
        say(&format!(
            "{domain} (p={}): {passed} of {messages} messages passed; {} by {} from {} to {}",
            self.policy,
            count(self.reports, "report"),
            count(self.reporters.len(), "reporter"),
            date(self.first),
            date(self.last),
        ));
        let mut sources: Vec<_> = self.sources.iter().collect();
        sources.sort_by_key(|(address, source)| {
            (source.passed.cmp(&source.messages), u64::MAX - source.messages, **address)
        });
        let quiet = |source: &Source| !all && source.passed == source.messages;
        if sources.iter().any(|(_, source)| !quiet(source)) {
            say(
                "  source                                   messages   passed   dkim    spf  done with them",
            );
        }
        for (address, source) in sources.iter().filter(|(_, source)| !quiet(source)) {
            let done: Vec<String> = (source.dispositions.iter())
                .map(|(disposition, count)| format!("{} {count}", disposition.as_str()))
                .collect();
            let authors: Vec<&str> = source.authors.iter().map(String::as_str).collect();
            say(&format!(
                "  {:<40}{:>9}{:>9}{:>7}{:>7}  {}; from {}",
                address.to_string(),
                source.messages,
                source.passed,
                source.by_dkim,
                source.by_spf,
                done.join(", "),
                authors.join(", "),
            ));
        }
        let hidden = sources.iter().filter(|(_, source)| quiet(source)).count();
        if hidden > 0 {
            say(&format!("  and {} whose mail all passed", count(hidden, "source")));
        }
    }
}

fn pending(at: &At) -> Result<()> {
    let folder = at.load()?.folder("dmarc");
    let mut reports = 0;
    for span in reports::spans(&folder)? {
        let collector = reports::gathered(&folder, span)?;
        say(&format!("from {} to {}", date(span.begin), date(span.end)));
        for (domain, seen) in collector.domains() {
            reports += 1;
            let to: Vec<&str> = seen.to.iter().map(|(to, _)| to.as_str()).collect();
            let messages = count(usize::try_from(seen.messages()).unwrap_or(usize::MAX), "message");
            say(&format!("  {domain}: {messages}, to {}", to.join(", ")));
        }
    }
    say(&format!("{} in {}", count(reports, "report"), folder.display()));
    Ok(())
}

/// A second since 1970 in UTC.
fn date(seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    message::date::rfc5322(time)
}
