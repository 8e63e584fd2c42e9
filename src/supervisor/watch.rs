//! Notices that a file of the configuration changed. Reads none of them.
//!
//! Directories are watched, not files: editors rename, and a file that is written in pieces changes
//! several times. A burst is one change, told [`QUIET`] after its last event and at most [`LONGEST`]
//! after its first.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::message::{Handle, Message};
use crate::paths::Layout;

const QUIET: Duration = Duration::from_millis(300);
const LONGEST: Duration = Duration::from_millis(700);

/// The watcher; its drop ends it.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    wanted: [PathBuf; 3],
    watched: BTreeMap<PathBuf, (u64, u64)>,
}

impl Watch {
    /// Starts watching. Without inotify there is `tenantd reload`.
    pub(super) fn start(layout: &Layout, house: Handle) -> Self {
        // One place is enough: a change that finds it taken is part of the same burst.
        let (changed, changes) = mpsc::channel(1);
        let wanted = [layout.config.clone(), layout.tenants(), layout.templates()];
        let paths = wanted.clone();
        let heard = move |event: notify::Result<notify::Event>| {
            let matters = event.map_or(true, |event| {
                let here = event.paths.iter().any(|path| concerns(path, &paths));
                means_a_change(event.kind) && (here || event.paths.is_empty())
            });
            if matters {
                // Taken already: this is part of the same burst.
                let _ = changed.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(heard)
            .inspect_err(|error| {
                tracing::warn!("changes are not noticed, use tenantd reload: {error}")
            })
            .ok();
        tokio::task::spawn_local(settle(changes, house));
        let mut watch = Self { watcher, wanted, watched: BTreeMap::new() };
        watch.renew();
        watch
    }

    /// Watches what is there now: a directory may have been made, or made anew. Says whether that is
    /// something else than before; then there may have been changes that nobody saw.
    pub(super) fn renew(&mut self) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let there: BTreeMap<_, _> = self.wanted.iter().filter_map(|path| nearest(path)).collect();
        if there == self.watched {
            return false;
        }
        for path in self.watched.keys() {
            // A directory that is gone is not watched any more.
            let _ = watcher.unwatch(path);
        }
        for path in there.keys() {
            if let Err(error) = watcher.watch(path, RecursiveMode::NonRecursive) {
                tracing::warn!("changes in {} are not noticed: {error}", path.display());
            }
        }
        self.watched = there;
        true
    }
}

/// The directory, or the next above it that there is, in which it will appear; with its identity.
fn nearest(path: &Path) -> Option<(PathBuf, (u64, u64))> {
    path.ancestors().find_map(|path| {
        let meta = path.metadata().ok().filter(std::fs::Metadata::is_dir)?;
        Some((path.to_owned(), (meta.dev(), meta.ino())))
    })
}

/// Whether an event at `path` can be about what we want: in it, or something that leads to it.
fn concerns(path: &Path, wanted: &[PathBuf]) -> bool {
    wanted.iter().any(|wanted| path.starts_with(wanted) || wanted.starts_with(path))
}

/// Our own reading of the files is an event too, and no change.
fn means_a_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

async fn settle(mut changes: mpsc::Receiver<()>, house: Handle) {
    while changes.recv().await.is_some() {
        let latest = Instant::now() + LONGEST;
        loop {
            let until = latest.min(Instant::now() + QUIET);
            match timeout_at(until, changes.recv()).await {
                Ok(Some(())) if Instant::now() < latest => {}
                _ => break,
            }
        }
        if house.say(Message::Changed).await.is_err() {
            return;
        }
    }
}
