//! When a batch size has run often enough at warm-up.
//!
//! TorchScript profiles the first run of a shape and compiles in the second, either of which may be a
//! thousand times slower than the third; a GPU's libraries try kernels for some runs more. So a size
//! runs until it gets no faster, within bounds: what a noisy machine makes of it must end, too.

use std::time::Duration;

/// The fewest runs.
const LEAST: u32 = 3;
/// The most: whatever still gets faster then does so by chance.
const MOST: u32 = 10;

/// The runs of one batch size so far.
#[derive(Debug, Default)]
pub(super) struct Settling {
    runs: u32,
    best: Option<Duration>,
}

// === impl Settling ===

impl Settling {
    /// Takes a run's time; whether no other is needed.
    pub(super) fn ends_with(&mut self, took: Duration) -> bool {
        self.runs += 1;
        // By a fifth or more.
        let is_faster = self.best.is_none_or(|best| took < best * 4 / 5);
        self.best = Some(self.best.map_or(took, |best| best.min(took)));
        self.runs >= MOST || (self.runs >= LEAST && !is_faster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of these runs are made.
    fn runs(milliseconds: &[u64]) -> usize {
        let mut settling = Settling::default();
        let mut ends = |took: &u64| settling.ends_with(Duration::from_millis(*took));
        1 + milliseconds.iter().position(&mut ends).unwrap()
    }

    #[test]
    fn it_ends_when_runs_get_no_faster() {
        assert_eq!(runs(&[10, 10, 10, 10]), 3);
        assert_eq!(runs(&[2_000, 900, 10, 10]), 4);
        // As where kernels are tried out, one a run.
        assert_eq!(runs(&[2_000, 900, 100, 60, 30, 10, 9]), 7);
        // One that is slow by chance proves that the one before was not.
        assert_eq!(runs(&[2_000, 900, 10, 50]), 4);
        // What takes no time at all gets no faster.
        assert_eq!(runs(&[0, 0, 0]), 3);
    }

    #[test]
    fn it_ends_in_any_case() {
        let ever_faster: Vec<u64> = (0..20).map(|run| 1 << (40 - 2 * run)).collect();
        assert_eq!(runs(&ever_faster), 10);
    }
}
