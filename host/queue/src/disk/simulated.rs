//! A disk that forgets what was not flushed, and fails when told to.
//!
//! What was written is visible at once and durable after a flush. A crash keeps what was flushed, and of the rest whatever
//! the seed says: writes are kept, dropped or torn one by one, in any order across files; changes of names are kept up to
//! a point in each directory, as journals do, or (odd seeds) each for itself. A refused flush leaves its writes in limbo: no
//! later flush makes them durable, and whoever uses that file again is counted.

mod file;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use file::SimulatedFile;

use super::{Disk, File, Space};

/// What happens to one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It and all later ones do nothing: the machine stopped.
    Stop,
    /// If it is a write, the first half is done; then as [`Fault::Stop`].
    Tear,
    /// It fails (EIO); later ones work.
    Refuse,
    /// If it is a write, the first half is done and it fails; anything else fails. Later ones work.
    Short,
    /// It and all later ones fail, but reading works: the disk is dead.
    RefuseAll,
    /// If it needs room it fails (ENOSPC), and so do later ones, until [`SimulatedDisk::heal`].
    Full,
}

/// A disk in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    inodes: Vec<Inode>,
    /// What is visible.
    names: BTreeMap<String, usize>,
    /// What a crash keeps of names in any case.
    durable_names: BTreeMap<String, usize>,
    /// Changes of names that were not flushed, in order; a rename within a directory is one change of two names.
    changes: Vec<Change>,
    directories: BTreeSet<String>,
    operations: u64,
    faults: Vec<(u64, Fault)>,
    stopped: bool,
    full: bool,
    dead: bool,
    space: Space,
    held: bool,
    /// Writes and flushes of files whose flush had failed.
    misused: u64,
}

type Change = Vec<(String, Option<usize>)>;

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Not flushed, in order.
    pending: Vec<Pending>,
    /// A flush of these was refused.
    limbo: Vec<Pending>,
}

/// A change of a file that a crash may drop.
#[derive(Clone, Debug)]
enum Pending {
    /// These octets at that offset.
    Write(usize, Vec<u8>),
    /// Nothing behind it.
    Cut(usize),
}

impl Pending {
    fn apply(&self, octets: &mut Vec<u8>) {
        match self {
            Self::Write(offset, piece) => write(octets, *offset, piece),
            Self::Cut(len) => octets.truncate(*len),
        }
    }
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedDisk {
    /// An empty disk with plenty of room.
    pub fn new() -> Self {
        Self::with(Vec::new(), BTreeMap::new(), BTreeSet::new())
    }

    fn with(
        inodes: Vec<Inode>,
        names: BTreeMap<String, usize>,
        directories: BTreeSet<String>,
    ) -> Self {
        let state = State {
            inodes,
            durable_names: names.clone(),
            names,
            changes: Vec::new(),
            directories,
            operations: 0,
            faults: Vec::new(),
            stopped: false,
            full: false,
            dead: false,
            space: Space { octets: 1 << 40, inodes: 1 << 20 },
            held: false,
            misused: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Operations that change something, so far.
    pub fn operations(&self) -> u64 {
        self.lock_state().operations
    }

    /// Lets this happen to the operation with that number; the first has number 1.
    pub fn set_fault(&self, operation: u64, fault: Fault) {
        self.lock_state().faults.push((operation, fault));
    }

    /// Everything works again (but a machine that stopped stays so).
    pub fn heal(&self) {
        let mut state = self.lock_state();
        (state.full, state.dead) = (false, false);
        state.faults.clear();
    }

    /// Did it stop?
    pub fn is_stopped(&self) -> bool {
        self.lock_state().stopped
    }

    /// Writes and flushes through a file whose flush had failed: the kernel may have forgotten what was not written, and a
    /// second flush would lie. There must be none.
    pub fn misused(&self) -> u64 {
        self.lock_state().misused
    }

    /// What is said to be free.
    pub fn set_space(&self, space: Space) {
        self.lock_state().space = space;
    }

    /// Names and sizes of all files.
    pub fn files(&self) -> Vec<(String, usize)> {
        let state = self.lock_state();
        state
            .names
            .iter()
            .map(|(name, inode)| (name.clone(), state.inodes[*inode].live.len()))
            .collect()
    }

    /// What a file holds.
    pub fn octets(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.lock_state();
        state.names.get(path).map(|inode| state.inodes[*inode].live.clone())
    }

    /// Turns one bit of a file around, durably.
    pub fn flip(&self, path: &str, bit: usize) {
        let mut state = self.lock_state();
        if let Some(inode) = state.names.get(path).copied() {
            let inode = state.inode(inode);
            if let Some(octet) = inode.live.get_mut(bit / 8) {
                *octet ^= 1 << (bit % 8);
            }
            inode.durable.clone_from(&inode.live);
        }
    }

    /// Cuts the power; gives the disk as it is found afterwards. The seed decides about everything that was not flushed.
    pub fn crash(&self, seed: u64) -> Self {
        let state = self.lock_state();
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut names = state.durable_names.clone();
        let mut keep: BTreeMap<&str, bool> = BTreeMap::new();
        for change in &state.changes {
            // Directories are independent.
            let kept = keep.entry(directory_of(&change[0].0)).or_insert(true);
            let in_order = seed % 2 == 0;
            *kept = (*kept || !in_order) && (seed != 0 && random.below(4) > 0);
            if *kept {
                apply(&mut names, change);
            }
        }
        let inodes =
            state.inodes.iter().map(|inode| inode.after_crash(seed, &mut random)).collect();
        Self::with(inodes, names, state.directories.clone())
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inode {
    fn after_crash(&self, seed: u64, random: &mut Random) -> Self {
        let mut octets = self.durable.clone();
        for change in self.limbo.iter().chain(&self.pending) {
            let fate = if seed == 0 { 0 } else { random.below(4) };
            let Pending::Write(offset, piece) = change else {
                if fate > 0 {
                    change.apply(&mut octets);
                }
                continue;
            };
            let len = match fate {
                0 => continue,
                1 => {
                    // Sectors of a write reach the disk in any order.
                    for start in (0..piece.len()).step_by(SECTOR) {
                        if random.below(2) == 0 {
                            let end = piece.len().min(start + SECTOR);
                            write(&mut octets, offset + start, &piece[start..end]);
                        }
                    }
                    continue;
                }
                2 => usize::try_from(random.below(piece.len() as u64 + 1)).unwrap_or_default(),
                _ => piece.len(),
            };
            write(&mut octets, *offset, &piece[..len]);
        }
        Self { live: octets.clone(), durable: octets, ..Self::default() }
    }
}

impl State {
    /// Counts an operation and says whether it is done, or how it fails.
    fn operation(&mut self, needs_room: bool) -> io::Result<Done> {
        if self.stopped {
            return Err(stopped());
        }
        self.operations += 1;
        let fault =
            self.faults.iter().find(|(at, _)| *at == self.operations).map(|(_, fault)| *fault);
        match fault {
            Some(Fault::Stop) => self.stopped = true,
            Some(Fault::Tear) => {
                self.stopped = true;
                return Ok(Done::Half);
            }
            Some(Fault::Refuse) => return Err(refused()),
            Some(Fault::Short) => return Ok(Done::HalfAndOn),
            Some(Fault::RefuseAll) => self.dead = true,
            Some(Fault::Full) => self.full = true,
            None => {}
        }
        if self.stopped {
            Err(stopped())
        } else if self.dead {
            Err(refused())
        } else if self.full && needs_room {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(Done::Whole)
        }
    }

    fn inode(&mut self, number: usize) -> &mut Inode {
        &mut self.inodes[number]
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }
}

enum Done {
    Whole,
    /// The machine stopped in the middle.
    Half,
    /// It failed in the middle, and everything goes on.
    HalfAndOn,
}

impl Done {
    /// Half of something that has no halves.
    fn whole(self) -> io::Result<()> {
        match self {
            Self::Whole => Ok(()),
            Self::Half => Err(stopped()),
            Self::HalfAndOn => Err(refused()),
        }
    }
}

impl Disk for SimulatedDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.lock_state();
        state.operation(true)?.whole()?;
        if !state.directories.contains(directory_of(path)) && !directory_of(path).is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let number = state.inodes.len();
        state.inodes.push(Inode::default());
        state.change(vec![(path.to_owned(), Some(number))]);
        Ok(SimulatedFile::new(self, number))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let state = self.lock_state();
        let number = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(SimulatedFile::new(self, number))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock_state();
        state.operation(false)?.whole()?;
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        let (gone, come) = ((from.to_owned(), None), (to.to_owned(), Some(inode)));
        if directory_of(from) == directory_of(to) {
            state.change(vec![gone, come]);
        } else {
            state.change(vec![come]);
            state.change(vec![gone]);
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.lock_state();
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.operation(false)?.whole()?;
        state.change(vec![(path.to_owned(), None)]);
        Ok(())
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.lock_state();
        // A directory that a crash takes away is like an empty one to us, so they are durable at once.
        if !state.directories.contains(path) {
            state.operation(true)?.whole()?;
            for (end, _) in path.match_indices('/') {
                state.directories.insert(path[..end].to_owned());
            }
            state.directories.insert(path.to_owned());
        }
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let state = self.lock_state();
        let below = |name: &String| {
            let rest = name.strip_prefix(path)?.strip_prefix('/')?;
            (!rest.is_empty() && !rest.contains('/')).then(|| rest.to_owned())
        };
        Ok(state.names.keys().chain(&state.directories).filter_map(below).collect())
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.lock_state();
        state.operation(false)?.whole()?;
        let changes = std::mem::take(&mut state.changes);
        let (now, later): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| directory_of(&change[0].0) == path);
        state.changes = later;
        for change in now {
            apply(&mut state.durable_names, &change);
        }
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        Ok(self.lock_state().space)
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut state = self.lock_state();
        if std::mem::replace(&mut state.held, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock(self.clone())))
    }

    fn name(&self, path: &str) -> PathBuf {
        PathBuf::from("simulated").join(path)
    }
}

struct Lock(SimulatedDisk);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.lock_state().held = false;
    }
}

fn write(octets: &mut Vec<u8>, offset: usize, piece: &[u8]) {
    let end = offset + piece.len();
    if octets.len() < end {
        octets.resize(end, 0);
    }
    octets[offset..end].copy_from_slice(piece);
}

fn apply(names: &mut BTreeMap<String, usize>, change: &Change) {
    for (name, inode) in change {
        match inode {
            Some(inode) => names.insert(name.clone(), *inode),
            None => names.remove(name),
        };
    }
}

fn directory_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn stopped() -> io::Error {
    io::Error::other("the machine stopped")
}

fn refused() -> io::Error {
    io::Error::other("simulated EIO")
}

/// xorshift64*: the same numbers for the same seed everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

const SECTOR: usize = 512;
