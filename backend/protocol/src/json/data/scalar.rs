//! One scalar of JSON text as one element of a datatype.

use std::str::FromStr;

use crate::datatype::Datatype;
use crate::element::Element;
use crate::tensor;

/// The text of a JSON number, string, boolean or null.
#[derive(Clone, Copy)]
pub(super) struct Scalar<'a>(&'a str);

/// Why a scalar is no element.
#[derive(Clone, Copy)]
pub(super) enum Refusal {
    /// It is another kind of value, or out of the datatype's range.
    Kind,
    /// It is a number that the datatype can only hold as an infinity.
    NonFinite,
}

/// What an element of that datatype must be.
pub(super) const fn wanted(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Bool => "true or false",
        Datatype::Uint8 => "a whole number from 0 to 255 (UINT8)",
        Datatype::Uint16 => "a whole number from 0 to 65535 (UINT16)",
        Datatype::Uint32 => "a whole number from 0 to 4294967295 (UINT32)",
        Datatype::Uint64 => "a whole number from 0 to 18446744073709551615 (UINT64)",
        Datatype::Int8 => "a whole number from -128 to 127 (INT8)",
        Datatype::Int16 => "a whole number from -32768 to 32767 (INT16)",
        Datatype::Int32 => "a whole number from -2147483648 to 2147483647 (INT32)",
        Datatype::Int64 => {
            "a whole number from -9223372036854775808 to 9223372036854775807 (INT64)"
        }
        Datatype::Fp16 => "a number (FP16)",
        Datatype::Bf16 => "a number (BF16)",
        Datatype::Fp32 => "a number (FP32)",
        Datatype::Fp64 => "a number (FP64)",
        Datatype::Bytes => "a string (BYTES)",
    }
}

pub(super) fn boolean(scalar: Scalar<'_>, raw: &mut Vec<u8>) -> Result<(), Refusal> {
    match scalar.0 {
        "true" => raw.push(1),
        "false" => raw.push(0),
        _ => return Err(Refusal::Kind),
    }
    Ok(())
}

/// Takes whole numbers only: `1.0` and `1e2` are floats.
pub(super) fn integer<T: Element + FromStr>(
    scalar: Scalar<'_>,
    raw: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let value: T = scalar.0.parse().map_err(|_| Refusal::Kind)?;
    value.put(raw);
    Ok(())
}

/// Takes numbers, rounded to the nearest that the type holds.
pub(super) fn float<T: Element + FromStr + Into<f64>>(
    scalar: Scalar<'_>,
    raw: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let value: T = number(scalar)?;
    finite(value)?.put(raw);
    Ok(())
}

/// Takes numbers for a type that has no parser of its own, by way of `f64`.
pub(super) fn narrowed<T: Element + Into<f64>>(
    scalar: Scalar<'_>,
    raw: &mut Vec<u8>,
    narrow: impl Fn(f64) -> T,
) -> Result<(), Refusal> {
    finite(narrow(number(scalar)?))?.put(raw);
    Ok(())
}

pub(super) fn string(scalar: Scalar<'_>, raw: &mut Vec<u8>) -> Result<(), Refusal> {
    let inner = scalar
        .0
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let inner = inner.ok_or(Refusal::Kind)?;
    if inner.contains('\\') {
        // A lone surrogate is well-formed JSON and still no text.
        let text: String = serde_json::from_str(scalar.0).map_err(|_| Refusal::Kind)?;
        put_string(text.as_bytes(), raw)
    } else {
        put_string(inner.as_bytes(), raw)
    }
}

fn put_string(text: &[u8], raw: &mut Vec<u8>) -> Result<(), Refusal> {
    tensor::put_string(raw, text).map_err(|_| Refusal::Kind)
}

/// The standard parser rounds correctly, and takes all of JSON's numbers.
fn number<T: FromStr>(scalar: Scalar<'_>) -> Result<T, Refusal> {
    // It also takes `inf` and `nan`, so that words must be kept from it.
    if !scalar
        .0
        .starts_with(|first: char| first == '-' || first.is_ascii_digit())
    {
        return Err(Refusal::Kind);
    }
    scalar.0.parse().map_err(|_| Refusal::Kind)
}

fn finite<T: Copy + Into<f64>>(value: T) -> Result<T, Refusal> {
    if value.into().is_finite() {
        Ok(value)
    } else {
        Err(Refusal::NonFinite)
    }
}

// === impl Scalar ===

impl<'a> Scalar<'a> {
    /// Takes the scalar that begins `text`, which is well-formed JSON.
    pub(super) fn begin(text: &'a str) -> Self {
        let end = if text.starts_with('"') {
            string_end(text)
        } else {
            word_end(text)
        };
        Self(&text[..end])
    }

    pub(super) fn text(self) -> &'a str {
        self.0
    }

    pub(super) fn len(self) -> usize {
        self.0.len()
    }
}

fn word_end(text: &str) -> usize {
    let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
    text.as_bytes().iter().position(ends).unwrap_or(text.len())
}

/// One past the closing quote.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}
