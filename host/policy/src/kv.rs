//! The key-value store of the plugins: durable, with a namespace for each plugin.
//!
//! Reads look into the memory map and return at once. All writes go through one thread that commits what waits in one
//! transaction, so that many greylist entries share one flush; an answer is given when the value is on disk.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use heed::types::Bytes;
use heed::{Database, Env, EnvOpenOptions, RwTxn, WithoutTls};
use tokio::sync::oneshot;

use crate::error::Error;
use crate::host::{Clock, KvLimits};

/// The store of all plugins.
pub(crate) struct Store {
    env: Env<WithoutTls>,
    /// Present until the store is dropped.
    writer: Option<SyncSender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
    clock: Arc<dyn Clock>,
}

/// One plugin's part of it.
#[derive(Clone)]
pub(crate) struct Namespace {
    store: Arc<Store>,
    database: Database<Bytes, Bytes>,
    quota: Quota,
}

/// What a namespace may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    /// Keys.
    pub(crate) keys: u64,
    /// Octets of the pages that hold them.
    pub(crate) octets: u64,
}

/// Why an operation was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KvError {
    /// The namespace is full.
    Quota(String),
    /// The key or value cannot be.
    Invalid(String),
    /// The store is in trouble or overloaded.
    Unavailable(String),
}

/// A change of one key.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Whatever was there.
    Set { value: Vec<u8>, ttl: Option<u32> },
    /// Makes it absent.
    Delete,
    /// Adds to a decimal number.
    Increment { delta: i64, ttl: Option<u32> },
    /// Only if it is what is expected.
    CompareAndSet { expected: Option<Vec<u8>>, value: Vec<u8>, ttl: Option<u32> },
}

/// What came of a [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Whether there was a value (delete), or it was set (compare and set).
    Yes(bool),
    /// The sum.
    Sum(i64),
}

impl Store {
    /// Opens or makes the store in this directory.
    pub(crate) fn open(
        directory: &Path,
        limits: &KvLimits,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, Error> {
        let fault = |reason: String| Error::Store { path: directory.to_owned(), reason };
        std::fs::create_dir_all(directory).map_err(|error| fault(error.to_string()))?;
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(limits.map_octets).max_dbs(limits.namespaces).max_readers(1024);
        #[expect(
            unsafe_code,
            reason = "LMDB maps a file; the directory is private to this server, nobody truncates it"
        )]
        let env = unsafe { options.open(directory) }.map_err(|error| fault(error.to_string()))?;
        let (writer, jobs) = sync_channel(WAITING_JOBS);
        let thread = Writer { env: env.clone(), clock: clock.clone(), sweep: Vec::new() };
        let thread = std::thread::Builder::new()
            .name("kv-writer".into())
            .spawn(move || thread.run(&jobs))
            .map_err(Error::Thread)?;
        Ok(Arc::new(Self { env, writer: Some(writer), thread: Some(thread), clock }))
    }

    /// Opens or makes a namespace. It has to be called from a thread that may wait for the disk.
    pub(crate) fn namespace(
        self: &Arc<Self>,
        name: &str,
        quota: Quota,
    ) -> Result<Namespace, String> {
        let text = |error: heed::Error| error.to_string();
        let mut transaction = self.env.write_txn().map_err(text)?;
        let database = self.env.create_database(&mut transaction, Some(name)).map_err(text)?;
        transaction.commit().map_err(text)?;
        if let Some(writer) = &self.writer {
            let _ = writer.send(Job::Sweep(database));
        }
        Ok(Namespace { store: self.clone(), database, quota })
    }
}

impl Drop for Store {
    /// Waits until the last writes are done, so that the directory may be opened again.
    fn drop(&mut self) {
        drop(self.writer.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Namespace {
    /// The value of a key that has not expired.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        check_key(key)?;
        let transaction = self.store.env.read_txn().map_err(unavailable)?;
        let stored = self.database.get(&transaction, key.as_bytes()).map_err(unavailable)?;
        Ok(stored
            .and_then(|stored| live(stored, seconds(self.store.clock.now())))
            .map(<[u8]>::to_vec))
    }

    /// Keys that begin so and have not expired, behind `after`; some of them.
    pub(crate) fn keys(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, KvError> {
        let transaction = self.store.env.read_txn().map_err(unavailable)?;
        let now = seconds(self.store.clock.now());
        let start = match after.filter(|after| *after >= prefix) {
            Some(after) => Bound::Excluded(after.as_bytes()),
            None if prefix.is_empty() => Bound::Unbounded,
            None => Bound::Included(prefix.as_bytes()),
        };
        let bounds: (Bound<&[u8]>, Bound<&[u8]>) = (start, Bound::Unbounded);
        let mut keys = Vec::new();
        let entries = self.database.range(&transaction, &bounds).map_err(unavailable)?;
        // Expired ones count as steps, not as keys: a call ends in good time, whatever it finds.
        for entry in entries.take(SWEEP_KEYS) {
            let (key, stored) = entry.map_err(unavailable)?;
            if !key.starts_with(prefix.as_bytes()) || keys.len() == MOST_KEYS {
                break;
            }
            if live(stored, now).is_some() {
                keys.push(String::from_utf8_lossy(key).into_owned());
            }
        }
        Ok(keys)
    }

    /// Makes a change; when it returns, the change is on disk.
    pub(crate) async fn change(&self, key: String, change: Change) -> Result<Changed, KvError> {
        check_key(&key)?;
        if let Change::Set { value, .. } | Change::CompareAndSet { value, .. } = &change
            && value.len() > MAX_VALUE_OCTETS
        {
            return Err(KvError::Invalid(format!("a value has at most {MAX_VALUE_OCTETS} octets")));
        }
        let (answer, answered) = oneshot::channel();
        let job = Job::Change { database: self.database, quota: self.quota, key, change, answer };
        let writer = self
            .store
            .writer
            .as_ref()
            .ok_or_else(|| KvError::Unavailable("the store is closed".into()))?;
        writer.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => KvError::Unavailable("too many writes wait".into()),
            TrySendError::Disconnected(_) => KvError::Unavailable("the store is closed".into()),
        })?;
        answered.await.map_err(|_| KvError::Unavailable("the store is closed".into()))?
    }
}

enum Job {
    Change {
        database: Database<Bytes, Bytes>,
        quota: Quota,
        key: String,
        change: Change,
        answer: oneshot::Sender<Result<Changed, KvError>>,
    },
    /// From now on expired values of this namespace are removed.
    Sweep(Database<Bytes, Bytes>),
}

struct Writer {
    env: Env<WithoutTls>,
    clock: Arc<dyn Clock>,
    /// Namespaces, each with the key at which the next sweep goes on.
    sweep: Vec<(Database<Bytes, Bytes>, Vec<u8>)>,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(SWEEP_EVERY) {
                Ok(first) => {
                    let batch: Vec<Job> =
                        std::iter::once(first).chain(jobs.try_iter().take(BATCH - 1)).collect();
                    self.commit(batch);
                }
                Err(RecvTimeoutError::Timeout) => self.sweep_all(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn commit(&mut self, batch: Vec<Job>) {
        let mut changes = Vec::with_capacity(batch.len());
        for job in batch {
            match job {
                Job::Sweep(database) => self.sweep.push((database, Vec::new())),
                Job::Change { database, quota, key, change, answer } => {
                    changes.push((Work { database, quota, key, change }, answer));
                }
            }
        }
        if changes.is_empty() {
            return;
        }
        // A full map or disk spoils the whole transaction: then each change is tried alone, and only those that do not
        // fit fail.
        if let Ok(results) = self.commit_all(changes.iter().map(|(work, _)| work)) {
            for ((_, answer), result) in changes.into_iter().zip(results) {
                let _ = answer.send(result);
            }
            return;
        }
        for (work, answer) in changes {
            let result = match self.commit_all(std::iter::once(&work)) {
                Ok(mut results) => {
                    results.pop().unwrap_or_else(|| Err(KvError::Unavailable("no answer".into())))
                }
                Err(error) => Err(unavailable(error)),
            };
            let _ = answer.send(result);
        }
    }

    fn commit_all<'a>(
        &self,
        all: impl Iterator<Item = &'a Work>,
    ) -> heed::Result<Vec<Result<Changed, KvError>>> {
        let now = seconds(self.clock.now());
        let mut transaction = self.env.write_txn()?;
        let results =
            all.map(|work| work.apply(&mut transaction, now)).collect::<heed::Result<Vec<_>>>()?;
        transaction.commit()?;
        Ok(results)
    }

    fn sweep_all(&mut self) {
        let now = seconds(self.clock.now());
        for (database, from) in &mut self.sweep {
            if let Err(error) = sweep(&self.env, *database, from, now) {
                tracing::warn!(%error, "cannot remove expired values from the key-value store");
            }
        }
    }
}

/// Removes the expired of the next [`SWEEP_KEYS`] keys, and leaves in `from` where to go on.
fn sweep(
    env: &Env<WithoutTls>,
    database: Database<Bytes, Bytes>,
    from: &mut Vec<u8>,
    now: u64,
) -> heed::Result<()> {
    let mut expired = Vec::new();
    {
        let transaction = env.read_txn()?;
        // LMDB has no empty key, not even to begin a range with.
        let start =
            if from.is_empty() { Bound::Unbounded } else { Bound::Excluded(from.as_slice()) };
        let bounds = (start, Bound::Unbounded);
        let mut last = None;
        for (seen, entry) in database.range(&transaction, &bounds)?.enumerate() {
            let (key, stored) = entry?;
            if live(stored, now).is_none() {
                expired.push(key.to_vec());
            }
            if seen + 1 == SWEEP_KEYS {
                last = Some(key.to_vec());
                break;
            }
        }
        *from = last.unwrap_or_default();
    }
    if expired.is_empty() {
        return Ok(());
    }
    let mut transaction = env.write_txn()?;
    for key in &expired {
        database.delete(&mut transaction, key)?;
    }
    transaction.commit()
}

struct Work {
    database: Database<Bytes, Bytes>,
    quota: Quota,
    key: String,
    change: Change,
}

impl Work {
    /// The outer error spoils the transaction, the inner one is this change's own.
    fn apply(
        &self,
        transaction: &mut RwTxn<'_>,
        now: u64,
    ) -> heed::Result<Result<Changed, KvError>> {
        let key = self.key.as_bytes();
        let stored = self.database.get(transaction, key)?;
        let exists = stored.is_some();
        let kept_expiry = stored.and_then(expiry);
        let present = stored.and_then(|stored| live(stored, now));
        let (value, expires, changed) = match &self.change {
            Change::Delete => {
                let was = present.is_some();
                if exists {
                    self.database.delete(transaction, key)?;
                }
                return Ok(Ok(Changed::Yes(was)));
            }
            Change::Set { value, ttl } => (value.clone(), deadline(now, *ttl), Changed::Yes(true)),
            Change::CompareAndSet { expected, value, ttl } => {
                if present != expected.as_deref() {
                    return Ok(Ok(Changed::Yes(false)));
                }
                (value.clone(), deadline(now, *ttl), Changed::Yes(true))
            }
            Change::Increment { delta, ttl } => {
                let sum = match present.map(number) {
                    None => *delta,
                    Some(None) => {
                        return Ok(Err(KvError::Invalid("the value is no decimal number".into())));
                    }
                    Some(Some(have)) => match have.checked_add(*delta) {
                        Some(sum) => sum,
                        None => return Ok(Err(KvError::Invalid("the sum leaves 64 bits".into()))),
                    },
                };
                let expires =
                    if present.is_some() { kept_expiry.unwrap_or(0) } else { deadline(now, *ttl) };
                (sum.to_string().into_bytes(), expires, Changed::Sum(sum))
            }
        };
        if let Err(full) = self.check_quota(transaction, exists, value.len())? {
            return Ok(Err(full));
        }
        let mut stored = expires.to_le_bytes().to_vec();
        stored.extend_from_slice(&value);
        self.database.put(transaction, key, &stored)?;
        Ok(Ok(changed))
    }

    fn check_quota(
        &self,
        transaction: &RwTxn<'_>,
        exists: bool,
        size: usize,
    ) -> heed::Result<Result<(), KvError>> {
        let stat = self.database.stat(transaction)?;
        if !exists && stat.entries as u64 >= self.quota.keys {
            return Ok(Err(KvError::Quota(format!("the plugin holds {} keys", self.quota.keys))));
        }
        let pages = stat.leaf_pages + stat.branch_pages + stat.overflow_pages;
        let octets = pages as u64 * u64::from(stat.page_size) + size as u64;
        if octets > self.quota.octets {
            return Ok(Err(KvError::Quota(format!(
                "the plugin holds {} octets",
                self.quota.octets
            ))));
        }
        Ok(Ok(()))
    }
}

fn check_key(key: &str) -> Result<(), KvError> {
    if key.is_empty() || key.len() > MAX_KEY_OCTETS {
        return Err(KvError::Invalid(format!("a key has 1 to {MAX_KEY_OCTETS} octets")));
    }
    Ok(())
}

fn unavailable(error: impl std::fmt::Display) -> KvError {
    KvError::Unavailable(error.to_string())
}

/// A value is stored behind the second at which it expires; 0 means never.
fn expiry(stored: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*stored.first_chunk::<8>()?))
}

fn live(stored: &[u8], now: u64) -> Option<&[u8]> {
    let expires = expiry(stored)?;
    (expires == 0 || expires > now).then(|| &stored[8..])
}

fn deadline(now: u64, ttl: Option<u32>) -> u64 {
    ttl.map_or(0, |ttl| now + u64::from(ttl).max(1))
}

fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// LMDB takes keys of up to 511 octets.
const MAX_KEY_OCTETS: usize = 500;
/// Larger things are no state of a decision.
const MAX_VALUE_OCTETS: usize = 64 << 10;
/// Keys that one look gives.
const MOST_KEYS: usize = 1000;
/// Changes that may wait for the disk.
const WAITING_JOBS: usize = 10_000;
/// Changes in one transaction: enough to share a flush, few enough to answer soon.
const BATCH: usize = 1_000;
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Keys looked at in one sweep of one namespace: some milliseconds.
const SWEEP_KEYS: usize = 10_000;

#[cfg(test)]
mod tests;
