//! The spool as a directory: its version, its lock, its subdirectories.

use std::any::Any;
use std::io;

use crate::disk::Disk;
use crate::error::Error;
use crate::store::read_whole;

/// Locks the spool, so that two servers cannot share it.
pub(crate) fn lock(disk: &dyn Disk) -> Result<Box<dyn Any + Send + Sync>, Error> {
    disk.lock().map_err(|error| {
        if error.kind() == io::ErrorKind::WouldBlock {
            Error::Locked { path: disk.name("") }
        } else {
            Error::disk("lock", disk.name(""))(error)
        }
    })
}

/// Makes what is missing of a spool, and refuses one of another version.
pub(crate) fn prepare(disk: &dyn Disk) -> Result<(), Error> {
    check(disk)?;
    let make = || {
        for directory in ["log", "large", "deferred", "corrupt"] {
            disk.create_dir(directory)?;
        }
        if disk.open(FILE).is_err() {
            let file = disk.create(ASIDE)?;
            file.write_at(0, &[text().as_bytes()])?;
            file.sync()?;
            disk.rename(ASIDE, FILE)?;
        }
        disk.sync_dir("")
    };
    make().map_err(Error::disk("make", disk.name("")))
}

/// Refuses a spool of another version.
pub(crate) fn check(disk: &dyn Disk) -> Result<(), Error> {
    match read_whole(disk, FILE) {
        Ok(found) if found == text().as_bytes() => Ok(()),
        Ok(found) => Err(Error::Format {
            path: disk.name(""),
            found: String::from_utf8_lossy(&found).trim().to_owned(),
            known: VERSION,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::disk("read", disk.name(FILE))(error)),
    }
}

fn text() -> String {
    format!("gatepost spool {VERSION}\n")
}

const FILE: &str = "FORMAT";
const ASIDE: &str = "FORMAT.tmp";

/// Raised when an older version could not read what this one writes.
const VERSION: u32 = 1;
