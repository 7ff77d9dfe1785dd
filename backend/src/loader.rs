//! Loads what the configuration names, in the background.
//!
//! One thread and one version after the other: loading is heavy on memory and cores, and versions
//! that are ready early answer early. The server listens meanwhile and says that it is not ready,
//! so that a probe sees a process that loads and not one that is not there. Then it does what is
//! [asked for](crate::control) at run time, in the order in which it is asked.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use crate::clock;
use crate::integrity::{Admitted, Weights};
use crate::model::{Factory, LoadError, scripted};
use crate::repository::{ModelSpec, Platform, TorchScript};
use crate::safety::GuardError;
use crate::served::{Models, Served, Standing};
use room::NoRoom;

mod change;
mod room;

/// The thread that loads.
#[derive(Debug)]
pub struct Loader {
    models: Arc<Models>,
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
    pub fn start(models: Arc<Models>) -> io::Result<Self> {
        let abandoned = Arc::new(AtomicBool::new(false));
        let (runs, running) = mpsc::channel();
        let loader = Self {
            models: Arc::clone(&models),
            abandoned: Arc::clone(&abandoned),
            running,
        };
        let work = move || {
            let _runs: mpsc::Sender<()> = runs;
            let unless_stopped = |_: &Arc<Served>| !abandoned.load(Ordering::Relaxed);
            for served in models.all().into_iter().take_while(unless_stopped) {
                // Room for what is configured is its owner's to give.
                load(&served, &models, &abandoned, |_, _| Ok(()));
                served.show();
            }
            change::serve(&models, &abandoned);
        };
        thread::Builder::new()
            .name("loader".to_owned())
            .spawn(work)?;
        Ok(loader)
    }

    /// Begins no other model, and warms the one that is being loaded no further.
    pub fn close(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.models.control().close();
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

/// A guard model cannot do what a model wants of it. The author's to mend.
#[derive(Debug, thiserror::Error)]
#[error("guard model `{model}`")]
struct GuardUnfit {
    model: String,
    source: GuardError,
}

/// Whether the guards of a model are served and take what they are given, as far as is known yet.
fn guards_fit(models: &Models, name: &str, spec: &ModelSpec) -> Result<(), GuardUnfit> {
    for guard in &spec.safety.guards {
        let unfit = |source| GuardUnfit {
            model: guard.model.clone(),
            source,
        };
        if guard.model == name {
            return Err(unfit(GuardError::Itself));
        }
        let found = models.find(&guard.model, guard.version.as_deref());
        let served = found.map_err(|_| unfit(GuardError::NotServed))?;
        // Where descriptions are verified first, it may not be known yet.
        if let Some(theirs) = served.spec() {
            let fits = guard.fits(&spec.signature, &theirs.signature);
            fits.map_err(unfit)?;
        }
    }
    Ok(())
}

/// Loads a version, unless that was decided already. `fits` says whether there is room for it, once it is
/// known what it is.
fn load(
    served: &Served,
    models: &Models,
    stopped: &Arc<AtomicBool>,
    fits: impl FnOnce(&ModelSpec, &Weights) -> Result<(), NoRoom>,
) {
    if served.standing() != Standing::Loading {
        return;
    }
    let pause = |time| models.control().stays_open(time);
    let gate = models.gate();
    match gate.admit(&served.name, &served.version, served.spec(), &pause) {
        Ok(admitted) => {
            let Admitted {
                spec,
                weights,
                provenance,
            } = admitted;
            if let Err(error) = guards_fit(models, &served.name, &spec) {
                served.fail(&error);
                return;
            }
            if let Err(error) = fits(&spec, &weights) {
                served.fail(&error);
                return;
            }
            served.admit(&spec, provenance);
            warn_of_too_many_threads(served, &spec);
            served.load(factory(&spec, weights), stopped);
        }
        Err(error) => served.fail(&error),
    }
}

/// More threads than the quota runs are throttled, all of them: slower than fewer would be. One
/// model's mistake is told; several models may take turns, which only their owner knows.
fn warn_of_too_many_threads(served: &Served, spec: &ModelSpec) {
    let Platform::TorchScript(how) = &spec.platform else {
        return;
    };
    let threads = spec.instances * usize::from(how.intra_op_threads);
    // Counts the quota of the cgroup, version 1 and 2, and the affinity.
    let processors = thread::available_parallelism().map_or(threads, usize::from);
    if threads > processors {
        tracing::warn!(
            model = served.name,
            version = served.version,
            "instances x intra_op_threads are {threads} threads on {processors} processors"
        );
    }
}

/// What makes the instances of what was admitted.
fn factory(spec: &ModelSpec, weights: Weights) -> Result<Factory, LoadError> {
    match (&spec.platform, weights) {
        (Platform::Scripted(script), _) => {
            Ok(scripted::factory(script.clone(), (*spec.signature).clone()))
        }
        (Platform::TorchScript(how), Weights::File(file)) => torchscript(file, how, spec),
        (Platform::TorchScript(how), Weights::Sealed(sealed)) => {
            let inner = torchscript(sealed.path(), how, spec)?;
            Ok(Arc::new(move || {
                // The path leads somewhere only while the sealed bytes live.
                let _alive = &sealed;
                inner()
            }))
        }
        (Platform::TorchScript(_), Weights::None) => Err(LoadError::NoWeights),
    }
}

#[cfg(feature = "torch")]
#[expect(clippy::unnecessary_wraps, reason = "without the feature it fails")]
fn torchscript(file: PathBuf, how: &TorchScript, spec: &ModelSpec) -> Result<Factory, LoadError> {
    let factory = crate::model::torch::factory;
    Ok(factory(file, how.clone(), &spec.signature))
}

#[cfg(not(feature = "torch"))]
fn torchscript(
    _file: PathBuf,
    _how: &TorchScript,
    _spec: &ModelSpec,
) -> Result<Factory, LoadError> {
    Err(LoadError::NoExecutor {
        platform: "torchscript",
    })
}
