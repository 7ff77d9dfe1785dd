//! The model repository: `NAME/model.toml` and what it says, checked.
//!
//! One file describes all versions of a model, because their signature is what clients rely on
//! when a split or a fallback sends them to another version. A version may have one of its own,
//! `NAME/VERSION/model.toml`, which then comes first: that is what a signature of the version's
//! folder covers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aegis_config::{ReadError, Rejected, load, read_file};
use aegis_protocol::ModelMetadata;

use crate::model::scripted::Script;
use crate::safety::Safety;
use crate::signature::Signature;

mod element;
mod raw;
#[cfg(test)]
mod tests;
mod validate;

pub use raw::*;

/// What `model.toml` says.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// What executes it.
    pub platform: Platform,
    /// What it takes and returns.
    pub signature: Arc<Signature>,
    /// The most rows that run together; 1 where the model does not batch.
    pub max_batch_rows: usize,
    /// The longest that a request may be held back for company.
    pub max_wait: Duration,
    /// Threads with a module of their own.
    pub instances: usize,
    /// Whether a run changes what later runs answer.
    pub stateful: bool,
    /// The longest that a run may take.
    pub run_timeout: Option<Duration>,
    /// What is checked in requests and answers.
    pub safety: Safety,
}

/// What executes a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Platform {
    /// `VERSION/model.pt`, with libtorch.
    TorchScript(TorchScript),
    /// A fake that computes nothing.
    Scripted(Script),
}

/// How libtorch runs a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorchScript {
    /// Where it runs: `cpu` or `cuda:N`.
    pub device: String,
    /// The method that requests call.
    pub method: String,
    /// Threads that an instance uses inside one operation, at least 1.
    pub intra_op_threads: u16,
}

/// Why a model's description cannot be used. The author's to mend.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file is wrong.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

/// The file that describes a version of a model: its own, where it has one, or that of the model.
#[must_use]
pub fn model_file(repository: &Path, name: &str, version: &str) -> PathBuf {
    let folder = repository.join(name);
    let own = folder.join(version).join("model.toml");
    if own.exists() {
        own
    } else {
        folder.join("model.toml")
    }
}

/// The file that holds a version's TorchScript.
#[must_use]
pub fn torchscript_file(repository: &Path, name: &str, version: &str) -> PathBuf {
    repository.join(name).join(version).join("model.pt")
}

// === impl ModelSpec ===

impl ModelSpec {
    /// Reads the description of a version from the repository.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or every fault in it.
    pub fn read(repository: &Path, name: &str, version: &str) -> Result<Self, SpecError> {
        let path = model_file(repository, name, version);
        let text = read_file(&path)?;
        Ok(Self::parse(&path.display().to_string(), &text)?)
    }

    /// Reads the text of `model.toml`.
    ///
    /// # Errors
    ///
    /// Every fault of the text.
    pub fn parse(origin: &str, text: &str) -> Result<Self, Rejected> {
        load(origin, text, |raw: RawModelFile, faults| {
            validate::validate(&raw, faults)
        })
    }

    /// The description as the protocol shows it.
    #[must_use]
    pub fn metadata(&self, name: &str, versions: &[String]) -> ModelMetadata {
        let show = |specs: &[crate::signature::TensorSpec]| {
            specs
                .iter()
                .map(crate::signature::TensorSpec::metadata)
                .collect()
        };
        ModelMetadata {
            name: name.to_owned(),
            versions: versions.to_vec(),
            platform: self.platform.name().to_owned(),
            inputs: show(&self.signature.inputs),
            outputs: show(&self.signature.outputs),
        }
    }
}

// === impl Platform ===

impl Platform {
    /// The name in `model.toml` and in metadata.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::TorchScript(_) => "torchscript",
            Self::Scripted(_) => "scripted",
        }
    }
}
