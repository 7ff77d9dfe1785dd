//! What can go wrong, and whose fault it is.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

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
    /// Libtorch's part for GPUs is not there, or cannot be loaded.
    #[error("the device {device} needs libtorch's CUDA libraries, which cannot be loaded")]
    NoCuda {
        /// The device asked for.
        device: Device,
        /// What is missing.
        #[source]
        source: Arc<libloading::Error>,
    },
    /// The device is not there, or libtorch cannot use it.
    #[error("the device {device} is not available: libtorch sees {count} GPUs")]
    NoDevice {
        /// The device asked for.
        device: Device,
        /// How many there are.
        count: i64,
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
    /// A UINT64 is larger than libtorch counts. The fault of the caller.
    #[error("input {index}: expected a UINT64 up to 9223372036854775807, got {value}")]
    InputRange {
        /// Which input, counted from 0.
        index: usize,
        /// The first that is too large.
        value: u64,
    },
    /// A plain argument is not one element, or of a datatype that Python has no plain value for.
    #[error(
        "input {index}: expected one INT64, FP64, BOOL or BYTES, got {datatype} of shape {shape}"
    )]
    InputNotPlain {
        /// Which input, counted from 0.
        index: usize,
        /// Its datatype.
        datatype: Datatype,
        /// Its shape.
        shape: Shape,
    },
    /// Strings have more than one axis. The fault of whoever wrote the model's signature.
    #[error("input {index}: strings are a list, and cannot have the shape {shape}")]
    InputTextAxes {
        /// Which input, counted from 0.
        index: usize,
        /// Its shape.
        shape: Shape,
    },
    /// Bytes that TorchScript cannot hold as a `str`. The fault of the caller.
    #[error("input {index}: element {element} is no UTF-8 without NUL, as a string has to be")]
    InputNotText {
        /// Which input, counted from 0.
        index: usize,
        /// Which of its elements, counted from 0.
        element: usize,
    },
    /// An input's elements cannot be read.
    #[error("input {index}: not a tensor of the protocol")]
    InputMalformed {
        /// Which input, counted from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: TensorError,
    },
    /// A GPU failed such that this process cannot use it again: nothing runs until it is another
    /// process.
    #[error("the device is lost to this process: {message}")]
    DeviceBroken {
        /// One bounded line of libtorch's.
        message: String,
    },
    /// The model threw, as for shapes that it cannot work with.
    #[error("the model failed: {message}")]
    Failed {
        /// One bounded line of libtorch's.
        message: String,
    },
    /// The model returned something else than tensors, numbers and strings, and tuples and lists of
    /// them.
    #[error("output {index}: expected a tensor, got {got}")]
    OutputNotTensor {
        /// Which output, counted from 0.
        index: usize,
        /// What it is.
        got: &'static str,
    },
    /// The dict that the model returned lacks a declared name.
    #[error("output `{name}`: the dict that was returned has no such key")]
    OutputMissing {
        /// As declared.
        name: String,
    },
    /// An entry of the dict that the model returned is several outputs.
    #[error("output `{name}`: expected a tensor, a number or a string, got {got}")]
    OutputEntry {
        /// As declared.
        name: String,
        /// What it is.
        got: &'static str,
    },
    /// The model returned an integer that the declared datatype cannot hold.
    #[error("output {index}: {value} does not fit into {datatype}")]
    OutputRange {
        /// Which output, counted from 0.
        index: usize,
        /// The first that does not fit.
        value: i64,
        /// As declared.
        datatype: Datatype,
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
