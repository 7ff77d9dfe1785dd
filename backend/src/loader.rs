//! Loads what the configuration names, in the background.
//!
//! One thread and one version after the other: loading is heavy on memory and cores, and versions
//! that are ready early answer early. The server listens meanwhile and says that it is not ready,
//! so that a probe sees a process that loads and not one that is not there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use crate::clock;
use crate::model::{Factory, LoadError, scripted};
use crate::repository::{ModelSpec, Platform, torchscript_file};
use crate::served::{Models, Served};

/// The thread that loads.
#[derive(Debug)]
pub struct Loader {
    /// Set when nothing needs to be loaded any more.
    abandoned: Arc<AtomicBool>,
    /// Breaks when the thread ends.
    running: mpsc::Receiver<()>,
}

// === impl Loader ===

impl Loader {
    /// Starts loading.
    ///
    /// # Errors
    ///
    /// When the system has no more threads.
    pub fn start(models: Arc<Models>, repository: PathBuf) -> io::Result<Self> {
        let abandoned = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&abandoned);
        let (runs, running) = mpsc::channel();
        let load_all = move || {
            let _runs: mpsc::Sender<()> = runs;
            let unless_stopped = |_: &&Arc<Served>| !stopped.load(Ordering::Relaxed);
            for served in models.iter().take_while(unless_stopped) {
                if let Some(spec) = served.spec() {
                    served.load(factory(served, spec, &repository), &stopped);
                }
            }
        };
        thread::Builder::new()
            .name("loader".to_owned())
            .spawn(load_all)?;
        Ok(Self { abandoned, running })
    }

    /// Begins no other model, and warms the one that is being loaded no further.
    pub fn close(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// [Closes](Self::close), and waits at most until `deadline` for the one that is being loaded;
    /// says whether it is done.
    #[must_use]
    pub fn stop(&self, deadline: Instant) -> bool {
        self.close();
        let patience = deadline.saturating_duration_since(clock::now());
        self.running.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Disconnected)
    }
}

/// What makes the instances of this version.
fn factory(served: &Served, spec: &ModelSpec, repository: &Path) -> Result<Factory, LoadError> {
    match &spec.platform {
        Platform::TorchScript { device } => {
            let file = torchscript_file(repository, &served.name, &served.version);
            torchscript(file, device.clone())
        }
        Platform::Scripted(script) => {
            Ok(scripted::factory(script.clone(), (*spec.signature).clone()))
        }
    }
}

#[cfg(feature = "torch")]
#[expect(clippy::unnecessary_wraps, reason = "without the feature it fails")]
fn torchscript(file: PathBuf, device: String) -> Result<Factory, LoadError> {
    Ok(crate::model::torch::factory(file, device))
}

#[cfg(not(feature = "torch"))]
fn torchscript(_file: PathBuf, _device: String) -> Result<Factory, LoadError> {
    Err(LoadError::NoExecutor {
        platform: "torchscript",
    })
}
