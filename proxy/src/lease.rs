//! The right to use an endpoint, which cannot get lost.
//!
//! A permit that is never given back would hold its endpoint's slot for ever.
//! pingora drops a request's context without a word when its client leaves, so
//! the permit travels in a guard: dropped without an outcome, it teaches
//! nothing (unless the request was out for too long) and frees the slot.

use std::{sync::Arc, time::Instant};

use aegis_policy::{Observed, Permit, Suspect};

use crate::{clock, model::Model};

/// A permit that is given back in any case.
#[derive(Debug)]
pub struct Lease {
    model: Arc<Model>,
    permit: Option<Permit>,
}

/// An attempt whose verdict is open; innocent when dropped.
#[derive(Debug)]
pub struct OpenVerdict {
    model: Arc<Model>,
    suspect: Option<Suspect>,
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

    /// The whole request is on its way: its age counts from now on.
    pub fn sent(&self, now: Instant) {
        if let Some(permit) = &self.permit {
            self.model.sent(permit, now);
        }
    }

    /// Says what the head of the answer taught, or its absence.
    pub fn judge(&self, observed: impl Into<Observed>, now: Instant) {
        if let Some(permit) = &self.permit {
            self.model.judge(permit, observed.into(), now);
        }
    }

    /// Gives the permit back; `broke_off` says that an answer which had begun
    /// ended before its end.
    pub fn end(mut self, broke_off: bool, now: Instant) {
        self.give_back(broke_off, now);
    }

    /// Gives the permit back and leaves the verdict open.
    #[must_use]
    pub fn suspect(mut self) -> OpenVerdict {
        let permit = self.permit.take();
        OpenVerdict {
            model: Arc::clone(&self.model),
            suspect: permit.and_then(|permit| self.model.suspect(permit)),
        }
    }

    fn give_back(&mut self, broke_off: bool, now: Instant) {
        if let Some(permit) = self.permit.take() {
            self.model.release(permit, broke_off, now);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.permit.is_some() {
            self.give_back(false, clock::now());
        }
    }
}

// === impl OpenVerdict ===

impl OpenVerdict {
    /// Closes it.
    pub fn close(mut self, guilty: bool) {
        self.resolve(guilty);
    }

    fn resolve(&mut self, guilty: bool) {
        if let Some(suspect) = self.suspect.take() {
            self.model.resolve(suspect, guilty);
        }
    }
}

impl Drop for OpenVerdict {
    fn drop(&mut self) {
        self.resolve(false);
    }
}
