//! A loaded TorchScript module.

use std::fs::{self, File};
use std::num::NonZeroU16;
use std::path::Path;

use aegis_protocol::Tensor;
use tch::{CModule, IValue, TchError};

use crate::call::{Argument, Call, Expected, FORWARD};
use crate::device::Device;
use crate::error::{LoadError, RunError};
use crate::message::brief;
use crate::tensor::failed;
use crate::threads;
use crate::value::{Returned, describe, from_value, push, to_value};

/// A TorchScript module on a device, ready to run.
///
/// It may be shared between threads, but a module that keeps state between calls would mix them:
/// give each worker its own. The first runs of each shape are far slower than later ones, because
/// libtorch specializes the program then; run every shape once before it matters.
#[derive(Debug)]
pub struct Module {
    inner: CModule,
    device: Device,
    threads: NonZeroU16,
}

// === impl Module ===

impl Module {
    /// Loads a TorchScript file onto a device.
    ///
    /// # Errors
    /// When the file cannot be read, is no TorchScript, or the device is not there.
    pub fn load(path: &Path, device: Device) -> Result<Self, LoadError> {
        check_readable(path)?;
        Self::load_with(device, |device| CModule::load_on_device(path, device))
    }

    /// Loads the bytes of a TorchScript file onto a device, as after they were verified.
    ///
    /// # Errors
    /// When the bytes are no TorchScript, or the device is not there.
    pub fn load_bytes(bytes: &[u8], device: Device) -> Result<Self, LoadError> {
        Self::load_with(device, |device| {
            CModule::load_data_on_device(&mut &*bytes, device)
        })
    }

    fn load_with(
        device: Device,
        load: impl FnOnce(tch::Device) -> Result<CModule, TchError>,
    ) -> Result<Self, LoadError> {
        device.prepare()?;
        let refused = |error: TchError| LoadError::Refused {
            message: brief(&error),
        };
        let mut inner = load(device.into()).map_err(refused)?;
        // A module saved while training would drop out units at random.
        inner.f_set_eval().map_err(refused)?;
        Ok(Self {
            inner,
            device,
            threads: NonZeroU16::MIN,
        })
    }

    /// Lets each run use so many threads inside an operation. One, when never called.
    #[must_use]
    pub fn with_threads(mut self, threads: NonZeroU16) -> Self {
        self.threads = threads;
        self
    }

    /// Where the module runs.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// Runs `forward` on the inputs, in the order of its arguments, and returns what it returns, taken
    /// apart: each tensor of a tuple or list. Blocks until the outputs are in host memory.
    ///
    /// # Errors
    /// When an input cannot enter libtorch, when the model throws, or when it returns what the
    /// protocol cannot carry.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        self.invoke(FORWARD, &[], &[], inputs)
    }

    /// Runs a method as it is declared, on an input for each of its arguments. Blocks as
    /// [`run`](Self::run) does.
    ///
    /// # Errors
    /// As for [`run`](Self::run), and when it returns other names or values than are declared.
    pub fn call(&self, call: &Call, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        self.invoke(&call.method, &call.arguments, &call.results, inputs)
    }

    /// Runs a method of which nothing is declared but how its arguments enter it, and returns what it
    /// returns with the names that it has. Blocks as [`run`](Self::run) does.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn describe(
        &self,
        method: &str,
        arguments: &[Argument],
        inputs: &[Tensor],
    ) -> Result<Vec<Returned>, RunError> {
        describe(self.returned(method, arguments, inputs)?)
    }

    /// The shapes of its parameters by their names, in the order in which it has them.
    ///
    /// # Errors
    /// When libtorch does not tell them.
    pub fn parameters(&self) -> Result<Vec<(String, Vec<i64>)>, LoadError> {
        let named = self.inner.named_parameters();
        let named = named.map_err(|error| LoadError::Refused {
            message: brief(&error),
        })?;
        let shapes = named
            .into_iter()
            .map(|(name, tensor)| (name, tensor.size()));
        Ok(shapes.collect())
    }

    fn invoke(
        &self,
        method: &str,
        arguments: &[Argument],
        results: &[Expected],
        inputs: &[Tensor],
    ) -> Result<Vec<Tensor>, RunError> {
        from_value(self.returned(method, arguments, inputs)?, results)
    }

    fn returned(
        &self,
        method: &str,
        arguments: &[Argument],
        inputs: &[Tensor],
    ) -> Result<IValue, RunError> {
        threads::ensure(self.threads);
        // Thread-local in libtorch, and cheap.
        let _no_grad = tch::no_grad_guard();
        let device = self.device.into();
        let mut values = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.iter().enumerate() {
            let argument = arguments.get(index).copied().unwrap_or_default();
            push(
                &mut values,
                argument,
                to_value(index, input, argument, device)?,
            );
        }
        let returned = if method == FORWARD {
            self.inner.forward_is(&values)
        } else {
            self.inner.method_is(method, &values)
        };
        returned.map_err(|error| failed(&error))
    }
}

/// Refuses what libtorch has no short words for (its message begins with its source lines), and
/// what it would wait for, such as a pipe that nobody writes to.
fn check_readable(path: &Path) -> Result<(), LoadError> {
    let unreadable = |source| LoadError::Unreadable {
        path: path.to_owned(),
        source,
    };
    // Before it is opened: to open a pipe is to wait for its writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(LoadError::NoFile {
            path: path.to_owned(),
        });
    }
    File::open(path).map_err(unreadable)?;
    Ok(())
}

#[cfg(test)]
mod tests;
