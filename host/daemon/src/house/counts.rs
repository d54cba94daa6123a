//! Keeps what is counted against abuse in `data/counts`, so that a restart gives nobody a fresh hour.
//!
//! The file is written every ten seconds if something was counted, and when the server stops: a crash loses what was
//! counted in the seconds before it. It holds 200,000 lines at most, some 12 MB; no file, or one that cannot be read, begins
//! anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use inbound::Counts;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// So much is lost by a crash.
const EVERY: Duration = Duration::from_secs(10);

/// The one who writes.
pub(super) struct Counting {
    stop: Arc<Notify>,
    task: JoinHandle<()>,
}

/// Takes over what an earlier server counted, and begins to write.
pub(super) fn start(counts: Counts, file: PathBuf) -> Counting {
    restore(&counts, &file);
    let stop = Arc::new(Notify::new());
    let task = tokio::spawn(keep(counts, file, Arc::clone(&stop)));
    Counting { stop, task }
}

impl Counting {
    /// Lets it write a last time.
    pub(super) async fn stop(self, wait: Duration) {
        self.stop.notify_one();
        if tokio::time::timeout(wait, self.task).await.is_err() {
            tracing::warn!("what was counted last is forgotten");
        }
    }
}

fn restore(counts: &Counts, file: &Path) {
    match read(file) {
        Ok(text) => match counts.restore(&text) {
            0 => {}
            lines => {
                tracing::warn!(file = %file.display(), lines, "some counts cannot be read and begin anew");
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "counts cannot be read and begin anew");
        }
    }
}

fn read(file: &Path) -> io::Result<String> {
    let octets = std::fs::metadata(file)?.len();
    if octets > Counts::MOST_OCTETS {
        return Err(io::Error::other(format!("{octets} octets are more than there can be")));
    }
    std::fs::read_to_string(file)
}

async fn keep(counts: Counts, file: PathBuf, stop: Arc<Notify>) {
    let mut failing = false;
    loop {
        let last = tokio::select! {
            () = tokio::time::sleep(EVERY) => false,
            () = stop.notified() => true,
        };
        let (counts, path) = (counts.clone(), file.clone());
        let written = tokio::task::spawn_blocking(move || match counts.text() {
            Some(text) => write(&path, &text),
            None => Ok(()),
        });
        let written = written.await.map_err(io::Error::other).and_then(|written| written);
        match &written {
            Err(error) if !failing => {
                tracing::error!(file = %file.display(), %error, "counts cannot be written: a restart forgets them");
            }
            Ok(()) | Err(_) => {}
        }
        failing = written.is_err();
        if last {
            return;
        }
    }
}

/// Whole or not at all; what a crash leaves of a half is written over by the next one.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let aside = file.with_extension("new");
    let mut options = OpenOptions::new();
    // Whose mail comes here is nobody else's matter.
    let mut new: File = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    std::fs::rename(&aside, file)
}
