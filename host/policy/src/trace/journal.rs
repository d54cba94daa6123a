//! The journal on disk: JSON lines in a file for each day.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use super::Entry;

/// Where the journal lies and how much of it is kept.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Its directory.
    pub directory: PathBuf,
    /// Older files are removed. Default 14 days.
    pub keep: Duration,
    /// When all files together are larger, the oldest go. Default 1 GiB.
    pub keep_octets: u64,
    /// Entries that wait to be written; more are dropped and counted. Default 10,000.
    pub buffer: usize,
}

impl JournalConfig {
    /// The defaults, in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            keep: Duration::from_secs(14 * DAY),
            keep_octets: 1 << 30,
            buffer: 10_000,
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
    Entry(Box<Entry>),
    Flush(oneshot::Sender<()>),
}

impl Journal {
    /// Opens the journal and starts its writer.
    pub fn open(config: JournalConfig) -> std::io::Result<Self> {
        std::fs::create_dir_all(&config.directory)?;
        let (jobs, waiting) = sync_channel(config.buffer);
        let writer = Writer { config, file: None };
        let thread = std::thread::Builder::new()
            .name("trace-writer".into())
            .spawn(move || writer.run(&waiting))?;
        Ok(Self { shared: Arc::new(Shared { jobs: Some(jobs), thread: Mutex::new(Some(thread)) }) })
    }

    /// Hands an entry to the writer. Returns at once; false if it had to be dropped.
    pub fn record(&self, entry: Entry) -> bool {
        let Some(jobs) = &self.shared.jobs else { return false };
        let taken = jobs.try_send(Job::Entry(Box::new(entry))).is_ok();
        if !taken {
            metrics::counter!("gatepost_trace_dropped_total").increment(1);
        }
        taken
    }

    /// Waits until everything recorded so far is in the files.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        let mut job = Job::Flush(done);
        while let Some(jobs) = &self.shared.jobs {
            match jobs.try_send(job) {
                Ok(()) => {
                    let _ = wait.await;
                    break;
                }
                Err(TrySendError::Disconnected(_)) => break,
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
    file: Option<(u64, BufWriter<File>)>,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        self.retain();
        loop {
            match jobs.recv_timeout(FLUSH_AFTER) {
                Ok(Job::Entry(entry)) => {
                    if let Err(error) = self.write(&entry) {
                        tracing::warn!(directory = %self.config.directory.display(), %error, "cannot write the trace");
                        metrics::counter!("gatepost_trace_dropped_total").increment(1);
                        self.file = None;
                    }
                }
                Ok(Job::Flush(done)) => {
                    self.flush();
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
        }
    }

    fn write(&mut self, entry: &Entry) -> std::io::Result<()> {
        let day = day(entry.time);
        if self.file.as_ref().is_none_or(|(open, _)| *open < day) {
            self.flush();
            let path = self.config.directory.join(file_name(day));
            let file = OpenOptions::new().append(true).create(true).open(path)?;
            self.file = Some((day, BufWriter::new(file)));
            self.retain();
        }
        let Some((_, file)) = &mut self.file else { return Ok(()) };
        // Made whole before it is written: half a line is worse than none.
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        file.write_all(&line)
    }

    fn flush(&mut self) {
        if let Some((_, file)) = &mut self.file
            && let Err(error) = file.flush()
        {
            tracing::warn!(directory = %self.config.directory.display(), %error, "cannot write the trace");
            self.file = None;
        }
    }

    /// Removes what is too old or too much; never the newest file.
    fn retain(&self) {
        let mut files = match files(&self.config.directory) {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(directory = %self.config.directory.display(), %error, "cannot list the trace");
                return;
            }
        };
        let Some((newest, _)) = files.pop() else { return };
        let oldest = newest.saturating_sub(self.config.keep.as_secs() / DAY);
        let mut total = 0;
        for (day, path) in files.iter().rev() {
            total += std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            if *day < oldest || total > self.config.keep_octets {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// The files of a journal with their days, oldest first.
pub(super) fn files(directory: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(day) = entry.file_name().to_str().and_then(day_of_file) {
            files.push((day, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

/// Days since 1970-01-01, in UTC.
fn day(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() / DAY)
}

/// `trace-2026-11-21.jsonl`
fn file_name(day: u64) -> String {
    let (year, month, day) = civil(day);
    format!("trace-{year:04}-{month:02}-{day:02}.jsonl")
}

fn day_of_file(name: &str) -> Option<u64> {
    let date = name.strip_prefix("trace-")?.strip_suffix(".jsonl")?;
    let mut numbers = date.splitn(3, '-').map(|number| number.parse::<u64>().ok());
    let (year, month, day) = (numbers.next()??, numbers.next()??, numbers.next()??);
    // Years up to 9999 keep this search short; the days of a year follow one another.
    let first = (year.checked_sub(1970)? * 365).saturating_sub(1);
    (first..first + 2900 + 366).find(|at| civil(*at) == (year, month, day))
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
/// A line is in its file this long after it was recorded, at most.
const FLUSH_AFTER: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: u64, expected: &str) {
        let day = day(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(file_name(day), expected);
        assert_eq!(day_of_file(expected), Some(day));
    }

    #[test]
    fn files_are_named_by_their_day() {
        check(0, "trace-1970-01-01.jsonl");
        check(951_782_400, "trace-2000-02-29.jsonl");
        check(951_868_800, "trace-2000-03-01.jsonl");
        check(1_795_305_599, "trace-2026-11-21.jsonl");
        check(4_107_542_400, "trace-2100-03-01.jsonl");
        for name in ["trace-2026-02-30.jsonl", "trace-x.jsonl", "other", "trace-2026-11.jsonl"] {
            assert_eq!(day_of_file(name), None, "{name}");
        }
    }
}
