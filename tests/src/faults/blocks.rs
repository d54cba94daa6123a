//! A file that writes down everything that is done to it, so that every state can be made that a power cut may leave.
//!
//! It is the root of a FUSE file system (Linux `include/uapi/linux/fuse.h`, protocol 7.31), served by a thread of ours;
//! a loop device lies on it. The kernel sends a write for each write of the device and FSYNC for each flush.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use super::image::tool;
use crate::foreign::find;
use crate::process::finish;

/// What was done to the device.
#[derive(Clone, Debug)]
pub enum Step {
    /// Octets at an offset.
    Write(u64, Vec<u8>),
    /// Everything before it is on the disk.
    Flush,
}

/// A recording file. Dropping it takes it off.
pub struct Recorder {
    at: PathBuf,
    steps: Arc<Mutex<Vec<Step>>>,
}

impl Recorder {
    /// Serves the octets of `backing` as the file `at`, which is made.
    pub fn mount(backing: &Path, at: &Path) -> Self {
        let device = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
        File::create(at).expect("a file to lie over");
        let mut mount = Command::new(find("mount").expect("mount"));
        mount.args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=100000,user_id=0,group_id=0", "none"]);
        mount.arg(at).stdin(Stdio::from(device.try_clone().expect("a file can be cloned")));
        finish(&mut mount).expect_success("mount -t fuse");
        let backing = File::options().read(true).write(true).open(backing).expect("the image");
        let steps = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&steps);
        std::thread::spawn(move || serve(device, &backing, &recorded));
        Self { at: at.to_owned(), steps }
    }

    /// How many steps there were so far.
    pub fn count(&self) -> usize {
        self.steps.lock().expect("no holder panics").len()
    }

    /// All steps so far.
    pub fn steps(&self) -> Vec<Step> {
        self.steps.lock().expect("no holder panics").clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = tool("umount", &[Path::new("-l"), &self.at]);
    }
}

fn serve(mut device: File, backing: &File, steps: &Mutex<Vec<Step>>) {
    let mut buffer = vec![0; MOST + 4096];
    // An error ends it: the file system was taken off.
    while let Ok(length) = device.read(&mut buffer) {
        if length < HEADER {
            return;
        }
        let request = &buffer[..length];
        let (code, unique) = (u32_at(request, 4), u64_at(request, 8));
        let Some(answer) = answer(code, &request[HEADER..], backing, steps) else { continue };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (-error, Vec::new()),
        };
        let length = u32::try_from(16 + body.len()).expect("an answer is small");
        let mut reply = length.to_le_bytes().to_vec();
        reply.extend(error.to_le_bytes());
        reply.extend(unique.to_le_bytes());
        reply.extend(body);
        if device.write(&reply).is_err() {
            return;
        }
    }
}

/// What a request is answered with: octets, or an error's number. `None`: it wants no answer.
fn answer(
    code: u32,
    body: &[u8],
    backing: &File,
    steps: &Mutex<Vec<Step>>,
) -> Option<Result<Vec<u8>, i32>> {
    let size = backing.metadata().map_or(0, |data| data.len());
    Some(match code {
        FORGET | BATCH_FORGET | INTERRUPT => return None,
        INIT => Ok(init()),
        GETATTR | SETATTR => Ok(attributes(size)),
        OPEN => Ok(vec![0; 16]),
        READ => {
            let (offset, count) = (u64_at(body, 8), u32_at(body, 16) as usize);
            let mut octets = vec![0; count];
            let mut done = 0;
            while done < count {
                match backing.read_at(&mut octets[done..], offset + done as u64) {
                    Ok(0) | Err(_) => break,
                    Ok(more) => done += more,
                }
            }
            octets.truncate(done);
            Ok(octets)
        }
        WRITE => {
            let (offset, count) = (u64_at(body, 8), u32_at(body, 16));
            let octets = body[40..40 + count as usize].to_vec();
            let written = backing.write_all_at(&octets, offset);
            steps.lock().expect("no holder panics").push(Step::Write(offset, octets));
            let mut out = count.to_le_bytes().to_vec();
            out.extend([0; 4]);
            written.map(|()| out).map_err(|_| EIO)
        }
        FSYNC => {
            steps.lock().expect("no holder panics").push(Step::Flush);
            Ok(Vec::new())
        }
        FLUSH | RELEASE | DESTROY => Ok(Vec::new()),
        STATFS => Ok(vec![0; 80]),
        _ => Err(ENOSYS),
    })
}

/// `fuse_init_out`: version 7.31, large writes, and nothing else.
fn init() -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(7_u32.to_le_bytes());
    out.extend(31_u32.to_le_bytes());
    out.extend(0x20000_u32.to_le_bytes()); // max_readahead
    out.extend((BIG_WRITES | MAX_PAGES).to_le_bytes());
    out.extend(16_u16.to_le_bytes()); // max_background
    out.extend(12_u16.to_le_bytes()); // congestion_threshold
    out.extend(u32::try_from(MOST).expect("small").to_le_bytes());
    out.extend(1_u32.to_le_bytes()); // time_gran
    out.extend(256_u16.to_le_bytes()); // max_pages
    out.extend([0; 34]);
    out
}

/// `fuse_attr_out` of a regular file.
fn attributes(size: u64) -> Vec<u8> {
    let mut out = 3600_u64.to_le_bytes().to_vec();
    out.extend([0; 8]);
    out.extend(1_u64.to_le_bytes()); // ino
    out.extend(size.to_le_bytes());
    out.extend((size / 512).to_le_bytes());
    out.extend([0; 36]); // times
    out.extend(0o100_600_u32.to_le_bytes());
    out.extend(1_u32.to_le_bytes()); // nlink
    out.extend([0; 12]); // uid, gid, rdev
    out.extend(4096_u32.to_le_bytes());
    out.extend([0; 4]);
    out
}

fn u32_at(octets: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(octets[at..at + 4].try_into().expect("four octets"))
}

fn u64_at(octets: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(octets[at..at + 8].try_into().expect("eight octets"))
}

/// `fuse_in_header`.
const HEADER: usize = 40;

/// Octets of a write.
const MOST: usize = 1 << 20;

const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;

const BIG_WRITES: u32 = 1 << 5;
const MAX_PAGES: u32 = 1 << 22;

const EIO: i32 = 5;
const ENOSYS: i32 = 38;
