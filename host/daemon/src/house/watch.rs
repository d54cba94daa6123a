//! Tells when a file that the configuration names has changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// Editors write, rename and touch in a row: what happens within this time is one change.
const SETTLE: Duration = Duration::from_millis(25);

/// Watches the folders of a set of files: an editor that replaces a file makes a new one, which a watch on the old file
/// would not see.
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
    files: Arc<Mutex<BTreeSet<PathBuf>>>,
    changed: Arc<Notify>,
}

impl Watch {
    /// Watches nothing yet.
    pub(crate) fn new() -> Result<Self> {
        let files: Arc<Mutex<BTreeSet<PathBuf>>> = Arc::default();
        let changed = Arc::new(Notify::new());
        let (seen, signal) = (Arc::clone(&files), Arc::clone(&changed));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let Ok(event) = event else { return };
            let files = seen.lock().expect("nothing panics with this lock held");
            let concerns = event.paths.iter().any(|path| files.contains(path));
            if concerns && !matches!(event.kind, EventKind::Access(_)) {
                signal.notify_one();
            }
        })
        .context("can't watch files for changes")?;
        Ok(Self { watcher, folders: BTreeSet::new(), files, changed })
    }

    /// From now on, changes of these files count, and of no others.
    pub(crate) fn set(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let files: BTreeSet<PathBuf> =
            files.into_iter().filter_map(|file| std::path::absolute(file).ok()).collect();
        let folders: BTreeSet<PathBuf> =
            files.iter().filter_map(|file| file.parent().map(Path::to_owned)).collect();
        *self.files.lock().expect("nothing panics with this lock held") = files;
        for gone in self.folders.difference(&folders) {
            // A folder that was removed has no watch any more.
            self.watcher.unwatch(gone).ok();
        }
        for new in folders.difference(&self.folders) {
            if let Err(error) = self.watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %new.display(), %error, "changes in this folder go unseen; send SIGHUP after a change");
            }
        }
        self.folders = folders;
    }

    /// Waits for a change, and until it has settled.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
        while tokio::time::timeout(SETTLE, self.changed.notified()).await.is_ok() {}
    }
}
