//! A message that is being received.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use message::{Id, Octets};
use tokio::task::spawn_blocking;

use crate::content::large_path;
use crate::disk::{Disk, File};
use crate::error::Error;

/// Received content that nobody has promised anything about. Small drafts are in memory, large ones in their own file.
/// Dropped without [`Queue::commit`](crate::Queue::commit), it leaves nothing behind.
#[derive(Debug)]
pub struct Draft {
    id: Id,
    size: u64,
    store: Store,
    large_octets: u64,
    memory: Memory,
    disk: Arc<dyn Disk>,
}

#[derive(Debug)]
enum Store {
    Memory(Arc<Vec<u8>>),
    File(LargeFile),
    /// A write failed: what is in the file is unknown.
    Broken,
}

impl Draft {
    pub(crate) fn new(id: Id, disk: Arc<dyn Disk>, large_octets: u64, memory: Memory) -> Self {
        Self { id, size: 0, store: Store::Memory(Arc::default()), large_octets, memory, disk }
    }

    /// The name that the message will have.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Octets written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a piece of content. After an error the draft is useless: drop it.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        let len = piece.len() as u64;
        let large = self.size + len > self.large_octets;
        if let Store::Memory(octets) = &mut self.store {
            if !large && self.memory.grow(len) {
                Arc::make_mut(octets).extend_from_slice(&piece);
                self.size += len;
                return Ok(());
            }
            self.spill().await?;
        }
        let Store::File(large) = &mut self.store else {
            return Err(Error::NotDurable("an earlier write of the draft failed".to_owned()));
        };
        large.crc = crc32c::crc32c_append(large.crc, &piece);
        let (file, offset) = (Arc::clone(&large.file), self.size);
        let written = blocking(move || file.write_at(offset, &[&piece])).await;
        if let Err(source) = written {
            self.store = Store::Broken;
            return Err(Error::disk("write", self.disk.name(&large_path(self.id)))(source));
        }
        self.size += len;
        Ok(())
    }

    /// The content written so far, for reading. Call it after the last write.
    pub fn octets(&self) -> Arc<dyn Octets> {
        match &self.store {
            Store::Memory(octets) => Arc::<Vec<u8>>::clone(octets),
            Store::File(large) => {
                Arc::new(LargeOctets { file: Arc::clone(&large.file), len: self.size })
            }
            Store::Broken => Arc::new(Vec::new()),
        }
    }

    /// Moves what is in memory to a file of its own.
    async fn spill(&mut self) -> Result<(), Error> {
        let Store::Memory(octets) = std::mem::replace(&mut self.store, Store::Broken) else {
            return Ok(());
        };
        self.memory.release();
        self.store = Store::File(LargeFile::create(&self.disk, self.id, octets).await?);
        Ok(())
    }

    /// Gives up the content for a commit.
    pub(crate) fn into_parts(mut self) -> (Id, Arc<dyn Disk>, DraftContent) {
        let content = match std::mem::replace(&mut self.store, Store::Broken) {
            Store::Memory(octets) => DraftContent::Memory(octets),
            Store::File(large) => DraftContent::Large { file: large, len: self.size },
            Store::Broken => DraftContent::Broken,
        };
        (self.id, self.disk, content)
    }
}

pub(crate) enum DraftContent {
    Memory(Arc<Vec<u8>>),
    Large { file: LargeFile, len: u64 },
    Broken,
}

/// `large/ID.body`, removed when dropped unless it was kept.
#[derive(Debug)]
pub(crate) struct LargeFile {
    id: Id,
    disk: Arc<dyn Disk>,
    file: Arc<dyn File>,
    /// CRC32C of everything in it.
    crc: u32,
    kept: bool,
}

impl LargeFile {
    /// Makes the file with the first octets in it.
    pub(crate) async fn create<T>(disk: &Arc<dyn Disk>, id: Id, first: T) -> Result<Self, Error>
    where
        T: std::ops::Deref + Send + 'static,
        T::Target: AsRef<[u8]>,
    {
        let disk = Arc::clone(disk);
        let path = large_path(id);
        let error = Error::disk("write", disk.name(&path));
        blocking(move || {
            let file = disk.create(&path)?;
            let crc = crc32c::crc32c((*first).as_ref());
            let large = Self { id, disk, file, crc, kept: false };
            large.file.write_at(0, &[(*first).as_ref()])?;
            Ok(large)
        })
        .await
        .map_err(error)
    }

    /// Makes content and name durable.
    pub(crate) async fn sync(self) -> Result<Self, Error> {
        let error = Error::disk("flush", self.disk.name(&large_path(self.id)));
        blocking(move || {
            self.file.sync()?;
            self.disk.sync_dir("large")?;
            Ok(self)
        })
        .await
        .map_err(error)
    }

    /// CRC32C of everything in it.
    pub(crate) fn crc(&self) -> u32 {
        self.crc
    }

    /// The file belongs to a message now.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for LargeFile {
    fn drop(&mut self) {
        if !self.kept {
            // Recovery removes what is left here.
            let _ = self.disk.remove(&large_path(self.id));
        }
    }
}

#[derive(Debug)]
struct LargeOctets {
    file: Arc<dyn File>,
    len: u64,
}

impl Octets for LargeOctets {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = buffer.len().min(rest);
        self.file.read_at(offset, &mut buffer[..want])
    }
}

/// A share of the memory that all drafts have together.
#[derive(Debug)]
pub(crate) struct Memory {
    total: Arc<AtomicU64>,
    limit: u64,
    mine: u64,
}

impl Memory {
    pub(crate) fn new(total: Arc<AtomicU64>, limit: u64) -> Self {
        Self { total, limit, mine: 0 }
    }

    fn grow(&mut self, octets: u64) -> bool {
        let before = self.total.fetch_add(octets, Ordering::Relaxed);
        self.mine += octets;
        if before + octets <= self.limit {
            return true;
        }
        self.total.fetch_sub(octets, Ordering::Relaxed);
        self.mine -= octets;
        false
    }

    fn release(&mut self) {
        self.total.fetch_sub(std::mem::take(&mut self.mine), Ordering::Relaxed);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.release();
    }
}

/// Runs file operations where they may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
