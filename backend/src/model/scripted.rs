//! A model that computes nothing and misbehaves as told.
//!
//! It ships in the program (`platform = "scripted"` in `model.toml`), because breakers, fallbacks
//! and drains want to be tried against a server that is slow, fails, answers NaN or hangs on
//! demand, and a real model does none of that when asked. What goes wrong is a matter of counting
//! runs or of a value in the input, never of chance, so that a trial repeats exactly.
//!
//! A failed batch of several requests is run again one by one, and each of those runs counts.

use std::sync::Arc;
use std::time::Duration;

use aegis_protocol::{Datatype, Tensor, TensorError};
use bytes::Bytes;

use super::{Factory, LoadError, Model, ModelError};
use crate::clock;
use crate::signature::{Axis, Signature, TensorSpec};

#[cfg(test)]
mod tests;

/// What a scripted model does.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// Time that every run takes.
    pub batch: Duration,
    /// Time that every row adds.
    pub row: Duration,
    /// What it answers.
    pub answer: Answer,
    /// Throws at every Nth run.
    pub fail_every: Option<Every>,
    /// Throws when an `FP32` input holds this value.
    pub fail_on: Option<f32>,
    /// Answers NaN in every floating-point output at every Nth run.
    pub nan_every: Option<Every>,
    /// Answers NaN in the rows whose `FP32` inputs hold this value.
    pub nan_on: Option<f32>,
    /// Never returns from every Nth run.
    pub hang_every: Option<Every>,
}

/// A period of runs, at least 1.
pub type Every = std::num::NonZeroU64;

/// What a scripted model answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// Zeros of the declared outputs, so that any signature can be imitated.
    #[default]
    Zeros,
    /// Output `i` is input `i`.
    Identity,
    /// One `FP32` output: the sum of each row over all `FP32` inputs.
    Sum,
}

/// The model.
#[derive(Debug)]
pub struct Scripted {
    script: Script,
    signature: Signature,
    runs: u64,
}

/// Why a script does not fit a signature. The author's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// `identity` needs as many outputs as inputs, of the same datatypes and shapes.
    #[error("`identity` needs outputs that equal the inputs in number, datatype and shape")]
    Identity,
    /// `sum` needs FP32 inputs and one FP32 output with one element a row.
    #[error("`sum` needs FP32 inputs and one FP32 output of shape [-1] or [-1,1]")]
    Sum,
    /// `zeros` has to know the sizes of its outputs.
    #[error("`zeros` needs outputs whose only free axis is the batch axis")]
    Zeros,
}

/// A failure that the script asked for.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ScriptedFault {
    /// By count.
    #[error("scripted to fail at run {run}")]
    Run {
        /// Which run, from 1.
        run: u64,
    },
    /// By value.
    #[error("scripted to fail on the value {value}")]
    Value {
        /// The value that an input holds.
        value: f32,
    },
}

/// Makes scripted models, each with a count of runs of its own.
#[must_use]
pub fn factory(script: Script, signature: Signature) -> Factory {
    Arc::new(
        move || match Scripted::new(script.clone(), signature.clone()) {
            Ok(model) => Ok(Box::new(model)),
            Err(error) => Err(LoadError::Executor(Box::new(error))),
        },
    )
}

// === impl Script ===

/// Answers zeros at once and never fails.
impl Default for Script {
    fn default() -> Self {
        Self {
            batch: Duration::ZERO,
            row: Duration::ZERO,
            answer: Answer::default(),
            fail_every: None,
            fail_on: None,
            nan_every: None,
            nan_on: None,
            hang_every: None,
        }
    }
}

// === impl Answer ===

impl Answer {
    /// Whether a model of this signature can answer so.
    ///
    /// # Errors
    ///
    /// What the signature lacks.
    pub fn fits(self, signature: &Signature) -> Result<(), ScriptError> {
        let Signature {
            inputs,
            outputs,
            batched,
        } = signature;
        let free_axes = |spec: &TensorSpec| {
            let axes = spec.axes.iter().skip(usize::from(*batched));
            axes.filter(|axis| **axis == Axis::Free).count()
        };
        match self {
            Self::Zeros if outputs.iter().any(|spec| free_axes(spec) > 0) => {
                Err(ScriptError::Zeros)
            }
            Self::Identity if !same_tensors(inputs, outputs) => Err(ScriptError::Identity),
            Self::Sum if !is_sum(signature) => Err(ScriptError::Sum),
            Self::Zeros | Self::Identity | Self::Sum => Ok(()),
        }
    }
}

fn same_tensors(inputs: &[TensorSpec], outputs: &[TensorSpec]) -> bool {
    let same = |(a, b): (&TensorSpec, &TensorSpec)| a.datatype == b.datatype && a.axes == b.axes;
    inputs.len() == outputs.len() && inputs.iter().zip(outputs).all(same)
}

fn is_sum(signature: &Signature) -> bool {
    let is_fp32 = |spec: &TensorSpec| spec.datatype == Datatype::Fp32;
    let one_a_row = |spec: &TensorSpec| {
        matches!(
            spec.axes.as_slice(),
            [Axis::Free] | [Axis::Free, Axis::Fixed(1)]
        )
    };
    signature.batched
        && signature.inputs.iter().all(is_fp32)
        && matches!(signature.outputs.as_slice(), [only] if is_fp32(only) && one_a_row(only))
}

// === impl Scripted ===

impl Scripted {
    /// A model of this signature that does what the script says.
    ///
    /// # Errors
    ///
    /// When the script's [`Answer`] does not fit the signature.
    pub fn new(script: Script, signature: Signature) -> Result<Self, ScriptError> {
        script.answer.fits(&signature)?;
        Ok(Self {
            script,
            signature,
            runs: 0,
        })
    }

    fn is_time(&self, every: Option<Every>) -> bool {
        every.is_some_and(|every| self.runs.is_multiple_of(every.get()))
    }

    /// Rows of a batch; what does not batch is one row.
    fn rows(&self, batch: &[Tensor]) -> usize {
        let rows = batch.first().and_then(Tensor::rows);
        rows.filter(|_| self.signature.batched).unwrap_or(1)
    }

    fn work(&self, rows: usize) -> Duration {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        self.script
            .batch
            .saturating_add(self.script.row.saturating_mul(rows))
    }

    fn fault(&self, batch: &[Tensor]) -> Option<ScriptedFault> {
        if self.is_time(self.script.fail_every) {
            return Some(ScriptedFault::Run { run: self.runs });
        }
        let value = self.script.fail_on?;
        let held = rows_with(value, batch, self.rows(batch)).next().is_some();
        held.then_some(ScriptedFault::Value { value })
    }

    fn rows_to_spoil(&self, batch: &[Tensor]) -> Vec<usize> {
        let rows = self.rows(batch);
        match self.script.nan_on {
            _ if self.is_time(self.script.nan_every) => (0..rows).collect(),
            Some(value) => rows_with(value, batch, rows).collect(),
            None => Vec::new(),
        }
    }

    fn answer(&self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        match self.script.answer {
            Answer::Zeros => Ok(self.zeros(self.rows(batch))),
            Answer::Identity => Ok(batch.to_vec()),
            Answer::Sum => Ok(vec![self.sums(batch)?]),
        }
    }

    fn zeros(&self, rows: usize) -> Vec<Tensor> {
        let outputs = Signature {
            batched: self.signature.batched,
            inputs: self.signature.outputs.clone(),
            outputs: Vec::new(),
        };
        outputs.zeros(rows).tensors
    }

    fn sums(&self, batch: &[Tensor]) -> Result<Tensor, ModelError> {
        let rows = self.rows(batch);
        let mut sums = vec![0.0_f32; rows];
        for tensor in batch {
            let row = elements_per_row(tensor, rows);
            for (at, value) in tensor.elements::<f32>().map_err(threw)?.enumerate() {
                sums[at / row] += value;
            }
        }
        let mut shape = vec![rows];
        let declared = self
            .signature
            .outputs
            .first()
            .map_or(1, |spec| spec.axes.len());
        shape.resize(declared, 1);
        Tensor::from_f32(shape, &sums).map_err(threw)
    }
}

impl Model for Scripted {
    fn run(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        self.runs += 1;
        let work = self.work(self.rows(batch));
        if !work.is_zero() {
            clock::sleep(work);
        }
        if self.is_time(self.script.hang_every) {
            hang();
        }
        if let Some(fault) = self.fault(batch) {
            return Err(ModelError::Executor(Box::new(fault)));
        }
        let answer = self.answer(batch)?;
        match self.rows_to_spoil(batch).as_slice() {
            [] => Ok(answer),
            rows => Ok(answer
                .into_iter()
                .map(|tensor| spoilt(tensor, rows))
                .collect()),
        }
    }

    /// Faults and delays are for requests: a model that is told to fail must still come up.
    fn warm_up(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        self.answer(batch)
    }

    /// It takes no time.
    fn warm_up_tells_cost(&self) -> bool {
        false
    }
}

fn threw(error: TensorError) -> ModelError {
    ModelError::Executor(Box::new(error))
}

fn elements_per_row(tensor: &Tensor, rows: usize) -> usize {
    (tensor.element_count() / rows.max(1)).max(1)
}

/// The rows in which an `FP32` input holds `value`.
fn rows_with(value: f32, batch: &[Tensor], rows: usize) -> impl Iterator<Item = usize> {
    batch.iter().flat_map(move |tensor| {
        let row = elements_per_row(tensor, rows);
        let values = tensor.elements::<f32>().into_iter().flatten().enumerate();
        let equal = values.filter(move |(_, got)| got.to_bits() == value.to_bits());
        equal.map(move |(at, _)| at / row)
    })
}

/// The tensor with NaN in these rows, where its datatype has NaN.
fn spoilt(tensor: Tensor, rows: &[usize]) -> Tensor {
    let Some(nan) = nan(tensor.datatype()) else {
        return tensor;
    };
    let mut data = tensor.data().to_vec();
    let row = data.len() / tensor.rows().unwrap_or(1).max(1);
    for bad in rows {
        let elements = data
            .chunks_exact_mut(row.max(1))
            .nth(*bad)
            .unwrap_or_default();
        for element in elements.chunks_exact_mut(nan.len()) {
            element.copy_from_slice(nan);
        }
    }
    Tensor::new(tensor.datatype(), tensor.shape().clone(), Bytes::from(data)).unwrap_or(tensor)
}

/// NaN, in little-endian bytes.
fn nan(datatype: Datatype) -> Option<&'static [u8]> {
    match datatype {
        Datatype::Fp16 => Some(&[0x00, 0x7e]),
        Datatype::Bf16 => Some(&[0xc0, 0x7f]),
        Datatype::Fp32 => Some(&[0x00, 0x00, 0xc0, 0x7f]),
        Datatype::Fp64 => Some(&[0, 0, 0, 0, 0, 0, 0xf8, 0x7f]),
        _ => None,
    }
}

/// Occupies the instance until the process ends, as a runtime that deadlocked does.
fn hang() -> ! {
    loop {
        clock::sleep(Duration::from_hours(1));
    }
}
