//! From the raw `model.toml` to a [`ModelSpec`].

use std::sync::Arc;
use std::time::Duration;

use aegis_config::{Faults, KeyPath};
use aegis_protocol::{Datatype, MAX_RANK};

use super::raw::{RawAnswer, RawInput, RawKind, RawModelFile, RawOutput, RawPlatform, RawScripted};
use super::{ModelSpec, Platform, TorchScript};
use crate::model::scripted::{Answer, Every, Script};
use crate::signature::{Axis, Signature, TensorSpec};

mod inputs;
mod lengths;
mod safety;

/// Warm-up runs every size up to it.
const MAX_BATCH_ROWS: usize = 1_024;

const DEFAULT_ROWS: usize = 8;
const DEFAULT_ROWS_ON_GPU: usize = 32;

/// More than any operation of a request gains from.
const MAX_INTRA_OP_THREADS: u16 = 256;

/// Each is a thread with a copy of the model.
const MAX_INSTANCES: usize = 256;

/// A minute; what waits longer than this for company is forgotten.
const MAX_WAIT_MS: u64 = 60_000;

/// A day.
const MAX_RUN_MS: u64 = 86_400_000;

/// The most bytes that a tensor of a warm-up batch may need, so that a mistyped shape is no abort.
const MAX_WARM_UP_BYTES: usize = 1 << 30;

/// Checks everything, and reports every fault.
pub(super) fn validate(raw: &RawModelFile, faults: &mut Faults<'_>) -> Option<ModelSpec> {
    let max_batch_size = raw.max_batch_size.unwrap_or_else(|| default_rows(raw));
    let batched = max_batch_size > 0;
    check_range("max_batch_size", max_batch_size, 0, MAX_BATCH_ROWS, faults);
    check_range("instances", raw.instances, 1, MAX_INSTANCES, faults);
    check_range("max_latency_ms", raw.max_latency_ms, 0, MAX_WAIT_MS, faults);
    check_range("run_timeout_ms", raw.run_timeout_ms, 0, MAX_RUN_MS, faults);
    check_stateful(raw, max_batch_size, faults);
    let limited = raw.platform == RawPlatform::TorchScript;
    let inputs = inputs::inputs(&raw.inputs, batched, limited, faults);
    let outputs: Vec<_> = raw.outputs.iter().map(RawInput::from).collect();
    let outputs = tensors("outputs", &outputs, batched, faults);
    let signature = inputs.zip(outputs);
    let mut signature = signature.map(|(inputs, outputs)| Signature {
        batched,
        inputs,
        outputs,
    });
    if let Some(signature) = &mut signature {
        lengths::complete(raw, signature, faults);
        check_warm_up(signature, max_batch_size.max(1), faults);
    }
    let platform = platform(raw, signature.as_ref(), faults);
    // Without a signature there is nothing to hold the checks to.
    let safety = signature
        .as_ref()
        .map(|known| safety::validate(&raw.safety, known, faults));
    Some(ModelSpec {
        platform: platform?,
        signature: Arc::new(signature?),
        max_batch_rows: max_batch_size.max(1),
        max_wait: Duration::from_millis(raw.max_latency_ms),
        run_timeout: (raw.run_timeout_ms > 0).then(|| Duration::from_millis(raw.run_timeout_ms)),
        instances: raw.instances,
        stateful: raw.stateful,
        safety: safety??,
    })
}

fn check_range<N: Copy + PartialOrd + std::fmt::Display>(
    key: &str,
    got: N,
    least: N,
    most: N,
    faults: &mut Faults<'_>,
) {
    if got < least || got > most {
        faults.at(
            key,
            format!("expected a number from {least} to {most}, got {got}"),
        );
    }
}

fn tensors(
    key: &str,
    raw: &[RawInput],
    batched: bool,
    faults: &mut Faults<'_>,
) -> Option<Vec<TensorSpec>> {
    let path = KeyPath::from(key);
    if raw.is_empty() && !faults.failed_near(&path) {
        return faults.refuse(path, format!("expected at least one [[{key}]]"));
    }
    let mut specs = Vec::with_capacity(raw.len());
    for (at, tensor) in raw.iter().enumerate() {
        let path = path.index(at);
        if raw[..at].iter().any(|other| other.name == tensor.name) {
            faults.at(
                path.key("name"),
                format!("`{}` is given twice", tensor.name),
            );
        }
        specs.push(self::tensor(tensor, batched, &path, faults));
    }
    specs.into_iter().collect()
}

fn tensor(
    raw: &RawInput,
    batched: bool,
    path: &KeyPath,
    faults: &mut Faults<'_>,
) -> Option<TensorSpec> {
    if raw.name.is_empty() {
        faults.at(path.key("name"), "expected a name, got none");
    }
    let datatype: Option<Datatype> = match raw.datatype.parse() {
        Ok(datatype) => Some(datatype),
        Err(error) => faults.refuse(path.key("datatype"), format!("{error}")),
    };
    let batched = batched && raw.kind == RawKind::Tensor;
    let axes = axes(&raw.shape, batched, &path.key("shape"), faults);
    if let Some(axes) = &axes {
        check_example(raw, axes, batched, &path.key("warm_up"), faults);
    }
    Some(TensorSpec {
        example: raw.warm_up.clone(),
        ..TensorSpec::new(&raw.name, datatype?, axes?)
    })
}

fn axes(
    shape: &[i64],
    batched: bool,
    path: &KeyPath,
    faults: &mut Faults<'_>,
) -> Option<Vec<Axis>> {
    if shape.len() > MAX_RANK {
        let got = shape.len();
        return faults.refuse(path, format!("expected at most {MAX_RANK} axes, got {got}"));
    }
    if batched && shape.first() != Some(&-1) {
        return faults.refuse(
            path,
            "expected -1, the batch axis, first; for a model that does not batch set \
             max_batch_size = 0",
        );
    }
    let mut axes = Vec::with_capacity(shape.len());
    for (at, &size) in shape.iter().enumerate() {
        axes.push(match (size, usize::try_from(size)) {
            (-1, _) => Some(Axis::Free),
            (1.., Ok(size)) => Some(Axis::Fixed(size)),
            _ => faults.refuse(
                path.index(at),
                format!("expected -1 or a size >= 1, got {size}"),
            ),
        });
    }
    axes.into_iter().collect()
}

fn check_example(
    raw: &RawInput,
    axes: &[Axis],
    batched: bool,
    path: &KeyPath,
    faults: &mut Faults<'_>,
) {
    let inner = axes.iter().skip(usize::from(batched));
    let free = inner.filter(|axis| **axis == Axis::Free).count();
    let got = raw.warm_up.len();
    if got > 0 && got != free {
        let message = format!("expected {free} sizes, one for each free inner axis, got {got}");
        faults.at(path, message);
    }
    if raw.warm_up.contains(&0) {
        faults.at(path, "expected sizes >= 1, got 0");
    }
}

fn check_warm_up(signature: &Signature, rows: usize, faults: &mut Faults<'_>) {
    for (key, specs) in [
        ("inputs", &signature.inputs),
        ("outputs", &signature.outputs),
    ] {
        for (at, spec) in specs.iter().enumerate() {
            let needs = spec.zeroed_bytes(signature.batched, rows);
            if needs.is_none_or(|bytes| bytes > MAX_WARM_UP_BYTES) {
                let path = KeyPath::from(key).index(at).key("shape");
                let message =
                    format!("a batch of {rows} rows needs more than {MAX_WARM_UP_BYTES} bytes");
                faults.at(path, message);
            }
        }
    }
}

fn platform(
    raw: &RawModelFile,
    signature: Option<&Signature>,
    faults: &mut Faults<'_>,
) -> Option<Platform> {
    match (raw.platform, &raw.scripted) {
        (RawPlatform::TorchScript, None) => {
            check_device(&raw.device, faults);
            check_method(&raw.method, faults);
            let threads = raw.intra_op_threads;
            check_range("intra_op_threads", threads, 1, MAX_INTRA_OP_THREADS, faults);
            Some(Platform::TorchScript(TorchScript {
                device: raw.device.clone(),
                method: raw.method.clone(),
                intra_op_threads: threads,
            }))
        }
        (RawPlatform::TorchScript, Some(_)) => {
            faults.refuse("scripted", "only with platform = \"scripted\"")
        }
        (RawPlatform::Scripted, scripted) => {
            let script = script(&scripted.unwrap_or_default(), faults)?;
            if let Some(signature) = signature
                && let Err(error) = script.answer.fits(signature)
            {
                faults.at(["scripted", "answer"], error.to_string());
            }
            Some(Platform::Scripted(script))
        }
    }
}

fn check_device(device: &str, faults: &mut Faults<'_>) {
    let number = device.strip_prefix("cuda:").map(str::parse::<u16>);
    if !matches!((device, number), ("cpu", _) | (_, Some(Ok(_)))) {
        faults.at("device", format!("expected cpu or cuda:N, got `{device}`"));
    }
}

/// A name as Python has them.
fn check_method(method: &str, faults: &mut Faults<'_>) {
    let begins = method.starts_with(|c: char| c.is_alphabetic() || c == '_');
    if !begins || !method.chars().all(|c| c.is_alphanumeric() || c == '_') {
        faults.at(
            "method",
            format!("expected the name of a method, got `{method}`"),
        );
    }
}

/// Rows of other requests, a second module and a run of zeros would all be in its memory.
fn check_stateful(raw: &RawModelFile, max_batch_size: usize, faults: &mut Faults<'_>) {
    if !raw.stateful {
        return;
    }
    if max_batch_size > 0 {
        let message = "a model with state does not batch: set max_batch_size = 0";
        faults.at("stateful", message);
    }
    if raw.instances != 1 {
        let got = raw.instances;
        let message = format!("a model with state has one instance, got instances = {got}");
        faults.at("stateful", message);
    }
}

/// A GPU has more to gain from a batch, and less to lose.
fn default_rows(raw: &RawModelFile) -> usize {
    if raw.device.starts_with("cuda") {
        DEFAULT_ROWS_ON_GPU
    } else {
        DEFAULT_ROWS
    }
}

fn script(raw: &RawScripted, faults: &mut Faults<'_>) -> Option<Script> {
    let batch = milliseconds("batch_ms", raw.batch_ms, faults);
    let row = milliseconds("row_ms", raw.row_ms, faults);
    Some(Script {
        batch: batch?,
        row: row?,
        answer: raw.answer.into(),
        fail_every: Every::new(raw.fail_every),
        fail_on: raw.fail_on,
        nan_every: Every::new(raw.nan_every),
        nan_on: raw.nan_on,
        hang_every: Every::new(raw.hang_every),
    })
}

fn milliseconds(key: &str, value: f64, faults: &mut Faults<'_>) -> Option<Duration> {
    const MAX: f64 = 3_600_000.0;
    if (0.0..=MAX).contains(&value) {
        return Some(Duration::from_secs_f64(value / 1000.0));
    }
    faults.refuse(
        ["scripted", key],
        format!("expected milliseconds from 0 to {MAX}, got {value}"),
    )
}

// === conversions ===

/// The two are checked alike.
impl From<&RawOutput> for RawInput {
    fn from(raw: &RawOutput) -> Self {
        let RawOutput {
            name,
            datatype,
            shape,
            unpad: _,
        } = raw.clone();
        Self {
            name,
            datatype,
            shape,
            ..Self::default()
        }
    }
}

impl From<RawAnswer> for Answer {
    fn from(raw: RawAnswer) -> Self {
        match raw {
            RawAnswer::Zeros => Self::Zeros,
            RawAnswer::Identity => Self::Identity,
            RawAnswer::Sum => Self::Sum,
        }
    }
}
