//! The journal on disk: JSON lines in a file for each day, or several of a day on which much happens.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use super::Entry;
use crate::host::{Clock, SystemClock};

/// Where the journal lies and how much of it is kept.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Its directory.
    pub directory: PathBuf,
    /// A file goes when its last entry is older. Default 14 days.
    pub keep: Duration,
    /// When all files together are larger, the oldest go. Default 1 GiB, at least [`SMALLEST`](Self::SMALLEST).
    pub keep_octets: u64,
    /// Entries that wait to be written; more are dropped and counted. Default 10,000.
    pub buffer: usize,
    /// Tells the age of files.
    pub now: fn() -> SystemTime,
}

impl JournalConfig {
    /// Fewer octets than these would be one file, which is never removed while it is written.
    pub const SMALLEST: u64 = 8 << 20;

    /// The defaults, in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            keep: Duration::from_secs(14 * DAY),
            keep_octets: 1 << 30,
            buffer: 10_000,
            now: || SystemClock.now(),
        }
    }
}

/// The journal: JSON lines in daily files, written by a thread of its own. It never holds up mail: when the disk is
/// slower than the mail, entries are dropped and counted (`gatepost_trace_dropped_total`).
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    /// Present until the last journal is dropped.
    jobs: Option<SyncSender<Job>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

enum Job {
    /// Makes the entry: on the writer's thread, because nobody waits there.
    Entry(Box<dyn FnOnce() -> Entry + Send>),
    Flush(oneshot::Sender<()>),
    Keep(Duration, u64),
}

impl Journal {
    /// Opens the journal and starts its writer.
    pub fn open(config: JournalConfig) -> std::io::Result<Self> {
        std::fs::create_dir_all(&config.directory)?;
        let (jobs, waiting) = sync_channel(config.buffer);
        let retained = (config.now)();
        let writer = Writer { config, file: None, retained, line: Vec::new() };
        let thread = std::thread::Builder::new()
            .name("trace-writer".into())
            .spawn(move || writer.run(&waiting))?;
        Ok(Self { shared: Arc::new(Shared { jobs: Some(jobs), thread: Mutex::new(Some(thread)) }) })
    }

    /// Hands an entry to the writer. Returns at once; false if it had to be dropped.
    pub fn record(&self, entry: Entry) -> bool {
        self.record_with(move || entry)
    }

    /// The same for an entry that is still to be made, from what is moved there: the writer makes it.
    pub fn record_with(&self, make: impl FnOnce() -> Entry + Send + 'static) -> bool {
        let Some(jobs) = &self.shared.jobs else { return false };
        let taken = jobs.try_send(Job::Entry(Box::new(make))).is_ok();
        if !taken {
            metrics::counter!("gatepost_trace_dropped_total").increment(1);
        }
        taken
    }

    /// Waits until everything recorded so far is in the files.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        self.order(Job::Flush(done)).await;
        let _ = wait.await;
    }

    /// From now on a file goes when its last entry is older than `keep`, and the oldest when all together have more
    /// than so many octets.
    pub async fn keep(&self, keep: Duration, keep_octets: u64) {
        self.order(Job::Keep(keep, keep_octets)).await;
    }

    /// Hands over what must not be dropped.
    async fn order(&self, mut job: Job) {
        while let Some(jobs) = &self.shared.jobs {
            match jobs.try_send(job) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => break,
                Err(TrySendError::Full(back)) => job = back,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Shared {
    /// What was recorded is written before the last journal is gone.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.get_mut().ok().and_then(Option::take) {
            let _ = thread.join();
        }
    }
}

struct Writer {
    config: JournalConfig,
    file: Option<Open>,
    /// When it was last looked at what may go.
    retained: SystemTime,
    /// Used again for each line.
    line: Vec<u8>,
}

/// The file that is written.
struct Open {
    part: Part,
    octets: u64,
    file: BufWriter<File>,
}

/// The day of a file, and its place among those of that day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    day: u64,
    number: u32,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        self.retain();
        loop {
            match jobs.recv_timeout(FLUSH_AFTER) {
                Ok(job) => {
                    // Who records need not wake this thread for each entry: it takes what gathers meanwhile at once.
                    if matches!(job, Job::Entry(_)) {
                        std::thread::sleep(GATHER);
                    }
                    self.work(job);
                    jobs.try_iter().for_each(|job| self.work(job));
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.flush();
                    let since = (self.config.now)().duration_since(self.retained);
                    if since.is_ok_and(|since| since >= RETAIN_AFTER) {
                        self.retain();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
        }
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Entry(make) => {
                if let Err(error) = self.write(&make()) {
                    tracing::warn!(directory = %self.config.directory.display(), %error, "cannot write the trace");
                    metrics::counter!("gatepost_trace_dropped_total").increment(1);
                    self.file = None;
                }
            }
            Job::Flush(done) => {
                self.flush();
                let _ = done.send(());
            }
            Job::Keep(keep, keep_octets) => {
                (self.config.keep, self.config.keep_octets) = (keep, keep_octets);
                self.retain();
            }
        }
    }

    fn write(&mut self, entry: &Entry) -> std::io::Result<()> {
        // Made whole before it is written: half a line is worse than none.
        self.line.clear();
        serde_json::to_writer(&mut self.line, entry)?;
        self.line.push(b'\n');
        let day = day(entry.time);
        let most = self.config.keep_octets / PARTS;
        let fits = |open: &Open| open.part.day >= day && open.octets < most;
        if !self.file.as_ref().is_some_and(fits) {
            self.open(day, most)?;
        }
        let Some(open) = &mut self.file else { return Ok(()) };
        open.octets += self.line.len() as u64;
        open.file.write_all(&self.line)
    }

    /// Goes on with the last file of this day, or begins the next.
    fn open(&mut self, day: u64, most: u64) -> std::io::Result<()> {
        self.flush();
        self.file = None;
        let last = files(&self.config.directory)?.into_iter().map(|(part, _)| part).max();
        let mut part = last.filter(|last| last.day >= day).unwrap_or(Part { day, number: 1 });
        loop {
            let path = self.config.directory.join(part.file_name());
            let file = OpenOptions::new().append(true).create(true).open(path)?;
            let octets = file.metadata()?.len();
            if octets < most {
                self.file = Some(Open { part, octets, file: BufWriter::new(file) });
                break;
            }
            part.number += 1;
        }
        self.retain();
        Ok(())
    }

    fn flush(&mut self) {
        if let Some(open) = &mut self.file
            && let Err(error) = open.file.flush()
        {
            tracing::warn!(directory = %self.config.directory.display(), %error, "cannot write the trace");
            self.file = None;
        }
    }

    /// Removes what is too old or too much; never the newest file.
    fn retain(&mut self) {
        let now = (self.config.now)();
        self.retained = now;
        let files = match files(&self.config.directory) {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(directory = %self.config.directory.display(), %error, "cannot list the trace");
                return;
            }
        };
        let mut total = 0;
        for (nth, (_, path)) in files.iter().rev().enumerate() {
            let Ok(metadata) = std::fs::metadata(path) else { continue };
            total += metadata.len();
            let age = metadata.modified().ok().and_then(|last| now.duration_since(last).ok());
            let old = age.is_some_and(|age| age > self.config.keep);
            if nth > 0 && (old || total > self.config.keep_octets) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// The files of a journal, oldest first.
pub(super) fn files(directory: &Path) -> std::io::Result<Vec<(Part, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(part) = entry.file_name().to_str().and_then(Part::of_file) {
            files.push((part, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

/// Days since 1970-01-01, in UTC.
fn day(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() / DAY)
}

impl Part {
    /// `trace-2026-11-21.jsonl`, `trace-2026-11-21.2.jsonl`
    fn file_name(self) -> String {
        let (year, month, day) = civil(self.day);
        let number = if self.number > 1 { format!(".{}", self.number) } else { String::new() };
        format!("trace-{year:04}-{month:02}-{day:02}{number}.jsonl")
    }

    fn of_file(name: &str) -> Option<Self> {
        let stem = name.strip_prefix("trace-")?.strip_suffix(".jsonl")?;
        let (date, number) = match stem.split_once('.') {
            Some((date, number)) => (date, number.parse().ok().filter(|number| *number > 1)?),
            None => (stem, 1),
        };
        let mut numbers = date.splitn(3, '-').map(|number| number.parse::<u64>().ok());
        let (year, month, day) = (numbers.next()??, numbers.next()??, numbers.next()??);
        // Years up to 9999 keep this search short; the days of a year follow one another.
        let first = (year.checked_sub(1970)? * 365).saturating_sub(1);
        let day = (first..first + 2900 + 366).find(|at| civil(*at) == (year, month, day))?;
        Some(Self { day, number })
    }
}

/// The Gregorian date of a day since 1970-01-01: years are counted from March, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970_FROM_YEAR_0_MARCH: u64 = 719_468;
    const CYCLE_DAYS: u64 = 146_097; // of 400 years
    let days = days + DAYS_TO_1970_FROM_YEAR_0_MARCH;
    let (cycle, day) = (days / CYCLE_DAYS, days % CYCLE_DAYS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + carry, month, day)
}

const DAY: u64 = 24 * 3600;
/// How long entries gather before they are written. The buffer holds what comes in this time a hundred times over.
const GATHER: Duration = Duration::from_millis(10);
/// A line is in its file this long after it was recorded, at most.
const FLUSH_AFTER: Duration = Duration::from_millis(500);
/// How often it is looked for files that are too old, where nothing else is a reason to.
const RETAIN_AFTER: Duration = Duration::from_secs(3600);
/// One file holds this part of what may be kept, so that the oldest can go without much else.
const PARTS: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: u64, number: u32, expected: &str) {
        let day = day(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let part = Part { day, number };
        assert_eq!(part.file_name(), expected);
        assert_eq!(Part::of_file(expected), Some(part));
    }

    #[test]
    fn files_are_named_by_their_day() {
        check(0, 1, "trace-1970-01-01.jsonl");
        check(951_782_400, 1, "trace-2000-02-29.jsonl");
        check(951_868_800, 2, "trace-2000-03-01.2.jsonl");
        check(1_795_305_599, 11, "trace-2026-11-21.11.jsonl");
        check(4_107_542_400, 1, "trace-2100-03-01.jsonl");
        for name in [
            "trace-2026-02-30.jsonl",
            "trace-x.jsonl",
            "other",
            "trace-2026-11.jsonl",
            "trace-2026-11-21.1.jsonl",
            "trace-2026-11-21.x.jsonl",
        ] {
            assert_eq!(Part::of_file(name), None, "{name}");
        }
    }
}
