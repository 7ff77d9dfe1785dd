//! Hears that something happened to a file, by watching the folder that it is in.
//!
//! Watching the file itself would follow the inode: after a rename over it, or
//! a swap of the symlink `..data` that a mounted Kubernetes `ConfigMap` is behind,
//! the watch would sit on a file that nobody sees any more.
//!
//! What is heard is a hint, never more: it may come late, twice or not at all,
//! and whoever hears it reads the file and compares.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::sync::Notify;

/// Watches one file's folder for as long as it lives.
pub(super) struct Watch {
    /// Several hints that nobody has heard yet are one.
    hint: Arc<Notify>,
    _watcher: Option<RecommendedWatcher>,
}

// === impl Watch ===

impl Watch {
    pub(super) fn new(path: &Path) -> Self {
        let hint = Arc::new(Notify::new());
        let watcher = watch(path, &hint)
            .inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error, "cannot watch the folder; looking now and then instead");
            })
            .ok();
        Self {
            hint,
            _watcher: watcher,
        }
    }

    /// Waits for a hint.
    pub(super) async fn changed(&self) {
        self.hint.notified().await;
    }
}

fn watch(path: &Path, hint: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let name = path.file_name().unwrap_or_default().to_owned();
    let hint = Arc::clone(hint);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An error may stand for events that were lost.
        if event.is_err() || event.is_ok_and(|event| concerns(&event, &name)) {
            hint.notify_one();
        }
    })?;
    watcher.watch(&folder(path), RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Whether an event may have changed what the file says.
fn concerns(event: &Event, name: &OsStr) -> bool {
    if event.need_rescan() {
        return true;
    }
    match event.kind {
        // A writer that is done. The writes before it show half a file.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        // Reading the file is an event too: minding it would never end.
        EventKind::Modify(ModifyKind::Data(_)) | EventKind::Access(_) => return false,
        _ => {}
    }
    event.paths.iter().any(|path| {
        let file = path.file_name().unwrap_or_default();
        // `..data`, and the folders that it points to in turn.
        file == name || file.as_encoded_bytes().starts_with(b"..")
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use notify::{
        Event, EventKind,
        event::{AccessKind, AccessMode, CreateKind, DataChange, ModifyKind, RenameMode},
    };

    use super::concerns;

    fn hears(kind: EventKind, path: &str) -> bool {
        let event = Event::new(kind).add_path(path.into());
        concerns(&event, OsStr::new("proxy.toml"))
    }

    #[test]
    fn a_writer_is_heard_when_it_is_done_and_not_before() {
        let write = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let close = EventKind::Access(AccessKind::Close(AccessMode::Write));
        assert!(!hears(write, "/etc/aegis/proxy.toml"));
        assert!(hears(close, "/etc/aegis/proxy.toml"));
    }

    #[test]
    fn reading_the_file_is_not_heard() {
        for access in [
            AccessKind::Open(AccessMode::Any),
            AccessKind::Close(AccessMode::Read),
        ] {
            assert!(!hears(EventKind::Access(access), "/etc/aegis/proxy.toml"));
        }
    }

    #[test]
    fn swaps_are_heard_and_other_files_are_not() {
        let rename = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let create = EventKind::Create(CreateKind::Any);
        for name in ["proxy.toml", "..data", "..2024_01_01"] {
            assert!(hears(rename, name) && hears(create, name), "{name}");
        }
        assert!(!hears(rename, "other.toml") && !hears(create, "proxy.toml.swp"));
    }
}
