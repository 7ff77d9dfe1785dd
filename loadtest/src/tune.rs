//! Which settings of a backend serve most within an SLO, in as few runs as that takes.
//!
//! A sweep over batch sizes and instances takes hours and learns nothing from what it has seen. Here the first
//! setting tells what a batch costs (α for each row, β once: the backend learns them itself), a small simulation
//! of the backend's queue (`queue`) says from that what the others would serve, and runs confirm the best
//! (`search`). The pure part knows neither clocks nor processes; `backend` and `bench` do the work.
//!
//! `max_latency_ms` is left as it is: an idle instance takes what waits at once, and a busy one is waited for
//! whatever that key says, so no setting of it serves more.

use serde::Serialize;

pub use self::backend::{Backend, BackendError, Edited};
pub(crate) use self::search::RUNS_EACH;
pub use self::search::{Held, Search, Step};

mod backend;
pub(crate) mod bench;
pub(crate) mod plot;
mod predict;
mod queue;
mod search;
mod show;

/// What is tuned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Setting {
    /// Copies of the model that run at the same time.
    pub instances: u32,
    /// The most rows that run together.
    pub max_batch_size: u32,
}

/// What a batch of b rows costs: α·b + β.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Costs {
    /// Seconds for each row.
    pub alpha: f64,
    /// Seconds for each batch.
    pub beta: f64,
}

/// What became of one setting.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// Which.
    pub setting: Setting,
    /// The rate that was predicted to keep the objectives; none of the first.
    pub predicted: Option<f64>,
    /// Answers a second of a closed loop.
    pub capacity: Option<f64>,
    /// The highest rate that was measured to keep every objective; none where none did, or where the setting
    /// could not be the best any more.
    pub sustained: Option<f64>,
    /// The 99th percentile at that rate, or at the last one tried.
    pub p99_ms: Option<f64>,
    /// The mean time in the backend's queue at that rate.
    pub queue_seconds: Option<f64>,
    /// Runs that it took.
    pub runs: usize,
    /// Whether a run was too small to tell, or invalid.
    pub is_doubtful: bool,
}

/// What all of it came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tuning {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// What a batch costs, as the backend learned it at the first setting.
    pub costs: Option<Costs>,
    /// What was tried, in that order.
    pub trials: Vec<Trial>,
    /// Settings that were not tried, since no prediction said that they could be better.
    pub untried: usize,
    /// All runs.
    pub runs: usize,
    /// Runs of a sweep over all settings.
    pub sweep_runs: usize,
    /// What is best; none where nothing keeps the objectives.
    pub best: Option<Advice>,
    /// Why there are fewer runs than it would have taken.
    pub partial: Option<String>,
}

/// What to run with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// The settings.
    pub setting: Setting,
    /// Requests a second of one pod at which the objectives are kept.
    pub per_pod: f64,
    /// The rate that pods are wanted for.
    pub target_rate: f64,
    /// Pods that serve it with one of them down.
    pub replicas: u64,
    /// Requests that wait in a pod on average at `per_pod`: above it, more pods are wanted.
    pub queue_depth: f64,
}

// === impl Advice ===

impl Advice {
    /// What a trial that kept the objectives says; none of one that did not.
    #[must_use]
    pub fn of(trial: &Trial, target_rate: f64) -> Option<Self> {
        let per_pod = trial.sustained.filter(|rate| *rate > 0.0)?;
        // Little's law: what waits is what comes, times how long it waits. Below one, a single request that waits
        // would start a pod.
        let waits = per_pod * trial.queue_seconds.unwrap_or(0.0);
        Some(Self {
            setting: trial.setting,
            per_pod,
            target_rate,
            replicas: pods(target_rate / per_pod) + 1,
            queue_depth: waits.max(1.0),
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive number; a cast of what is out of range saturates"
)]
fn pods(share: f64) -> u64 {
    (share.ceil() as u64).clamp(1, u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_serve_the_target_with_one_of_them_down() {
        let mut trial = Trial {
            setting: Setting {
                instances: 1,
                max_batch_size: 8,
            },
            predicted: None,
            capacity: Some(250.0),
            sustained: Some(200.0),
            p99_ms: Some(9.0),
            queue_seconds: Some(0.02),
            runs: 4,
            is_doubtful: false,
        };
        let advice = Advice::of(&trial, 500.0).unwrap();
        assert_eq!(advice.replicas, 4, "three serve 600, and one may be down");
        assert!((advice.queue_depth - 4.0).abs() < 1e-9, "200/s for 20 ms");
        assert_eq!(Advice::of(&trial, 400.0).unwrap().replicas, 3);
        assert_eq!(Advice::of(&trial, 1.0).unwrap().replicas, 2);
        trial.queue_seconds = Some(1e-6);
        let depth = Advice::of(&trial, 1.0).unwrap().queue_depth;
        assert!((depth - 1.0).abs() < 1e-9, "{depth}");
        trial.sustained = None;
        assert_eq!(Advice::of(&trial, 1.0), None);
    }
}
