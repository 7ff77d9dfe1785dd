//! What one shadow counts.
//!
//! Its outputs are named by the models, and so not by a closed set: the first
//! [`MAX_OUTPUTS`] names that are compared have a label of their own, and the rest
//! share one. Their series begin with the first comparison.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use prometheus::{HistogramVec, IntCounter, IntCounterVec};

use super::Metrics;
use crate::shadow::{Difference, Ended};

/// Outputs with a label of their own.
const MAX_OUTPUTS: usize = 16;
/// The longest name that becomes a label.
const MAX_OUTPUT_BYTES: usize = 64;
/// The label of all other outputs.
const OTHER: &str = "other";
/// What is observed of a larger difference, so that sums stay numbers.
const LARGEST: f64 = 1e6;

/// Upper bounds of the buckets of differences.
pub(super) const BUCKETS: [f64; 10] = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0];

/// Handles for one shadow.
#[derive(Debug)]
pub struct ShadowMetrics {
    model: Arc<str>,
    version: Arc<str>,
    /// In the order of [`Ended::ALL`].
    ended: [IntCounter; Ended::ALL.len()],
    absolute: HistogramVec,
    relative: HistogramVec,
    largest: IntCounterVec,
    outputs: Mutex<BTreeSet<String>>,
}

// === impl ShadowMetrics ===

impl ShadowMetrics {
    pub(super) fn new(metrics: &Metrics, model: &Arc<str>, version: &Arc<str>) -> Self {
        let counter = |ended: Ended| {
            let labels = [&**model, &**version, ended.label()];
            metrics.shadow_requests.with_label_values(&labels)
        };
        Self {
            model: Arc::clone(model),
            version: Arc::clone(version),
            ended: Ended::ALL.map(counter),
            absolute: metrics.shadow_absolute.clone(),
            relative: metrics.shadow_relative.clone(),
            largest: metrics.shadow_largest.clone(),
            outputs: Mutex::default(),
        }
    }

    /// A request that was drawn has ended.
    pub fn ended(&self, how: Ended) {
        self.ended[how as usize].inc();
    }

    /// One output was compared.
    pub fn compared(&self, difference: &Difference) {
        let output = self.label(&difference.output);
        let labels = [&*self.model, &*self.version, &*output];
        let observe = |metric: &HistogramVec, value: f64| {
            metric
                .with_label_values(&labels)
                .observe(value.min(LARGEST));
        };
        observe(&self.absolute, difference.absolute);
        observe(&self.relative, difference.relative);
        let other = difference.rows - difference.same_largest;
        for (result, rows) in [("agreed", difference.same_largest), ("differed", other)] {
            let labels = [&*self.model, &*self.version, &*output, result];
            self.largest.with_label_values(&labels).inc_by(rows);
        }
    }

    fn label(&self, output: &str) -> String {
        let mut outputs = self.outputs.lock();
        let is_new = !outputs.contains(output);
        if is_new && (outputs.len() == MAX_OUTPUTS || output.len() > MAX_OUTPUT_BYTES) {
            return OTHER.to_owned();
        }
        if is_new {
            outputs.insert(output.to_owned());
        }
        output.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Name;

    fn difference(output: String) -> Difference {
        Difference {
            output,
            absolute: f64::INFINITY,
            relative: 0.5,
            agrees: false,
            rows: 3,
            same_largest: 2,
        }
    }

    #[test]
    fn outputs_have_labels_of_their_own_up_to_a_limit() {
        let metrics = Metrics::new().unwrap();
        let [model, version] = ["m", "2"].map(|name| Name::new(name).unwrap());
        let shadow = metrics.shadow(&model, &version);
        shadow.compared(&difference("o".repeat(65)));
        for n in 0..20 {
            shadow.compared(&difference(format!("output{n}")));
        }
        shadow.compared(&difference("output3".into()));
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        let count = |output: &str| {
            let name = "aegis_proxy_shadow_max_abs_difference_count";
            let series = format!("{name}{{model=\"m\",model_version=\"2\",output=\"{output}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&series))
        };
        assert_eq!(
            (count("output3"), count("output15")),
            (Some("2"), Some("1"))
        );
        assert_eq!((count("output16"), count(OTHER)), (None, Some("5")));
        assert!(!text.contains("inf"), "sums stay numbers");
    }

    #[test]
    fn every_end_has_its_own_counter() {
        for (at, ended) in Ended::ALL.into_iter().enumerate() {
            assert_eq!(ended as usize, at, "{}", ended.label());
        }
    }
}
