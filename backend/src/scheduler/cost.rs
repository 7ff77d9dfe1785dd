//! What a batch costs: `d(b) = α·b + β`, learned from the batches that ran.
//!
//! A batch has a part that grows with its rows and a part that it pays once. The two are fitted by
//! least squares over the recent past, each batch counting a hundredth less than the one after it:
//! a model that slows down is believed after some hundred batches, and one odd batch moves little.
//! Where all batches had the same size there is no slope to be seen; the cost is then taken for
//! proportional, which is too much for a larger batch and never too little.
//!
//! Inputs of other shapes cost otherwise, so each [class](Class) has its line. Those are learned as they
//! come, so many at most; of one that is new, or was forgotten, the line through all batches is the
//! best guess.
//!
//! Pure: what was measured goes in, predictions come out.

use crate::batcher::Class;

/// What an observation keeps of its weight with each one that follows.
const KEEP: f64 = 0.99;
/// Spread of batch sizes, as a part of their mean squared, under which no slope is believed.
const FLAT: f64 = 1e-3;

/// The cost of batches of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    weight: f64,
    rows: f64,
    seconds: f64,
    rows_squared: f64,
    rows_seconds: f64,
}

/// Classes that are remembered; of more, the one that ran longest ago is forgotten.
const CLASSES: usize = 32;
/// Batches, each weighted by its age, after which a class's own line is believed.
const BELIEVED: f64 = 4.0;

/// The cost of batches of one model version.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    all: Cost,
    /// The one that ran last comes last.
    classes: Vec<(Class, Cost)>,
}

/// The two parts of a batch's cost, in seconds; neither is negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// For each row: α.
    pub per_row: f64,
    /// For the batch: β.
    pub per_batch: f64,
}

// === impl Cost ===

impl Cost {
    /// Takes a batch of so many rows that took so many seconds.
    pub fn observe(&mut self, rows: usize, seconds: f64) {
        let rows = rows as f64;
        let sums = [
            (&mut self.weight, 1.0),
            (&mut self.rows, rows),
            (&mut self.seconds, seconds),
            (&mut self.rows_squared, rows * rows),
            (&mut self.rows_seconds, rows * seconds),
        ];
        for (sum, value) in sums {
            *sum = *sum * KEEP + value;
        }
    }

    /// The line through what was seen; none before the first batch.
    #[must_use]
    pub fn terms(&self) -> Option<Terms> {
        if self.rows <= 0.0 {
            return None;
        }
        let mean = self.seconds / self.weight;
        let spread = self.weight * self.rows_squared - self.rows * self.rows;
        if spread <= FLAT * self.rows * self.rows {
            let per_row = self.seconds / self.rows;
            return Some(Terms {
                per_row,
                per_batch: 0.0,
            });
        }
        let slope = (self.weight * self.rows_seconds - self.rows * self.seconds) / spread;
        let per_batch = mean - slope * self.rows / self.weight;
        Some(if slope < 0.0 {
            Terms {
                per_row: 0.0,
                per_batch: mean,
            }
        } else if per_batch < 0.0 {
            Terms {
                per_row: self.rows_seconds / self.rows_squared,
                per_batch: 0.0,
            }
        } else {
            Terms {
                per_row: slope,
                per_batch,
            }
        })
    }
}

// === impl Costs ===

impl Costs {
    /// Takes a batch of so many rows that took so many seconds.
    pub fn observe(&mut self, class: Class, rows: usize, seconds: f64) {
        self.all.observe(rows, seconds);
        let known = self.classes.iter().position(|(known, _)| *known == class);
        let mut cost = known.map_or(Cost::default(), |at| self.classes.remove(at).1);
        cost.observe(rows, seconds);
        if self.classes.len() == CLASSES {
            self.classes.remove(0);
        }
        self.classes.push((class, cost));
    }

    /// The line of that class, or of all where little is known of it; none before the first batch.
    #[must_use]
    pub fn of(&self, class: Class) -> Option<Terms> {
        let known = self.classes.iter().rev().find(|(known, _)| *known == class);
        let own = known.filter(|(_, cost)| cost.weight >= BELIEVED);
        own.map_or(self.all, |(_, cost)| *cost).terms()
    }

    /// The line through all batches; none before the first.
    #[must_use]
    pub fn terms(&self) -> Option<Terms> {
        self.all.terms()
    }
}

// === impl Terms ===

impl Terms {
    /// How long a batch of so many rows takes, in seconds.
    #[must_use]
    pub fn seconds(self, rows: usize) -> f64 {
        self.per_row * rows as f64 + self.per_batch
    }

    /// How long so many rows take in so many batches, in seconds.
    #[must_use]
    pub fn queue_seconds(self, rows: usize, batches: usize) -> f64 {
        self.per_row * rows as f64 + self.per_batch * batches as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(batches: &[(usize, f64)]) -> Option<Terms> {
        let mut cost = Cost::default();
        for &(rows, seconds) in batches {
            cost.observe(rows, seconds);
        }
        cost.terms()
    }

    #[test]
    fn nothing_is_known_before_the_first_batch() {
        assert_eq!(seen(&[]), None);
    }

    #[test]
    fn batches_of_one_size_are_taken_for_proportional() {
        let terms = seen(&[(4, 0.02); 10]).unwrap();
        assert!((terms.seconds(8) - 0.04).abs() < 1e-9, "{terms:?}");
        assert!(terms.per_batch.abs() < 1e-12, "{terms:?}");
    }

    #[test]
    fn a_model_that_slows_down_is_believed_within_some_hundred_batches() {
        let mut cost = Cost::default();
        for at in 0..1_000 {
            cost.observe(1 + at % 8, 0.001);
        }
        for at in 0..500 {
            cost.observe(1 + at % 8, 0.005);
        }
        let terms = cost.terms().unwrap();
        assert!((terms.seconds(4) - 0.005).abs() < 0.0001, "{terms:?}");
    }

    #[test]
    fn a_queue_costs_its_rows_and_one_fixed_part_for_each_batch() {
        let terms = Terms {
            per_row: 1.0,
            per_batch: 10.0,
        };
        assert!((terms.queue_seconds(0, 0)).abs() < 1e-12);
        assert!((terms.queue_seconds(9, 2) - 29.0).abs() < 1e-12);
    }

    /// Ten batches of one row that took so long.
    fn learned(costs: &mut Costs, class: Class, seconds: f64) {
        for _ in 0..10 {
            costs.observe(class, 1, seconds);
        }
    }

    fn of(costs: &Costs, class: u64) -> f64 {
        costs.of(Class(class)).unwrap().seconds(1)
    }

    #[test]
    fn each_class_has_its_own_line_and_a_new_one_that_of_all() {
        let mut costs = Costs::default();
        learned(&mut costs, Class(1), 0.001);
        learned(&mut costs, Class(2), 0.1);
        assert!((of(&costs, 1) - 0.001).abs() < 1e-9);
        assert!((of(&costs, 2) - 0.1).abs() < 1e-9);
        assert!((0.04..0.06).contains(&of(&costs, 3)), "{}", of(&costs, 3));
        // Three batches of it say little yet.
        for _ in 0..3 {
            costs.observe(Class(3), 1, 1.0);
        }
        assert!(of(&costs, 3) < 0.5);
        costs.observe(Class(3), 1, 1.0);
        costs.observe(Class(3), 1, 1.0);
        assert!((of(&costs, 3) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_class_that_ran_longest_ago_is_forgotten() {
        let mut costs = Costs::default();
        learned(&mut costs, Class(0), 5.0);
        learned(&mut costs, Class(1), 6.0);
        for class in 2..=CLASSES as u64 {
            costs.observe(Class(1), 1, 6.0);
            learned(&mut costs, Class(class), 0.001);
        }
        assert_eq!(costs.classes.len(), CLASSES);
        assert!(of(&costs, 0) < 1.0);
        assert!((of(&costs, 1) - 6.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn a_line_is_found_again(
            per_row in 0.0..0.1_f64,
            per_batch in 0.0..0.1_f64,
            sizes in prop::collection::vec(1..64_usize, 2..200),
        ) {
            prop_assume!(sizes.iter().any(|size| *size != sizes[0]));
            let line = Terms { per_row, per_batch };
            let mut cost = Cost::default();
            for &size in &sizes {
                cost.observe(size, line.seconds(size));
            }
            let found = cost.terms().unwrap();
            let size = sizes[0];
            prop_assert!((found.seconds(size) - line.seconds(size)).abs() < 0.01, "{:?}", found);
            prop_assert!(found.per_row >= 0.0 && found.per_batch >= 0.0);
        }

        #[test]
        fn no_prediction_is_negative_whatever_was_measured(
            batches in prop::collection::vec((1..64_usize, 0.0..10.0_f64), 1..100),
            rows in 0..1_000_usize,
        ) {
            let found = seen(&batches).unwrap();
            prop_assert!(found.seconds(rows) >= 0.0 && found.seconds(rows).is_finite());
        }
    }
}
