//! Tensors between the protocol's raw encoding and libtorch.
//!
//! Both are row-major and, on the processors that libtorch supports, little-endian: the bytes are
//! copied as they are, once in each direction. An input is copied, not borrowed, because a model
//! may write into its arguments and the bytes may be shared with other requests. The only bytes that
//! change are those of UINT16 and UINT32, which `tch` has no kinds for.

use aegis_protocol::{Datatype, Tensor};
use tch::{Device, Kind};

use crate::cuda;
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
    let wide = widened(index, tensor)?;
    let data = wide.as_deref().unwrap_or_else(|| tensor.data());
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
    tch::Tensor::f_from_data_size(data, &sizes, kind)
        .and_then(|copy| copy.f_to_device(device))
        .map_err(|error| failed(&error))
}

/// The bytes of unsigned integers that libtorch lacks, as the signed ones that hold them; none for
/// any other datatype.
fn widened(index: usize, tensor: &Tensor) -> Result<Option<Vec<u8>>, RunError> {
    let malformed = |source| RunError::InputMalformed { index, source };
    let datatype = tensor.datatype();
    Ok(match datatype {
        Datatype::Uint16 => {
            let values = tensor.elements::<u16>().map_err(malformed)?;
            Some(
                values
                    .flat_map(|one| i32::from(one).to_le_bytes())
                    .collect(),
            )
        }
        Datatype::Uint32 => {
            let values = tensor.elements::<u32>().map_err(malformed)?;
            Some(
                values
                    .flat_map(|one| i64::from(one).to_le_bytes())
                    .collect(),
            )
        }
        Datatype::Uint64 => {
            let mut values = tensor.elements::<u64>().map_err(malformed)?;
            if let Some(value) = values.find(|&value| i64::try_from(value).is_err()) {
                return Err(RunError::InputRange { index, value });
            }
            // The values that both can hold have the same bytes in both.
            None
        }
        _ => None,
    })
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
    let message = brief(error);
    if cuda::is_broken(&message) {
        RunError::DeviceBroken { message }
    } else {
        RunError::Failed { message }
    }
}
