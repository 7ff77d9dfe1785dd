//! Many requests through the model as one, and cut apart again.
//!
//! Joining is one copy for each input, and none for a batch of one; cutting is none. When a batch
//! of several fails, each of its requests is run again alone, once: only the culprit keeps its
//! failure. That costs one batch of single runs and is worth it, because the alternative is that
//! one client's bad row fails seven others.

use std::sync::Arc;

use aegis_protocol::{Tensor, TensorError};

use crate::model::{Model, ModelError};
use crate::signature::{Inputs, Signature};

/// What came of a batch.
pub(super) struct Outcome {
    /// For each request in order, its rows of each output.
    pub(super) outputs: Vec<Result<Vec<Tensor>, ModelError>>,
    /// Whether the batch failed, and its requests were run one by one.
    pub(super) split: bool,
}

/// Runs requests that have equal shapes but for the batch axis.
pub(super) fn run(model: &mut dyn Model, signature: &Signature, requests: &[Inputs]) -> Outcome {
    match together(model, signature, requests) {
        Ok(outputs) => Outcome {
            outputs: outputs.into_iter().map(Ok).collect(),
            split: false,
        },
        // Nothing runs on a broken device, and each of them would only say so again.
        Err(ModelError::Broken(reason)) => Outcome {
            outputs: requests
                .iter()
                .map(|_| Err(ModelError::Broken(Arc::clone(&reason))))
                .collect(),
            split: false,
        },
        Err(error) if requests.len() == 1 => Outcome {
            outputs: vec![Err(error)],
            split: false,
        },
        Err(_) => {
            let outputs = requests
                .iter()
                .map(|request| alone(model, signature, request));
            Outcome {
                outputs: outputs.collect(),
                split: true,
            }
        }
    }
}

fn alone(
    model: &mut dyn Model,
    signature: &Signature,
    request: &Inputs,
) -> Result<Vec<Tensor>, ModelError> {
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
) -> Result<Vec<Vec<Tensor>>, ModelError> {
    if let [only] = requests {
        return Ok(vec![alone(model, signature, only)?]);
    }
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
    let column = |at: usize| -> Vec<&Tensor> {
        requests
            .iter()
            .map(|request| &request.tensors[at])
            .collect()
    };
    let whole = |at: usize| {
        // The same in all of them, or they would not run together.
        if first.plain.contains(&at) {
            return Ok(first.tensors[at].clone());
        }
        Tensor::concat(&column(at))
    };
    (0..first.tensors.len()).map(whole).collect()
}

/// For each request, its rows of each output.
fn cut(outputs: &[Tensor], rows: &[usize]) -> Result<Vec<Vec<Tensor>>, TensorError> {
    let mut cut: Vec<Vec<Tensor>> = rows
        .iter()
        .map(|_| Vec::with_capacity(outputs.len()))
        .collect();
    for output in outputs {
        for (request, part) in cut.iter_mut().zip(output.split_rows(rows)?) {
            request.push(part);
        }
    }
    Ok(cut)
}

/// The queue and the signature make this impossible; if it happens, it fails as the model would.
fn tensors(error: TensorError) -> ModelError {
    ModelError::Executor(Box::new(error))
}
