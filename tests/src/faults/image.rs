//! A file system of the test's own, in a file, whose power can be cut.
//!
//! The cut is `FS_IOC_SHUTDOWN` without a flush of the journal, as `xfs_io -x -c shutdown` asks for it on any file
//! system that can: from that moment nothing more reaches the disk, and all that only the page cache held is lost.
//! The process must be in a mount namespace of its own: whoever else has a copy of the mount would keep the dead file
//! system alive, and the next mount would get it back.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::foreign::find;
use crate::place::within;
use crate::process::{Finished, run};

/// A kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ext4, as `mkfs.ext4` makes it.
    Ext4,
    /// XFS, as `mkfs.xfs` makes it.
    Xfs,
}

impl Kind {
    /// `ext4` or `xfs`.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "ext4" => Ok(Self::Ext4),
            "xfs" => Ok(Self::Xfs),
            _ => Err(format!("--fs {name}: ext4 or xfs")),
        }
    }

    /// Its name for mount(8).
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// Makes one in a file or device. `options` go to its mkfs.
    pub fn make(self, file: &Path, options: &[&str]) {
        let program = match self {
            Self::Ext4 => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
        };
        let quiet = match self {
            Self::Ext4 => ["-q", "-F"],
            Self::Xfs => ["-q", "-f"],
        };
        let mut command = Command::new(find(program).expect("asked for before"));
        command.args(quiet).args(options).arg(file).stdin(Stdio::null());
        crate::process::finish(&mut command).expect_success(program);
    }

    /// Repairs what is in `file` without questions, as the start of a machine does with a file system that it can't mount.
    fn repair(self, file: &Path) {
        let (program, options) = match self {
            Self::Ext4 => ("e2fsck", ["-f", "-y"]),
            Self::Xfs => ("xfs_repair", ["-L", "-f"]),
        };
        let finished = tool(program, &[Path::new(options[0]), Path::new(options[1]), file]);
        // e2fsck(8): 1 is "errors corrected", 2 the same with the wish for a restart.
        let repaired = finished.status.code().is_some_and(|code| code <= 2);
        assert!(repaired, "{program}: {}\n{}{}", finished.status, finished.stdout, finished.stderr);
    }
}

/// A file system in a file, mounted or not. Dropping it takes it off; whoever made the files removes them.
#[derive(Debug)]
pub struct Image {
    file: PathBuf,
    mount: PathBuf,
    mounted: bool,
}

impl Image {
    /// Makes a file system of `octets` in the new sparse file `file`, mounts it at `mount` (made if absent).
    pub fn make(kind: Kind, file: &Path, octets: u64, options: &[&str], mount: &Path) -> Self {
        let made = File::create(file).and_then(|made| made.set_len(octets));
        made.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        kind.make(file, options);
        std::fs::create_dir_all(mount).expect("a place for a file system");
        let mut image = Self { file: file.to_owned(), mount: mount.to_owned(), mounted: false };
        image.mount();
        image
    }

    /// One that is in `file` already, not mounted yet.
    pub fn of(file: &Path, mount: &Path) -> Self {
        Self { file: file.to_owned(), mount: mount.to_owned(), mounted: false }
    }

    /// Mounts it; a journal is replayed by that.
    pub fn mount(&mut self) {
        self.try_mount().expect_success("mount");
    }

    /// Mounts it as a machine does that starts: what the kernel refuses is repaired first. Says whether it was.
    ///
    /// A superblock of ext4 has 1,024 octets and a checksum; one that was torn between two sectors of 512 is refused
    /// with EBADMSG, by ext4 itself or by its journal.
    pub fn mount_or_repair(&mut self, kind: Kind) -> bool {
        if self.try_mount().status.success() {
            return false;
        }
        kind.repair(&self.file);
        self.mount();
        true
    }

    fn try_mount(&mut self) -> Finished {
        let mount = [Path::new("-o"), Path::new("loop"), &self.file, &self.mount];
        let finished = tool("mount", &mount);
        self.mounted = finished.status.success();
        finished
    }

    /// Cuts the power. Whatever runs on it gets errors from now on.
    pub fn cut(&self) {
        let cut = [Path::new("-x"), Path::new("-c"), Path::new("shutdown"), &self.mount];
        tool("xfs_io", &cut).expect_success("xfs_io shutdown");
    }

    /// Takes it off, and waits until nobody holds it any more: the processes that used it must have ended.
    pub fn unmount(&mut self) {
        within(Duration::from_secs(20), "an end of the use of the file system", || {
            tool("umount", &[&self.mount]).status.success().then_some(())
        });
        self.mounted = false;
        within(Duration::from_secs(20), "the loop device to be free", || {
            tool("losetup", &[Path::new("-j"), &self.file]).stdout.is_empty().then_some(())
        });
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: a test that failed may have left processes behind, which end with its namespace.
            let _ = tool("umount", &[Path::new("-l"), &self.mount]);
        }
    }
}

/// A folder for images: in memory where there is one, so that nothing depends on the speed of this machine's disk, and on
/// what else uses it. What reaches the image's device has survived the cut, wherever the image lies.
pub fn folder() -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("image-");
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
    made.expect("a folder")
}

/// Runs a program of the system to its end.
pub fn tool(name: &str, arguments: &[&Path]) -> Finished {
    run(&find(name).unwrap_or_else(|| panic!("{name} is not installed")), arguments)
}
