//! Values between the protocol's tensors and what TorchScript takes and returns.
//!
//! A tuple, a list and a named tuple (which arrives as a tuple) are taken apart in their order,
//! however deep they are nested. A number or a string becomes a tensor of one element, a list of
//! them a tensor of one axis. A dict has no order that one may rely on: its entries are found by
//! name, and only where it is what the method itself returns.

use aegis_protocol::{Datatype, Tensor, TensorError};
use tch::IValue;

use crate::call::{Argument, Expected};
use crate::error::RunError;
use crate::tensor::{from_torch, to_torch};

/// One thing that a method returned.
#[derive(Debug, Clone)]
pub struct Returned {
    /// Its key, where the method returned a dict of `str`.
    pub name: Option<String>,
    /// What it is.
    pub tensor: Tensor,
}

/// Makes an argument of a tensor. `index` is its place among the inputs.
pub(crate) fn to_value(
    index: usize,
    tensor: &Tensor,
    argument: Argument,
    device: tch::Device,
) -> Result<IValue, RunError> {
    match (argument, tensor.datatype()) {
        (Argument::Plain, _) => plain(index, tensor),
        (Argument::Optional, _) if tensor.element_count() == 0 => Ok(IValue::None),
        (Argument::Element { .. }, _) => {
            Ok(IValue::TensorList(vec![to_torch(index, tensor, device)?]))
        }
        (Argument::Tensor | Argument::Optional, Datatype::Bytes) => {
            texts(index, tensor).map(IValue::StringList)
        }
        (Argument::Tensor | Argument::Optional, _) => {
            to_torch(index, tensor, device).map(IValue::Tensor)
        }
    }
}

/// Adds an argument, or one more tensor to the list that is the last of them.
pub(crate) fn push(arguments: &mut Vec<IValue>, argument: Argument, value: IValue) {
    match (argument, arguments.last_mut(), value) {
        (
            Argument::Element { is_first: false },
            Some(IValue::TensorList(list)),
            IValue::TensorList(more),
        ) => list.extend(more),
        (_, _, value) => arguments.push(value),
    }
}

/// The one element of a tensor, as Python has it.
fn plain(index: usize, tensor: &Tensor) -> Result<IValue, RunError> {
    let not_plain = || RunError::InputNotPlain {
        index,
        datatype: tensor.datatype(),
        shape: tensor.shape().clone(),
    };
    if tensor.element_count() != 1 {
        return Err(not_plain());
    }
    let value = match tensor.datatype() {
        Datatype::Int64 => first(tensor.elements::<i64>()).map(IValue::Int),
        Datatype::Fp64 => first(tensor.elements::<f64>()).map(IValue::Double),
        Datatype::Bool => first(tensor.elements::<bool>()).map(IValue::Bool),
        Datatype::Bytes => texts(index, tensor)?.pop().map(IValue::String),
        _ => None,
    };
    value.ok_or_else(not_plain)
}

fn first<T>(elements: Result<impl Iterator<Item = T>, TensorError>) -> Option<T> {
    elements.ok()?.next()
}

/// The elements of a BYTES tensor. A list has one axis, and a `str` of libtorch's is UTF-8 and ends
/// at a NUL.
fn texts(index: usize, tensor: &Tensor) -> Result<Vec<String>, RunError> {
    if tensor.shape().len() > 1 {
        let shape = tensor.shape().clone();
        return Err(RunError::InputTextAxes { index, shape });
    }
    let strings = tensor.strings().into_iter().flatten().enumerate();
    strings
        .map(|(element, bytes)| {
            let text = String::from_utf8(bytes.into()).ok();
            text.filter(|text| !text.contains('\0'))
                .ok_or(RunError::InputNotText { index, element })
        })
        .collect()
}

/// The tensors in what a method returned, in the order of their declarations where there are some.
pub(crate) fn from_value(value: IValue, expected: &[Expected]) -> Result<Vec<Tensor>, RunError> {
    let mut outputs = Vec::with_capacity(expected.len());
    match value {
        IValue::GenericDict(entries) if !expected.is_empty() => {
            let mut entries: Vec<_> = entries.into_iter().map(Some).collect();
            for Expected { name, .. } in expected {
                take_apart(entry(&mut entries, name)?, &mut outputs)?;
            }
        }
        other => take_apart(other, &mut outputs)?,
    }
    for (index, (output, expected)) in outputs.iter_mut().zip(expected).enumerate() {
        if let Some(narrow) = narrowed(index, output, expected.datatype)? {
            *output = narrow;
        }
    }
    Ok(outputs)
}

/// All that a method returned, with the names that it has.
pub(crate) fn describe(value: IValue) -> Result<Vec<Returned>, RunError> {
    let mut tensors = Vec::new();
    let IValue::GenericDict(entries) = value else {
        take_apart(value, &mut tensors)?;
        let nameless = tensors.into_iter();
        return Ok(nameless
            .map(|tensor| Returned { name: None, tensor })
            .collect());
    };
    let mut returned = Vec::new();
    let mut entries: Vec<_> = entries.into_iter().map(Some).collect();
    let keys = entries.iter().flatten().filter_map(|(key, _)| match key {
        IValue::String(key) => Some(key.clone()),
        _ => None,
    });
    for key in keys.collect::<Vec<_>>() {
        take_apart(entry(&mut entries, &key)?, &mut tensors)?;
        returned.extend(tensors.pop().map(|tensor| Returned {
            name: Some(key),
            tensor,
        }));
    }
    Ok(returned)
}

/// Takes the entry of this name out of a dict.
fn entry(entries: &mut [Option<(IValue, IValue)>], name: &str) -> Result<IValue, RunError> {
    let is_it = |entry: &&mut Option<(IValue, IValue)>| match entry {
        Some((IValue::String(key), _)) => key == name,
        _ => false,
    };
    let found = entries.iter_mut().find(is_it).and_then(Option::take);
    let (_, value) = found.ok_or_else(|| RunError::OutputMissing {
        name: name.to_owned(),
    })?;
    match value {
        // A list would be several outputs, and only one has that name.
        IValue::Tuple(_) | IValue::TensorList(_) | IValue::GenericList(_) => {
            Err(RunError::OutputEntry {
                name: name.to_owned(),
                got: self::name(&value),
            })
        }
        one => Ok(one),
    }
}

fn take_apart(value: IValue, outputs: &mut Vec<Tensor>) -> Result<(), RunError> {
    let index = outputs.len();
    let of = |tensor: Result<Tensor, TensorError>| {
        tensor.map_err(|source| RunError::OutputMalformed { index, source })
    };
    outputs.push(match value {
        IValue::Tensor(tensor) => from_torch(index, &tensor)?,
        IValue::Int(one) => of(Tensor::from_i64([1], &[one]))?,
        IValue::Double(one) => of(Tensor::from_elements([1], &[one]))?,
        IValue::Bool(one) => of(Tensor::from_elements([1], &[one]))?,
        IValue::String(one) => of(Tensor::from_strings([1], &[one]))?,
        IValue::IntList(list) => of(Tensor::from_i64([list.len()], &list))?,
        IValue::DoubleList(list) => of(Tensor::from_elements([list.len()], &list))?,
        IValue::BoolList(list) => of(Tensor::from_elements([list.len()], &list))?,
        IValue::StringList(list) => of(Tensor::from_strings([list.len()], &list))?,
        IValue::TensorList(list) => {
            for tensor in list {
                let tensor = from_torch(outputs.len(), &tensor)?;
                outputs.push(tensor);
            }
            return Ok(());
        }
        // So `tch` hands out a list of strings.
        IValue::GenericList(values) if !values.is_empty() && values.iter().all(is_string) => {
            let strings: Vec<_> = values.into_iter().filter_map(string).collect();
            of(Tensor::from_strings([strings.len()], &strings))?
        }
        IValue::Tuple(values) | IValue::GenericList(values) => {
            for value in values {
                take_apart(value, outputs)?;
            }
            return Ok(());
        }
        other => {
            let got = name(&other);
            return Err(RunError::OutputNotTensor { index, got });
        }
    });
    Ok(())
}

fn is_string(value: &IValue) -> bool {
    matches!(value, IValue::String(_))
}

fn string(value: IValue) -> Option<String> {
    match value {
        IValue::String(text) => Some(text),
        _ => None,
    }
}

/// Integers as the unsigned ones that are declared; none where the tensor stays as it is.
fn narrowed(index: usize, tensor: &Tensor, to: Datatype) -> Result<Option<Tensor>, RunError> {
    if !matches!(to, Datatype::Uint16 | Datatype::Uint32 | Datatype::Uint64) {
        return Ok(None);
    }
    let malformed = |source| RunError::OutputMalformed { index, source };
    let values: Vec<i64> = match tensor.datatype() {
        Datatype::Int64 => tensor.elements::<i64>().map_err(malformed)?.collect(),
        Datatype::Int32 => {
            let values = tensor.elements::<i32>().map_err(malformed)?;
            values.map(i64::from).collect()
        }
        _ => return Ok(None),
    };
    let out_of_range = |value: i64| RunError::OutputRange {
        index,
        value,
        datatype: to,
    };
    let mut data = Vec::with_capacity(values.len() * to.size().unwrap_or(1));
    for value in values {
        let fits = match to {
            Datatype::Uint16 => u16::try_from(value).map(|value| data.extend(value.to_le_bytes())),
            Datatype::Uint32 => u32::try_from(value).map(|value| data.extend(value.to_le_bytes())),
            _ => u64::try_from(value).map(|value| data.extend(value.to_le_bytes())),
        };
        fits.map_err(|_| out_of_range(value))?;
    }
    let narrow = Tensor::new(to, tensor.shape().clone(), data);
    narrow.map(Some).map_err(malformed)
}

fn name(value: &IValue) -> &'static str {
    match value {
        IValue::None => "None",
        IValue::Tensor(_) => "a tensor",
        IValue::Double(_) => "a float",
        IValue::Int(_) => "an int",
        IValue::Bool(_) => "a bool",
        IValue::Tuple(_) => "a tuple",
        IValue::String(_) => "a string",
        IValue::GenericDict(_) => "a dict",
        IValue::Object(_) => "an object",
        IValue::Device(_) => "a device",
        _ => "a list",
    }
}
