//! The real disk.

use std::any::Any;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rustix::fs::FallocateFlags;

use super::{Disk, File, Space};

/// A directory of the file system.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// Makes the directory if absent, for this user only: mail is private.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        make_dir(&root)?;
        Ok(Self { root })
    }

    /// The directory as it is, even if it does not exist: for reading.
    pub fn existing(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Ok(Arc::new(RealFile(options.open(self.root.join(path))?)))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let path = self.root.join(path);
        // Who may only read the spool can still list it offline.
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => fs::File::open(&path)?,
            other => other?,
        };
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        make_dir(&self.root.join(path))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        entries
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        fs::File::open(self.root.join(path))?.sync_all()
    }

    /// What is flushed at the same time shares commits of the journal (ext4, xfs).
    fn sync_all(&self, files: &[Arc<dyn File>]) -> Vec<io::Result<()>> {
        let flush =
            |part: &[Arc<dyn File>]| part.iter().map(|file| file.sync()).collect::<Vec<_>>();
        thread::scope(|scope| {
            let parts = files.chunks(files.len().div_ceil(FLUSHERS).max(1));
            let parts: Vec<_> = parts
                .map(|part| {
                    let thread = thread::Builder::new().name("flush".to_owned());
                    (part, thread.spawn_scoped(scope, move || flush(part)))
                })
                .collect();
            let results = parts.into_iter().flat_map(|(part, thread)| match thread {
                Ok(thread) => thread.join().expect("a flush does not panic"),
                // There is no thread to be had: here, then.
                Err(_) => flush(part),
            });
            results.collect()
        })
    }

    fn space(&self) -> io::Result<Space> {
        let state = rustix::fs::statvfs(&self.root)?;
        // btrfs and others have no fixed number of inodes and say 0.
        let inodes = if state.f_files == 0 { u64::MAX } else { state.f_favail };
        Ok(Space { octets: state.f_bavail.saturating_mul(state.f_frsize), inodes })
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut options = OpenOptions::new();
        let path = self.root.join("lock");
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn name(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write_at(&self, mut offset: u64, pieces: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let batch = rest.len().min(MAX_PIECES);
            match rustix::io::pwritev(&self.0, &rest[..batch], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    offset += count as u64;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            // A file system without fallocate gets real zeros.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                let zeros = vec![0; 1 << 20];
                let mut offset = 0;
                while offset < len {
                    let count =
                        zeros.len().min(usize::try_from(len - offset).unwrap_or(zeros.len()));
                    self.0.write_all_at(&zeros[..count], offset)?;
                    offset += count as u64;
                }
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

fn make_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// IOV_MAX of Linux.
const MAX_PIECES: usize = 1024;

/// Threads that flush at the same time; more gain nothing.
const FLUSHERS: usize = 8;
