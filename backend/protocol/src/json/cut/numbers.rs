//! A list of numbers as the raw encoding, in one pass.
//!
//! The list is flat, or nested exactly as the shape has axes; nothing else is taken, and no reason given.

use half::{bf16, f16};

use super::number::{Number, behind, spaces};
use crate::datatype::Datatype;
use crate::shape::Shape;

/// Reads a list that holds the elements of a tensor, and ends where the text does.
pub(super) fn read(text: &[u8], datatype: Datatype, shape: &Shape) -> Option<Vec<u8>> {
    match datatype {
        Datatype::Uint8 => whole::<u8>(text, shape),
        Datatype::Uint16 => whole::<u16>(text, shape),
        Datatype::Uint32 => whole::<u32>(text, shape),
        Datatype::Uint64 => whole::<u64>(text, shape),
        Datatype::Int8 => whole::<i8>(text, shape),
        Datatype::Int16 => whole::<i16>(text, shape),
        Datatype::Int32 => whole::<i32>(text, shape),
        Datatype::Int64 => whole::<i64>(text, shape),
        Datatype::Fp16 => whole::<f16>(text, shape),
        Datatype::Bf16 => whole::<bf16>(text, shape),
        Datatype::Fp32 => whole::<f32>(text, shape),
        Datatype::Fp64 => whole::<f64>(text, shape),
        Datatype::Bool | Datatype::Bytes => None,
    }
}

fn whole<T: Number>(text: &[u8], shape: &Shape) -> Option<Vec<u8>> {
    let elements = shape.element_count()?;
    // A shape can claim anything; an element takes two bytes of text at least, with its comma.
    if elements > text.len() / 2 {
        return None;
    }
    let mut raw = Vec::with_capacity(elements * T::SIZE);
    let is_nested = spaces(behind(text, b'[')?).first() == Some(&b'[');
    let rest = if is_nested {
        nested::<T>(text, shape, &mut raw)?
    } else {
        flat::<T>(text, elements, &mut raw)?
    };
    rest.is_empty().then_some(raw)
}

/// Reads lists in lists, as deep as there are axes. Returns what follows.
fn nested<'a, T: Number>(text: &'a [u8], axes: &[usize], raw: &mut Vec<u8>) -> Option<&'a [u8]> {
    match axes {
        [] => None,
        [size] => flat::<T>(text, *size, raw),
        [size, inner @ ..] => list(text, *size, |text| nested::<T>(text, inner, raw)),
    }
}

fn flat<'a, T: Number>(text: &'a [u8], size: usize, raw: &mut Vec<u8>) -> Option<&'a [u8]> {
    list(text, size, |text| {
        let (value, rest) = T::read(text)?;
        value.put(raw);
        Some(rest)
    })
}

/// Reads a list of so many items. Returns what follows.
#[inline]
fn list<'a>(
    text: &'a [u8],
    size: usize,
    mut item: impl FnMut(&'a [u8]) -> Option<&'a [u8]>,
) -> Option<&'a [u8]> {
    let mut text = behind(text, b'[')?;
    for at in 0..size {
        if at > 0 {
            text = behind(text, b',')?;
        }
        text = item(spaces(text))?;
    }
    behind(text, b']')
}
