//! Measures a queue with a million messages in `deferred/` against an empty one. The directory should be on a disk of its
//! own: it gets two files per message.
//!
//! `cargo run -p queue --release --example million -- [DIRECTORY] [MESSAGES]`
//!
//! The spool is filled without flushes (that is the slow part, and measured by nobody), then opened by a fresh process.
//! Processor time stands beside the time that passed: it says what the queue costs, whatever else the machine does.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that measures")]

use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use message::{Body, Id};
use queue::disk::{Disk, File, RealDisk, Space};
use queue::{Accept, Config, Filter, Limits, Queue, SystemClock};
use smtp::{Envelope, MailParameters, RcptParameters, Recipient};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let messages: u32 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let (full, empty) = (parent.join("million-full"), parent.join("million-empty"));
    if arguments.next().as_deref() == Some("measure") {
        return measure(&full, &empty, messages).await;
    }
    if !full.exists() {
        fill(&full, messages).await?;
    }
    let (parent, messages) = (parent.display().to_string(), messages.to_string());
    let measure = [parent.as_str(), &messages, "measure"];
    let status = std::process::Command::new(std::env::current_exe()?).args(measure).status()?;
    if status.success() { Ok(()) } else { Err("the measurement failed".into()) }
}

/// Accepts messages and waits until all of them lie in `deferred/`; says at times how fast it goes.
async fn fill(directory: &Path, messages: u32) -> Result<()> {
    let limits = Limits { settle_after: Duration::ZERO, ..Limits::default() };
    let config = Config { limits, ..Config::new(directory) };
    let disk = Unflushed(RealDisk::new(directory)?);
    let (queue, _) = Queue::open_with(config, Arc::new(disk), Arc::new(SystemClock)).await?;
    let (mut done, mut mark) = (0, 1000);
    while done < messages {
        let (began, busy) = (Instant::now(), processor()?);
        let until = mark.min(messages);
        let next = Arc::new(AtomicU32::new(done));
        let tasks =
            (0..16).map(|_| tokio::spawn(send_until(queue.clone(), Arc::clone(&next), until)));
        for task in tasks.collect::<Vec<_>>() {
            task.await??;
        }
        let accepted = began.elapsed() / (until - done);
        wait_until_moved(directory).await?;
        let (count, passed) = (until - done, began.elapsed());
        let (each, cost) = (passed / count, (processor()? - busy) / count);
        println!(
            "messages {done} to {until}: {accepted:?} each until accepted, {each:?} until moved, {cost:?} of processor time"
        );
        (done, mark) = (until, mark * 10);
    }
    queue.shutdown().await;
    Ok(())
}

/// What lies in the log now has files of its own when its segments are gone. The last is begun anew within five seconds.
async fn wait_until_moved(directory: &Path) -> Result<()> {
    let before = segments(directory)?;
    while !segments(directory)?.is_disjoint(&before) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn segments(directory: &Path) -> Result<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(directory.join("log"))? {
        let name = entry?.file_name();
        if Path::new(&name).extension().is_some_and(|extension| extension == "seg") {
            names.insert(name);
        }
    }
    Ok(names)
}

async fn send_until(queue: Queue, next: Arc<AtomicU32>, until: u32) -> Result<()> {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= until {
            return Ok(());
        }
        while !send(&queue, number).await? {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// `false`: the log is full for a moment.
async fn send(queue: &Queue, number: u32) -> Result<bool> {
    let path = format!("user{number}@host{}.example.org", number % 1000).parse()?;
    let recipients = vec![Recipient { path, parameters: RcptParameters::default() }];
    let reverse_path = format!("sender{}@example.net", number % 100).parse()?;
    let envelope = Envelope { reverse_path, parameters: MailParameters::default(), recipients };
    let head = Bytes::from_static(b"Subject: a measurement\r\n\r\n");
    let now = SystemTime::now();
    let accept = Accept::new(envelope, head, Body::Received { offset: 0 }, now);
    let mut draft = match queue.draft(Id::new(now, number)) {
        Err(queue::Error::Full { .. }) => return Ok(false),
        other => other?,
    };
    draft.write(Bytes::from_static(&[b'x'; 1000])).await?;
    match queue.commit(draft, accept).await {
        Ok(_) => Ok(true),
        Err(queue::Error::Full { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What a start, a list and an acceptance take.
async fn measure(full: &Path, empty: &Path, messages: u32) -> Result<()> {
    println!("resident before: {} MiB", resident("VmRSS")? / 1024);
    let began = Instant::now();
    let (queue, recovery) = Queue::open(Config::new(full)).await?;
    let opened = began.elapsed();
    send(&queue, u32::MAX).await?;
    println!("opened after {opened:?}, first receipt after {:?}", began.elapsed());
    println!("known by then: {} (complete: {})", recovery.messages, recovery.complete);
    let nobody = Filter { sender: Some("nobody@example.net".to_owned()), ..Filter::default() };
    let found = queue.list(nobody.clone()).await.len();
    println!(
        "index read and a list without a match after {:?} ({found} found), {:?} of processor time",
        began.elapsed(),
        processor()?
    );
    println!("resident: {} MiB, peak {} MiB", resident("VmRSS")? / 1024, resident("VmHWM")? / 1024);
    list(&queue, "sender, no match", nobody).await?;
    let domain = Some("host7.example.org".to_owned());
    list(&queue, "domain, one in 1000", Filter { domain, ..Filter::default() }).await?;
    list(&queue, "held", Filter { held: Some(true), ..Filter::default() }).await?;
    let older = Some(Duration::from_hours(24 * 365));
    list(&queue, "older than a year", Filter { older, ..Filter::default() }).await?;
    let tag = Some("bulk".to_owned());
    list(&queue, "tag, no match", Filter { tag, ..Filter::default() }).await?;
    list(&queue, "oldest hundred", Filter { limit: Some(100), ..Filter::default() }).await?;
    println!("resident: {} MiB, peak {} MiB", resident("VmRSS")? / 1024, resident("VmHWM")? / 1024);
    let _ = std::fs::remove_dir_all(empty);
    let (other, _) = Queue::open(Config::new(empty)).await?;
    let (mut in_full, mut in_empty) = (Vec::new(), Vec::new());
    for round in 0..10 {
        // In turn, so that what else the machine does strikes both.
        in_empty.extend(accept_for(&other, round).await?);
        in_full.extend(accept_for(&queue, round).await?);
    }
    let (empty_p99, full_p99) = (say("empty queue", in_empty), say("full queue", in_full));
    println!(
        "p99 with {messages} messages: {:.2} times that of an empty queue",
        full_p99 / empty_p99
    );
    other.shutdown().await;
    queue.shutdown().await;
    Ok(())
}

async fn list(queue: &Queue, what: &str, filter: Filter) -> Result<()> {
    let (began, busy) = (Instant::now(), processor()?);
    let found = queue.list(filter).await.len();
    let cost = processor()? - busy;
    println!("list ({what}): {found} in {:?}, {cost:?} of processor time", began.elapsed());
    Ok(())
}

/// Eight writers for a second.
async fn accept_for(queue: &Queue, round: u32) -> Result<Vec<Duration>> {
    let until = Instant::now() + Duration::from_secs(1);
    let writer = |number: u32| {
        let queue = queue.clone();
        tokio::spawn(async move {
            let (mut latencies, mut number) = (Vec::new(), 1 << 31 | round << 26 | number << 22);
            while Instant::now() < until {
                let began = Instant::now();
                if send(&queue, number).await? {
                    latencies.push(began.elapsed());
                }
                number += 1;
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(latencies)
        })
    };
    let mut all = Vec::new();
    for task in (0..8).map(writer).collect::<Vec<_>>() {
        all.extend(task.await??);
    }
    Ok(all)
}

/// Gives the 99th percentile in seconds.
fn say(what: &str, mut latencies: Vec<Duration>) -> f64 {
    latencies.sort_unstable();
    let at = |p: usize| latencies.get(latencies.len() * p / 100).copied().unwrap_or_default();
    println!("{what}: {} accepted in 10 s, p50 {:?}, p99 {:?}", latencies.len(), at(50), at(99));
    at(99).as_secs_f64()
}

/// A line of `/proc/self/status`, in KiB.
fn resident(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.ok_or("no such line")?.trim().trim_end_matches(" kB").parse()?)
}

/// Processor time of this process so far, to a hundredth of a second.
fn processor() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // proc(5): behind the name, utime and stime are the 12th and 13th word.
    let (_, words) = stat.rsplit_once(')').ok_or("no name")?;
    let ticks =
        words.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok());
    Ok(Duration::from_millis(ticks.sum::<u64>() * 10))
}

/// A disk whose flushes do nothing.
#[derive(Debug)]
struct Unflushed(RealDisk);

impl Disk for Unflushed {
    fn create(&self, path: &str) -> std::io::Result<Arc<dyn File>> {
        Ok(Arc::new(UnflushedFile(self.0.create(path)?)))
    }
    fn open(&self, path: &str) -> std::io::Result<Arc<dyn File>> {
        Ok(Arc::new(UnflushedFile(self.0.open(path)?)))
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &str) -> std::io::Result<()> {
        self.0.remove(path)
    }
    fn create_dir(&self, path: &str) -> std::io::Result<()> {
        self.0.create_dir(path)
    }
    fn list(&self, path: &str) -> std::io::Result<Vec<String>> {
        self.0.list(path)
    }
    fn sync_dir(&self, _: &str) -> std::io::Result<()> {
        Ok(())
    }
    fn space(&self) -> std::io::Result<Space> {
        self.0.space()
    }
    fn lock(&self) -> std::io::Result<Box<dyn std::any::Any + Send + Sync>> {
        self.0.lock()
    }
    fn name(&self, path: &str) -> PathBuf {
        self.0.name(path)
    }
}

#[derive(Debug)]
struct UnflushedFile(Arc<dyn File>);

impl File for UnflushedFile {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, pieces: &[&[u8]]) -> std::io::Result<()> {
        self.0.write_at(offset, pieces)
    }
    fn allocate(&self, len: u64) -> std::io::Result<()> {
        self.0.allocate(len)
    }
    fn truncate(&self, len: u64) -> std::io::Result<()> {
        self.0.truncate(len)
    }
    fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }
}
