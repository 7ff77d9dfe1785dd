//! What settings would serve, from what one of them did.
//!
//! A request costs its part of a batch on one of the instances that can run at once, and a part that no batch
//! shares: parsing, sockets, checks. The latter is what the first setting lacked of its own prediction. Where more
//! instances bring less than they should, since processors share their caches and memory, the factor is learned
//! from the first setting that has as many.

use std::collections::BTreeMap;

use super::queue::Queue;
use super::{Costs, Setting};
use crate::slo::Bound;

/// The highest part of the capacity that is tried: at all of it, a queue grows without end.
pub(super) const HIGHEST: f64 = 0.95;

/// Requests that a prediction simulates.
const REQUESTS: usize = 2000;

/// Decides their arrivals: the same ones for all settings, so that these alone make the difference.
const SEED: u64 = 1;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Model {
    costs: Costs,
    /// Seconds of every request beside its batch.
    overhead: f64,
    /// Instances that can run at once.
    lanes: u32,
    /// What as many instances bring, of what they should.
    scales: BTreeMap<u32, f64>,
}

// === impl Model ===

impl Model {
    /// Learns from a setting that was measured.
    pub(super) fn new(costs: Costs, lanes: u32, setting: Setting, capacity: f64) -> Self {
        let mut model = Self {
            costs,
            overhead: 0.0,
            lanes: lanes.max(1),
            scales: BTreeMap::new(),
        };
        let (seen, said) = (1.0 / capacity, 1.0 / model.capacity(setting));
        if seen >= said {
            model.overhead = seen - said;
        } else {
            model.costs.alpha *= seen / said;
            model.costs.beta *= seen / said;
        }
        model
    }

    /// Learns what so many instances bring, from the first setting that has them.
    pub(super) fn saw(&mut self, setting: Setting, capacity: f64) {
        let scale = capacity / self.queue(setting).capacity();
        let scale = scale.clamp(0.1, 2.0);
        self.scales.entry(setting.instances).or_insert(scale);
    }

    pub(super) fn capacity(&self, setting: Setting) -> f64 {
        self.queue(setting).capacity()
    }

    /// The highest rate at which latencies stay below their bounds.
    pub(super) fn sustained(&self, setting: Setting, bounds: &[Bound]) -> f64 {
        self.queue(setting)
            .sustained(bounds, HIGHEST, REQUESTS, SEED)
    }

    fn queue(&self, setting: Setting) -> Queue {
        let lanes = setting.instances.clamp(1, self.lanes);
        let scale = self.scales.get(&setting.instances).copied().unwrap_or(1.0);
        Queue {
            costs: Costs {
                // All lanes share what no batch does, so each is held up by it as often as there are lanes.
                alpha: (self.costs.alpha + self.overhead * f64::from(lanes)) / scale,
                beta: self.costs.beta / scale,
            },
            instances: lanes as usize,
            batch: setting.max_batch_size as usize,
            jitter: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Costs = Costs {
        alpha: 0.001,
        beta: 0.008,
    };

    fn setting(instances: u32, max_batch_size: u32) -> Setting {
        Setting {
            instances,
            max_batch_size,
        }
    }

    #[test]
    fn what_the_first_lacks_is_a_cost_of_every_request() {
        // Said: 500/s. Seen: 400/s, so half a millisecond is missing.
        let model = Model::new(COSTS, 2, setting(1, 8), 400.0);
        assert!((model.capacity(setting(1, 8)) - 400.0).abs() < 1e-6);
        let one = 1.0 / (0.009 + 0.0005);
        assert!((model.capacity(setting(1, 1)) - one).abs() < 1e-6);
        let two = 1.0 / (0.001 + 0.0005);
        assert!((model.capacity(setting(2, 8)) - two).abs() < 1e-6);
    }

    #[test]
    fn more_instances_than_processors_bring_nothing() {
        let model = Model::new(COSTS, 2, setting(1, 8), 500.0);
        let (two, four) = (model.capacity(setting(2, 8)), model.capacity(setting(4, 8)));
        assert!((two - 1000.0).abs() < 1e-6 && (four - two).abs() < 1e-6);
    }

    #[test]
    fn what_more_instances_bring_is_learned_from_the_first_that_has_them() {
        let mut model = Model::new(COSTS, 2, setting(1, 8), 500.0);
        model.saw(setting(2, 8), 600.0);
        assert!((model.capacity(setting(2, 8)) - 600.0).abs() < 1e-6);
        let ratio = model.capacity(setting(2, 4)) / model.capacity(setting(1, 4));
        assert!((ratio - 1.2).abs() < 1e-6, "{ratio}");
    }
}
