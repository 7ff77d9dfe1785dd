//! Tensors between the protocol's raw encoding and libtorch.
//!
//! Both are row-major and, on the processors that libtorch supports, little-endian: the bytes are
//! copied as they are, once in each direction. An input is copied, not borrowed, because a model
//! may write into its arguments and the bytes may be shared with other requests.

use aegis_protocol::Tensor;
use tch::{Device, Kind};

use crate::datatype::{from_kind, to_kind};
use crate::error::RunError;
use crate::message::brief;

/// Copies a tensor into libtorch's memory. `index` is its place among the inputs.
pub(crate) fn to_torch(
    index: usize,
    tensor: &Tensor,
    device: Device,
) -> Result<tch::Tensor, RunError> {
    let datatype = tensor.datatype();
    let kind = to_kind(datatype).ok_or(RunError::InputDatatype { index, datatype })?;
    let sizes = tensor
        .shape()
        .iter()
        .map(|&size| i64::try_from(size))
        .collect::<Result<Vec<_>, _>>();
    let Ok(sizes) = sizes else {
        return Err(RunError::InputShape {
            index,
            shape: tensor.shape().clone(),
        });
    };
    // The copy takes its length from the sizes; `Tensor` holds no other number of bytes.
    tch::Tensor::f_from_data_size(tensor.data(), &sizes, kind)
        .and_then(|copy| copy.f_to_device(device))
        .map_err(|error| failed(&error))
}

/// Copies a tensor out of libtorch's memory. `index` is its place among the outputs.
pub(crate) fn from_torch(index: usize, tensor: &tch::Tensor) -> Result<Tensor, RunError> {
    let kind = dense_kind(tensor).map_err(|kind| RunError::OutputKind { index, kind })?;
    let datatype = from_kind(kind).ok_or_else(|| RunError::OutputKind {
        index,
        kind: format!("of kind {kind:?}"),
    })?;
    let plain = plain(tensor).map_err(|error| failed(&error))?;
    // Sizes are never negative; a wrong one would not fit the bytes and be refused below.
    let axis = |size: i64| usize::try_from(size).unwrap_or(usize::MAX);
    let shape: Vec<usize> = plain.size().into_iter().map(axis).collect();
    let elements = plain.numel();
    let mut bytes = vec![0; elements * kind.elt_size_in_bytes()];
    plain
        .f_copy_data_u8(&mut bytes, elements)
        .map_err(|error| failed(&error))?;
    Tensor::new(datatype, shape, bytes)
        .map_err(|source| RunError::OutputMalformed { index, source })
}

/// The kind of a tensor that lies element by element in memory, or what it is instead.
fn dense_kind(tensor: &tch::Tensor) -> Result<Kind, String> {
    if !tensor.defined() {
        return Err("undefined".to_owned());
    }
    if tensor.is_sparse() || tensor.is_mkldnn() {
        return Err("sparse or opaque".to_owned());
    }
    tensor
        .f_kind()
        .map_err(|error| format!("of an {}", brief(&error)))
}

/// The same values, on the host, one after the other: views and lazy negation are carried out.
fn plain(tensor: &tch::Tensor) -> Result<tch::Tensor, tch::TchError> {
    tensor
        .f_resolve_neg()?
        .f_to_device(Device::Cpu)?
        .f_contiguous()
}

pub(crate) fn failed(error: &tch::TchError) -> RunError {
    RunError::Failed {
        message: brief(error),
    }
}
