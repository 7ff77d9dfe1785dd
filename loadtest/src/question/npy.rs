//! Requests from one `NumPy` array: each of its rows is one.
//!
//! The format is ten bytes, a Python literal with three members, and the data, so that it is read here:
//! the crates that do bring a parser of Python and arithmetic of any precision.
//!
//! Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::io::Read;
use std::path::Path;

use aegis_protocol::{Datatype, NamedTensor, Shape, Tensor};
use bytes::Bytes;

use super::{Asked, DEFAULT_INPUT, MAX_BYTES, MAX_QUESTIONS, Question, QuestionError, fit, lines};

/// What every file begins with.
const MAGIC: &[u8] = b"\x93NUMPY";

/// An array in the protocol's own encoding.
#[derive(Debug, PartialEq)]
struct Array {
    datatype: Datatype,
    shape: Vec<usize>,
    data: Bytes,
}

pub(super) fn read(path: &Path, asked: Asked<'_>) -> Result<Vec<Question>, QuestionError> {
    let failed = |problem: String| QuestionError::Array {
        path: path.to_owned(),
        problem,
    };
    let mut bytes = Vec::new();
    let read = lines::open(path)?.read_to_end(&mut bytes);
    read.map_err(|source| QuestionError::Read {
        path: path.to_owned(),
        source,
    })?;
    if bytes.len() as u64 >= MAX_BYTES {
        return Err(failed(format!("expected fewer than {MAX_BYTES} bytes")));
    }
    let array = Array::parse(&bytes.into()).map_err(failed)?;
    let target = super::input(path, asked)?;
    let name = target.as_ref().map_or(DEFAULT_INPUT, |input| &input.name);
    let name = asked.input.unwrap_or(name);
    let mut questions = Vec::new();
    let axes = target.as_ref().map(|input| input.shape.len());
    for (tensor, row) in array.rows(axes).map_err(failed)?.into_iter().zip(1..) {
        let inputs = vec![NamedTensor::new(name, tensor)];
        if let Some(input) = &target {
            let signature = std::slice::from_ref(input);
            fit::fit(&inputs, signature)
                .map_err(|misfit| failed(format!("row {row}: {misfit}")))?;
        }
        questions.push(Question::new(inputs, None));
    }
    Ok(questions)
}

// === impl Array ===

impl Array {
    fn parse(bytes: &Bytes) -> Result<Self, String> {
        let version = bytes
            .strip_prefix(MAGIC)
            .and_then(|rest| rest.first().copied());
        let (length, at): (usize, usize) = match (version, bytes.get(8..)) {
            (Some(1), Some(&[a, b, ..])) => (usize::from(u16::from_le_bytes([a, b])), 10),
            (Some(2 | 3), Some(&[a, b, c, d, ..])) => {
                (u32::from_le_bytes([a, b, c, d]) as usize, 12)
            }
            _ => return Err("expected a NumPy array (.npy, format 1 to 3)".to_owned()),
        };
        let head = bytes.get(at..at.saturating_add(length));
        let head = head.and_then(|head| std::str::from_utf8(head).ok());
        let head = head.ok_or("the header is cut off, or no text")?;
        let data = bytes.slice(at + length..);
        if !member(head, "fortran_order").is_some_and(|order| order.starts_with("False")) {
            return Err(
                "expected rows one after the other: save it with numpy.ascontiguousarray"
                    .to_owned(),
            );
        }
        let described = member(head, "descr").unwrap_or_default();
        let described = described.trim_start_matches(['\'', '"']);
        let code: String = described
            .chars()
            .take_while(|c| !matches!(c, '\'' | '"'))
            .collect();
        let datatype = datatype(&code).ok_or_else(|| {
            format!("expected bool, int, uint or float elements, little-endian, got dtype `{code}`")
        })?;
        let shape = member(head, "shape").and_then(sizes);
        let shape = shape.ok_or_else(|| "the header has no shape".to_owned())?;
        Ok(Self {
            datatype,
            shape,
            data,
        })
    }

    /// Each row as a tensor: of one row, unless the model takes as many axes as a row has.
    fn rows(&self, axes: Option<usize>) -> Result<Vec<Tensor>, String> {
        let Some((&rows, row)) = self.shape.split_first() else {
            return Err("expected an array of rows, got a scalar".to_owned());
        };
        if !(1..=MAX_QUESTIONS).contains(&rows) {
            return Err(format!("expected 1 to {MAX_QUESTIONS} rows, got {rows}"));
        }
        let shape = if axes == Some(row.len()) {
            row.to_vec()
        } else {
            [&[1], row].concat()
        };
        let elements = Shape::from(shape.as_slice()).element_count();
        let size = elements.and_then(|count| count.checked_mul(self.datatype.size()?));
        let size = size.filter(|size| size.checked_mul(rows) == Some(self.data.len()));
        let size =
            size.ok_or_else(|| format!("{} bytes of data do not fit the shape", self.data.len()))?;
        let rows = (0..rows).map(|row| {
            let data = self.data.slice(row * size..(row + 1) * size);
            Tensor::new(self.datatype, shape.clone(), data).map_err(|error| error.to_string())
        });
        rows.collect()
    }
}

/// What follows `'name':` in the header.
fn member<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let (_, rest) = head.split_once(&format!("'{name}':"))?;
    Some(rest.trim_start())
}

fn sizes(text: &str) -> Option<Vec<usize>> {
    let (inside, _) = text.strip_prefix('(')?.split_once(')')?;
    let sizes = inside
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty());
    sizes.map(|size| size.parse().ok()).collect()
}

fn datatype(code: &str) -> Option<Datatype> {
    Some(match code {
        "|b1" => Datatype::Bool,
        "|u1" => Datatype::Uint8,
        "<u2" => Datatype::Uint16,
        "<u4" => Datatype::Uint32,
        "<u8" => Datatype::Uint64,
        "|i1" => Datatype::Int8,
        "<i2" => Datatype::Int16,
        "<i4" => Datatype::Int32,
        "<i8" => Datatype::Int64,
        "<f2" => Datatype::Fp16,
        "<f4" => Datatype::Fp32,
        "<f8" => Datatype::Fp64,
        _ => return None,
    })
}
