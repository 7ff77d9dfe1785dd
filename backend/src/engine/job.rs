//! A request in the queue.

use aegis_protocol::Tensor;
use tokio::sync::oneshot;

use super::InferError;
use crate::batcher::Batchable;
use crate::signature::Inputs;

/// One request's inputs, and where its outputs go.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) inputs: Inputs,
    pub(super) answer: oneshot::Sender<Result<Vec<Tensor>, InferError>>,
}

// === impl Job ===

impl Job {
    /// Answers, if somebody still listens.
    pub(super) fn answer(self, outcome: Result<Vec<Tensor>, InferError>) {
        let _ = self.answer.send(outcome);
    }
}

impl Batchable for Job {
    fn rows(&self) -> usize {
        self.inputs.rows
    }

    fn bytes(&self) -> usize {
        self.inputs
            .tensors
            .iter()
            .map(|tensor| tensor.data().len())
            .sum()
    }

    /// The signature has fixed everything but the sizes of free axes.
    fn joins(&self, other: &Self) -> bool {
        let pairs = self.inputs.tensors.iter().zip(&other.inputs.tensors);
        pairs
            .into_iter()
            .all(|(a, b)| a.shape().row() == b.shape().row())
    }
}
