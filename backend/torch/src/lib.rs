//! The only crate that links libtorch: loads TorchScript and runs it.
//!
//! In go tensors in the protocol's raw encoding, out come tensors in the same encoding; no type of
//! `tch` leaves this crate, so that nothing else depends on how models are executed.
//!
//! What holds for every call, whatever the model or the client does:
//!
//! - libtorch is asked only through functions that return errors. It copies as many bytes as a
//!   *shape* says without looking at how many there are; [`aegis_protocol::Tensor`] cannot hold a
//!   shape and bytes that disagree, which is why it is the only way in.
//! - An error message is cut to one bounded line ([`MAX_MESSAGE_CHARS`]): libtorch prints whole
//!   tensors, which are a client's data, into its messages.
//! - A call computes no gradients, and uses as many threads as its module was given.
//!
//! ```
//! use aegis_protocol::Tensor;
//! use aegis_torch::{Device, Module};
//! # use std::path::Path;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let module = Module::load(Path::new("../../config/models/digits/1/model.pt"), Device::Cpu)?;
//! let image = Tensor::from_f32([1, 64], &[0.0; 64])?;
//! let outputs = module.run(&[image])?;
//! assert_eq!(outputs[1].shape().to_string(), "[1,10]");
//! # Ok(())
//! # }
//! ```

pub mod archive;
mod call;
mod cuda;
mod datatype;
mod device;
mod error;
#[cfg(test)]
mod fixture;
mod message;
mod module;
pub mod program;
mod tensor;
mod threads;
mod value;

pub use crate::call::{Argument, Call, Expected, FORWARD};
pub use crate::device::{Device, UnknownDevice};
pub use crate::error::{LoadError, RunError};
pub use crate::message::MAX_MESSAGE_CHARS;
pub use crate::module::Module;
pub use crate::value::Returned;
