//! What can go wrong, and whose fault it is.

use std::io;
use std::path::PathBuf;

use aegis_protocol::{Datatype, Shape, TensorError};

use crate::device::Device;

/// Says why a module was not loaded. The fault lies with the file or with the configuration; the
/// same call fails again until one of them changes.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be opened.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// The file in question.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// There is something else than a file: a folder, a pipe, a device.
    #[error("{} is not a regular file", .path.display())]
    NoFile {
        /// What was named.
        path: PathBuf,
    },
    /// The device is not there, or libtorch cannot use it.
    #[error("the device {device} is not available")]
    NoDevice {
        /// The device asked for.
        device: Device,
    },
    /// The file is no TorchScript, is damaged, or needs what this libtorch lacks.
    #[error("not a loadable TorchScript module: {message}")]
    Refused {
        /// One bounded line of libtorch's.
        message: String,
    },
}

/// Says why a run gave no outputs. The module can run again; a retry of the same inputs fails
/// again, unless the model or its device is at fault.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Libtorch has no kind for an input's datatype. The fault of whoever wrote the model's
    /// signature.
    #[error("input {index}: libtorch has no {datatype}")]
    InputDatatype {
        /// Which input, counted from 0.
        index: usize,
        /// Its datatype.
        datatype: Datatype,
    },
    /// An input's axis is longer than libtorch counts. The fault of the caller.
    #[error("input {index}: an axis of shape {shape} is longer than libtorch counts")]
    InputShape {
        /// Which input, counted from 0.
        index: usize,
        /// Its shape.
        shape: Shape,
    },
    /// The model threw, as for shapes that it cannot work with.
    #[error("the model failed: {message}")]
    Failed {
        /// One bounded line of libtorch's.
        message: String,
    },
    /// The model returned something else than a tensor, or a tuple or list of tensors.
    #[error("output {index}: expected a tensor, got {got}")]
    OutputNotTensor {
        /// Which output, counted from 0.
        index: usize,
        /// What it is.
        got: &'static str,
    },
    /// The model returned a tensor that the protocol cannot carry: complex, quantized or sparse.
    #[error("output {index}: the protocol cannot carry a tensor that is {kind}")]
    OutputKind {
        /// Which output, counted from 0.
        index: usize,
        /// Its kind, or its layout.
        kind: String,
    },
    /// The model returned bytes that are no tensor of their datatype.
    #[error("output {index}: not a tensor of the protocol")]
    OutputMalformed {
        /// Which output, counted from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: TensorError,
    },
}
