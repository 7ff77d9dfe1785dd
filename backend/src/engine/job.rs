//! A request in the queue.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use aegis_protocol::Tensor;
use tokio::sync::oneshot;

use super::InferError;
use crate::batcher::{Batchable, Class};
use crate::signature::Inputs;

/// Where the outputs of a request go.
type Sender = oneshot::Sender<Result<Vec<Tensor>, InferError>>;

/// Where a request's outputs go, and until when.
#[derive(Debug)]
pub(super) struct Answer {
    sender: Sender,
    deadline: Instant,
}

/// One request's inputs, and where its outputs go.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) inputs: Inputs,
    pub(super) answer: Answer,
    class: Class,
}

// === impl Answer ===

impl Answer {
    /// Answers, if somebody still listens.
    pub(super) fn send(self, outcome: Result<Vec<Tensor>, InferError>) {
        let _ = self.sender.send(outcome);
    }

    /// Whether nobody waits for it any more: its caller has left, or its deadline has passed.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.sender.is_closed() || self.deadline <= now
    }
}

// === impl Job ===

impl Job {
    pub(super) fn new(inputs: Inputs, sender: Sender, deadline: Instant) -> Self {
        Self {
            class: class(&inputs),
            inputs,
            answer: Answer { sender, deadline },
        }
    }

    /// The same request as before it ran with others of this class.
    pub(super) fn again(inputs: Inputs, answer: Answer, class: Class) -> Self {
        Self {
            inputs,
            answer,
            class,
        }
    }

    /// Answers, if somebody still listens.
    pub(super) fn answer(self, outcome: Result<Vec<Tensor>, InferError>) {
        self.answer.send(outcome);
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

    /// The signature has fixed everything but the sizes of free axes and the plain arguments.
    fn joins(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.inputs.tensors, &other.inputs.tensors);
        let same_rows = ours
            .iter()
            .zip(theirs)
            .all(|(a, b)| a.shape().row() == b.shape().row());
        let mut plain = self.inputs.plain.iter();
        let same_places = self.inputs.plain == other.inputs.plain;
        same_rows && same_places && plain.all(|&at| ours[at].data() == theirs[at].data())
    }

    fn class(&self) -> Class {
        self.class
    }
}

/// By the shapes of the rows, and what is left out.
pub(super) fn class(inputs: &Inputs) -> Class {
    let mut hasher = DefaultHasher::new();
    inputs.plain.hash(&mut hasher);
    for tensor in &inputs.tensors {
        tensor.shape().row().hash(&mut hasher);
    }
    Class(hasher.finish())
}
