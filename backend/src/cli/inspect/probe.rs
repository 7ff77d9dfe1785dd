//! What a model does, found out by running it.

use aegis_protocol::{Datatype, Shape, Tensor, TensorError};
use aegis_torch::Returned;
use half::f16;

use super::arguments::{Axes, Sent, What};
use crate::repository::RawValue;
use crate::safety::rows_of;

/// Runs the method once. Errors are one line.
pub(super) type Run<'a> = dyn Fn(&[Tensor]) -> Result<Vec<Returned>, String> + 'a;

/// The size that free axes take, but for the rows.
pub(super) const FREE: usize = 16;
/// Another one: axes of outputs that change with it are free, too.
const OTHER: usize = 17;
/// The rows of most runs.
const ROWS: usize = 3;
/// The most elements of an input: so many are enough to find out what a model does.
const MAX_ELEMENTS: usize = 16 << 20;
/// How far a row's numbers may lie from those that it gets alone, of 1 + their size: kernels for other
/// sizes round in another way.
const TOLERANCE: f32 = 1e-3;

/// What the runs have shown.
#[derive(Debug)]
pub(super) struct Behaviour {
    pub(super) outputs: Vec<Output>,
    /// Why rows cannot run together; none where they can.
    pub(super) alone: Option<String>,
    /// Whether the same inputs gave other answers.
    pub(super) stateful: bool,
    /// The rows that it ran on.
    pub(super) rows: usize,
}

/// One output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Output {
    /// Its key, where the method returned a dict.
    pub(super) name: Option<String>,
    pub(super) axes: Axes,
}

/// Whether the method runs on what is said of its arguments.
pub(super) fn runs(sent: &[Sent], run: &Run<'_>) -> bool {
    [ROWS, 1]
        .iter()
        .any(|rows| ran(sent, *rows, FREE, run).is_ok())
}

/// Tries what happens without each of the tensors that may be left out, by their types; where that fails, they may
/// not.
pub(super) fn leave_out(sent: &mut [Sent], run: &Run<'_>, notes: &mut Vec<String>) {
    for at in 0..sent.len() {
        let What::Tensor(Axes { datatype, .. }) = &sent[at].what else {
            continue;
        };
        if !sent[at].optional {
            continue;
        }
        let without = [ROWS, 1].iter().any(|rows| {
            let made = made(sent, *rows, FREE);
            made.is_ok_and(|mut inputs| {
                let nothing = Tensor::new(*datatype, [0], Vec::new());
                nothing.is_ok_and(|nothing| {
                    inputs[at] = nothing;
                    run(&inputs).is_ok()
                })
            })
        });
        if !without {
            notes.push(format!(
                "`{}` may be None by its type, and the model does not run so",
                sent[at].name
            ));
            sent[at].optional = false;
        }
    }
}

/// Runs the method until it is known.
///
/// # Errors
///
/// Why it does not run at all, by libtorch.
pub(super) fn probe(sent: &[Sent], run: &Run<'_>) -> Result<Behaviour, String> {
    let has_rows = has_rows(sent);
    let (rows, first, failed) = match ran(sent, ROWS, FREE, run) {
        Ok(first) => (ROWS, first, None),
        Err(failed) if has_rows => (1, ran(sent, 1, FREE, run)?, Some(failed)),
        Err(failed) => return Err(failed),
    };
    let again = ran(sent, rows, FREE, run)?;
    let stateful = !alike(&first, &again);
    let alone = if !has_rows {
        Some("not every tensor has a free first axis".to_owned())
    } else if stateful {
        Some(
            "the same inputs gave other answers: the module keeps state, or draws at random"
                .to_owned(),
        )
    } else if let Some(failed) = failed {
        Some(format!("it fails on {ROWS} rows: {failed}"))
    } else {
        mixed(sent, &first, run)?
    };
    // What fails on another size is not free, whatever is said of it; its outputs stay as they are.
    let other = ran(sent, rows, OTHER, run).unwrap_or_else(|_| first.clone());
    let more = if rows == 1 {
        None
    } else {
        ran(sent, ROWS - 1, FREE, run).ok()
    };
    let outputs = first.iter().enumerate().map(|(at, returned)| {
        let also = [other.get(at), more.as_ref().and_then(|more| more.get(at))];
        let sizes = returned.tensor.shape().iter().enumerate();
        let shape = sizes.map(|(axis, size)| {
            let moves = also
                .iter()
                .flatten()
                .any(|one| one.tensor.shape().get(axis) != Some(size));
            if moves {
                -1
            } else {
                i64::try_from(*size).unwrap_or(-1)
            }
        });
        Output {
            name: returned.name.clone(),
            axes: Axes {
                datatype: returned.tensor.datatype(),
                shape: shape.collect(),
            },
        }
    });
    Ok(Behaviour {
        outputs: outputs.collect(),
        alone,
        stateful,
        rows,
    })
}

/// Whether the first axis of every tensor may be the row.
fn has_rows(sent: &[Sent]) -> bool {
    let mut tensors = sent.iter().filter_map(|sent| match &sent.what {
        What::Tensor(axes) => Some(axes),
        What::Plain(_) | What::Unknown => None,
    });
    let free = |axes: &Axes| axes.shape.first() == Some(&-1);
    tensors.clone().next().is_some() && tensors.all(free)
}

/// Why rows that run together answer otherwise than alone; none where they do not.
fn mixed(sent: &[Sent], together: &[Returned], run: &Run<'_>) -> Result<Option<String>, String> {
    for (at, one) in together.iter().enumerate() {
        if one.tensor.rows() != Some(ROWS) {
            let shape = one.tensor.shape();
            return Ok(Some(format!(
                "output {at} has no row for each of {ROWS}: its shape is {shape}"
            )));
        }
    }
    let inputs = made(sent, ROWS, FREE)?;
    for row in 0..ROWS {
        let mut alone = Vec::with_capacity(inputs.len());
        for (input, sent) in inputs.iter().zip(sent) {
            alone.push(match sent.what {
                What::Plain(_) => input.clone(),
                What::Tensor(_) | What::Unknown => rows(input)?.swap_remove(row),
            });
        }
        let alone = match run(&alone) {
            Ok(alone) => alone,
            Err(failed) => return Ok(Some(format!("it fails on a single row: {failed}"))),
        };
        let of_row = together.iter().map(|one| {
            Ok(Returned {
                name: one.name.clone(),
                tensor: rows(&one.tensor)?.swap_remove(row),
            })
        });
        if !alike(&of_row.collect::<Result<Vec<_>, String>>()?, &alone) {
            return Ok(Some(
                "a row's answer depends on the rows beside it".to_owned(),
            ));
        }
    }
    Ok(None)
}

fn rows(tensor: &Tensor) -> Result<Vec<Tensor>, String> {
    tensor
        .split_rows(&[1; ROWS])
        .map_err(|error| error.to_string())
}

fn alike(one: &[Returned], other: &[Returned]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(one, other)| equal(&one.tensor, &other.tensor))
}

fn equal(one: &Tensor, other: &Tensor) -> bool {
    if one.datatype() != other.datatype() || one.shape() != other.shape() {
        return false;
    }
    let numbers = |tensor| rows_of(tensor, 1).map(|rows| rows.concat());
    match (numbers(one), numbers(other)) {
        (Some(one), Some(other)) => one.iter().zip(&other).all(|(one, other)| {
            one.total_cmp(other).is_eq() || (one - other).abs() <= TOLERANCE * (1.0 + one.abs())
        }),
        _ => one.data() == other.data(),
    }
}

fn ran(sent: &[Sent], rows: usize, free: usize, run: &Run<'_>) -> Result<Vec<Returned>, String> {
    run(&made(sent, rows, free)?)
}

/// Inputs of so many rows, with numbers that differ from row to row.
fn made(sent: &[Sent], rows: usize, free: usize) -> Result<Vec<Tensor>, String> {
    let made = sent.iter().map(|sent| match &sent.what {
        What::Tensor(axes) => tensor(axes, rows, free),
        What::Plain(value) => plain(value),
        What::Unknown => Tensor::from_f32([rows], &vec![0.0; rows]),
    });
    made.collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

fn plain(value: &RawValue) -> Result<Tensor, TensorError> {
    match value {
        RawValue::Int(value) => Tensor::from_i64([1], &[*value]),
        RawValue::Float(value) => Tensor::from_elements([1], &[*value]),
        RawValue::Bool(value) => Tensor::from_elements([1], &[*value]),
        RawValue::Str(value) => Tensor::from_strings([1], &[value]),
    }
}

fn tensor(axes: &Axes, rows: usize, free: usize) -> Result<Tensor, TensorError> {
    let sizes =
        axes.shape.iter().enumerate().map(|(axis, size)| {
            usize::try_from(*size).unwrap_or(if axis == 0 { rows } else { free })
        });
    let shape = Shape::from(sizes.collect::<Vec<usize>>());
    let count = shape.element_count().filter(|count| *count <= MAX_ELEMENTS);
    let Some(count) = count else {
        return Err(TensorError::TooManyElements { shape });
    };
    if axes.datatype == Datatype::Bytes {
        let texts: Vec<_> = (0..count).map(|at| format!("text {at}")).collect();
        return Tensor::from_strings(shape, &texts);
    }
    let mut raw = Vec::new();
    for at in 0..count {
        // From 0 to 1, in no order that a model could know.
        let part = f64::from(u32::try_from(at * 7919 % 1009).unwrap_or(0)) / 1009.0;
        let value = match axes.datatype {
            Datatype::Bool => RawValue::Bool(part > 0.5),
            Datatype::Fp32 => RawValue::Float(f16::from_f64(part).into()),
            float if float.is_float() => RawValue::Float(part),
            // Small enough for the index of any table.
            _ => RawValue::Int((part > 0.5).into()),
        };
        // All of these fit; were one left out, there would be too few bytes.
        let _ = value.put(axes.datatype, &mut raw);
    }
    Tensor::new(axes.datatype, shape, raw)
}
