//! What the trace of a request is told, at the moments when something happens to it.

use super::{Exchange, Routed, note::Ending};
use crate::{
    clock,
    model::Attempt,
    trace::{Destination, Served, Trace},
};

impl Exchange {
    /// Tells the trace, where requests have one.
    pub(super) fn trace(&mut self, tell: impl FnOnce(&mut Trace)) {
        if let Some(trace) = self.note.as_mut().and_then(|note| note.trace.as_mut()) {
            tell(trace);
        }
    }

    /// An attempt is about to be made.
    pub(super) fn trace_attempt(&mut self, attempt: &Attempt) {
        let action = self.forward.as_ref().map(|forward| forward.action);
        self.trace(|trace| {
            trace.attempt(&mut rand::rng(), || Destination {
                endpoint: attempt.address,
                uri: action.and_then(|action| attempt.version.uri(action).cloned()),
                version: attempt.version.name().clone(),
                route: attempt.kind.label(),
                began: clock::now(),
            });
        });
    }

    /// The request has ended.
    pub(super) fn end_trace(&mut self, routed: Option<&Routed>, ending: &Ending) {
        let Some(note) = &mut self.note else {
            return;
        };
        let Some(trace) = note.trace.take() else {
            return;
        };
        let forward = self.forward.as_ref();
        trace.end(|| Served {
            ended: ending.now,
            request_id: note.id.value().clone(),
            asked_of: forward.map(|forward| (forward.model.name().clone(), forward.action)),
            routed: routed.map(|routed| (routed.version.name().clone(), routed.kind.label())),
            status: ending.code,
            call: self.call.as_ref().and_then(|call| call.code()),
            reason: ending.reason.clone(),
        });
    }
}
