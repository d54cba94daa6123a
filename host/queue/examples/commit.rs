//! Measures group commit on the disk under the given directory (default: the one for temporary files).
//!
//! `cargo run -p queue --release --example commit -- [DIRECTORY] [WRITERS] [SECONDS] [OCTETS]`
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that measures")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use message::{Body, Id};
use queue::disk::{Disk, File, RealDisk, Space};
use queue::{Accept, Config, Queue, SystemClock};
use smtp::{Envelope, MailParameters, RcptParameters, Recipient};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse::<u64>());
    let (writers, seconds, octets) = (number(20)?, number(5)?, number(10_000)?);
    let directory = tempfile::tempdir_in(parent)?;
    let flushes = Arc::new(AtomicU64::new(0));
    let disk =
        CountingDisk { disk: RealDisk::new(directory.path())?, flushes: Arc::clone(&flushes) };
    let config = Config::new(directory.path());
    let (queue, recovery) = Queue::open_with(config, Arc::new(disk), Arc::new(SystemClock)).await?;
    println!("opened in {:?}", recovery.took);
    flushes.store(0, Ordering::Relaxed);
    let until = Instant::now() + Duration::from_secs(seconds);
    let body = Bytes::from(vec![b'x'; usize::try_from(octets)?]);
    let tasks = (0..writers).map(|_| tokio::spawn(write(queue.clone(), body.clone(), until)));
    let mut latencies = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        latencies.extend(task.await??);
    }
    latencies.sort_unstable();
    let (count, flushed) = (latencies.len() as u64, flushes.load(Ordering::Relaxed));
    let percentile =
        |p: usize| latencies.get(latencies.len() * p / 100).copied().unwrap_or_default();
    println!("{writers} writers, {octets} octets, {seconds} s on {}", directory.path().display());
    println!("{} commits/s, {} flushes/s", count / seconds, flushed / seconds);
    println!("p50 {:?}, p99 {:?}", percentile(50), percentile(99));
    Ok(())
}

async fn write(queue: Queue, body: Bytes, until: Instant) -> Result<Vec<Duration>> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let unique = u32::try_from(NUMBER.fetch_add(1, Ordering::Relaxed))?;
        let recipients = vec![Recipient {
            path: "bob@example.org".parse()?,
            parameters: RcptParameters::default(),
        }];
        let reverse_path = "alice@example.net".parse()?;
        let envelope = Envelope { reverse_path, parameters: MailParameters::default(), recipients };
        let head = Bytes::from_static(b"Subject: a measurement\r\n\r\n");
        let accept = Accept::new(envelope, head, Body::Received { offset: 0 }, SystemTime::now());
        let began = Instant::now();
        let mut draft = queue.draft(Id::new(SystemTime::now(), unique))?;
        draft.write(body.clone()).await?;
        match queue.commit(draft, accept).await {
            Ok(_) => latencies.push(began.elapsed()),
            // Faster than segments are emptied: what a client would be told is 452.
            Err(queue::Error::Full { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(latencies)
}

/// Counts flushes of files.
#[derive(Debug)]
struct CountingDisk {
    disk: RealDisk,
    flushes: Arc<AtomicU64>,
}

impl CountingDisk {
    fn count(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(CountingFile { file, flushes: Arc::clone(&self.flushes) })
    }
}

impl Disk for CountingDisk {
    fn create(&self, path: &str) -> std::io::Result<Arc<dyn File>> {
        self.disk.create(path).map(|file| self.count(file))
    }
    fn open(&self, path: &str) -> std::io::Result<Arc<dyn File>> {
        self.disk.open(path).map(|file| self.count(file))
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &str) -> std::io::Result<()> {
        self.disk.remove(path)
    }
    fn create_dir(&self, path: &str) -> std::io::Result<()> {
        self.disk.create_dir(path)
    }
    fn list(&self, path: &str) -> std::io::Result<Vec<String>> {
        self.disk.list(path)
    }
    fn sync_dir(&self, path: &str) -> std::io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn space(&self) -> std::io::Result<Space> {
        self.disk.space()
    }
    fn lock(&self) -> std::io::Result<Box<dyn std::any::Any + Send + Sync>> {
        self.disk.lock()
    }
    fn name(&self, path: &str) -> std::path::PathBuf {
        self.disk.name(path)
    }
}

#[derive(Debug)]
struct CountingFile {
    file: Arc<dyn File>,
    flushes: Arc<AtomicU64>,
}

impl File for CountingFile {
    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.file.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, pieces: &[&[u8]]) -> std::io::Result<()> {
        self.file.write_at(offset, pieces)
    }
    fn allocate(&self, len: u64) -> std::io::Result<()> {
        self.file.allocate(len)
    }
    fn truncate(&self, len: u64) -> std::io::Result<()> {
        self.file.truncate(len)
    }
    fn sync(&self) -> std::io::Result<()> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.file.sync()
    }
}
