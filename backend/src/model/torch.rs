//! TorchScript, by way of `aegis-torch`.

use std::path::PathBuf;
use std::sync::Arc;

use aegis_protocol::Tensor;
use aegis_torch::{Device, Module};

use super::{Factory, LoadError, Model, ModelError};

/// A TorchScript module.
#[derive(Debug)]
pub struct Torch {
    module: Module,
}

/// Loads this file, once for each instance.
#[must_use]
pub fn factory(file: PathBuf, device: String) -> Factory {
    Arc::new(move || {
        let device: Device = device.parse().map_err(executor)?;
        let module = Module::load(&file, device).map_err(executor)?;
        Ok(Box::new(Torch { module }))
    })
}

// === impl Torch ===

impl Model for Torch {
    fn run(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        self.module
            .run(batch)
            .map_err(|error| ModelError::Executor(Box::new(error)))
    }
}

fn executor(error: impl std::error::Error + Send + Sync + 'static) -> LoadError {
    LoadError::Executor(Box::new(error))
}
