//! The right to use an endpoint, which cannot get lost.
//!
//! A permit that is never given back would hold its endpoint's slot for ever.
//! pingora drops a request's context without a word when its client leaves, so
//! the permit travels in a guard: dropped without an outcome, it teaches
//! nothing and frees the slot.

use std::sync::Arc;

use aegis_policy::{Outcome, Permit};

use crate::model::Model;

/// A permit that is given back in any case.
#[derive(Debug)]
pub struct Lease {
    model: Arc<Model>,
    permit: Option<Permit>,
}

// === impl Lease ===

impl Lease {
    /// Takes charge of a permit that `model` gave out.
    #[must_use]
    pub fn new(model: Arc<Model>, permit: Permit) -> Self {
        Self {
            model,
            permit: Some(permit),
        }
    }

    /// Gives the permit back with what was learnt.
    pub fn settle(mut self, outcome: Outcome) {
        self.give_back(outcome);
    }

    fn give_back(&mut self, outcome: Outcome) {
        if let Some(permit) = self.permit.take() {
            self.model.record(permit, outcome);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back(Outcome::Neutral);
    }
}
