//! The few file operations that the spool is made of, so that tests can refuse, tear or stop each of them.
//!
//! Paths are relative to the spool. All operations block; who calls them on a runtime uses `spawn_blocking`.

mod real;
mod simulated;

use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

pub use real::RealDisk;
pub use simulated::{Fault, SimulatedDisk};

/// A directory on a disk.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Makes a file, or empties one, for reading and writing. Durable after [`File::sync`] and [`Disk::sync_dir`].
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &str) -> io::Result<Arc<dyn File>>;
    /// Renames a file, replacing what was there. Durable after [`Disk::sync_dir`] of the directories.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes a directory and those above it, if absent.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// Names in a directory, in no order; an absent directory is empty.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// [`File::sync`] of all these files, with as few flushes of the device as it can; a result for each of them.
    fn sync_all(&self, files: &[Arc<dyn File>]) -> Vec<io::Result<()>> {
        files.iter().map(|file| file.sync()).collect()
    }
    /// What is free on the file system.
    fn space(&self) -> io::Result<Space>;
    /// Locks the directory until the value is dropped. `WouldBlock`: somebody else has it.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>>;
    /// The name of a path for an operator.
    fn name(&self, path: &str) -> std::path::PathBuf;
}

/// An open file. It stays readable after its name was removed.
pub trait File: Debug + Send + Sync + 'static {
    /// Octets in it.
    fn len(&self) -> io::Result<u64>;
    /// Reads up to `buffer.len()` octets; fewer only at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all pieces one after the other.
    fn write_at(&self, offset: u64, pieces: &[&[u8]]) -> io::Result<()>;
    /// Reserves room up to `len`, so that writes there cannot meet a full disk, and makes the file that long.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes the file that short, and gives back the room behind.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Makes the content durable (and the length, if it grew).
    fn sync(&self) -> io::Result<()>;

    /// Whether there is nothing in it.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads exactly `len` octets, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; len];
        let mut done = 0;
        while done < len {
            match self.read_at(offset + done as u64, &mut buffer[done..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(buffer)
    }
}

/// What is free for an ordinary user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Octets.
    pub octets: u64,
    /// Inodes; `u64::MAX` where the file system has no fixed number.
    pub inodes: u64,
}
