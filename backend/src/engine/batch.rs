//! Many requests through the model as one, and cut apart again.
//!
//! Joining is one copy for each input, and none for a batch of one; cutting is none. When a batch
//! of several fails, each of its requests is to run again alone, once: only the culprit keeps its
//! failure. That costs one batch of single runs and is worth it, because the alternative is that
//! one client's bad row fails seven others. The [worker](super::worker) makes those runs, each as one of
//! its own.

use std::sync::Arc;

use aegis_protocol::{Tensor, TensorError};

use crate::model::{Model, ModelError};
use crate::signature::{Inputs, Signature};

/// A request's rows of each output.
type Outputs = Result<Vec<Tensor>, ModelError>;

/// What came of a batch.
pub(super) enum Outcome {
    /// This, of each request in order.
    Each(Vec<Outputs>),
    /// It failed as a whole: each of its requests is to run alone.
    Split,
}

/// Runs requests that have equal shapes but for the batch axis.
pub(super) fn run(model: &mut dyn Model, signature: &Signature, requests: &[Inputs]) -> Outcome {
    if let [only] = requests {
        return Outcome::Each(vec![alone(model, signature, only)]);
    }
    match together(model, signature, requests) {
        Ok(outputs) => Outcome::Each(outputs),
        // Nothing runs on a broken device, and each of them would only say so again.
        Err(ModelError::Broken(reason)) => {
            let broken = |_| Err(ModelError::Broken(Arc::clone(&reason)));
            Outcome::Each(requests.iter().map(broken).collect())
        }
        Err(_) => Outcome::Split,
    }
}

// === impl Outcome ===

impl Outcome {
    /// Whether every request has its outputs.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Each(outputs) => outputs.iter().all(Result::is_ok),
            Self::Split => false,
        }
    }
}

fn alone(model: &mut dyn Model, signature: &Signature, request: &Inputs) -> Outputs {
    let outputs = model.run(&request.tensors)?;
    signature
        .check_outputs(&outputs, request.rows)
        .map_err(ModelError::Signature)?;
    Ok(outputs)
}

fn together(
    model: &mut dyn Model,
    signature: &Signature,
    requests: &[Inputs],
) -> Result<Vec<Outputs>, ModelError> {
    let rows: Vec<usize> = requests.iter().map(|request| request.rows).collect();
    let outputs = model.run(&join(requests).map_err(tensors)?)?;
    signature
        .check_outputs(&outputs, rows.iter().sum())
        .map_err(ModelError::Signature)?;
    cut(&outputs, &rows).map_err(tensors)
}

/// One tensor for each input, with the rows of all requests.
fn join(requests: &[Inputs]) -> Result<Vec<Tensor>, TensorError> {
    let Some(first) = requests.first() else {
        return Ok(Vec::new());
    };
    let mut column = Vec::with_capacity(requests.len());
    let whole = |at: usize| {
        // The same in all of them, or they would not run together.
        if first.plain.contains(&at) {
            return Ok(first.tensors[at].clone());
        }
        column.clear();
        column.extend(requests.iter().map(|request| &request.tensors[at]));
        Tensor::concat(&column)
    };
    (0..first.tensors.len()).map(whole).collect()
}

/// For each request, its rows of each output.
fn cut(outputs: &[Tensor], rows: &[usize]) -> Result<Vec<Outputs>, TensorError> {
    let of_request = |_| Ok(Vec::with_capacity(outputs.len()));
    let mut cut: Vec<Outputs> = rows.iter().map(of_request).collect();
    for output in outputs {
        let parts = output.split_rows(rows)?;
        for (request, part) in cut.iter_mut().flatten().zip(parts) {
            request.push(part);
        }
    }
    Ok(cut)
}

/// The queue and the signature make this impossible; if it happens, it fails as the model would.
fn tensors(error: TensorError) -> ModelError {
    ModelError::Executor(Box::new(error))
}
