//! `pad_to`, `pad_with` and `unpad`: the lengths that inputs are filled up to, and outputs that follow them.

use aegis_config::{Faults, KeyPath};
use aegis_protocol::Datatype;

use super::super::raw::{RawInput, RawModelFile, RawValue};
use crate::signature::{Axis, Follows, Padding, Signature, TensorSpec};

/// Each is warmed up at every batch size.
const MAX_LENGTHS: usize = 16;

/// Completes a signature.
pub(super) fn complete(raw: &RawModelFile, signature: &mut Signature, faults: &mut Faults<'_>) {
    let batched = signature.batched;
    for (at, (raw, spec)) in raw.inputs.iter().zip(&mut signature.inputs).enumerate() {
        let path = KeyPath::from("inputs").index(at);
        if let Some(padding) = padding(raw, spec, batched, &path, faults) {
            spec.example = padding.lengths.last().copied().into_iter().collect();
            spec.padding = Some(padding);
        }
    }
    let Signature {
        inputs, outputs, ..
    } = signature;
    for (at, (raw, spec)) in raw.outputs.iter().zip(outputs).enumerate() {
        let Some(input) = &raw.unpad else {
            continue;
        };
        let path = KeyPath::from("outputs").index(at).key("unpad");
        let is_it = |spec: &TensorSpec| spec.name == *input && spec.padding.is_some();
        let Some(input) = inputs.iter().position(is_it) else {
            let message = format!("expected the name of an input with pad_to, got `{input}`");
            faults.at(path, message);
            continue;
        };
        if let Some(axis) = free_axis(spec, &path, faults) {
            spec.follows = Some(Follows { axis, input });
        }
    }
}

fn padding(
    raw: &RawInput,
    spec: &TensorSpec,
    batched: bool,
    path: &KeyPath,
    faults: &mut Faults<'_>,
) -> Option<Padding> {
    let key = path.key("pad_to");
    if raw.pad_to.is_empty() {
        if raw.pad_with.is_some() {
            faults.at(path.key("pad_with"), "only with pad_to");
        }
        return None;
    }
    if !batched || spec.is_plain() {
        return faults.refuse(key, "only for tensors of requests that run together");
    }
    if spec.datatype == Datatype::Bytes {
        return faults.refuse(key, "expected numbers or BOOL, got BYTES");
    }
    if !raw.warm_up.is_empty() {
        let message = "its lengths are warmed up: leave it out beside pad_to";
        return faults.refuse(path.key("warm_up"), message);
    }
    let lengths = raw.pad_to.clone();
    let ascends = lengths.is_sorted_by(|one, next| one < next);
    if !ascends || lengths.contains(&0) || lengths.len() > MAX_LENGTHS {
        let message =
            format!("expected at most {MAX_LENGTHS} sizes >= 1, each larger than the one before");
        return faults.refuse(key, message);
    }
    let axis = free_axis(spec, &key, faults)?;
    let Some(with) = element(spec.datatype, raw.pad_with.as_ref()) else {
        let message = format!("expected a value of {}", spec.datatype);
        return faults.refuse(path.key("pad_with"), message);
    };
    Some(Padding {
        axis,
        lengths,
        with,
    })
}

/// The one free axis beside the batch axis.
fn free_axis(spec: &TensorSpec, path: &KeyPath, faults: &mut Faults<'_>) -> Option<usize> {
    let beside = spec.axes.iter().enumerate().skip(1);
    let free: Vec<usize> = beside
        .filter(|(_, axis)| **axis == Axis::Free)
        .map(|(at, _)| at)
        .collect();
    if let [only] = free[..] {
        return Some(only);
    }
    let got = free.len();
    let message = format!("expected one free axis beside the batch axis, got {got}");
    faults.refuse(path.clone(), message)
}

/// One element in the raw encoding; none where it is no such value.
fn element(datatype: Datatype, value: Option<&RawValue>) -> Option<Vec<u8>> {
    let Some(value) = value else {
        return Some(vec![0; datatype.size()?]);
    };
    let mut raw = Vec::new();
    value.put(datatype, &mut raw)?;
    Some(raw)
}
