//! What executes a model, behind one small trait.
//!
//! Everything above (queue, batches, isolation of rows, HTTP) is written against [`Model`], so
//! that it builds and is tested without libtorch, and another runtime can follow. A model lives on
//! one thread, which also made it: runtimes keep thread-local state, and so no model needs to be
//! `Send`. What crosses threads is the [`Factory`].

use std::sync::Arc;

use aegis_protocol::Tensor;

use crate::signature::SignatureError;

pub mod scripted;
#[cfg(feature = "torch")]
pub mod torch;

/// Executes batches of one model version.
pub trait Model {
    /// Runs the inputs, in the order of the signature, and returns the outputs, in its order.
    ///
    /// Every tensor of a batching model is `[batch, ...]`, and row `i` of every output belongs to
    /// row `i` of every input. An input that the request left out has no elements.
    ///
    /// # Errors
    ///
    /// When the model could not compute these rows. Others may well succeed.
    fn run(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError>;

    /// Runs a batch of zeros before the model takes requests, so that code is compiled and memory
    /// is there. Differs from [`run`](Self::run) only in models that misbehave on purpose.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    fn warm_up(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        self.run(batch)
    }

    /// Whether a warm-up run takes as long as another.
    fn warm_up_tells_cost(&self) -> bool {
        true
    }
}

/// Makes one instance of a model, on the thread that will run it.
pub type Factory = Arc<dyn Fn() -> Result<Box<dyn Model>, LoadError> + Send + Sync>;

/// What an executor says, kept whole for the log. Executors keep their messages short and free of
/// tensors' contents: they reach clients.
pub type ExecutorError = Box<dyn std::error::Error + Send + Sync>;

/// Why a batch has no answer. The model's or its input's fault; the same rows will fail again.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The executor failed.
    #[error(transparent)]
    Executor(ExecutorError),
    /// The device under it works no more in this process. The instance is lost with it.
    #[error("the model cannot run again: {0}")]
    Broken(Arc<str>),
    /// The model answered something else than it declares.
    #[error("the model broke its signature")]
    Signature(#[source] SignatureError),
}

/// Why a model version cannot be served. A retry helps once its files were mended.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The executor could not make the model: its file is missing, corrupt or of another format.
    #[error(transparent)]
    Executor(ExecutorError),
    /// It loaded, but cannot run what its signature declares.
    #[error("cannot run a batch of {rows} zeroed rows")]
    WarmUp {
        /// Rows of the batch.
        rows: usize,
        /// How it failed.
        #[source]
        source: ModelError,
    },
    /// The server ends; nobody needs the model any more.
    #[error("abandoned while loading, because the server stops")]
    Abandoned,
    /// It took the thread down.
    #[error("instance {instance} panicked while loading")]
    Panicked {
        /// Which of the instances, from 0.
        instance: usize,
    },
    /// The system has no more threads.
    #[error("no thread for instance {instance}")]
    Thread {
        /// Which of the instances, from 0.
        instance: usize,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// There is nothing to load. A mistake of this program.
    #[error("no weights were handed out")]
    NoWeights,
    /// This program was built without that runtime.
    #[error("this build has no executor for platform `{platform}`")]
    NoExecutor {
        /// The platform that the model needs.
        platform: &'static str,
    },
}
