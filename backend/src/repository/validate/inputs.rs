//! What `[[inputs]]` has beside `[[outputs]]`: plain arguments, and what libtorch cannot take whole.

use aegis_config::{Faults, KeyPath};
use aegis_protocol::{Datatype, Tensor, TensorError};

use super::super::raw::{RawInput, RawKind, RawValue};
use crate::signature::{Axis, Kind, Plain, TensorSpec};

/// Of what only libtorch knows.
const TORCHSCRIPT: &str = "only with platform = \"torchscript\"";

/// Checks them all. `limited` says that libtorch runs the model.
pub(super) fn inputs(
    raw: &[RawInput],
    batched: bool,
    limited: bool,
    faults: &mut Faults<'_>,
) -> Option<Vec<TensorSpec>> {
    // A plain one has the datatype and the shape of its kind, given or not.
    let completed: Vec<RawInput> = raw.iter().map(completed).collect();
    let mut specs = super::tensors("inputs", &completed, batched, faults)?;
    let mut all = true;
    for (at, (spec, raw)) in specs.iter_mut().zip(raw).enumerate() {
        let path = KeyPath::from("inputs").index(at);
        match kind(spec, raw, limited, &path, faults) {
            Some(kind) => spec.kind = kind,
            None => all = false,
        }
    }
    let counts = |spec: &TensorSpec| !spec.is_plain() && !spec.optional;
    if batched && all && !specs.iter().any(counts) {
        let message = "a model that batches needs an input of kind `tensor` that is not optional, whose rows are \
                       counted; for others set max_batch_size = 0";
        return faults.refuse("inputs", message);
    }
    check_lists(raw, faults);
    all.then_some(specs)
}

/// The elements of a list are one argument, and so have one place.
fn check_lists(raw: &[RawInput], faults: &mut Faults<'_>) {
    for (at, input) in raw.iter().enumerate() {
        let Some(list) = &input.list else {
            continue;
        };
        let before = at.checked_sub(1).map(|before| &raw[before].list);
        let is_first = before != Some(&input.list);
        let path = KeyPath::from("inputs").index(at).key("list");
        if list.is_empty() {
            faults.at(path, "expected the name of an argument, got nothing");
        } else if is_first && raw[..at].iter().any(|other| other.list == input.list) {
            let message = format!("the inputs of `{list}` must stand one after the other");
            faults.at(path, message);
        }
    }
}

/// The datatype of a plain kind.
fn datatype(kind: RawKind) -> Option<Datatype> {
    match kind {
        RawKind::Tensor => None,
        RawKind::Int => Some(Datatype::Int64),
        RawKind::Float => Some(Datatype::Fp64),
        RawKind::Bool => Some(Datatype::Bool),
        RawKind::Str => Some(Datatype::Bytes),
    }
}

fn completed(raw: &RawInput) -> RawInput {
    let mut completed = raw.clone();
    if let Some(datatype) = datatype(raw.kind) {
        if raw.datatype.is_empty() {
            datatype.name().clone_into(&mut completed.datatype);
        }
        if raw.shape.is_empty() {
            completed.shape = vec![1];
        }
    }
    completed
}

fn kind(
    spec: &mut TensorSpec,
    raw: &RawInput,
    limited: bool,
    path: &KeyPath,
    faults: &mut Faults<'_>,
) -> Option<Kind> {
    let Some(datatype) = datatype(raw.kind) else {
        return tensor(spec, raw, limited, path, faults);
    };
    if !limited {
        return faults.refuse(path.key("kind"), TORCHSCRIPT);
    }
    if raw.list.is_some() {
        return faults.refuse(path.key("list"), "only with kind = \"tensor\"");
    }
    if spec.datatype != datatype || spec.axes != [Axis::Fixed(1)] {
        let message = format!("expected {datatype} of shape [1], which both may be left out");
        return faults.refuse(path.key("kind"), message);
    }
    let value = match (raw.kind, raw.value.clone()) {
        (RawKind::Int, None) => RawValue::Int(0),
        (RawKind::Float, None) => RawValue::Float(0.0),
        (RawKind::Bool, None) => RawValue::Bool(false),
        (RawKind::Str | RawKind::Tensor, None) => RawValue::Str(String::new()),
        (_, Some(value)) => value,
    };
    if raw.optional && raw.value.is_none() {
        let message = "needs a `value`, for the requests that leave it out";
        return faults.refuse(path.key("optional"), message);
    }
    let Some(Ok(value)) = element(raw.kind, &value) else {
        let message = format!("expected a value of the kind, {datatype}");
        return faults.refuse(path.key("value"), message);
    };
    Some(Kind::Plain(Plain {
        value,
        optional: raw.optional,
    }))
}

/// A tensor of this one value; none where it is of another kind.
fn element(kind: RawKind, value: &RawValue) -> Option<Result<Tensor, TensorError>> {
    Some(match (kind, value) {
        (RawKind::Int, RawValue::Int(value)) => Tensor::from_i64([1], &[*value]),
        (RawKind::Float, RawValue::Float(value)) => Tensor::from_elements([1], &[*value]),
        (RawKind::Float, RawValue::Int(value)) => {
            let exact = i32::try_from(*value).ok()?;
            Tensor::from_elements([1], &[f64::from(exact)])
        }
        (RawKind::Bool, RawValue::Bool(value)) => Tensor::from_elements([1], &[*value]),
        (RawKind::Str, RawValue::Str(value)) if !value.contains('\0') => {
            Tensor::from_strings([1], &[value])
        }
        _ => return None,
    })
}

fn tensor(
    spec: &mut TensorSpec,
    raw: &RawInput,
    limited: bool,
    path: &KeyPath,
    faults: &mut Faults<'_>,
) -> Option<Kind> {
    if raw.value.is_some() {
        let message = "only with kind = \"int\", \"float\", \"bool\" or \"str\"";
        return faults.refuse(path.key("value"), message);
    }
    for (key, given) in [("optional", raw.optional), ("list", raw.list.is_some())] {
        if given && !limited {
            return faults.refuse(path.key(key), TORCHSCRIPT);
        }
    }
    if raw.list.is_some() && raw.optional {
        let message = "an element of a list cannot be left out";
        return faults.refuse(path.key("optional"), message);
    }
    if raw.list.is_some() && spec.datatype == Datatype::Bytes {
        let message = "expected numbers: a list of tensors holds no text";
        return faults.refuse(path.key("list"), message);
    }
    spec.optional = raw.optional;
    spec.list.clone_from(&raw.list);
    match spec.datatype {
        Datatype::Bytes if limited && spec.axes.len() != 1 => faults.refuse(
            path.key("shape"),
            "expected one axis: to TorchScript BYTES are a list of strings",
        ),
        Datatype::Bytes | Datatype::Uint64 if limited => Some(Kind::Limited),
        _ => Some(Kind::Tensor),
    }
}
