//! Numbers as a tensor of the datatype that a model takes.

use aegis_protocol::{Datatype, Element, Shape, Tensor, TensorMetadata};
use half::{bf16, f16};

use super::fit::{Misfit, expected};

/// One row of numbers as an input: `[1, …]` where the first axis is free.
pub(super) fn one(input: &TensorMetadata, numbers: &[f64]) -> Result<Tensor, Misfit> {
    let misfit = || Misfit::Other {
        name: input.name.clone(),
        expected: expected(input),
        got: format!("{} numbers", numbers.len()),
    };
    let shape = shape_of(&input.shape, numbers.len()).ok_or_else(misfit)?;
    tensor(input, shape, numbers)
}

/// A shape of so many elements in which free axes are 1, but for one that takes what is left over.
fn shape_of(signature: &[i64], elements: usize) -> Option<Shape> {
    let mut sizes: Vec<usize> = Vec::with_capacity(signature.len());
    for &size in signature {
        sizes.push(usize::try_from(size.max(1)).ok().filter(|_| size != 0)?);
    }
    let known: usize = sizes
        .iter()
        .try_fold(1_usize, |all, &size| all.checked_mul(size))?;
    let left = elements
        .checked_div(known)
        .filter(|left| left * known == elements)?;
    if left > 1 {
        // The last free axis, unless that is the rows: one row is one question.
        let free = signature
            .iter()
            .rposition(|&size| size < 0)
            .filter(|&axis| axis > 0)?;
        *sizes.get_mut(free)? = left;
    }
    Some(sizes.into())
}

/// The least and the largest number that an input's datatype holds and tells apart from all others; none of text.
pub(super) fn range(datatype: Datatype) -> Option<(f64, f64)> {
    // Beyond 2^53 a double is no exact whole number any more.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let even = |most: f64| Some((-most, most));
    match datatype {
        Datatype::Bool => Some((0.0, 1.0)),
        Datatype::Uint8 => Some((0.0, u8::MAX.into())),
        Datatype::Uint16 => Some((0.0, u16::MAX.into())),
        Datatype::Uint32 => Some((0.0, u32::MAX.into())),
        Datatype::Uint64 => Some((0.0, EXACT)),
        Datatype::Int8 => Some((i8::MIN.into(), i8::MAX.into())),
        Datatype::Int16 => Some((i16::MIN.into(), i16::MAX.into())),
        Datatype::Int32 => Some((i32::MIN.into(), i32::MAX.into())),
        Datatype::Int64 => even(EXACT),
        Datatype::Fp16 => even(f16::MAX.to_f64()),
        Datatype::Bf16 => even(bf16::MAX.to_f64()),
        Datatype::Fp32 => even(f32::MAX.into()),
        Datatype::Fp64 => even(f64::MAX),
        Datatype::Bytes => None,
    }
}

/// Numbers of a shape as an input's datatype.
pub(super) fn tensor(
    input: &TensorMetadata,
    shape: Shape,
    numbers: &[f64],
) -> Result<Tensor, Misfit> {
    match input.datatype {
        Datatype::Bool => exact(input, shape, numbers, |n| match n {
            0.0 => Some(false),
            1.0 => Some(true),
            _ => None,
        }),
        Datatype::Uint8 => exact(input, shape, numbers, whole::<u8>),
        Datatype::Uint16 => exact(input, shape, numbers, whole::<u16>),
        Datatype::Uint32 => exact(input, shape, numbers, whole::<u32>),
        Datatype::Uint64 => exact(input, shape, numbers, whole::<u64>),
        Datatype::Int8 => exact(input, shape, numbers, whole::<i8>),
        Datatype::Int16 => exact(input, shape, numbers, whole::<i16>),
        Datatype::Int32 => exact(input, shape, numbers, whole::<i32>),
        Datatype::Int64 => exact(input, shape, numbers, whole::<i64>),
        Datatype::Fp16 => exact(input, shape, numbers, |n| {
            Some(f16::from_f64(n)).filter(|half| half.is_finite())
        }),
        Datatype::Bf16 => exact(input, shape, numbers, |n| {
            Some(bf16::from_f64(n)).filter(|half| half.is_finite())
        }),
        #[expect(clippy::cast_possible_truncation, reason = "a nearest float is meant")]
        Datatype::Fp32 => exact(input, shape, numbers, |n| {
            Some(n as f32).filter(|float| float.is_finite())
        }),
        Datatype::Fp64 => exact(input, shape, numbers, Some),
        Datatype::Bytes => {
            let texts: Vec<_> = numbers.iter().map(f64::to_string).collect();
            Ok(Tensor::from_strings(shape, &texts)?)
        }
    }
}

fn whole<T: TryFrom<i64>>(number: f64) -> Option<T> {
    // Beyond 2^53 a double is no exact whole number any more.
    let is_whole = number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole, and bounded just before"
    )]
    is_whole.then_some(number as i64)?.try_into().ok()
}

fn exact<T: Element>(
    input: &TensorMetadata,
    shape: Shape,
    numbers: &[f64],
    convert: impl Fn(f64) -> Option<T>,
) -> Result<Tensor, Misfit> {
    let mut elements = Vec::with_capacity(numbers.len());
    for &got in numbers {
        let element = convert(got).ok_or_else(|| Misfit::Number {
            name: input.name.clone(),
            expected: expected(input),
            got,
        })?;
        elements.push(element);
    }
    Ok(Tensor::from_elements(shape, &elements)?)
}
