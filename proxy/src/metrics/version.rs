//! What the requests of one version count, with every label resolved.

use std::{array, sync::Arc, time::Duration};

use aegis_policy::RouteKind;
use prometheus::{Histogram, IntCounter, IntGauge};

use super::{
    Metrics, Tracked,
    labels::{CODE_LABELS, code_index, code_label},
    specs::VIA,
};

const KINDS: usize = RouteKind::LABELS.len();
/// The last of them.
const STATIC: usize = KINDS - 1;

/// Handles for the requests of one version. Cheap to clone.
#[derive(Clone, Debug)]
pub struct VersionMetrics(Arc<Handles>);

#[derive(Debug)]
struct Handles {
    /// By kind, then by status.
    requests: [[IntCounter; CODE_LABELS]; KINDS],
    duration: Histogram,
    first_byte: Histogram,
    waiting: IntGauge,
}

// === impl VersionMetrics ===

impl VersionMetrics {
    pub(super) fn new(metrics: &Metrics, model: &str, version: &str) -> Self {
        let counter = |kind: usize, code: usize| {
            let labels = [model, version, RouteKind::LABELS[kind], code_label(code)];
            metrics.requests.with_label_values(&labels)
        };
        Self(Arc::new(Handles {
            requests: array::from_fn(|kind| array::from_fn(|code| counter(kind, code))),
            duration: metrics.duration.with_label_values(&[model, version]),
            first_byte: metrics.first_byte.with_label_values(&[model, version]),
            waiting: metrics.waiting.with_label_values(&[model, version, VIA]),
        }))
    }

    /// A request has ended: how it came to this version, the status that its
    /// client got, and how long it took, in all and to the answer's first byte;
    /// none where no answer came, or one that did not wait for the request's end.
    pub fn answered(
        &self,
        kind: RouteKind,
        status: u16,
        took: Duration,
        first_byte: Option<Duration>,
    ) {
        let kind = match kind {
            RouteKind::Split => 0,
            RouteKind::Pinned => 1,
            RouteKind::Sticky => 2,
            RouteKind::Fallback(_) => 3,
            RouteKind::Static(_) => STATIC,
        };
        self.0.requests[kind][code_index(status)].inc();
        // A canned answer says nothing of how long the version takes.
        if kind == STATIC {
            return;
        }
        self.0.duration.observe(took.as_secs_f64());
        if let Some(first_byte) = first_byte {
            self.0.first_byte.observe(first_byte.as_secs_f64());
        }
    }

    /// Counts a request as waiting for its answer until the guard is dropped.
    pub fn waiting(&self) -> Tracked {
        Tracked::new(&self.0.waiting)
    }
}
