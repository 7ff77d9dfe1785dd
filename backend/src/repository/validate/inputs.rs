//! What `[[inputs]]` has beside `[[outputs]]`: plain arguments, and what libtorch cannot take whole.

use aegis_config::{Faults, KeyPath};
use aegis_protocol::{Datatype, Tensor, TensorError};

use super::super::raw::{RawInput, RawKind, RawValue};
use crate::signature::{Axis, Kind, Plain, TensorSpec};

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
    if batched && all && specs.iter().all(TensorSpec::is_plain) {
        let message = "a model that batches needs an input of kind `tensor`, whose rows are counted; \
                       for others set max_batch_size = 0";
        return faults.refuse("inputs", message);
    }
    all.then_some(specs)
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
    spec: &TensorSpec,
    raw: &RawInput,
    limited: bool,
    path: &KeyPath,
    faults: &mut Faults<'_>,
) -> Option<Kind> {
    let Some(datatype) = datatype(raw.kind) else {
        return tensor(spec, raw, limited, path, faults);
    };
    if !limited {
        return faults.refuse(path.key("kind"), "only with platform = \"torchscript\"");
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
    spec: &TensorSpec,
    raw: &RawInput,
    limited: bool,
    path: &KeyPath,
    faults: &mut Faults<'_>,
) -> Option<Kind> {
    for (key, given) in [("value", raw.value.is_some()), ("optional", raw.optional)] {
        if given {
            let message = "only with kind = \"int\", \"float\", \"bool\" or \"str\"";
            return faults.refuse(path.key(key), message);
        }
    }
    match spec.datatype {
        Datatype::Bytes if limited && spec.axes.len() != 1 => faults.refuse(
            path.key("shape"),
            "expected one axis: to TorchScript BYTES are a list of strings",
        ),
        Datatype::Bytes | Datatype::Uint64 if limited => Some(Kind::Limited),
        _ => Some(Kind::Tensor),
    }
}
