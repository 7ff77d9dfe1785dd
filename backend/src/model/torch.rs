//! TorchScript, by way of `aegis-torch`.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;

use aegis_protocol::Tensor;
use aegis_torch::{Argument, Call, Device, Expected, Module, RunError};

use super::{Factory, LoadError, Model, ModelError};
use crate::repository::TorchScript;
use crate::signature::Signature;

/// A TorchScript module, and how it is called.
#[derive(Debug)]
pub struct Torch {
    module: Module,
    call: Arc<Call>,
}

/// Loads this file, once for each instance.
#[must_use]
pub fn factory(file: PathBuf, how: TorchScript, signature: &Signature) -> Factory {
    let call = Arc::new(call(&how, signature));
    Arc::new(move || {
        let device: Device = how.device.parse().map_err(executor)?;
        let threads = NonZeroU16::new(how.intra_op_threads).unwrap_or(NonZeroU16::MIN);
        let module = Module::load(&file, device).map_err(executor)?;
        Ok(Box::new(Torch {
            module: module.with_threads(threads),
            call: Arc::clone(&call),
        }))
    })
}

fn call(how: &TorchScript, signature: &Signature) -> Call {
    let mut before = None;
    let arguments = signature.inputs.iter().map(|spec| {
        let is_first = std::mem::replace(&mut before, spec.list.as_ref()) != spec.list.as_ref();
        match &spec.list {
            Some(_) => Argument::Element { is_first },
            None if spec.is_plain() => Argument::Plain,
            None if spec.optional => Argument::Optional,
            None => Argument::Tensor,
        }
    });
    let results = signature.outputs.iter().map(|spec| Expected {
        name: spec.name.clone(),
        datatype: spec.datatype,
    });
    Call {
        method: how.method.clone(),
        arguments: arguments.collect(),
        results: results.collect(),
    }
}

// === impl Torch ===

impl Model for Torch {
    fn run(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        self.module.call(&self.call, batch).map_err(model_error)
    }
}

fn model_error(error: RunError) -> ModelError {
    match error {
        RunError::DeviceBroken { .. } => ModelError::Broken(error.to_string().into()),
        passing => ModelError::Executor(Box::new(passing)),
    }
}

fn executor(error: impl std::error::Error + Send + Sync + 'static) -> LoadError {
    LoadError::Executor(Box::new(error))
}
