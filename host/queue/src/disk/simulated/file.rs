//! A file of the simulated disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Done, Pending, SimulatedDisk, State, stopped, write};
use crate::disk::File;

#[derive(Debug)]
pub(super) struct SimulatedFile {
    disk: SimulatedDisk,
    number: usize,
    /// A flush failed.
    failed: AtomicBool,
}

impl SimulatedFile {
    pub(super) fn new(disk: &SimulatedDisk, number: usize) -> Arc<Self> {
        Arc::new(Self { disk: disk.clone(), number, failed: AtomicBool::new(false) })
    }

    fn count_misuse(&self, state: &mut State) {
        if self.failed.load(Ordering::Relaxed) {
            state.misused += 1;
        }
    }
}

impl File for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock_state().inodes[self.number].live.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.lock_state();
        let octets = &state.inodes[self.number].live;
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| octets.get(offset..))
            .unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, pieces: &[&[u8]]) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        let mut octets = pieces.concat();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.count_misuse(&mut state);
        let inside = offset + octets.len() <= state.inodes[self.number].live.len();
        let done = state.operation(!inside)?;
        if let Done::Half | Done::HalfAndOn = done {
            octets.truncate(octets.len() / 2);
        }
        let inode = state.inode(self.number);
        write(&mut inode.live, offset, &octets);
        inode.pending.push(Pending::Write(offset, octets));
        match done {
            Done::Whole => Ok(()),
            Done::Half => Err(stopped()),
            Done::HalfAndOn => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        state.operation(true)?.whole()?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let inode = state.inode(self.number);
        let before = inode.live.len();
        if before < len {
            inode.live.resize(len, 0);
            inode.pending.push(Pending::Write(before, vec![0; len - before]));
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        state.operation(false)?.whole()?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let inode = state.inode(self.number);
        inode.live.truncate(len);
        inode.pending.push(Pending::Cut(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        self.count_misuse(&mut state);
        let result = state.operation(false).and_then(Done::whole);
        let stopped_now = state.stopped;
        let inode = state.inode(self.number);
        match result {
            Ok(()) => {
                for change in std::mem::take(&mut inode.pending) {
                    change.apply(&mut inode.durable);
                }
                Ok(())
            }
            Err(error) => {
                if !stopped_now {
                    self.failed.store(true, Ordering::Relaxed);
                    let lost = std::mem::take(&mut inode.pending);
                    inode.limbo.extend(lost);
                }
                Err(error)
            }
        }
    }
}
